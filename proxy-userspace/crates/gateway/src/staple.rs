//! What is stapled to a certificate: its issuer's word that it isn't revoked (RFC 6960), proven before it is
//! shown to anybody. rustls staples whatever it is given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime},
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{
    asn1_rs::{Any, Class, FromDer as _, Oid, Tag, oid},
    certificate::X509Certificate,
    parse_x509_certificate,
};

/// `id-pkix-ocsp-basic` (RFC 6960, 4.2.1).
const BASIC: Oid<'static> = oid!(1.3.6.1.5.5.7.48.1.1);
/// `id-kp-OCSPSigning` (RFC 6960, 4.2.2.2), as it is in a certificate.
const OCSP_SIGNING: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 9];
/// `id-pe-tlsfeature` (RFC 7633), and the feature `status_request` as its value.
const TLS_FEATURE: Oid<'static> = oid!(1.3.6.1.5.5.7.1.24);
const STATUS_REQUEST: &[u8] = &[0x30, 3, 2, 1, 5];

/// Why a response is stapled to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StapleFault {
    /// There is nothing in the file, or no file.
    #[error("it is empty or can't be read")]
    Empty,
    /// It is no response, or not wholly.
    #[error("it is no OCSP response in DER ({0})")]
    Malformed(&'static str),
    /// The responder had nothing to say.
    #[error("the responder answered with an error (status {0})")]
    Unsuccessful(u32),
    /// The chain lacks who would have signed it.
    #[error(
        "the certificate's file lacks the issuer's certificate, which the response is judged by"
    )]
    NoIssuer,
    /// It is about other certificates.
    #[error("it is for another certificate than this one")]
    Stranger,
    /// Its signature isn't of the issuer, nor of whom the issuer has sign for it.
    #[error("it is not signed by the certificate's issuer: {0}")]
    Signature(String),
    /// It says that the certificate is revoked, or unknown.
    #[error("it says that the certificate is {0}")]
    NotGood(&'static str),
    /// It is of the future, by this clock.
    #[error("it is not good yet")]
    Early,
    /// It has run out.
    #[error("it has run out")]
    Late,
    /// It says nothing of when it runs out.
    #[error("it doesn't say when it runs out (nextUpdate)")]
    Endless,
}

/// A response that was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staple {
    pub(crate) der: Vec<u8>,
    pub(crate) until: SystemTime,
}

impl Staple {
    /// A response about the first certificate of a chain, good at this moment.
    pub(crate) fn prove(
        der: Vec<u8>,
        chain: &[CertificateDer<'_>],
        algorithms: &WebPkiSupportedAlgorithms,
        now: SystemTime,
    ) -> Result<Self, StapleFault> {
        if der.is_empty() {
            return Err(StapleFault::Empty);
        }
        let [own, issuer_der, ..] = chain else {
            return Err(StapleFault::NoIssuer);
        };
        let parsed = |der| {
            let parsed = parse_x509_certificate(der).map(|(_, parsed)| parsed);
            parsed.map_err(|_| StapleFault::NoIssuer)
        };
        let (own, issuer) = (parsed(own)?, parsed(issuer_der)?);
        let basic = basic_response(&der)?;
        let single = basic
            .singles
            .iter()
            .find(|single| single.is_about(&own, &issuer))
            .ok_or(StapleFault::Stranger)?;
        basic.is_signed_by(issuer_der, &issuer, algorithms, now)?;
        match single.status {
            Tag(0) => {}
            Tag(1) => return Err(StapleFault::NotGood("revoked")),
            _ => return Err(StapleFault::NotGood("unknown")),
        }
        let until = single.until.ok_or(StapleFault::Endless)?;
        if now < single.from {
            return Err(StapleFault::Early);
        }
        if until <= now {
            return Err(StapleFault::Late);
        }
        Ok(Self { der, until })
    }
}

/// Whether clients take a certificate only with a response stapled to it.
pub(crate) fn must_be_stapled(certificate: &CertificateDer<'_>) -> bool {
    parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| {
        let mut extensions = parsed.extensions().iter();
        extensions.any(|it| it.oid == TLS_FEATURE && it.value == STATUS_REQUEST)
    })
}

/// `BasicOCSPResponse`.
struct Basic<'d> {
    /// What is signed.
    signed: &'d [u8],
    singles: Vec<Single<'d>>,
    /// `AlgorithmIdentifier`, without the head of its SEQUENCE.
    algorithm: &'d [u8],
    signature: &'d [u8],
    /// Of who signed it, where that isn't the issuer itself.
    signers: Vec<CertificateDer<'d>>,
}

/// `SingleResponse`.
struct Single<'d> {
    hash: Oid<'d>,
    issuer_name: &'d [u8],
    issuer_key: &'d [u8],
    serial: &'d [u8],
    /// Which of `CertStatus` it is.
    status: Tag,
    from: SystemTime,
    until: Option<SystemTime>,
}

/// The elements of a SEQUENCE, one after the other.
struct Elements<'d>(&'d [u8]);

impl<'d> Elements<'d> {
    fn of(sequence: &Any<'d>) -> Result<Self, StapleFault> {
        let is_one = sequence.class() == Class::Universal && sequence.tag() == Tag::Sequence;
        is_one
            .then_some(Self(sequence.data))
            .ok_or(StapleFault::Malformed("no SEQUENCE where one belongs"))
    }

    /// The next element, and all of its bytes.
    fn next(&mut self) -> Result<(Any<'d>, &'d [u8]), StapleFault> {
        let whole = self.0;
        let (rest, any) =
            Any::from_der(whole).map_err(|_| StapleFault::Malformed("an element is missing"))?;
        self.0 = rest;
        Ok((any, &whole[..whole.len() - rest.len()]))
    }

    fn sequence(&mut self) -> Result<Self, StapleFault> {
        Self::of(&self.next()?.0)
    }

    /// What is under the tag `[number]`, if that is next.
    fn tagged(&mut self, number: u32) -> Result<Option<Self>, StapleFault> {
        let mut ahead = Self(self.0);
        if self.0.is_empty() {
            return Ok(None);
        }
        let (any, _) = ahead.next()?;
        if any.class() != Class::ContextSpecific || any.tag() != Tag(number) {
            return Ok(None);
        }
        self.0 = ahead.0;
        Ok(Some(Self(any.data)))
    }

    fn time(&mut self) -> Result<SystemTime, StapleFault> {
        let (any, _) = self.next()?;
        let time = any.generalizedtime().and_then(|time| time.utc_datetime());
        let seconds = time.ok().map(|time| time.unix_timestamp());
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
            .ok_or(StapleFault::Malformed("a time is none"))
    }

    fn bytes(&mut self, tag: Tag) -> Result<&'d [u8], StapleFault> {
        let (any, _) = self.next()?;
        let is_one = any.class() == Class::Universal && any.tag() == tag;
        is_one
            .then_some(any.data)
            .ok_or(StapleFault::Malformed("an element is of another kind"))
    }

    fn oid(&mut self) -> Result<Oid<'d>, StapleFault> {
        let oid = self.next()?.0.oid();
        oid.map_err(|_| StapleFault::Malformed("no name where one belongs"))
    }

    fn end(&self) -> Result<(), StapleFault> {
        let is_over = self.0.is_empty();
        is_over
            .then_some(())
            .ok_or(StapleFault::Malformed("there is more than belongs there"))
    }
}

/// RFC 6960, 4.2.1.
fn basic_response(der: &[u8]) -> Result<Basic<'_>, StapleFault> {
    let mut file = Elements(der);
    let mut response = file.sequence()?;
    file.end()?;
    let status = response.next()?.0.enumerated();
    match status.map(|status| status.0) {
        Ok(0) => {}
        Ok(other) => return Err(StapleFault::Unsuccessful(other)),
        Err(_) => return Err(StapleFault::Malformed("it has no status")),
    }
    let tagged = response.tagged(0)?;
    let mut tagged = tagged.ok_or(StapleFault::Malformed("there is nothing in it"))?;
    response.end()?;
    let mut bytes = tagged.sequence()?;
    if bytes.oid()? != BASIC {
        return Err(StapleFault::Malformed("it is of an unknown kind"));
    }
    let mut content = Elements(bytes.bytes(Tag::OctetString)?);
    let mut basic = content.sequence()?;
    content.end()?;
    let (data, signed) = basic.next()?;
    let algorithm = basic.sequence()?.0;
    // The first byte of a BIT STRING says how many bits of the last don't count: all do, in a signature.
    let signature = basic.bytes(Tag::BitString)?.strip_prefix(&[0]);
    let signature = signature.ok_or(StapleFault::Malformed("its signature is none"))?;
    let mut signers = Vec::new();
    if let Some(mut certificates) = basic.tagged(0)? {
        let mut certificates = certificates.sequence()?;
        while !certificates.0.is_empty() {
            signers.push(CertificateDer::from(certificates.next()?.1));
        }
    }
    basic.end()?;
    Ok(Basic {
        signed,
        singles: singles(Elements::of(&data)?)?,
        algorithm,
        signature,
        signers,
    })
}

fn singles(mut data: Elements<'_>) -> Result<Vec<Single<'_>>, StapleFault> {
    data.tagged(0)?;
    // Who signed it is seen by whose key fits.
    data.next()?;
    data.time()?;
    let mut responses = data.sequence()?;
    let mut singles = Vec::new();
    while !responses.0.is_empty() {
        let mut single = responses.sequence()?;
        let mut id = single.sequence()?;
        let mut hash = id.sequence()?;
        singles.push(Single {
            hash: hash.oid()?,
            issuer_name: id.bytes(Tag::OctetString)?,
            issuer_key: id.bytes(Tag::OctetString)?,
            serial: id.bytes(Tag::Integer)?,
            status: single.next()?.0.tag(),
            from: single.time()?,
            until: single
                .tagged(0)?
                .map(|mut until| until.time())
                .transpose()?,
        });
    }
    Ok(singles)
}

impl Single<'_> {
    fn is_about(&self, own: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
        let algorithm = match self.hash.to_id_string().as_str() {
            "1.3.14.3.2.26" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            "2.16.840.1.101.3.4.2.1" => &digest::SHA256,
            "2.16.840.1.101.3.4.2.2" => &digest::SHA384,
            "2.16.840.1.101.3.4.2.3" => &digest::SHA512,
            _ => return false,
        };
        let is_of = |hash: &[u8], of: &[u8]| digest::digest(algorithm, of).as_ref() == hash;
        self.serial == own.raw_serial()
            && is_of(self.issuer_name, issuer.subject().as_raw())
            && is_of(
                self.issuer_key,
                &issuer.public_key().subject_public_key.data,
            )
    }
}

impl Basic<'_> {
    /// By the issuer, or by one whom it issued a certificate for that (RFC 6960, 4.2.2.2).
    fn is_signed_by(
        &self,
        issuer_der: &CertificateDer<'_>,
        issuer: &X509Certificate<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
        now: SystemTime,
    ) -> Result<(), StapleFault> {
        if self.fits(issuer, algorithms) {
            return Ok(());
        }
        let failed = |what: &dyn std::fmt::Display| StapleFault::Signature(what.to_string());
        let anchor = anchor_from_trusted_cert(issuer_der).map_err(|error| failed(&error))?;
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(time);
        let mut why = failed(&"the key doesn't fit");
        for signer in &self.signers {
            let Ok((_, parsed)) = parse_x509_certificate(signer) else {
                continue;
            };
            if !self.fits(&parsed, algorithms) {
                continue;
            }
            let proven = EndEntityCert::try_from(signer).and_then(|certificate| {
                let usage = KeyUsage::required(OCSP_SIGNING);
                let anchors = std::slice::from_ref(&anchor);
                certificate
                    .verify_for_usage(algorithms.all, anchors, &[], time, usage, None, None)
                    .map(drop)
            });
            match proven {
                Ok(()) => return Ok(()),
                Err(error) => why = failed(&error),
            }
        }
        Err(why)
    }

    fn fits(&self, signer: &X509Certificate<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let key = signer.public_key();
        let of_key = Elements(key.raw)
            .sequence()
            .and_then(|mut it| it.sequence());
        let Ok(Elements(of_key)) = of_key else {
            return false;
        };
        let fits = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && algorithm.public_key_alg_id().as_ref() == of_key
                && algorithm
                    .verify_signature(&key.subject_public_key.data, self.signed, self.signature)
                    .is_ok()
        };
        algorithms.all.iter().any(fits)
    }
}
