//! Does the source still have room in its limits?
//!
//! For each limit a source owns two buckets, picked by a keyed hash, and a packet passes while
//! either has room (a count-min sketch with conservative update), so two sources that share one
//! bucket don't disturb each other. Nothing is inserted or evicted: memory is constant, and a
//! flood of spoofed sources can't reset anybody's bucket.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use proxy_common::{
    Gcra, Limit, Room, Settings, Source, Transport, abi::RATE_BUCKETS as BUCKETS_OF_EACH,
    siphash::siphash13,
};

use crate::{machine, settings};

/// Theoretical arrival times in nanoseconds of `CLOCK_MONOTONIC`, all buckets of a limit together.
#[btf_map]
static RATE_BUCKETS: Array<u64, { BUCKETS_OF_EACH as usize * Limit::COUNT }> = Array::new();

/// Tries before a packet that keeps losing the race for its bucket is dropped: the bucket is
/// then being filled by other CPUs as fast as it empties.
const RACES: u32 = 4;

/// Asks every limit that is on. Those asked before one that is exceeded have counted the packet.
#[inline(always)]
pub(crate) fn admit(
    settings: &Settings,
    source: Source,
    transport: Transport,
    frame_bytes: u64,
) -> Room {
    let on = settings.limits_on;
    if on == 0 {
        return Room::Left;
    }
    let key = source.rate_key(&settings.source_key);
    let mut room = Room::Left;
    // The one that is usually on, apart from the others so that it costs no loop.
    if on & SOURCE_PACKETS != 0 {
        let (now_ns, hash) = (machine::coarse_ns(), siphash13(settings.hash_key, key));
        room = ask(settings, Limit::SourcePackets, hash, 1, now_ns, room);
    }
    if on & !SOURCE_PACKETS == 0 {
        return room;
    }
    if let Room::Lacks(_) = room {
        return room;
    }
    let aggregate = source.rate_key(&settings.aggregate_key);
    let others = portcullis_other_limits(key, aggregate, transport as u64, frame_bytes);
    match (Limit::from_index(others as u32), room) {
        (None, _) => room,
        (Some(limit), _) if others & MONITORED == 0 => Room::Lacks(limit),
        (Some(limit), Room::Left) => Room::WouldLack(limit),
        (Some(_), earlier) => earlier,
    }
}

const SOURCE_PACKETS: u32 = 1 << Limit::SourcePackets as u32;
/// Set in the answer of `portcullis_other_limits` when the limit only watches.
const MONITORED: u64 = 1 << 32;
/// No limit has this discriminant.
const NO_LIMIT: u64 = u32::MAX as u64;

/// Asks all limits but the first; answers with the discriminant of one that is exceeded.
///
/// A global function, which the verifier proves once by itself: unrolled into every path of the
/// program it takes more than the million steps that the verifier gives a program.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portcullis_other_limits(
    source: u64,
    aggregate: u64,
    transport: u64,
    frame_bytes: u64,
) -> u64 {
    let (Some(settings), Some(transport)) =
        (settings::current(), Transport::from_index(transport as u32))
    else {
        return NO_LIMIT;
    };
    let now_ns = machine::coarse_ns();
    let source = siphash13(settings.hash_key, source);
    let aggregate = siphash13(settings.hash_key, aggregate);
    let mut room = Room::Left;
    for index in Limit::SourceBytes as u32..Limit::COUNT as u32 {
        let Some(limit) = Limit::from_index(index) else {
            break;
        };
        if settings.limits_on & 1 << index == 0 {
            continue;
        }
        // No frame is longer; the bound keeps a byte limit's product in a word.
        if let Some(units) = limit.units(transport, frame_bytes & 0xff_ffff) {
            let hash = if limit.is_aggregate() {
                aggregate
            } else {
                source
            };
            room = ask(settings, limit, hash, units, now_ns, room);
        }
        if let Room::Lacks(_) = room {
            break;
        }
    }
    match room {
        Room::Left => NO_LIMIT,
        Room::WouldLack(limit) => limit as u64 | MONITORED,
        Room::Lacks(limit) => limit as u64,
    }
}

/// Asks one limit; `so_far` is what those before it said.
#[inline(always)]
fn ask(
    settings: &Settings,
    limit: Limit,
    hash: u64,
    units: u64,
    now_ns: u64,
    so_far: Room,
) -> Room {
    let Some(setting) = settings.limits.get(limit as usize) else {
        return so_far;
    };
    let base = limit as u32 * BUCKETS_OF_EACH;
    let first = base + (hash as u32 & (BUCKETS_OF_EACH - 1));
    let second = base + ((hash >> 32) as u32 & (BUCKETS_OF_EACH - 1));
    if take(setting.gcra, first, second, units, now_ns) {
        return so_far;
    }
    match so_far {
        _ if setting.monitor == 0 => Room::Lacks(limit),
        Room::Left => Room::WouldLack(limit),
        earlier => earlier,
    }
}

#[inline(always)]
fn take(limit: Gcra, first: u32, second: u32, units: u64, now_ns: u64) -> bool {
    let (Some(first), Some(second)) = (
        RATE_BUCKETS.get_ptr_mut(first),
        RATE_BUCKETS.get_ptr_mut(second),
    ) else {
        return true;
    };
    for _ in 0..RACES {
        // SAFETY: a map value of eight bytes, aligned to eight.
        let first_ns = unsafe { machine::load(first) };
        // SAFETY: as above.
        let second_ns = unsafe { machine::load(second) };
        let Some(next_ns) = limit.admit(first_ns.min(second_ns), now_ns, units) else {
            return false;
        };
        // A bucket that a neighbour has filled further already is left alone.
        let took_first = first_ns >= next_ns || {
            // SAFETY: as above.
            unsafe { machine::compare_and_swap(first, first_ns, next_ns) }
        };
        let took_second = second_ns >= next_ns || second == first || {
            // SAFETY: as above.
            unsafe { machine::compare_and_swap(second, second_ns, next_ns) }
        };
        if took_first && took_second {
            return true;
        }
    }
    false
}
