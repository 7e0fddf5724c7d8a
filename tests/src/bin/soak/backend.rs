//! A service behind the proxy, as a process of its own that can be killed: `soak backend ADDRESS LOG`. It
//! writes down what reached it, and what it has answered, before anybody else can know.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use portcullis_tests::run::{RigError, Rigged};

/// Where requests of the load go, each with its number.
pub(crate) const PATH: &str = "/soak/";
/// Where a line comes each [`BEAT`], for ever.
pub(crate) const STREAM: &str = "/stream";
/// Between two lines of a stream.
const BEAT: Duration = Duration::from_millis(100);
/// Bytes of an answer.
pub(crate) const ANSWER_BYTES: usize = 600;

/// The head of a request came whole.
const REACHED: u8 = b'R';
/// Its answer was handed to the kernel, which delivers it whatever becomes of this process.
const ANSWERED: u8 = b'A';
/// A letter and a number.
const NOTE_BYTES: usize = 9;

/// What one process wrote down.
pub(crate) struct Notes {
    /// Numbers of requests that reached it.
    pub(crate) reached: Vec<u64>,
    /// Numbers of those that it answered.
    pub(crate) answered: Vec<u64>,
}

impl Notes {
    /// Reads them.
    pub(crate) fn read(log: &Path) -> Rigged<Self> {
        let bytes = fs::read(log)?;
        let (mut reached, mut answered) = (Vec::new(), Vec::new());
        for note in bytes.chunks_exact(NOTE_BYTES) {
            let [kind, number @ ..] = note else { continue };
            let number = number.try_into().map_or(0, u64::from_be_bytes);
            match *kind {
                REACHED => reached.push(number),
                ANSWERED => answered.push(number),
                other => return Err(RigError(format!("{}: note {other}", log.display()))),
            }
        }
        Ok(Self { reached, answered })
    }
}

/// The body of the answer to a request.
pub(crate) fn body_of(number: u64) -> String {
    format!("{number:>ANSWER_BYTES$}")
}

/// Serves until it is killed.
pub(crate) fn serve(address: SocketAddr, log: &Path) -> Rigged<()> {
    let listener = TcpListener::bind(address)?;
    let log = Arc::new(File::options().create(true).append(true).open(log)?);
    for stream in listener.incoming() {
        let (stream, log) = (stream?, Arc::clone(&log));
        // A connection that breaks is the end of its thread.
        thread::spawn(move || converse(&stream, &log));
    }
    Ok(())
}

fn converse(stream: &TcpStream, log: &File) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let number = target
            .strip_prefix(PATH)
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            note(log, REACHED, number)?;
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        match number {
            Some(number) => {
                let body = body_of(number);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                writer.write_all((head + &body).as_bytes())?;
                note(log, ANSWERED, number)?;
            }
            None if target == STREAM => return stream_on(writer),
            None => writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?,
        }
    }
}

fn note(mut log: &File, kind: u8, number: u64) -> io::Result<()> {
    let mut note = [kind; NOTE_BYTES];
    note[1..].copy_from_slice(&number.to_be_bytes());
    log.write_all(&note)
}

fn stream_on(mut writer: &TcpStream) -> io::Result<()> {
    writer.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    for line in 0_u64.. {
        let event = format!("data: {line}\n\n");
        writer.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
        thread::sleep(BEAT);
    }
    Ok(())
}
