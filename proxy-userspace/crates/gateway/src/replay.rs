//! What may be used once, remembered for as long as it could be used again: exactly, up to a bound, and full
//! rather than forgetful.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
};

/// Seconds of one bucket: what is over goes with its whole bucket.
const SPAN: u64 = 8;

/// The first half of a SHA-256: nobody finds two uses with one name.
pub(crate) type Name = [u8; 16];

/// What was used, by the span of time in which it is over.
#[derive(Debug)]
pub(crate) struct ReplaySet {
    most: usize,
    buckets: Mutex<BTreeMap<u64, HashSet<Name>>>,
}

/// What becomes of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is the first, and is remembered.
    First,
    /// There was one before.
    Again,
    /// It may be the first, and there is no room to remember it.
    Full,
}

impl ReplaySet {
    /// One that remembers so many at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            buckets: Mutex::default(),
        }
    }

    /// Uses what can't be used any more after this second.
    pub(crate) fn enter(&self, name: Name, last: u64, now: u64) -> Use {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = buckets.first_entry()
            && oldest.key() + SPAN <= now
        {
            oldest.remove();
        }
        if buckets.values().any(|bucket| bucket.contains(&name)) {
            return Use::Again;
        }
        if buckets.values().map(HashSet::len).sum::<usize>() >= self.most {
            return Use::Full;
        }
        let begin = last / SPAN * SPAN;
        buckets.entry(begin).or_default().insert(name);
        Use::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> Name {
        let mut name = [0; 16];
        name[..4].copy_from_slice(&number.to_be_bytes());
        name
    }

    #[test]
    fn a_use_is_remembered_until_it_is_over_and_no_longer() {
        let used = ReplaySet::new(10);
        let last = 1_000_060;
        assert_eq!(used.enter(name(1), last, 1_000_000), Use::First);
        for now in [1_000_000, 1_000_030, last] {
            assert_eq!(used.enter(name(1), last, now), Use::Again, "{now}");
            // Whatever is said of its end the second time.
            assert_eq!(used.enter(name(1), last + 30, now), Use::Again, "{now}");
        }
        assert_eq!(used.enter(name(1), last + 60, last + SPAN), Use::First);
    }

    #[test]
    fn a_full_set_forgets_nothing_until_something_is_over() {
        let used = ReplaySet::new(3);
        for number in 0..3 {
            let last = 1_000_000 + 10 * u64::from(number);
            assert_eq!(used.enter(name(number), last, 999_990), Use::First);
        }
        assert_eq!(used.enter(name(9), 1_000_050, 999_990), Use::Full);
        for number in 0..3 {
            assert_eq!(used.enter(name(number), 1_000_050, 999_990), Use::Again);
        }
        // The first is over.
        assert_eq!(used.enter(name(9), 1_000_050, 1_000_008), Use::First);
        assert_eq!(used.enter(name(8), 1_000_050, 1_000_008), Use::Full);
        assert_eq!(used.enter(name(9), 1_000_050, 1_000_008), Use::Again);
    }

    #[test]
    fn of_many_at_once_one_is_the_first() {
        let used = ReplaySet::new(1_000_000);
        let firsts = std::thread::scope(|scope| {
            let enter = || {
                let uses = (0..10_000).map(|number| used.enter(name(number), 1_000_060, 1_000_000));
                uses.filter(|it| *it == Use::First).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
            let counts = threads.into_iter().map(|it| it.join().expect("an end"));
            counts.sum::<usize>()
        });
        assert_eq!(firsts, 10_000);
    }
}
