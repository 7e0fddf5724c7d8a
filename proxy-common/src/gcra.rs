//! The generic cell rate algorithm in integer nanoseconds.
//!
//! One `u64` a bucket: the theoretical arrival time (TAT), the moment at which the bucket will be
//! empty again. ITU-T I.371 calls this the virtual scheduling algorithm. It needs no refill and no
//! second field, so a bucket can be updated with a single compare-and-swap.

/// A rate and how far a source may run ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Gcra {
    /// What one unit (a packet, a byte) costs: a second divided by the rate, in 1/1024 of a
    /// nanosecond, because a byte of a fast link costs less than one. 0 switches the limit off.
    pub emission: u64,
    /// How far ahead of now a bucket's TAT may lie: what all of a burst but its first unit costs.
    pub tolerance_ns: u64,
}

/// Parts of a nanosecond in which [`Gcra::emission`] counts, as a power of two.
const FRACTION_BITS: u32 = 10;

impl Gcra {
    /// No limit at all.
    pub const UNLIMITED: Self = Self {
        emission: 0,
        tolerance_ns: 0,
    };

    /// The highest rate that can be told: a unit a nanosecond.
    pub const FASTEST: u64 = 1_000_000_000_000;

    /// A limit of `per_second` units with `burst` at once; a burst below one counts as one.
    ///
    /// A rate of 0 or above [`Gcra::FASTEST`] yields `None`.
    pub const fn per_second(per_second: u64, burst: u64) -> Option<Self> {
        if per_second == 0 || per_second > Self::FASTEST {
            return None;
        }
        let emission = ((1_000_000_000 << FRACTION_BITS) + per_second / 2) / per_second;
        let ahead = if burst == 0 { 0 } else { burst - 1 };
        Some(Self {
            emission,
            tolerance_ns: emission.saturating_mul(ahead) >> FRACTION_BITS,
        })
    }

    /// The same limit for a clock that stands still for `tick_ns` at a time: what comes evenly
    /// within one tick is no burst.
    pub const fn with_clock_tick(self, tick_ns: u64) -> Self {
        Self {
            tolerance_ns: self.tolerance_ns.saturating_add(tick_ns),
            ..self
        }
    }

    /// Units a second, rounded; 0 where there is no limit.
    pub const fn rate(self) -> u64 {
        if self.emission == 0 {
            return 0;
        }
        ((1_000_000_000 << FRACTION_BITS) + self.emission / 2) / self.emission
    }

    /// Units at once, rounded; 0 where there is no limit.
    pub const fn burst(self) -> u64 {
        if self.emission == 0 {
            return 0;
        }
        let ahead = (self.tolerance_ns as u128) << FRACTION_BITS;
        ((ahead + self.emission as u128 / 2) / self.emission as u128) as u64 + 1
    }

    /// Whether this is a limit at all.
    #[inline(always)]
    pub const fn is_limited(self) -> bool {
        self.emission != 0
    }

    /// The bucket's new TAT if `units` at `now_ns` fit, `None` if they are over the limit.
    ///
    /// `tat_ns` of 0 is an untouched bucket. The clock is monotonic; a TAT from a clock that ran
    /// ahead only delays, by at most the tolerance, because it is never moved past that. `units`
    /// may be more than the burst: they fit into a bucket that has room for one, and delay the
    /// next. At most 2²⁴ units at 2⁴⁰ each, a byte a second, don't overflow.
    #[inline(always)]
    pub const fn admit(self, tat_ns: u64, now_ns: u64, units: u64) -> Option<u64> {
        let start_ns = if tat_ns > now_ns { tat_ns } else { now_ns };
        if start_ns - now_ns > self.tolerance_ns {
            return None;
        }
        Some(start_ns + (self.emission.wrapping_mul(units) >> FRACTION_BITS))
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
            if let Some(next_ns) = limit.admit(tat_ns, 1_000 * MS + packet * gap_ns, 1) {
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
            tat_ns = limit.admit(tat_ns, 0, 1).expect("within the burst");
        }
        let later_ns = 3_600 * 1_000 * MS;
        for _ in 0..3 {
            tat_ns = limit.admit(tat_ns, later_ns, 1).expect("the burst is back");
        }
        assert_eq!(limit.admit(tat_ns, later_ns, 1), None);
    }

    #[test]
    fn refuses_rates_that_cannot_be_told() {
        assert_eq!(Gcra::per_second(0, 1), None);
        assert_eq!(Gcra::per_second(Gcra::FASTEST + 1, 1), None);
        assert!(Gcra::per_second(Gcra::FASTEST, u64::MAX).is_some());
    }

    #[test]
    fn tells_back_the_rate_and_burst_it_was_made_of() {
        for (rate, burst) in [(1, 1), (500, 100), (20_000, 20_000), (1_000_000_000, 7)] {
            let limit = Gcra::per_second(rate, burst).expect("a legal rate");
            assert_eq!((limit.rate(), limit.burst()), (rate, burst));
        }
        assert_eq!((Gcra::UNLIMITED.rate(), Gcra::UNLIMITED.burst()), (0, 0));
    }

    #[test]
    fn bytes_of_a_ten_gigabit_link_are_counted_within_a_hundredth() {
        let limit = Gcra::per_second(1_250_000_000, 1).expect("a legal rate");
        let next_ns = limit.admit(0, 0, 1_500).expect("an empty bucket");
        assert!((1_188..=1_212).contains(&next_ns), "{next_ns}");
    }

    #[test]
    fn a_clock_that_ticks_slowly_drops_nothing_of_an_even_stream() {
        let tick_ns = 4 * MS;
        let limit = Gcra::per_second(1_000, 1)
            .expect("a legal rate")
            .with_clock_tick(tick_ns);
        let (mut tat_ns, mut passed) = (0, 0);
        for packet in 0..10_000_u64 {
            let now_ns = (1_000 * MS + packet * MS) / tick_ns * tick_ns;
            if let Some(next_ns) = limit.admit(tat_ns, now_ns, 1) {
                tat_ns = next_ns;
                passed += 1;
            }
        }
        assert_eq!(passed, 10_000);
    }
}
