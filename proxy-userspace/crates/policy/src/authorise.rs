//! Who may. The only place that makes a [`Permit`], and nothing goes upstream without one.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    request::CanonicalRequest,
    route::{Access, Route, RouteMatch},
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
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The route asks for a token and there was none.
    #[error("token_missing")]
    NoPrincipal,
    /// The token's issuer isn't accepted on this route.
    #[error("issuer_not_accepted")]
    Issuer,
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
        if let Access::Token { issuers, scopes } = &self.route.access {
            let principal = principal.ok_or(Denial::NoPrincipal)?;
            if !issuers.contains(&principal.issuer) {
                return Err(Denial::Issuer);
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
    use crate::{HostPattern, PathPattern, RequestPath, RouteTable};

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

    #[test]
    fn asks_for_an_accepted_issuer_and_every_scope() {
        let access = || Access::Token {
            issuers: set(&["main"]),
            scopes: set(&["read", "list"]),
        };
        let holder = |issuer: &str, scopes: &[&str]| Principal {
            issuer: issuer.to_owned(),
            subject: "alice".to_owned(),
            scopes: set(scopes),
            groups: set(&[]),
            attributes: BTreeMap::new(),
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
    fn a_public_route_needs_nobody() {
        assert_eq!(decide(Access::Public, None), Ok(()));
    }
}
