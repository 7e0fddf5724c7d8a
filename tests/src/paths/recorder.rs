//! The upstream: notes the target of each request line, byte for byte, under the request's id.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use super::accounts::Accounts;
use crate::run::{RigError, Rigged};

const ID: &[u8] = b"x-request-id: ";

/// Listens; threads end with the proxy's connections.
pub(super) fn listen(accounts: &Arc<Accounts>) -> Rigged<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let accounts = Arc::clone(accounts);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let accounts = Arc::clone(&accounts);
            thread::spawn(move || {
                if let Err(error) = answer(&stream, &accounts) {
                    accounts.fault(format!("the upstream: {error}"));
                }
            });
        }
    });
    Ok(address)
}

/// Answers until the proxy ends the connection.
fn answer(stream: &TcpStream, accounts: &Accounts) -> Rigged<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let target = target_of(&line).ok_or_else(|| odd("request line", &line))?;
        let target = target.to_vec();
        let mut id = None;
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line)?;
            let field = line
                .strip_suffix(b"\r\n")
                .ok_or_else(|| odd("field", &line))?;
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix(ID) {
                let digits = std::str::from_utf8(value).unwrap_or_default();
                let value = u128::from_str_radix(digits, 16);
                // A second one is none of the proxy's.
                if id.replace(value.map_err(|_| odd("id", &line))?).is_some() {
                    return Err(odd("second id", &line));
                }
            }
        }
        let id = id.ok_or_else(|| odd("request without an id", &target))?;
        accounts.heard(id, target);
        writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}

/// All between the method and the version, whatever it is.
fn target_of(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"GET ")?.strip_suffix(b" HTTP/1.1\r\n")
}

fn odd(what: &str, bytes: &[u8]) -> RigError {
    RigError(format!("odd {what}: {}", bytes.escape_ascii()))
}
