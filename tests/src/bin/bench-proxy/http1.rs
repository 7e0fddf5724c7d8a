//! Requests over HTTP/1.1, one after the other on a connection.

use portcullis_tests::{
    run::{RigError, Rigged},
    scene::HOST,
};

use crate::connection::Connection;

/// A GET of this path with this token.
pub(crate) fn request(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

/// A request to become a WebSocket.
pub(crate) fn upgrade(path: &str, token: &str) -> Vec<u8> {
    // The key is RFC 6455's own example.
    format!(
        "GET {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// A connection and the buffer that answers come into.
pub(crate) struct Asking {
    connection: Connection,
    buffer: Vec<u8>,
}

impl Asking {
    /// Over this connection.
    pub(crate) fn over(connection: Connection) -> Self {
        Self {
            connection,
            buffer: Vec::new(),
        }
    }

    /// Sends a request and reads its answer, which must be 200 with a body of this length.
    pub(crate) fn ask(&mut self, request: &[u8], length: usize) -> Rigged<()> {
        let head = self.head(request, "200")?;
        let told = field(&head, "content-length").and_then(|value| value.parse().ok());
        if told != Some(length) {
            return Err(RigError(format!("not {length} bytes: {head}")));
        }
        let mut due = length;
        loop {
            let here = self.buffer.len().min(due);
            due -= here;
            // What lies behind would be an answer that nobody asked for.
            if due == 0 && self.buffer.len() == here {
                self.buffer.clear();
                return Ok(());
            }
            if due == 0 {
                return Err(RigError("more bytes than were due".to_owned()));
            }
            self.buffer.clear();
            self.connection.receive(&mut self.buffer)?;
        }
    }

    /// Becomes a WebSocket, with the server's first message read.
    pub(crate) fn upgrade(&mut self, request: &[u8]) -> Rigged<()> {
        self.head(request, "101")?;
        if self.buffer.is_empty() {
            self.connection.receive(&mut self.buffer)?;
        }
        Ok(())
    }

    /// Ends a WebSocket: a close frame each way, which says that it was alive until now.
    pub(crate) fn close_socket(mut self) -> Rigged<()> {
        // Code 1000, masked with zeros (RFC 6455, 5.5.1 and 7.4.1).
        self.connection
            .send(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])?;
        self.buffer.clear();
        self.connection.receive(&mut self.buffer)?;
        if self.buffer.first() == Some(&0x88) {
            return Ok(());
        }
        Err(RigError(format!("no close frame: {:02x?}", self.buffer)))
    }

    /// Sends a request and reads the head of its answer.
    fn head(&mut self, request: &[u8], status: &str) -> Rigged<String> {
        self.connection.send(request)?;
        let end = loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            self.connection.receive(&mut self.buffer)?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        if head.split(' ').nth(1) != Some(status) {
            return Err(RigError(format!("no {status}: {head}")));
        }
        Ok(head)
    }
}

/// The first field of this name in a header section.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}
