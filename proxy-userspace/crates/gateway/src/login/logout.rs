//! The end of a session: here, in the browser, and at the issuer where that has an end of its own.

use http::{HeaderMap, HeaderValue, StatusCode};
use policy::CanonicalRequest;

use super::{Login, Told, cookie, fault::LoginFault, origin, provider::Provider};
use crate::token::unix_now;

impl Login {
    /// Ends the session of a browser, if it has one. `cookies` is what it has to be told however that goes.
    ///
    /// # Errors
    /// [`LoginFault::LogoutCrossSite`] where another site asks for it; [`LoginFault::MemoryFull`] where the browser's
    /// session is gone, and a copy of it would be good.
    pub(super) fn end_session(
        &self,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        cookies: &mut Vec<HeaderValue>,
    ) -> Result<Told, LoginFault> {
        if !origin::may_log_out(headers, request) {
            return Err(LoginFault::LogoutCrossSite);
        }
        cookies.extend(cookie::take_session(headers, &self.rules.name));
        let now = unix_now();
        // However long this tab wasn't used: a copy of the cookie may have been.
        let session = self.sent(headers, request, now).ok().flatten();
        if let Some(session) = &session {
            if !self.memory.end(&session.id, self.end_of(session), now) {
                return Err(LoginFault::MemoryFull);
            }
            // What the session let in ends with it.
            self.revocations.tell();
        }
        let own = origin::origin(request);
        let after = self.rules.after_logout.as_ref();
        let after = after.map(|path| format!("{own}{path}"));
        let mut parameters = vec![("client_id", self.rules.client_id.as_str())];
        if let Some(after) = &after {
            parameters.push(("post_logout_redirect_uri", after));
        }
        let at_issuer = Provider::of(self).ok();
        let at_issuer = at_issuer.and_then(|it| it.end_session(&parameters));
        let here = || HeaderValue::try_from(after.unwrap_or_else(|| format!("{own}/")));
        let location = match at_issuer {
            Some(location) => location,
            None => here().map_err(|_| LoginFault::Malformed)?,
        };
        Ok(Told {
            reason: "logged_out".to_owned(),
            status: StatusCode::SEE_OTHER,
            location,
            cookies: Vec::new(),
            who: session.and_then(|session| self.entered(&session, Vec::new()).ok()),
        })
    }
}
