//! The server side of TLS, and whom the client side trusts.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    pki_types::{CertificateDer, pem::PemObject as _},
    server::{NoServerSessionStorage, ResolvesServerCert},
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::{
    acme::challenge_config,
    certificates::Certificates,
    client_certificates::{ClientCertificateRules, ClientCertificates, RuleIndex},
    staple::StapleFault,
};

/// The server side of TLS for one listener.
#[derive(Clone)]
pub struct ServerTls {
    /// One for each rule about client certificates, and the last for all other hosts.
    configs: Arc<[Arc<ServerConfig>]>,
    pub(crate) rules: Arc<ClientCertificateRules>,
    /// For an authority that checks a name; none where none does.
    pub(crate) challenge: Option<Arc<ServerConfig>>,
    pub(crate) certificates: Arc<Certificates>,
}

impl ServerTls {
    /// Its certificates.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// What is asked of clients.
    pub fn client_certificates(&self) -> &ClientCertificateRules {
        &self.rules
    }

    pub(crate) fn config(&self, rule: RuleIndex) -> Arc<ServerConfig> {
        Arc::clone(&self.configs[rule.place(self.rules.hosts.len())])
    }

    /// For QUIC, where all clients are asked the same.
    #[cfg(feature = "http3")]
    pub(crate) fn quic_config(&self) -> Result<ServerConfig, TlsError> {
        let mut config = server_config(&self.certificates, self.rules.others.as_ref(), Alpn::None)?;
        config.alpn_protocols = vec![b"h3".to_vec()];
        Ok(config)
    }

    /// Whether all clients are asked the same.
    pub(crate) fn asks_all_alike(&self) -> bool {
        self.rules.hosts.is_empty()
    }
}

/// Why TLS could not be set up. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM file holds no certificate.
    #[error("no certificate in it")]
    NoCertificate,
    /// The PEM file holds no private key.
    #[error("no private key in it")]
    NoKey,
    /// The PEM file holds no certificate revocation list.
    #[error("no revocation list in it")]
    NoRevocationList,
    /// The private key belongs to another certificate.
    #[error("the private key doesn't belong to the certificate")]
    KeyMismatch,
    /// See [`StapleFault`].
    #[error(transparent)]
    Staple(#[from] StapleFault),
    /// Anything else.
    #[error("{0}")]
    Invalid(String),
}

/// The one set of algorithms, passed explicitly wherever TLS is set up: TLS 1.3 and, of TLS 1.2,
/// forward-secret AEAD suites only (RFC 9325, 4.2).
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What a client may ask to speak in TLS (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `h2` and `http/1.1`.
    Http,
    /// Nothing is offered, and no client is refused for what it asks for.
    None,
}

/// Server side with these certificates: TLS 1.2 and 1.3, no early data, session
/// tickets under keys that change every six hours. Where certificates are asked of clients there are no
/// tickets: one that was revoked since would be good for as long as its ticket, and a ticket of one host
/// could be shown to another (CVE-2025-23419).
///
/// # Errors
/// See [`TlsError`].
pub fn server_tls(
    certificates: Arc<Certificates>,
    rules: ClientCertificateRules,
    alpn: Alpn,
) -> Result<ServerTls, TlsError> {
    let named = rules.hosts.iter().map(|(_, rule)| Some(rule));
    let configs = named
        .chain([rules.others.as_ref()])
        .map(|rule| server_config(&certificates, rule, alpn).map(Arc::new))
        .collect::<Result<_, _>>()?;
    Ok(ServerTls {
        configs,
        rules: Arc::new(rules),
        challenge: certificates
            .pending()
            .map(|pending| challenge_config(Arc::clone(pending)))
            .transpose()?,
        certificates,
    })
}

fn server_config(
    certificates: &Arc<Certificates>,
    rule: Option<&Arc<ClientCertificates>>,
    alpn: Alpn,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(invalid)?;
    let builder = match rule {
        None => builder.with_no_client_auth(),
        Some(rule) => builder.with_client_cert_verifier(Arc::clone(rule) as Arc<_>),
    };
    let resolver = Arc::clone(certificates) as Arc<dyn ResolvesServerCert>;
    let mut config = builder.with_cert_resolver(resolver);
    if alpn == Alpn::Http {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    // A client's own order may put a weaker suite first (RFC 9325, 4.2.1).
    config.ignore_client_order = true;
    if rule.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = Ticketer::new().map_err(invalid)?;
    }
    Ok(config)
}

/// Client side that trusts the certificates in a PEM file and no others, or what the system
/// trusts where there is no file.
///
/// # Errors
/// See [`TlsError`].
pub fn trust_anchors(ca_pem: Option<&[u8]>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(invalid)?;
    let Some(ca_pem) = ca_pem else {
        return Ok(builder
            .with_platform_verifier()
            .map_err(invalid)?
            .with_no_client_auth());
    };
    Ok(builder
        .with_root_certificates(roots_of(ca_pem)?)
        .with_no_client_auth())
}

/// The certificates of a PEM file as those to trust.
pub(crate) fn roots_of(ca_pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate).map_err(invalid)?;
    }
    Ok(roots)
}

pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Invalid(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(chain)
}

pub(crate) fn invalid(error: rustls::Error) -> TlsError {
    TlsError::Invalid(error.to_string())
}
