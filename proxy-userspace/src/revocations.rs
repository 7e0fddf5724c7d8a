//! Tokens that are taken back: by whom, until when, why; durable before it is said, and in force at once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use audit::Journal;
use gateway::{Revocation, Revocations};
use serde::{Deserialize, Serialize};
use tokio::time;

use crate::{
    bulk,
    lists::{ListError, Lists},
    state::{Clock, Document},
    trail::note,
};

/// Kinds of stored documents: one a revocation, by its number; and the next number.
const STORED: &str = "revocation";
const NEXT: &str = "revocation_next";

/// Most that are in force at a time: one more is 2 ms more of each change.
const MOST: usize = 100_000;

/// Letters of a reason: all that are in force fit in one line of the admin socket.
const LONGEST_REASON: usize = 200;

/// How often those whose time is over are taken off.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Why tokens were not taken back, or not given back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevocationError {
    #[error(
        "no issuer is named {given:?} in the configuration, and none has that value of iss; use one of: {known}"
    )]
    UnknownIssuer { given: String, known: String },
    #[error(
        "nothing says which tokens are meant; give at least one of issuer, token id, subject, key id and time"
    )]
    Nothing,
    #[error("its time is over already, so it would change nothing")]
    Over,
    #[error("the reason has {0} letters, and at most {LONGEST_REASON} are kept; say it shorter")]
    Reason(usize),
    #[error(
        "{held} revocations are in force, and at most {MOST} can be; revoke by subject, key or time, or take some back"
    )]
    TooMany { held: usize },
    #[error("there is no revocation {0}; `portcullis token list` shows those that are in force")]
    NoSuch(u64),
    #[error(transparent)]
    Store(#[from] ListError),
}

/// Which tokens are meant: those of which all holds that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Which {
    /// Value of `iss`; in a request also an issuer's configured name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_id: Option<String>,
    /// Seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issued_before: Option<u64>,
}

impl Which {
    /// As requests meet it.
    pub(crate) fn in_force(&self) -> Revocation {
        Revocation {
            issuer: self.issuer.clone(),
            token_id: self.token_id.clone(),
            subject: self.subject.clone(),
            key_id: self.key_id.clone(),
            issued_before: self.issued_before,
        }
    }

    /// Whether it is about all that is given in `other`.
    fn names(&self, other: &Self) -> bool {
        let same = |one: &Option<String>, other: &Option<String>| other.is_none() || one == other;
        same(&self.issuer, &other.issuer)
            && same(&self.token_id, &other.token_id)
            && same(&self.subject, &other.subject)
            && same(&self.key_id, &other.key_id)
    }
}

/// What is revoked, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revoked {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) which: Which,
    /// Milliseconds since the epoch.
    pub(crate) added_ms: u64,
    /// Milliseconds since the epoch; `None` for good.
    pub(crate) until_ms: Option<u64>,
    pub(crate) reason: Option<String>,
    pub(crate) by_uid: u32,
}

/// What is to be revoked.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) which: Vec<Which>,
    /// Milliseconds since the epoch; `None` for good.
    pub(crate) until_ms: Option<u64>,
    pub(crate) reason: Option<String>,
    pub(crate) by_uid: u32,
}

/// All of them, and what has them in force.
pub(crate) struct Keeper {
    lists: Arc<Lists>,
    journal: Arc<Journal>,
    in_force: Arc<Revocations>,
    kept: Mutex<Kept>,
    /// Configured issuers: name and value of `iss`.
    issuers: Mutex<Vec<(String, String)>>,
}

#[derive(Default)]
struct Kept {
    all: BTreeMap<u64, Revoked>,
    /// Numbers, by what is revoked.
    numbers: HashMap<Which, u64>,
    next: u64,
}

impl Kept {
    fn insert(&mut self, revoked: Revoked) {
        self.numbers.insert(revoked.which.clone(), revoked.id);
        self.all.insert(revoked.id, revoked);
    }

    fn remove(&mut self, revoked: &Revoked) {
        self.numbers.remove(&revoked.which);
        self.all.remove(&revoked.id);
    }
}

impl Keeper {
    /// As an earlier run left them.
    ///
    /// # Errors
    /// When what is stored can't be read.
    pub(crate) fn load(lists: Arc<Lists>, journal: Arc<Journal>) -> Result<Self, ListError> {
        let mut kept = Kept::default();
        for (_, revoked) in lists.stored_as::<Revoked>(STORED)? {
            kept.insert(revoked);
        }
        let next = lists.stored_as::<u64>(NEXT)?.pop();
        let last = kept.all.last_key_value().map_or(0, |(id, _)| *id);
        kept.next = next.map_or(0, |(_, next)| next).max(last + 1);
        let keeper = Self {
            lists,
            journal,
            in_force: Arc::default(),
            kept: Mutex::new(kept),
            issuers: Mutex::default(),
        };
        keeper.put_in_force(&keeper.kept());
        Ok(keeper)
    }

    /// What requests meet.
    pub(crate) fn in_force(&self) -> &Arc<Revocations> {
        &self.in_force
    }

    /// Has in force what another process has, in the place of its own.
    pub(crate) fn adopt(&self, all: &[Revoked]) {
        let _one_at_a_time = self.kept();
        let all = all.iter().map(|it| it.which.in_force());
        self.in_force.exchange(all);
    }

    /// Issuers as they are configured now: name and value of `iss`.
    pub(crate) fn knows(&self, issuers: Vec<(String, String)>) {
        *self.issuers.lock().unwrap_or_else(PoisonError::into_inner) = issuers;
    }

    /// Another number with each change, and in each process.
    pub(crate) fn version(&self) -> u64 {
        u64::from(process::id()) << 40 | self.in_force.generation()
    }

    /// Those that are about what is given.
    pub(crate) fn list(&self, about: &Which) -> Result<Vec<Revoked>, RevocationError> {
        let about = self.by_value(about.clone())?;
        let kept = self.kept();
        let found = kept.all.values().filter(|it| it.which.names(&about));
        Ok(found.cloned().collect())
    }

    /// Takes tokens back: durable and in force when this returns. One that is revoked already stays so for at
    /// least as long.
    pub(crate) fn revoke(&self, wish: Wish) -> Result<Vec<Revoked>, RevocationError> {
        let now = Clock::now().unix_ms;
        if wish.until_ms.is_some_and(|until| until <= now) {
            return Err(RevocationError::Over);
        }
        let letters = wish.reason.as_ref().map_or(0, |it| it.chars().count());
        if letters > LONGEST_REASON {
            return Err(RevocationError::Reason(letters));
        }
        let mut kept = self.kept();
        let mut next = kept.next;
        let (mut made, mut seen) = (Vec::new(), HashSet::new());
        for which in wish.which {
            let which = self.by_value(which)?;
            if !seen.insert(which.clone()) {
                continue;
            }
            if which == Which::default() {
                return Err(RevocationError::Nothing);
            }
            let known = kept.numbers.get(&which).and_then(|id| kept.all.get(id));
            let revoked = match known {
                Some(known) => Revoked {
                    until_ms: known.until_ms.zip(wish.until_ms).map(|(a, b)| a.max(b)),
                    reason: wish.reason.clone().or_else(|| known.reason.clone()),
                    by_uid: wish.by_uid,
                    ..known.clone()
                },
                None => {
                    next += 1;
                    Revoked {
                        id: next - 1,
                        which,
                        added_ms: now,
                        until_ms: wish.until_ms,
                        reason: wish.reason.clone(),
                        by_uid: wish.by_uid,
                    }
                }
            };
            made.push(revoked);
        }
        let held = kept.all.len();
        if held + usize::try_from(next - kept.next).unwrap_or(usize::MAX) > MOST {
            return Err(RevocationError::TooMany { held });
        }
        let mut documents: Vec<Document> = made.iter().map(stored).collect();
        documents.push(Document::put(
            NEXT,
            NEXT.to_owned(),
            next.to_string().into_bytes(),
        ));
        self.lists.store(documents)?;
        kept.next = next;
        made.iter().cloned().for_each(|it| kept.insert(it));
        self.put_in_force(&kept);
        drop(kept);
        for it in &made {
            note(&self.journal, "token_revoked", &told(it));
        }
        Ok(made)
    }

    /// Gives tokens back that were revoked by mistake: all of these, or none.
    pub(crate) fn unrevoke(&self, ids: &[u64], uid: u32) -> Result<Vec<Revoked>, RevocationError> {
        let mut kept = self.kept();
        let gone = ids
            .iter()
            .map(|id| {
                kept.all
                    .get(id)
                    .cloned()
                    .ok_or(RevocationError::NoSuch(*id))
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.remove(&mut kept, &gone)?;
        drop(kept);
        for it in &gone {
            let detail = format!("{} by uid {uid}", told(it));
            note(&self.journal, "token_unrevoked", &detail);
        }
        Ok(gone)
    }

    /// Takes those off whose time is over.
    fn expire(&self) -> Result<(), RevocationError> {
        let now = Clock::now().unix_ms;
        let mut kept = self.kept();
        let is_over = |it: &&Revoked| it.until_ms.is_some_and(|until| until <= now);
        let over: Vec<Revoked> = kept.all.values().filter(is_over).cloned().collect();
        if over.is_empty() {
            return Ok(());
        }
        self.remove(&mut kept, &over)?;
        drop(kept);
        for it in &over {
            note(&self.journal, "revocation_over", &told(it));
        }
        Ok(())
    }

    fn remove(&self, kept: &mut Kept, those: &[Revoked]) -> Result<(), RevocationError> {
        let document = |it: &Revoked| Document::remove(STORED, it.id.to_string());
        self.lists.store(those.iter().map(document).collect())?;
        those.iter().for_each(|it| kept.remove(it));
        self.put_in_force(kept);
        Ok(())
    }

    /// With an issuer's value in the place of its name.
    fn by_value(&self, mut which: Which) -> Result<Which, RevocationError> {
        let Some(given) = which.issuer.take() else {
            return Ok(which);
        };
        let issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = issuers
            .iter()
            .find(|(name, value)| *name == given || *value == given);
        let Some((_, value)) = found else {
            let names = issuers.iter().map(|(name, _)| name.as_str());
            let known = names.collect::<Vec<_>>().join(", ");
            return Err(RevocationError::UnknownIssuer { given, known });
        };
        which.issuer = Some(value.clone());
        Ok(which)
    }

    fn put_in_force(&self, kept: &Kept) {
        let all = kept.all.values().map(|it| it.which.in_force());
        self.in_force.exchange(all);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes those off whose time is over. Never ends.
pub(crate) async fn expire(keeper: Arc<Keeper>) {
    loop {
        time::sleep(EXPIRY_INTERVAL).await;
        let keeper = Arc::clone(&keeper);
        if let Ok(Err(error)) = bulk::run(move || keeper.expire()).await {
            tracing::error!(%error, "revocations whose time is over could not be taken off");
        }
    }
}

fn stored(revoked: &Revoked) -> Document {
    let value = serde_json::to_vec(revoked).unwrap_or_default();
    Document::put(STORED, revoked.id.to_string(), value)
}

/// For the trail.
fn told(revoked: &Revoked) -> String {
    serde_json::to_string(revoked).unwrap_or_default()
}
