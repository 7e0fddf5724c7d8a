//! What is asked of clients, as proven.

use std::{path::Path, sync::Arc};

use gateway::{
    CertificateIdentity, CertificateSubject, ClientCertificateFiles, ClientCertificateMode,
    ClientCertificateRules, ClientCertificates,
};
use policy::CanonicalHost;
use toml::Spanned;

use super::{mistake::Prover, written, written_holder::CertificateSubject as Written};

/// Whom certificates make.
fn identity(
    prover: &mut Prover<'_>,
    key: &dyn Fn(&str) -> String,
    rule: &written::ClientCertificates,
) -> Option<CertificateIdentity> {
    match (&rule.issuer, &rule.subject) {
        (None, None) => None,
        (Some(issuer), Some(subject)) => Some(CertificateIdentity {
            issuer: issuer.as_ref().clone(),
            subject: match subject.as_ref() {
                Written::Spiffe => CertificateSubject::SpiffeId,
                Written::Dns => CertificateSubject::DnsName,
                Written::Email => CertificateSubject::Email,
                Written::Dn => CertificateSubject::DistinguishedName,
            },
        }),
        (Some(issuer), None) => {
            let problem = "says who vouches, and not for whom";
            let mend = "add subject = \"spiffe\", \"dns\", \"email\" or \"dn\"";
            prover.reject(&key("issuer"), issuer.span(), problem, mend);
            None
        }
        (None, Some(subject)) => {
            let problem = "says for whom, and not who vouches";
            let mend = "add issuer = \"…\", the name by which routes accept them";
            prover.reject(&key("subject"), subject.span(), problem, mend);
            None
        }
    }
}

/// Names of issuers mean one thing each: what issues tokens is none of certificates, and certificates of one name
/// are issued by the same authorities.
pub(super) fn names(prover: &mut Prover<'_>, written: &written::Written) {
    let mut known: Vec<(&str, &Path)> = Vec::new();
    for (index, listener) in written.listener.iter().enumerate() {
        for (at, rule) in listener.client_certificates.iter().enumerate() {
            let rule = rule.as_ref();
            let Some(issuer) = &rule.issuer else {
                continue;
            };
            let key = format!("listener[{index}].client_certificates[{at}].issuer");
            let (name, ca) = (issuer.as_ref().as_str(), rule.ca.as_ref().as_path());
            let of_tokens = written.issuer.iter().map(|it| &it.name);
            let of_keys = written.api_keys.iter().map(|it| &it.name);
            let is_it = |it: &Spanned<String>| it.as_ref() == name;
            for (is_taken, problem) in [
                (
                    of_tokens.into_iter().any(is_it),
                    "an [[issuer]] of tokens has this name",
                ),
                (
                    of_keys.into_iter().any(is_it),
                    "an [[api_keys]] has this name",
                ),
            ] {
                if is_taken {
                    prover.reject(&key, issuer.span(), problem, "give it one of its own");
                }
            }
            if known.iter().any(|(it, of)| *it == name && *of != ca) {
                let problem = "others have this name, with another ca";
                let mend = "give it one of its own, or the same ca";
                prover.reject(&key, issuer.span(), problem, mend);
            }
            known.push((name, ca));
        }
    }
}

/// What is asked of clients; `None` for a mistake.
pub(super) fn rules(
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
            Ok(loaded) => Arc::new(loaded.identifying(identity(prover, &key, rule))),
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
        if hosts.as_ref().is_empty() {
            let mend = "name them, or remove it where all hosts are meant";
            prover.reject(&key("hosts"), hosts.span(), "names no host", mend);
            good = false;
        }
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
