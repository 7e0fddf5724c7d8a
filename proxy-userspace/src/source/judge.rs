//! May what a source says now take the place of what it said before? A publisher's mistake must not
//! open the gate, nor close it on everybody.

/// Entries by which a list may always grow or shrink: of a few, shares say little.
const SLACK: usize = 16;

/// Shares of its entries that a list may lose or gain at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratios {
    pub(crate) max_shrink: f64,
    pub(crate) max_growth: f64,
}

/// Why a content is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Suspicion {
    #[error("it is empty, and the list has {before} entries")]
    Empty { before: usize },
    #[error(
        "it has {after} entries, and the list {before}: more would go than the share in max_shrink"
    )]
    Shrunk { before: usize, after: usize },
    #[error(
        "it has {after} entries, and the list {before}: more would come than the share in max_growth"
    )]
    Grown { before: usize, after: usize },
}

/// Judges a content by its number of entries and the list's.
pub(crate) fn suspicion(before: usize, after: usize, ratios: Ratios) -> Option<Suspicion> {
    if before == 0 {
        return None;
    }
    let share = |share: f64| (before as f64 * share) as usize + SLACK;
    if after == 0 {
        Some(Suspicion::Empty { before })
    } else if before.saturating_sub(after) > share(ratios.max_shrink) {
        Some(Suspicion::Shrunk { before, after })
    } else if after.saturating_sub(before) > share(ratios.max_growth) {
        Some(Suspicion::Grown { before, after })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_or_grows_beyond_its_share_is_held_back() {
        let ratios = Ratios {
            max_shrink: 0.5,
            max_growth: 1.0,
        };
        let judged = |before, after| suspicion(before, after, ratios);
        assert_eq!(judged(0, 1_000_000), None, "the first time");
        assert_eq!(judged(1_000, 1_000), None);
        assert_eq!(judged(1_000, 484), None);
        let (before, after) = (1_000, 483);
        assert_eq!(
            judged(before, after),
            Some(Suspicion::Shrunk { before, after })
        );
        assert_eq!(judged(1_000, 2_016), None);
        let after = 2_017;
        assert_eq!(
            judged(before, after),
            Some(Suspicion::Grown { before, after })
        );
        assert_eq!(judged(3, 0), Some(Suspicion::Empty { before: 3 }));
        assert_eq!(judged(3, 19), None);
    }
}
