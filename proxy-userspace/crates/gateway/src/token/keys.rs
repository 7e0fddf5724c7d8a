//! An issuer's keys: JWKS (RFC 7517) by file or URL, kept current in the background.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, time};

use super::{
    json::{Json, parse_object},
    jwk::Jwk,
    signature::{Algorithm, Verifier},
};
use crate::fetch::{FetchError, Fetcher};

/// Least time between two refreshes that unknown key ids ask for, however many ask.
const REFRESH_GAP: Duration = Duration::from_secs(30);

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

/// Where the keys are.
#[derive(Debug)]
pub enum KeySource {
    /// A file, read again at every refresh.
    File(PathBuf),
    /// A URL, fetched again at every refresh.
    Url(Box<Fetcher>),
}

impl KeySource {
    fn origin(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(fetcher) => fetcher.url(),
        }
    }
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

/// The current keys of one issuer. The last good ones stay when a refresh fails.
#[derive(Debug)]
pub struct KeyStore {
    source: KeySource,
    algorithms: Vec<Algorithm>,
    keys: ArcSwap<KeySet>,
    wanted: Notify,
}

impl KeyStore {
    /// A store without keys until the first [`Self::refresh`].
    pub fn new(source: KeySource, algorithms: Vec<Algorithm>) -> Self {
        Self {
            source,
            algorithms,
            keys: ArcSwap::default(),
            wanted: Notify::new(),
        }
    }

    /// The keys in force.
    pub fn current(&self) -> Arc<KeySet> {
        self.keys.load_full()
    }

    /// Takes over the keys in force of another store with the same source, none where it had none yet.
    pub fn take_over(&self, other: &Self) -> bool {
        let same =
            self.source.origin() == other.source.origin() && self.algorithms == other.algorithms;
        if same {
            self.keys.store(other.current());
        }
        same
    }

    /// Reads the source and puts its keys in force.
    ///
    /// # Errors
    /// See [`KeyError`]; the keys in force stay.
    pub async fn refresh(&self) -> Result<usize, KeyError> {
        let bytes = match &self.source {
            KeySource::File(path) => std::fs::read(path).map_err(|source| KeyError::Read {
                path: path.clone(),
                source,
            })?,
            KeySource::Url(fetcher) => fetcher.get().await?.to_vec(),
        };
        let before = self.keys.load();
        if !before.is_empty() && before.document == bytes {
            // What was proven by them stays proven.
            return Ok(before.len());
        }
        let keys = KeySet::parse(&bytes, &self.algorithms)?;
        let count = keys.len();
        self.keys.store(Arc::new(keys));
        Ok(count)
    }

    /// Refreshes every `interval`, and when a token named a key that isn't there. Never ends.
    pub async fn keep_current(&self, issuer: &str, interval: Duration) {
        loop {
            // An outage at the start is mended soon, not after a whole interval.
            let pause = if self.current().is_empty() {
                REFRESH_GAP.min(interval)
            } else {
                interval
            };
            let asked_for = async {
                time::sleep(REFRESH_GAP.min(pause)).await;
                self.wanted.notified().await;
            };
            tokio::select! {
                () = time::sleep(pause) => {}
                () = asked_for => {}
            }
            match self.refresh().await {
                Ok(count) => tracing::debug!(issuer, count, "keys refreshed"),
                Err(error) => {
                    tracing::warn!(issuer, %error, "keys not refreshed; the last good ones stay");
                }
            }
        }
    }

    /// Notes that a token named an unknown key.
    pub(crate) fn ask_for_refresh(&self) {
        self.wanted.notify_one();
    }
}
