//! The XDP program: what happens to a packet before a socket sees it.
//!
//! `decide` reads downward in packet order. A stage never calls another; only this file names
//! them all. The program is compiled twice: as it runs, and, with the feature `trace`, as it tells
//! `portcullis trace` of each stage's decision.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "the target has no compare-exchange in core::sync::atomic; see machine.rs"
)]

mod frame;
mod heartbeat;
mod lists;
mod machine;
mod observer;
mod rate;
mod report;
mod settings;
#[cfg(feature = "trace")]
mod trace;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use proxy_common::{
    Bytes as _, Listing, Packet, Reason, Room, Scope, Settings, Source, Transport,
    packet::{Judgement, parse},
};

use crate::{frame::Frame, observer::Observer};

/// Entry point, attached to every guarded interface.
#[cfg(not(feature = "trace"))]
#[xdp(frags)]
pub fn portcullis(context: XdpContext) -> u32 {
    guard(&context, observer::Silent)
}

/// Entry point while somebody traces.
#[cfg(feature = "trace")]
#[xdp(frags)]
pub fn portcullis_trace(context: XdpContext) -> u32 {
    guard(&context, trace::Told::NOTHING_YET)
}

#[inline(always)]
fn guard<O: Observer>(context: &XdpContext, observer: O) -> u32 {
    let frame = Frame::new(context);
    let Some(settings) = settings::current() else {
        // An array's only entry is always there; the verifier can't know.
        return xdp_action::XDP_PASS;
    };
    let verdict = if heartbeat::is_lost(settings) {
        Verdict::unjudged(Reason::FailOpen, &frame)
    } else {
        decide(&frame, settings, observer)
    };
    report::count(&verdict, &frame, settings);
    if verdict.drops() {
        xdp_action::XDP_DROP
    } else {
        settings::admitted_action()
    }
}

/// What is to be done with a frame, and whose it was where that could be read.
pub(crate) struct Verdict {
    reason: Reason,
    /// Its list or limit only watches.
    monitored: bool,
    source: Option<Source>,
    frame_bytes: u64,
}

impl Verdict {
    /// Of a frame whose source wasn't read.
    #[inline(always)]
    fn unjudged(reason: Reason, frame: &Frame<'_>) -> Self {
        Self {
            reason,
            monitored: false,
            source: None,
            frame_bytes: frame.whole_bytes() as u64,
        }
    }

    #[inline(always)]
    fn drops(&self) -> bool {
        self.reason.drops() && !self.monitored
    }
}

#[inline(always)]
fn decide<O: Observer>(frame: &Frame<'_>, settings: &Settings, observer: O) -> Verdict {
    let packet = match parse(frame) {
        Judgement::Judge(packet) => packet,
        Judgement::Decided(reason) => return Verdict::unjudged(reason, frame),
    };
    let frame_bytes = packet.end().max(frame.frame_bytes()) as u64;
    let observer = observer.met(packet.source, frame_bytes);
    let (reason, monitored) = judge(frame, &packet, frame_bytes, settings, observer);
    observer.decided(reason, monitored);
    Verdict {
        reason,
        monitored,
        source: Some(packet.source),
        frame_bytes,
    }
}

/// The reason, and whether it only would have dropped.
#[inline(always)]
fn judge<O: Observer>(
    frame: &Frame<'_>,
    packet: &Packet,
    frame_bytes: u64,
    settings: &Settings,
    observer: O,
) -> (Reason, bool) {
    let listing = lists::look_up(packet.source);
    observer.listed(listing);
    if let Listing::Trusted = listing {
        return (Reason::Trusted, false);
    }
    // A blocked source keeps its reason when its upper layers can't be walked; what the host
    // can't do without passes even from a blocked source.
    let upper = packet.upper(frame);
    let exemption = upper.and_then(|upper| packet.exemption(frame, &upper));
    if let Ok(Some(reason)) = exemption {
        return (reason, false);
    }
    let transport = upper.map_or(Transport::Other, |upper| packet.transport(frame, &upper));
    observer.classed(transport);
    let (listed, monitored) = match listing {
        Listing::Blocked => (Some(Reason::Blocked), false),
        Listing::Banned => (Some(Reason::Banned), false),
        Listing::MonitoredBlock => (Some(Reason::Blocked), true),
        Listing::MonitoredBan => (Some(Reason::Banned), true),
        Listing::Trusted | Listing::Unlisted => (None, false),
    };
    let established = settings.scope == Scope::NewInboundOnly as u32 && transport == Transport::Tcp;
    if let Some(reason) = listed
        && !monitored
        && !established
    {
        return (reason, false);
    }
    if let Err(reason) = exemption {
        return (reason, false);
    }
    let room = rate::admit(settings, packet.source, transport, frame_bytes);
    observer.limited(room);
    match (room, listed) {
        (Room::Lacks(limit), _) => (limit.reason(), false),
        (_, Some(_)) if established => (Reason::Established, false),
        (_, Some(reason)) => (reason, true),
        (Room::WouldLack(limit), None) => (limit.reason(), true),
        (Room::Left, None) => (Reason::Clean, false),
    }
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
