//! Changes that revert by themselves unless somebody confirms them, also when the daemon was started
//! again in between. A change is stored together with what it would take to revert it.

use std::{collections::HashMap, time::Duration};

use datapath::ListId;
use ipnet::IpNet;
use proxy_common::{Limit, LimitSetting};
use serde::{Deserialize, Serialize};

use super::{
    ListError, Lists, Outcome, Writer,
    change::{Beside, Edit},
    edit,
    entry::Owner,
};
use crate::state::{Clock, Content, Document, Ending, State, StateError};

/// Documents of what waits: JSON of [`Pending`], and the entries before and after as contents.
const WAITING: &str = "waiting";
const BEFORE: &str = "waiting-before";
const AFTER: &str = "waiting-after";

/// Documents: lists that follow a source and aren't what it said, since a change of them was reverted.
pub(crate) const REVERTED: &str = "reverted";

/// A change that waits to be confirmed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    id: u64,
    list: String,
    trusted: bool,
    what: String,
    reverts: Ending,
    /// It was no list that changed, but this limit, which was so before. A start takes its limits
    /// from the configuration, so this isn't stored.
    #[serde(skip)]
    limit: Option<(Limit, LimitSetting)>,
}

/// A change that waits, or waited, to be confirmed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PendingReport {
    pub(crate) id: u64,
    /// Empty where it is no list that changed.
    pub(crate) list: String,
    /// What was changed.
    pub(crate) what: String,
    /// Milliseconds until it reverts.
    pub(crate) left_ms: u64,
}

impl Pending {
    /// Whether it is a change of this list.
    pub(super) fn is_of(&self, list: &str) -> bool {
        self.limit.is_none() && self.list == list
    }

    /// What takes it off the disk.
    pub(super) fn documents_to_forget(&self) -> [Document; 3] {
        forgotten(self.id)
    }

    fn report(&self, clock: &Clock) -> PendingReport {
        PendingReport {
            id: self.id,
            list: self.list.clone(),
            what: self.what.clone(),
            left_ms: self.reverts.left_ms(clock),
        }
    }
}

/// What waited when the daemon stopped.
pub(super) fn load(state: &State) -> Result<Vec<Pending>, StateError> {
    let documents = state.documents(WAITING)?;
    Ok(documents
        .iter()
        .filter_map(|(id, bytes)| {
            serde_json::from_slice(bytes)
                .inspect_err(|error| tracing::error!(id, %error, "a change can't be reverted"))
                .ok()
        })
        .collect())
}

impl Lists {
    /// Carries a change out, and has it revert when it must be confirmed and isn't; then `what` is
    /// what it is called.
    #[expect(clippy::too_many_arguments, reason = "a change has that many sides")]
    pub(super) fn confirmable(
        &self,
        writer: &mut Writer,
        list: ListId,
        edits: &[Edit],
        confirm: Option<Duration>,
        what: impl FnOnce() -> String,
        mut beside: Beside,
        mut outcome: Outcome,
    ) -> Result<Outcome, ListError> {
        let confirm = confirm.map(|within| (within, what()));
        let confirm = confirm.filter(|_| !edits.is_empty());
        let pending = confirm.map(|(within, what)| Pending {
            id: writer.fresh_id(),
            list: writer.names.name(list).to_owned(),
            trusted: writer.names.trusted(list),
            what,
            reverts: Ending::after(within, &Clock::now()),
            limit: None,
        });
        if let Some(pending) = &pending {
            outcome.pending = Some(pending.id);
            let name = pending.id.to_string();
            let header = serde_json::to_vec(pending).unwrap_or_default();
            let side = |note: fn(&Edit) -> Option<u32>| {
                let entries = edits.iter().filter_map(|edit| {
                    let stored = writer.notes.get(note(edit)?)?;
                    Some((edit.prefix, stored, 0))
                });
                Content::collect(entries).encode()
            };
            beside.batch.documents.extend([
                Document::put(WAITING, name.clone(), header),
                Document::put(BEFORE, name.clone(), side(|edit| edit.before)),
                Document::put(AFTER, name, side(|edit| edit.after)),
            ]);
        }
        self.carry_out(writer, list, edits, beside)?;
        writer.pending.extend(pending);
        Ok(outcome)
    }

    /// Sets a limit of the kernel's, and has it revert when it must be confirmed and isn't. Returns the
    /// number to confirm it by; `None` where there is no kernel side.
    pub(crate) fn set_limit(
        &self,
        limit: Limit,
        setting: impl FnOnce(LimitSetting) -> LimitSetting,
        confirm: Option<Duration>,
    ) -> Result<Option<(LimitSetting, Option<u64>)>, ListError> {
        let mut writer = self.writer();
        let Some(datapath) = writer.datapath.as_mut() else {
            return Ok(None);
        };
        let before = datapath.rules().limits[limit as usize];
        let after = setting(before);
        let rules = datapath.rules().with(limit, after);
        datapath.set_rules(&rules)?;
        if confirm.is_none() {
            // What is set for good stays, whatever an earlier change waited for.
            let is_of = |pending: &Pending| pending.limit.is_some_and(|(other, _)| other == limit);
            writer.pending.retain(|pending| !is_of(pending));
        }
        let id = writer.fresh_id();
        let pending = confirm.map(|within| Pending {
            id,
            list: String::new(),
            trusted: false,
            what: format!("limit {}", limit.name()),
            reverts: Ending::after(within, &Clock::now()),
            limit: Some((limit, before)),
        });
        let id = pending.is_some().then_some(id);
        writer.pending.extend(pending);
        Ok(Some((after, id)))
    }

    /// Changes that wait to be confirmed.
    pub(crate) fn pending(&self) -> Vec<PendingReport> {
        let clock = Clock::now();
        let writer = self.writer();
        writer.pending.iter().map(|it| it.report(&clock)).collect()
    }

    /// Lets a change stay, or all that wait.
    pub(crate) fn confirm(&self, id: Option<u64>) -> Result<Vec<PendingReport>, ListError> {
        let clock = Clock::now();
        let mut writer = self.writer();
        let meant = |pending: &Pending| id.is_none_or(|id| id == pending.id);
        let confirmed: Vec<PendingReport> = writer
            .pending
            .iter()
            .filter(|pending| meant(pending))
            .map(|pending| pending.report(&clock))
            .collect();
        if confirmed.is_empty() {
            return Err(ListError::NothingPending(id));
        }
        let mut beside = Beside::default();
        for report in &confirmed {
            beside.batch.documents.extend(forgotten(report.id));
        }
        writer.state.commit(beside.batch)?;
        writer.pending.retain(|pending| !meant(pending));
        Ok(confirmed)
    }

    /// Reverts what nobody confirmed in time; returns what, and how many entries are as before, and
    /// why others couldn't be reverted: those are tried again.
    ///
    /// Entries that were changed again since are left as they are.
    pub(crate) fn revert_due(&self) -> (Vec<(PendingReport, usize)>, Option<ListError>) {
        let clock = Clock::now();
        let mut writer = self.writer();
        let due: Vec<Pending> = writer
            .pending
            .iter()
            .filter(|pending| pending.reverts.left_ms(&clock) == 0)
            .cloned()
            .collect();
        let (mut reverted, mut failed) = (Vec::new(), None);
        // The last first: an earlier change may lie under a later one.
        for pending in due.iter().rev() {
            match self.revert(&mut writer, pending) {
                Ok(entries) => {
                    writer.pending.retain(|other| other.id != pending.id);
                    reverted.push((pending.report(&clock), entries));
                }
                Err(error) => failed = Some(error),
            }
        }
        (reverted, failed)
    }

    fn revert(&self, writer: &mut Writer, pending: &Pending) -> Result<usize, ListError> {
        if let Some((limit, before)) = pending.limit {
            if let Some(datapath) = writer.datapath.as_mut() {
                let rules = datapath.rules().with(limit, before);
                datapath.set_rules(&rules)?;
            }
            return Ok(0);
        }
        let list = writer.names.find_or_add(&pending.list, pending.trusted)?;
        let edits = self.reversal(writer, list, pending)?;
        let mut beside = Beside::default();
        beside.batch.documents.extend(forgotten(pending.id));
        if writer.names.owner(list) == Owner::Feed {
            let reverted = Document::put(REVERTED, pending.list.clone(), Vec::new());
            beside.batch.documents.push(reverted);
        }
        self.carry_out(writer, list, &edits, beside)?;
        Ok(edits.len())
    }

    fn reversal(
        &self,
        writer: &mut Writer,
        list: ListId,
        pending: &Pending,
    ) -> Result<Vec<Edit>, ListError> {
        let mut sides: HashMap<IpNet, (Option<u32>, Option<u32>)> = HashMap::new();
        for (prefix, note) in writer.side(BEFORE, pending.id)? {
            sides.entry(prefix).or_default().0 = Some(note);
        }
        for (prefix, note) in writer.side(AFTER, pending.id)? {
            sides.entry(prefix).or_default().1 = Some(note);
        }
        Ok(sides
            .into_iter()
            .filter(|(prefix, (_, after))| self.note(list, *prefix) == *after)
            .map(|(prefix, (before, after))| edit(prefix, after, before))
            .collect())
    }
}

impl Writer {
    fn fresh_id(&self) -> u64 {
        let last = self.pending.iter().map(|pending| pending.id).max();
        last.unwrap_or_default() + 1
    }

    /// One side of a change that waits: prefixes and the numbers of their notes.
    fn side(&mut self, kind: &str, id: u64) -> Result<Vec<(IpNet, u32)>, ListError> {
        let name = id.to_string();
        let documents = self.state.documents(kind)?;
        let bytes = documents.iter().find(|(of, _)| *of == name);
        let Some((_, bytes)) = bytes else {
            return Ok(Vec::new());
        };
        let content = Content::decode(bytes)
            .map_err(|error| self.state.nonsense(format!("change {id}"), &error))?;
        let entries = content.entries();
        Ok(entries
            .map(|(prefix, stored, _)| (prefix, self.notes.intern(stored.clone())))
            .collect())
    }
}

fn forgotten(id: u64) -> [Document; 3] {
    [WAITING, BEFORE, AFTER].map(|kind| Document::remove(kind, id.to_string()))
}
