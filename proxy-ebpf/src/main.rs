//! The XDP program: what happens to a packet before a socket sees it.
//!
//! `decide` reads downward in packet order. A stage never calls another; only this file names
//! them all.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "the target has no compare-exchange in core::sync::atomic; see machine.rs"
)]

mod frame;
mod lists;
mod machine;
mod rate;
mod report;
mod settings;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use proxy_common::{
    Reason, Source,
    packet::{Judgement, parse},
};

use crate::{frame::Frame, lists::Listing};

/// Entry point, attached to every guarded interface.
#[xdp]
pub fn portcullis(context: XdpContext) -> u32 {
    let frame = Frame::new(&context);
    let verdict = decide(&frame);
    report::count(&verdict, &frame);
    if verdict.reason.drops() {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

/// What is to be done with a frame, and whose it was where that could be read.
pub(crate) struct Verdict {
    reason: Reason,
    source: Option<Source>,
}

#[inline(always)]
fn decide(frame: &Frame<'_>) -> Verdict {
    let packet = match parse(frame) {
        Judgement::Judge(packet) => packet,
        Judgement::Decided(reason) => {
            return Verdict {
                reason,
                source: None,
            };
        }
    };
    Verdict {
        reason: judge(frame, &packet),
        source: Some(packet.source),
    }
}

#[inline(always)]
fn judge(frame: &Frame<'_>, packet: &proxy_common::Packet) -> Reason {
    let listing = lists::look_up(packet.source);
    if let Listing::Trusted = listing {
        return Reason::Trusted;
    }
    // A blocked source keeps its reason when its upper layers can't be walked; what the host
    // can't do without passes even from a blocked source.
    let exemption = packet.exemption(frame);
    if let Ok(Some(reason)) = exemption {
        return reason;
    }
    match listing {
        Listing::Blocked => return Reason::Blocked,
        Listing::Banned => return Reason::Banned,
        Listing::Trusted | Listing::Unlisted => {}
    }
    if let Err(reason) = exemption {
        return reason;
    }
    if rate::admit(packet.source) {
        Reason::Clean
    } else {
        Reason::RateLimited
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
