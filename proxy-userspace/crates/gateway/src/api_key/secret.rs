//! One key: `pck_`, its id, `_`, its secret, both in hexadecimal, so that two clicks select all of it.
//!
//! The secret is 256 bits that nobody chose. There is nothing to guess, so what is kept of it needs no slow hash as
//! passwords do: HMAC-SHA-256 under a salt can't be turned around, and costs a request 1 µs where Argon2 would cost
//! it, and whoever sends rubbish, some 10 ms.

use std::{fmt, io};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify};

/// Begins all keys, so that those who look for secrets where none belong can tell one.
const PREFIX: &str = "pck_";
/// Bytes of an id.
const ID: usize = 8;
/// Bytes of a secret.
const SECRET: usize = 32;
/// Bytes of a salt.
const SALT: usize = 16;

/// By what a key is found. It is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKeyId([u8; ID]);

impl ApiKeyId {
    /// As it is written; `None` for anything else than 16 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        bytes_of(text).map(Self)
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_digits(f, &self.0)
    }
}

/// A key as its holder has it.
pub struct ApiKey {
    id: ApiKeyId,
    secret: [u8; SECRET],
}

/// The secret stays out of logs.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.id)
    }
}

impl ApiKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn draw() -> io::Result<Self> {
        let (mut id, mut secret) = ([0; ID], [0; SECRET]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let id = ApiKeyId(id);
        Ok(Self { id, secret })
    }

    /// As it was sent; `None` for anything that [`Self::reveal`] doesn't write.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = ApiKeyId::parse(id)?;
        let secret = bytes_of(secret)?;
        Some(Self { id, secret })
    }

    /// Its id.
    pub fn id(&self) -> ApiKeyId {
        self.id
    }

    /// The whole key, for whom it was made for.
    pub fn reveal(&self) -> String {
        let mut text = format!("{PREFIX}{}_", self.id);
        // Writing to a string can't fail.
        let _ = write_digits(&mut text, &self.secret);
        text
    }

    /// What is kept of it, under a salt of its own.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn hash(&self) -> io::Result<KeptHash> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt)?;
        let mut hash = [0; SECRET];
        hash.copy_from_slice(sign(&Key::new(HMAC_SHA256, &salt), &self.message()).as_ref());
        Ok(KeptHash { salt, hash })
    }

    /// Id and secret: what is kept under one id is no good under another.
    fn message(&self) -> [u8; ID + SECRET] {
        let mut message = [0; ID + SECRET];
        message[..ID].copy_from_slice(&self.id.0);
        message[ID..].copy_from_slice(&self.secret);
        message
    }
}

/// What is kept of a key: it can be told by that, and not made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptHash {
    salt: [u8; SALT],
    hash: [u8; SECRET],
}

impl KeptHash {
    /// Salt and hash as [`Self::write`] writes them.
    pub fn parse(salt: &str, hash: &str) -> Option<Self> {
        Some(Self {
            salt: bytes_of(salt)?,
            hash: bytes_of(hash)?,
        })
    }

    /// Salt and hash in hexadecimal.
    pub fn write(&self) -> (String, String) {
        let digits = |bytes: &[u8]| {
            let mut text = String::new();
            let _ = write_digits(&mut text, bytes);
            text
        };
        (digits(&self.salt), digits(&self.hash))
    }

    /// Of no key. Whether one is its costs what it costs of any other.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn of_nobody() -> io::Result<Self> {
        ApiKey::draw()?.hash()
    }

    /// Whether it is this key's; how long that takes says nothing of how much of it is right.
    pub(crate) fn is_of(&self, key: &ApiKey) -> bool {
        let salted = Key::new(HMAC_SHA256, &self.salt);
        verify(&salted, &key.message(), &self.hash).is_ok()
    }
}

fn write_digits(to: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
}

/// Two hexadecimal digits in lower case for each byte, and no other way to write it.
fn bytes_of<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != LENGTH || !rest.is_empty() {
        return None;
    }
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; LENGTH];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn() -> (ApiKey, String) {
        let key = ApiKey::draw().expect("randomness");
        let text = key.reveal();
        (key, text)
    }

    #[test]
    fn a_key_is_read_as_it_is_written_and_in_no_other_way() {
        let (key, text) = drawn();
        let read = ApiKey::parse(&text).expect("it is one");
        assert_eq!((read.id, read.secret), (key.id, key.secret));
        assert_eq!(text.len(), 85);
        for other in [
            text.to_uppercase(),
            text.replacen("pck_", "PCK_", 1),
            text[4..].to_owned(),
            format!("{text}0"),
            format!(" {text}"),
            format!("{text} "),
            text[..84].to_owned(),
            text.replacen('_', "__", 1),
            format!("{}g", &text[..84]),
            "pck__".to_owned(),
            String::new(),
        ] {
            assert!(ApiKey::parse(&other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn what_is_kept_tells_that_key_alone() {
        let (key, text) = drawn();
        let kept = key.hash().expect("randomness");
        let again = key.hash().expect("randomness");
        assert_ne!(kept, again, "each has a salt of its own");
        assert!(kept.is_of(&key) && again.is_of(&key));
        let (other, _) = drawn();
        assert!(!kept.is_of(&other));
        let under_another_id = ApiKey {
            id: other.id,
            secret: key.secret,
        };
        assert!(!kept.is_of(&under_another_id));
        let (salt, hash) = kept.write();
        assert_eq!(KeptHash::parse(&salt, &hash), Some(kept));
        assert_eq!(KeptHash::parse(&hash, &salt), None);
        let said = format!("{key:?}");
        assert!(!text.is_empty() && !said.contains(&text[21..]), "{said}");
    }

    /// RFC 4231 has no vector with a salt of 16 bytes; this one is Python's `hmac`.
    #[test]
    fn what_is_kept_is_hmac_sha_256_of_id_and_secret() {
        let key = ApiKey {
            id: ApiKeyId([0x11; ID]),
            secret: [0x22; SECRET],
        };
        let hash = "b19637211385cc301c72b2d2bff7814b9c839057f603489ac3652ca033cd1a76";
        let kept = KeptHash::parse(&"33".repeat(SALT), hash).expect("salt and hash");
        assert!(kept.is_of(&key));
    }
}
