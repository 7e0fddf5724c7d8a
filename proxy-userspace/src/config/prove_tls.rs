//! A listener's certificates as proven.

use std::{path::PathBuf, sync::Arc};

use gateway::{
    CertificateFiles, Certificates, ClientCertificateFiles, ClientCertificateMode,
    ClientCertificateRules, ClientCertificates, ServerTls, TlsError, server_tls,
};
use policy::CanonicalHost;
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
    let rules = client_rules(prover, index, &listener.client_certificates);
    match Certificates::load(read?) {
        Ok(certificates) => server_tls(Arc::new(certificates), rules?)
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

/// What is asked of clients; `None` for a mistake.
fn client_rules(
    prover: &mut Prover<'_>,
    index: usize,
    written: &[Spanned<written::ClientCertificates>],
) -> Option<ClientCertificateRules> {
    let mut rules = ClientCertificateRules::default();
    let mut good = true;
    for (at, rule) in written.iter().enumerate() {
        let key = |name: &str| format!("listener[{index}].client_certificates[{at}].{name}");
        let (span, rule) = (rule.span(), rule.as_ref());
        let files = ClientCertificateFiles {
            mode: match rule.mode {
                written::ClientCertificateMode::Required => ClientCertificateMode::Required,
                written::ClientCertificateMode::Optional => ClientCertificateMode::Optional,
            },
            ca: rule.ca.as_ref().clone(),
            crls: rule.crls.iter().map(|path| path.as_ref().clone()).collect(),
        };
        let loaded = match ClientCertificates::load(files) {
            Ok(loaded) => Arc::new(loaded),
            Err(error) => {
                let of_list = rule.crls.iter().find(|path| *path.as_ref() == error.path);
                let (name, span, mend) = match of_list {
                    Some(path) => ("crls", path.span(), "give PEM files of revocation lists"),
                    None => ("ca", rule.ca.span(), "give a PEM file of certificates"),
                };
                prover.reject(&key(name), span, error.why, mend);
                good = false;
                continue;
            }
        };
        let Some(hosts) = &rule.hosts else {
            if rules.others.replace(loaded).is_some() {
                let problem = "another one is for all other hosts already";
                prover.reject(
                    &key("hosts"),
                    span,
                    problem,
                    "name the hosts that it is for",
                );
                good = false;
            }
            continue;
        };
        let mut named = Vec::new();
        for host in hosts.as_ref() {
            match CanonicalHost::parse(host.as_ref()) {
                Ok(host) if rules.hosts.iter().all(|(known, _)| !known.contains(&host)) => {
                    named.push(host);
                }
                Ok(_) => {
                    let problem = "another one is for this host already";
                    prover.reject(&key("hosts"), host.span(), problem, "name each host once");
                    good = false;
                }
                Err(error) => {
                    let mend = "write it like \"admin.example\"";
                    prover.reject(&key("hosts"), host.span(), error, mend);
                    good = false;
                }
            }
        }
        rules.hosts.push((named, loaded));
    }
    good.then_some(rules)
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
        _ => prover.reject(
            &key("certificate"),
            pair.certificate.span(),
            error,
            "it must hold the PEM certificate, then its chain",
        ),
    }
}
