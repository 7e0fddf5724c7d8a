//! The lists at run time: one truth, brought to the kernel, kept on disk, asked at accept.
//!
//! ```text
//! ask      what is asked of them, and what became of it
//! load     as a start finds them
//! refresh  those that follow a source
//! entry    one entry, and the lists' names
//! notes    what is known of entries, each once
//! lines    where in its source an entry stands
//! change   kernel, then disk, then answer
//! escalate how long bans lasted
//! page     what operators look at, in pages
//! confirm  changes that revert unless somebody confirms them
//! protect  what keeps this host reachable, as a list
//! hand_over  from one process to the next
//! recover  lists made anew from the kernel's tables
//! ```

mod ask;
mod change;
mod confirm;
mod entry;
mod escalate;
mod hand_over;
mod lines;
mod load;
mod notes;
mod page;
mod protect;
mod recover;
mod refresh;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use datapath::{Datapath, DatapathError, ListId, MANY_EDITS, Standing, Truth};
use gateway::{SourceGate, SourceRefusal};
use ipnet::IpNet;
use serde::de::DeserializeOwned;

use self::{
    change::{Beside, Edit},
    confirm::Pending,
    entry::{Names, Owner, extended},
    escalate::History,
    notes::Notes,
};
use crate::{
    lifeline::Lifeline,
    state::{Batch, Clock, Document, Ending, State, StateError, Stored},
};

pub(crate) use self::{
    ask::{Addition, ListSize, Outcome, Refresh, Removal, Sourced, Widest},
    confirm::{PendingReport, REVERTED},
    entry::Entry,
    hand_over::LetGo,
    lines::Lines,
    load::Configured,
    page::{Filter, Place},
    recover::{RECOVERED, Recovered},
};

/// Lists of the configuration file; they can't be changed at run time.
pub(crate) const CONFIG_BLOCKED: &str = "config";
pub(crate) const CONFIG_TRUSTED: &str = "config-trusted";
/// Where `block add` and `allow add` put entries.
pub(crate) const MANUAL: &str = "manual";
pub(crate) const ALLOW: &str = "allow";
/// What keeps this host reachable.
pub(crate) const LIFELINES: &str = "lifelines";
/// Names that no list with a source may have.
pub(crate) const RESERVED: [&str; 7] = [
    CONFIG_BLOCKED,
    CONFIG_TRUSTED,
    MANUAL,
    ALLOW,
    LIFELINES,
    RECOVERED,
    "imported",
];

/// Why a change was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("list {0:?} is written in the configuration file; change it there")]
    Configured(String),
    #[error(
        "list {0:?} is what its source says; put entries on another list, or trust what must pass with `allow add`"
    )]
    Feed(String),
    #[error("list {0:?} is what keeps this host reachable, and is kept by itself")]
    Host(String),
    #[error("list {list:?} holds {} entries; use another name", if *.trusted { "trusted" } else { "blocked" })]
    OtherKind { list: String, trusted: bool },
    #[error(
        "list {list:?} has {entries} entries already; choose another name, or take them off first"
    )]
    NotEmpty { list: String, entries: usize },
    #[error("there is no list {0:?}")]
    NoSuchList(String),
    #[error("there are too many lists; at most {} can exist", u32::from(ListId::MAX) + 1)]
    TooMany,
    #[error(
        "{prefix} is wider than /{floor}: nothing was changed; block less, or repeat it with --force {prefix}"
    )]
    TooWide { prefix: IpNet, floor: u8 },
    #[error(
        "{prefix} covers {line}, without which this host can't be reached: nothing was changed; \
         block less, or repeat it with --force {prefix}"
    )]
    Lifeline { prefix: IpNet, line: Lifeline },
    #[error("nothing waits to be confirmed{}", .0.map(|id| format!(" under {id}")).unwrap_or_default())]
    NothingPending(Option<u64>),
    #[error("nothing was changed: {0}")]
    Kernel(#[from] DatapathError),
    #[error("nothing was changed: {0}")]
    State(#[from] StateError),
}

/// All lists.
pub(crate) struct Lists {
    truth: RwLock<Truth>,
    writer: Mutex<Writer>,
}

/// What a change needs; one at a time.
struct Writer {
    names: Names,
    notes: Notes,
    lines: HashMap<ListId, Lines>,
    /// Entries of each list.
    counts: HashMap<ListId, usize>,
    /// What is blocked although it covers what keeps the host reachable.
    forced: BTreeSet<(ListId, IpNet)>,
    /// Entries that are stored beside their list's content.
    rows: HashMap<ListId, usize>,
    pending: Vec<Pending>,
    history: History,
    datapath: Option<Datapath>,
    state: State,
}

impl Lists {
    /// Starts the kernel side with what the lists hold now.
    pub(crate) fn start_kernel(&self, options: datapath::Options) -> Result<(), DatapathError> {
        let mut writer = self.writer();
        let started = Datapath::start(options, &self.truth())?;
        writer.datapath = Some(started);
        Ok(())
    }

    /// Calls `act` with the kernel side, where there is one.
    pub(crate) fn with_kernel<T>(&self, act: impl FnOnce(&mut Datapath) -> T) -> Option<T> {
        self.writer().datapath.as_mut().map(act)
    }

    /// Puts prefixes on a list.
    pub(crate) fn add(&self, addition: &Addition<'_>) -> Result<Outcome, ListError> {
        let mut writer = self.writer();
        writer.refuse_owned(addition.list)?;
        let list = writer.names.find_or_add(addition.list, addition.trusted)?;
        let mut entries = addition.entries.to_vec();
        if addition.escalate {
            writer.escalate(&mut entries);
        }
        let edits = self.additions(&mut writer, Some(list), addition, &entries);
        let what = || format!("{} entries put on {:?}", edits.len(), addition.list);
        let outcome = Outcome::of(&edits, addition.entries.len());
        let beside = Beside {
            batch: Batch {
                documents: writer.note_bans(&entries),
                ..Batch::default()
            },
            lines: None,
        };
        let confirm = addition.confirm;
        self.confirmable(&mut writer, list, &edits, confirm, what, beside, outcome)
    }

    /// What `add` would do now; nothing is changed.
    pub(crate) fn preview_add(&self, addition: &Addition<'_>) -> Result<Outcome, ListError> {
        let mut writer = self.writer();
        writer.refuse_owned(addition.list)?;
        let list = writer.names.find_kind(addition.list, addition.trusted)?;
        let mut entries = addition.entries.to_vec();
        if addition.escalate {
            writer.escalate(&mut entries);
        }
        let edits = self.additions(&mut writer, list, addition, &entries);
        Ok(Outcome::of(&edits, addition.entries.len()))
    }

    /// Takes prefixes off a list.
    pub(crate) fn remove(&self, removal: &Removal<'_>) -> Result<Outcome, ListError> {
        let mut writer = self.writer();
        let (list, edits) = self.removals(&writer, removal)?;
        let what = || format!("{} entries taken off {:?}", edits.len(), removal.list);
        let outcome = Outcome::of(&edits, removal.prefixes.len());
        let (confirm, beside) = (removal.confirm, Beside::default());
        self.confirmable(&mut writer, list, &edits, confirm, what, beside, outcome)
    }

    /// What `remove` would do now; nothing is changed.
    pub(crate) fn preview_remove(&self, removal: &Removal<'_>) -> Result<Outcome, ListError> {
        let (_, edits) = self.removals(&self.writer(), removal)?;
        Ok(Outcome::of(&edits, removal.prefixes.len()))
    }

    /// Stores documents by themselves.
    pub(crate) fn store(&self, documents: Vec<Document>) -> Result<(), ListError> {
        let batch = Batch {
            documents,
            ..Batch::default()
        };
        Ok(self.writer().state.commit(batch)?)
    }

    /// A stored document.
    pub(crate) fn stored_one(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, ListError> {
        Ok(self.writer().state.document(kind, name)?)
    }

    /// Every stored document of a kind: name and value.
    pub(crate) fn stored(&self, kind: &str) -> Result<Vec<(String, Vec<u8>)>, ListError> {
        Ok(self.writer().state.documents(kind)?)
    }

    /// Every stored document of a kind that is written in JSON: name and value.
    pub(crate) fn stored_as<T: DeserializeOwned>(
        &self,
        kind: &str,
    ) -> Result<Vec<(String, T)>, ListError> {
        let writer = self.writer();
        let stored = writer.state.documents(kind)?.into_iter();
        let read = stored.map(|(name, value)| match serde_json::from_slice(&value) {
            Ok(value) => Ok((name, value)),
            Err(error) => Err(writer.state.nonsense(format!("{kind} {name}"), &error)),
        });
        Ok(read.collect::<Result<_, _>>()?)
    }

    /// Takes entries off whose time has come; returns them as (list, prefix).
    pub(crate) fn expire(&self) -> Result<Vec<(String, IpNet)>, ListError> {
        let mut writer = self.writer();
        let mut ended: HashMap<ListId, Vec<Edit>> = HashMap::new();
        {
            let truth = self.truth();
            for (prefix, list) in truth.ended(datapath::boot_ns()) {
                let note = truth.claim(prefix, list).map(|noted| noted.note);
                let edits = ended.entry(list).or_default();
                edits.push(edit(prefix, note, None));
            }
        }
        let mut told = Vec::new();
        for (list, edits) in ended {
            self.carry_out(&mut writer, list, &edits, Beside::default())?;
            let name = writer.names.name(list);
            told.extend(edits.iter().map(|edit| (name.to_owned(), edit.prefix)));
        }
        Ok(told)
    }

    fn additions(
        &self,
        writer: &mut Writer,
        list: Option<ListId>,
        addition: &Addition<'_>,
        entries: &[(IpNet, Option<Duration>)],
    ) -> Vec<Edit> {
        self.make_room(writer);
        let clock = Clock::now();
        let mut after_of: HashMap<(Option<u32>, Option<Duration>, bool), u32> = HashMap::new();
        let mut edits = Vec::new();
        for (prefix, ttl) in entries {
            let before = list.and_then(|list| self.note(list, *prefix));
            let forced = addition.force.contains(prefix);
            let after = *after_of.entry((before, *ttl, forced)).or_insert_with(|| {
                let fresh = Stored {
                    trusted: addition.trusted,
                    added_ms: clock.unix_ms,
                    ending: ttl.map(|ttl| Ending::after(ttl, &clock)),
                    reason: addition.reason.clone(),
                    forced,
                };
                let before = before.and_then(|note| writer.notes.get(note));
                let stored = extended(before, &fresh, &clock);
                writer.notes.intern(stored)
            });
            if before != Some(after) {
                edits.push(edit(*prefix, before, Some(after)));
            }
        }
        edits
    }

    fn removals(
        &self,
        writer: &Writer,
        removal: &Removal<'_>,
    ) -> Result<(ListId, Vec<Edit>), ListError> {
        writer.refuse_owned(removal.list)?;
        let list = writer
            .names
            .find(removal.list)
            .ok_or_else(|| ListError::NoSuchList(removal.list.to_owned()))?;
        let edits = removal.prefixes.iter().filter_map(|prefix| {
            let before = self.note(list, *prefix)?;
            Some(edit(*prefix, Some(before), None))
        });
        Ok((list, edits.collect()))
    }

    /// The number of an entry's note.
    fn note(&self, list: ListId, prefix: IpNet) -> Option<u32> {
        Some(self.truth().claim(prefix, list)?.note)
    }

    /// Forgets notes that no entry has any more.
    fn make_room(&self, writer: &mut Writer) {
        if writer.notes.is_crowded() {
            let used = self
                .truth()
                .claims()
                .map(|(.., noted)| noted.note)
                .collect();
            writer.notes.sweep(&used);
        }
    }

    // A panic under one of these locks was a bug in a change; the data is still the best there
    // is, and refusing to look at it would let everybody in.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn truth(&self) -> RwLockReadGuard<'_, Truth> {
        self.truth.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn truth_mut(&self) -> RwLockWriteGuard<'_, Truth> {
        self.truth.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Makes bans as long as twice the last one of their prefix.
    fn escalate(&self, entries: &mut [(IpNet, Option<Duration>)]) {
        for (prefix, ttl) in entries {
            *ttl = ttl.map(|ttl| self.history.escalated(*prefix, ttl));
        }
    }

    /// Remembers how long bans last; of whole lists at once it isn't worth it.
    fn note_bans(&mut self, entries: &[(IpNet, Option<Duration>)]) -> Vec<Document> {
        if entries.len() > MANY_EDITS {
            return Vec::new();
        }
        let clock = Clock::now();
        let mut documents = Vec::new();
        for (prefix, ttl) in entries {
            if let Some(ttl) = ttl {
                documents.extend(self.history.note(*prefix, *ttl, &clock));
            }
        }
        documents
    }

    fn refuse_owned(&self, name: &str) -> Result<(), ListError> {
        match self.names.find(name).map(|list| self.names.owner(list)) {
            Some(Owner::Config) => Err(ListError::Configured(name.to_owned())),
            Some(Owner::Feed) => Err(ListError::Feed(name.to_owned())),
            Some(Owner::Host) => Err(ListError::Host(name.to_owned())),
            Some(Owner::Operator) | None => Ok(()),
        }
    }
}

fn edit(prefix: IpNet, before: Option<u32>, after: Option<u32>) -> Edit {
    Edit {
        prefix,
        before,
        after,
    }
}

impl SourceGate for Lists {
    fn admit(&self, source: IpAddr) -> Result<(), SourceRefusal> {
        match self.truth().standing(source, datapath::boot_ns()) {
            Standing::Unlisted | Standing::Trusted | Standing::Monitored => Ok(()),
            Standing::Blocked => Err(SourceRefusal::Blocked),
            Standing::Banned { .. } => Err(SourceRefusal::Banned),
        }
    }
}
