//! Tokens that say nothing to anybody but their issuer, which is asked about each (RFC 7662).
//!
//! ```text
//! question  how it is asked, and what it answers
//! known     what it answered, for a short while
//! bounds    how often, and how many at a time
//! fault     why there is no answer
//! ```
//!
//! What it answers is judged as the claims of a token are that it signed: the endpoint is the issuer's own, by its
//! TLS certificate.

mod bounds;
mod fault;
mod known;
mod question;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::watch;

pub use self::fault::IntrospectionFault;
use self::{
    bounds::Bounds,
    known::{Known, KnownTokens},
    question::{Answered, Question},
};
use crate::{
    fetch::Fetcher,
    token::{
        IssuerRules, LONGEST_TOKEN, Silent, TokenFault, TokenHash, Verified, Vouching, unix_now,
    },
};

/// A token on a route: what is known of it on another one is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AskedFor {
    pub(crate) token: TokenHash,
    pub(crate) route: TokenHash,
}

/// How an issuer is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntrospectionRules {
    /// Longest wait for an answer, and for a turn to ask.
    pub deadline: Duration,
    /// How long it is believed that a token is good; never beyond its `exp`.
    pub cache: Duration,
    /// How long it is believed that one isn't.
    pub inactive_cache: Duration,
    /// Most questions at a time.
    pub max_concurrent: usize,
    /// Most answers a second that a token isn't good: above, only tokens are asked about that were good lately.
    pub max_inactive: u32,
}

/// By whom an issuer is asked.
pub struct IntrospectionClient {
    /// Its id there.
    pub id: String,
    /// Its secret there.
    pub secret: String,
}

/// The secret stays out of logs.
impl std::fmt::Debug for IntrospectionClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IntrospectionClient({:?})", self.id)
    }
}

/// What was asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntrospectionCounts {
    /// Tokens that are good.
    pub active: u64,
    /// Tokens that aren't, by the issuer or by what it says of them.
    pub inactive: u64,
    /// No answer, or one that can't be read.
    pub failed: u64,
    /// Not asked at all.
    pub busy: u64,
}

type Outcome = Result<Arc<Verified>, TokenFault>;

/// An issuer that is asked about its tokens.
#[derive(Debug)]
pub struct Introspector {
    rules: IssuerRules,
    /// Value of `iss`, for each of its tokens.
    value: Arc<str>,
    question: Question,
    known: KnownTokens,
    bounds: Bounds,
    /// Questions that are under way; all who ask the same wait for one.
    flights: Mutex<HashMap<AskedFor, watch::Receiver<Option<Outcome>>>>,
    counts: [AtomicU64; 4],
    /// Why there was no answer the last time; `None` where there was.
    trouble: watch::Sender<Option<String>>,
}

impl Introspector {
    /// An issuer with these rules, which `fetcher` asks.
    pub fn new(
        rules: IssuerRules,
        fetcher: Fetcher,
        client: &IntrospectionClient,
        how: &IntrospectionRules,
    ) -> Self {
        Self {
            value: rules.issuer.as_str().into(),
            question: Question::new(fetcher, client),
            known: KnownTokens::new(how.cache, how.inactive_cache),
            bounds: Bounds::new(how),
            flights: Mutex::default(),
            counts: Default::default(),
            trouble: watch::Sender::new(None),
            rules,
        }
    }

    /// What its tokens must satisfy.
    pub fn rules(&self) -> &IssuerRules {
        &self.rules
    }

    /// For those who watch.
    pub fn counts(&self) -> IntrospectionCounts {
        let [active, inactive, failed, busy] =
            [0, 1, 2, 3].map(|it: usize| self.counts[it].load(Ordering::Relaxed));
        IntrospectionCounts {
            active,
            inactive,
            failed,
            busy,
        }
    }

    /// Why it can't be asked, from now on; `None` where it can.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Whether a token is good. Several who ask at a time wait for one answer.
    pub(crate) async fn prove(self: &Arc<Self>, asked: AskedFor, token: &str) -> Outcome {
        let now = Instant::now();
        let was_good = match self.known.find(&asked, now) {
            Known::Active(verified) => {
                verified.is_current(unix_now())?;
                return Ok(verified);
            }
            Known::Inactive(fault) => return Err(fault),
            Known::WasActive => true,
            Known::Nothing => false,
        };
        if token.len() > LONGEST_TOKEN {
            return Err(TokenFault::TooLong);
        }
        // RFC 6749, A.12.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenFault::Malformed);
        }
        let mut answer = self.board(asked, token, was_good, now)?;
        let landed = answer.wait_for(Option::is_some).await;
        let outcome = landed.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or(Err(IntrospectionFault::Failed.into()))
    }

    /// The question that is under way, or one that begins.
    fn board(
        self: &Arc<Self>,
        asked: AskedFor,
        token: &str,
        was_good: bool,
        now: Instant,
    ) -> Result<watch::Receiver<Option<Outcome>>, TokenFault> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&asked) {
            return Ok(flight.clone());
        }
        if !self.bounds.admit(flights.len(), was_good, now) {
            self.count(Count::Busy);
            return Err(IntrospectionFault::Busy.into());
        }
        let (landing, flight) = watch::channel(None);
        flights.insert(asked, flight.clone());
        drop(flights);
        let flying = Flying {
            introspector: Arc::clone(self),
            asked,
        };
        let token = token.to_owned();
        // It goes on when whoever began it is gone: others may wait.
        tokio::spawn(async move {
            let outcome = flying.introspector.ask(asked, &token, was_good).await;
            drop(flying);
            landing.send_replace(Some(outcome));
        });
        Ok(flight)
    }

    async fn ask(&self, asked: AskedFor, token: &str, was_good: bool) -> Outcome {
        let Some(turn) = self.bounds.turn(was_good).await else {
            self.count(Count::Busy);
            if !was_good {
                self.bounds.spend(Instant::now());
            }
            return Err(IntrospectionFault::Busy.into());
        };
        let answered = self.question.ask(token).await;
        drop(turn);
        let outcome = match answered {
            Answered::Failed(why) => {
                self.count(Count::Failed);
                self.trouble.send_if_modified(|trouble| {
                    let begins = trouble.is_none();
                    *trouble = Some(why);
                    begins
                });
                return Err(IntrospectionFault::Failed.into());
            }
            Answered::Active(says) => {
                let by = Vouching {
                    issuer: Arc::clone(&self.value),
                    key_id: None,
                    keys: Arc::default(),
                };
                let judged = self.rules.judge(&says, by, unix_now(), &mut Silent);
                judged.map(|mut verified| {
                    let id = &mut verified.claims.token_id;
                    *id = Some(id_of(id.take(), token));
                    Arc::new(verified)
                })
            }
            Answered::Inactive => Err(TokenFault::Inactive),
            Answered::Refused => Err(IntrospectionFault::Refused.into()),
        };
        self.trouble
            .send_if_modified(|trouble| trouble.take().is_some());
        // Before others can ask again.
        let now = Instant::now();
        match &outcome {
            Ok(verified) => {
                self.count(Count::Active);
                self.known.remember(asked, verified, now, unix_now());
            }
            Err(fault) => {
                self.count(Count::Inactive);
                self.bounds.spend(now);
                self.known.remember_inactive(asked, fault.clone(), now);
            }
        }
        outcome
    }

    fn count(&self, what: Count) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<AskedFor, watch::Receiver<Option<Outcome>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `jti` that an issuer says, unless that is the token itself, as with some: the trail has ids of tokens. What it
/// says no id of is told from others by its hash.
fn id_of(said: Option<String>, token: &str) -> String {
    said.filter(|id| !id.contains(token)).unwrap_or_else(|| {
        let hash = digest(&SHA256, token.as_bytes());
        format!("sha256:{}", URL_SAFE_NO_PAD.encode(hash))
    })
}

/// In the order of [`IntrospectionCounts`].
#[derive(Clone, Copy)]
enum Count {
    Active,
    Inactive,
    Failed,
    Busy,
}

/// A question under way; nobody boards it any more when this is dropped, however it ended.
struct Flying {
    introspector: Arc<Introspector>,
    asked: AskedFor,
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.introspector.flights().remove(&self.asked);
    }
}
