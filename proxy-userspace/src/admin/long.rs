//! A request of megabytes, such as a list of a million entries: read and answered by blocking calls, on
//! the thread that does the work. Read through the runtime, each piece of it would wake a thread that
//! serves requests.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use tokio::{
    io::{BufReader, Take},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use super::{LONGEST_LINE, Reply, protocol::json_line};

/// Bytes that are read at once: what a socket holds by default.
const PIECE: usize = 256 * 1024;

/// A peer and the first part of what it asks.
pub(super) struct LongRequest {
    stream: UnixStream,
    line: Vec<u8>,
    /// How long the peer may take to finish, and to take a reply.
    slowest: Duration,
}

impl LongRequest {
    /// Takes a peer out of the runtime's hands, with what was read of its request.
    ///
    /// # Errors
    /// When the system refuses to make its socket a blocking one.
    pub(super) fn take(
        reader: BufReader<Take<OwnedReadHalf>>,
        writer: OwnedWriteHalf,
        mut line: Vec<u8>,
        slowest: Duration,
    ) -> io::Result<Self> {
        line.extend_from_slice(reader.buffer());
        let reader = reader.into_inner().into_inner();
        let stream = reader.reunite(writer).map_err(io::Error::other)?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(slowest))?;
        Ok(Self {
            stream,
            line,
            slowest,
        })
    }

    /// The whole request: up to the end of its line, or of what the peer sends.
    ///
    /// # Errors
    /// When the peer takes too long, or breaks off.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        let end = Instant::now() + self.slowest;
        let most = usize::try_from(LONGEST_LINE).unwrap_or(usize::MAX);
        let mut piece = vec![0; PIECE];
        while self.line.last() != Some(&b'\n') && self.line.len() < most {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let room = PIECE.min(most - self.line.len());
            match self.stream.read(&mut piece[..room]) {
                Ok(0) => break,
                Ok(length) => self.line.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.line))
    }

    /// Whether the peer took a reply.
    pub(super) fn say(&self, reply: &Reply) -> bool {
        json_line(reply).is_ok_and(|line| (&self.stream).write_all(&line).is_ok())
    }
}
