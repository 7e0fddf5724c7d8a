//! Requests over HTTP/2 with many streams of one connection at a time (RFC 9113): as little of a
//! client as can be, so that the load's core is the upstream's, too.

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
};

use portcullis_tests::run::{RigError, Rigged};

use crate::{
    connection::Connection,
    hpack::{Blocks, says_200},
};

/// Streams of a connection at a time.
const STREAMS: usize = 16;
/// How much a proxy may send before we say that we have read it; h2load's is the same.
const WINDOW: u32 = (1 << 30) - 1;
/// The window that a connection begins with.
const FIRST_WINDOW: u32 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Octets before a frame's payload.
const FRAME_HEAD: usize = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// One connection's requests.
pub(crate) struct Streams<'b> {
    connection: Connection,
    blocks: &'b Blocks,
    /// The token whose turn is next.
    turn: usize,
    next_stream: u32,
    open: usize,
    done: u64,
    /// Octets of bodies that the proxy doesn't know we have read.
    read: u32,
    out: Vec<u8>,
    /// What has come of the next frame.
    buffer: Vec<u8>,
}

impl<'b> Streams<'b> {
    /// Over this connection, beginning with this token.
    pub(crate) fn over(connection: Connection, blocks: &'b Blocks, turn: usize) -> Self {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // No server push, and a window for each stream that no answer fills.
        let mut settings = [0, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
        settings[8..].copy_from_slice(&WINDOW.to_be_bytes());
        push_frame(&mut out, SETTINGS, 0, 0, &settings);
        push_frame(
            &mut out,
            WINDOW_UPDATE,
            0,
            0,
            &(WINDOW - FIRST_WINDOW).to_be_bytes(),
        );
        Self {
            connection,
            blocks,
            turn,
            next_stream: 1,
            open: 0,
            done: 0,
            read: 0,
            out,
            buffer: Vec::new(),
        }
    }

    /// Keeps all streams busy until `stop`, then waits for what is open; says how many requests were
    /// answered with 200, and fails when any wasn't.
    pub(crate) fn keep_asking(mut self, stop: &AtomicBool) -> Rigged<u64> {
        let mut buffer = Vec::new();
        loop {
            while self.open < STREAMS && !stop.load(Ordering::Relaxed) {
                self.push_request();
            }
            if self.open == 0 {
                return Ok(self.done);
            }
            self.go_on(&mut buffer)?;
        }
    }

    /// Makes one request and waits for its answer.
    pub(crate) fn ask(&mut self) -> Rigged<()> {
        self.push_request();
        let mut buffer = mem::take(&mut self.buffer);
        while self.open > 0 {
            self.go_on(&mut buffer)?;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Sends what is to be sent, and takes what comes.
    fn go_on(&mut self, buffer: &mut Vec<u8>) -> Rigged<()> {
        if !self.out.is_empty() {
            self.connection.send(&self.out)?;
            self.out.clear();
        }
        self.connection.receive(buffer)?;
        let mut taken = 0;
        while let Some((frame, length)) = Frame::first_of(&buffer[taken..]) {
            self.take(&frame)?;
            taken += length;
        }
        buffer.drain(..taken);
        Ok(())
    }

    fn push_request(&mut self) {
        let block = if self.next_stream == 1 {
            &self.blocks.first
        } else {
            self.turn = (self.turn + 1) % self.blocks.others.len();
            &self.blocks.others[self.turn]
        };
        let flags = END_STREAM | END_HEADERS;
        push_frame(&mut self.out, HEADERS, flags, self.next_stream, block);
        self.next_stream += 2;
        self.open += 1;
    }

    fn take(&mut self, frame: &Frame<'_>) -> Rigged<()> {
        let Frame {
            kind,
            flags,
            payload,
        } = *frame;
        match kind {
            HEADERS => {
                let padded = flags & PADDED != 0;
                let block = payload.get(usize::from(padded)..).unwrap_or_default();
                // Trailers have no status, and nobody sends any here.
                if !says_200(block) {
                    return Err(RigError(format!("an answer that isn't 200: {block:02x?}")));
                }
            }
            DATA => {
                self.read += payload.len() as u32;
                if self.read > WINDOW / 2 {
                    push_frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.read.to_be_bytes());
                    self.read = 0;
                }
            }
            SETTINGS if flags & ACK == 0 => push_frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => push_frame(&mut self.out, PING, ACK, 0, payload),
            RST_STREAM | GOAWAY | PUSH_PROMISE | CONTINUATION => {
                return Err(RigError(format!("a frame of kind {kind}: {payload:02x?}")));
            }
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            self.open -= 1;
            self.done += 1;
        }
        Ok(())
    }
}

/// A frame as it came.
struct Frame<'b> {
    kind: u8,
    flags: u8,
    payload: &'b [u8],
}

impl<'b> Frame<'b> {
    /// The first of these octets and its length, if all of it is there.
    fn first_of(bytes: &'b [u8]) -> Option<(Self, usize)> {
        let head = bytes.first_chunk::<FRAME_HEAD>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let end = FRAME_HEAD + length;
        let frame = Self {
            kind: head[3],
            flags: head[4],
            payload: bytes.get(FRAME_HEAD..end)?,
        };
        Some((frame, end))
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = payload.len() as u32;
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_when_all_of_it_is_there() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, PING, ACK, 0, b"12345678");
        assert!(Frame::first_of(&bytes[..16]).is_none());
        let (frame, length) = Frame::first_of(&bytes).unwrap();
        assert_eq!((frame.kind, frame.flags, length), (PING, ACK, 17));
        assert_eq!(frame.payload, b"12345678");
    }
}
