//! Unpacking gzip, to a bound.

use std::{
    borrow::Cow,
    io::{self, Read as _},
};

use flate2::read::MultiGzDecoder;

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a file could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("is longer than {limit} bytes{}, the most that can be imported at once", if *.packed { " when unpacked" } else { "" })]
    TooLong { limit: u64, packed: bool },
    #[error("begins like gzip and can't be unpacked: {0}")]
    Gzip(io::Error),
}

/// What is in a file: itself, or what was packed into it.
///
/// # Errors
/// When it is longer than `limit` bytes, or is broken gzip.
pub(crate) fn unpack(bytes: &[u8], limit: u64) -> Result<Cow<'_, [u8]>, UnpackError> {
    let packed = bytes.starts_with(&MAGIC);
    let is_too_long = |bytes: &[u8]| u64::try_from(bytes.len()).is_ok_and(|length| length > limit);
    if !packed {
        if is_too_long(bytes) {
            return Err(UnpackError::TooLong { limit, packed });
        }
        return Ok(Cow::Borrowed(bytes));
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(limit.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(UnpackError::Gzip)?;
    if is_too_long(&unpacked) {
        return Err(UnpackError::TooLong { limit, packed });
    }
    Ok(Cow::Owned(unpacked))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn what_is_not_packed_stays_as_it_is() {
        assert_eq!(
            unpack(b"192.0.2.1\n", 10).expect("short enough").as_ref(),
            b"192.0.2.1\n"
        );
    }

    #[test]
    fn several_packed_parts_are_one_text() {
        let parts = [packed(b"192.0.2.1\n"), packed(b"192.0.2.2\n")].concat();
        let text = unpack(&parts, 100).expect("short enough");
        assert_eq!(text.as_ref(), b"192.0.2.1\n192.0.2.2\n");
    }

    #[test]
    fn a_bomb_is_refused_at_the_bound() {
        let refused = unpack(&packed(&vec![b'\n'; 1_000_000]), 999_999).expect_err("a refusal");
        assert_eq!(
            refused.to_string(),
            "is longer than 999999 bytes when unpacked, the most that can be imported at once"
        );
        let refused = unpack(&[b'\n'; 11], 10).expect_err("a refusal");
        assert_eq!(
            refused.to_string(),
            "is longer than 10 bytes, the most that can be imported at once"
        );
    }

    #[test]
    fn a_file_that_breaks_off_or_is_damaged_is_refused() {
        let good = packed(b"192.0.2.1\n192.0.2.2\n");
        let mut damaged = good.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        for bytes in [&good[..good.len() - 1], &good[..2], &damaged] {
            let refused = unpack(bytes, 100).expect_err("a refusal").to_string();
            assert!(
                refused.starts_with("begins like gzip and can't be unpacked: "),
                "{refused}"
            );
        }
    }
}
