//! The frames of a request's stream (RFC 9114, 7), looked at before the library does: it takes an empty DATA frame
//! for the end of a body, and what an end cuts short for whole.

use bytes::{Buf as _, Bytes};

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;

/// Why a stream holds no request. Its text is the detail in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameFault {
    /// The stream ends in the middle of a frame (RFC 9114, 7.1).
    #[error("the stream ends in the middle of a frame")]
    CutShort,
    /// Something follows the trailers (RFC 9114, 4.1).
    #[error("a frame behind the trailers")]
    BehindTrailers,
}

/// Where a stream is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Of a frame's type and length, what has come.
    head: Vec<u8>,
    /// Bytes of the frame that are still to come.
    left: u64,
    /// Field sections so far: the head, and trailers.
    sections: u8,
}

impl Frames {
    /// The next piece of what came that may be passed on; none when all of it was looked at.
    ///
    /// # Errors
    /// See [`FrameFault`].
    pub(super) fn next(&mut self, came: &mut Bytes) -> Result<Option<Bytes>, FrameFault> {
        while !came.is_empty() {
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX);
                let piece = came.split_to(here.min(came.len()));
                self.left -= piece.len() as u64;
                return Ok(Some(piece));
            }
            self.head.push(came.get_u8());
            let Some((kind, length)) = frame_of(&self.head) else {
                continue;
            };
            if matches!(kind, DATA | HEADERS) && self.sections > 1 {
                return Err(FrameFault::BehindTrailers);
            }
            self.sections += u8::from(kind == HEADERS);
            self.left = length;
            let head = std::mem::take(&mut self.head);
            // Says nothing, and may be said.
            if (kind, length) != (DATA, 0) {
                return Ok(Some(head.into()));
            }
        }
        Ok(None)
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// When it is in the middle of a frame.
    pub(super) fn end(&self) -> Result<(), FrameFault> {
        if self.left > 0 || !self.head.is_empty() {
            return Err(FrameFault::CutShort);
        }
        Ok(())
    }
}

/// Type and length, once both are there.
fn frame_of(head: &[u8]) -> Option<(u64, u64)> {
    let (kind, rest) = integer(head)?;
    let (length, _) = integer(rest)?;
    Some((kind, length))
}

/// A variable-length integer (RFC 9000, 16), and what follows it.
fn integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (own, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let value = own
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value & (u64::MAX >> (66 - 8 * own.len())), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of these bytes, in parts of this size, and whether they may end there.
    fn passed(bytes: &[u8], part: usize) -> Result<Vec<u8>, FrameFault> {
        let mut frames = Frames::default();
        let mut passed = Vec::new();
        for part in bytes.chunks(part) {
            let mut came = Bytes::copy_from_slice(part);
            while let Some(piece) = frames.next(&mut came)? {
                passed.extend_from_slice(&piece);
            }
        }
        frames.end().map(|()| passed)
    }

    fn all(bytes: &[u8], due: Result<&[u8], FrameFault>) {
        for part in [1, 2, 3, 100] {
            assert_eq!(
                passed(bytes, part),
                due.map(<[u8]>::to_vec),
                "{bytes:?} by {part}"
            );
        }
    }

    #[test]
    fn empty_data_is_left_out_and_the_rest_passed_on_as_it_is() {
        all(b"\x01\x02ab\x00\x03xyz", Ok(b"\x01\x02ab\x00\x03xyz"));
        all(
            b"\x01\x02ab\x00\x00\x00\x01x\x00\x00",
            Ok(b"\x01\x02ab\x00\x01x"),
        );
        // Longer ways to say nothing.
        all(
            b"\x01\x00\x40\x00\x40\x00\x00\x01x",
            Ok(b"\x01\x00\x00\x01x"),
        );
        all(
            b"\x01\x00\x80\0\0\0\xc0\0\0\0\0\0\0\0\x00\x01x",
            Ok(b"\x01\x00\x00\x01x"),
        );
        // Of a type that nobody knows, and trailers.
        all(
            b"\x01\x00\x21\x02??\x00\x01x\x01\x01t\x21\x00",
            Ok(b"\x01\x00\x21\x02??\x00\x01x\x01\x01t\x21\x00"),
        );
    }

    #[test]
    fn what_is_cut_short_or_follows_the_trailers_is_no_request() {
        for bytes in [
            &b"\x01\x02a"[..],
            b"\x01\x00\x00\x0a01234",
            b"\x01\x00\x00",
            b"\x01\x00\x40",
        ] {
            all(bytes, Err(FrameFault::CutShort));
        }
        all(
            b"\x01\x00\x01\x00\x00\x01x",
            Err(FrameFault::BehindTrailers),
        );
        all(b"\x01\x00\x01\x00\x01\x00", Err(FrameFault::BehindTrailers));
    }
}
