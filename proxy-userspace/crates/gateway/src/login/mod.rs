//! Logins of browsers: a page that asks for somebody sends the browser to an issuer, and what that answers is kept
//! by the browser as a session.
//!
//! ```text
//! attempt    the browser is sent to the issuer
//! callback   it comes back: is that the answer to this attempt?
//! session    who has logged in, request by request; renewal, at the issuer
//! logout     the end
//! origin     which site makes the browser ask
//! provider   what the issuer is asked, and where
//! cookie     what the browser keeps; seal, so that it can neither be read nor changed
//! memory     what was used and what was ended
//! fault      why not
//! ```

mod attempt;
mod callback;
mod cookie;
mod fault;
mod logout;
mod memory;
mod origin;
mod provider;
mod renewal;
mod seal;
mod session;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use audit::DecisionId;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use policy::{Access, CanonicalHost, CanonicalRequest, NoRoute, RequestPath, Route};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

pub(crate) use fault::LoginFault;
pub use memory::LoginMemory;
use seal::SessionKey;
pub use seal::{KeyPlace, SessionKeyError};

use crate::{
    revocation::Revocations,
    sent::remove_cookies,
    token::{Issuer, Verified},
};

/// What an issuer knows us by.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(pub String);

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret")
    }
}

/// A way for browsers to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRules {
    /// Name in configuration, logs and cookies.
    pub name: String,
    /// Name of the issuer.
    pub issuer: String,
    /// As what we are registered there.
    pub client_id: String,
    /// `None` for a public client (RFC 6749, 2.1).
    pub secret: Option<ClientSecret>,
    /// Scopes that are asked for; `openid` is one.
    pub scopes: Vec<String>,
    /// Where the issuer sends browsers back to.
    pub callback: RequestPath,
    /// Where users log out.
    pub logout: RequestPath,
    /// Where they come to after that, if the issuer sends them back.
    pub after_logout: Option<RequestPath>,
    /// How long a user may take to log in.
    pub attempt: Duration,
    /// How long a session lasts at most.
    pub lifetime: Duration,
    /// How long it lasts while it isn't used.
    pub idle: Duration,
    /// Where the key is that sessions are sealed with.
    pub key: KeyPlace,
    /// Hosts of the routes that have it.
    pub hosts: Vec<CanonicalHost>,
}

/// A login with all that it needs.
#[derive(Debug)]
pub(crate) struct Login {
    rules: LoginRules,
    issuer: Arc<Issuer>,
    key: SessionKey,
    memory: Arc<LoginMemory>,
    revocations: Arc<Revocations>,
    /// Questions to the issuer about logins that may be under way, and about sessions: an issuer that hangs holds up
    /// no other, and whoever begins logins no session.
    redeeming: Semaphore,
    renewing: Semaphore,
}

/// Questions of each kind to an issuer at a time.
const MOST_ASKING: usize = 64;

/// The logins by their configured names.
#[derive(Clone, Debug, Default)]
pub struct Logins(BTreeMap<String, Arc<Login>>);

/// Somebody with a session.
#[derive(Debug)]
pub(crate) struct Entered {
    /// The session, as what is proven of a token: its id is the token's.
    pub(crate) verified: Arc<Verified>,
    /// What is known of its end.
    pub(crate) memory: Arc<LoginMemory>,
    /// What goes to the browser with the answer.
    pub(crate) cookies: Vec<HeaderValue>,
}

/// What a browser is told at a step of a login: to go elsewhere.
#[derive(Debug)]
pub(crate) struct Told {
    /// For the audit trail.
    pub(crate) reason: String,
    status: StatusCode,
    location: HeaderValue,
    cookies: Vec<HeaderValue>,
    /// Who has logged in or out.
    pub(crate) who: Option<Entered>,
}

/// A request for the login itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'l> {
    login: &'l Arc<Login>,
    is_logout: bool,
}

/// Why a step isn't taken.
#[derive(Debug)]
pub(crate) enum StepFault {
    Login(LoginFault),
    Method(NoRoute),
}

impl From<LoginFault> for StepFault {
    fn from(fault: LoginFault) -> Self {
        Self::Login(fault)
    }
}

impl Logins {
    /// These ones, at these issuers, with what is remembered and revoked.
    ///
    /// # Errors
    /// [`SessionKeyError`] where there is no key. A login whose issuer isn't there is left out.
    pub fn new(
        rules: &[LoginRules],
        issuers: &[Arc<Issuer>],
        (memory, revocations): (&Arc<LoginMemory>, &Arc<Revocations>),
    ) -> Result<Self, SessionKeyError> {
        let mut logins = BTreeMap::new();
        for rules in rules {
            let mut named = issuers.iter().filter(|it| it.rules().name == rules.issuer);
            let Some(issuer) = named.next() else {
                continue;
            };
            let login = Login {
                rules: rules.clone(),
                issuer: Arc::clone(issuer),
                key: rules.key.obtain()?,
                memory: Arc::clone(memory),
                revocations: Arc::clone(revocations),
                redeeming: Semaphore::new(MOST_ASKING),
                renewing: Semaphore::new(MOST_ASKING),
            };
            logins.insert(rules.name.clone(), Arc::new(login));
        }
        Ok(Self(logins))
    }

    /// The one that a route has.
    pub(crate) fn of(&self, route: &Route) -> Option<&Arc<Login>> {
        match &route.access {
            Access::Token { login, .. } => self.0.get(login.as_ref()?),
            Access::Public => None,
        }
    }

    /// The step of a login that a request is for, whatever routes there are.
    pub(crate) fn step(&self, request: &CanonicalRequest) -> Option<Step<'_>> {
        self.0.values().find_map(|login| {
            let rules = &login.rules;
            let is_logout = *request.path() == rules.logout;
            let is_step = is_logout || *request.path() == rules.callback;
            let is_here = is_step && rules.hosts.contains(request.host());
            is_here.then_some(Step { login, is_logout })
        })
    }

    /// Takes what browsers keep of sessions out of what goes upstream, also where there are no logins any more:
    /// whoever has it can be somebody else with it.
    pub(crate) fn withhold(headers: &mut HeaderMap) {
        remove_cookies(headers, cookie::is_ours);
    }

    /// Takes out of a service's answer what would be a session of the service's choosing.
    pub(crate) fn disown(headers: &mut HeaderMap) {
        let is_ours = |value: &HeaderValue| cookie::is_ours(value.as_bytes().trim_ascii_start());
        if !headers.get_all(header::SET_COOKIE).iter().any(is_ours) {
            return;
        }
        let all = headers.get_all(header::SET_COOKIE).iter();
        let others: Vec<HeaderValue> = all.filter(|it| !is_ours(it)).cloned().collect();
        headers.remove(header::SET_COOKIE);
        for cookie in others {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

/// Has an answer that is one browser's reach nobody else: with what that browser is to keep, no cache stores it,
/// whatever the service says of it; without, none that is shared (RFC 9111, 3.5 is about `Authorization` alone).
pub(crate) fn keep_private(fields: &mut HeaderMap, of_session: bool, cookies: Vec<HeaderValue>) {
    if !cookies.is_empty() {
        let none = HeaderValue::from_static("no-store");
        fields.insert(header::CACHE_CONTROL, none);
        // RFC 9213, and what it was before that.
        fields.remove("cdn-cache-control");
        fields.remove("surrogate-control");
    } else if of_session && !fields.contains_key(header::CACHE_CONTROL) {
        let private = HeaderValue::from_static("private");
        fields.insert(header::CACHE_CONTROL, private);
    }
    if of_session {
        fields.append(header::VARY, HeaderValue::from_static("Cookie"));
    }
    for cookie in cookies {
        fields.append(header::SET_COOKIE, cookie);
    }
}

impl Step<'_> {
    /// Takes it. `cookies` is what the browser has to be told however that goes.
    ///
    /// # Errors
    /// Why it can't be taken.
    pub(crate) async fn take(
        self,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        cookies: &mut Vec<HeaderValue>,
    ) -> Result<Told, StepFault> {
        match (self.is_logout, request.method()) {
            (false, &Method::GET) => {
                let ended = self.login.end_attempt(headers, request, cookies);
                Ok(ended.await?)
            }
            (true, &(Method::GET | Method::POST)) => {
                Ok(self.login.end_session(headers, request, cookies)?)
            }
            _ => Err(StepFault::Method(NoRoute::Method)),
        }
    }
}

impl Login {
    /// Whether a request that nobody is known by can go to the issuer and come back.
    pub(crate) fn can_begin(headers: &HeaderMap, request: &CanonicalRequest) -> bool {
        origin::is_navigation(headers, request)
    }

    /// Seals what a browser is to keep, for this host and this login.
    fn seal(
        &self,
        kind: &str,
        request: &CanonicalRequest,
        content: &impl Serialize,
    ) -> Result<String, LoginFault> {
        let content = serde_json::to_vec(content).map_err(|_| LoginFault::TooLarge)?;
        let sealed = self.key.seal(&self.purpose(kind, request), &content);
        sealed.map_err(|_| LoginFault::NoRandomness)
    }

    fn open<T: DeserializeOwned>(
        &self,
        kind: &str,
        request: &CanonicalRequest,
        sealed: &str,
    ) -> Option<T> {
        let content = self.key.open(&self.purpose(kind, request), sealed)?;
        serde_json::from_slice(&content).ok()
    }

    fn purpose(&self, kind: &str, request: &CanonicalRequest) -> Vec<u8> {
        let Self { rules, issuer, .. } = self;
        let issuer = issuer.rules().issuer.as_str();
        let host = request.host().as_str();
        seal::purpose(&[kind, &rules.name, issuer, &rules.client_id, host])
    }
}

impl Told {
    /// As an answer to the request with this decision.
    pub(crate) fn into_response(self, id: &DecisionId) -> Response<Full<Bytes>> {
        let phrase = self.status.canonical_reason().unwrap_or("elsewhere");
        let text = format!("{} {phrase}\ndecision {id}\n", self.status.as_u16());
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, self.location);
        for (name, value) in [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for cookie in self.cookies {
            headers.append(header::SET_COOKIE, cookie);
        }
        response
    }
}
