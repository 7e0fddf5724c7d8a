//! The file of API keys: TOML, one line a key, with nothing in it that lets anybody in.
//!
//! ```text
//! 4f1c9d2ab07e3355 = { subject = "billing", scopes = ["orders:read"], salt = "…", hash = "…" }
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::UNIX_EPOCH,
};

use gateway::{
    ApiKey, ApiKeyId, FileStamp, KeptHash, KeptKey,
    secret_file::{self, SecretFileError},
};
use policy::{Principal, ProvenBy};
use serde::{Deserialize, Serialize};
use toml::{ser::ValueSerializer, value::Datetime};

/// So much of what stands for an id is told: a whole key begins with its own.
const LONGEST_ID: usize = "pck_".len() + 16;

/// For whom a key is made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with subject, salt and hash")]
struct Line {
    subject: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    scopes: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    groups: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, BTreeSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Datetime>,
    salt: String,
    hash: String,
}

/// For whom a key is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) subject: String,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) attributes: BTreeMap<String, BTreeSet<String>>,
    pub(crate) expires: Option<Datetime>,
}

/// Why the keys of a file can't be had. What stands in a line is never told: a hash is nobody's business.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiKeyError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("line {line}: {problem}")]
    Syntax { line: usize, problem: String },
    #[error("key {id:?}: {problem}")]
    Key { id: String, problem: &'static str },
}

/// By what it is noticed that a file is another one, or open to others.
pub(crate) type Stamp = Option<(FileStamp, u32)>;

pub(crate) fn stamp(path: &Path) -> Stamp {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    Some((FileStamp::of(path)?, mode))
}

/// The keys of a file, vouched for by `issuer`.
///
/// # Errors
/// See [`ApiKeyError`]: the file is read whole or not at all.
pub(crate) fn read(path: &Path, issuer: &str) -> Result<Vec<KeptKey>, ApiKeyError> {
    parse(&secret_file::read(path)?, issuer)
}

fn parse(text: &str, issuer: &str) -> Result<Vec<KeptKey>, ApiKeyError> {
    let lines: BTreeMap<String, Line> =
        toml::from_str(text).map_err(|error| ApiKeyError::Syntax {
            line: error.span().map_or(1, |span| {
                let before = text.get(..span.start).unwrap_or(text);
                before.matches('\n').count() + 1
            }),
            problem: problem_of(error.message()),
        })?;
    lines
        .into_iter()
        .map(|(id, line)| {
            line.prove(&id, issuer).map_err(|problem| ApiKeyError::Key {
                id: id.chars().take(LONGEST_ID).collect(),
                problem,
            })
        })
        .collect()
}

/// What the parser says, without the value that it is about: whoever has taken a key for its line finds that in no
/// log.
fn problem_of(message: &str) -> String {
    let expected = message.split_once(", expected ");
    match expected.filter(|_| message.starts_with("invalid")) {
        Some((_, expected)) => format!("something else stands where {expected} belongs"),
        None => message.replace('\n', " "),
    }
}

impl Line {
    fn prove(self, id: &str, issuer: &str) -> Result<KeptKey, &'static str> {
        let id = ApiKeyId::parse(id).ok_or("its id isn't 16 hexadecimal digits in lower case")?;
        let hash = KeptHash::parse(&self.salt, &self.hash)
            .ok_or("its salt and hash aren't 32 and 64 hexadecimal digits in lower case")?;
        if self.subject.is_empty() || self.subject.chars().any(char::is_control) {
            return Err("its subject is empty, or has control characters");
        }
        // RFC 6749, 3.3: with a space in it, one scope would be two to whoever is told of it.
        let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let is_scope = |scope: &String| !scope.is_empty() && scope.bytes().all(legal);
        if !self.scopes.iter().all(is_scope) {
            return Err("a scope of it is empty, or has spaces, quotes or backslashes");
        }
        let expires = self.expires.map(|at| seconds(&at)).transpose()?;
        Ok(KeptKey {
            id,
            hash,
            expires,
            holder: Arc::new(Principal {
                issuer: issuer.to_owned(),
                subject: self.subject,
                scopes: self.scopes,
                groups: self.groups,
                attributes: self.attributes,
                proven_by: ProvenBy::ApiKey,
            }),
        })
    }
}

fn seconds(at: &Datetime) -> Result<u64, &'static str> {
    let problem = "its expires is no time in UTC since 1970, such as 2030-01-31T12:00:00Z";
    let at = humantime::parse_rfc3339(&at.to_string()).map_err(|_| problem)?;
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| problem)?;
    Ok(since.as_secs())
}

/// The line that a file needs for a key.
///
/// # Errors
/// When the holder can't be one, or the system gives no randomness.
pub(crate) fn line(key: &ApiKey, holder: Holder) -> Result<String, Box<dyn std::error::Error>> {
    let (salt, hash) = key.hash()?.write();
    let line = Line {
        subject: holder.subject,
        scopes: holder.scopes,
        groups: holder.groups,
        attributes: holder.attributes,
        expires: holder.expires,
        salt,
        hash,
    };
    let id = key.id().to_string();
    line.clone().prove(&id, "")?;
    let mut text = format!("{id} = ");
    line.serialize(ValueSerializer::new(&mut text))?;
    Ok(text)
}

/// Adds a line to a file, which is made where there is none.
///
/// # Errors
/// When the file isn't one of keys, or can't be written: it is as it was then.
pub(crate) fn append(path: &Path, line: &str) -> Result<(), ApiKeyError> {
    let opened = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    let mut file = opened.map_err(SecretFileError::from)?;
    let text = secret_file::read_open(&mut file)?;
    parse(&text, "")?;
    let is_open = !text.is_empty() && !text.ends_with('\n');
    let start = if is_open { "\n" } else { "" };
    // In one write: whoever reads meanwhile finds all of it or nothing.
    let written = file.write_all(format!("{start}{line}\n").as_bytes());
    let written = written.and_then(|()| file.sync_all());
    Ok(written.map_err(SecretFileError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &str = "000102030405060708090a0b0c0d0e0f";
    const HASH: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn told(text: &str) -> String {
        let text = text.replace("SALT", SALT).replace("HASH", HASH);
        let outcome = parse(&text, "partners");
        let error = outcome.expect_err(&text).to_string();
        assert!(!error.contains(HASH), "{error}");
        error
    }

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let key = ApiKey::draw().expect("randomness");
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let holder = Holder {
            subject: "billing = \"x\" # \\".to_owned(),
            scopes: set(&["orders:read", "orders:write"]),
            groups: set(&["machines"]),
            attributes: BTreeMap::from([("tenant".to_owned(), set(&["a", "b"]))]),
            expires: Some("2030-01-31T12:00:00Z".parse().expect("a time")),
        };
        let line = line(&key, holder.clone()).expect("a line");
        assert!(!line.contains('\n'), "{line}");
        assert!(
            line.contains(", expires = 2030-01-31T12:00:00Z, salt = "),
            "{line}"
        );
        assert!(!line.contains(&key.reveal()[21..]), "{line}");
        let text = format!("# whose\n{line}\n\n");
        let keys = parse(&text, "partners").expect("a file of keys");
        let [kept] = keys.as_slice() else {
            panic!("{keys:?}")
        };
        assert_eq!((kept.id, kept.expires), (key.id(), Some(1_896_091_200)));
        let principal = kept.holder.as_ref();
        assert_eq!(principal.issuer, "partners");
        assert_eq!(principal.subject, holder.subject);
        assert_eq!(principal.scopes, holder.scopes);
        assert_eq!(principal.groups, holder.groups);
        assert_eq!(principal.attributes, holder.attributes);
        assert_eq!(principal.proven_by, ProvenBy::ApiKey);
    }

    #[test]
    fn what_is_no_key_is_told_with_its_line_or_id() {
        let good = "subject = \"a\", salt = \"SALT\", hash = \"HASH\"";
        let id = "4f1c9d2ab07e3355";
        for (text, words) in [
            (format!("# a\n{id} = {{ {good}"), "line 2: "),
            (
                format!("{id} = {{ {good} }}\n{id} = {{ {good} }}"),
                "line 2: duplicate key",
            ),
            (
                format!("{id} = {{ {good}, scope = \"a\" }}"),
                "line 1: unknown field `scope`",
            ),
            (
                format!("{id} = {{ subject = \"a\", hash = \"HASH\" }}"),
                "line 1: missing field `salt`",
            ),
            (
                format!("{id} = \"HASH\""),
                "line 1: something else stands where a table with subject",
            ),
            (
                format!("pck_{id}_HASH = {{ {good} }}"),
                "key \"pck_4f1c9d2ab07e3355\": its id isn't",
            ),
            (
                format!("4F1C9D2AB07E3355 = {{ {good} }}"),
                "key \"4F1C9D2AB07E3355\": its id isn't",
            ),
            (
                format!("{id} = {{ {} }}", good.replace("\"SALT\"", "\"00\"")),
                "its salt and hash aren't",
            ),
            (
                format!("{id} = {{ {} }}", good.replace("\"a\"", "\"\"")),
                "its subject is empty",
            ),
            (
                format!("{id} = {{ {} }}", good.replace("\"a\"", "\"a\\n\"")),
                "or has control characters",
            ),
            (
                format!("{id} = {{ {good}, scopes = [\"a b\"] }}"),
                "a scope of it is empty, or has spaces",
            ),
            (
                format!("{id} = {{ {good}, expires = 2030-01-31 }}"),
                "its expires is no time in UTC",
            ),
            (
                format!("{id} = {{ {good}, expires = 1969-12-31T23:59:59Z }}"),
                "its expires is no time in UTC",
            ),
        ] {
            let told = told(&text);
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
