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
    staple::{Staple, StapleFault, must_be_stapled},
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
    /// DER: what its issuer says of it, to be stapled.
    pub ocsp: Option<PathBuf>,
}

/// What is in those.
#[derive(Clone, Debug)]
pub struct CertificateContents {
    /// Of the certificate and its chain.
    pub chain: Vec<u8>,
    /// Of the key.
    pub key: Vec<u8>,
    /// Of what is stapled.
    pub ocsp: Option<Vec<u8>>,
}

/// What became of files that changed, or of time that passed.
#[derive(Debug)]
pub enum CertificateNews {
    /// They were read again.
    Read,
    /// They weren't: what was read last serves on.
    Failed(TlsError),
    /// The certificate is as it should be, and what was to be stapled isn't.
    Unstapled(StapleFault),
    /// What was stapled has run out, and is stapled no more.
    StapleEnded,
}

/// A certificate that is shown.
#[derive(Clone, Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// Until when what is stapled is good, or was.
    stapled_until: Option<SystemTime>,
}

/// The certificates of one listener.
#[derive(Debug)]
pub struct Certificates {
    files: Vec<CertificateFiles>,
    /// In the order of the files.
    loaded: ArcSwap<Vec<Shown>>,
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
        files: Vec<(CertificateFiles, CertificateContents)>,
    ) -> Result<Self, (usize, TlsError)> {
        let mut loaded = Vec::new();
        for (index, (_, contents)) in files.iter().enumerate() {
            let (mut shown, staple) = Shown::read(contents).map_err(|error| (index, error))?;
            if let Some(staple) = staple {
                shown.staple(staple.map_err(|fault| (index, fault.into()))?);
            }
            loaded.push(shown);
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
            .filter_map(|(files, it)| Some((files.chain.display().to_string(), end(&it.key)?)));
        let issued = self.issued.iter().filter_map(|issued| {
            let key = issued.key()?;
            Some((issued.names().join(","), end(&key)?))
        });
        of_files.chain(issued).collect()
    }

    /// What each that has something stapled is called, and until when that is good.
    pub fn staple_ends(&self) -> Vec<(String, SystemTime)> {
        let loaded = self.loaded.load();
        let all = self.files.iter().zip(loaded.iter());
        all.filter_map(|(files, it)| Some((files.chain.display().to_string(), it.stapled_until?)))
            .collect()
    }

    /// The one for a client that asks for this name: the first that is good for it, or else the first.
    pub(crate) fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        let issued = self.issued.iter().filter_map(|issued| issued.key());
        let of_files = loaded.iter().map(|it| Arc::clone(&it.key));
        let mut all = of_files.chain(issued);
        let good = |name: &str| {
            let name = ServerName::try_from(name).ok()?;
            all.clone().find(|key| is_good_for(key, &name))
        };
        name.and_then(good).or_else(|| all.next())
    }

    /// Reads files again that have changed, and tells of each. Certificate and key have to fit before either
    /// counts; until then, and while one can't be read, the last good pair serves. A certificate doesn't
    /// wait for what is stapled to it, unless clients take it only with that. Never ends.
    pub async fn keep_current(self: Arc<Self>, tell: impl Fn(&CertificateFiles, CertificateNews)) {
        // Read once more at first: a file may have changed since it was loaded.
        let mut seen = vec![[None, None, None]; self.files.len()];
        let mut is_first = true;
        let mut told = vec![None; self.files.len()];
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            for index in self.take_off(SystemTime::now()) {
                tell(&self.files[index], CertificateNews::StapleEnded);
            }
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
                let Ok(news) = read.await else { continue };
                let problem = match &news {
                    CertificateNews::Failed(error) => Some(error.to_string()),
                    CertificateNews::Unstapled(fault) => Some(fault.to_string()),
                    CertificateNews::Read | CertificateNews::StapleEnded => None,
                };
                if problem.is_none() {
                    seen[index].clone_from(&stamps[index]);
                }
                // The same problem is told once, however long it lasts.
                if problem.is_none() && !is_first || problem.is_some() && problem != told[index] {
                    tell(&self.files[index], news);
                }
                told[index] = problem;
            }
            is_first = false;
        }
    }

    fn read_again(&self, index: usize) -> CertificateNews {
        let read = self.files[index].contents();
        let (mut fresh, staple) = match read.and_then(|contents| Shown::read(&contents)) {
            Ok(read) => read,
            Err(error) => return CertificateNews::Failed(error),
        };
        let before = self.loaded.load();
        let mut news = CertificateNews::Read;
        match staple {
            None => {}
            Some(Ok(staple)) => fresh.staple(staple),
            Some(Err(fault)) => {
                let own = |it: &Shown| it.key.cert.first().cloned();
                let same = own(&before[index]) == own(&fresh);
                let needed = own(&fresh).is_some_and(|it| must_be_stapled(&it));
                if same || needed {
                    return CertificateNews::Unstapled(fault);
                }
                news = CertificateNews::Unstapled(fault);
            }
        }
        let mut all = before.as_ref().clone();
        all[index] = fresh;
        self.loaded.store(Arc::new(all));
        news
    }

    /// Staples nothing any more that has run out. Which it was.
    fn take_off(&self, now: SystemTime) -> Vec<usize> {
        let mut all = self.loaded.load().as_ref().clone();
        let mut ended = Vec::new();
        for (index, it) in all.iter_mut().enumerate() {
            let is_over = it.stapled_until.is_some_and(|until| until <= now);
            if is_over && it.key.ocsp.is_some() {
                Arc::make_mut(&mut it.key).ocsp = None;
                ended.push(index);
            }
        }
        if !ended.is_empty() {
            self.loaded.store(Arc::new(all));
        }
        ended
    }

    /// Of all files of each.
    fn stamps(&self) -> Vec<[Option<FileStamp>; 3]> {
        let of = |files: &CertificateFiles| {
            let all = [Some(&files.chain), Some(&files.key), files.ocsp.as_ref()];
            all.map(|path| path.and_then(|path| FileStamp::of(path)))
        };
        self.files.iter().map(of).collect()
    }
}

impl CertificateFiles {
    /// What is in them. A response that can't be read is an empty one.
    fn contents(&self) -> Result<CertificateContents, TlsError> {
        let read = |path: &PathBuf| {
            fs::read(path)
                .map_err(|error| TlsError::Invalid(format!("{}: {error}", path.display())))
        };
        Ok(CertificateContents {
            chain: read(&self.chain)?,
            key: read(&self.key)?,
            ocsp: self
                .ocsp
                .as_ref()
                .map(|path| read(path).unwrap_or_default()),
        })
    }
}

impl Shown {
    /// A certificate with its key, and what is to be stapled to it.
    fn read(
        contents: &CertificateContents,
    ) -> Result<(Self, Option<Result<Staple, StapleFault>>), TlsError> {
        let key = certified(&contents.chain, &contents.key)?;
        let algorithms = crypto_provider().signature_verification_algorithms;
        let prove =
            |der: &Vec<u8>| Staple::prove(der.clone(), &key.cert, &algorithms, SystemTime::now());
        let staple = contents.ocsp.as_ref().map(prove);
        let shown = Self {
            key,
            stapled_until: None,
        };
        Ok((shown, staple))
    }

    fn staple(&mut self, staple: Staple) {
        Arc::make_mut(&mut self.key).ocsp = Some(staple.der);
        self.stapled_until = Some(staple.until);
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
