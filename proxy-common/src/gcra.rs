//! The generic cell rate algorithm in integer nanoseconds.
//!
//! One `u64` a bucket: the theoretical arrival time (TAT), the moment at which the bucket will be
//! empty again. ITU-T I.371 calls this the virtual scheduling algorithm. It needs no refill and no
//! second field, so a bucket can be updated with a single compare-and-swap.

/// A rate and how far a source may run ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Gcra {
    /// Nanoseconds that one packet costs: a second divided by the rate. 0 switches the limit off.
    pub emission_ns: u64,
    /// How far ahead of now a bucket's TAT may lie: `(burst - 1) * emission_ns`.
    pub tolerance_ns: u64,
}

impl Gcra {
    /// No limit at all.
    pub const UNLIMITED: Self = Self {
        emission_ns: 0,
        tolerance_ns: 0,
    };

    /// A limit of `per_second` with `burst` at once; a burst below one counts as one.
    ///
    /// A rate of 0 or above 10⁹ can't be told in whole nanoseconds and yields `None`.
    pub const fn per_second(per_second: u64, burst: u64) -> Option<Self> {
        if per_second == 0 || per_second > 1_000_000_000 {
            return None;
        }
        let emission_ns = 1_000_000_000 / per_second;
        let ahead = if burst == 0 { 0 } else { burst - 1 };
        Some(Self {
            emission_ns,
            tolerance_ns: emission_ns.saturating_mul(ahead),
        })
    }

    /// Whether this is a limit at all.
    #[inline(always)]
    pub const fn is_limited(self) -> bool {
        self.emission_ns != 0
    }

    /// The bucket's new TAT if a packet at `now_ns` fits, `None` if it is over the limit.
    ///
    /// `tat_ns` of 0 is an untouched bucket. The clock is monotonic; a TAT from a clock that ran
    /// ahead only delays, by at most the tolerance, because it is never moved past that.
    #[inline(always)]
    pub const fn admit(self, tat_ns: u64, now_ns: u64) -> Option<u64> {
        let start_ns = if tat_ns > now_ns { tat_ns } else { now_ns };
        if start_ns - now_ns > self.tolerance_ns {
            return None;
        }
        Some(start_ns + self.emission_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Sends a packet every `gap_ns` for `packets` packets and returns how many were admitted.
    fn admitted(limit: Gcra, gap_ns: u64, packets: u64) -> u64 {
        let mut tat_ns = 0;
        let mut passed = 0;
        for packet in 0..packets {
            if let Some(next_ns) = limit.admit(tat_ns, 1_000 * MS + packet * gap_ns) {
                tat_ns = next_ns;
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn a_burst_passes_at_once_and_the_next_packet_does_not() {
        let limit = Gcra::per_second(100, 5).expect("a legal rate");
        assert_eq!(admitted(limit, 0, 50), 5);
    }

    #[test]
    fn a_source_at_its_rate_is_never_dropped() {
        let limit = Gcra::per_second(1_000, 1).expect("a legal rate");
        assert_eq!(admitted(limit, MS, 10_000), 10_000);
    }

    #[test]
    fn a_source_at_ten_times_its_rate_gets_its_rate_and_its_burst() {
        let limit = Gcra::per_second(1_000, 20).expect("a legal rate");
        let passed = admitted(limit, MS / 10, 100_000);
        assert!((10_000..=10_020).contains(&passed), "{passed}");
    }

    #[test]
    fn a_rest_earns_the_burst_back_and_no_more() {
        let limit = Gcra::per_second(10, 3).expect("a legal rate");
        let mut tat_ns = 0;
        for _ in 0..3 {
            tat_ns = limit.admit(tat_ns, 0).expect("within the burst");
        }
        let later_ns = 3_600 * 1_000 * MS;
        for _ in 0..3 {
            tat_ns = limit.admit(tat_ns, later_ns).expect("the burst is back");
        }
        assert_eq!(limit.admit(tat_ns, later_ns), None);
    }

    #[test]
    fn refuses_rates_that_whole_nanoseconds_cannot_tell() {
        assert_eq!(Gcra::per_second(0, 1), None);
        assert_eq!(Gcra::per_second(1_000_000_001, 1), None);
        assert!(Gcra::per_second(1_000_000_000, u64::MAX).is_some());
    }
}
