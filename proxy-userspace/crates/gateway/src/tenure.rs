//! For how long something that a token let in may go on: as long as that token is good, and not taken back.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::time;

use crate::{
    revocation::Revocations,
    token::{TokenFault, Verified, unix_now},
};

/// What takes no longer than this is looked at when it is over, and doesn't listen for revocations: nearly
/// nothing takes longer, and a revocation may take a second to reach what goes on.
const SHORT: Duration = Duration::from_millis(500);

/// The wall clock is asked again after this long: it may have been set.
const ASKED_AGAIN: Duration = Duration::from_secs(3_600);

/// What a token let in, while it goes on.
pub(crate) struct Tenure {
    token: Arc<Verified>,
    revocations: Arc<Revocations>,
    began: Instant,
    until: Instant,
    /// Done when there is another revocation.
    listening: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Tenure {
    /// Of what begins now.
    pub(crate) fn of(token: Arc<Verified>, revocations: &Arc<Revocations>) -> Self {
        let began = Instant::now();
        Self {
            until: end_of(&token, began),
            token,
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

    /// Whether it may go on. If so, the task is woken when a token is revoked, once it has taken long enough for
    /// that to be worth it; that time passes is the caller's to notice: see [`Self::wakes`].
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn look(&mut self, context: &mut Context<'_>) -> Result<(), TokenFault> {
        self.stands()?;
        if self.listening.is_none() && Instant::now() < self.began + SHORT {
            return Ok(());
        }
        loop {
            let listening = self.listening.get_or_insert_with(|| {
                let changed = self.revocations.changed();
                Box::pin(async move { changed.notified().await })
            });
            match listening.as_mut().poll(context) {
                Poll::Pending => break,
                Poll::Ready(()) => self.listening = None,
            }
        }
        // Since it listens, none is missed.
        self.revocations.judge(&self.token)
    }

    /// Whether it may go on, asked by somebody who comes again soon.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn stands(&mut self) -> Result<(), TokenFault> {
        self.revocations.judge(&self.token)?;
        let now = Instant::now();
        if now >= self.until {
            self.token.is_current(unix_now())?;
            self.until = end_of(&self.token, now);
        }
        Ok(())
    }

    /// Returns when it may go on no more, and why.
    pub(crate) async fn over(&mut self) -> TokenFault {
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

/// When a token ends, or has to be asked whether it has.
fn end_of(token: &Verified, now: Instant) -> Instant {
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(token.until));
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
        (Tenure::of(token, &revocations), revocations)
    }

    #[tokio::test]
    async fn it_ends_with_its_token() {
        let (mut tenure, _revocations) = tenure(unix_now() + 2);
        let began = Instant::now();
        assert_eq!(tenure.over().await, TokenFault::Expired);
        let took = began.elapsed();
        assert!(took > Duration::from_millis(900), "{took:?}");
        assert_eq!(tenure.stands(), Err(TokenFault::Expired));
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
            assert_eq!(fault, TokenFault::Revoked);
        }
    }
}
