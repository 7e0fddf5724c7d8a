//! What lists claim of a prefix, and what claims add up to.

use proxy_common::{Cell, Mode};

/// Identifies a list; the caller keeps the names.
pub type ListId = u16;

/// What one list claims about a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Passes, whatever other lists say.
    Trusted,
    /// Dropped, or only watched, until `CLOCK_BOOTTIME` reads this many nanoseconds; for good when
    /// `None`.
    Blocked {
        /// End of the block.
        until_ns: Option<u64>,
        /// Whether it is dropped.
        mode: Mode,
    },
}

impl Claim {
    /// Dropped for good.
    pub const BLOCKED: Self = Self::Blocked {
        until_ns: None,
        mode: Mode::Enforce,
    };

    /// Dropped until `CLOCK_BOOTTIME` reads `until_ns`.
    pub const fn until(until_ns: u64) -> Self {
        Self::Blocked {
            until_ns: Some(until_ns),
            mode: Mode::Enforce,
        }
    }

    /// When it ends, of those that do.
    pub(crate) fn until_ns(self) -> Option<u64> {
        match self {
            Self::Blocked { until_ns, .. } => until_ns,
            Self::Trusted => None,
        }
    }
}

/// A claim, and where the caller keeps what else is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// What is claimed.
    pub claim: Claim,
    /// The caller's own; 0 of claims without.
    pub note: u32,
}

impl From<Claim> for Noted {
    fn from(claim: Claim) -> Self {
        Self { claim, note: 0 }
    }
}

impl Noted {
    /// This claim after a list made another one: a second block extends the first and never
    /// shortens it, in all else the second counts.
    pub(crate) fn then(self, other: Self) -> Self {
        let claim = match (self.claim, other.claim) {
            (
                Claim::Blocked { until_ns: old, .. },
                Claim::Blocked {
                    until_ns: new,
                    mode,
                },
            ) => Claim::Blocked {
                until_ns: old.zip(new).map(|(old, new)| old.max(new)),
                mode,
            },
            (_, claim) => claim,
        };
        Self { claim, ..other }
    }
}

/// What all lists together say about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No list covers it.
    Unlisted,
    /// A trusted prefix covers it.
    Trusted,
    /// Blocked for good.
    Blocked,
    /// Blocked until `CLOCK_BOOTTIME` reads `until_ns`.
    Banned {
        /// End of the last ban that covers it.
        until_ns: u64,
    },
    /// Only on lists that watch: passes.
    Monitored,
}

/// The last of several ends; 0 is for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End(u64);

impl End {
    fn of(until_ns: Option<u64>) -> Self {
        // A ban that ended at 0 has ended all the same.
        Self(until_ns.map_or(0, |until_ns| until_ns.max(1)))
    }

    fn outlasts(self, other: Self) -> bool {
        other.0 != 0 && (self.0 == 0 || self.0 > other.0)
    }
}

/// What claims add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    trusted: bool,
    enforced: Option<End>,
    monitored: Option<End>,
}

impl Sum {
    pub(crate) fn add(mut self, claim: Claim) -> Self {
        match claim {
            Claim::Trusted => self.trusted = true,
            Claim::Blocked { until_ns, mode } => {
                let sum = match mode {
                    Mode::Enforce => &mut self.enforced,
                    Mode::Monitor => &mut self.monitored,
                };
                let end = End::of(until_ns);
                if sum.is_none_or(|sum| end.outlasts(sum)) {
                    *sum = Some(end);
                }
            }
        }
        self
    }

    pub(crate) fn cell(self) -> Option<Cell> {
        if self.trusted {
            return Some(Cell::trusted());
        }
        match (self.enforced, self.monitored) {
            (Some(enforced), Some(monitored)) if monitored.outlasts(enforced) => Some(Cell {
                flags: Cell::ENFORCED | Cell::MONITORED,
                until_ns: enforced.0,
            }),
            (Some(enforced), _) => Some(Cell::blocked(enforced.0)),
            (None, Some(monitored)) => Some(Cell::monitored(monitored.0)),
            (None, None) => None,
        }
    }
}
