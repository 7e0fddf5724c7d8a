//! Programs that only the benchmark loads.
//!
//! ```text
//! generate   gives live frames a source and sends them down a veth pair
//! empty      drops: what the wire itself costs
//! ceiling    reads the headers, counts, drops: the most that any look-up can reach
//! textbook   a trie look-up, then a token bucket in an LRU map, then drops
//! arrivals   counts, at the network stack's door, the sources that were let through, and drops
//! ```
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arrivals;
mod ceiling;
mod frame;
mod generate;
mod plan;
mod tally;
mod textbook;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// The cost of everything but a program's own work.
#[xdp]
pub fn empty(_context: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// GPL-compatible, as the kernel asks of programs that call its GPL-only helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
