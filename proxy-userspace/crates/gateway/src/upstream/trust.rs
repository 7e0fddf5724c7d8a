//! How an upstream proves who it is, and this proxy to the upstream.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::tls::{TlsError, certificates, crypto_provider, invalid, roots_of};

/// A certificate that is shown to upstreams, and its key.
#[derive(Debug)]
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// Of two PEM files' contents.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| TlsError::NoKey)?;
        let signing = rustls::sign::CertifiedKey::from_der(
            chain.clone(),
            key.clone_key(),
            &crypto_provider(),
        );
        match signing {
            Ok(_) => Ok(Self { chain, key }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::KeyMismatch),
            Err(error) => Err(invalid(error)),
        }
    }
}

/// Whom an upstream's certificate has to be issued by.
#[derive(Clone, Copy, Debug)]
pub enum UpstreamRoots<'a> {
    /// Whom the system trusts.
    System,
    /// Those of a PEM file, and no others.
    Pem(&'a [u8]),
    /// Those of a PEM file, and it has to name this URI instead of a host (SPIFFE X.509-SVID, 4).
    Spiffe(&'a [u8], &'a str),
}

/// The client side of TLS towards an upstream: TLS 1.2 and 1.3, always verified.
///
/// # Errors
/// See [`TlsError`].
pub fn upstream_client(
    roots: UpstreamRoots<'_>,
    identity: Option<ClientIdentity>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(invalid)?;
    let builder = match roots {
        UpstreamRoots::System => builder.with_platform_verifier().map_err(invalid)?,
        UpstreamRoots::Pem(pem) => builder.with_root_certificates(roots_of(pem)?),
        UpstreamRoots::Spiffe(pem, id) => {
            let verifier = Arc::new(SpiffeVerifier {
                roots: roots_of(pem)?,
                id: id.to_owned(),
                provider: crypto_provider(),
            });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(ClientIdentity { chain, key }) => {
            builder.with_client_auth_cert(chain, key).map_err(invalid)
        }
    }
}

/// Chains to a root as the library does, and compares the URI in place of the host's name.
#[derive(Debug)]
struct SpiffeVerifier {
    roots: RootCertStore,
    id: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let certificate = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        // Just one, or it is nobody's (SPIFFE X.509-SVID, 2).
        let mut names = certificate.valid_uri_names();
        match (names.next(), names.next()) {
            (Some(name), None) if name == self.id => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
