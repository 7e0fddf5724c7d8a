//! What do the lists hold of the source?

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps},
    macros::btf_map,
};
use proxy_common::{
    Cell, Listing, Source,
    abi::{LISTS_LEN, LISTS_V4, LISTS_V6, Line, TABLE_FLAGS},
    table::{Lines, v4, v6},
};

use crate::machine;

type Table = Array<Line, 1, { TABLE_FLAGS as usize }>;

/// The tables of IPv4 and IPv6. The daemon swaps in a whole new one with one write, or changes
/// words of the one that is there.
#[btf_map]
static LISTS: ArrayOfMaps<Table, LISTS_LEN> = ArrayOfMaps::new();

/// A table's lines, read from the map.
struct Mapped<'a>(&'a Table);

impl Lines for Mapped<'_> {
    type Line = *const u64;

    #[inline(always)]
    fn line(&self, index: u32) -> Option<*const u64> {
        self.0.get_ptr(index).map(<*const Line>::cast)
    }

    #[inline(always)]
    fn word(&self, line: *const u64, index: usize) -> u64 {
        // SAFETY: `index` is below the eight words of a line, which is the map's value; the
        // verifier checks the same. A value is aligned to eight bytes.
        unsafe { machine::load(line.wrapping_add(index)) }
    }

    #[inline(always)]
    fn word_at(&self, line: *const u64, index: u64) -> u64 {
        let index = machine::below_eight(index) as usize;
        // SAFETY: as above.
        unsafe { machine::load(line.wrapping_add(index)) }
    }

    #[inline(always)]
    fn opaque(&self, word: u64) -> u64 {
        machine::opaque_word(word)
    }
}

#[inline(always)]
pub(crate) fn look_up(source: Source) -> Listing {
    let found = match source {
        Source::V4(address) => match LISTS.get(LISTS_V4) {
            Some(table) if v4::may_hold(&Mapped(table), address) => {
                portcullis_closer_v4(u64::from(address))
            }
            _ => return Listing::Unlisted,
        },
        Source::V6(high, low) => match LISTS.get(LISTS_V6) {
            Some(table) if v6::may_hold(&Mapped(table), high) => portcullis_closer_v6(high, low),
            _ => return Listing::Unlisted,
        },
    };
    Listing::from_index(found as u32)
}

/// Asks the front and the slots of IPv4; answers with a [`Listing`] as its discriminant. It fetches
/// the table once more, so that front and slots are of one table though another be swapped in.
///
/// A global function, as its neighbour: the verifier proves each once by itself, and the program
/// around it for one unknown answer. As part of the program they take it past a million steps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portcullis_closer_v4(address: u64) -> u64 {
    let cell = match LISTS.get(LISTS_V4) {
        Some(table) => v4::look_closer(&Mapped(table), address as u32),
        None => Cell::UNLISTED,
    };
    // Ends on time although nobody has removed the cell: the daemon may be dead.
    cell.listing(machine::boot_ns) as u64
}

/// Asks the front and the slots of IPv6; answers as its neighbour does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portcullis_closer_v6(high: u64, low: u64) -> u64 {
    let cell = match LISTS.get(LISTS_V6) {
        Some(table) => v6::look_closer(&Mapped(table), high, low),
        None => Cell::UNLISTED,
    };
    cell.listing(machine::boot_ns) as u64
}
