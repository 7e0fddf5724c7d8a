//! The end of a login: the issuer's answer, brought by the browser (RFC 6749, 4.1.2), is to this browser's attempt
//! and to no other, or it is nothing.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, HeaderValue, StatusCode};
use policy::CanonicalRequest;

use super::{
    Login, Told, attempt::Attempt, cookie, fault::LoginFault, memory::name_of, origin,
    provider::Provider, seal, session::Session,
};
use crate::{
    replay::Use,
    token::{Asking, unix_now},
};

/// The parameters of an answer that mean something here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
}

impl Parameters {
    /// `None` where one stands twice.
    fn read(query: &str) -> Option<Self> {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "state" => &mut read.state,
                "code" => &mut read.code,
                "error" => &mut read.error,
                "iss" => &mut read.issuer,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(read)
    }
}

impl Login {
    /// Ends an attempt, and begins a session. `cookies` is what the browser has to be told however that goes.
    ///
    /// # Errors
    /// Why it doesn't.
    pub(super) async fn end_attempt(
        &self,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        cookies: &mut Vec<HeaderValue>,
    ) -> Result<Told, LoginFault> {
        let query = request.query().unwrap_or_default();
        let answer = Parameters::read(query).ok_or(LoginFault::Malformed)?;
        let state = answer.state.filter(|state| !state.is_empty());
        let state = state.ok_or(LoginFault::Malformed)?;
        let now = unix_now();
        let attempt = self.own_attempt(headers, request, &state, now)?;
        let provider = Provider::of(self)?;
        match &answer.issuer {
            Some(issuer) if *issuer != self.issuer.rules().issuer => {
                return Err(LoginFault::IssuerWrong);
            }
            None if provider.names_itself() => return Err(LoginFault::IssuerMissing),
            _ => {}
        }
        let code = match (answer.code, answer.error) {
            (Some(code), None) if !code.is_empty() => Some(code),
            (None, Some(_)) => None,
            _ => return Err(LoginFault::Malformed),
        };
        // From here on the attempt is over, whatever comes of it.
        cookies.extend(cookie::take_attempt(&self.rules.name, &state));
        let name = name_of(&[&self.rules.name, &state]);
        let is_first = |used| match used {
            Use::First => Ok(()),
            Use::Again | Use::Unknown => Err(LoginFault::Replayed),
            Use::Full => Err(LoginFault::MemoryFull),
        };
        is_first(self.memory.answered.judge(&name, attempt.ends, now))?;
        let code = code.ok_or(LoginFault::RefusedByIssuer)?;
        let session = self.redeem(&provider, request, &attempt, &code).await?;
        // Whose code was good, and no other: whoever has no account fills no memory.
        is_first(self.memory.answered.enter(name, attempt.ends, now))?;
        // One that isn't let in even now would begin again and again.
        let who = self.entered(&session, Vec::new());
        let who = who.map_err(|_| LoginFault::Revoked)?;
        let given = self.give(request, &session, now)?;
        // Absolute: whatever the path begins with, it leads to this host.
        let back = format!("{}{}", origin::origin(request), attempt.target);
        Ok(Told {
            reason: "login_completed".to_owned(),
            status: StatusCode::SEE_OTHER,
            location: HeaderValue::try_from(back).map_err(|_| LoginFault::Malformed)?,
            cookies: given,
            who: Some(who),
        })
    }

    /// The attempt of this browser that has this state.
    fn own_attempt(
        &self,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        state: &str,
        now: u64,
    ) -> Result<Attempt, LoginFault> {
        let sealed = cookie::sent_attempt(headers, &self.rules.name, state);
        let sealed = sealed.ok_or(LoginFault::AttemptMissing)?;
        let attempt: Option<Attempt> = self.open("attempt", request, sealed);
        let attempt = attempt.ok_or(LoginFault::AttemptDamaged)?;
        verify_slices_are_equal(attempt.state.as_bytes(), state.as_bytes())
            .map_err(|_| LoginFault::StateWrong)?;
        if now >= attempt.ends {
            return Err(LoginFault::AttemptExpired);
        }
        Ok(attempt)
    }

    /// Asks the issuer for what its code is good for (RFC 6749, 4.1.3), and who that is.
    async fn redeem(
        &self,
        provider: &Provider<'_>,
        request: &CanonicalRequest,
        attempt: &Attempt,
        code: &str,
    ) -> Result<Session, LoginFault> {
        let redirect = self.redirect_uri(request);
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &redirect),
            ("code_verifier", &attempt.verifier),
        ];
        let granted = provider.tokens(&grant, &self.redeeming).await?;
        let id_token = granted.id_token.as_deref();
        let asking = Asking {
            client_id: &self.rules.client_id,
            nonce: &attempt.nonce,
            first: true,
            access_token: &granted.access_token,
        };
        let id_token = id_token.ok_or(LoginFault::AnswerInvalid)?;
        let proven = self.issuer.verify_id_token(id_token, &asking).await?;
        let id = seal::secret_letters().map_err(|_| LoginFault::NoRandomness)?;
        let asked = self.rules.scopes.iter().cloned().collect();
        Ok(Session::begin(id, &attempt.nonce, proven, granted, asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_stands_twice_is_none() {
        let some = |text: &str| Some(text.to_owned());
        let read =
            Parameters::read("code=a%2Bb&state=s&session_state=x&x=1&x=2&iss=https%3A%2F%2Fi");
        let wanted = Parameters {
            state: some("s"),
            code: some("a+b"),
            error: None,
            issuer: some("https://i"),
        };
        assert_eq!(read, Some(wanted));
        for query in ["state=a&state=a", "code=a&c%6fde=b", "iss=&iss="] {
            assert_eq!(Parameters::read(query), None, "{query}");
        }
    }
}
