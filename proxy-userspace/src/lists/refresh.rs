//! Lists that follow a source.

use std::collections::{HashMap, HashSet};

use super::{ListError, Lists, Outcome, Refresh, change::Beside, edit, lines::Lines};
use crate::state::{Batch, Clock, Ending, Stored};

impl Lists {
    /// Makes a list what its source says.
    pub(crate) fn refresh(&self, refresh: Refresh<'_>) -> Result<Outcome, ListError> {
        let mut writer = self.writer();
        let list = writer
            .names
            .find(refresh.list)
            .ok_or_else(|| ListError::NoSuchList(refresh.list.to_owned()))?;
        self.make_room(&mut writer);
        let clock = Clock::now();
        let ending = refresh.ttl.map(|ttl| Ending::after(ttl, &clock));
        let fresh = Stored {
            trusted: writer.names.trusted(list),
            added_ms: clock.unix_ms,
            ending: ending.clone(),
            reason: None,
        };
        let mut after_of: HashMap<Option<u32>, u32> = HashMap::new();
        let mut edits = Vec::new();
        let mut named = HashSet::with_capacity(refresh.entries.len());
        for (prefix, _) in refresh.entries {
            if !named.insert(*prefix) {
                continue;
            }
            let before = self.note(list, *prefix);
            let after = *after_of.entry(before).or_insert_with(|| {
                let stored = match before.and_then(|note| writer.notes.get(note)) {
                    Some(before) => Stored {
                        ending: ending.clone(),
                        ..before.clone()
                    },
                    None => fresh.clone(),
                };
                writer.notes.intern(stored)
            });
            if before != Some(after) {
                edits.push(edit(*prefix, before, Some(after)));
            }
        }
        let unchanged = named.len() - edits.len();
        if refresh.ttl.is_none() {
            let gone = self.truth();
            let gone = gone
                .of_list(list, None)
                .filter(|(prefix, _)| !named.contains(prefix))
                .map(|(prefix, noted)| edit(prefix, Some(noted.note), None));
            edits.extend(gone);
        }
        let outcome = Outcome {
            unchanged,
            ..Outcome::of(&edits, 0)
        };
        drop(named);
        let beside = Beside {
            lines: Some(Lines::new(refresh.entries.iter().copied())),
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
}
