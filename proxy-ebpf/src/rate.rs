//! Does the source still have room in its rate?
//!
//! A source owns two buckets in one 64-byte line, all chosen by a keyed hash. A packet passes
//! while either has room (a count-min sketch with conservative update), so two sources that share
//! one bucket don't disturb each other. Nothing is inserted or evicted: memory is constant, and a
//! flood of spoofed sources can't reset anybody's bucket.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use proxy_common::{
    Gcra, Source,
    abi::{RATE_LINE_BUCKETS, RATE_LINES, RateLine},
    siphash::siphash13,
};

use crate::{machine, settings};

#[btf_map]
static RATE_BUCKETS: Array<RateLine, { RATE_LINES as usize }> = Array::new();

/// Tries before a packet that keeps losing the race for its bucket is dropped: the bucket is
/// then being filled by other CPUs as fast as it empties.
const RACES: u32 = 4;

#[inline(always)]
pub(crate) fn admit(source: Source) -> bool {
    let Some(settings) = settings::current() else {
        return true;
    };
    if !settings.source_rate.is_limited() {
        return true;
    }
    let hash = siphash13(settings.hash_key, source.rate_key());
    let Some(line) = RATE_BUCKETS.get_ptr_mut(hash as u32 & (RATE_LINES - 1)) else {
        return true;
    };
    let buckets = RATE_LINE_BUCKETS as u64;
    let first = (hash >> 32) % buckets;
    // Never the same bucket twice: the second lies one to seven places on.
    let second = (first + 1 + (hash >> 48) % (buckets - 1)) % buckets;
    take(settings.source_rate, line, first, second)
}

#[inline(always)]
fn take(limit: Gcra, line: *mut RateLine, first: u64, second: u64) -> bool {
    let line = line.cast::<u64>();
    // SAFETY: both indices are below `RATE_LINE_BUCKETS`, so the words lie inside the line.
    let first = unsafe { line.add(first as usize) };
    // SAFETY: as above.
    let second = unsafe { line.add(second as usize) };
    let now_ns = machine::monotonic_ns();
    for _ in 0..RACES {
        // SAFETY: a map value is aligned to eight bytes, and so is each of its words.
        let first_ns = unsafe { machine::load(first) };
        // SAFETY: as above.
        let second_ns = unsafe { machine::load(second) };
        let Some(next_ns) = limit.admit(first_ns.min(second_ns), now_ns) else {
            return false;
        };
        // A bucket that a neighbour has filled further already is left alone.
        let took_first = first_ns >= next_ns || {
            // SAFETY: as above.
            unsafe { machine::compare_and_swap(first, first_ns, next_ns) }
        };
        let took_second = second_ns >= next_ns || {
            // SAFETY: as above.
            unsafe { machine::compare_and_swap(second, second_ns, next_ns) }
        };
        if took_first && took_second {
            return true;
        }
    }
    false
}
