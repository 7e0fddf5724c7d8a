//! A listener's certificates as proven.

use std::{path::PathBuf, sync::Arc};

use gateway::{
    Alpn, CertificateContents, CertificateFiles, Certificates, Http3, ListenerLimits, ServerTls,
    Speaks, StapleFault, TlsError, server_tls,
};
use toml::Spanned;

use super::{mistake::Prover, prove_acme::Automatic, prove_clients, value::read_file, written};

/// A certificate's files as written, and under which keys.
struct Pair<'w> {
    place: String,
    certificate: &'w Spanned<PathBuf>,
    key: &'w Spanned<PathBuf>,
    ocsp: Option<&'w Spanned<PathBuf>>,
}

pub(super) fn tls(
    prover: &mut Prover<'_>,
    index: usize,
    listener: &written::Listener,
    automatic: &mut Automatic<'_>,
    alpn: Alpn,
) -> Option<ServerTls> {
    let issued = automatic.of_listener(prover, index, listener);
    let first = first_pair(prover, index, listener);
    let others = listener.certificates.iter().enumerate();
    let others = others.map(|(other, written)| Pair {
        place: format!("listener[{index}].certificates[{other}]"),
        certificate: &written.certificate,
        key: &written.key,
        ocsp: written.ocsp.as_ref(),
    });
    let pairs: Vec<Pair<'_>> = first?.into_iter().chain(others).collect();
    let read: Vec<_> = pairs.iter().map(|pair| read_pair(prover, pair)).collect();
    let read: Option<Vec<_>> = read.into_iter().collect();
    let rules = prove_clients::rules(prover, index, &listener.client_certificates);
    match Certificates::load(read?) {
        Ok(certificates) => {
            let certificates = certificates.and_issued(issued, automatic.pending());
            server_tls(Arc::new(certificates), rules?, alpn)
                .map_err(|error| {
                    let key = format!("listener[{index}].address");
                    let span = listener.address.span();
                    prover.reject(&key, span, error, "the system's TLS library refuses it");
                })
                .ok()
        }
        Err((at, error)) => {
            reject(prover, &pairs[at], &error);
            None
        }
    }
}

/// HTTP/3 beside it, where it is asked for and can be had.
pub(super) fn http3(
    prover: &mut Prover<'_>,
    index: usize,
    listener: &written::Listener,
    speaks: Option<&Speaks>,
    limits: &ListenerLimits,
) -> Option<Http3> {
    let asked = listener.http3.as_ref().filter(|asked| *asked.as_ref())?;
    let mut reject = |problem: String, mend: &str| {
        let key = format!("listener[{index}].http3");
        prover.reject(&key, asked.span(), problem, mend);
        None
    };
    if !listener.proxy_protocol.is_empty() {
        let problem = "a balancer that speaks the PROXY protocol can't introduce its connections";
        return reject(problem.to_owned(), "take one of the two out");
    }
    let Speaks::Http(tls) = speaks? else {
        let problem = "this listener carries no requests";
        return reject(
            problem.to_owned(),
            "take it out, or use protocol = \"https\"",
        );
    };
    match Http3::new(tls, limits) {
        Ok(http3) => Some(http3),
        Err(error) => reject(
            error.to_string(),
            "take it out, or use a program built with the feature, and [[listener.client_certificates]] without hosts",
        ),
    }
}

/// The listener's own pair; none where an authority issues its certificates.
fn first_pair<'w>(
    prover: &mut Prover<'_>,
    index: usize,
    listener: &'w written::Listener,
) -> Option<Option<Pair<'w>>> {
    let key = |name: &str| format!("listener[{index}].{name}");
    let mend = "give both, or [[listener.acme]] with names and challenge";
    if let (None, Some(ocsp)) = (&listener.certificate, &listener.ocsp) {
        let problem = "there is no certificate for it";
        let mend =
            "give certificate and key too, or take it out: what [[listener.acme]] brings has none";
        prover.reject(&key("ocsp"), ocsp.span(), problem, mend);
        return None;
    }
    match (&listener.certificate, &listener.key) {
        (Some(certificate), Some(secret)) => Some(Some(Pair {
            place: format!("listener[{index}]"),
            certificate,
            key: secret,
            ocsp: listener.ocsp.as_ref(),
        })),
        (None, None) if !listener.acme.is_empty() => Some(None),
        (None, None) => {
            let problem = "this listener has neither certificate and key nor [[listener.acme]]";
            prover.reject(&key("address"), listener.address.span(), problem, mend);
            None
        }
        (Some(certificate), None) => {
            let problem = "there is no key for it";
            prover.reject(&key("certificate"), certificate.span(), problem, mend);
            None
        }
        (None, Some(secret)) => {
            let problem = "there is no certificate for it";
            prover.reject(&key("key"), secret.span(), problem, mend);
            None
        }
    }
}

fn read_pair(
    prover: &mut Prover<'_>,
    pair: &Pair<'_>,
) -> Option<(CertificateFiles, CertificateContents)> {
    let key = |name: &str| format!("{}.{name}", pair.place);
    let chain = read_file(prover, &key("certificate"), pair.certificate);
    let secret = read_file(prover, &key("key"), pair.key);
    let ocsp = pair
        .ocsp
        .map(|path| read_file(prover, &key("ocsp"), path).ok_or(()))
        .transpose();
    let files = CertificateFiles {
        chain: pair.certificate.as_ref().clone(),
        key: pair.key.as_ref().clone(),
        ocsp: pair.ocsp.map(|path| path.as_ref().clone()),
    };
    let contents = CertificateContents {
        chain: chain?,
        key: secret?,
        ocsp: ocsp.ok()?,
    };
    Some((files, contents))
}

fn reject(prover: &mut Prover<'_>, pair: &Pair<'_>, error: &TlsError) {
    let key = |name: &str| format!("{}.{name}", pair.place);
    match error {
        TlsError::NoKey => prover.reject(
            &key("key"),
            pair.key.span(),
            error,
            "it must hold an unencrypted PEM private key (PKCS#8, PKCS#1 or SEC1)",
        ),
        TlsError::KeyMismatch => prover.reject(
            &key("key"),
            pair.key.span(),
            error,
            format!(
                "give the key that {} was issued for",
                pair.certificate.as_ref().display()
            ),
        ),
        TlsError::Staple(fault) => {
            let mend = match fault {
                StapleFault::NoIssuer => {
                    "put the issuer's certificate behind the certificate".to_owned()
                }
                _ => format!(
                    "fetch a fresh response for {} from its issuer, or take ocsp out",
                    pair.certificate.as_ref().display()
                ),
            };
            let span = pair.ocsp.map_or(pair.certificate.span(), Spanned::span);
            prover.reject(&key("ocsp"), span, error, mend);
        }
        _ => prover.reject(
            &key("certificate"),
            pair.certificate.span(),
            error,
            "it must hold the PEM certificate, then its chain",
        ),
    }
}
