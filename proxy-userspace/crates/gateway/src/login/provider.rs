//! The issuer as a login asks it: where its metadata says (OpenID Connect Discovery 1.0, 3; RFC 8414, 2), and
//! under the rules that hold for its keys.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use form_urlencoded::Serializer;
use http::{HeaderValue, StatusCode, Uri};
use tokio::sync::Semaphore;

use super::{Login, fault::LoginFault};
use crate::token::{Discovery, Json, Members, parse_object};

/// How long an access token is taken to last whose issuer doesn't say.
const UNSAID: u64 = 300;

/// Longest token that is taken from an issuer in bytes; a session has to fit in a few cookies.
const LONGEST: usize = 8 * 1024;

/// The issuer by what it said of itself last.
pub(super) struct Provider<'l> {
    login: &'l Login,
    discovery: &'l Discovery,
    metadata: Arc<Members>,
}

/// What an issuer grants (RFC 6749, 5.1; OpenID Connect Core 1.0, 3.1.3.3).
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) access_token: String,
    pub(super) id_token: Option<String>,
    pub(super) refresh_token: Option<String>,
    /// Where it isn't said, they are those that were asked for.
    pub(super) scopes: Option<BTreeSet<String>>,
    /// How long, from now on.
    pub(super) lasts: Duration,
}

impl<'l> Provider<'l> {
    /// # Errors
    /// [`LoginFault::IssuerUnavailable`] where it was never reached.
    pub(super) fn of(login: &'l Login) -> Result<Self, LoginFault> {
        let discovery = login.issuer.keys().discovery();
        let known = discovery.and_then(|discovery| Some((discovery, discovery.known()?)));
        let (discovery, metadata) = known.ok_or(LoginFault::IssuerUnavailable)?;
        Ok(Self {
            login,
            discovery,
            metadata,
        })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).and_then(Json::text)
    }

    /// A place that browsers are sent to, with these parameters.
    fn place(&self, name: &str, parameters: &[(&str, &str)]) -> Option<HeaderValue> {
        let endpoint = self.text(name)?;
        let uri: Uri = endpoint.parse().ok()?;
        let authority = uri.authority().filter(|it| !it.as_str().contains('@'));
        if uri.scheme_str() != Some("https") || authority.is_none() || endpoint.contains('#') {
            return None;
        }
        let joint = if uri.query().is_some() { '&' } else { '?' };
        HeaderValue::try_from(format!("{endpoint}{joint}{}", form(parameters))).ok()
    }

    /// Where a browser logs in.
    pub(super) fn authorization(
        &self,
        parameters: &[(&str, &str)],
    ) -> Result<HeaderValue, LoginFault> {
        let place = self.place("authorization_endpoint", parameters);
        place.ok_or(LoginFault::IssuerUnavailable)
    }

    /// Where a browser logs out (OpenID Connect RP-Initiated Logout 1.0), if it does at all.
    pub(super) fn end_session(&self, parameters: &[(&str, &str)]) -> Option<HeaderValue> {
        self.place("end_session_endpoint", parameters)
    }

    /// Whether it names itself in its answers (RFC 9207, 3).
    pub(super) fn names_itself(&self) -> bool {
        let said = self
            .metadata
            .get("authorization_response_iss_parameter_supported");
        said == Some(&Json::Bool(true))
    }

    /// Asks for tokens with this grant, where there is a turn left.
    ///
    /// # Errors
    /// [`LoginFault::CodeRefused`] where it gives none, [`LoginFault::IssuerUnavailable`] where it can't be asked,
    /// [`LoginFault::Overloaded`], [`LoginFault::AnswerInvalid`].
    pub(super) async fn tokens(
        &self,
        grant: &[(&str, &str)],
        turns: &Semaphore,
    ) -> Result<Granted, LoginFault> {
        let name = self.login.rules.name.as_str();
        let _turn = turns.try_acquire().map_err(|_| LoginFault::Overloaded)?;
        let endpoint = self.text("token_endpoint");
        let endpoint = endpoint.ok_or(LoginFault::IssuerUnavailable)?;
        let asking = self.discovery.asking(endpoint);
        let (form, credentials) = self.authenticated(grant);
        let replied = match asking {
            Ok(fetcher) => fetcher.post(form, credentials).await,
            Err(error) => Err(error),
        };
        let replied = replied.map_err(|error| {
            tracing::error!(login = name, %error, "the issuer can't be asked for tokens");
            LoginFault::IssuerUnavailable
        })?;
        let document = parse_object(&replied.bytes);
        match replied.status {
            StatusCode::OK => {
                let granted = document.ok().as_ref().and_then(granted);
                granted.ok_or(LoginFault::AnswerInvalid)
            }
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let error = document.ok();
                let error = error.as_ref().and_then(|it| it.get("error")?.text());
                tracing::warn!(login = name, ?error, "the issuer gives no tokens");
                Err(LoginFault::CodeRefused)
            }
            status => {
                tracing::error!(login = name, %status, "the issuer can't be asked for tokens");
                Err(LoginFault::IssuerUnavailable)
            }
        }
    }

    /// A grant with what proves who asks (RFC 6749, 2.3.1; OpenID Connect Core 1.0, 9).
    fn authenticated(&self, grant: &[(&str, &str)]) -> (String, Option<HeaderValue>) {
        let rules = &self.login.rules;
        let mut parameters = grant.to_vec();
        let secret = rules.secret.as_ref().map(|secret| secret.0.as_str());
        let methods = self.metadata.get("token_endpoint_auth_methods_supported");
        let methods = methods.and_then(Json::texts);
        let takes_basic = methods.is_none_or(|methods| methods.contains(&"client_secret_basic"));
        let basic = secret.filter(|_| takes_basic).and_then(|secret| {
            let encode =
                |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let both = format!("{}:{}", encode(&rules.client_id), encode(secret));
            let mut field =
                HeaderValue::try_from(format!("Basic {}", STANDARD.encode(both))).ok()?;
            field.set_sensitive(true);
            Some(field)
        });
        if basic.is_none() {
            parameters.push(("client_id", &rules.client_id));
            parameters.extend(secret.map(|secret| ("client_secret", secret)));
        }
        (form(&parameters), basic)
    }
}

/// As `application/x-www-form-urlencoded`.
fn form(parameters: &[(&str, &str)]) -> String {
    Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish()
}

fn granted(answer: &Members) -> Option<Granted> {
    let text = |name: &str| match answer.get(name) {
        None | Some(Json::Null) => Some(None),
        Some(Json::Text(text)) if text.len() <= LONGEST => Some(Some(text.clone())),
        Some(_) => None,
    };
    let lasts = match answer.get("expires_in") {
        None => UNSAID,
        Some(Json::Whole(seconds)) => *seconds,
        Some(_) => return None,
    };
    let scopes = text("scope")?.map(|scopes| {
        let scopes = scopes.split(' ').filter(|scope| !scope.is_empty());
        scopes.map(str::to_owned).collect()
    });
    Some(Granted {
        access_token: text("access_token")??,
        id_token: text("id_token")?,
        refresh_token: text("refresh_token")?,
        scopes,
        lasts: Duration::from_secs(lasts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Granted> {
        granted(&parse_object(text.as_bytes()).expect("an object"))
    }

    #[test]
    fn what_is_granted_is_read_in_one_way() {
        let least = read(r#"{"access_token":"a","token_type":"Bearer"}"#).expect("granted");
        assert_eq!(least.lasts, Duration::from_secs(UNSAID));
        assert_eq!((least.scopes, least.refresh_token), (None, None));
        let more = read(r#"{"access_token":"a","id_token":"i","scope":"b  a","expires_in":9}"#);
        let more = more.expect("granted");
        assert_eq!(more.id_token.as_deref(), Some("i"));
        assert_eq!(more.scopes, Some(["a", "b"].map(str::to_owned).into()));
        for text in [
            "{}",
            r#"{"access_token":7}"#,
            r#"{"access_token":"a","id_token":[]}"#,
            r#"{"access_token":"a","expires_in":"9"}"#,
            r#"{"access_token":"a","expires_in":-1}"#,
            r#"{"access_token":"a","scope":["b"]}"#,
        ] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
