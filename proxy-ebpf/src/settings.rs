//! What the daemon told the program.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use proxy_common::Settings;

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();

/// The settings in force; a change by the daemon is seen by the next packet.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Settings> {
    SETTINGS.get(0)
}
