//! Does the source still have room in its limits?
//!
//! Each limit has sets of four buckets in one fixed array; `proxy_common::bucket` tells how sources
//! share them. A packet reads one half of a cache line and swaps one word.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use proxy_common::{
    Gcra, Limit, Room, Settings, Source, Transport,
    abi::RATE_SETS,
    bucket::{Place, WAYS, bucket, choose, place, tat_ns},
};

use crate::{machine, settings};

/// The sets of all limits, those of one together.
#[btf_map]
static RATE_BUCKETS: Array<[u64; WAYS], { RATE_SETS as usize * Limit::COUNT }> = Array::new();

/// Tries after the first, before a packet that fits but keeps losing the race for its bucket passes
/// uncounted.
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
        let now_ns = machine::coarse_ns(settings.tick_ns);
        let place = place(settings.hash_key, key);
        room = ask(settings, Limit::SourcePackets, place, 1, now_ns, room);
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
    let now_ns = machine::coarse_ns(settings.tick_ns);
    let source = place(settings.hash_key, source);
    let aggregate = place(settings.hash_key, aggregate);
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
            let place = if limit.is_aggregate() {
                aggregate
            } else {
                source
            };
            room = ask(settings, limit, place, units, now_ns, room);
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
    place: Place,
    units: u64,
    now_ns: u64,
    so_far: Room,
) -> Room {
    let Some(setting) = settings.limits.get(limit as usize) else {
        return so_far;
    };
    let set = limit as u32 * RATE_SETS + place.set % RATE_SETS;
    if take(setting.gcra, set, place.tag, units, now_ns) {
        return so_far;
    }
    match so_far {
        _ if setting.monitor == 0 => Room::Lacks(limit),
        Room::Left => Room::WouldLack(limit),
        earlier => earlier,
    }
}

#[inline(always)]
fn take(limit: Gcra, set: u32, tag: u64, units: u64, now_ns: u64) -> bool {
    match try_to_take(limit, set, tag, units, now_ns) {
        Some(taken) => taken,
        None => {
            let Gcra {
                emission,
                tolerance_ns,
            } = limit;
            let cost = emission.wrapping_mul(units);
            portcullis_try_again(cost, tolerance_ns, u64::from(set), tag, now_ns) != 0
        }
    }
}

/// Goes on where another CPU has won the race for a bucket; answers with 1 when the packet fits.
///
/// A global function, which the verifier proves once by itself: the loop after each of the ways that
/// lead here takes Linux 6.1 past a million steps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portcullis_try_again(
    cost: u64,
    tolerance_ns: u64,
    set: u64,
    tag: u64,
    now_ns: u64,
) -> u64 {
    let limit = Gcra {
        emission: cost,
        tolerance_ns,
    };
    for _ in 0..RACES {
        if let Some(taken) = try_to_take(limit, set as u32, tag, 1, now_ns) {
            return u64::from(taken);
        }
    }
    1
}

/// Whether the units fit; `None` when another CPU was faster.
#[inline(always)]
fn try_to_take(limit: Gcra, set: u32, tag: u64, units: u64, now_ns: u64) -> Option<bool> {
    let Some(set) = RATE_BUCKETS.get_ptr_mut(set) else {
        return Some(true);
    };
    let first = set.cast::<u64>();
    // SAFETY: a map value of four words, aligned to eight bytes.
    let words = [0, 1, 2, 3].map(|way| unsafe { machine::load(first.wrapping_add(way)) });
    let way = machine::below_four(choose(words, tag, machine::opaque_word));
    let mine = first.wrapping_add(way as usize);
    // SAFETY: as above; the way is below four.
    let before = unsafe { machine::load(mine) };
    let Some(next_ns) = limit.admit(tat_ns(before), now_ns, units) else {
        return Some(false);
    };
    // SAFETY: as above.
    unsafe { machine::compare_and_swap(mine, before, bucket(next_ns, tag)) }.then_some(true)
}
