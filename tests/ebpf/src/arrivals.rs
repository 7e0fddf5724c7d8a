//! Counts who was let through to the network stack, and drops them there.

use aya_ebpf::{
    bindings::TC_ACT_SHOT,
    btf_maps::PerCpuArray,
    macros::{btf_map, classifier},
    programs::TcContext,
};

use crate::{
    frame::{Frame, Source},
    plan::{Class, HEAVY, HEAVY_FROM, INNOCENTS, INNOCENTS_FROM},
};

/// Packets that arrived by [`Class`].
#[btf_map]
static ARRIVED: PerCpuArray<u64, 3> = PerCpuArray::new();

/// For the ingress of the interface whose XDP program is under test.
#[classifier]
pub fn arrivals(context: TcContext) -> i32 {
    let frame = Frame::between(context.data(), context.data_end());
    if let Some(Source::V4(source)) = frame.source() {
        let source = u32::from_be(source);
        let class = if source.wrapping_sub(INNOCENTS_FROM) < INNOCENTS {
            Class::Innocent
        } else if source.wrapping_sub(HEAVY_FROM) < HEAVY {
            Class::Heavy
        } else {
            Class::Other
        };
        if let Some(arrived) = ARRIVED.get_ptr_mut(class as u32) {
            // SAFETY: this CPU's own slot, and the classifier runs with softirqs off.
            unsafe { *arrived += 1 };
        }
    }
    TC_ACT_SHOT
}
