//! A session renewed at the issuer (RFC 6749, 6), once however many of its requests ask for it: an issuer that
//! gives a new refresh token each time takes the old one twice for a theft, and ends both (RFC 9700, 4.14.2).

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use super::{
    Login,
    fault::LoginFault,
    memory::name_of,
    provider::Provider,
    session::{Renewal, Session},
};
use crate::{replay::Name, token::Asking};

/// Renewals that are remembered.
const MOST: usize = 64 * 1024;

/// How long requests that the browser sent with the cookie of before get what it came to.
const GRACE: Duration = Duration::from_secs(60);

/// How long nobody asks again after it failed.
const RETRY: Duration = Duration::from_secs(5);

/// What became of a renewal, and when.
#[derive(Debug)]
struct Renewed {
    at: Instant,
    outcome: Result<Session, LoginFault>,
}

impl Renewed {
    fn holds(&self) -> bool {
        let long = match &self.outcome {
            Ok(_) => GRACE,
            Err(_) => RETRY,
        };
        self.at.elapsed() < long
    }
}

/// Renewals of the last minute.
pub(super) struct Renewals(Cache<Name, Arc<Renewed>>);

impl Default for Renewals {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl fmt::Debug for Renewals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Renewals").field(&self.0.len()).finish()
    }
}

impl Login {
    /// The session as the issuer renews it.
    ///
    /// # Errors
    /// [`LoginFault::RefreshRefused`] where it doesn't, [`LoginFault::RefreshFailed`] where it can't be asked now.
    pub(super) async fn renew(
        self: &Arc<Self>,
        session: &Session,
        renewal: &Renewal,
    ) -> Result<Session, LoginFault> {
        // One that stays the same is another one at each renewal.
        let until = renewal.until.to_string();
        let name = name_of(&[&session.id, &renewal.refresh_token, &until]);
        let (login, session) = (Arc::clone(self), session.clone());
        let refresh_token = renewal.refresh_token.clone();
        // It goes on when the client leaves, and is remembered: what the issuer gives, it gives once.
        let renewing = tokio::spawn(async move {
            let renewals = &login.memory.renewals.0;
            renewals.remove_if(&name, |renewed| !renewed.holds());
            let renewed = renewals.get_or_insert_async(&name, async {
                let outcome = login.ask(&session, &refresh_token).await;
                let at = Instant::now();
                Ok::<_, LoginFault>(Arc::new(Renewed { at, outcome }))
            });
            renewed.await?.outcome.clone()
        });
        renewing.await.map_err(|_| LoginFault::RefreshFailed)?
    }

    async fn ask(&self, session: &Session, refresh_token: &str) -> Result<Session, LoginFault> {
        let failed = |fault| match fault {
            LoginFault::CodeRefused => LoginFault::RefreshRefused,
            _ => LoginFault::RefreshFailed,
        };
        let grant = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
        ];
        let provider = Provider::of(self).map_err(failed)?;
        let granted = provider.tokens(&grant, &self.renewing).await;
        let granted = granted.map_err(failed)?;
        let proven = match &granted.id_token {
            None => None,
            Some(token) => {
                let asking = Asking {
                    client_id: &self.rules.client_id,
                    nonce: &session.nonce,
                    first: false,
                    access_token: &granted.access_token,
                };
                let verified = self.issuer.verify_id_token(token, &asking).await;
                Some(verified.map_err(|fault| {
                    let login = &self.rules.name;
                    tracing::warn!(login, %fault, "the issuer's token is of no use");
                    LoginFault::RefreshRefused
                })?)
            }
        };
        session.renewed(proven, granted)
    }
}
