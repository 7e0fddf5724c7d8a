//! What is asked of clients, as proven.

use std::sync::Arc;

use gateway::{
    ClientCertificateFiles, ClientCertificateMode, ClientCertificateRules, ClientCertificates,
};
use policy::CanonicalHost;
use toml::Spanned;

use super::{mistake::Prover, written};

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
