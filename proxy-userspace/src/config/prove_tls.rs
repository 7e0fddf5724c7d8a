//! A listener's certificates as proven.

use std::{path::PathBuf, sync::Arc};

use gateway::{CertificateFiles, Certificates, ServerTls, TlsError, server_tls};
use toml::Spanned;

use super::{mistake::Prover, value::read_file, written};

/// A certificate's files as written, and under which keys.
struct Pair<'w> {
    place: String,
    certificate: &'w Spanned<PathBuf>,
    key: &'w Spanned<PathBuf>,
}

pub(super) fn tls(
    prover: &mut Prover<'_>,
    index: usize,
    listener: &written::Listener,
) -> Option<ServerTls> {
    let others = listener.certificates.iter().enumerate();
    let pairs: Vec<Pair<'_>> = std::iter::once(Pair {
        place: format!("listener[{index}]"),
        certificate: &listener.certificate,
        key: &listener.key,
    })
    .chain(others.map(|(other, written)| Pair {
        place: format!("listener[{index}].certificates[{other}]"),
        certificate: &written.certificate,
        key: &written.key,
    }))
    .collect();
    let read: Vec<_> = pairs.iter().map(|pair| read_pair(prover, pair)).collect();
    let read: Option<Vec<_>> = read.into_iter().collect();
    match Certificates::load(read?) {
        Ok(certificates) => server_tls(Arc::new(certificates))
            .map_err(|error| {
                let key = format!("listener[{index}].certificate");
                let span = listener.certificate.span();
                prover.reject(&key, span, error, "the system's TLS library refuses it");
            })
            .ok(),
        Err((at, error)) => {
            reject(prover, &pairs[at], &error);
            None
        }
    }
}

fn read_pair(
    prover: &mut Prover<'_>,
    pair: &Pair<'_>,
) -> Option<(CertificateFiles, Vec<u8>, Vec<u8>)> {
    let key = |name: &str| format!("{}.{name}", pair.place);
    let chain = read_file(prover, &key("certificate"), pair.certificate);
    let secret = read_file(prover, &key("key"), pair.key);
    let files = CertificateFiles {
        chain: pair.certificate.as_ref().clone(),
        key: pair.key.as_ref().clone(),
    };
    Some((files, chain?, secret?))
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
        TlsError::NoCertificate | TlsError::Invalid(_) => prover.reject(
            &key("certificate"),
            pair.certificate.span(),
            error,
            "it must hold the PEM certificate, then its chain",
        ),
    }
}
