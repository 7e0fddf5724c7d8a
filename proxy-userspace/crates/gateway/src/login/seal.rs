//! What browsers keep for us: encrypted, so that they can't read it, and sealed, so that they can't change it or
//! use it for anything else than what it was made for.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::secret_file::{self, SecretFileError};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Bytes from which each seal's own key is derived, so that no key is ever used often enough for two random
/// nonces of 96 bits to meet (NIST SP 800-38D, 8.3).
const SALT_BYTES: usize = 16;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SessionKeyError {
    /// The file can't be read or made, or others may read it.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: SecretFileError,
    },
    /// Something else is in it.
    #[error("{} holds no key: it has to be {KEY_BYTES} random bytes in base64, such as `openssl rand -base64 32` gives", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
    },
}

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file that somebody else made, for this process and others.
    Given(PathBuf),
    /// In a file that is made where there is none.
    Kept(PathBuf),
}

/// The key of sessions. Whoever has it can be anybody.
pub(crate) struct SessionKey(Prk);

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

impl KeyPlace {
    /// Whether the key is there, and kept as one.
    ///
    /// # Errors
    /// See [`SessionKeyError`]; one that will be made isn't missing.
    pub fn judge(&self) -> Result<(), SessionKeyError> {
        match self {
            Self::Given(path) => read_key(path).map(drop),
            Self::Kept(_) => Ok(()),
        }
    }

    pub(crate) fn obtain(&self) -> Result<SessionKey, SessionKeyError> {
        let (Self::Given(path) | Self::Kept(path)) = self;
        let failed = |source: io::Error| SessionKeyError::File {
            path: path.clone(),
            source: source.into(),
        };
        let key = match (self, read_key(path)) {
            (
                Self::Kept(_),
                Err(SessionKeyError::File {
                    source: SecretFileError::Read(source),
                    ..
                }),
            ) if source.kind() == io::ErrorKind::NotFound => {
                make_key(path).map_err(failed)?;
                read_key(path)?
            }
            (_, read) => read?,
        };
        let salt = Salt::new(HKDF_SHA256, b"portcullis login");
        Ok(SessionKey(salt.extract(&key)))
    }
}

fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], SessionKeyError> {
    let text = secret_file::read(path).map_err(|source| SessionKeyError::File {
        path: path.to_path_buf(),
        source,
    })?;
    // In either alphabet, padded or not.
    let text: Vec<u8> = text
        .trim()
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        })
        .collect();
    let key = URL_SAFE_NO_PAD.decode(text).ok();
    let key = key.and_then(|key| <[u8; KEY_BYTES]>::try_from(key).ok());
    key.ok_or_else(|| SessionKeyError::Malformed {
        path: path.to_path_buf(),
    })
}

/// Whole or not at all; of two that make one, the first does.
fn make_key(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key)?;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| {
            writeln!(file, "{}", URL_SAFE_NO_PAD.encode(key))?;
            file.sync_all()
        });
    let linked = written.and_then(|()| match std::fs::hard_link(&fresh, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    std::fs::remove_file(&fresh)?;
    linked?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

impl SessionKey {
    /// Letters that nobody can read or change, good for this purpose alone.
    pub(crate) fn seal(&self, purpose: &[u8], content: &[u8]) -> Result<String, io::Error> {
        let mut sealed = vec![0; SALT_BYTES + NONCE_LEN];
        getrandom::fill(&mut sealed)?;
        let (salt, nonce) = sealed.split_at(SALT_BYTES);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(io::Error::other)?;
        let key = self.derived(salt).ok_or(io::ErrorKind::Other)?;
        let mut content = content.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::from(purpose), &mut content)
            .map_err(io::Error::other)?;
        sealed.append(&mut content);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What was sealed with this key for this very purpose; `None` for anything else.
    pub(crate) fn open(&self, purpose: &[u8], sealed: &str) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (salt, rest) = sealed.split_at_checked(SALT_BYTES)?;
        let (nonce, content) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut content = content.to_vec();
        let key = self.derived(salt)?;
        let opened = key.open_in_place(nonce, Aad::from(purpose), &mut content);
        opened.ok().map(|opened| opened.to_vec())
    }

    fn derived(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let info = [salt];
        let key = self.0.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// What something is sealed for: two purposes are the same only if all their parts are.
pub(crate) fn purpose(parts: &[&str]) -> Vec<u8> {
    let mut purpose = Vec::new();
    for part in parts {
        purpose.extend_from_slice(&(part.len() as u64).to_be_bytes());
        purpose.extend_from_slice(part.as_bytes());
    }
    purpose
}

/// Letters that nobody can guess: 256 bits.
pub(crate) fn secret_letters() -> Result<String, io::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::fs::PermissionsExt as _, process};

    use super::*;

    fn key(byte: u8) -> SessionKey {
        SessionKey(Salt::new(HKDF_SHA256, b"").extract(&[byte; KEY_BYTES]))
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_for_its_purpose() {
        let purpose_of = |host| purpose(&["session", "web", host]);
        let sealed = key(1)
            .seal(&purpose_of("a.example"), b"alice")
            .expect("sealed");
        let opened = |key: &SessionKey, host, sealed: &str| key.open(&purpose_of(host), sealed);
        let whole = opened(&key(1), "a.example", &sealed);
        assert_eq!(whole.as_deref(), Some(&b"alice"[..]));
        assert_eq!(opened(&key(1), "b.example", &sealed), None);
        assert_eq!(opened(&key(2), "a.example", &sealed), None);
        let again = key(1).seal(&purpose_of("a.example"), b"alice");
        assert_ne!(again.expect("sealed"), sealed);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("letters");
            assert_eq!(opened(&key(1), "a.example", &changed), None, "letter {at}");
            assert_eq!(
                opened(&key(1), "a.example", &sealed[..at]),
                None,
                "cut at {at}"
            );
        }
    }

    #[test]
    fn parts_of_a_purpose_do_not_run_together() {
        assert_ne!(purpose(&["a", "bc"]), purpose(&["ab", "c"]));
        assert_ne!(purpose(&["a", ""]), purpose(&["a"]));
    }

    #[test]
    fn a_key_is_made_once_and_given_ones_have_to_be_there() {
        let path = env::temp_dir().join(format!("portcullis-login-{}.key", process::id()));
        let given = KeyPlace::Given(path.clone());
        assert!(matches!(given.judge(), Err(SessionKeyError::File { .. })));
        let kept = KeyPlace::Kept(path.clone());
        let (one, other) = (kept.obtain(), kept.obtain());
        let sealed = one.expect("a key").seal(b"p", b"x").expect("sealed");
        let opened = other.expect("a key").open(b"p", &sealed);
        assert_eq!(opened.as_deref(), Some(&b"x"[..]));
        given.judge().expect("it is there now");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
        assert!(matches!(
            kept.obtain(),
            Err(SessionKeyError::File {
                source: SecretFileError::Exposed(0o640),
                ..
            })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        fs::write(&path, "too short").expect("written");
        assert!(matches!(
            given.judge(),
            Err(SessionKeyError::Malformed { .. })
        ));
        fs::remove_file(&path).expect("removed");
    }
}
