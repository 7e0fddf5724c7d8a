//! The beginning of a login (RFC 6749, 4.1.1; RFC 7636; OpenID Connect Core 1.0, 3.1.2.1): the browser is sent to
//! the issuer, and keeps for us what its answer has to fit.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode};
use policy::CanonicalRequest;
use serde::{Deserialize, Serialize};

use super::{Login, Told, cookie, fault::LoginFault, origin, provider::Provider, seal};
use crate::token::unix_now;

/// Longest target that a browser comes back to; from longer ones it comes to `/`.
const LONGEST_TARGET: usize = 512;

/// States that are drawn so that one has a place of its own in the browser: more than there are places.
const DRAWN: usize = 16;

/// What the browser keeps of an attempt.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempt {
    /// What the issuer's answer quotes: it is to this attempt (RFC 6749, 10.12).
    pub(super) state: String,
    /// What its token quotes: the user has logged in for this attempt.
    pub(super) nonce: String,
    /// What proves that a code was asked for here (RFC 7636, 4.1).
    pub(super) verifier: String,
    /// Path and query that were asked for, on the same host.
    pub(super) target: String,
    /// In seconds since the epoch.
    pub(super) ends: u64,
}

impl Login {
    /// Sends a browser to the issuer; `reason` is why.
    ///
    /// # Errors
    /// [`LoginFault::IssuerUnavailable`], [`LoginFault::NoRandomness`].
    pub(crate) fn begin(
        &self,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        reason: String,
    ) -> Result<Told, LoginFault> {
        let provider = Provider::of(self)?;
        let random = || seal::secret_letters().map_err(|_| LoginFault::NoRandomness);
        let mut state = random()?;
        for _ in 0..DRAWN {
            if cookie::is_free(headers, &self.rules.name, &state) {
                break;
            }
            state = random()?;
        }
        let lasts = self.rules.attempt.as_secs().max(1);
        let target = Some(request.origin_form()).filter(|it| it.len() <= LONGEST_TARGET);
        let attempt = Attempt {
            state,
            nonce: random()?,
            verifier: random()?,
            target: target.unwrap_or_else(|| "/".to_owned()),
            ends: unix_now().saturating_add(lasts),
        };
        let challenge = digest(&SHA256, attempt.verifier.as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(challenge);
        let (redirect, scopes) = (self.redirect_uri(request), self.rules.scopes.join(" "));
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", &self.rules.client_id),
            ("redirect_uri", &redirect),
            ("scope", &scopes),
            ("state", &attempt.state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        // OpenID Connect Core 1.0, 11.
        if self.rules.scopes.iter().any(|it| it == "offline_access") {
            parameters.push(("prompt", "consent"));
        }
        let location = provider.authorization(&parameters)?;
        let sealed = self.seal("attempt", request, &attempt)?;
        let cookie = cookie::give_attempt(&self.rules.name, &attempt.state, &sealed, lasts);
        Ok(Told {
            reason,
            status: StatusCode::FOUND,
            location,
            cookies: vec![cookie.ok_or(LoginFault::TooLarge)?],
            who: None,
        })
    }

    /// Where the issuer sends the browser back to.
    pub(super) fn redirect_uri(&self, request: &CanonicalRequest) -> String {
        format!("{}{}", origin::origin(request), self.rules.callback)
    }
}
