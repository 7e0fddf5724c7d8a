//! TLS-ALPN-01 (RFC 8737): an authority connects, offers the one protocol `acme-tls/1`, is shown a
//! certificate that proves that its question was understood, and is done.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::pending::Pending;
use crate::tls::{TlsError, crypto_provider, invalid};

/// The protocol's name (RFC 8737, 6.2).
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Whether a client offers this protocol and no other (RFC 8737, 3).
pub(crate) fn is_check(hello: &ClientHello<'_>) -> bool {
    let Some(mut offered) = hello.alpn() else {
        return false;
    };
    offered.next() == Some(PROTOCOL) && offered.next().is_none()
}

/// TLS for those handshakes alone. Nothing of them can be resumed: what was shown there says nothing about
/// a later connection.
pub(crate) fn challenge_config(pending: Arc<Pending>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(invalid)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OfPending(pending)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct OfPending(Arc<Pending>);

impl ResolvesServerCert for OfPending {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.certificate(hello.server_name()?)
    }
}

/// The certificate that an authority wants to see for `name`: self-signed, with the SHA-256 digest of the
/// key authorisation in a critical extension (RFC 8737, 3).
pub(super) fn challenge_certificate(
    name: &str,
    digest: &[u8],
) -> Result<Arc<CertifiedKey>, TlsError> {
    let failed = |error: rcgen::Error| TlsError::Invalid(error.to_string());
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = crypto_provider()
        .key_provider
        .load_private_key(der)
        .map_err(invalid)?;
    let chain = vec![certificate.der().clone()];
    // Not `from_der`, which reads the certificate and refuses a critical extension that it doesn't know.
    Ok(Arc::new(CertifiedKey::new(chain, signing)))
}
