//! What a program under test made of its packets.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};

/// A verdict that the benchmark counts.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Seen {
    /// Nothing against it.
    Clean = 0,
    /// On the list.
    Blocked = 1,
    /// Over its rate.
    Limited = 2,
    /// Neither IPv4 nor IPv6, or cut off.
    Other = 3,
}

/// Packets by [`Seen`]. Every load of the object has one of its own.
#[btf_map]
static SEEN: PerCpuArray<u64, 4> = PerCpuArray::new();

#[inline(always)]
pub(crate) fn count(seen: Seen) {
    if let Some(packets) = SEEN.get_ptr_mut(seen as u32) {
        // SAFETY: this CPU's own slot, and XDP runs with softirqs off.
        unsafe { *packets += 1 };
    }
}
