//! Where an issuer's keys are: in a file, at a URL, or where the issuer's own metadata says.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;

use super::{
    json::{Json, Members, parse_object},
    keys::KeyError,
};
use crate::{
    address::AddressRule,
    fetch::{FetchBounds, FetchError, Fetched, Fetcher, Validators},
};

/// Where an issuer says where its keys are (OpenID Connect Discovery 1.0, 4).
const METADATA: &str = "/.well-known/openid-configuration";

/// Where the keys are.
#[derive(Debug)]
pub enum KeySource {
    /// A file, read again at every refresh.
    File(PathBuf),
    /// A file with a shared secret in it, which nobody but its owner may read.
    Secret(PathBuf),
    /// A URL, fetched again at every refresh.
    Url(Box<Fetcher>),
    /// Where the issuer says, asked again at every refresh.
    Discovery(Box<Discovery>),
}

/// A JWKS, and how long it says that it is good.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fresh: Option<Duration>,
}

impl KeySource {
    /// Whether a file with a secret is kept as one.
    ///
    /// # Errors
    /// [`KeyError::Read`], [`KeyError::Exposed`].
    pub fn judge(&self) -> Result<(), KeyError> {
        let Self::Secret(path) = self else {
            return Ok(());
        };
        let file = File::open(path).map_err(|source| KeyError::Read {
            path: path.clone(),
            source,
        })?;
        judge(path, &file)
    }

    pub(crate) fn origin(&self) -> String {
        match self {
            Self::File(path) | Self::Secret(path) => path.display().to_string(),
            Self::Url(fetcher) => fetcher.url(),
            Self::Discovery(discovery) => discovery.metadata.url(),
        }
    }

    pub(crate) async fn obtain(&self) -> Result<Document, KeyError> {
        match self {
            Self::File(path) => read(path, false),
            Self::Secret(path) => read(path, true),
            Self::Url(fetcher) => fetch(fetcher).await,
            Self::Discovery(discovery) => {
                let keys = discovery.find_keys().await?;
                fetch(&keys).await
            }
        }
    }
}

fn read(path: &Path, secret: bool) -> Result<Document, KeyError> {
    let failed = |source: io::Error| KeyError::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    if secret {
        judge(path, &file)?;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Document { bytes, fresh: None })
}

fn judge(path: &Path, file: &File) -> Result<(), KeyError> {
    let metadata = file.metadata().map_err(|source| KeyError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.to_path_buf(),
            mode,
        });
    }
    Ok(())
}

async fn fetch(fetcher: &Fetcher) -> Result<Document, KeyError> {
    match fetcher.get_if_changed(&Validators::default()).await? {
        Fetched::Document { bytes, fresh, .. } => Ok(Document {
            bytes: bytes.to_vec(),
            fresh,
        }),
        // A server that says so without having been asked.
        Fetched::Unchanged => Err(FetchError::Status(http::StatusCode::NOT_MODIFIED).into()),
    }
}

/// Keys that are found through the issuer's metadata.
#[derive(Debug)]
pub struct Discovery {
    issuer: String,
    metadata: Fetcher,
    tls: ClientConfig,
    rule: AddressRule,
    /// What it said last.
    known: ArcSwapOption<Members>,
}

impl Discovery {
    /// Of the issuer with this very `iss`, which is a URL; both steps trust what `tls` trusts and ask only
    /// where `rule` permits.
    ///
    /// # Errors
    /// As [`Fetcher::new`].
    pub fn new(issuer: &str, tls: ClientConfig, rule: AddressRule) -> Result<Self, FetchError> {
        let url = format!("{}{METADATA}", issuer.trim_end_matches('/'));
        Ok(Self {
            issuer: issuer.to_owned(),
            metadata: Fetcher::new(&url, tls.clone(), rule.clone(), FetchBounds::KEYS)?,
            tls,
            rule,
            known: ArcSwapOption::empty(),
        })
    }

    /// What the issuer said of itself when its keys were read last; `None` before that.
    pub(crate) fn known(&self) -> Option<Arc<Members>> {
        self.known.load_full()
    }

    /// Takes over what another one of the same issuer knows.
    pub(crate) fn take_over(&self, other: &Self) {
        self.known.store(other.known());
    }

    /// A fetcher for a URL that the metadata names, under the rules that hold for that.
    pub(crate) fn asking(&self, url: &str) -> Result<Fetcher, FetchError> {
        let (tls, rule) = (self.tls.clone(), self.rule.clone());
        Fetcher::new(url, tls, rule, FetchBounds::KEYS)
    }

    /// Metadata of somebody else would lead to somebody else's keys (section 4.3); its `jwks_uri` is as
    /// little to be trusted with an address as any URL.
    async fn find_keys(&self) -> Result<Fetcher, KeyError> {
        let document = self.metadata.get().await?;
        let metadata = parse_object(&document)
            .map_err(|error| KeyError::NotMetadata(format!("it is no JSON object: {error}")))?;
        match metadata.get("issuer") {
            Some(Json::Text(issuer)) if *issuer == self.issuer => {}
            Some(Json::Text(other)) => {
                return Err(KeyError::NotMetadata(format!("it is of issuer {other:?}")));
            }
            _ => return Err(KeyError::NotMetadata("it names no issuer".to_owned())),
        }
        let keys = metadata.get("jwks_uri").and_then(Json::text);
        let keys = keys.ok_or_else(|| KeyError::NotMetadata("it names no jwks_uri".to_owned()))?;
        let keys = self.asking(keys)?;
        self.known.store(Some(Arc::new(metadata)));
        Ok(keys)
    }
}
