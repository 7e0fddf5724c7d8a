//! What all lists together say of a prefix, as a table stores it.

/// The sum of every claim on a prefix: trusted, else dropped, else only watched.
///
/// `until_ns` ends the drop where [`Cell::ENFORCED`] is set, and the watching otherwise. A prefix
/// that is both dropped and watched goes on being watched after the drop has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// [`Cell::TRUSTED`], [`Cell::ENFORCED`], [`Cell::MONITORED`]; the first that is set decides.
    pub flags: u8,
    /// `CLOCK_BOOTTIME` in nanoseconds; 0 means for good.
    pub until_ns: u64,
}

/// What a cell means at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Listing {
    /// No list says anything.
    Unlisted,
    /// Passes, whatever any list or limit says.
    Trusted,
    /// Dropped for good.
    Blocked,
    /// Dropped for a while that has not ended.
    Banned,
    /// On a list that only watches, for good.
    MonitoredBlock,
    /// On a list that only watches, for a while that has not ended.
    MonitoredBan,
}

impl Listing {
    /// The listing with this discriminant; [`Listing::Unlisted`] for any other number.
    #[inline(always)]
    pub const fn from_index(index: u32) -> Self {
        match index {
            1 => Self::Trusted,
            2 => Self::Blocked,
            3 => Self::Banned,
            4 => Self::MonitoredBlock,
            5 => Self::MonitoredBan,
            _ => Self::Unlisted,
        }
    }
}

impl Cell {
    /// Set on a trusted prefix.
    pub const TRUSTED: u8 = 1;
    /// Set on a prefix that is dropped.
    pub const ENFORCED: u8 = 2;
    /// Set on a prefix that would be dropped if its list were enforced.
    pub const MONITORED: u8 = 4;

    /// No list says anything.
    pub const UNLISTED: Self = Self {
        flags: 0,
        until_ns: 0,
    };

    /// A trusted prefix.
    pub const fn trusted() -> Self {
        Self {
            flags: Self::TRUSTED,
            until_ns: 0,
        }
    }

    /// A prefix dropped until `CLOCK_BOOTTIME` reads `until_ns`, or for good when that is 0.
    pub const fn blocked(until_ns: u64) -> Self {
        Self {
            flags: Self::ENFORCED,
            until_ns,
        }
    }

    /// A prefix watched until `until_ns`, or for good when that is 0.
    pub const fn monitored(until_ns: u64) -> Self {
        Self {
            flags: Self::MONITORED,
            until_ns,
        }
    }

    /// What the cell means now; the clock is read only where an end is set.
    #[inline(always)]
    pub fn listing(self, now_ns: impl FnOnce() -> u64) -> Listing {
        if self.flags & Self::TRUSTED != 0 {
            return Listing::Trusted;
        }
        if self.flags & (Self::ENFORCED | Self::MONITORED) == 0 {
            return Listing::Unlisted;
        }
        let enforced = self.flags & Self::ENFORCED != 0;
        if self.until_ns == 0 {
            return if enforced {
                Listing::Blocked
            } else {
                Listing::MonitoredBlock
            };
        }
        if now_ns() < self.until_ns {
            return if enforced {
                Listing::Banned
            } else {
                Listing::MonitoredBan
            };
        }
        if enforced && self.flags & Self::MONITORED != 0 {
            Listing::MonitoredBlock
        } else {
            Listing::Unlisted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(cell: Cell, now_ns: u64) -> Listing {
        cell.listing(|| now_ns)
    }

    #[test]
    fn a_ban_ends_at_its_nanosecond() {
        assert_eq!(at(Cell::blocked(100), 99), Listing::Banned);
        assert_eq!(at(Cell::blocked(100), 100), Listing::Unlisted);
        assert_eq!(at(Cell::monitored(100), 99), Listing::MonitoredBan);
        assert_eq!(at(Cell::monitored(100), 100), Listing::Unlisted);
    }

    #[test]
    fn zero_is_for_good_and_asks_no_clock() {
        let no_clock = || panic!("the clock was read");
        assert_eq!(Cell::blocked(0).listing(no_clock), Listing::Blocked);
        assert_eq!(
            Cell::monitored(0).listing(no_clock),
            Listing::MonitoredBlock
        );
        assert_eq!(Cell::UNLISTED.listing(no_clock), Listing::Unlisted);
    }

    #[test]
    fn trust_beats_every_other_flag() {
        let all = Cell {
            flags: Cell::TRUSTED | Cell::ENFORCED | Cell::MONITORED,
            until_ns: 0,
        };
        assert_eq!(at(all, 5), Listing::Trusted);
    }

    #[test]
    fn what_is_watched_too_stays_watched_when_its_ban_ends() {
        let both = Cell {
            flags: Cell::ENFORCED | Cell::MONITORED,
            until_ns: 100,
        };
        assert_eq!(at(both, 99), Listing::Banned);
        assert_eq!(at(both, 100), Listing::MonitoredBlock);
    }
}
