//! API keys: the file that they are in, kept current, and new ones for it.
//!
//! ```text
//! file  one line a key
//! ```

mod file;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use audit::Journal;
use gateway::{ApiKey, ApiKeyRules, ApiKeys, secret_file::SecretFileError};
use serde_json::json;

pub(crate) use file::ApiKeyError;
use file::{Holder, Stamp};

use crate::{cli, trail::note};

/// How often it is looked whether a file has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The keys of one file.
#[derive(Clone)]
pub(crate) struct KeyFile {
    pub(crate) keys: Arc<ApiKeys>,
    path: PathBuf,
    /// Taken before it was read.
    stamp: Stamp,
}

impl KeyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub(crate) fn load(path: &Path, rules: ApiKeyRules) -> Result<Self, ApiKeyError> {
        let stamp = file::stamp(path);
        let keys = file::read(path, &rules.name)?;
        let keys = ApiKeys::new(rules, keys).map_err(SecretFileError::from)?;
        Ok(Self {
            keys: Arc::new(keys),
            path: path.to_path_buf(),
            stamp,
        })
    }

    /// Name of the source.
    pub(crate) fn name(&self) -> &str {
        &self.keys.rules().name
    }

    /// The same with the keys of another file of its rules, which has its place so far: what those let in goes by
    /// them. `None` where the rules are others.
    pub(crate) fn in_place_of(&self, before: &Self) -> Option<Self> {
        let same = self.keys.rules() == before.keys.rules();
        same.then(|| Self {
            keys: Arc::clone(&before.keys),
            ..self.clone()
        })
    }

    /// Whether both say the same.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.path == other.path
            && self.keys.rules() == other.keys.rules()
            && self.keys.has_those_of(&other.keys)
    }

    /// Reads the file again when it changes; while it can't be read, the keys that were read last are good. Never
    /// ends.
    pub(crate) async fn keep_current(self, journal: Arc<Journal>) {
        let (name, path) = (self.name().to_owned(), self.path.clone());
        let mut seen = self.stamp.clone();
        let mut told = None;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let (at, issuer, before) = (path.clone(), name.clone(), seen.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let stamp = file::stamp(&at);
                let changed = stamp.is_none() || stamp != before;
                changed.then(|| (stamp, file::read(&at, &issuer)))
            });
            let Ok(Some((stamp, outcome))) = looked.await else {
                continue;
            };
            match outcome {
                Ok(keys) => {
                    let count = keys.len();
                    self.keys.exchange(keys);
                    (seen, told) = (stamp, None);
                    tracing::info!(source = name, count, "API keys read again");
                    note(
                        &journal,
                        "api_keys_read",
                        &format!("{name}: {count} in force"),
                    );
                }
                Err(error) => {
                    let problem = error.to_string();
                    if told.as_ref() != Some(&problem) {
                        tracing::error!(source = name, %error, "API KEYS NOT READ AGAIN: those read last stay good");
                        note(&journal, "api_keys_refused", &format!("{name}: {problem}"));
                    }
                    told = Some(problem);
                }
            }
        }
    }
}

pub(crate) fn act(order: cli::ApiKey) -> Result<ExitCode, Box<dyn Error>> {
    let cli::ApiKey::New(order) = order;
    make(order)
}

fn make(order: cli::NewApiKey) -> Result<ExitCode, Box<dyn Error>> {
    let mut attributes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in order.attributes {
        attributes.entry(name).or_default().insert(value);
    }
    let expires = order.ttl.map(|ttl| {
        let at = SystemTime::now()
            .checked_add(ttl)
            .ok_or("--ttl is too long")?;
        let at = humantime::format_rfc3339_seconds(at).to_string();
        at.parse().map_err(|_| "--ttl is too long")
    });
    let key = ApiKey::draw()?;
    let line = file::line(
        &key,
        Holder {
            subject: order.subject,
            scopes: order.scopes.split_whitespace().map(str::to_owned).collect(),
            groups: order.groups.into_iter().collect(),
            attributes,
            expires: expires.transpose()?,
        },
    )?;
    if let Some(path) = &order.file {
        file::append(path, &line).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let secret = key.reveal();
    let text = match (order.output.json, &order.file) {
        (true, _) => json!({"id": key.id().to_string(), "key": secret, "line": line}).to_string(),
        (false, Some(_)) => secret,
        (false, None) => format!("{secret}\n{line}"),
    };
    eprintln!("portcullis: the key is shown this once, and kept nowhere");
    writeln!(io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
