//! Certificates and tokens of a run's own.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, jwk::Jwk};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType, date_time_ymd,
};
use serde_json::{Value, json};

use crate::{
    run::{RigError, Rigged},
    scratch::Scratch,
};

/// A certificate authority and one server certificate, as PEM files.
#[derive(Debug)]
pub struct Pki {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
}

impl Pki {
    /// Issues a server certificate for these names and addresses.
    ///
    /// # Errors
    /// When a key or certificate can't be made or written.
    pub fn issue(scratch: &Scratch, names: &[&str]) -> Rigged<Self> {
        Self::issue_named(scratch, names, ["ca.pem", "server.pem", "server.key"], None)
    }

    /// As [`Self::issue`], into files of these names: authority, certificate, key.
    ///
    /// # Errors
    /// When a key or certificate can't be made or written.
    pub fn issue_into(scratch: &Scratch, names: &[&str], files: [&str; 3]) -> Rigged<Self> {
        Self::issue_named(scratch, names, files, None)
    }

    /// A certificate, and its key, that names this URI, and an authority of its own.
    ///
    /// # Errors
    /// When a key or certificate can't be made or written.
    pub fn issue_uri(scratch: &Scratch, uri: &str, files: [&str; 3]) -> Rigged<Self> {
        Self::write(scratch, files, || {
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
            Ok(params)
        })
    }

    /// As [`Self::issue`], into files of these names, with a server certificate that ended in this
    /// year.
    ///
    /// # Errors
    /// When a key or certificate can't be made or written.
    pub fn issue_ended(
        scratch: &Scratch,
        names: &[&str],
        files: [&str; 3],
        year: i32,
    ) -> Rigged<Self> {
        Self::issue_named(scratch, names, files, Some(year))
    }

    /// SHA-256 of the server's public key, in base64, as browsers name keys.
    ///
    /// # Errors
    /// When its key can't be read.
    pub fn key_hash(&self) -> Rigged<String> {
        let pem = std::fs::read_to_string(&self.key)?;
        let key = KeyPair::from_pem(&pem).map_err(|error| RigError(format!("a key: {error}")))?;
        let hash = digest(&SHA256, &key.subject_public_key_info());
        Ok(STANDARD.encode(hash))
    }

    fn issue_named(
        scratch: &Scratch,
        names: &[&str],
        files: [&str; 3],
        ended: Option<i32>,
    ) -> Rigged<Self> {
        Self::write(scratch, files, || {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names)?;
            if let Some(year) = ended {
                params.not_before = date_time_ymd(year - 1, 1, 1);
                params.not_after = date_time_ymd(year, 1, 1);
            }
            Ok(params)
        })
    }

    fn write(
        scratch: &Scratch,
        files: [&str; 3],
        params: impl FnOnce() -> Result<CertificateParams, rcgen::Error>,
    ) -> Rigged<Self> {
        let make = || -> Result<(String, String, String), rcgen::Error> {
            let mut own = CertificateParams::default();
            own.distinguished_name
                .push(DnType::CommonName, "Portcullis test authority");
            own.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            own.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            let authority = CertifiedIssuer::self_signed(own, KeyPair::generate()?)?;
            let key = KeyPair::generate()?;
            let certificate = params()?.signed_by(&key, &authority)?;
            Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
        };
        let (ca, certificate, key) =
            make().map_err(|error| RigError(format!("certificates: {error}")))?;
        Ok(Self {
            ca: scratch.write(files[0], ca)?,
            certificate: scratch.write(files[1], certificate)?,
            key: scratch.write(files[2], key)?,
        })
    }
}

/// A private key that nobody's certificate is for, as PEM.
///
/// # Errors
/// When it can't be made.
pub fn stray_key() -> Rigged<String> {
    let key = KeyPair::generate().map_err(|error| RigError(format!("a key: {error}")))?;
    Ok(key.serialize_pem())
}

/// Issues ES256 tokens.
pub struct TokenIssuer {
    /// Value of `iss`.
    pub issuer: String,
    key: EncodingKey,
    key_id: String,
    jwk: Jwk,
    public_pem: String,
}

impl TokenIssuer {
    /// An issuer with a key of its own.
    ///
    /// # Errors
    /// When a key can't be made.
    pub fn new(issuer: &str, key_id: &str) -> Rigged<Self> {
        let failed = |error: String| RigError(format!("a token issuer: {error}"));
        let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let public_pem = key.public_key_pem();
        let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes())
            .map_err(|error| failed(error.to_string()))?;
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)
            .map_err(|error| failed(error.to_string()))?;
        jwk.common.key_id = Some(key_id.to_owned());
        Ok(Self {
            issuer: issuer.to_owned(),
            key,
            key_id: key_id.to_owned(),
            jwk,
            public_pem,
        })
    }

    /// Its public keys as a JWKS document.
    pub fn jwks(&self) -> String {
        json!({ "keys": [self.jwk] }).to_string()
    }

    /// The claims of a good token for this subject with these scopes.
    pub fn claims(&self, subject: &str, scopes: &str) -> Value {
        json!({
            "iss": self.issuer,
            "aud": "api",
            "sub": subject,
            "scope": scopes,
            "exp": unix_now() + 600,
        })
    }

    /// A good token for this subject with these scopes.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn token(&self, subject: &str, scopes: &str) -> Rigged<String> {
        self.sign(&self.claims(subject, scopes))
    }

    /// A token of any claims, signed well.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn sign(&self, claims: &Value) -> Rigged<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.key)
            .map_err(|error| RigError(format!("a token: {error}")))
    }

    /// A token of this very header and payload, signed well: for what no library would write.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn sign_text(&self, header: &str, payload: &str) -> Rigged<String> {
        sign_text(header, payload, &self.key, Algorithm::ES256)
    }

    /// Its public key as PEM, for programs that read no JWKS.
    pub fn public_key_pem(&self) -> &str {
        &self.public_pem
    }

    /// Its public key as JSON text.
    pub fn public_key(&self) -> String {
        json!(self.jwk).to_string()
    }
}

/// A token signed with a shared secret.
///
/// # Errors
/// When it can't be signed.
pub fn sign_with_secret(header: &str, payload: &str, secret: &[u8]) -> Rigged<String> {
    let key = EncodingKey::from_secret(secret);
    sign_text(header, payload, &key, Algorithm::HS256)
}

/// Header and payload, encoded and joined: what a signature is made over.
pub fn unsigned(header: &str, payload: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}", part(header), part(payload))
}

fn sign_text(
    header: &str,
    payload: &str,
    key: &EncodingKey,
    algorithm: Algorithm,
) -> Rigged<String> {
    let message = unsigned(header, payload);
    let signature = crypto::sign(message.as_bytes(), key, algorithm)
        .map_err(|error| RigError(format!("a signature: {error}")))?;
    Ok(format!("{message}.{signature}"))
}

/// Seconds since the epoch.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
