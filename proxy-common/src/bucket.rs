//! Where a limit keeps what each source has used up: sets of four buckets.
//!
//! A keyed hash picks a source's set and its tag. In the set it has the bucket with its tag; without
//! one it takes over the bucket that empties first, and what is left in it. A bucket that has
//! emptied remembers nothing, so a newcomer starts afresh as long as one of the four has: nothing is
//! inserted, and what a flood of spoofed sources can't do is reset anybody. When all four are in use
//! the newcomer inherits (Metwally, Agrawal, Abbadi, "Efficient computation of frequent and top-k
//! elements in data streams", 2005): no source gets more than its limit, and a full set costs
//! newcomers at most what its emptiest bucket still holds. Two CPUs that take over buckets of one set
//! at the same moment may break that by what they admit in that moment.
//!
//! A bucket is one word: the theoretical arrival time (see [`crate::Gcra`]) in steps of four
//! nanoseconds, then the tag. That counts nine years, of which the kernel's tick counter has up to one
//! and a half behind it when the machine starts.

/// Buckets of a set: half a cache line.
pub const WAYS: usize = 4;

const TAG_BITS: u32 = 8;
const TAG: u64 = (1 << TAG_BITS) - 1;
/// Nanoseconds in a step of a word's time, as a power of two.
const STEP_BITS: u32 = 2;

/// Where a source's buckets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The set, before it is cut to the number of sets.
    pub set: u32,
    /// Tells the source from others in its set; two of them have the same once in 256 times.
    pub tag: u64,
}

/// The place of a source under a secret key.
///
/// Two rounds of multiply and xor-shift, keyed before each, so that nobody can tell which sources share
/// a set. No cryptographic hash: SipHash-1-3 took 20 ns a packet where this takes 4, and whoever could
/// aim spoofed sources at somebody's set can as well spoof him.
#[inline(always)]
pub const fn place(key: [u64; 2], source: u64) -> Place {
    let word = (source ^ key[0]).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 32 ^ key[1]).wrapping_mul(0x94d0_49bb_1331_11eb);
    Place {
        set: (word >> 32) as u32,
        tag: word >> 24 & TAG,
    }
}

/// The theoretical arrival time in a bucket.
#[inline(always)]
pub const fn tat_ns(bucket: u64) -> u64 {
    bucket >> TAG_BITS << STEP_BITS
}

/// A bucket of the source with this tag.
#[inline(always)]
pub const fn bucket(tat_ns: u64, tag: u64) -> u64 {
    // Up: what is cheaper than a step must not be free.
    tat_ns.div_ceil(1 << STEP_BITS) << TAG_BITS | tag
}

/// Which bucket of a set a source with this tag has, or takes over.
///
/// `opaque` returns its word and hides from the compiler where that came from. What is in a set is
/// random, so branches on it would be foretold wrongly; this is arithmetic only.
#[inline(always)]
pub fn choose(set: [u64; WAYS], tag: u64, opaque: impl Fn(u64) -> u64) -> u64 {
    // All ones for a negative word.
    let sign = |word: u64| (opaque(word) as i64 >> 63) as u64;
    // Orders by time, one's own before all; the way in the lower bits.
    let rank = |way: usize| {
        let differs = (set[way] ^ tag) & TAG;
        (set[way] >> TAG_BITS << STEP_BITS) & sign(differs.wrapping_neg()) | way as u64
    };
    let least = |one: u64, other: u64| {
        let difference = one.wrapping_sub(other);
        other.wrapping_add(difference & sign(difference))
    };
    least(least(rank(0), rank(1)), least(rank(2), rank(3))) % WAYS as u64
}

const _: () = assert!(WAYS == 1 << STEP_BITS, "a way fits below a rank's time");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Gcra;

    fn chosen(set: [u64; WAYS], tag: u64) -> u64 {
        choose(set, tag, |word| word)
    }

    #[test]
    fn a_source_has_the_bucket_with_its_tag_wherever_it_is() {
        for way in 0..WAYS {
            let mut set = [bucket(400, 1), bucket(800, 2), bucket(1_200, 3), 0];
            set[way] = bucket(u64::MAX >> 8, 77);
            assert_eq!(chosen(set, 77), way as u64);
        }
    }

    #[test]
    fn a_newcomer_takes_over_what_empties_first() {
        let times = [500, 600, 700, 800];
        for turn in 0..WAYS {
            let mut set = times.map(|time| bucket(time, 9));
            set.rotate_right(turn);
            assert_eq!(chosen(set, 4), turn as u64);
        }
        assert_eq!(chosen([bucket(4, 9), 0, bucket(8, 9), bucket(9, 9)], 4), 1);
    }

    #[test]
    fn time_and_tag_come_back_within_a_step() {
        for time in [0, 1, 3, 4, 1_000_003, 1 << 57] {
            for tag in [0, 1, 255] {
                let word = bucket(time, tag);
                assert_eq!(word & TAG, tag);
                assert!((time..time + 4).contains(&tat_ns(word)), "{time}");
            }
        }
    }

    /// What one set lets through of a source would also be let through by a bucket of its own, however
    /// many others take over each other's: nobody is reset.
    #[test]
    fn no_source_gets_more_than_its_limit_in_a_set_that_is_full() {
        let limit = Gcra::per_second(1_000, 5).expect("a legal rate");
        for sources in [1, 4, 5, 40, 200] {
            let mut set = [0; WAYS];
            let mut own = vec![0_u64; sources];
            let mut passed = vec![0; sources];
            let mut state = 1_u64;
            for packet in 0..200_000_u64 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // One source sends half of all packets.
                let source = if state >> 63 == 0 {
                    0
                } else {
                    (state >> 32) as usize % sources
                };
                let now_ns = packet * 50_000 / 4_000_000 * 4_000_000;
                let way = chosen(set, source as u64) as usize;
                let Some(next_ns) = limit.admit(tat_ns(set[way]), now_ns, 1) else {
                    continue;
                };
                set[way] = bucket(next_ns, source as u64);
                passed[source] += 1;
                own[source] = limit
                    .admit(own[source], now_ns, 1)
                    .unwrap_or_else(|| panic!("{source} of {sources}: packet {packet}"));
            }
            // Ten seconds at a thousand: whoever is alone or among few gets all of it.
            if sources <= WAYS {
                assert!(passed[0] >= 10_000, "{passed:?}");
            }
        }
    }

    #[test]
    fn places_spread_over_all_sets_and_tags_and_follow_the_key() {
        const SETS: u32 = 1 << 10;
        let mut of_set = vec![0_u32; SETS as usize];
        let mut tags = HashSet::new();
        let mut same = 0;
        for source in 0..SETS * 64 {
            let here = place([1, 2], u64::from(source));
            of_set[(here.set % SETS) as usize] += 1;
            tags.insert(here.tag);
            same += u32::from(here.set % SETS == place([1, 3], u64::from(source)).set % SETS);
        }
        // 64 are expected, with a deviation of 8.
        assert!(of_set.iter().all(|count| (24..=104).contains(count)));
        assert_eq!(tags.len(), 256);
        assert!(same < 3 * 64, "{same}");
    }
}
