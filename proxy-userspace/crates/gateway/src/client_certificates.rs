//! Certificates that clients show: by whom they have to be issued, which are revoked, and for which hosts
//! one is needed.

use std::{fmt::Write as _, fs, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::digest::{SHA256, digest};
use policy::{CanonicalHost, Principal};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{
    certificate_identity::{CertificateFault, CertificateIdentity},
    stamp::FileStamp,
    tls::{TlsError, crypto_provider, roots_of},
};

/// How often it is looked whether files have changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Whether a client has to show one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateMode {
    /// Without a good one there is no connection.
    Required,
    /// One that is shown has to be good.
    Optional,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificateFiles {
    /// Whether one is needed.
    pub mode: ClientCertificateMode,
    /// PEM: whose certificates are good.
    pub ca: PathBuf,
    /// PEM: which of them are revoked. One of an issuer whose list isn't here is refused, and so are all
    /// once a list has run out.
    pub crls: Vec<PathBuf>,
}

/// Why it can't be had. The path is of the file that is to blame.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct ClientCertificateError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: TlsError,
}

/// Judges the certificates of clients; what it goes by is read again when its files change.
#[derive(Debug)]
pub struct ClientCertificates {
    files: ClientCertificateFiles,
    /// Whom they make, where that is said.
    identity: Option<CertificateIdentity>,
    verifier: ArcSwap<Arc<dyn ClientCertVerifier>>,
}

impl ClientCertificates {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`ClientCertificateError`]: a file that is missing or empty is one.
    pub fn load(files: ClientCertificateFiles) -> Result<Self, ClientCertificateError> {
        let verifier = read(&files)?;
        Ok(Self {
            verifier: ArcSwap::from_pointee(verifier),
            identity: None,
            files,
        })
    }

    /// With certificates that make somebody.
    #[must_use]
    pub fn identifying(mut self, identity: Option<CertificateIdentity>) -> Self {
        self.identity = identity;
        self
    }

    /// Whom what a client showed makes, and that these rules [take](Self::takes); nobody where it showed none, or
    /// certificates make nobody. Read once as long as these rules are in force.
    ///
    /// # Errors
    /// When it can't be read as somebody.
    pub(crate) fn principal(
        self: &Arc<Self>,
        shown: &Shown,
    ) -> Result<Option<Arc<Principal>>, CertificateFault> {
        let (Some(identity), Some(own)) = (&self.identity, shown.chain.first()) else {
            return Ok(None);
        };
        if let Some(read) = &*shown.read.load()
            && Arc::ptr_eq(&read.by, self)
        {
            return Ok(Some(Arc::clone(&read.principal)));
        }
        let principal = Arc::new(identity.principal(own)?);
        let by = Arc::clone(self);
        shown.read.store(Some(Arc::new(Read {
            by,
            principal: Arc::clone(&principal),
        })));
        Ok(Some(principal))
    }

    /// Reads the files again when they change, and tells what came of it; while one can't be read, what
    /// was read last stands. Never ends.
    pub async fn keep_current(self: Arc<Self>, tell: impl Fn(Result<(), ClientCertificateError>)) {
        let mut seen = None;
        let mut told = None;
        loop {
            let all = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                let stamps = all.stamps();
                (stamps, read(&all.files))
            });
            if let Ok((stamps, outcome)) = looked.await
                && seen.as_ref() != Some(&stamps)
            {
                let is_first = seen.is_none();
                let problem = outcome.as_ref().err().map(ToString::to_string);
                let outcome = outcome.map(|verifier| self.verifier.store(Arc::new(verifier)));
                if problem.is_none() {
                    seen = Some(stamps);
                }
                if problem.is_none() && !is_first || problem.is_some() && problem != told {
                    tell(outcome);
                }
                told = problem;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Whether what a client showed would be good now. Judged anew when what that goes by was read again, and
    /// remembered until then.
    pub(crate) fn takes(&self, shown: &Shown) -> bool {
        let now = self.verifier.load();
        let is_judged = |by: &Arc<_>| Arc::ptr_eq(by, &now);
        if shown.judged_by.load().as_ref().is_some_and(is_judged) {
            return true;
        }
        let takes = match shown.chain.split_first() {
            None => self.files.mode == ClientCertificateMode::Optional,
            Some((own, rest)) => now.verify_client_cert(own, rest, UnixTime::now()).is_ok(),
        };
        if takes {
            shown.judged_by.store(Some(Arc::clone(&now)));
        }
        takes
    }

    fn stamps(&self) -> Vec<Option<FileStamp>> {
        let files = self.files.crls.iter().chain([&self.files.ca]);
        files.map(|path| FileStamp::of(path)).collect()
    }

    fn current(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier.load())
    }
}

fn read(
    files: &ClientCertificateFiles,
) -> Result<Arc<dyn ClientCertVerifier>, ClientCertificateError> {
    let of = |path: &PathBuf| {
        let path = path.clone();
        move |why| ClientCertificateError { path, why }
    };
    let bytes = |path: &PathBuf| {
        fs::read(path)
            .map_err(|error| TlsError::Invalid(error.to_string()))
            .map_err(of(path))
    };
    let roots = roots_of(&bytes(&files.ca)?).map_err(of(&files.ca))?;
    let mut lists = Vec::new();
    for path in &files.crls {
        let pem = bytes(path)?;
        let before = lists.len();
        for list in CertificateRevocationListDer::pem_slice_iter(&pem) {
            let list = list.map_err(|error| TlsError::Invalid(error.to_string()));
            lists.push(list.map_err(of(path))?);
        }
        if lists.len() == before {
            return Err(of(path)(TlsError::NoRevocationList));
        }
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots.into(), crypto_provider());
    if !lists.is_empty() {
        builder = builder
            .with_crls(lists)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    if files.mode == ClientCertificateMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder
        .build()
        .map_err(|error| TlsError::Invalid(error.to_string()))
        .map_err(of(&files.ca))
}

impl ClientCertVerifier for ClientCertificates {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.files.mode == ClientCertificateMode::Required
    }

    /// None: they could not follow the files, and a client that has several certificates would keep the one
    /// back that is meant (RFC 8446, 4.2.4).
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current()
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}

/// What is asked of clients, by the host that they ask for.
#[derive(Clone, Debug, Default)]
pub struct ClientCertificateRules {
    /// For these hosts.
    pub hosts: Vec<(Vec<CanonicalHost>, Arc<ClientCertificates>)>,
    /// For all others; nothing is asked without.
    pub others: Option<Arc<ClientCertificates>>,
}

/// What a client showed when its connection was made.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Its certificate, then its chain; empty where it showed none.
    chain: Vec<CertificateDer<'static>>,
    /// SHA-256 of its certificate.
    thumbprint: Option<[u8; 32]>,
    /// By what it was last found to be good.
    judged_by: ArcSwapOption<Arc<dyn ClientCertVerifier>>,
    /// Whom it was last read as.
    read: ArcSwapOption<Read>,
}

/// Whom a certificate makes by some rules.
#[derive(Debug)]
struct Read {
    by: Arc<ClientCertificates>,
    principal: Arc<Principal>,
}

impl Shown {
    pub(crate) fn new(chain: Option<&[CertificateDer<'static>]>) -> Self {
        let chain = chain.unwrap_or_default();
        Self {
            thumbprint: chain.first().map(thumbprint),
            chain: chain.to_vec(),
            judged_by: ArcSwapOption::empty(),
            read: ArcSwapOption::empty(),
        }
    }

    /// SHA-256 of its certificate; `None` where it showed none.
    pub(crate) fn thumbprint(&self) -> Option<[u8; 32]> {
        self.thumbprint
    }
}

/// Why a connection may not carry a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientRuleFault {
    /// The host has another rule than the one that was asked for in TLS.
    #[error("host_of_other_client_certificates")]
    Other,
    /// What was shown, or not shown, was good when the connection was made, and isn't now.
    #[error("client_certificate_outdated")]
    Outdated,
}

/// Which of the rules a connection was made under: a request for a host with another one belongs to another
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuleIndex(Option<usize>);

impl ClientCertificateRules {
    /// The rule for a host.
    pub(crate) fn of(&self, host: Option<&str>) -> RuleIndex {
        if self.hosts.is_empty() {
            return RuleIndex(None);
        }
        let host = host.map(|host| host.trim_end_matches('.').to_ascii_lowercase());
        let named = |(hosts, _): &(Vec<CanonicalHost>, _)| {
            let same = |own: &CanonicalHost| Some(own.as_str()) == host.as_deref();
            hosts.iter().any(same)
        };
        RuleIndex(self.hosts.iter().position(named))
    }

    pub(crate) fn get(&self, rule: RuleIndex) -> Option<&Arc<ClientCertificates>> {
        match rule.0 {
            Some(index) => self.hosts.get(index).map(|(_, rule)| rule),
            None => self.others.as_ref(),
        }
    }

    /// All rules, the one for others last.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClientCertificates>> {
        let named = self.hosts.iter().map(|(_, rule)| rule);
        named.chain(&self.others)
    }
}

impl RuleIndex {
    /// Its place among `hosts`; the number of those for all others.
    pub(crate) fn place(self, hosts: usize) -> usize {
        self.0.unwrap_or(hosts)
    }
}

/// A certificate's SHA-256.
fn thumbprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut thumbprint = [0; 32];
    thumbprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    thumbprint
}

/// A certificate's SHA-256, in hexadecimal.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let hash = thumbprint(certificate);
    hash.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
