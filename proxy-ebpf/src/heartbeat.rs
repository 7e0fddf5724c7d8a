//! Is the daemon there? Asked only where drops are to stop when it has been gone for long.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use proxy_common::Settings;

use crate::machine;

/// `CLOCK_MONOTONIC` of the daemon's last sign of life.
#[btf_map]
static HEARTBEAT: Array<u64, 1> = Array::new();

/// Whether the last sign of life is older than the daemon said that it may be.
#[inline(always)]
pub(crate) fn is_lost(settings: &Settings) -> bool {
    if settings.fail_open_after_ns == 0 {
        return false;
    }
    let Some(beat_ns) = HEARTBEAT.get(0) else {
        // An array's only entry is always there; the verifier can't know.
        return false;
    };
    // SAFETY: the map's value, aligned to its eight bytes.
    let beat_ns = unsafe { machine::load(beat_ns) };
    // The daemon's clock may be a tick ahead of the coarse one.
    machine::monotonic_ns().saturating_sub(beat_ns) > settings.fail_open_after_ns
}
