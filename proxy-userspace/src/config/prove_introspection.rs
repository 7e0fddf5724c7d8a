//! Issuers that are asked about their tokens, as proven.

use std::{sync::Arc, time::Duration};

use gateway::{
    FetchBounds, Fetcher, IntrospectionClient, IntrospectionRules, Introspector, IssuerRules,
    secret_file,
};
use toml::Spanned;

use super::{
    mistake::Prover,
    prove_issuers::{Reach, prove_reach},
    value::{in_range, prove_duration},
    written_issuer::{self, Introspection},
};

/// Longest time for which a token may be believed to be good: that is how late a revocation may be.
const LONGEST_CACHE: Duration = Duration::from_secs(300);
/// Longest wait for an answer: a request waits for as long.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How to mend a URL that isn't asked.
const REACH: &str = "give an https:// URL, and in introspection.allow_addresses the ranges inside your network it may lead to";

pub(super) fn introspector(
    prover: &mut Prover<'_>,
    index: usize,
    issuer: &written_issuer::Issuer,
    written: &Introspection,
    rules: IssuerRules,
) -> Option<Arc<Introspector>> {
    let key = |name: &str| format!("issuer[{index}].introspection.{name}");
    refuse_what_is_of_keys(prover, index, issuer);
    let how = prove_rules(prover, &key, written);
    let secret = prove_secret(prover, &key("client_secret_file"), written);
    if written.client_id.as_ref().is_empty() {
        let mend = "name the client that the issuer knows this proxy as";
        let span = written.client_id.span();
        prover.reject(&key("client_id"), span, "is empty", mend);
    }
    let reach = Reach {
        ca: (key("ca"), written.ca.as_ref()),
        allowed: (key("allow_addresses"), written.allow_addresses.as_ref()),
    };
    let (tls, rule) = prove_reach(prover, &reach, written.url.span())?;
    let bounds = FetchBounds::introspection(how.deadline, how.max_concurrent);
    let fetcher = Fetcher::new(written.url.as_ref(), tls, rule, bounds)
        .map_err(|error| prover.reject(&key("url"), written.url.span(), error, REACH))
        .ok()?;
    let client = IntrospectionClient {
        id: written.client_id.as_ref().clone(),
        secret: secret?,
    };
    let introspector = Introspector::new(rules, fetcher, &client, &how);
    Some(Arc::new(introspector))
}

/// Its tokens have no signature that is looked at.
fn refuse_what_is_of_keys(prover: &mut Prover<'_>, index: usize, issuer: &written_issuer::Issuer) {
    for (name, span) in [
        ("algorithms", issuer.algorithms.as_ref().map(Spanned::span)),
        ("jwks_file", issuer.jwks_file.as_ref().map(Spanned::span)),
        ("jwks_url", issuer.jwks_url.as_ref().map(Spanned::span)),
        ("discovery", issuer.discovery.as_ref().map(Spanned::span)),
        ("jwks_ca", issuer.jwks_ca.as_ref().map(Spanned::span)),
        (
            "jwks_allow_addresses",
            issuer.jwks_allow_addresses.as_ref().map(Spanned::span),
        ),
        (
            "jwks_refresh",
            issuer.jwks_refresh.as_ref().map(Spanned::span),
        ),
        (
            "jwks_refetch",
            issuer.jwks_refetch.as_ref().map(Spanned::span),
        ),
        (
            "keys_outlive",
            issuer.keys_outlive.as_ref().map(Spanned::span),
        ),
        (
            "development",
            issuer.development.then(|| issuer.name.span()),
        ),
    ] {
        if let Some(span) = span {
            let key = format!("issuer[{index}].{name}");
            let problem = "is about keys, and an issuer with introspection is asked in their place";
            let mend = "remove it, or introspection; an issuer of both kinds is written twice, with two names";
            prover.reject(&key, span, problem, mend);
        }
    }
}

fn prove_rules(
    prover: &mut Prover<'_>,
    key: &dyn Fn(&str) -> String,
    written: &Introspection,
) -> IntrospectionRules {
    let mut time = |name: &str, written: Option<&Spanned<String>>, default, longest: Duration| {
        let key = key(name);
        let proven = prove_duration(prover, &key, written, Duration::from_secs(default));
        if let Some(written) = written
            && proven > longest
        {
            let mend = format!("use at most \"{}s\"", longest.as_secs());
            prover.reject(&key, written.span(), "is too long", mend);
        }
        proven
    };
    let deadline = time("timeout", written.timeout.as_ref(), 2, LONGEST_WAIT);
    let cache = time("cache", written.cache.as_ref(), 30, LONGEST_CACHE);
    let inactive_cache = time(
        "inactive_cache",
        written.inactive_cache.as_ref(),
        2,
        LONGEST_WAIT,
    );
    IntrospectionRules {
        deadline,
        cache,
        inactive_cache,
        max_concurrent: in_range(
            prover,
            &key("max_concurrent"),
            written.max_concurrent.as_ref(),
            32,
            (1, 1024),
        ),
        max_inactive: in_range(
            prover,
            &key("max_inactive"),
            written.max_inactive.as_ref(),
            100,
            (1, 1_000_000),
        ),
    }
}

fn prove_secret(prover: &mut Prover<'_>, key: &str, written: &Introspection) -> Option<String> {
    let path = &written.client_secret_file;
    let text = secret_file::read(path.as_ref())
        .map_err(|error| prover.reject(key, path.span(), &error, error.mend()))
        .ok()?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.contains(['\r', '\n']) {
        let problem = "doesn't hold one line with the secret";
        prover.reject(key, path.span(), problem, "write the secret into it");
        return None;
    }
    Some(secret.to_owned())
}
