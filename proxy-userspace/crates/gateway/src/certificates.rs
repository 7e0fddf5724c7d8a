//! The certificates of one listener: told apart by the name a client asks for, read again when their files
//! change, and what hosts they are good for.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use policy::CanonicalHost;
use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    acme::{Issued, Pending},
    stamp::FileStamp,
    tls::{TlsError, certificates, crypto_provider},
    validity::Validity,
};

/// How often it is looked whether files have changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then its chain.
    pub chain: PathBuf,
    /// PEM: its private key, unencrypted.
    pub key: PathBuf,
}

/// The certificates of one listener.
#[derive(Debug)]
pub struct Certificates {
    files: Vec<CertificateFiles>,
    /// In the order of the files.
    loaded: ArcSwap<Vec<Arc<CertifiedKey>>>,
    /// Those that an authority issues.
    issued: Vec<Arc<Issued>>,
    /// What an authority is shown that checks a name; none where none does.
    pending: Option<Arc<Pending>>,
}

impl Certificates {
    /// Those of these files, which have these contents.
    ///
    /// # Errors
    /// The index of the first that is none, and why.
    pub fn load(
        files: Vec<(CertificateFiles, Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, (usize, TlsError)> {
        let mut loaded = Vec::new();
        for (index, (_, chain, key)) in files.iter().enumerate() {
            loaded.push(certified(chain, key).map_err(|error| (index, error))?);
        }
        Ok(Self {
            files: files.into_iter().map(|(files, ..)| files).collect(),
            loaded: ArcSwap::from_pointee(loaded),
            issued: Vec::new(),
            pending: None,
        })
    }

    /// With those that an authority issues besides, and what it is shown meanwhile.
    #[must_use]
    pub fn and_issued(mut self, issued: Vec<Arc<Issued>>, pending: Arc<Pending>) -> Self {
        self.pending = Some(pending).filter(|_| !issued.is_empty());
        self.issued = issued;
        self
    }

    /// What an authority is shown that checks a name.
    pub(crate) fn pending(&self) -> Option<&Arc<Pending>> {
        self.pending.as_ref()
    }

    /// What each is called, and until when it is good: by its file, or by the names that it is issued for.
    pub fn ends(&self) -> Vec<(String, SystemTime)> {
        let end = |key: &CertifiedKey| Some(Validity::of(key.end_entity_cert().ok()?)?.until);
        let loaded = self.loaded.load();
        let of_files = self
            .files
            .iter()
            .zip(loaded.iter())
            .filter_map(|(files, key)| Some((files.chain.display().to_string(), end(key)?)));
        let issued = self.issued.iter().filter_map(|issued| {
            let key = issued.key()?;
            Some((issued.names().join(","), end(&key)?))
        });
        of_files.chain(issued).collect()
    }

    /// The one for a client that asks for this name: the first that is good for it, or else the first.
    pub(crate) fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        let issued = self.issued.iter().filter_map(|issued| issued.key());
        let mut all = loaded.iter().cloned().chain(issued);
        let good = |name: &str| {
            let name = ServerName::try_from(name).ok()?;
            all.clone().find(|key| is_good_for(key, &name))
        };
        name.and_then(good).or_else(|| all.next())
    }

    /// Reads files again that have changed, and tells of each. Both files of a pair have to fit before
    /// either counts; until then, and while one can't be read, the last good pair serves. Never ends.
    pub async fn keep_current(
        self: Arc<Self>,
        tell: impl Fn(&CertificateFiles, Result<(), TlsError>),
    ) {
        // Read once more at first: a file may have changed since it was loaded.
        let mut seen = vec![[None, None]; self.files.len()];
        let mut is_first = true;
        let mut told = vec![None; self.files.len()];
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let all = Arc::clone(&self);
            let Ok(stamps) = tokio::task::spawn_blocking(move || all.stamps()).await else {
                continue;
            };
            for index in 0..self.files.len() {
                if stamps[index] == seen[index] {
                    continue;
                }
                let all = Arc::clone(&self);
                let read = tokio::task::spawn_blocking(move || all.read_again(index));
                let Ok(outcome) = read.await else { continue };
                let problem = outcome.as_ref().err().map(ToString::to_string);
                if problem.is_none() {
                    seen[index].clone_from(&stamps[index]);
                }
                // The same problem is told once, however long it lasts.
                if problem.is_none() && !is_first || problem.is_some() && problem != told[index] {
                    tell(&self.files[index], outcome);
                }
                told[index] = problem;
            }
            is_first = false;
        }
    }

    fn read_again(&self, index: usize) -> Result<(), TlsError> {
        let files = &self.files[index];
        let read = |path: &PathBuf| {
            fs::read(path)
                .map_err(|error| TlsError::Invalid(format!("{}: {error}", path.display())))
        };
        let fresh = certified(&read(&files.chain)?, &read(&files.key)?)?;
        let mut all = self.loaded.load().as_ref().clone();
        all[index] = fresh;
        self.loaded.store(Arc::new(all));
        Ok(())
    }

    /// Of chain and key of each.
    fn stamps(&self) -> Vec<[Option<FileStamp>; 2]> {
        let of = |files: &CertificateFiles| [&files.chain, &files.key].map(|it| FileStamp::of(it));
        self.files.iter().map(of).collect()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

/// Whether a certificate is good for the host of a request (RFC 9110, 7.4: 421 where it isn't).
pub(crate) fn covers(key: &CertifiedKey, host: &CanonicalHost) -> bool {
    let bare = host.as_str().trim_matches(['[', ']']);
    ServerName::try_from(bare).is_ok_and(|name| is_good_for(key, &name))
}

pub(crate) fn is_good_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// A certificate with its chain, and the key that belongs to it.
pub(crate) fn certified(chain_pem: &[u8], key_pem: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = certificates(chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| TlsError::NoKey)?;
    CertifiedKey::from_der(chain, key, &crypto_provider())
        .map(Arc::new)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch,
            other => TlsError::Invalid(other.to_string()),
        })
}
