//! Clients over HTTP/1.1: requests one behind the other, without waiting for answers in between.
//!
//! A request that is refused ends its connection, and those behind it on the way were never read: they are asked
//! again over the next one.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _, Write as _},
};

use super::{
    Http,
    accounts::{Accounts, Asked},
    targets::Targets,
};
use crate::{
    front::Front,
    run::{RigError, Rigged},
    scene::HOST,
    tunnels::{TlsClient, client_config, tls_client},
};

/// Requests on the way at a time.
const AT_ONCE: usize = 32;

/// Asks until there is nothing more to ask.
pub(super) fn ask(front: &Front, accounts: &Accounts, targets: &mut Targets) -> Rigged<()> {
    let config = client_config(&front.ground.pki.ca, None)?;
    let mut due = VecDeque::new();
    let mut line = None;
    loop {
        if accounts.await_room(Http::One)? {
            let more = AT_ONCE.saturating_sub(due.len());
            due.extend((0..more).map(|_| targets.next()));
        } else if due.is_empty() {
            return Ok(());
        }
        let mut open = match line.take() {
            Some(open) => open,
            None => {
                accounts.connected(Http::One);
                let client = tls_client(front.address, HOST, &config)?;
                client.sock.set_nodelay(true)?;
                BufReader::new(client)
            }
        };
        line = converse(&mut open, accounts, &mut due)?.then_some(open);
    }
}

/// Asks for all that is due, and takes away what was answered; whether the connection goes on.
fn converse(
    line: &mut BufReader<TlsClient>,
    accounts: &Accounts,
    due: &mut VecDeque<Vec<u8>>,
) -> Rigged<bool> {
    let requests: Vec<u8> = due.iter().flat_map(|target| request(target)).collect();
    // Where the proxy takes no more, the answers that came before say why.
    let said = line.get_mut().write_all(&requests);
    let said = said.and_then(|()| line.get_mut().flush());
    while let Some(target) = due.front() {
        let answer = Answer::read(line).map_err(|RigError(error)| {
            let target = target.escape_ascii();
            RigError(format!(
                "over HTTP/1.1, no answer for {target}: {error}, {said:?}"
            ))
        })?;
        let target = due.pop_front().unwrap_or_default();
        match (answer.id, answer.status) {
            (Some(id), status) => {
                let http = Http::One;
                let asked = Asked {
                    target,
                    http,
                    status,
                };
                accounts.asked(id, asked);
            }
            // The library's own answer.
            (None, 400) if answer.closes => accounts.unread(Http::One),
            (None, status) => {
                let target = target.escape_ascii();
                return Err(RigError(format!("{status} without an id for {target}")));
            }
        }
        if answer.closes {
            return Ok(false);
        }
    }
    Ok(true)
}

fn request(target: &[u8]) -> Vec<u8> {
    let rest = format!(" HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    [b"GET ", target, rest.as_bytes()].concat()
}

/// What a client has to know of an answer.
struct Answer {
    status: u16,
    /// The decision's.
    id: Option<u128>,
    closes: bool,
}

impl Answer {
    fn read(line: &mut BufReader<TlsClient>) -> Rigged<Self> {
        let mut head = String::new();
        loop {
            let before = head.len();
            if line.read_line(&mut head)? == 0 {
                return Err(RigError(format!("the end came after {head:?}")));
            }
            if &head[before..] == "\r\n" {
                break;
            }
        }
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then_some(value.trim())
            })
        };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let id = field("x-request-id").and_then(|id| u128::from_str_radix(id, 16).ok());
        let status = status.ok_or_else(|| RigError(format!("an odd answer: {head:?}")))?;
        let length = field("content-length").and_then(|it| it.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        line.read_exact(&mut body)?;
        let closes = field("connection") == Some("close");
        Ok(Self { status, id, closes })
    }
}
