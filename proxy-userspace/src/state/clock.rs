//! The clocks, and endings that neither a restart nor a clock that is set moves.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Which boot of the machine, as `/proc/sys/kernel/random/boot_id` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) struct BootId(u128);

impl From<String> for BootId {
    /// Of what is no boot's name, one that no boot has.
    fn from(text: String) -> Self {
        Self(u128::from_str_radix(&text.replace('-', ""), 16).unwrap_or_default())
    }
}

impl From<BootId> for String {
    fn from(BootId(id): BootId) -> Self {
        format!("{id:032x}")
    }
}

/// When an entry ends, so told that neither a restart nor a clock that is set moves it: within
/// one boot the boot clock counts, after another boot the wall clock has to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ending {
    boot_id: BootId,
    boot_ns: u64,
    pub(crate) unix_ms: u64,
    /// How long it was to last. A machine that starts with a clock years behind must not add them.
    #[serde(default = "for_ever")]
    lasts_ms: u64,
}

fn for_ever() -> u64 {
    u64::MAX
}

impl Ending {
    pub(crate) fn after(duration: Duration, clock: &Clock) -> Self {
        let later = |now_ns: u64| {
            now_ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
        };
        Self {
            boot_id: clock.boot_id,
            boot_ns: later(clock.boot_ns),
            unix_ms: later(clock.unix_ms.saturating_mul(1_000_000)) / 1_000_000,
            lasts_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The ending in nanoseconds of this boot's `CLOCK_BOOTTIME`.
    pub(crate) fn boot_ns(&self, clock: &Clock) -> u64 {
        if self.boot_id == clock.boot_id {
            return self.boot_ns;
        }
        let left_ms = self.unix_ms.saturating_sub(clock.unix_ms);
        clock
            .boot_ns
            .saturating_add(left_ms.min(self.lasts_ms).saturating_mul(1_000_000))
    }

    /// Milliseconds that are left.
    pub(crate) fn left_ms(&self, clock: &Clock) -> u64 {
        self.boot_ns(clock).saturating_sub(clock.boot_ns) / 1_000_000
    }
}

/// The clocks at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    boot_id: BootId,
    pub(crate) boot_ns: u64,
    pub(crate) unix_ms: u64,
}

impl Clock {
    pub(crate) fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            boot_id: boot_id.trim().to_owned().into(),
            boot_ns: datapath::boot_ns(),
            unix_ms: since_epoch.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Which boot this is; where the kernel doesn't say, one that was never before.
    pub(crate) fn boot(&self) -> [u8; 16] {
        let BootId(id) = self.boot_id;
        let never_before = || u128::from(self.unix_ms) << 64 | u128::from(self.boot_ns);
        let id = if id == 0 { never_before() } else { id };
        id.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(boot_id: u128, boot_s: u64, unix_s: u64) -> Clock {
        Clock {
            boot_id: BootId(boot_id),
            boot_ns: boot_s * 1_000_000_000,
            unix_ms: unix_s * 1_000,
        }
    }

    #[test]
    fn within_one_boot_a_set_clock_moves_no_ending() {
        let ending = Ending::after(Duration::from_secs(60), &clock(1, 100, 1_000_000));
        let clock_was_set = clock(1, 130, 5_000_000);
        assert_eq!(ending.boot_ns(&clock_was_set), 160 * 1_000_000_000);
        assert_eq!(ending.left_ms(&clock_was_set), 30_000);
    }

    #[test]
    fn after_another_boot_the_rest_is_kept_by_the_wall_clock() {
        let ending = Ending::after(Duration::from_secs(60), &clock(1, 100, 1_000_000));
        let rebooted = clock(2, 5, 1_000_020);
        assert_eq!(ending.boot_ns(&rebooted), 45 * 1_000_000_000);
        let much_later = clock(2, 5, 2_000_000);
        assert_eq!(ending.boot_ns(&much_later), 5 * 1_000_000_000);
    }

    #[test]
    fn a_boot_with_a_clock_years_behind_adds_no_years() {
        let ending = Ending::after(Duration::from_secs(60), &clock(1, 100, 1_000_000));
        let no_battery = clock(2, 5, 0);
        assert_eq!(ending.left_ms(&no_battery), 60_000);
    }

    #[test]
    fn an_ending_beyond_every_clock_does_not_wrap() {
        let ending = Ending::after(Duration::MAX, &clock(1, 100, 1_000_000));
        assert_eq!(ending.boot_ns(&clock(1, 100, 0)), u64::MAX);
    }

    #[test]
    fn a_boot_is_named_as_the_kernel_names_it() {
        let named = "\"3b241101-e2bb-4255-8caf-4136c566a962\"";
        let id: BootId = serde_json::from_str(named).expect("a boot id");
        let again = serde_json::to_string(&id).expect("text");
        assert_eq!(serde_json::from_str::<BootId>(&again).expect("an id"), id);
        assert_ne!(id, BootId(0));
    }
}
