//! A session: who has logged in, kept by the browser, sealed. Nothing of it is kept here but that it was ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
};

use http::{HeaderMap, HeaderValue};
use policy::{CanonicalRequest, Principal, ProvenBy};
use serde::{Deserialize, Serialize};

use super::{Entered, Login, cookie, fault::LoginFault, origin, provider::Granted};
use crate::token::{Claims, Confirmation, Verified, unix_now};

/// What the browser keeps of a session. Times are in seconds since the epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    pub(super) id: String,
    /// Of the attempt that it began with.
    pub(super) nonce: String,
    /// The id of the key that signed the issuer's word.
    key_id: Option<String>,
    subject: String,
    scopes: BTreeSet<String>,
    groups: BTreeSet<String>,
    attributes: BTreeMap<String, BTreeSet<String>>,
    pub(super) began: u64,
    /// When it was used, give or take a tenth of the longest pause.
    pub(super) seen: u64,
    pub(super) renewal: Option<Renewal>,
}

/// By what a session is renewed, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    pub(super) refresh_token: String,
    /// From then on.
    pub(super) from: u64,
    /// What the issuer said of its user is good until then.
    pub(super) until: u64,
}

impl Renewal {
    fn of(granted: &Granted, refresh_token: String, now: u64) -> Self {
        let lasts = granted.lasts.as_secs();
        Self {
            refresh_token,
            from: now.saturating_add(lasts - lasts / 5),
            until: now.saturating_add(lasts),
        }
    }
}

impl Session {
    pub(super) fn begin(
        id: String,
        nonce: &str,
        proven: Verified,
        mut granted: Granted,
        asked: BTreeSet<String>,
    ) -> Self {
        let now = unix_now();
        let principal = proven.principal.as_ref().clone();
        let refresh_token = granted.refresh_token.take();
        let scopes = granted.scopes.take().unwrap_or(asked);
        Self {
            id,
            nonce: nonce.to_owned(),
            key_id: proven.key_id,
            subject: principal.subject,
            scopes,
            groups: principal.groups,
            attributes: principal.attributes,
            began: now,
            seen: now,
            renewal: refresh_token.map(|token| Renewal::of(&granted, token, now)),
        }
    }

    /// As the issuer renews it; `proven` is its word of the user this time, where it gives one.
    ///
    /// # Errors
    /// [`LoginFault::RefreshRefused`] where that is somebody else.
    pub(super) fn renewed(
        &self,
        proven: Option<Verified>,
        mut granted: Granted,
    ) -> Result<Self, LoginFault> {
        let now = unix_now();
        let mut renewed = self.clone();
        if let Some(proven) = proven {
            let principal = proven.principal.as_ref().clone();
            // OpenID Connect Core 1.0, 12.2.
            if principal.subject != self.subject {
                return Err(LoginFault::RefreshRefused);
            }
            renewed.key_id = proven.key_id;
            renewed.groups = principal.groups;
            renewed.attributes = principal.attributes;
        }
        if let Some(scopes) = granted.scopes.take() {
            renewed.scopes = scopes;
        }
        let before = self.renewal.as_ref().map(|it| it.refresh_token.clone());
        let refresh_token = granted.refresh_token.take().or(before);
        renewed.renewal = refresh_token.map(|token| Renewal::of(&granted, token, now));
        renewed.seen = now;
        Ok(renewed)
    }
}

impl Login {
    /// The session of a request, if it has one, and it is good for this request. `upgrades` is whether it asks for
    /// another protocol.
    ///
    /// # Errors
    /// Why it isn't.
    pub(crate) async fn session(
        self: &Arc<Self>,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        upgrades: bool,
    ) -> Result<Option<Entered>, LoginFault> {
        let now = unix_now();
        let Some(session) = self.current(headers, request, now)? else {
            return Ok(None);
        };
        origin::judge(headers, request, upgrades)?;
        let renewed = match &session.renewal {
            Some(renewal) if now >= renewal.from => match self.renew(&session, renewal).await {
                Ok(renewed) => Some(renewed),
                // Once more before its time is over.
                Err(LoginFault::RefreshFailed) if now < renewal.until => None,
                Err(fault) => return Err(fault),
            },
            _ => None,
        };
        let step = (self.rules.idle.as_secs() / 10).max(1);
        let renewed = renewed.or_else(|| {
            let stale = now.saturating_sub(session.seen) >= step;
            stale.then(|| Session {
                seen: now,
                ..session.clone()
            })
        });
        match renewed {
            None => self.entered(&session, Vec::new()).map(Some),
            Some(renewed) => {
                let cookies = self.give(request, &renewed, now)?;
                self.entered(&renewed, cookies).map(Some)
            }
        }
    }

    /// The session that a browser sent, however long it wasn't used, unless it is over by itself.
    pub(super) fn sent(
        &self,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        now: u64,
    ) -> Result<Option<Session>, LoginFault> {
        let sealed = match cookie::sent_session(headers, &self.rules.name) {
            cookie::Sent::Nothing => return Ok(None),
            cookie::Sent::Damaged => return Err(LoginFault::SessionDamaged),
            cookie::Sent::Whole(sealed) => sealed,
        };
        let session: Option<Session> = self.open("session", request, &sealed);
        let session = session.ok_or(LoginFault::SessionDamaged)?;
        if now >= self.end_of(&session) {
            return Err(LoginFault::SessionExpired);
        }
        Ok(Some(session))
    }

    /// The session that a browser sent, if its time isn't over.
    fn current(
        &self,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        now: u64,
    ) -> Result<Option<Session>, LoginFault> {
        let Some(session) = self.sent(headers, request, now)? else {
            return Ok(None);
        };
        if now >= session.seen.saturating_add(self.rules.idle.as_secs()) {
            return Err(LoginFault::SessionIdle);
        }
        if self.memory.has_ended(&session.id) {
            return Err(LoginFault::SessionEnded);
        }
        Ok(Some(session))
    }

    pub(super) fn end_of(&self, session: &Session) -> u64 {
        session.began.saturating_add(self.rules.lifetime.as_secs())
    }

    /// The fields that give it to the browser.
    pub(super) fn give(
        &self,
        request: &CanonicalRequest,
        session: &Session,
        now: u64,
    ) -> Result<Vec<HeaderValue>, LoginFault> {
        let sealed = self.seal("session", request, session)?;
        let lasts = self.end_of(session).saturating_sub(now);
        let given = cookie::give_session(&self.rules.name, &sealed, lasts);
        given.ok_or(LoginFault::TooLarge)
    }

    /// Who that is, with these cookies for the answer.
    ///
    /// # Errors
    /// [`LoginFault::SessionRevoked`].
    pub(super) fn entered(
        &self,
        session: &Session,
        cookies: Vec<HeaderValue>,
    ) -> Result<Entered, LoginFault> {
        let end = self.end_of(session);
        // As long as a token would be that ends when the issuer's word does.
        let leeway = self.issuer.rules().leeway.as_secs();
        let word = session.renewal.as_ref();
        let word = word.map_or(end, |it| it.until.saturating_add(leeway));
        let until = word.min(end);
        let verified = Verified {
            issuer: self.issuer.rules().issuer.as_str().into(),
            principal: Arc::new(Principal {
                issuer: self.rules.issuer.clone(),
                subject: session.subject.clone(),
                scopes: session.scopes.clone(),
                groups: session.groups.clone(),
                attributes: session.attributes.clone(),
                proven_by: ProvenBy::Session,
            }),
            claims: Claims {
                token_id: Some(session.id.clone()),
                issued: Some(session.began),
                expires: until,
                not_before: None,
                confirmation: Confirmation::default(),
            },
            key_id: session.key_id.clone(),
            from: session.began,
            until,
            keys: self.issuer.keys().current(),
            judged: AtomicU64::new(Verified::UNJUDGED),
        };
        self.revocations
            .judge(&verified)
            .map_err(|_| LoginFault::SessionRevoked)?;
        Ok(Entered {
            verified: Arc::new(verified),
            memory: Arc::clone(&self.memory),
            cookies,
        })
    }
}
