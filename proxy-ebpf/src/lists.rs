//! Is the source trusted, blocked, or banned for a while?

use aya_ebpf::{
    btf_maps::{LpmTrie, lpm_trie::Key},
    macros::btf_map,
};
use proxy_common::{Cell, Source, abi::MAX_PREFIXES};

use crate::machine;

#[btf_map]
static PREFIXES_V4: LpmTrie<u32, Cell, { MAX_PREFIXES as usize }> = LpmTrie::new();

#[btf_map]
static PREFIXES_V6: LpmTrie<[u64; 2], Cell, { MAX_PREFIXES as usize }> = LpmTrie::new();

/// What the lists say of a source.
#[derive(Clone, Copy)]
pub(crate) enum Listing {
    Unlisted,
    Trusted,
    Blocked,
    Banned,
}

/// Keeps a packed key on a word boundary of the stack; the verifier allows no other.
#[repr(C, align(8))]
struct Aligned<K>(Key<K>);

#[inline(always)]
pub(crate) fn look_up(source: Source) -> Listing {
    let cell = match source {
        Source::V4(address) => PREFIXES_V4.get(&Aligned(Key::new(32, address.to_be())).0),
        Source::V6(high, low) => {
            PREFIXES_V6.get(&Aligned(Key::new(128, [high.to_be(), low.to_be()])).0)
        }
    };
    let Some(cell) = cell else {
        return Listing::Unlisted;
    };
    if cell.flags & Cell::TRUSTED != 0 {
        return Listing::Trusted;
    }
    if cell.flags & Cell::BLOCKED == 0 {
        return Listing::Unlisted;
    }
    match cell.until_ns() {
        0 => Listing::Blocked,
        // Ends on time although nobody has removed the cell: the daemon may be dead.
        until_ns if machine::boot_ns() < until_ns => Listing::Banned,
        _ => Listing::Unlisted,
    }
}
