//! Issuers as proven.

use std::{ops::Range, path::PathBuf, sync::Arc, time::Duration};

use gateway::{
    AddressRule, Algorithm, ClientConfig, Discovery, FetchBounds, Fetcher, Introspector, Issuer,
    IssuerRules, KeySet, KeySource, KeyStore, KeyTimes, TokenLocation, trust_anchors,
};
use http::HeaderName;
use toml::Spanned;

use super::{
    mistake::Prover,
    prove_claims::{claim_map, required},
    prove_introspection::introspector,
    value::{prove_duration, read_file, reject_repeated},
    written_issuer,
};
use crate::feed::parse_prefix;

/// Fields that mean something else.
const TAKEN: [&str; 8] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "dpop",
    "host",
    "proxy-authorization",
    "transfer-encoding",
];

/// Widest leeway: more would make `exp` a suggestion.
const WIDEST_LEEWAY: Duration = Duration::from_secs(300);

/// Those that sign their tokens, and those that are asked about them.
#[derive(Default)]
pub(super) struct Proven {
    pub(super) issuers: Vec<Arc<Issuer>>,
    pub(super) introspectors: Vec<Arc<Introspector>>,
}

pub(super) fn issuers(prover: &mut Prover<'_>, written: &[written_issuer::Issuer]) -> Proven {
    reject_repeated(prover, "issuer", written.iter().map(|issuer| &issuer.name));
    let mut proven = Proven::default();
    for (index, issuer) in written.iter().enumerate() {
        // One that signs some of its tokens can be asked about others.
        let is_same = |other: &written_issuer::Issuer| {
            other.issuer.as_ref() == issuer.issuer.as_ref()
                && other.introspection.is_some() == issuer.introspection.is_some()
        };
        if written[..index].iter().any(is_same) {
            let problem = "another issuer has this already";
            let key = format!("issuer[{index}].issuer");
            prover.reject(&key, issuer.issuer.span(), problem, "write each once");
        }
        let rules = prove_rules(prover, index, issuer);
        match &issuer.introspection {
            None => proven
                .issuers
                .extend(prove_issuer(prover, index, issuer, rules)),
            Some(asked) => {
                let introspector = introspector(prover, index, issuer, asked, rules);
                proven.introspectors.extend(introspector);
            }
        }
    }
    proven
}

fn prove_issuer(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written_issuer::Issuer,
    mut rules: IssuerRules,
) -> Option<Arc<Issuer>> {
    let key = |name: &str| format!("issuer[{index}].{name}");
    let times = prove_times(prover, index, written);
    let Some(algorithms) = &written.algorithms else {
        let problem = "doesn't say by which algorithms its tokens are signed";
        let mend = "add algorithms, such as [\"ES256\"], or introspection";
        prover.reject(&key("name"), written.name.span(), problem, mend);
        return None;
    };
    let span = algorithms.span();
    let algorithms = prove_algorithms(prover, &key("algorithms"), algorithms);
    let source = prove_key_source(prover, index, written, (&algorithms, span))?;
    rules.algorithms.clone_from(&algorithms);
    let keys = KeyStore::new(source, algorithms, times);
    Some(Arc::new(Issuer::new(rules, keys)))
}

/// What tokens of any issuer must satisfy.
fn prove_rules(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written_issuer::Issuer,
) -> IssuerRules {
    let key = |name: &str| format!("issuer[{index}].{name}");
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
    let location = prove_location(prover, index, written);
    let claims = claim_map(prover, &key("claims"), &written.claims);
    let required = required(
        prover,
        &key("required_claims"),
        written.required_claims.as_ref(),
    );
    IssuerRules {
        name: written.name.as_ref().clone(),
        issuer: written.issuer.as_ref().clone(),
        audiences: written.audiences.as_ref().iter().cloned().collect(),
        algorithms: Vec::new(),
        leeway,
        required,
        claims,
        location,
        development: written.development,
    }
}

fn prove_times(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written_issuer::Issuer,
) -> KeyTimes {
    let mut prove = |name: &str, written: Option<&Spanned<String>>, default| {
        let key = format!("issuer[{index}].{name}");
        prove_duration(prover, &key, written, Duration::from_secs(default))
    };
    let refresh = prove("jwks_refresh", written.jwks_refresh.as_ref(), 300);
    let refetch = prove("jwks_refetch", written.jwks_refetch.as_ref(), 30);
    KeyTimes {
        refresh,
        refetch: refetch.min(refresh),
        outlive: prove("keys_outlive", written.keys_outlive.as_ref(), 24 * 3_600),
    }
}

fn prove_location(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written_issuer::Issuer,
) -> TokenLocation {
    let key = |name: &str| format!("issuer[{index}].{name}");
    match (&written.token_cookie, &written.token_header) {
        (None, None) => TokenLocation::Authorization,
        (Some(cookie), None) => {
            // A token of RFC 9110, 5.6.2, as the name of a cookie has to be (RFC 6265, 4.1.1).
            if HeaderName::from_bytes(cookie.as_ref().as_bytes()).is_err() {
                let mend = "use letters, digits, - and _, such as \"__Host-token\"";
                prover.reject(
                    &key("token_cookie"),
                    cookie.span(),
                    "is no name of a cookie",
                    mend,
                );
            }
            TokenLocation::Cookie(cookie.as_ref().clone())
        }
        (None, Some(header)) => own_field(header.as_ref()).map_or_else(
            || {
                let mend = "name one of its own, with - in place of _, such as \"x-access-token\"";
                let problem = "is no field that can carry a token";
                prover.reject(&key("token_header"), header.span(), problem, mend);
                TokenLocation::Authorization
            },
            TokenLocation::Header,
        ),
        (Some(_), Some(header)) => {
            let problem = "token_cookie says where tokens are already";
            let mend = "remove one of the two; a second issuer can have the other";
            prover.reject(&key("token_header"), header.span(), problem, mend);
            TokenLocation::Authorization
        }
    }
}

/// A field that means nothing else.
pub(super) fn own_field(written: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(written.to_ascii_lowercase().as_bytes()).ok()?;
    let is_free = !name.as_str().contains('_')
        && !TAKEN.contains(&name.as_str())
        && !name.as_str().starts_with("x-portcullis-");
    is_free.then_some(name)
}

pub(super) fn prove_algorithms(
    prover: &mut Prover<'_>,
    key: &str,
    written: &Spanned<Vec<String>>,
) -> Vec<Algorithm> {
    let known = Algorithm::ALL.map(Algorithm::name).join(", ");
    let mut proven = Vec::new();
    for name in written.as_ref() {
        match Algorithm::named(name) {
            Some(algorithm) => proven.push(algorithm),
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
    if proven.contains(&Algorithm::HS256) && proven.len() > 1 {
        let problem = "HS256 has to be alone: a public key must never be taken for a secret";
        prover.reject(key, written.span(), problem, "make two issuers of it");
    }
    proven
}

fn prove_key_source(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written_issuer::Issuer,
    (algorithms, span): (&[Algorithm], Range<usize>),
) -> Option<KeySource> {
    let key = |name: &str| format!("issuer[{index}].{name}");
    let discovery = written.discovery.as_ref().filter(|it| *it.as_ref());
    let is_secret = algorithms == [Algorithm::HS256];
    if is_secret && written.jwks_file.is_none() {
        let problem = "HS256 takes a shared secret, which is in no place for public keys";
        let mend = "give jwks_file, with mode 600 and a key {\"kty\": \"oct\", …} in it";
        prover.reject(&key("algorithms"), span, problem, mend);
        return None;
    }
    match (&written.jwks_file, &written.jwks_url, discovery) {
        (Some(path), None, None) => {
            let bytes = read_file(prover, &key("jwks_file"), path)?;
            let path = path.as_ref().clone();
            let source = if is_secret {
                KeySource::Secret(path)
            } else {
                KeySource::File(path)
            };
            let judged = source
                .judge()
                .and_then(|()| KeySet::parse(&bytes, algorithms));
            if let Err(error) = judged {
                let mend = "it must hold a JSON object {\"keys\": […]} with a key for one of the algorithms";
                let span = written.jwks_file.as_ref().map_or(0..0, Spanned::span);
                prover.reject(&key("jwks_file"), span, error, mend);
                return None;
            }
            Some(source)
        }
        (None, Some(url), None) => {
            let (tls, rule) = prove_fetching(prover, index, written, url.span())?;
            Fetcher::new(url.as_ref(), tls, rule, FetchBounds::KEYS)
                .map_err(|error| {
                    prover.reject(&key("jwks_url"), url.span(), error, REACH);
                })
                .ok()
                .map(|fetcher| KeySource::Url(Box::new(fetcher)))
        }
        (None, None, Some(found)) => {
            let (tls, rule) = prove_fetching(prover, index, written, found.span())?;
            Discovery::new(written.issuer.as_ref(), tls, rule)
                .map_err(|error| {
                    prover.reject(&key("issuer"), written.issuer.span(), error, REACH);
                })
                .ok()
                .map(|discovery| KeySource::Discovery(Box::new(discovery)))
        }
        _ => {
            prover.reject(
                &key("name"),
                written.name.span(),
                "has to have its keys from exactly one place",
                "give one of jwks_file, jwks_url, or discovery = true",
            );
            None
        }
    }
}

/// How to mend a URL that isn't asked.
const REACH: &str = "give an https:// URL, and in jwks_allow_addresses the ranges inside your network it may lead to";

fn prove_fetching(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written_issuer::Issuer,
    span: Range<usize>,
) -> Option<(ClientConfig, AddressRule)> {
    let key = |name: &str| format!("issuer[{index}].{name}");
    let reach = Reach {
        ca: (key("jwks_ca"), written.jwks_ca.as_ref()),
        allowed: (
            key("jwks_allow_addresses"),
            written.jwks_allow_addresses.as_ref(),
        ),
    };
    prove_reach(prover, &reach, span)
}

/// Whom of an issuer's servers is trusted, and where it may be, each with its key.
pub(super) struct Reach<'w> {
    pub(super) ca: (String, Option<&'w Spanned<PathBuf>>),
    pub(super) allowed: (String, Option<&'w Spanned<Vec<String>>>),
}

pub(super) fn prove_reach(
    prover: &mut Prover<'_>,
    reach: &Reach<'_>,
    span: Range<usize>,
) -> Option<(ClientConfig, AddressRule)> {
    let (key, path) = &reach.ca;
    let ca = match path {
        Some(path) => Some(read_file(prover, key, path)?),
        None => None,
    };
    let tls = trust_anchors(ca.as_deref())
        .map_err(|error| {
            let span = path.map_or(span, Spanned::span);
            prover.reject(key, span, error, "give a PEM file of certificates");
        })
        .ok()?;
    let mut rule = AddressRule::default();
    let (key, ranges) = &reach.allowed;
    if let Some(ranges) = ranges {
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
    Some((tls, rule))
}
