//! What the program is told: scope, limits, samples.

use std::time::Duration;

use proxy_common::{ABI_VERSION, Gcra, KeyLengths, Limit, LimitSetting, Scope, Settings};
use rustix::time::{ClockId, clock_getres};

/// What the program does besides asking the lists. All of it can change at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which packets the lists judge.
    pub scope: Scope,
    /// By discriminant of [`Limit`].
    pub limits: [LimitSetting; Limit::COUNT],
    /// By which bits sources are told apart.
    pub source_key: KeyLengths,
    /// By which bits aggregates are.
    pub aggregate_key: KeyLengths,
    /// Drop samples of one CPU.
    pub sample_rate: Gcra,
    /// How long the daemon may give no sign of life before everything passes; for ever when `None`.
    pub fail_open_after: Option<Duration>,
}

impl Rules {
    /// The lists alone, and no samples.
    pub const NONE: Self = Self {
        scope: Scope::All,
        limits: [LimitSetting::OFF; Limit::COUNT],
        source_key: KeyLengths::new(32, 64),
        aggregate_key: KeyLengths::new(24, 56),
        sample_rate: Gcra::UNLIMITED,
        fail_open_after: None,
    };

    /// These rules with one limit set otherwise.
    pub const fn with(mut self, limit: Limit, setting: LimitSetting) -> Self {
        self.limits[limit as usize] = setting;
        self
    }

    /// As the program reads them.
    pub(crate) fn settings(&self, hash_key: [u64; 2]) -> Settings {
        let tick_ns = tick_ns();
        let mut limits_on = 0;
        let mut limits = self.limits;
        for (index, limit) in limits.iter_mut().enumerate() {
            if limit.gcra.is_limited() {
                limits_on |= 1 << index;
                limit.gcra = limit.gcra.with_clock_tick(tick_ns);
            }
        }
        let sample_rate = if self.sample_rate.is_limited() {
            self.sample_rate.with_clock_tick(tick_ns)
        } else {
            self.sample_rate
        };
        Settings {
            abi_version: ABI_VERSION,
            scope: self.scope as u32,
            hash_key,
            source_key: self.source_key,
            aggregate_key: self.aggregate_key,
            sample_rate,
            limits_on,
            // A tick is at most 10 ms long (`CONFIG_HZ_100`).
            tick_ns: tick_ns as u32,
            fail_open_after_ns: self.fail_open_after.map_or(0, |after| {
                u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)
            }),
            limits,
        }
    }
}

/// Length of a tick of the kernel's timer: how long the clock of the limiter stands still.
fn tick_ns() -> u64 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    tick.tv_sec as u64 * 1_000_000_000 + tick.tv_nsec as u64
}
