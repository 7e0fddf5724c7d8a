//! When a certificate is due to be renewed, and when an attempt that failed is repeated.

use std::time::{Duration, SystemTime};

use crate::validity::Validity;

/// First wait after the authority was not reached, and the longest. Asking costs nobody anything.
const UNREACHED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10 * 60));
/// The same after it said no, or found that a name isn't ours. Let's Encrypt takes five such failures of a
/// name an hour, and this comes to no more.
const REFUSED: (Duration, Duration) = (Duration::from_secs(2 * 60), Duration::from_secs(6 * 3_600));

impl Validity {
    /// When it is to be renewed: when two thirds of its life are over, or up to a fiftieth of its life
    /// earlier, so that certificates that were issued together aren't renewed together. `draw` is from 0
    /// up to 1.
    pub(super) fn renewal(&self, draw: f64) -> SystemTime {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.from + life * 2 / 3 - (life / 50).mul_f64(draw)
    }
}

/// Why an attempt failed, as far as it matters for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// The authority was not reached, or something of ours is amiss: it knows nothing of the attempt.
    Unreached,
    /// It said no.
    Refused,
}

/// How long to wait after so many failures in a row, 1 for the first: twice as long each time, and up to a
/// quarter longer, so that many don't come back together. `asked` is how long the authority asks to be
/// left alone, at the least.
pub(super) fn wait(
    setback: Setback,
    failures: u32,
    asked: Option<Duration>,
    draw: f64,
) -> Duration {
    let (first, longest) = match setback {
        Setback::Unreached => UNREACHED,
        Setback::Refused => REFUSED,
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let wait = doubled.min(longest).max(asked.unwrap_or_default());
    wait + (wait / 4).mul_f64(draw)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let from = UNIX_EPOCH + 20_000 * DAY;
        let of = |days: u32| Validity {
            from,
            until: from + days * DAY,
        };
        assert_eq!(of(90).renewal(0.0), from + 60 * DAY);
        assert_eq!(of(6).renewal(0.0), from + 4 * DAY);
        // With the largest spread, 1.8 days of 90 earlier.
        let early = of(90).renewal(1.0);
        assert_eq!(early, from + 60 * DAY - DAY * 9 / 5);
        // Nonsense doesn't panic.
        let backwards = Validity {
            from,
            until: from - DAY,
        };
        assert_eq!(backwards.renewal(0.5), from);
    }

    #[test]
    fn waits_double_up_to_a_bound_and_are_never_shorter_than_asked() {
        let seconds = |setback, failures| wait(setback, failures, None, 0.0).as_secs();
        let unreached: Vec<u64> = (1..=4).map(|it| seconds(Setback::Unreached, it)).collect();
        assert_eq!(unreached, [5, 10, 20, 40]);
        assert_eq!(seconds(Setback::Unreached, 1_000), 600);
        assert_eq!(seconds(Setback::Refused, 1), 120);
        assert_eq!(seconds(Setback::Refused, u32::MAX), 6 * 3_600);
        let asked = Some(Duration::from_secs(90_000));
        assert_eq!(wait(Setback::Refused, 1, asked, 0.0).as_secs(), 90_000);
        assert_eq!(wait(Setback::Unreached, 1, None, 1.0).as_millis(), 6_250);
    }

    #[test]
    fn five_refusals_an_hour_are_not_exceeded() {
        let mut at = 0;
        let mut within = 0;
        for failures in 1.. {
            if at > 3_600 {
                break;
            }
            within += 1;
            at += wait(Setback::Refused, failures, None, 0.0).as_secs();
        }
        assert_eq!(within, 5);
    }
}
