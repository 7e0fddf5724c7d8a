//! What a proof has to quote so that it was made just now (RFC 9449, 8 and 9). Nothing is kept of what was handed
//! out: a nonce is a span of time and a code over it, with a key that is gone with the process.

use std::{fmt, io};

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// How long the same nonce is handed out, in seconds. It is accepted for as long again.
const SPAN: u64 = 120;

/// Bytes of the number of a span, and of the code over it.
const NUMBER: usize = 8;
const CODE: usize = 16;

/// Hands nonces out, and knows them again.
#[derive(Clone)]
pub(crate) struct Nonces(hmac::Key);

/// What becomes of a nonce that is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the one that is handed out now.
    Current,
    /// It was handed out before that one.
    Previous,
    /// It is none of both.
    Unknown,
}

impl Nonces {
    /// With a key of their own.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn new() -> Result<Self, io::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The one to hand out.
    pub(crate) fn current(&self, now: u64) -> String {
        URL_SAFE_NO_PAD.encode(self.of_span(now / SPAN))
    }

    pub(crate) fn standing(&self, nonce: &str, now: u64) -> Standing {
        let Ok(quoted) = URL_SAFE_NO_PAD.decode(nonce) else {
            return Standing::Unknown;
        };
        let span = now / SPAN;
        let is_of = |span| constant_time::verify_slices_are_equal(&quoted, &self.of_span(span));
        if is_of(span).is_ok() {
            Standing::Current
        } else if is_of(span.saturating_sub(1)).is_ok() {
            Standing::Previous
        } else {
            Standing::Unknown
        }
    }

    fn of_span(&self, span: u64) -> [u8; NUMBER + CODE] {
        let number = span.to_be_bytes();
        let code = hmac::sign(&self.0, &number);
        let mut nonce = [0; NUMBER + CODE];
        nonce[..NUMBER].copy_from_slice(&number);
        nonce[NUMBER..].copy_from_slice(&code.as_ref()[..CODE]);
        nonce
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_in_its_span_and_the_next() {
        let nonces = Nonces::new().expect("randomness");
        let now = 1_800_000_000 / SPAN * SPAN;
        let nonce = nonces.current(now);
        for (later, standing) in [
            (0, Standing::Current),
            (SPAN - 1, Standing::Current),
            (SPAN, Standing::Previous),
            (2 * SPAN - 1, Standing::Previous),
            (2 * SPAN, Standing::Unknown),
        ] {
            assert_eq!(nonces.standing(&nonce, now + later), standing, "{later}");
        }
        assert_eq!(nonces.standing(&nonce, now - 1), Standing::Unknown);
    }

    #[test]
    fn nobody_else_makes_one() {
        let (nonces, others) = (Nonces::new(), Nonces::new());
        let (nonces, others) = (nonces.expect("randomness"), others.expect("randomness"));
        let now = 1_800_000_000;
        let good = nonces.current(now);
        let mut changed = good.clone().into_bytes();
        changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("letters");
        for nonce in [
            "",
            "A",
            &good[1..],
            &format!("{good}="),
            &changed,
            &others.current(now),
        ] {
            assert_eq!(nonces.standing(nonce, now), Standing::Unknown, "{nonce:?}");
        }
        // RFC 9449, 8.1: what may stand in a field and in JSON.
        assert!(
            good.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
    }
}
