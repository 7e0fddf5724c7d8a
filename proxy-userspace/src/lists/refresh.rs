//! Lists that follow a source.

use std::collections::{HashMap, HashSet};

use datapath::ListId;
use proxy_common::Mode;

use super::{
    ListError, Lists, Outcome, Refresh, Writer,
    change::{Beside, Edit},
    edit,
    entry::Owner,
    lines::Lines,
};
use crate::state::{Batch, Clock, Document, Ending, Stored};

impl Lists {
    /// Makes a list what its source says.
    pub(crate) fn refresh(&self, refresh: Refresh<'_>) -> Result<Outcome, ListError> {
        let mut writer = self.writer();
        let (list, edits, outcome) = self.refreshed(&mut writer, &refresh)?;
        let lines = refresh.entries.iter().map(|it| (it.prefix, it.line));
        let beside = Beside {
            lines: Some(Lines::new(lines)),
            batch: Batch {
                documents: refresh.documents,
                ..Batch::default()
            },
        };
        let what = || format!("what the source of {:?} says", refresh.list);
        let confirm = refresh.confirm;
        let outcome =
            self.confirmable(&mut writer, list, &edits, confirm, what, beside, outcome)?;
        self.settle_recovered(&mut writer, list)?;
        Ok(outcome)
    }

    /// What `refresh` would do now; nothing is changed.
    pub(crate) fn preview_refresh(&self, refresh: &Refresh<'_>) -> Result<Outcome, ListError> {
        let (_, _, outcome) = self.refreshed(&mut self.writer(), refresh)?;
        Ok(outcome)
    }

    fn refreshed(
        &self,
        writer: &mut Writer,
        refresh: &Refresh<'_>,
    ) -> Result<(ListId, Vec<Edit>, Outcome), ListError> {
        let list = writer
            .names
            .find(refresh.list)
            .ok_or_else(|| ListError::NoSuchList(refresh.list.to_owned()))?;
        self.make_room(writer);
        let clock = Clock::now();
        let trusted = writer.names.trusted(list);
        let mut after_of = HashMap::new();
        let mut edits = Vec::new();
        let mut named = HashSet::with_capacity(refresh.entries.len());
        for sourced in refresh.entries {
            let prefix = sourced.prefix;
            if !named.insert(prefix) {
                continue;
            }
            let before = self.note(list, prefix);
            let lasts = sourced.lasts.or(refresh.ttl);
            let after = *after_of.entry((before, lasts)).or_insert_with(|| {
                let ending = lasts.map(|lasts| Ending::after(lasts, &clock));
                let stored = match before.and_then(|note| writer.notes.get(note)) {
                    Some(before) => Stored {
                        ending,
                        ..before.clone()
                    },
                    None => Stored {
                        trusted,
                        added_ms: clock.unix_ms,
                        ending,
                        reason: None,
                        forced: false,
                    },
                };
                writer.notes.intern(stored)
            });
            if before != Some(after) {
                edits.push(edit(prefix, before, Some(after)));
            }
        }
        let unchanged = named.len() - edits.len();
        if refresh.ttl.is_none() {
            let truth = self.truth();
            let gone = truth
                .of_list(list, None)
                .filter(|(prefix, _)| !named.contains(prefix))
                .map(|(prefix, noted)| edit(prefix, Some(noted.note), None));
            edits.extend(gone);
        }
        let outcome = Outcome {
            unchanged,
            ..Outcome::of(&edits, 0)
        };
        Ok((list, edits, outcome))
    }

    /// Makes a list of this name that follows a source. One that holds entries already, or is
    /// somebody else's, is an error.
    pub(crate) fn begin_feed(
        &self,
        name: &str,
        trusted: bool,
        mode: Mode,
        documents: Vec<Document>,
    ) -> Result<(), ListError> {
        let mut writer = self.writer();
        writer.refuse_owned(name)?;
        if let Some(list) = writer.names.find(name) {
            let entries = writer.count(list);
            if entries > 0 {
                let list = name.to_owned();
                return Err(ListError::NotEmpty { list, entries });
            }
        }
        let list = writer.names.find_or_add(name, trusted)?;
        writer.state.commit(Batch {
            documents,
            ..Batch::default()
        })?;
        writer.names.own(list, Owner::Feed);
        writer.names.set_mode(list, mode);
        Ok(())
    }

    /// Takes all entries off a list, which follows a source no more.
    pub(crate) fn end_feed(
        &self,
        name: &str,
        documents: Vec<Document>,
    ) -> Result<Outcome, ListError> {
        let mut writer = self.writer();
        let mut beside = Beside::default();
        beside.batch.documents = documents;
        let Some(list) = writer.names.find(name) else {
            writer.state.commit(beside.batch)?;
            return Ok(Outcome::default());
        };
        let edits: Vec<Edit> = {
            let truth = self.truth();
            let all = truth.of_list(list, None);
            all.map(|(prefix, noted)| edit(prefix, Some(noted.note), None))
                .collect()
        };
        beside.lines = Some(Lines::default());
        // Nothing of it comes back because nobody confirmed a change.
        let waiting = writer.pending.iter().filter(|it| it.is_of(name));
        let forgotten = waiting.flat_map(|it| it.documents_to_forget());
        beside.batch.documents.extend(forgotten);
        self.carry_out(&mut writer, list, &edits, beside)?;
        writer.pending.retain(|it| !it.is_of(name));
        writer.names.own(list, Owner::Operator);
        writer.names.set_mode(list, Mode::Enforce);
        Ok(Outcome::of(&edits, 0))
    }

    /// Entries of a list.
    pub(crate) fn count(&self, name: &str) -> usize {
        let writer = self.writer();
        let list = writer.names.find(name);
        list.map_or(0, |list| writer.count(list))
    }
}
