//! An issuer with its keys in a file, a route that accepts it, and requests with its tokens.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use gateway::{
    Algorithm, ClaimMap, Issuer, IssuerRules, Issuers, KeySource, KeyStore, KeyTimes, TokenLocation,
};
use http::{HeaderMap, HeaderValue, Method, header};
use policy::{
    Access, Credentials, Holder, HostPattern, PathPattern, Relaxations, RequestPath, Route,
};
use portcullis_tests::{
    pki::TokenIssuer,
    run::{RigError, Rigged},
    scratch::Scratch,
};
use serde_json::json;

/// Least time between two fetches that unknown key ids ask for.
pub(crate) const REFETCH: Duration = Duration::from_secs(2);

/// Who calls.
pub(crate) struct Caller {
    pub(crate) issuer: TokenIssuer,
    pub(crate) issuers: Issuers,
    pub(crate) trusted: Arc<Issuer>,
    pub(crate) route: Route,
    _scratch: Scratch,
}

impl Caller {
    pub(crate) async fn set() -> Rigged<Self> {
        let scratch = Scratch::new()?;
        let issuer = TokenIssuer::new("https://issuer.example", "key-1")?;
        let file = scratch.write("jwks.json", issuer.jwks())?;
        let times = KeyTimes {
            refresh: Duration::from_secs(3_600),
            refetch: REFETCH,
            outlive: Duration::from_secs(3_600),
        };
        let algorithms = vec![Algorithm::ES256];
        let keys = KeyStore::new(KeySource::File(file), algorithms.clone(), times);
        let rules = IssuerRules {
            name: "main".to_owned(),
            issuer: issuer.issuer.clone(),
            audiences: BTreeSet::from(["api".to_owned()]),
            algorithms,
            leeway: Duration::from_secs(30),
            required: Vec::new(),
            claims: ClaimMap::default(),
            location: TokenLocation::Authorization,
            development: false,
        };
        let trusted = Arc::new(Issuer::new(rules, keys));
        let loaded = trusted.keys().refresh().await;
        loaded.map_err(|error| RigError(format!("the keys: {error}")))?;
        let path = RequestPath::parse("/").map_err(|error| RigError(error.to_string()))?;
        Ok(Self {
            issuer,
            issuers: Issuers::new([Arc::clone(&trusted)])?,
            trusted,
            route: Route {
                name: "all".to_owned(),
                host: HostPattern::Any,
                path: PathPattern::prefix(path),
                methods: vec![Method::GET],
                access: Access::Token {
                    issuers: BTreeSet::from(["main".to_owned()]),
                    scopes: BTreeSet::new(),
                    holder: Holder::Optional,
                    single_use: false,
                    credentials: Credentials::default(),
                    login: None,
                },
                upstream: "app".to_owned(),
                relaxed: Relaxations::default(),
                websocket: false,
                max_body_bytes: 0,
            },
            _scratch: scratch,
        })
    }

    /// A good token of some 700 bytes for this subject.
    pub(crate) fn token(&self, subject: &str) -> Rigged<String> {
        let mut claims = self
            .issuer
            .claims(subject, "orders:read orders:write profile email");
        claims["jti"] = json!("0b0c9a5e-6a3e-4f3f-9a3c-2f1d7d3c5b11");
        claims["iat"] = json!(portcullis_tests::pki::unix_now());
        claims["azp"] = json!("orders-frontend.apps.example");
        claims["realm_access"] =
            json!({"roles": ["offline_access", "uma_authorization", "orders-admin"]});
        claims["preferred_username"] = json!("alice.liddell@wonderland.example");
        claims["sid"] = json!("f2a8b3a0-52f4-4b5c-8e63-5c8b4c7a9d10");
        self.issuer.sign(&claims)
    }

    /// The fields of a request with this token.
    pub(crate) fn request(token: &str) -> Rigged<HeaderMap> {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let value = value.map_err(|error| RigError(error.to_string()))?;
        headers.insert(header::AUTHORIZATION, value);
        Ok(headers)
    }

    /// Whether the request is let in as this subject.
    pub(crate) async fn is_let_in(&self, request: &HeaderMap, subject: &str) -> bool {
        let holder = self.issuers.holder(&self.route, request).await;
        matches!(holder, Ok(Some(holder)) if holder.subject == subject)
    }
}
