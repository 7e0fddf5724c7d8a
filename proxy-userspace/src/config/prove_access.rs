//! Who may use a route, as proven.

use std::collections::BTreeSet;

use policy::{Access, Credentials, Holder};
use toml::{Spanned, Value};

use super::{mistake::Prover, written, written_holder, written_issuer};

/// How access is written.
const WAYS: &str = "use \"token\", \"client_certificate\", both in a list, the one that counts first, or \"public\"";

/// Who vouches for somebody, by the names that routes use.
pub(super) struct Vouching<'w> {
    /// For the holders of tokens.
    tokens: Vec<&'w str>,
    /// For those who show a certificate.
    certificates: Vec<&'w str>,
    /// Whether certificates are asked of clients anywhere.
    certificates_asked: bool,
}

impl<'w> Vouching<'w> {
    pub(super) fn of(
        issuers: &'w [written_issuer::Issuer],
        listeners: &'w [written::Listener],
    ) -> Self {
        let rules = || {
            let all = listeners.iter().flat_map(|it| &it.client_certificates);
            all.map(Spanned::as_ref)
        };
        let named = rules().filter_map(|rule| rule.issuer.as_ref());
        Self {
            tokens: issuers.iter().map(|it| it.name.as_ref().as_str()).collect(),
            certificates: named.map(|name| name.as_ref().as_str()).collect(),
            certificates_asked: rules().next().is_some(),
        }
    }

    fn taken_by(&self, credentials: Credentials) -> Vec<&'w str> {
        let mut names = Vec::new();
        if credentials.takes_tokens() {
            names.extend(&self.tokens);
        }
        if credentials.takes_certificates() {
            names.extend(&self.certificates);
        }
        names.dedup();
        names
    }
}

/// By what it may be proven who is calling; `None` on a route for everybody.
fn credentials(
    prover: &mut Prover<'_>,
    key: &str,
    written: &Spanned<Value>,
) -> Option<Credentials> {
    let words: Option<Vec<&str>> = match written.as_ref() {
        Value::String(word) => Some(vec![word]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        _ => None,
    };
    match words.as_deref() {
        Some(["public"]) => None,
        Some(["token"]) => Some(Credentials::Token),
        Some(["client_certificate"]) => Some(Credentials::Certificate),
        Some(["token", "client_certificate"]) => Some(Credentials::TokenFirst),
        Some(["client_certificate", "token"]) => Some(Credentials::CertificateFirst),
        _ => {
            prover.reject(
                key,
                written.span(),
                "is no way to prove who is calling",
                WAYS,
            );
            Some(Credentials::Token)
        }
    }
}

pub(super) fn access(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written::Route,
    vouching: &Vouching<'_>,
) -> Access {
    let key = |name: &str| format!("route[{index}].{name}");
    let credentials = match &written.access {
        None => Some(Credentials::Token),
        Some(access) => credentials(prover, &key("access"), access),
    };
    let Some(credentials) = credentials else {
        let given = [
            ("issuers", written.issuers.as_ref().map(Spanned::span)),
            ("scopes", written.scopes.as_ref().map(Spanned::span)),
            ("holder", written.holder.as_ref().map(Spanned::span)),
            ("single_use", written.single_use.as_ref().map(Spanned::span)),
        ];
        for (name, span) in given {
            if let Some(span) = span {
                let problem = "a public route asks nobody for a token";
                let mend = "remove it, or access = \"public\"";
                prover.reject(&key(name), span, problem, mend);
            }
        }
        return Access::Public;
    };
    prove_issuers(prover, index, written, credentials, vouching);
    if let Some(scopes) = &written.scopes
        && credentials.takes_certificates()
        && !scopes.as_ref().is_empty()
    {
        let problem = "a certificate carries no scopes, so none would be let in";
        let mend =
            "remove it, or \"client_certificate\" from access; routes can share a path by methods";
        prover.reject(&key("scopes"), scopes.span(), problem, mend);
    }
    let set = |given: &Option<Spanned<Vec<String>>>| -> BTreeSet<String> {
        given
            .iter()
            .flat_map(|given| given.as_ref().iter().cloned())
            .collect()
    };
    Access::Token {
        issuers: set(&written.issuers),
        scopes: set(&written.scopes),
        holder: prove_holder(prover, &key("holder"), written, credentials, vouching),
        credentials,
        single_use: prove_single_use(prover, &key("single_use"), written, credentials),
    }
}

fn prove_single_use(
    prover: &mut Prover<'_>,
    key: &str,
    written: &written::Route,
    credentials: Credentials,
) -> bool {
    let Some(given) = &written.single_use else {
        return false;
    };
    if !credentials.takes_tokens() {
        let problem = "is about tokens, and the route takes none";
        prover.reject(key, given.span(), problem, "remove it");
    }
    *given.as_ref()
}

fn prove_issuers(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written::Route,
    credentials: Credentials,
    vouching: &Vouching<'_>,
) {
    let key = |name: &str| format!("route[{index}].{name}");
    let names = vouching.taken_by(credentials);
    let known = names.join(", ");
    let Some(accepted) = written
        .issuers
        .as_ref()
        .filter(|it| !it.as_ref().is_empty())
    else {
        prover.reject(
            &key("name"),
            written.name.span(),
            "the route accepts no issuer",
            format!("add issuers = […] with some of: {known}; or access = \"public\""),
        );
        return;
    };
    for issuer in accepted.as_ref() {
        let issuer = issuer.as_str();
        if names.contains(&issuer) {
            continue;
        }
        let problem = if vouching.tokens.contains(&issuer) {
            format!("{issuer:?} issues tokens, which access leaves out")
        } else if vouching.certificates.contains(&issuer) {
            format!("{issuer:?} is of client certificates, which access leaves out")
        } else {
            format!("no issuer is named {issuer:?}")
        };
        let mend = format!("use some of: {known}");
        prover.reject(&key("issuers"), accepted.span(), problem, mend);
    }
    let names_some = |of: &[&str]| accepted.as_ref().iter().any(|it| of.contains(&it.as_str()));
    let is_known = |it: &String| names.contains(&it.as_str());
    // What is told already isn't told in other words.
    if !accepted.as_ref().iter().all(is_known) {
        return;
    }
    for (taken, of, what, place) in [
        (
            credentials.takes_tokens(),
            &vouching.tokens,
            "tokens",
            "[[issuer]]",
        ),
        (
            credentials.takes_certificates(),
            &vouching.certificates,
            "client certificates",
            "[[listener.client_certificates]] with issuer = \"…\"",
        ),
    ] {
        if taken && !names_some(of) {
            let problem = format!("access takes {what}, and none of these issues any");
            let mend = format!("add the name of one that does, of {place}");
            prover.reject(&key("issuers"), accepted.span(), problem, mend);
        }
    }
}

fn prove_holder(
    prover: &mut Prover<'_>,
    key: &str,
    written: &written::Route,
    credentials: Credentials,
    vouching: &Vouching<'_>,
) -> Holder {
    let Some(given) = &written.holder else {
        return Holder::Optional;
    };
    let holder = match given.as_ref() {
        written_holder::Holder::Optional => Holder::Optional,
        written_holder::Holder::Dpop => Holder::Key,
        written_holder::Holder::Certificate => Holder::Certificate,
        written_holder::Holder::Any => Holder::Any,
    };
    if !credentials.takes_tokens() {
        let problem = "is about tokens, and the route takes none";
        prover.reject(key, given.span(), problem, "remove it");
    } else if holder == Holder::Certificate && !vouching.certificates_asked {
        let problem = "no listener asks for certificates, so nobody would be let in";
        let mend = "add [[listener.client_certificates]] to one";
        prover.reject(key, given.span(), problem, mend);
    }
    holder
}
