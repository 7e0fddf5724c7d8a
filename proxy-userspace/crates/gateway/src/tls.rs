//! The server side of TLS, and whom the client side trusts.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// The server side of TLS for one listener.
pub type ServerTls = Arc<ServerConfig>;

/// Why TLS could not be set up. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM file holds no certificate.
    #[error("no certificate in it")]
    NoCertificate,
    /// The PEM file holds no private key.
    #[error("no private key in it")]
    NoKey,
    /// The private key belongs to another certificate.
    #[error("the private key doesn't belong to the certificate")]
    KeyMismatch,
    /// Anything else.
    #[error("{0}")]
    Invalid(String),
}

/// The one set of algorithms, passed explicitly wherever TLS is set up: TLS 1.3 and, of TLS 1.2,
/// forward-secret AEAD suites only (RFC 9325, 4.2).
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Server side with one certificate: TLS 1.2 and 1.3, ALPN h2 and http/1.1, no early data.
///
/// # Errors
/// See [`TlsError`].
pub fn server_tls(chain_pem: &[u8], key_pem: &[u8]) -> Result<ServerTls, TlsError> {
    let chain = certificates(chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| TlsError::NoKey)?;
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(invalid)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch,
            other => invalid(other),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate).map_err(invalid)?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Invalid(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(chain)
}

fn invalid(error: rustls::Error) -> TlsError {
    TlsError::Invalid(error.to_string())
}
