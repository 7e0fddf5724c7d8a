//! What do the lists hold of the source?

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps},
    macros::btf_map,
};
use proxy_common::{
    Cell, Listing, Source,
    abi::{LISTS_LEN, LISTS_V4, LISTS_V6, Line, TABLE_FLAGS},
    table::{Lines, code, uniform, v4, v6},
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
}

#[inline(always)]
pub(crate) fn look_up(source: Source) -> Listing {
    match source {
        Source::V4(address) => {
            let Some(table) = LISTS.get(LISTS_V4) else {
                return Listing::Unlisted;
            };
            if !v4::may_hold(&Mapped(table), address >> 8) {
                return Listing::Unlisted;
            }
            match uniform(code(&Mapped(table), address >> 8)) {
                Some(cell) => cell.listing(machine::boot_ns),
                None => Listing::from_index(portcullis_closer_v4(u64::from(address)) as u32),
            }
        }
        Source::V6(high, low) => {
            let Some(table) = LISTS.get(LISTS_V6) else {
                return Listing::Unlisted;
            };
            match uniform(code(&Mapped(table), (high >> 40) as u32)) {
                Some(cell) => cell.listing(machine::boot_ns),
                None => Listing::from_index(portcullis_closer_v6(high, low) as u32),
            }
        }
    }
}

/// Asks the whole IPv4 table; answers with a [`Listing`] as its discriminant. It begins anew at the
/// front because another table may have been swapped in since the caller looked: a code of the one
/// and slots of the other could miss an address that is on both.
///
/// A global function, as its neighbour: the verifier proves each once by itself, and the program
/// around it for one unknown answer. As part of the program they take it past a million steps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portcullis_closer_v4(address: u64) -> u64 {
    let cell = match LISTS.get(LISTS_V4) {
        Some(table) => v4::look_up(&Mapped(table), address as u32),
        None => Cell::UNLISTED,
    };
    // Ends on time although nobody has removed the cell: the daemon may be dead.
    cell.listing(machine::boot_ns) as u64
}

/// Asks the whole IPv6 table; answers as its neighbour does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portcullis_closer_v6(high: u64, low: u64) -> u64 {
    let cell = match LISTS.get(LISTS_V6) {
        Some(table) => v6::look_up(&Mapped(table), high, low),
        None => Cell::UNLISTED,
    };
    cell.listing(machine::boot_ns) as u64
}
