//! Who may use a route, as proven.

use std::collections::BTreeSet;

use policy::{Access, Credential, Credentials, Holder};
use toml::{Spanned, Value};

use super::{mistake::Prover, written, written_holder, written_issuer, written_login};

/// How access is written.
const WAYS: &str = "use \"token\", \"client_certificate\", \"api_key\", several in a list, the one that counts first in front, or \"public\"";

/// Those who vouch by one way of proving it.
struct Kind {
    credential: Credential,
    /// What they vouch by.
    what: &'static str,
    /// That, said of one of them.
    said: &'static str,
    /// Where they are written.
    place: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        credential: Credential::Token,
        what: "tokens",
        said: "issues tokens",
        place: "[[issuer]]",
    },
    Kind {
        credential: Credential::Certificate,
        what: "client certificates",
        said: "is of client certificates",
        place: "[[listener.client_certificates]] with issuer = \"…\"",
    },
    Kind {
        credential: Credential::ApiKey,
        what: "API keys",
        said: "is of API keys",
        place: "[[api_keys]]",
    },
];

/// Where requests carry tokens: the cookie's name, or the field's.
type Place<'w> = (Option<&'w str>, Option<String>);

/// Who vouches for somebody, by the names that routes use.
pub(super) struct Vouching<'w> {
    /// For the holders of tokens.
    tokens: Vec<&'w str>,
    /// Of those, the ones that are asked about their tokens, and where these are.
    asked: Vec<(&'w str, Place<'w>)>,
    /// For those who show a certificate.
    certificates: Vec<&'w str>,
    /// For those who send an API key.
    api_keys: Vec<&'w str>,
    /// Whether certificates are asked of clients anywhere.
    certificates_asked: bool,
    /// For those who log in with a browser.
    logins: &'w [written_login::Login],
}

impl<'w> Vouching<'w> {
    pub(super) fn of(written: &'w written::Written) -> Self {
        let rules = || {
            let all = written
                .listener
                .iter()
                .flat_map(|it| &it.client_certificates);
            all.map(Spanned::as_ref)
        };
        let named = rules().filter_map(|rule| rule.issuer.as_ref());
        Self {
            tokens: written
                .issuer
                .iter()
                .map(|it| it.name.as_ref().as_str())
                .collect(),
            api_keys: written
                .api_keys
                .iter()
                .map(|it| it.name.as_ref().as_str())
                .collect(),
            asked: written
                .issuer
                .iter()
                .filter(|it| it.introspection.is_some())
                .map(|it| (it.name.as_ref().as_str(), place(it)))
                .collect(),
            certificates: named.map(|name| name.as_ref().as_str()).collect(),
            certificates_asked: rules().next().is_some(),
            logins: &written.login,
        }
    }

    /// For those who prove who they are so.
    fn by(&self, credential: Credential) -> &[&'w str] {
        match credential {
            Credential::Token => &self.tokens,
            Credential::Certificate => &self.certificates,
            Credential::ApiKey => &self.api_keys,
        }
    }

    fn taken_by(&self, credentials: &Credentials) -> Vec<&'w str> {
        let mut names: Vec<&str> = Vec::new();
        for credential in credentials.iter() {
            names.extend(self.by(credential));
        }
        names.dedup();
        names
    }
}

fn place(issuer: &written_issuer::Issuer) -> Place<'_> {
    let cookie = issuer.token_cookie.as_ref();
    let header = issuer.token_header.as_ref();
    (
        cookie.map(|it| it.as_ref().as_str()),
        header.map(|it| it.as_ref().to_ascii_lowercase()),
    )
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
    if words.as_deref() == Some(&["public"]) {
        return None;
    }
    let ways = words.and_then(|words| words.into_iter().map(way).collect());
    let proven = ways.and_then(Credentials::new);
    if proven.is_none() {
        let problem = "is no way to prove who is calling";
        prover.reject(key, written.span(), problem, WAYS);
    }
    Some(proven.unwrap_or_default())
}

fn way(word: &str) -> Option<Credential> {
    match word {
        "token" => Some(Credential::Token),
        "client_certificate" => Some(Credential::Certificate),
        "api_key" => Some(Credential::ApiKey),
        _ => None,
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
        None => Some(Credentials::default()),
        Some(access) => credentials(prover, &key("access"), access),
    };
    let Some(credentials) = credentials else {
        let given = [
            ("issuers", written.issuers.as_ref().map(Spanned::span)),
            ("scopes", written.scopes.as_ref().map(Spanned::span)),
            ("holder", written.holder.as_ref().map(Spanned::span)),
            ("single_use", written.single_use.as_ref().map(Spanned::span)),
            ("login", written.login.as_ref().map(Spanned::span)),
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
    prove_issuers(prover, index, written, &credentials, vouching);
    if let Some(scopes) = &written.scopes
        && credentials.take(Credential::Certificate)
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
        holder: prove_holder(prover, &key("holder"), written, &credentials, vouching),
        single_use: prove_single_use(prover, &key("single_use"), written, &credentials),
        login: prove_login(prover, &key("login"), written, &credentials, vouching),
        credentials,
    }
}

fn prove_single_use(
    prover: &mut Prover<'_>,
    key: &str,
    written: &written::Route,
    credentials: &Credentials,
) -> bool {
    let Some(given) = &written.single_use else {
        return false;
    };
    if !credentials.take(Credential::Token) {
        let problem = "is about tokens, and the route takes none";
        prover.reject(key, given.span(), problem, "remove it");
    } else if *given.as_ref() && credentials.take(Credential::ApiKey) {
        let problem = "an API key is good as often as it is sent";
        let mend = "remove it, or \"api_key\" from access";
        prover.reject(key, given.span(), problem, mend);
    }
    *given.as_ref()
}

fn prove_login(
    prover: &mut Prover<'_>,
    key: &str,
    written: &written::Route,
    credentials: &Credentials,
    vouching: &Vouching<'_>,
) -> Option<String> {
    let given = written.login.as_ref()?;
    let name = given.as_ref();
    let mut named = vouching.logins.iter().filter(|it| it.name.as_ref() == name);
    let Some(login) = named.next() else {
        let names: Vec<&str> = vouching
            .logins
            .iter()
            .map(|it| it.name.as_ref().as_str())
            .collect();
        let mend = match names.as_slice() {
            [] => "write a [[login]] of that name".to_owned(),
            names => format!("use one of: {}", names.join(", ")),
        };
        prover.reject(key, given.span(), "no login has that name", mend);
        return None;
    };
    let issuer = login.issuer.as_ref();
    let accepts = written
        .issuers
        .as_ref()
        .is_some_and(|it| it.as_ref().contains(issuer));
    let bound = written.holder.as_ref().map(Spanned::as_ref);
    let (problem, mend) = if !credentials.take(Credential::Token) {
        (
            "a session counts as a token, and the route takes none",
            "remove it, or add \"token\" to access".to_owned(),
        )
    } else if !accepts {
        (
            "whoever logs in would be let in by none of the route's issuers",
            format!("add {issuer:?} to issuers"),
        )
    } else if bound.is_some_and(|it| *it != written_holder::Holder::Optional) {
        (
            "a session is bound to nothing, and holder asks for that",
            "remove one of the two".to_owned(),
        )
    } else if written.single_use.as_ref().is_some_and(|it| *it.as_ref()) {
        (
            "a session is used again and again, and single_use forbids that",
            "remove one of the two".to_owned(),
        )
    } else if written.host.as_ref() == "*" {
        (
            "a login needs a host that browsers come back to, and the route has any",
            "name the host, in a route for each".to_owned(),
        )
    } else {
        return Some(name.clone());
    };
    prover.reject(key, given.span(), problem, mend);
    None
}

fn prove_issuers(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written::Route,
    credentials: &Credentials,
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
        let of = |kind: &&Kind| vouching.by(kind.credential).contains(&issuer);
        let problem = match KINDS.iter().find(of) {
            Some(kind) => format!("{issuer:?} {}, which access leaves out", kind.said),
            None => format!("no issuer is named {issuer:?}"),
        };
        let mend = format!("use some of: {known}");
        prover.reject(&key("issuers"), accepted.span(), problem, mend);
    }
    let mut places: Vec<(&str, &Place<'_>)> = Vec::new();
    for (name, place) in &vouching.asked {
        if !accepted.as_ref().iter().any(|it| it == name) {
            continue;
        }
        if let Some((other, _)) = places.iter().find(|(_, known)| *known == place) {
            let problem = format!(
                "{other:?} and {name:?} are both asked about tokens in the same place, so each would see the other's"
            );
            let mend =
                "leave one of them out, or give it a token_header or token_cookie of its own";
            prover.reject(&key("issuers"), accepted.span(), problem, mend);
        }
        places.push((name, place));
    }
    let names_some = |of: &[&str]| accepted.as_ref().iter().any(|it| of.contains(&it.as_str()));
    let is_known = |it: &String| names.contains(&it.as_str());
    // What is told already isn't told in other words.
    if !accepted.as_ref().iter().all(is_known) {
        return;
    }
    for kind in KINDS {
        if credentials.take(kind.credential) && !names_some(vouching.by(kind.credential)) {
            let problem = format!("access takes {}, and none of these is of any", kind.what);
            let mend = format!("add the name of one that is, of {}", kind.place);
            prover.reject(&key("issuers"), accepted.span(), problem, mend);
        }
    }
}

fn prove_holder(
    prover: &mut Prover<'_>,
    key: &str,
    written: &written::Route,
    credentials: &Credentials,
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
    if !credentials.take(Credential::Token) {
        let problem = "is about tokens, and the route takes none";
        prover.reject(key, given.span(), problem, "remove it");
    } else if holder != Holder::Optional && credentials.take(Credential::ApiKey) {
        let problem = "an API key is bound to nothing, so none would be let in";
        let mend = "remove it, or \"api_key\" from access";
        prover.reject(key, given.span(), problem, mend);
    } else if holder == Holder::Certificate && !vouching.certificates_asked {
        let problem = "no listener asks for certificates, so nobody would be let in";
        let mend = "add [[listener.client_certificates]] to one";
        prover.reject(key, given.span(), problem, mend);
    }
    holder
}
