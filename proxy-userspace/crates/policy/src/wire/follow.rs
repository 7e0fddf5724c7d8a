//! From request to request: where each ends, and what of it may be passed on.

use super::{
    WireFault,
    chunks::Chunks,
    head::{self, Body},
};

/// Bounds of what is followed.
#[derive(Clone, Copy, Debug)]
pub struct WireBounds {
    /// Most bytes of a head.
    pub head_bytes: usize,
}

/// Follows the bytes of one connection.
#[derive(Clone, Debug)]
pub struct Follower {
    bounds: WireBounds,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a head, whose first bytes have been looked at, up to the beginning of a line.
    Head { looked: usize, line: usize },
    /// In a body of which so many bytes are to come.
    Length { left: u64 },
    /// In a chunked body.
    Chunks(Chunks),
}

const NEXT: At = At::Head { looked: 0, line: 0 };

impl Follower {
    /// At the first byte of a connection.
    pub fn new(bounds: WireBounds) -> Self {
        Self { bounds, at: NEXT }
    }

    /// Whether what comes is a head, or the rest of one.
    pub fn in_head(&self) -> bool {
        matches!(self.at, At::Head { .. })
    }

    /// Bytes of a body that follow and that nothing has to be asked of.
    pub fn plain_left(&self) -> u64 {
        match &self.at {
            At::Head { .. } => 0,
            At::Length { left } => *left,
            At::Chunks(chunks) => chunks.plain_left(),
        }
    }

    /// Goes on past bytes of a body, no more than [`Self::plain_left`].
    pub fn skip(&mut self, bytes: u64) {
        match &mut self.at {
            At::Head { .. } => {}
            At::Length { left } => match left.saturating_sub(bytes) {
                0 => self.at = NEXT,
                rest => *left = rest,
            },
            At::Chunks(chunks) => chunks.skip(bytes),
        }
    }

    /// How many of these bytes may be passed on; 0 when more have to come first. What isn't passed on
    /// has to be handed over again, with what came behind it. A head is passed on whole or not at all.
    ///
    /// # Errors
    /// See [`WireFault`]; nothing may be passed on any more.
    pub fn judge(&mut self, bytes: &[u8]) -> Result<usize, WireFault> {
        match &mut self.at {
            At::Head { looked, line } => {
                let Some(end) = head_end(bytes, looked, line, self.bounds.head_bytes)? else {
                    return Ok(0);
                };
                self.at = match head::judge(&bytes[..end])? {
                    Body::Length(0) => NEXT,
                    Body::Length(left) => At::Length { left },
                    Body::Chunked => At::Chunks(Chunks::new()),
                };
                Ok(end)
            }
            At::Length { left } => {
                let here = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.skip(here as u64);
                Ok(here)
            }
            At::Chunks(chunks) => {
                let (read, ended) = chunks.judge(bytes)?;
                if ended {
                    self.at = NEXT;
                }
                Ok(read)
            }
        }
    }
}

/// Where a head ends, if its end is there. A line that breaks off the wrong way is found as soon as it
/// is there: its sender may be waiting for an answer to what he takes for a request.
fn head_end(
    bytes: &[u8],
    looked: &mut usize,
    line: &mut usize,
    most: usize,
) -> Result<Option<usize>, WireFault> {
    while let Some(at) = memchr::memchr(b'\n', &bytes[*looked..]) {
        let lf = *looked + at;
        if lf >= most {
            return Err(WireFault::HeadTooLong);
        }
        if lf == *line || bytes[lf - 1] != b'\r' {
            return Err(WireFault::BareLf);
        }
        let is_empty = lf - 1 == *line;
        if is_empty && *line == 0 {
            return Err(WireFault::EmptyLine);
        }
        (*looked, *line) = (lf + 1, lf + 1);
        if is_empty {
            return Ok(Some(lf + 1));
        }
    }
    *looked = bytes.len();
    if bytes.len() >= most {
        return Err(WireFault::HeadTooLong);
    }
    Ok(None)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
