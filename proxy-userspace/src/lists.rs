//! The lists at run time: one truth, brought to the kernel, kept on disk, asked at accept.
//!
//! A change goes to the kernel first, because that is what stops an attack, and to the disk
//! before it is answered for. If either refuses, the change is taken back whole.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use datapath::{Datapath, DatapathError, ListId, MANY_EDITS, Plan, Standing, Truth};
use gateway::{SourceGate, SourceRefusal};
use ipnet::IpNet;
use proxy_common::Mode;

use crate::{
    entry::{Entry, Names, claim, entry, extended},
    feed::PrefixProblem,
    lifeline::Lifeline,
    state::{Clock, Edit, Ending, State, StateError, Stored},
};

/// Lists of the configuration file; they can't be changed at run time.
pub(crate) const CONFIG_BLOCKED: &str = "config";
pub(crate) const CONFIG_TRUSTED: &str = "config-trusted";
/// Where `block add` and `allow add` put entries.
pub(crate) const MANUAL: &str = "manual";
pub(crate) const ALLOW: &str = "allow";

/// Entries that change under one hold of the truth. An accept waits no longer than it takes to
/// change this many.
const CHUNK: usize = 1_024;

/// Why a change was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("list {0:?} is written in the configuration file; change it there")]
    Configured(String),
    #[error("list {list:?} holds {} entries; use another name", if *.trusted { "trusted" } else { "blocked" })]
    OtherKind { list: String, trusted: bool },
    #[error("there are too many lists; at most {} can exist", ListId::MAX)]
    TooMany,
    #[error("{prefix} {problem}")]
    Prefix {
        prefix: IpNet,
        problem: PrefixProblem,
    },
    #[error(
        "{prefix} covers {line}, without which this host can't be reached: nothing was changed; \
         block less, or repeat it with --force {prefix}"
    )]
    Lifeline { prefix: IpNet, line: Lifeline },
    #[error("nothing was changed: {0}")]
    Kernel(#[from] DatapathError),
    #[error("nothing was changed: {0}")]
    State(#[from] StateError),
}

/// What to put on a list.
pub(crate) struct Addition<'a> {
    pub(crate) list: &'a str,
    pub(crate) trusted: bool,
    /// Each prefix once, and for how long; for good where it is `None`.
    pub(crate) entries: &'a [(IpNet, Option<Duration>)],
    pub(crate) reason: Option<String>,
}

/// What an addition would do.
#[derive(Debug, Default)]
pub(crate) struct Preview {
    pub(crate) added: usize,
    /// There are entries, and they would come out different.
    pub(crate) changed: usize,
    pub(crate) unchanged: usize,
}

/// A list as the status shows it.
pub(crate) struct ListSize {
    pub(crate) list: String,
    pub(crate) trusted: bool,
    pub(crate) mode: Mode,
    pub(crate) entries: usize,
}

/// All lists.
pub(crate) struct Lists {
    truth: RwLock<Truth>,
    writer: Mutex<Writer>,
}

/// What a change needs; one at a time.
struct Writer {
    names: Names,
    entries: HashMap<(ListId, IpNet), Stored>,
    datapath: Option<Datapath>,
    state: State,
}

impl Lists {
    /// The lists of the configuration and of the state, before any kernel side.
    pub(crate) fn load(
        state: State,
        trusted: &[IpNet],
        blocked: &[IpNet],
        monitored: &[String],
    ) -> Result<Self, ListError> {
        let clock = Clock::now();
        let mut truth = Truth::default();
        let mut names = Names::watching(monitored);
        // `allow add` and `block add` must find their lists to be of their kind.
        names.find_or_add(ALLOW, true)?;
        names.find_or_add(MANUAL, false)?;
        let mut entries = HashMap::new();
        for (name, prefixes, is_trusted) in [
            (CONFIG_TRUSTED, trusted, true),
            (CONFIG_BLOCKED, blocked, false),
        ] {
            let list = names.find_or_add(name, is_trusted)?;
            for prefix in prefixes {
                let claim = claim(is_trusted, names.mode(list), None, &clock);
                truth.set(*prefix, list, Some(claim));
                let stored = Stored {
                    trusted: is_trusted,
                    added_ms: clock.unix_ms,
                    ending: None,
                    reason: None,
                };
                entries.insert((list, *prefix), stored);
            }
        }
        for (name, prefix, stored) in state.read()? {
            let list = names.find_or_add(&name, stored.trusted)?;
            // Written by this program; a prefix that can't be read any more protects nobody.
            let Ok(prefix) = prefix.parse::<IpNet>() else {
                tracing::error!(list = name, prefix, "stored entry is no prefix; skipped");
                continue;
            };
            let mode = names.mode(list);
            let claim = claim(stored.trusted, mode, stored.ending.as_ref(), &clock);
            truth.set(prefix, list, Some(claim));
            entries.insert((list, prefix), stored);
        }
        Ok(Self {
            truth: RwLock::new(truth),
            writer: Mutex::new(Writer {
                names,
                entries,
                datapath: None,
                state,
            }),
        })
    }

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

    /// Puts prefixes on a list; returns how many entries came out different.
    pub(crate) fn add(&self, addition: &Addition<'_>) -> Result<usize, ListError> {
        let mut writer = self.writer();
        let clock = Clock::now();
        refuse_configured(addition.list)?;
        let list = writer.names.find_or_add(addition.list, addition.trusted)?;
        let mut edits = Vec::new();
        let mut undo = Vec::new();
        for (prefix, ttl) in addition.entries.iter().copied() {
            let before = writer.entries.get(&(list, prefix)).cloned();
            let fresh = fresh(addition, ttl, &clock);
            let after = extended(before.as_ref(), &fresh, &clock);
            if before.as_ref() != Some(&after) {
                edits.push((prefix, Some(after)));
                undo.push((prefix, before));
            }
        }
        self.edit(&mut writer, list, &edits, &undo, &clock)?;
        Ok(edits.len())
    }

    /// What `add` would do now; nothing is changed.
    pub(crate) fn preview(&self, addition: &Addition<'_>) -> Result<Preview, ListError> {
        let writer = self.writer();
        let clock = Clock::now();
        refuse_configured(addition.list)?;
        let list = writer.names.find_kind(addition.list, addition.trusted)?;
        let mut preview = Preview::default();
        for (prefix, ttl) in addition.entries.iter().copied() {
            let before = list.and_then(|list| writer.entries.get(&(list, prefix)));
            let after = extended(before, &fresh(addition, ttl, &clock), &clock);
            match before {
                None => preview.added += 1,
                Some(before) if *before == after => preview.unchanged += 1,
                Some(_) => preview.changed += 1,
            }
        }
        Ok(preview)
    }

    /// Takes prefixes off a list; returns how many entries there were.
    pub(crate) fn remove(&self, name: &str, prefixes: &[IpNet]) -> Result<usize, ListError> {
        let mut writer = self.writer();
        refuse_configured(name)?;
        let Some(list) = writer.names.find(name) else {
            return Ok(0);
        };
        let mut edits = Vec::new();
        let mut undo = Vec::new();
        for prefix in prefixes.iter().copied() {
            if let Some(before) = writer.entries.get(&(list, prefix)) {
                undo.push((prefix, Some(before.clone())));
                edits.push((prefix, None));
            }
        }
        self.edit(&mut writer, list, &edits, &undo, &Clock::now())?;
        Ok(edits.len())
    }

    /// Takes entries off whose time has come; returns them as (list, prefix).
    pub(crate) fn expire(&self) -> Result<Vec<(String, IpNet)>, ListError> {
        let mut writer = self.writer();
        let (ended, plan) = self.truth_mut().expire(datapath::boot_ns());
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        // The kernel lets them pass already; these writes only give the memory back, and a table in
        // doubt is made anew with the next change.
        if let Some(datapath) = writer.datapath.as_mut()
            && let Err(error) = datapath.tables().apply(&plan, &self.truth())
        {
            tracing::error!(%error, "ended bans still take room in the kernel");
        }
        let mut edits = Vec::new();
        let mut told = Vec::new();
        for (prefix, list) in ended {
            writer.entries.remove(&(list, prefix));
            let name = writer.names.name(list).to_owned();
            edits.push(Edit::Remove(name.clone(), prefix.to_string()));
            told.push((name, prefix));
        }
        writer.state.commit(&edits)?;
        Ok(told)
    }

    /// Every entry, of one list or of one kind, ordered by list and prefix.
    pub(crate) fn entries(&self, name: Option<&str>, trusted: Option<bool>) -> Vec<Entry> {
        let writer = self.writer();
        let clock = Clock::now();
        let mut entries: Vec<Entry> = writer
            .entries
            .iter()
            .map(|((list, prefix), stored)| {
                entry(writer.names.name(*list), *prefix, stored, &clock)
            })
            .filter(|entry| name.is_none_or(|name| name == entry.list))
            .filter(|entry| trusted.is_none_or(|trusted| trusted == entry.trusted))
            .collect();
        entries.sort_unstable_by(|a, b| (&a.list, a.prefix).cmp(&(&b.list, b.prefix)));
        entries
    }

    /// What the lists say of an address, and every entry that covers it.
    pub(crate) fn test(&self, address: IpAddr) -> (Standing, Vec<Entry>) {
        let writer = self.writer();
        let truth = self.truth();
        let clock = Clock::now();
        let covering = truth
            .covering(address)
            .into_iter()
            .filter_map(|(prefix, list, _)| {
                let stored = writer.entries.get(&(list, prefix))?;
                Some(entry(writer.names.name(list), prefix, stored, &clock))
            })
            .collect();
        (truth.standing(address, clock.boot_ns), covering)
    }

    /// Names of the lists that cover an address.
    pub(crate) fn names_covering(&self, address: IpAddr) -> Vec<String> {
        let covering = self.truth().covering(address);
        let writer = self.writer();
        let mut names = Vec::new();
        for (_, list, _) in covering {
            let name = writer.names.name(list).to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Lists: name, whether trusted, mode, number of entries.
    pub(crate) fn sizes(&self) -> Vec<ListSize> {
        let writer = self.writer();
        let mut sizes: Vec<_> = writer
            .names
            .iter()
            .map(|(name, trusted)| ListSize {
                list: name.clone(),
                trusted: *trusted,
                mode: Mode::Enforce,
                entries: 0,
            })
            .collect();
        for (list, size) in (0..).zip(&mut sizes) {
            size.mode = writer.names.mode(list);
        }
        for (list, _) in writer.entries.keys() {
            sizes[usize::from(*list)].entries += 1;
        }
        sizes
    }

    /// Kernel, then disk, then answer. `undo` brings back what was before.
    fn edit(
        &self,
        writer: &mut Writer,
        list: ListId,
        edits: &[(IpNet, Option<Stored>)],
        undo: &[(IpNet, Option<Stored>)],
        clock: &Clock,
    ) -> Result<(), ListError> {
        let result = self
            .bring_to_kernel(writer, list, edits, clock)
            .map_err(ListError::from)
            .and_then(|()| {
                let name = writer.names.name(list);
                let edits: Vec<Edit> = edits
                    .iter()
                    .map(|(prefix, stored)| match stored {
                        Some(stored) => {
                            Edit::Put(name.to_owned(), prefix.to_string(), stored.clone())
                        }
                        None => Edit::Remove(name.to_owned(), prefix.to_string()),
                    })
                    .collect();
                writer.state.commit(&edits).map_err(ListError::from)
            });
        if let Err(error) = result {
            // The tables took everything that is being taken back, so they have room for it.
            if let Err(second) = self.bring_to_kernel(writer, list, undo, clock) {
                tracing::error!(%second, "a refused change could not be taken back from the kernel");
            }
            return Err(error);
        }
        for (prefix, stored) in edits {
            match stored {
                Some(stored) => writer.entries.insert((list, *prefix), stored.clone()),
                None => writer.entries.remove(&(list, *prefix)),
            };
        }
        Ok(())
    }

    fn bring_to_kernel(
        &self,
        writer: &mut Writer,
        list: ListId,
        edits: &[(IpNet, Option<Stored>)],
        clock: &Clock,
    ) -> Result<(), DatapathError> {
        let mode = writer.names.mode(list);
        let claimed = |stored: &Option<Stored>| {
            let stored = stored.as_ref()?;
            Some(claim(stored.trusted, mode, stored.ending.as_ref(), clock))
        };
        let mut plans = Vec::new();
        for chunk in edits.chunks(CHUNK) {
            let mut truth = self.truth_mut();
            for (prefix, stored) in chunk {
                let claim = claimed(stored);
                if truth.claim(*prefix, list) == claim {
                    continue;
                }
                if edits.len() > MANY_EDITS {
                    truth.set(*prefix, list, claim);
                    continue;
                }
                // An entry is replaced, not put: `put` would only extend it.
                plans.push(match claim {
                    Some(claim) => truth.replace(*prefix, list, claim),
                    None => truth.remove(*prefix, list),
                });
            }
        }
        let plan = if edits.len() > MANY_EDITS {
            Plan::rebuild()
        } else {
            Plan::all(plans)
        };
        if let Some(datapath) = writer.datapath.as_mut() {
            datapath.tables().apply(&plan, &self.truth())?;
        }
        Ok(())
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

impl SourceGate for Lists {
    fn admit(&self, source: IpAddr) -> Result<(), SourceRefusal> {
        match self.truth().standing(source, datapath::boot_ns()) {
            Standing::Unlisted | Standing::Trusted | Standing::Monitored => Ok(()),
            Standing::Blocked => Err(SourceRefusal::Blocked),
            Standing::Banned { .. } => Err(SourceRefusal::Banned),
        }
    }
}

fn fresh(addition: &Addition<'_>, ttl: Option<Duration>, clock: &Clock) -> Stored {
    Stored {
        trusted: addition.trusted,
        added_ms: clock.unix_ms,
        ending: ttl.map(|ttl| Ending::after(ttl, clock)),
        reason: addition.reason.clone(),
    }
}

fn refuse_configured(name: &str) -> Result<(), ListError> {
    if name == CONFIG_BLOCKED || name == CONFIG_TRUSTED {
        return Err(ListError::Configured(name.to_owned()));
    }
    Ok(())
}
