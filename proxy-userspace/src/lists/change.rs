//! Carrying a change out: to the kernel, because that is what stops an attack, then to the disk, then
//! it is answered for. If either refuses, the change is taken back whole.

use datapath::{ListId, MANY_EDITS, Noted, Plan, Truth};
use ipnet::IpNet;

use super::{ListError, Lists, Writer, entry::claim, lines::Lines};
use crate::state::{Batch, Clock, Content};

/// Entries that change under one hold of the truth. An accept waits no longer than it takes to
/// change this many.
const CHUNK: usize = 1_024;

/// Entries of a list beside its content from which on the content is written anew.
const MANY_ROWS: usize = 16_384;

/// One entry before and after: the numbers of its notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) prefix: IpNet,
    pub(super) before: Option<u32>,
    pub(super) after: Option<u32>,
}

impl Edit {
    fn reversed(self) -> Self {
        Self {
            before: self.after,
            after: self.before,
            ..self
        }
    }
}

/// What goes to the disk with a change of entries.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) batch: Batch,
    /// Lines of the list's source. With them the whole content is written.
    pub(super) lines: Option<Lines>,
}

impl Lists {
    pub(super) fn carry_out(
        &self,
        writer: &mut Writer,
        list: ListId,
        edits: &[Edit],
        beside: Beside,
    ) -> Result<(), ListError> {
        if edits.len() > MANY_EDITS {
            self.carry_out_many(writer, list, edits, beside)?;
        } else {
            self.carry_out_few(writer, list, edits, beside)?;
        }
        writer.recount(list, edits);
        Ok(())
    }

    /// A new truth and new tables, while the old ones go on answering.
    fn carry_out_many(
        &self,
        writer: &mut Writer,
        list: ListId,
        edits: &[Edit],
        mut beside: Beside,
    ) -> Result<(), ListError> {
        let clock = Clock::now();
        let noted = |edit: &Edit| writer.noted(list, edit.after, &clock);
        let next = self
            .truth()
            .with(edits.iter().map(|edit| (edit.prefix, list, noted(edit))));
        let content = writer.content(list, &next, beside.lines.as_ref());
        beside.batch.contents.push(content);
        let plan = Plan::rebuild_for(edits.iter().map(|edit| edit.prefix));
        let loaded = match writer.datapath.as_mut() {
            Some(datapath) => datapath.tables().apply(&plan, &next),
            None => Ok(()),
        };
        let loaded = loaded.map_err(ListError::from);
        let kept = loaded.and_then(|()| Ok(writer.state.commit(beside.batch)?));
        if let Err(error) = kept {
            if let Some(datapath) = writer.datapath.as_mut()
                && let Err(second) = datapath.tables().apply(&plan, &self.truth())
            {
                tracing::error!(%second, "a refused change could not be taken back from the kernel");
            }
            return Err(error);
        }
        writer.remember(list, 0, beside.lines);
        let before = std::mem::replace(&mut *self.truth_mut(), next);
        // A million entries take a while to go; nobody waits for it.
        drop(before);
        Ok(())
    }

    fn carry_out_few(
        &self,
        writer: &mut Writer,
        list: ListId,
        edits: &[Edit],
        mut beside: Beside,
    ) -> Result<(), ListError> {
        let result = self.bring_to_kernel(writer, list, edits).and_then(|()| {
            let rows = writer.rows(list) + edits.len();
            let rows = if beside.lines.is_some() || rows > MANY_ROWS {
                let content = writer.content(list, &self.truth(), beside.lines.as_ref());
                beside.batch.contents.push(content);
                0
            } else {
                let name = writer.names.name(list);
                let stored = |edit: &Edit| writer.notes.get(edit.after?).cloned();
                let row = |edit: &Edit| (name.to_owned(), edit.prefix, stored(edit));
                beside.batch.entries.extend(edits.iter().map(row));
                rows
            };
            writer.state.commit(beside.batch)?;
            writer.remember(list, rows, beside.lines);
            Ok(())
        });
        if let Err(error) = result {
            let undo: Vec<Edit> = edits.iter().map(|edit| edit.reversed()).collect();
            // The tables took everything that is being taken back, so they have room for it.
            if let Err(second) = self.bring_to_kernel(writer, list, &undo) {
                tracing::error!(%second, "a refused change could not be taken back from the kernel");
            }
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn bring_to_kernel(
        &self,
        writer: &mut Writer,
        list: ListId,
        edits: &[Edit],
    ) -> Result<(), ListError> {
        let clock = Clock::now();
        let mut plans = Vec::new();
        for chunk in edits.chunks(CHUNK) {
            let mut truth = self.truth_mut();
            for edit in chunk {
                // An entry is replaced, not put: `put` would only extend it.
                plans.push(match writer.noted(list, edit.after, &clock) {
                    Some(noted) => truth.replace(edit.prefix, list, noted),
                    None => truth.remove(edit.prefix, list),
                });
            }
        }
        let plan = Plan::all(plans);
        if let Some(datapath) = writer.datapath.as_mut() {
            datapath.tables().apply(&plan, &self.truth())?;
        }
        Ok(())
    }
}

impl Writer {
    /// What a list claims of an entry with this note.
    pub(super) fn noted(&self, list: ListId, note: Option<u32>, clock: &Clock) -> Option<Noted> {
        let note = note?;
        let stored = self.notes.get(note)?;
        Some(Noted {
            claim: claim(stored, self.names.mode(list), clock),
            note,
        })
    }

    /// A list as it is in a truth, to be stored.
    fn content(
        &self,
        list: ListId,
        truth: &Truth,
        lines: Option<&Lines>,
    ) -> (String, Option<Vec<u8>>) {
        let lines = lines.or_else(|| self.lines.get(&list));
        let line = |prefix| lines.and_then(|lines| lines.of(prefix)).unwrap_or_default();
        let entries = truth.of_list(list, None).filter_map(|(prefix, noted)| {
            Some((prefix, self.notes.get(noted.note)?, line(prefix)))
        });
        let content = Content::collect(entries);
        let name = self.names.name(list).to_owned();
        let bytes = (!content.items.is_empty()).then(|| content.encode());
        (name, bytes)
    }

    /// Entries of a list.
    pub(super) fn count(&self, list: ListId) -> usize {
        self.counts.get(&list).copied().unwrap_or_default()
    }

    /// Counts a change that was made.
    pub(super) fn recount(&mut self, list: ListId, edits: &[Edit]) {
        let came = edits.iter().filter(|edit| edit.before.is_none()).count();
        let went = edits.iter().filter(|edit| edit.after.is_none()).count();
        let count = self.counts.entry(list).or_default();
        *count = (*count + came).saturating_sub(went);
        for edit in edits {
            let stored = edit.after.and_then(|note| self.notes.get(note));
            if stored.is_some_and(|stored| stored.forced && !stored.trusted) {
                self.forced.insert((list, edit.prefix));
            } else {
                self.forced.remove(&(list, edit.prefix));
            }
        }
    }

    /// Entries of a list that are stored beside its content.
    fn rows(&self, list: ListId) -> usize {
        self.rows.get(&list).copied().unwrap_or_default()
    }

    fn remember(&mut self, list: ListId, rows: usize, lines: Option<Lines>) {
        self.rows.insert(list, rows);
        if let Some(lines) = lines {
            self.lines.insert(list, lines);
        }
    }
}
