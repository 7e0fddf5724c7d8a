//! What the daemon told the program.

use aya_ebpf::{bindings::xdp_action, btf_maps::Array, macros::btf_map};
use proxy_common::Settings;

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();

/// The settings in force; a change by the daemon is seen by the next packet.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// What becomes of a packet that is admitted: `XDP_PASS`. A benchmark sets `XDP_DROP` before the
/// program is loaded, so that it measures the program and not the stack behind it; the verifier
/// knows the value and removes the other branch.
#[unsafe(no_mangle)]
static ADMITTED_ACTION: u32 = xdp_action::XDP_PASS;

#[inline(always)]
pub(crate) fn admitted_action() -> u32 {
    // SAFETY: a reference to a static; volatile because its value is set after compilation.
    unsafe { core::ptr::read_volatile(&raw const ADMITTED_ACTION) }
}
