//! Keeps certificates current: asks for each that is missing or due, one after the other, and goes on
//! serving the last good one for as long as that fails.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use instant_acme::Account;
use rustls::ClientConfig;

use super::{
    account,
    directory::Directory,
    failure::AcmeError,
    issued::Issued,
    order::{Obtained, obtain},
    pending::{Challenge, Pending},
    renewal::wait,
    storage::Storage,
};
use crate::validity::Validity;

/// Longest sleep: the clock may be set, and the machine may have slept.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Longest time for one certificate, all questions and checks together.
const DEADLINE: Duration = Duration::from_secs(5 * 60);
/// Shortest pause between two looks.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// Shortest time between two certificates for the same names, whatever clocks say.
const LEAST_INTERVAL: Duration = Duration::from_secs(5);

/// An authority, and who asks it.
#[derive(Clone)]
pub struct Authority {
    /// URL of its directory (RFC 8555, 7.1.1).
    pub directory: String,
    /// Whom to trust for that.
    pub tls: ClientConfig,
    /// Where it may write to, such as `mailto:admin@example.org`.
    pub contacts: Vec<String>,
    /// What is kept of it.
    pub storage: Storage,
}

/// What happened.
#[derive(Debug)]
pub enum AcmeNews<'a> {
    /// A certificate was obtained, and is good until then.
    Obtained(SystemTime),
    /// None was; told once for as long as it is the same, with how long until the next attempt.
    Failed(&'a AcmeError, Duration),
    /// The one that was kept can't be used.
    Damaged(&'a str),
    /// There is another account with the authority, because of this.
    Registered(&'a AcmeError),
}

/// What is known of attempts: another configuration must not begin all over with an authority that counts.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<BTreeMap<Subject, Attempt>>);

/// What an attempt was about: where its certificate is kept, which tells authorities and names apart, and
/// how it was checked.
type Subject = (PathBuf, Challenge);

#[derive(Clone, Debug, Default)]
struct Attempt {
    failures: u32,
    /// Not before; told by a clock that nobody sets.
    not_before: Option<Instant>,
    /// What was told last.
    told: Option<String>,
}

impl Attempt {
    fn put_off(&mut self, wait: Duration) {
        self.not_before = Instant::now().checked_add(wait);
    }
}

impl Attempts {
    fn of(&self, subject: &Subject) -> Attempt {
        self.all().get(subject).cloned().unwrap_or_default()
    }

    fn note(&self, subject: &Subject, attempt: Attempt) {
        self.all().insert(subject.clone(), attempt);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Subject, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps all of these current, and tells what happens, by their names. Never ends.
pub async fn keep_issued(
    authority: Authority,
    all: Vec<Arc<Issued>>,
    pending: Arc<Pending>,
    attempts: Arc<Attempts>,
    tell: impl Fn(&[String], AcmeNews<'_>),
) {
    let mut keeper = Keeper {
        directory: Directory::new(&authority.directory, &authority.tls),
        authority,
        pending,
        account: None,
    };
    for issued in &all {
        if let Some(damage) = issued.damage() {
            tell(issued.names(), AcmeNews::Damaged(damage));
        }
    }
    let storage = keeper.authority.storage.clone();
    let mut each: Vec<_> = all
        .iter()
        .map(|issued| {
            let subject = (storage.certificate(issued.names()), issued.challenge());
            (issued, subject, renewal(issued.validity()))
        })
        .collect();
    loop {
        for (issued, subject, renewal_at) in &mut each {
            let mut attempt = attempts.of(subject);
            if !left(*renewal_at, &attempt).is_zero() {
                continue;
            }
            let outcome = tokio::time::timeout(DEADLINE, keeper.attempt(issued, &tell)).await;
            *renewal_at = renewal(issued.validity());
            match outcome.unwrap_or(Err(AcmeError::Slow)) {
                Ok(validity) => {
                    tell(issued.names(), AcmeNews::Obtained(validity.until));
                    attempt = Attempt::default();
                    attempt.put_off(LEAST_INTERVAL);
                }
                Err(error) => {
                    attempt.failures = attempt.failures.saturating_add(1);
                    let asked = keeper.directory.asks_to_wait().max(error.least_wait());
                    let wait = wait(error.setback(), attempt.failures, asked, draw());
                    attempt.put_off(wait);
                    tracing::debug!(names = ?issued.names(), %error, ?wait, "no certificate");
                    let topic = error.topic();
                    if attempt.told.as_ref() != Some(&topic) {
                        tell(issued.names(), AcmeNews::Failed(&error, wait));
                    }
                    attempt.told = Some(topic);
                }
            }
            attempts.note(subject, attempt);
        }
        let next = each
            .iter()
            .map(|(_, subject, at)| left(*at, &attempts.of(subject)));
        let next = next.min();
        // Never without a pause, though all be due.
        let sleep = next.unwrap_or(LOOK_INTERVAL).max(LEAST_PAUSE);
        tokio::time::sleep(sleep.min(LOOK_INTERVAL)).await;
    }
}

/// When one that is good for so long is renewed; none is due at once.
fn renewal(validity: Option<Validity>) -> SystemTime {
    validity.map_or(SystemTime::UNIX_EPOCH, |validity| validity.renewal(draw()))
}

/// How long until something is to be done: the renewal is due, and no attempt is put off.
fn left(renewal: SystemTime, attempt: &Attempt) -> Duration {
    let until_renewal = renewal
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    let put_off = attempt.not_before.map_or(Duration::ZERO, |not_before| {
        not_before.saturating_duration_since(Instant::now())
    });
    until_renewal.max(put_off)
}

/// A random number from 0 up to 1.
fn draw() -> f64 {
    // Without randomness there is no spread, and nothing worse.
    getrandom::u32().map_or(0.0, |number| {
        f64::from(number) / (f64::from(u32::MAX) + 1.0)
    })
}

struct Keeper {
    directory: Directory,
    authority: Authority,
    pending: Arc<Pending>,
    /// Once it was opened.
    account: Option<Account>,
}

impl Keeper {
    async fn attempt(
        &mut self,
        issued: &Arc<Issued>,
        tell: &impl Fn(&[String], AcmeNews<'_>),
    ) -> Result<Validity, AcmeError> {
        // What it asked for an earlier attempt is over.
        self.directory.asks_to_wait();
        let storage = self.authority.storage.clone();
        on_disk(move || storage.probe()).await??;
        let obtained = match self.order(issued).await {
            Err(error) if error.is_without_account() => {
                let contacts = &self.authority.contacts;
                let storage = &self.authority.storage;
                let account = account::register(&self.directory, contacts, storage).await?;
                self.account = Some(account);
                tell(issued.names(), AcmeNews::Registered(&error));
                self.order(issued).await?
            }
            obtained => obtained?,
        };
        let (issued, storage) = (Arc::clone(issued), self.authority.storage.clone());
        let validity = on_disk(move || issued.exchange(&obtained, &storage)).await??;
        // By this clock it would be renewed at once, and again, and again.
        if validity.renewal(0.0) <= SystemTime::now() {
            return Err(AcmeError::Clock {
                from: validity.from,
                until: validity.until,
            });
        }
        Ok(validity)
    }

    async fn order(&mut self, issued: &Issued) -> Result<Obtained, AcmeError> {
        let account = match self.account.take() {
            Some(account) => account,
            None => {
                let contacts = &self.authority.contacts;
                account::open(&self.directory, contacts, &self.authority.storage).await?
            }
        };
        let obtained = obtain(&account, issued.names(), issued.challenge(), &self.pending).await;
        // Opened anew after a failure: the directory may have changed.
        if obtained.is_ok() {
            self.account = Some(account);
        }
        obtained
    }
}

/// Writing waits for the disk, which nothing else has to wait for.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AcmeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| AcmeError::Unreached(error.to_string()))
}
