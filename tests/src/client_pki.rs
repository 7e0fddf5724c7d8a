//! Certificates for clients: an authority, what it issues and what it revokes.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

use crate::{
    run::{RigError, Rigged},
    scratch::Scratch,
};

/// An authority for clients.
pub struct ClientPki {
    authority: CertifiedIssuer<'static, KeyPair>,
    /// Its certificate.
    pub ca: PathBuf,
}

/// A client's certificate and key, as PEM files.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Its SHA-256, as tokens that are bound to it have it (`x5t#S256`; RFC 8705, 3.1).
    pub thumbprint: String,
    serial: u64,
}

impl ClientCertificate {
    /// What curl needs to show it.
    pub fn curl_args(&self) -> [String; 4] {
        let path = |path: &PathBuf| path.display().to_string();
        [
            "--cert".to_owned(),
            path(&self.certificate),
            "--key".to_owned(),
            path(&self.key),
        ]
    }
}

impl ClientPki {
    /// An authority of this name.
    ///
    /// # Errors
    /// When it can't be made or written.
    pub fn new(scratch: &Scratch, name: &str) -> Rigged<Self> {
        let make = || {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            CertifiedIssuer::self_signed(params, KeyPair::generate()?)
        };
        let authority = make().map_err(told)?;
        let ca = scratch.write(&format!("{name}.pem"), authority.pem())?;
        Ok(Self { authority, ca })
    }

    /// Issues a certificate with this serial number.
    ///
    /// # Errors
    /// When it can't be made or written.
    pub fn issue(&self, scratch: &Scratch, name: &str, serial: u64) -> Rigged<ClientCertificate> {
        self.issue_named(scratch, name, serial, Vec::new())
    }

    /// As [`Self::issue`], with these alternative names.
    ///
    /// # Errors
    /// When it can't be made or written.
    pub fn issue_named(
        &self,
        scratch: &Scratch,
        name: &str,
        serial: u64,
        names: Vec<SanType>,
    ) -> Rigged<ClientCertificate> {
        let make = || -> Result<(String, String, String), rcgen::Error> {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names = names;
            params.serial_number = Some(SerialNumber::from(serial));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.authority)?;
            let thumbprint = digest(&SHA256, certificate.der());
            let thumbprint = URL_SAFE_NO_PAD.encode(thumbprint);
            Ok((certificate.pem(), key.serialize_pem(), thumbprint))
        };
        let (certificate, key, thumbprint) = make().map_err(told)?;
        Ok(ClientCertificate {
            thumbprint,
            certificate: scratch.write(&format!("{name}.pem"), certificate)?,
            key: scratch.write(&format!("{name}.key"), key)?,
            serial,
        })
    }

    /// The authority's revocation list of these, good until the start of a year.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn revocation_list(&self, revoked: &[&ClientCertificate], until: i32) -> Rigged<String> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|certificate| RevokedCertParams {
                    serial_number: SerialNumber::from(certificate.serial),
                    revocation_time: date_time_ymd(2021, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.authority).map_err(told)?;
        list.pem().map_err(told)
    }
}

fn told(error: rcgen::Error) -> RigError {
    RigError(format!("client certificates: {error}"))
}
