//! How large a run is.

use std::time::Duration;

/// Sizes and times of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Sizes of our lists, smallest first; the largest stands for the million in the figures.
    pub(crate) sizes: &'static [usize],
    /// Rounds over all programs; the median of them counts.
    pub(crate) rounds: usize,
    /// How long one program gets in one round.
    pub(crate) sample: Duration,
    /// Whether the programs run that no figure needs.
    pub(crate) all_programs: bool,
    /// How long the limiter is watched.
    pub(crate) watch: Duration,
    /// Single entries that are timed on their way into the kernel.
    pub(crate) additions: usize,
}

impl Scale {
    /// The run whose figures count.
    pub(crate) const FULL: Self = Self {
        sizes: &[0, 1_000, 10_000, 100_000, 1_000_000],
        rounds: 15,
        sample: Duration::from_millis(80),
        all_programs: true,
        watch: Duration::from_secs(4),
        additions: 1_000,
    };

    /// A run that shows that all of it works.
    pub(crate) const QUICK: Self = Self {
        sizes: &[0, 50_000],
        rounds: 3,
        sample: Duration::from_millis(60),
        all_programs: false,
        watch: Duration::from_secs(1),
        additions: 500,
    };

    /// Entries of the largest list.
    pub(crate) fn largest(&self) -> usize {
        self.sizes.iter().copied().max().unwrap_or_default()
    }
}
