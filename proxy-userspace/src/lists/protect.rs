//! What keeps this host reachable, as a list of trusted prefixes that beats all others. It is found
//! anew at each start, so it isn't stored.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::{LIFELINES, ListError, Lists, Outcome, change::Edit, edit, entry::Owner};
use crate::{
    lifeline::{Lifeline, cut_around},
    state::{Clock, Stored},
};

impl Lists {
    /// Trusts just these from now on, but for what somebody blocked by force.
    pub(crate) fn protect(&self, lifelines: &[Lifeline]) -> Result<Outcome, ListError> {
        let mut writer = self.writer();
        let list = writer.names.find_or_add(LIFELINES, true)?;
        writer.names.own(list, Owner::Host);
        let forced = writer.forced.iter().map(|(_, prefix)| Lifeline {
            prefix: *prefix,
            what: String::new(),
        });
        let forced: Vec<Lifeline> = forced.collect();
        let wanted = (0..).zip(lifelines).map(|(at, line)| (line.prefix, at));
        let (wanted, _) = cut_around(wanted.collect(), &forced);
        let added_ms = Clock::now().unix_ms;
        let before: HashMap<IpNet, u32> = {
            let truth = self.truth();
            let there = truth.of_list(list, None);
            there.map(|(prefix, noted)| (prefix, noted.note)).collect()
        };
        let mut edits: Vec<Edit> = Vec::new();
        let mut kept = HashSet::new();
        for (prefix, at) in wanted {
            if !kept.insert(prefix) || before.contains_key(&prefix) {
                continue;
            }
            let at: usize = at;
            let note = writer.notes.intern(Stored {
                trusted: true,
                added_ms,
                ending: None,
                reason: lifelines.get(at).map(|line| line.what.clone()),
                forced: false,
            });
            edits.push(edit(prefix, None, Some(note)));
        }
        let gone = before.iter().filter(|(prefix, _)| !kept.contains(*prefix));
        edits.extend(gone.map(|(prefix, note)| edit(*prefix, Some(*note), None)));
        if !edits.is_empty() {
            self.bring_to_kernel(&mut writer, list, &edits)?;
            writer.recount(list, &edits);
        }
        Ok(Outcome::of(&edits, 0))
    }
}
