//! Issuers as proven.

use std::{sync::Arc, time::Duration};

use gateway::{
    AddressRule, Algorithm, ClaimMap, FetchBounds, Fetcher, Issuer, IssuerRules, KeySet, KeySource,
    KeyStore, trust_anchors,
};
use toml::Spanned;

use super::{
    mistake::Prover,
    prove::IssuerConfig,
    value::{prove_duration, read_file, reject_repeated},
    written,
};
use crate::feed::parse_prefix;

/// Asymmetric algorithms (RFC 7518, RFC 8037). A shared secret would let every holder of it
/// issue tokens.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Widest leeway: more would make `exp` a suggestion.
const WIDEST_LEEWAY: Duration = Duration::from_secs(300);

pub(super) fn issuers(prover: &mut Prover<'_>, written: &[written::Issuer]) -> Vec<IssuerConfig> {
    reject_repeated(prover, "issuer", written.iter().map(|issuer| &issuer.name));
    reject_repeated(
        prover,
        "issuer",
        written.iter().map(|issuer| &issuer.issuer),
    );
    written
        .iter()
        .enumerate()
        .filter_map(|(index, issuer)| prove_issuer(prover, index, issuer))
        .collect()
}

fn prove_issuer(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written::Issuer,
) -> Option<IssuerConfig> {
    let key = |name: &str| format!("issuer[{index}].{name}");
    let algorithms = prove_algorithms(prover, &key("algorithms"), &written.algorithms);
    if written.audiences.as_ref().is_empty() {
        prover.reject(
            &key("audiences"),
            written.audiences.span(),
            "names no audience",
            "name the value of `aud` that tokens for this service carry",
        );
    }
    let leeway = prove_duration(
        prover,
        &key("leeway"),
        written.leeway.as_ref(),
        Duration::from_secs(30),
    );
    if let Some(span) = written.leeway.as_ref().map(Spanned::span)
        && leeway > WIDEST_LEEWAY
    {
        prover.reject(&key("leeway"), span, "is too wide", "use at most \"5m\"");
    }
    let refresh = prove_duration(
        prover,
        &key("jwks_refresh"),
        written.jwks_refresh.as_ref(),
        Duration::from_secs(300),
    );
    let source = prove_key_source(prover, index, written, &algorithms)?;
    let rules = IssuerRules {
        name: written.name.as_ref().clone(),
        issuer: written.issuer.as_ref().clone(),
        audiences: written.audiences.as_ref().iter().cloned().collect(),
        algorithms: algorithms.clone(),
        leeway,
        required: Vec::new(),
        claims: ClaimMap::default(),
    };
    Some(IssuerConfig {
        issuer: Arc::new(Issuer::new(rules, KeyStore::new(source, algorithms))),
        refresh,
    })
}

fn prove_algorithms(
    prover: &mut Prover<'_>,
    key: &str,
    written: &Spanned<Vec<String>>,
) -> Vec<Algorithm> {
    let known = ALGORITHMS.map(|(name, _)| name).join(", ");
    let mut proven = Vec::new();
    for name in written.as_ref() {
        match ALGORITHMS.iter().find(|(known, _)| known == name) {
            Some((_, algorithm)) => proven.push(*algorithm),
            None => prover.reject(
                key,
                written.span(),
                format!("{name:?} is not accepted"),
                format!("use some of {known}"),
            ),
        }
    }
    if written.as_ref().is_empty() {
        prover.reject(
            key,
            written.span(),
            "names no algorithm",
            format!("use some of {known}"),
        );
    }
    proven
}

fn prove_key_source(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written::Issuer,
    algorithms: &[Algorithm],
) -> Option<KeySource> {
    let key = |name: &str| format!("issuer[{index}].{name}");
    match (&written.jwks_file, &written.jwks_url) {
        (Some(path), None) => {
            let bytes = read_file(prover, &key("jwks_file"), path)?;
            if let Err(error) = KeySet::parse(&bytes, algorithms) {
                prover.reject(
                    &key("jwks_file"),
                    path.span(),
                    error,
                    "it must hold a JSON object {\"keys\": […]} with a public key for one of the algorithms",
                );
                return None;
            }
            Some(KeySource::File(path.as_ref().clone()))
        }
        (None, Some(url)) => {
            let ca = match &written.jwks_ca {
                Some(path) => Some(read_file(prover, &key("jwks_ca"), path)?),
                None => None,
            };
            let tls = trust_anchors(ca.as_deref())
                .map_err(|error| {
                    let span = written.jwks_ca.as_ref().map_or(url.span(), Spanned::span);
                    prover.reject(
                        &key("jwks_ca"),
                        span,
                        error,
                        "give a PEM file of certificates",
                    );
                })
                .ok()?;
            let rule = prove_addresses(prover, &key("jwks_allow_addresses"), written);
            Fetcher::new(url.as_ref(), tls, rule, FetchBounds::KEYS)
                .map_err(|error| {
                    let mend = "give an https:// URL, and in jwks_allow_addresses the ranges inside your network it may lead to";
                    prover.reject(&key("jwks_url"), url.span(), error, mend);
                })
                .ok()
                .map(|fetcher| KeySource::Url(Box::new(fetcher)))
        }
        _ => {
            prover.reject(
                &key("name"),
                written.name.span(),
                "has to have its keys from exactly one place",
                "give either jwks_file or jwks_url",
            );
            None
        }
    }
}

fn prove_addresses(prover: &mut Prover<'_>, key: &str, written: &written::Issuer) -> AddressRule {
    let mut rule = AddressRule::default();
    if let Some(ranges) = &written.jwks_allow_addresses {
        for range in ranges.as_ref() {
            match parse_prefix(range) {
                Ok(range) => rule.allowed.push(range),
                Err(problem) => prover.reject(
                    key,
                    ranges.span(),
                    format!("{range:?}: {problem}"),
                    "write ranges like \"10.1.2.0/24\"",
                ),
            }
        }
    }
    rule
}
