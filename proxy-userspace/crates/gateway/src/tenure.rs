//! For how long something that was let in may go on: as long as what let it in is good, and not taken back.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::Notify, time};

use crate::{
    api_key::{ApiKeyFault, HeldKey},
    login::{LoginFault, LoginMemory},
    revocation::Revocations,
    token::{TokenFault, Verified, unix_now},
};

/// What takes no longer than this is looked at when it is over, and doesn't listen for revocations: nearly
/// nothing takes longer, and a revocation may take a second to reach what goes on.
const SHORT: Duration = Duration::from_millis(500);

/// The wall clock is asked again after this long: it may have been set.
const ASKED_AGAIN: Duration = Duration::from_secs(3_600);

/// Why something may go on no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Over {
    #[error(transparent)]
    Token(#[from] TokenFault),
    #[error(transparent)]
    Session(#[from] LoginFault),
    #[error(transparent)]
    ApiKey(#[from] ApiKeyFault),
}

/// What let something in.
#[derive(Debug)]
pub(crate) enum Basis {
    Token(Arc<Verified>),
    /// As what is proven of a token, and what is known of its end.
    Session(Arc<Verified>, Arc<LoginMemory>),
    ApiKey(Box<HeldKey>),
}

impl Basis {
    /// Whether it is taken back.
    fn stands(&mut self, revocations: &Revocations) -> Result<(), Over> {
        match self {
            Self::Token(token) => Ok(revocations.judge(token)?),
            Self::Session(session, memory) => {
                if revocations.judge(session).is_err() {
                    return Err(LoginFault::SessionRevoked.into());
                }
                let id = session.claims.token_id.as_deref();
                if id.is_some_and(|id| memory.has_ended(id)) {
                    return Err(LoginFault::SessionEnded.into());
                }
                Ok(())
            }
            Self::ApiKey(held) => Ok(held.stands()?),
        }
    }

    /// Whether its time is over.
    fn is_current(&self, now: u64) -> Result<(), Over> {
        match self {
            Self::Token(token) => Ok(token.is_current(now)?),
            Self::Session(session, _) if now >= session.until => {
                Err(LoginFault::SessionExpired.into())
            }
            Self::ApiKey(held) if held.expires().is_some_and(|expires| now >= expires) => {
                Err(ApiKeyFault::Expired.into())
            }
            Self::Session(..) | Self::ApiKey(_) => Ok(()),
        }
    }

    /// The second since the epoch from which on it isn't good.
    fn until(&self) -> u64 {
        match self {
            Self::Token(verified) | Self::Session(verified, _) => verified.until,
            Self::ApiKey(held) => held.expires().unwrap_or(u64::MAX),
        }
    }

    /// Tells whoever waits that something may have been taken back.
    fn changed(&self, revocations: &Revocations) -> Arc<Notify> {
        match self {
            Self::Token(_) | Self::Session(..) => revocations.changed(),
            Self::ApiKey(held) => held.changed(),
        }
    }
}

/// What was let in, while it goes on.
pub(crate) struct Tenure {
    basis: Basis,
    revocations: Arc<Revocations>,
    began: Instant,
    until: Instant,
    /// Done when something may have been taken back.
    listening: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Tenure {
    /// Of what begins now.
    pub(crate) fn of(basis: Basis, revocations: &Arc<Revocations>) -> Self {
        let began = Instant::now();
        Self {
            until: end_of(&basis, began),
            basis,
            revocations: Arc::clone(revocations),
            began,
            listening: None,
        }
    }

    /// By when it has to be looked at again.
    pub(crate) fn wakes(&self) -> Instant {
        match &self.listening {
            Some(_) => self.until,
            None => self.until.min(self.began + SHORT),
        }
    }

    /// Whether it may go on. If so, the task is woken when something is taken back, once it has taken long enough for
    /// that to be worth it; that time passes is the caller's to notice: see [`Self::wakes`].
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn look(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        self.stands()?;
        if self.listening.is_none() && Instant::now() < self.began + SHORT {
            return Ok(());
        }
        loop {
            let listening = self.listening.get_or_insert_with(|| {
                let changed = self.basis.changed(&self.revocations);
                Box::pin(async move { changed.notified().await })
            });
            match listening.as_mut().poll(context) {
                Poll::Pending => break,
                Poll::Ready(()) => self.listening = None,
            }
        }
        // Since it listens, none is missed.
        self.stands()
    }

    /// Whether it may go on, asked by somebody who comes again soon.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn stands(&mut self) -> Result<(), Over> {
        let until = self.basis.until();
        self.basis.stands(&self.revocations)?;
        let now = Instant::now();
        if self.basis.until() != until {
            self.until = end_of(&self.basis, now);
        }
        if now >= self.until {
            self.basis.is_current(unix_now())?;
            self.until = end_of(&self.basis, now);
        }
        Ok(())
    }

    /// Returns when it may go on no more, and why.
    pub(crate) async fn over(&mut self) -> Over {
        loop {
            let wakes = self.wakes();
            let looking = std::future::poll_fn(|context| match self.look(context) {
                Ok(()) => Poll::Pending,
                Err(fault) => Poll::Ready(fault),
            });
            if let Ok(fault) = time::timeout_at(wakes.into(), looking).await {
                return fault;
            }
        }
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// When it ends, or has to be asked whether it has.
fn end_of(basis: &Basis, now: Instant) -> Instant {
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(basis.until()));
    let left = end.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    now + left.unwrap_or(ASKED_AGAIN).min(ASKED_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{revocation::Revocation, token::sample};

    fn tenure(until: u64) -> (Tenure, Arc<Revocations>) {
        let revocations = Arc::new(Revocations::default());
        let token = Arc::new(sample(0, until));
        (Tenure::of(Basis::Token(token), &revocations), revocations)
    }

    #[tokio::test]
    async fn it_ends_with_its_token() {
        let (mut tenure, _revocations) = tenure(unix_now() + 2);
        let began = Instant::now();
        assert_eq!(tenure.over().await, TokenFault::Expired.into());
        let took = began.elapsed();
        assert!(took > Duration::from_millis(900), "{took:?}");
        assert_eq!(tenure.stands(), Err(TokenFault::Expired.into()));
    }

    #[tokio::test]
    async fn it_ends_when_its_token_is_revoked_whether_it_listens_already_or_not() {
        for listened in [Duration::ZERO, SHORT * 2] {
            let (mut tenure, revocations) = tenure(u64::MAX);
            let other = Revocation {
                token_id: Some("another".to_owned()),
                ..Revocation::default()
            };
            let going_on = tokio::spawn(async move { tenure.over().await });
            time::sleep(listened).await;
            revocations.exchange([other.clone()]);
            tokio::task::yield_now().await;
            assert!(!going_on.is_finished(), "another's");
            revocations.exchange([other, Revocation::default()]);
            let fault = time::timeout(Duration::from_secs(5), going_on).await;
            let fault = fault.expect("in time").expect("no panic");
            assert_eq!(fault, TokenFault::Revoked.into());
        }
    }
}
