//! Every verdict is counted; some drops are told in full.

use aya_ebpf::{
    btf_maps::{PerCpuArray, RingBuf},
    macros::btf_map,
};
use proxy_common::{
    Counter, DropSample, Reason, Sampling, Settings, Source, abi::SAMPLE_RING_BYTES,
};

use crate::{Verdict, frame::Frame, machine};

#[btf_map]
static COUNTERS: PerCpuArray<Counter, { Reason::SLOTS }> = PerCpuArray::new();

/// Carries `DropSample`s. Declared without a type because libbpf, and so bpftool, refuses a ring
/// buffer whose value type has a size.
#[btf_map]
static SAMPLES: RingBuf<(), { SAMPLE_RING_BYTES as usize }> = RingBuf::new();

#[btf_map]
static SAMPLING: PerCpuArray<Sampling, 1> = PerCpuArray::new();

#[inline(always)]
pub(crate) fn count(verdict: &Verdict, frame: &Frame<'_>, settings: &Settings) {
    if let Some(counter) = COUNTERS.get_ptr_mut(verdict.reason.slot(verdict.monitored)) {
        // SAFETY: the slot belongs to this CPU, and XDP runs with softirqs off: nobody else
        // writes it while we do.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += verdict.frame_bytes;
    }
    if verdict.reason.drops() {
        sample(verdict, frame, settings);
    }
}

#[inline(always)]
fn sample(verdict: &Verdict, frame: &Frame<'_>, settings: &Settings) {
    let Some(sampling) = SAMPLING.get_ptr_mut(0) else {
        return;
    };
    if !settings.sample_rate.is_limited() {
        return;
    }
    // Of the many drops of a flood few become samples; the others must not cost a precise clock.
    let now_ns = machine::coarse_ns(settings.tick_ns);
    // SAFETY: this CPU's own slot, as in `count`.
    let sampling = unsafe { &mut *sampling };
    sampling.untold += 1;
    let Some(next_ns) = settings.sample_rate.admit(sampling.tat_ns, now_ns, 1) else {
        return;
    };
    sampling.tat_ns = next_ns;
    let (high, low) = verdict.source.map_or((0, 0), Source::to_ipv6);
    // A full ring loses the sample, never the count.
    if let Some(mut entry) = SAMPLES.reserve_untyped::<DropSample>(0) {
        entry.write(DropSample {
            at_ns: machine::boot_ns(),
            source: [high.to_be(), low.to_be()],
            reason: verdict.reason as u32,
            ifindex: frame.ifindex(),
            frame_bytes: verdict.frame_bytes as u32,
            monitored: u32::from(verdict.monitored),
            stands_for: sampling.untold,
        });
        entry.submit(0);
        sampling.untold = 0;
    }
}
