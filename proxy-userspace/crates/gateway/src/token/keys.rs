//! An issuer's keys as it publishes them: a JWKS (RFC 7517, 5).

use std::{collections::BTreeSet, path::PathBuf};

use super::{
    json::{Json, parse_object},
    jwk::Jwk,
    signature::{Algorithm, Verifier},
};
use crate::fetch::FetchError;

/// Why keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file with a secret in it that others than its owner can read.
    #[error("{} holds a shared secret, and its mode {mode:03o} lets others read it: chmod 600 it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not the issuer's metadata.
    #[error("not the metadata of the issuer: {0}")]
    NotMetadata(String),
    /// The URL could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Not a JWKS.
    #[error("not a JSON Web Key Set: {0}")]
    NotJwks(String),
    /// Two keys with one id: which verifies would be chance.
    #[error("two keys with the id {0:?}")]
    RepeatedId(String),
    /// No key in it can verify any of the configured algorithms.
    #[error("no usable key in it: {}", if .0.is_empty() { "it is empty".to_owned() } else { .0.join("; ") })]
    NoUsableKey(Vec<String>),
}

/// Keys that can verify.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Jwk>,
    /// The document that they are from.
    document: Vec<u8>,
}

impl KeySet {
    /// Parses a JWKS and keeps the keys that verify one of `algorithms`.
    ///
    /// # Errors
    /// [`KeyError::NotJwks`], [`KeyError::RepeatedId`], [`KeyError::NoUsableKey`].
    pub fn parse(jwks: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        let set = parse_object(jwks).map_err(|error| KeyError::NotJwks(error.to_string()))?;
        let Some(Json::List(listed)) = set.get("keys") else {
            return Err(KeyError::NotJwks("it has no list of keys".to_owned()));
        };
        let mut keys: Vec<Jwk> = Vec::new();
        let mut ids = BTreeSet::new();
        let mut unusable = Vec::new();
        for jwk in listed {
            let jwk = jwk
                .members()
                .ok_or_else(|| KeyError::NotJwks("a key is no object".to_owned()))?;
            let id = jwk.get("kid").and_then(Json::text);
            if let Some(id) = id
                && !ids.insert(id)
            {
                return Err(KeyError::RepeatedId(id.to_owned()));
            }
            match Jwk::parse(jwk, algorithms) {
                Ok(key) => keys.push(key),
                Err(why) => {
                    let id = id.unwrap_or("without id");
                    unusable.push(format!("key {id}: {why}"));
                }
            }
        }
        if keys.is_empty() {
            return Err(KeyError::NoUsableKey(unusable));
        }
        Ok(Self {
            keys,
            document: jwks.to_vec(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key of both is the same, whatever its id (RFC 7638).
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        let has = |thumbprint| other.keys.iter().any(|key| key.thumbprint() == thumbprint);
        self.keys.iter().any(|key| has(key.thumbprint()))
    }

    /// Whether they are from this very document.
    pub(crate) fn is_of(&self, document: &[u8]) -> bool {
        self.document == document
    }

    /// Whether one has this id.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// The key for a token's header, with its id. A token without key id is verified only where there is
    /// just one key to choose from.
    pub(crate) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<(Option<&str>, &Verifier)> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| id.is_none() || key.id.as_deref() == id)
            .filter_map(|key| {
                let mut verifiers = key.verifiers.iter();
                let (_, verifier) = verifiers.find(|(it, _)| *it == algorithm)?;
                Some((key.id.as_deref(), verifier))
            });
        let found = fitting.next()?;
        (id.is_some() || fitting.next().is_none()).then_some(found)
    }
}
