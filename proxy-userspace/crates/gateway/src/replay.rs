//! What may be used once, remembered for as long as it could be used again: exactly, up to a bound, and full
//! rather than forgetful.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest::Digest;

/// Seconds of one span: what is over is known to be so with its whole span.
const SPAN: u64 = 8;

/// What is over is kept until there is so much of it, and a quarter of all.
const SWEPT: usize = 1_024;

/// The first half of a SHA-256: nobody finds two uses with one name.
pub(crate) type Name = [u8; 16];

/// The name of what has this SHA-256.
pub(crate) fn name_of(hash: &Digest) -> Name {
    let mut name = Name::default();
    let length = name.len();
    name.copy_from_slice(&hash.as_ref()[..length]);
    name
}

/// What becomes of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is the first.
    First,
    /// There was one before.
    Again,
    /// It may be the first, and there is no room to remember it.
    Full,
    /// There may have been one before that is forgotten: the clock was ahead, and was set back.
    Unknown,
}

/// Names that were used, and until when: 22 to 44 bytes each.
#[derive(Debug, Default)]
pub(crate) struct Used {
    until: HashMap<Name, u32>,
    /// Those that aren't over, by the span in which they will be.
    spans: BTreeMap<u64, usize>,
    /// Those that are over and still in `until`.
    over: usize,
    /// The latest second that was heard of: a clock that is set back brings nothing back.
    now: u64,
}

/// The span in which what is used until this second is over.
fn span_of(last: u64) -> u64 {
    last / SPAN
}

impl Used {
    /// What the use of this name would be now, good until `last`, where no more than so many are remembered.
    pub(crate) fn judge(&mut self, name: &Name, last: u64, now: u64, most: usize) -> Use {
        self.pass(now);
        match self.until.get(name) {
            Some(last) if !self.is_over(*last) => Use::Again,
            _ if span_of(last) < span_of(self.now) => Use::Unknown,
            _ if self.live() >= most => Use::Full,
            _ => Use::First,
        }
    }

    /// Remembers a use until this second.
    pub(crate) fn insert(&mut self, name: Name, last: u64) {
        let mut last = u32::try_from(last).unwrap_or(u32::MAX);
        if let Some(before) = self.until.remove(&name) {
            last = last.max(before);
            self.discount(before);
        }
        self.until.insert(name, last);
        if self.is_over(last) {
            self.over += 1;
        } else {
            *self.spans.entry(span_of(last.into())).or_default() += 1;
        }
        if self.over > SWEPT && self.over > self.until.len() / 4 {
            self.sweep();
        }
    }

    /// Those that aren't over.
    pub(crate) fn live(&self) -> usize {
        self.until.len() - self.over
    }

    /// Those that aren't over, and until when each is remembered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, u32)> {
        let all = self.until.iter().map(|(name, last)| (name, *last));
        all.filter(|(_, last)| !self.is_over(*last))
    }

    /// It is this second now, or later.
    pub(crate) fn pass(&mut self, now: u64) {
        self.now = self.now.max(now);
        while let Some(oldest) = self.spans.first_entry()
            && *oldest.key() < span_of(self.now)
        {
            self.over += oldest.remove();
        }
    }

    fn is_over(&self, last: u32) -> bool {
        span_of(last.into()) < span_of(self.now)
    }

    fn discount(&mut self, last: u32) {
        if self.is_over(last) {
            self.over -= 1;
        } else if let Some(count) = self.spans.get_mut(&span_of(last.into())) {
            *count -= 1;
        }
    }

    fn sweep(&mut self) {
        let begun = span_of(self.now);
        self.until
            .retain(|_, last| span_of((*last).into()) >= begun);
        self.over = 0;
    }
}

/// What was used in this process.
#[derive(Debug)]
pub(crate) struct ReplaySet {
    most: usize,
    used: Mutex<Used>,
}

impl ReplaySet {
    /// One that remembers so many at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            used: Mutex::default(),
        }
    }

    /// What the use of this name would be now.
    pub(crate) fn judge(&self, name: &Name, last: u64, now: u64) -> Use {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.judge(name, last, now, self.most)
    }

    /// Uses what can't be used any more after this second.
    pub(crate) fn enter(&self, name: Name, last: u64, now: u64) -> Use {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let judged = used.judge(&name, last, now, self.most);
        if judged == Use::First {
            used.insert(name, last);
        }
        judged
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
        // A clock that is set back brings nothing back, nor what may be forgotten.
        assert_eq!(used.enter(name(1), last + 60, last - 30), Use::Again);
        for _ in 0..2 {
            assert_eq!(used.enter(name(2), last - 20, last - 30), Use::Unknown);
        }
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

    /// Against a plain map, step by step, with names that come again and times that run on.
    #[test]
    fn it_counts_as_a_plain_map_does() {
        let (mut used, mut plain) = (Used::default(), HashMap::new());
        let mut state = 7_u64;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut now = 1_000_000;
        let mut full = 0;
        for step in 0..40_000_u32 {
            now += draw(2) * draw(2);
            let one = name(u32::try_from(draw(600)).expect("small"));
            let last = now + draw(3_000);
            plain.retain(|_, last: &mut u64| step % 64 != 0 || *last / SPAN >= now / SPAN);
            let live = plain
                .values()
                .filter(|it| **it / SPAN >= now / SPAN)
                .count();
            let known = plain.get(&one).is_some_and(|it| *it / SPAN >= now / SPAN);
            let expected = match (known, live) {
                (true, _) => Use::Again,
                (false, 200..) => Use::Full,
                (false, _) => Use::First,
            };
            assert_eq!(used.judge(&one, last, now, 200), expected, "step {step}");
            assert_eq!(used.live(), live, "step {step}");
            full += u32::from(expected == Use::Full);
            if expected == Use::First {
                used.insert(one, last);
                plain.insert(one, last);
            }
        }
        assert!(full > 100, "{full}");
        let mut listed: Vec<_> = used
            .iter()
            .map(|(name, last)| (*name, u64::from(last)))
            .collect();
        let mut expected: Vec<_> = plain
            .into_iter()
            .filter(|(_, it)| it / SPAN >= now / SPAN)
            .collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected);
    }
}
