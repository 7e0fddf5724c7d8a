//! What client, upstream and trail say of each request, put together by its decision id as soon as all who have
//! to say something have.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Compared, Http, reading};
use crate::run::{RigError, Rigged};

/// Most accounts that are open while clients go on asking.
const MOST_OPEN: usize = 10_000;
/// How long the upstream and the trail may lag behind.
const PATIENCE: Duration = Duration::from_secs(60);
/// Faults that are kept; with the first of them clients end.
const MOST_FAULTS: usize = 5;

/// What the client knows of a request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) target: Vec<u8>,
    pub(super) http: Http,
    pub(super) status: u16,
}

/// What its record says.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) permitted: bool,
    pub(super) path: Option<String>,
    pub(super) status: u16,
}

/// What is known so far of one request.
#[derive(Debug, Default)]
struct Account {
    asked: Option<Asked>,
    recorded: Option<Recorded>,
    /// The target of the upstream's request line.
    heard: Option<Vec<u8>>,
}

impl Account {
    /// Whether nobody has to say anything more of it.
    fn is_whole(&self) -> bool {
        let owed = self.recorded.as_ref().is_some_and(|it| it.permitted);
        self.asked.is_some() && self.recorded.is_some() && (self.heard.is_some() || !owed)
    }

    /// Over which protocol, and whether it was served; an error says what shouldn't be.
    fn judge(&self) -> Result<(Http, bool), &'static str> {
        let (Some(asked), Some(recorded)) = (&self.asked, &self.recorded) else {
            return Err("it isn't whole");
        };
        if asked.status != recorded.status {
            return Err("the record has another status than the answer");
        }
        let Some(heard) = &self.heard else {
            let refusal = (400..500).contains(&asked.status);
            return match refusal {
                true => Ok((asked.http, false)),
                false => Err("that is no refusal"),
            };
        };
        if !recorded.permitted {
            return Err("it was refused and reached the upstream");
        }
        if asked.status != 204 {
            return Err("the upstream's answer is another one");
        }
        let (path, query) = reading::cut(heard);
        if recorded.path.as_ref().map(String::as_bytes) != Some(path) {
            return Err("the recorded path isn't what the upstream received");
        }
        if !reading::is_canonical(path) {
            return Err("the path isn't canonical");
        }
        let sent = reading::parts(&asked.target, asked.http);
        if !reading::is_same(sent.0, path) {
            return Err("the path isn't what the client asked for");
        }
        if sent.1 != query {
            return Err("the query isn't the client's");
        }
        Ok((asked.http, true))
    }

    fn shown(&self) -> String {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let asked = self.asked.as_ref();
        let sent = asked.map(|it| (text(&it.target), it.http, it.status));
        let heard = self.heard.as_deref().map(text);
        format!(
            "asked {sent:?}, heard {heard:?}, recorded {:?}",
            self.recorded
        )
    }
}

#[derive(Default)]
struct State {
    open: HashMap<u128, Account>,
    told: Compared,
    /// Requests that couldn't be read, as the trail has them.
    recorded_unread: u64,
    faults: Vec<String>,
}

/// The accounts of a run.
pub(super) struct Accounts {
    /// How many requests over each protocol have to be served.
    count: u64,
    state: Mutex<State>,
    room: Condvar,
}

impl Accounts {
    pub(super) fn new(count: u64) -> Self {
        Self {
            count,
            state: Mutex::default(),
            room: Condvar::new(),
        }
    }

    /// A client's answer.
    pub(super) fn asked(&self, id: u128, asked: Asked) {
        self.note(id, |account| account.asked.replace(asked).is_some());
    }

    /// A request line at the upstream.
    pub(super) fn heard(&self, id: u128, target: Vec<u8>) {
        self.note(id, |account| account.heard.replace(target).is_some());
    }

    /// A record of the trail.
    pub(super) fn recorded(&self, id: u128, recorded: Recorded) {
        self.note(id, |account| account.recorded.replace(recorded).is_some());
    }

    /// A request that couldn't be read, as its client was told without a decision.
    pub(super) fn unread(&self, http: Http) {
        self.state().told.of(http).unread += 1;
    }

    /// A connection that a client has opened.
    pub(super) fn connected(&self, http: Http) {
        self.state().told.of(http).connections += 1;
    }

    /// The trail's record of such a request, which names no decision either.
    pub(super) fn recorded_unread(&self) {
        self.state().recorded_unread += 1;
    }

    /// Something that shouldn't have happened.
    pub(super) fn fault(&self, fault: String) {
        let mut state = self.state();
        if state.faults.len() < MOST_FAULTS {
            state.faults.push(fault);
        }
        self.room.notify_all();
    }

    /// Waits until no more accounts are open than may be; whether there is anything more to ask.
    pub(super) fn await_room(&self, http: Http) -> Rigged<bool> {
        let begun = Instant::now();
        let mut state = self.state();
        while state.open.len() > MOST_OPEN && state.faults.is_empty() {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let open = state.open.len();
                return Err(RigError(format!(
                    "{open} accounts are open for {PATIENCE:?}"
                )));
            }
            let waited = self.room.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.told.of(http).served < self.count && state.faults.is_empty())
    }

    /// Closes the books, when nobody says anything any more: what is open now is a fault.
    ///
    /// # Errors
    /// The first of what shouldn't have happened.
    pub(super) fn settle(&self) -> Rigged<Compared> {
        let mut state = self.state();
        let (unread, recorded) = (
            state.told.http1.unread + state.told.http2.unread,
            state.recorded_unread,
        );
        if unread != recorded {
            state.faults.push(format!(
                "{unread} requests couldn't be read, and {recorded} are recorded"
            ));
        }
        let open = state.open.iter().take(MOST_FAULTS);
        let open = open.map(|(id, account)| format!("{id:032x} isn't whole: {}", account.shown()));
        let faults = [state.faults.clone(), open.collect()].concat();
        match faults.is_empty() {
            true => Ok(state.told),
            false => Err(RigError(faults.join("; "))),
        }
    }

    fn note(&self, id: u128, put: impl FnOnce(&mut Account) -> bool) {
        let mut state = self.state();
        let account = state.open.entry(id).or_default();
        if put(account) {
            let fault = format!("{id:032x} was told twice: {}", account.shown());
            drop(state);
            return self.fault(fault);
        }
        let closed = account.is_whole().then(|| state.open.remove(&id)).flatten();
        state.told.most_open = state.told.most_open.max(state.open.len());
        let Some(account) = closed else { return };
        match account.judge() {
            Ok((http, true)) => state.told.of(http).served += 1,
            Ok((http, false)) => state.told.of(http).refused += 1,
            Err(what) => {
                drop(state);
                return self.fault(format!("{id:032x}: {what}: {}", account.shown()));
            }
        }
        if state.open.len() <= MOST_OPEN {
            self.room.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: (&str, u16, bool, &str, Option<&str>) = ("/%61?q", 204, true, "/a", Some("/a?q"));

    /// What is told of one request: target, status, verdict, recorded path, what the upstream heard.
    fn judged(of: (&str, u16, bool, &str, Option<&str>)) -> Result<Compared, String> {
        let (target, status, permitted, path, heard) = of;
        let accounts = Accounts::new(1);
        let (http, path) = (Http::One, Some(path.to_owned()));
        let target = target.as_bytes().to_vec();
        if let Some(heard) = heard {
            accounts.heard(7, heard.as_bytes().to_vec());
        }
        let recorded = Recorded {
            permitted,
            path,
            status,
        };
        accounts.recorded(7, recorded);
        let asked = Asked {
            target,
            http,
            status,
        };
        accounts.asked(7, asked);
        accounts.settle().map_err(|RigError(faults)| faults)
    }

    #[test]
    fn what_agrees_is_counted() {
        let counts = |of| judged(of).map(|told| (told.http1.served, told.http1.refused));
        assert_eq!(counts(GOOD), Ok((1, 0)));
        assert_eq!(counts(("/%00", 400, false, "/", None)), Ok((0, 1)));
    }

    #[test]
    fn each_difference_is_a_fault() {
        let (target, _, _, path, heard) = GOOD;
        let other = "isn't what the upstream received";
        for (of, what) in [
            ((target, 204, true, "/b", heard), other),
            ((target, 204, true, path, Some("/A?q")), other),
            (
                (target, 204, true, path, Some("/a?Q")),
                "isn't the client's",
            ),
            ((target, 204, true, path, Some("/a")), "isn't the client's"),
            ((target, 204, true, path, None), "isn't whole"),
            ((target, 400, false, path, heard), "reached the upstream"),
            ((target, 502, true, path, heard), "answer is another one"),
            ((target, 204, false, path, None), "is no refusal"),
            (
                ("/b?q", 204, true, path, heard),
                "what the client asked for",
            ),
            (
                (target, 204, true, "/%61", Some("/%61?q")),
                "isn't canonical",
            ),
        ] {
            let faults = judged(of).expect_err(what);
            assert!(faults.contains(what), "{of:?}: {faults}");
        }
    }

    #[test]
    fn a_second_word_and_a_missing_record_are_faults() {
        let faults = |accounts: Accounts| accounts.settle().expect_err("a fault").0;
        let accounts = Accounts::new(1);
        accounts.heard(7, b"/a".to_vec());
        accounts.heard(7, b"/a".to_vec());
        assert!(faults(accounts).contains("told twice"));
        let accounts = Accounts::new(1);
        accounts.unread(Http::Two);
        assert!(faults(accounts).contains("1 requests couldn't be read, and 0"));
    }
}
