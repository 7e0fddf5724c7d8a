//! A chunked body (RFC 9112, 7.1), judged byte by byte.

use super::{WireFault, is_field_content};

/// Bytes of all chunk extensions of a body together. Nobody uses them; a flood of them costs the reader
/// and carries nothing (CVE-2023-39326).
const MOST_EXTENSION: u32 = 4 * 1024;

/// Bytes of all trailers together.
const MOST_TRAILER: u32 = 8 * 1024;

/// Hexadecimal digits of a size: more than any body has.
const MOST_DIGITS: u8 = 15;

/// Where in a chunked body a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    extension: u32,
    trailer: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a size, after so many digits.
    Size {
        digits: u8,
        size: u64,
    },
    /// In an extension of a chunk of this size.
    Extension {
        size: u64,
    },
    /// At the LF behind a size.
    SizeLf {
        size: u64,
    },
    /// In the bytes of a chunk.
    Data {
        left: u64,
    },
    /// At the CR and LF behind them.
    DataCr,
    DataLf,
    /// At the first byte of a trailer line, or of the empty line.
    Line,
    /// Within a trailer line, before or after its colon.
    Trailer {
        named: bool,
    },
    /// At the LF behind one.
    TrailerLf,
    /// At the LF of the empty line.
    LastLf,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            at: At::Size { digits: 0, size: 0 },
            extension: 0,
            trailer: 0,
        }
    }

    /// Bytes of the chunk that follow and that nothing has to be asked of.
    pub(super) fn plain_left(&self) -> u64 {
        match self.at {
            At::Data { left } => left,
            _ => 0,
        }
    }

    /// Judges bytes up to the end of the body: how many are of it, and whether it ended.
    pub(super) fn judge(&mut self, bytes: &[u8]) -> Result<(usize, bool), WireFault> {
        let mut read = 0;
        while let Some(byte) = bytes.get(read) {
            if let At::Data { left } = self.at {
                let here = usize::try_from(left).unwrap_or(usize::MAX);
                let here = here.min(bytes.len() - read);
                read += here;
                self.skip(here as u64);
                continue;
            }
            read += 1;
            if self.step(*byte)? {
                return Ok((read, true));
            }
        }
        Ok((read, false))
    }

    /// Goes on past bytes of a chunk, no more than [`Self::plain_left`].
    pub(super) fn skip(&mut self, bytes: u64) {
        if let At::Data { left } = self.at {
            self.at = match left.saturating_sub(bytes) {
                0 => At::DataCr,
                left => At::Data { left },
            };
        }
    }

    /// Whether this byte ended the body.
    fn step(&mut self, byte: u8) -> Result<bool, WireFault> {
        self.at = match (self.at, byte) {
            (At::Size { digits, size }, byte) if byte.is_ascii_hexdigit() => {
                if digits == MOST_DIGITS {
                    return Err(WireFault::ChunkSize);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                At::Size {
                    digits: digits + 1,
                    size: size << 4 | u64::from(digit),
                }
            }
            (At::Size { digits: 1.., size }, b'\r') => At::SizeLf { size },
            (At::Size { digits: 1.., size }, b';') => At::Extension { size },
            (At::Size { .. }, b'\n') => return Err(WireFault::BareLf),
            (At::Size { .. }, _) => return Err(WireFault::ChunkSize),
            (At::Extension { size }, b'\r') => At::SizeLf { size },
            (At::Extension { .. }, b'\n') => return Err(WireFault::BareLf),
            (At::Extension { size }, byte) => {
                self.extension += 1;
                if self.extension > MOST_EXTENSION || !is_field_content(byte) {
                    return Err(WireFault::ChunkExtension);
                }
                At::Extension { size }
            }
            (At::SizeLf { size: 0 }, b'\n') => At::Line,
            (At::SizeLf { size }, b'\n') => At::Data { left: size },
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { digits: 0, size: 0 },
            (At::DataCr | At::DataLf, _) => return Err(WireFault::ChunkEnd),
            (At::Line, b'\r') => At::LastLf,
            (At::LastLf, b'\n') => return Ok(true),
            (At::TrailerLf, b'\n') => At::Line,
            (At::SizeLf { .. } | At::TrailerLf | At::LastLf, _) => return Err(WireFault::BareCr),
            (At::Trailer { named: true }, b'\r') => At::TrailerLf,
            (At::Line | At::Trailer { .. }, b'\n') => return Err(WireFault::BareLf),
            (at @ (At::Line | At::Trailer { .. }), byte) => {
                self.trailer += 1;
                if self.trailer > MOST_TRAILER {
                    return Err(WireFault::Trailer);
                }
                trailer(at, byte).ok_or(WireFault::Trailer)?
            }
            // Never asked byte by byte.
            (at @ At::Data { .. }, _) => at,
        };
        Ok(false)
    }
}

/// Where a byte of a trailer line leads, if it may stand there.
fn trailer(at: At, byte: u8) -> Option<At> {
    let named = at == At::Trailer { named: true };
    if named {
        return is_field_content(byte).then_some(at);
    }
    if byte == b':' && at != At::Line {
        return Some(At::Trailer { named: true });
    }
    super::is_token(byte).then_some(At::Trailer { named: false })
}
