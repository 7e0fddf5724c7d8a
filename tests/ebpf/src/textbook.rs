//! The design of the textbooks: the longest prefix in a trie, then a token bucket a source in an
//! LRU hash. IPv4 only; it is here to be compared with.

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{LpmTrie, LruHashMap, lpm_trie::Key},
    helpers::generated::bpf_ktime_get_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

use crate::{
    frame::{Frame, Source},
    tally::{Seen, count},
};

/// The list.
#[btf_map]
static TRIE: LpmTrie<u32, u32, 2_000_000> = LpmTrie::new();

/// A source's bucket.
#[derive(Clone, Copy)]
#[repr(C)]
struct Bucket {
    tokens: u64,
    filled_ns: u64,
}

/// Buckets of the sources seen last.
#[btf_map]
static BUCKETS: LruHashMap<u32, Bucket, 1_000_000> = LruHashMap::new();

/// Tokens a second, and how many fit into a bucket: the limit that ours has in the clean runs.
const RATE: u64 = 1_000;
const BURST: u64 = 2_000;
const TOKEN_NS: u64 = 1_000_000_000 / RATE;

/// Trie, then LRU.
#[xdp]
pub fn textbook(context: XdpContext) -> u32 {
    count(judge(&Frame::new(&context)));
    xdp_action::XDP_DROP
}

#[inline(always)]
fn judge(frame: &Frame) -> Seen {
    let Some(Source::V4(source)) = frame.source() else {
        return Seen::Other;
    };
    if TRIE.get(&Key::new(32, source)).is_some() {
        return Seen::Blocked;
    }
    // SAFETY: a helper without arguments that any program type may call.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let Some(bucket) = BUCKETS.get_ptr_mut(source) else {
        let full = Bucket {
            tokens: BURST - 1,
            filled_ns: now_ns,
        };
        // A full table evicts; it fails only where another CPU holds the bucket's lock.
        return match BUCKETS.insert(source, full, 0) {
            Ok(()) => Seen::Clean,
            Err(_) => Seen::Other,
        };
    };
    // SAFETY: a value of the map, which stays readable until the program ends. Two CPUs may lose
    // a token to each other, as in the textbook.
    let bucket = unsafe { &mut *bucket };
    let earned = (now_ns - bucket.filled_ns) / TOKEN_NS;
    if earned > 0 {
        bucket.tokens = (bucket.tokens + earned).min(BURST);
        bucket.filled_ns += earned * TOKEN_NS;
    }
    if bucket.tokens == 0 {
        return Seen::Limited;
    }
    bucket.tokens -= 1;
    Seen::Clean
}
