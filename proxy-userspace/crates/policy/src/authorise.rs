//! Who may. The only place that makes a [`Permit`], and nothing goes upstream without one.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    access::{Access, Credential},
    request::CanonicalRequest,
    route::{Route, RouteMatch},
};

/// Somebody whose identity was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Name of the issuer that vouches for the subject.
    pub issuer: String,
    /// The subject (`sub`) at that issuer.
    pub subject: String,
    /// Scopes that the token carries.
    pub scopes: BTreeSet<String>,
    /// The subject's groups or roles, where the issuer's tokens are read for them.
    pub groups: BTreeSet<String>,
    /// Whatever else the issuer's tokens are read for, by its configured name.
    pub attributes: BTreeMap<String, BTreeSet<String>>,
    /// By what this was proven.
    pub proven_by: ProvenBy,
}

/// By what it was proven who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvenBy {
    /// A token; and that its sender has what the token is bound to.
    Token(Binding),
    /// A certificate that was shown in TLS, with its key.
    Certificate,
    /// An API key, which is bound to nothing.
    ApiKey,
    /// A session that a login of the browser at the issuer began.
    Session,
}

/// What a token is bound to (RFC 7800): it is worth nothing to whoever hasn't got that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// A key, which its holder signs every request with (RFC 9449).
    pub key: bool,
    /// A certificate, which its holder shows in TLS (RFC 8705, 3).
    pub certificate: bool,
}

impl ProvenBy {
    /// Which of the ways to prove it that is; a session stands for a token.
    pub fn credential(self) -> Credential {
        match self {
            Self::Token(_) | Self::Session => Credential::Token,
            Self::Certificate => Credential::Certificate,
            Self::ApiKey => Credential::ApiKey,
        }
    }

    /// What it is worth nothing without; `None` where that is what was proven.
    fn binding(self) -> Option<Binding> {
        match self {
            Self::Token(binding) => Some(binding),
            Self::Certificate => None,
            Self::ApiKey | Self::Session => Some(Binding::default()),
        }
    }

    /// For the audit trail and the upstream: words with spaces between.
    pub fn as_str(self) -> &'static str {
        let Binding { key, certificate } = match self {
            Self::Token(binding) => binding,
            Self::Certificate => return "certificate",
            Self::ApiKey => return "api_key",
            Self::Session => return "session",
        };
        match (key, certificate) {
            (false, false) => "token",
            (true, false) => "token dpop",
            (false, true) => "token certificate",
            (true, true) => "token dpop certificate",
        }
    }
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The route asks for a token and there was none.
    #[error("token_missing")]
    NoPrincipal,
    /// The route asks for a certificate and none was shown.
    #[error("certificate_missing")]
    NoCertificate,
    /// The route asks for an API key and none was sent.
    #[error("api_key_missing")]
    NoApiKey,
    /// The issuer isn't accepted on this route.
    #[error("issuer_not_accepted")]
    Issuer,
    /// The route asks for a token that is bound to its holder, and what was sent isn't.
    #[error("token_unbound")]
    Unbound,
    /// A scope that the route asks for is missing.
    #[error("scope_missing")]
    Scope,
}

/// Leave to send one canonical request along one route.
///
/// It borrows the very request and route that were judged, so what is forwarded can't be
/// something else, and it can't be made anywhere but here.
#[derive(Clone, Copy, Debug)]
pub struct Permit<'a> {
    request: &'a CanonicalRequest,
    route: &'a Route,
    principal: Option<&'a Principal>,
}

impl<'a> Permit<'a> {
    /// The request that was judged.
    pub fn request(&self) -> &'a CanonicalRequest {
        self.request
    }

    /// The route it may take.
    pub fn route(&self) -> &'a Route {
        self.route
    }

    /// On whose behalf; `None` on a public route without a token.
    pub fn principal(&self) -> Option<&'a Principal> {
        self.principal
    }
}

impl<'a> RouteMatch<'a> {
    /// Decides whether `principal` may send this request.
    ///
    /// # Errors
    /// See [`Denial`].
    pub fn authorise(self, principal: Option<&'a Principal>) -> Result<Permit<'a>, Denial> {
        if let Access::Token {
            issuers,
            scopes,
            holder,
            credentials,
            login,
            ..
        } = &self.route.access
        {
            let nobody = match credentials.first() {
                _ if credentials.take(Credential::Token) => Denial::NoPrincipal,
                Credential::ApiKey => Denial::NoApiKey,
                Credential::Certificate | Credential::Token => Denial::NoCertificate,
            };
            let principal = principal.ok_or(nobody)?;
            let is_taken = match principal.proven_by {
                ProvenBy::Session => login.is_some(),
                other => credentials.take(other.credential()),
            };
            if !is_taken || !issuers.contains(&principal.issuer) {
                return Err(Denial::Issuer);
            }
            if let Some(binding) = principal.proven_by.binding()
                && !holder.is_met_by(binding)
            {
                return Err(Denial::Unbound);
            }
            if !scopes.is_subset(&principal.scopes) {
                return Err(Denial::Scope);
            }
        }
        Ok(Permit {
            request: self.request,
            route: self.route,
            principal,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};

    use super::*;
    use crate::{
        Credential, Credentials, Holder, HostPattern, PathPattern, RequestPath, RouteTable,
    };

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn decide(access: Access, principal: Option<&Principal>) -> Result<(), Denial> {
        let table = RouteTable::new(vec![Route {
            name: "api".to_owned(),
            host: HostPattern::Any,
            path: PathPattern::Prefix(RequestPath::parse("/").expect("a path")),
            methods: vec![Method::GET],
            access,
            upstream: "app".to_owned(),
            relaxed: crate::Relaxations::default(),
            websocket: false,
            max_body_bytes: 0,
        }])
        .expect("no conflict");
        let message = Request::builder().uri("/x").header("host", "a.example");
        let (parts, ()) = message.body(()).expect("a legal message").into_parts();
        let request = CanonicalRequest::from_parts(&parts).expect("one reading");
        let found = table.find(&request).expect("a route");
        found.authorise(principal).map(|permit| {
            assert_eq!(permit.request(), &request);
            assert_eq!(permit.principal(), principal);
        })
    }

    fn asking(scopes: &[&str], holder: Holder, credentials: Credentials) -> Access {
        Access::Token {
            issuers: set(&["main"]),
            scopes: set(scopes),
            holder,
            credentials,
            single_use: false,
            login: None,
        }
    }

    fn by(ways: &[Credential]) -> Credentials {
        Credentials::new(ways.to_vec()).expect("each of them once")
    }

    fn proven(proven_by: ProvenBy) -> Principal {
        Principal {
            issuer: "main".to_owned(),
            subject: "alice".to_owned(),
            scopes: set(&[]),
            groups: set(&[]),
            attributes: BTreeMap::new(),
            proven_by,
        }
    }

    #[test]
    fn asks_for_an_accepted_issuer_and_every_scope() {
        let access = || asking(&["read", "list"], Holder::Optional, Credentials::default());
        let holder = |issuer: &str, scopes: &[&str]| Principal {
            issuer: issuer.to_owned(),
            scopes: set(scopes),
            ..proven(ProvenBy::Token(Binding::default()))
        };
        let allowed = holder("main", &["list", "read", "more"]);
        assert_eq!(decide(access(), Some(&allowed)), Ok(()));
        assert_eq!(decide(access(), None), Err(Denial::NoPrincipal));
        let stranger = holder("other", &["list", "read"]);
        assert_eq!(decide(access(), Some(&stranger)), Err(Denial::Issuer));
        let reader = holder("main", &["read", "lis"]);
        assert_eq!(decide(access(), Some(&reader)), Err(Denial::Scope));
    }

    #[test]
    fn a_token_is_bound_as_the_route_asks() {
        let bound = |key, certificate| ProvenBy::Token(Binding { key, certificate });
        let all = [
            bound(false, false),
            bound(true, false),
            bound(false, true),
            bound(true, true),
        ];
        for (holder, verdicts) in [
            (Holder::Optional, [true, true, true, true]),
            (Holder::Key, [false, true, false, true]),
            (Holder::Certificate, [false, false, true, true]),
            (Holder::Any, [false, true, true, true]),
        ] {
            for (proven_by, let_in) in all.into_iter().zip(verdicts) {
                let access = asking(&[], holder, Credentials::default());
                let told = decide(access, Some(&proven(proven_by)));
                let wanted = if let_in { Ok(()) } else { Err(Denial::Unbound) };
                assert_eq!(told, wanted, "{holder:?} {proven_by:?}");
            }
        }
    }

    #[test]
    fn a_certificate_counts_where_it_is_asked_for() {
        use Credential::{Certificate, Token};
        let certificate = proven(ProvenBy::Certificate);
        let token = proven(ProvenBy::Token(Binding::default()));
        for (ways, of_token, of_certificate) in [
            (vec![Token], Ok(()), Err(Denial::Issuer)),
            (vec![Certificate], Err(Denial::Issuer), Ok(())),
            (vec![Token, Certificate], Ok(()), Ok(())),
            (vec![Certificate, Token], Ok(()), Ok(())),
        ] {
            let access = || asking(&[], Holder::Optional, by(&ways));
            assert_eq!(decide(access(), Some(&token)), of_token, "{ways:?}");
            assert_eq!(
                decide(access(), Some(&certificate)),
                of_certificate,
                "{ways:?}"
            );
        }
        let only = asking(&[], Holder::Optional, by(&[Certificate]));
        assert_eq!(decide(only, None), Err(Denial::NoCertificate));
    }

    #[test]
    fn an_api_key_counts_where_it_is_asked_for_and_is_bound_to_nothing() {
        use Credential::{ApiKey, Certificate, Token};
        let key = proven(ProvenBy::ApiKey);
        let told = |ways: &[Credential], holder| decide(asking(&[], holder, by(ways)), Some(&key));
        assert_eq!(told(&[ApiKey], Holder::Optional), Ok(()));
        assert_eq!(told(&[Token, ApiKey], Holder::Optional), Ok(()));
        let others = told(&[Token, Certificate], Holder::Optional);
        assert_eq!(others, Err(Denial::Issuer));
        for holder in [Holder::Key, Holder::Certificate, Holder::Any] {
            assert_eq!(told(&[ApiKey], holder), Err(Denial::Unbound));
        }
        let missing = |ways: &[Credential]| decide(asking(&[], Holder::Optional, by(ways)), None);
        assert_eq!(missing(&[ApiKey, Certificate]), Err(Denial::NoApiKey));
        let of_both = missing(&[Certificate, ApiKey]);
        assert_eq!(of_both, Err(Denial::NoCertificate));
        assert_eq!(missing(&[ApiKey, Token]), Err(Denial::NoPrincipal));
    }

    #[test]
    fn a_way_is_taken_once_and_one_at_least() {
        use Credential::{Certificate, Token};
        assert_eq!(Credentials::new(Vec::new()), None);
        assert_eq!(Credentials::new(vec![Token, Certificate, Token]), None);
        assert_eq!(by(&[Certificate, Token]).first(), Certificate);
    }

    #[test]
    fn a_session_counts_where_the_route_has_a_login_and_is_bound_to_nothing() {
        let session = proven(ProvenBy::Session);
        let with_login = |holder| Access::Token {
            issuers: set(&["main"]),
            scopes: set(&[]),
            holder,
            credentials: Credentials::default(),
            single_use: false,
            login: Some("web".to_owned()),
        };
        assert_eq!(decide(with_login(Holder::Optional), Some(&session)), Ok(()));
        let bound = decide(with_login(Holder::Key), Some(&session));
        assert_eq!(bound, Err(Denial::Unbound));
        let without = asking(&[], Holder::Optional, Credentials::default());
        assert_eq!(decide(without, Some(&session)), Err(Denial::Issuer));
    }

    #[test]
    fn a_public_route_needs_nobody() {
        assert_eq!(decide(Access::Public, None), Ok(()));
    }
}
