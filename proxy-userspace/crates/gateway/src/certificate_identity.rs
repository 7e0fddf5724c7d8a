//! Who a client's certificate says that it is: a principal, or nobody where it can be read in two ways.

use std::collections::{BTreeMap, BTreeSet};

use policy::{CanonicalHost, Principal, ProvenBy};
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::distinguished_name::distinguished_name;

/// Longest SPIFFE ID in bytes (SPIFFE ID, 2.3), and longest trust domain in it (2.1).
const LONGEST_SPIFFE_ID: usize = 2_048;
const LONGEST_TRUST_DOMAIN: usize = 255;

/// What of a certificate is the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSubject {
    /// Its one URI, a SPIFFE ID (X.509-SVID, 2).
    SpiffeId,
    /// Its one DNS name, which is no wildcard.
    DnsName,
    /// Its one mail address.
    Email,
    /// Its subject, as RFC 4514 writes it.
    DistinguishedName,
}

/// Whom the certificates of some authorities make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// What routes, policy and audit records call these authorities.
    pub issuer: String,
    /// What the subject is read from.
    pub subject: CertificateSubject,
}

/// Why a certificate makes nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateFault {
    /// It has none of what the subject is read from.
    #[error("certificate_subject_missing")]
    Missing,
    /// It has several.
    #[error("certificate_subject_ambiguous")]
    Several,
    /// What it has is none, such as a URI that is no SPIFFE ID.
    #[error("certificate_subject_invalid")]
    Invalid,
}

impl CertificateIdentity {
    /// Whom a certificate, which has been verified, makes.
    ///
    /// # Errors
    /// See [`CertificateFault`].
    pub(crate) fn principal(
        &self,
        certificate: &CertificateDer<'_>,
    ) -> Result<Principal, CertificateFault> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| CertificateFault::Invalid)?;
        Ok(Principal {
            issuer: self.issuer.clone(),
            subject: self.subject.of(&certificate)?,
            scopes: BTreeSet::new(),
            groups: BTreeSet::new(),
            attributes: BTreeMap::new(),
            proven_by: ProvenBy::Certificate,
        })
    }
}

impl CertificateSubject {
    fn of(self, certificate: &X509Certificate<'_>) -> Result<String, CertificateFault> {
        match self {
            Self::SpiffeId => {
                let id = only(certificate, |name| match name {
                    GeneralName::URI(uri) => Some(*uri),
                    _ => None,
                })?;
                is_spiffe_id(id).then(|| id.to_owned())
            }
            Self::DnsName => {
                let name = only(certificate, |name| match name {
                    GeneralName::DNSName(name) => Some(*name),
                    _ => None,
                })?;
                let host = CanonicalHost::parse_authority(name).ok();
                host.filter(|(_, port)| port.is_none())
                    .map(|(host, _)| host.as_str().to_owned())
            }
            Self::Email => {
                let address = only(certificate, |name| match name {
                    GeneralName::RFC822Name(address) => Some(*address),
                    _ => None,
                })?;
                is_address(address).then(|| address.to_owned())
            }
            Self::DistinguishedName => {
                let name = distinguished_name(certificate.subject());
                let name = name.ok_or(CertificateFault::Invalid)?;
                if name.is_empty() {
                    return Err(CertificateFault::Missing);
                }
                Some(name)
            }
        }
        .ok_or(CertificateFault::Invalid)
    }
}

/// The only alternative name of a kind: of several, each would be as good a subject.
fn only<'c>(
    certificate: &'c X509Certificate<'_>,
    of_kind: impl Fn(&'c GeneralName<'c>) -> Option<&'c str>,
) -> Result<&'c str, CertificateFault> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| CertificateFault::Invalid)?;
    let names = names.ok_or(CertificateFault::Missing)?;
    let mut names = names.value.general_names.iter().filter_map(of_kind);
    let name = names.next().ok_or(CertificateFault::Missing)?;
    match names.next() {
        None => Ok(name),
        Some(_) => Err(CertificateFault::Several),
    }
}

/// SPIFFE ID, 2: a trust domain in lower case, then segments that are neither empty nor relative.
fn is_spiffe_id(id: &str) -> bool {
    let Some(rest) = id.strip_prefix("spiffe://") else {
        return false;
    };
    let mut parts = rest.split('/');
    let domain = parts.next().unwrap_or_default();
    let of_domain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let of_segment = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    id.len() <= LONGEST_SPIFFE_ID
        && (1..=LONGEST_TRUST_DOMAIN).contains(&domain.len())
        && domain.bytes().all(of_domain)
        && parts
            .all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(of_segment))
}

/// Something on both sides of one `@`, and nothing that isn't printed.
fn is_address(address: &str) -> bool {
    let sides = address.split_once('@');
    let is_side = |side: &str| !side.is_empty() && !side.contains('@');
    sides.is_some_and(|(local, domain)| is_side(local) && is_side(domain))
        && address.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn made(subject: CertificateSubject, names: Vec<SanType>) -> Result<String, CertificateFault> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let identity = CertificateIdentity {
            issuer: "mesh".to_owned(),
            subject,
        };
        let principal = identity.principal(certificate.der())?;
        assert_eq!(principal.issuer, "mesh");
        assert_eq!(principal.proven_by, ProvenBy::Certificate);
        Ok(principal.subject)
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().expect("ASCII"))
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().expect("ASCII"))
    }

    fn email(text: &str) -> SanType {
        SanType::Rfc822Name(text.try_into().expect("ASCII"))
    }

    #[test]
    fn the_subject_is_the_one_name_of_its_kind() {
        use CertificateSubject::{DistinguishedName, DnsName, Email, SpiffeId};
        let id = "spiffe://example.org/ns/shop/sa/orders";
        let all = || vec![uri(id), dns("Orders.EXAMPLE"), email("orders@shop.example")];
        assert_eq!(made(SpiffeId, all()), Ok(id.to_owned()));
        assert_eq!(made(DnsName, all()), Ok("orders.example".to_owned()));
        assert_eq!(made(Email, all()), Ok("orders@shop.example".to_owned()));
        assert_eq!(made(DistinguishedName, all()), Ok("CN=alice".to_owned()));
        for subject in [SpiffeId, DnsName, Email] {
            assert_eq!(made(subject, Vec::new()), Err(CertificateFault::Missing));
        }
        for (subject, names) in [
            (SpiffeId, vec![uri(id), uri("https://a.example")]),
            (DnsName, vec![dns("a.example"), dns("b.example")]),
            (Email, vec![email("a@a.example"), email("b@a.example")]),
        ] {
            assert_eq!(made(subject, names), Err(CertificateFault::Several));
        }
        for (subject, name) in [
            (SpiffeId, uri("https://example.org/orders")),
            (DnsName, dns("*.example")),
            (DnsName, dns("a.example:443")),
            (Email, email("nobody")),
            (Email, email("a b@c.example")),
        ] {
            let told = made(subject, vec![name]);
            assert_eq!(told, Err(CertificateFault::Invalid), "{subject:?}");
        }
    }

    #[test]
    fn a_spiffe_id_has_one_spelling() {
        for id in ["spiffe://a", "spiffe://a.b-c_d/x", "spiffe://a/x/Y.z"] {
            assert!(is_spiffe_id(id), "{id}");
        }
        let long = format!("spiffe://{}", "a".repeat(256));
        for id in [
            "spiffe://",
            "spiffe:///x",
            "SPIFFE://a",
            "spiffe://A/x",
            "spiffe://a/",
            "spiffe://a//x",
            "spiffe://a/./x",
            "spiffe://a/../x",
            "spiffe://a/%78",
            "spiffe://a/x?y",
            "spiffe://a/x#y",
            "spiffe://a:1/x",
            "spiffe://u@a/x",
            "https://a/x",
            &long,
        ] {
            assert!(!is_spiffe_id(id), "{id}");
        }
    }
}
