//! What is known of entries, each kept once however many entries share it: a list of a million has
//! one.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::state::Stored;

/// Fewer are kept without looking which are still used.
const FEW: usize = 4_096;

/// Notes by the number that the truth keeps of each entry.
#[derive(Default)]
pub(super) struct Notes {
    kept: Vec<Option<Arc<Stored>>>,
    numbers: HashMap<Arc<Stored>, u32>,
    free: Vec<u32>,
    /// Notes from which on it is worth looking which are still used.
    sweep_at: usize,
}

impl Notes {
    /// The number of a note, the same for the same.
    pub(super) fn intern(&mut self, stored: Stored) -> u32 {
        if let Some(number) = self.numbers.get(&stored) {
            return *number;
        }
        let stored = Arc::new(stored);
        let number = self.free.pop().unwrap_or_else(|| {
            self.kept.push(None);
            self.kept.len() as u32 - 1
        });
        self.kept[number as usize] = Some(Arc::clone(&stored));
        self.numbers.insert(stored, number);
        number
    }

    /// The note of this number.
    pub(super) fn get(&self, number: u32) -> Option<&Stored> {
        self.kept.get(number as usize)?.as_deref()
    }

    /// Whether many notes have come since it was last seen which are used.
    pub(super) fn is_crowded(&self) -> bool {
        self.numbers.len() > self.sweep_at.max(FEW)
    }

    /// Forgets all but those that are used.
    pub(super) fn sweep(&mut self, used: &HashSet<u32>) {
        for (number, kept) in (0..).zip(&mut self.kept) {
            if let Some(stored) = kept.take_if(|_| !used.contains(&number)) {
                self.numbers.remove(&stored);
                self.free.push(number);
            }
        }
        self.sweep_at = 2 * used.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(added_ms: u64) -> Stored {
        Stored {
            trusted: false,
            added_ms,
            ending: None,
            reason: None,
            forced: false,
        }
    }

    #[test]
    fn notes_that_nobody_uses_make_room_and_the_others_keep_their_numbers() {
        let mut notes = Notes::default();
        let numbers: Vec<u32> = (0..5_000).map(|n| notes.intern(stored(n))).collect();
        assert_eq!(notes.intern(stored(7)), numbers[7]);
        assert!(notes.is_crowded());
        notes.sweep(&HashSet::from([numbers[7], numbers[4_999]]));
        assert!(!notes.is_crowded());
        assert_eq!(notes.get(numbers[7]), Some(&stored(7)));
        assert_eq!(notes.get(numbers[8]), None);
        let again = notes.intern(stored(9_000));
        assert!(again < 5_000, "{again}");
        assert_eq!(notes.get(again), Some(&stored(9_000)));
        assert_eq!(notes.intern(stored(4_999)), numbers[4_999]);
    }
}
