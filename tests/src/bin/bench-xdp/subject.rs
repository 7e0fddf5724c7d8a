//! A program under test: its lane, and what it says it saw.

use portcullis_tests::loaded::Failure;

use crate::lanes::Lane;

/// Packets by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Nothing against them.
    pub(crate) clean: u64,
    /// On the list.
    pub(crate) blocked: u64,
    /// Over their rate.
    pub(crate) limited: u64,
    /// Anything else.
    pub(crate) other: u64,
}

impl Seen {
    /// All of them.
    pub(crate) const fn total(self) -> u64 {
        self.clean + self.blocked + self.limited + self.other
    }

    /// What came since an earlier reading.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            clean: self.clean - before.clean,
            blocked: self.blocked - before.blocked,
            limited: self.limited - before.limited,
            other: self.other - before.other,
        }
    }
}

/// Whatever counts its verdicts.
pub(crate) trait Judge {
    /// Verdicts since it began; `None` where a program has none.
    ///
    /// # Errors
    /// When the counters can't be read.
    fn seen(&mut self) -> Result<Option<Seen>, Failure>;
}

/// A program and its lane.
pub(crate) struct Subject {
    /// What it is.
    pub(crate) name: String,
    /// Where its packets come from.
    pub(crate) lane: Lane,
    /// Whether XDP takes the packets, rather than the network stack.
    pub(crate) xdp: bool,
    /// The program.
    pub(crate) judge: Box<dyn Judge>,
}
