//! What the traced program tells of each stage, for `portcullis trace`.

use core::net::Ipv6Addr;

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
    programs::XdpContext,
};
use aya_log_ebpf::info;
use proxy_common::{Gcra, Limit, Listing, Reason, Room, Source, TraceTarget, Transport};

use crate::{machine, observer::Observer, settings};

/// Whose packets are told of.
#[btf_map]
static TRACE_TARGET: Array<TraceTarget, 1> = Array::new();

/// When this CPU may tell of its next packet: a GCRA bucket.
#[btf_map]
static TRACE_TAT: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Packets that a CPU tells of: 200 a second, 200 at once. Nobody reads faster, and a traced flood
/// must not keep the daemon busy.
const TOLD: Gcra = match Gcra::per_second(200, 200) {
    Some(limit) => limit,
    None => Gcra::UNLIMITED,
};

/// Writes a line for each stage into aya-log's ring.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    wanted: bool,
}

impl Told {
    /// Tells of nothing until a source is met that is wanted.
    pub(crate) const NOTHING_YET: Self = Self { wanted: false };

    #[inline(always)]
    fn tell(self, stage: Stage, first: u64, second: u64) {
        if self.wanted {
            portcullis_tell(stage as u64, first, second);
        }
    }
}

/// Which stage tells something, and what its two words are.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Stage {
    /// Halves of the source's address.
    Source,
    /// Length of the frame.
    Length,
    /// [`Listing`] as its discriminant.
    Lists,
    /// [`Transport`] as its discriminant.
    Transport,
    /// No limit was exceeded.
    Within,
    /// [`Limit`] that was exceeded, and whether it only watches.
    Over,
    /// [`Reason`], and whether it only would have dropped.
    Verdict,
}

impl Observer for Told {
    #[inline(always)]
    fn met(self, source: Source, frame_bytes: u64) -> Self {
        let (high, low) = source.to_ipv6();
        let wanted = TRACE_TARGET.get(0).is_some_and(|target| {
            high & target.mask[0] == target.address[0] && low & target.mask[1] == target.address[1]
        });
        let told = Self {
            wanted: wanted && has_room(),
        };
        told.tell(Stage::Source, high, low);
        told.tell(Stage::Length, frame_bytes, 0);
        told
    }

    #[inline(always)]
    fn listed(self, listing: Listing) {
        self.tell(Stage::Lists, listing as u64, 0);
    }

    #[inline(always)]
    fn classed(self, transport: Transport) {
        self.tell(Stage::Transport, transport as u64, 0);
    }

    #[inline(always)]
    fn limited(self, room: Room) {
        match room {
            Room::Left => self.tell(Stage::Within, 0, 0),
            Room::WouldLack(limit) => self.tell(Stage::Over, limit as u64, 1),
            Room::Lacks(limit) => self.tell(Stage::Over, limit as u64, 0),
        }
    }

    #[inline(always)]
    fn decided(self, reason: Reason, monitored: bool) {
        self.tell(Stage::Verdict, reason as u64, monitored as u64);
    }
}

#[inline(always)]
fn has_room() -> bool {
    let (Some(settings), Some(tat_ns)) = (settings::current(), TRACE_TAT.get_ptr_mut(0)) else {
        return false;
    };
    // SAFETY: the slot belongs to this CPU, and XDP runs with softirqs off: nobody else writes it
    // while we do.
    let tat_ns = unsafe { &mut *tat_ns };
    match TOLD.admit(*tat_ns, machine::coarse_ns(settings.tick_ns), 1) {
        Some(next_ns) => {
            *tat_ns = next_ns;
            true
        }
        None => false,
    }
}

/// Writes one line.
///
/// A global function, which the verifier proves once by itself: as part of every path of the
/// program the lines take it past a million steps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portcullis_tell(stage: u64, first: u64, second: u64) -> u64 {
    // aya-log asks for a context and reads nothing of it, and the kernel takes none as an argument
    // that the function doesn't use.
    let context = &XdpContext::new(core::ptr::null_mut());
    const SOURCE: u64 = Stage::Source as u64;
    const LENGTH: u64 = Stage::Length as u64;
    const LISTS: u64 = Stage::Lists as u64;
    const TRANSPORT: u64 = Stage::Transport as u64;
    const WITHIN: u64 = Stage::Within as u64;
    const OVER: u64 = Stage::Over as u64;
    const VERDICT: u64 = Stage::Verdict as u64;
    match stage {
        SOURCE if first == 0 && second >> 32 == 0xffff => {
            info!(context, "packet from {:i}", second as u32)
        }
        SOURCE => info!(context, "packet from {:i}", address(first, second)),
        LENGTH => info!(context, "  length: {} bytes", first),
        LISTS => info!(context, "  lists: {}", listing_name(first)),
        TRANSPORT => info!(context, "  transport: {}", transport_name(first)),
        WITHIN => info!(context, "  limits: within"),
        OVER if second == 0 => info!(context, "  limits: over {}", limit_name(first)),
        OVER => info!(
            context,
            "  limits: over {}, which only watches",
            limit_name(first)
        ),
        VERDICT => info!(
            context,
            "  verdict: {} ({})",
            action(first, second),
            reason_name(first)
        ),
        _ => {}
    }
    0
}

#[inline(always)]
fn address(high: u64, low: u64) -> Ipv6Addr {
    Ipv6Addr::new(
        (high >> 48) as u16,
        (high >> 32) as u16,
        (high >> 16) as u16,
        high as u16,
        (low >> 48) as u16,
        (low >> 32) as u16,
        (low >> 16) as u16,
        low as u16,
    )
}

#[inline(always)]
fn listing_name(listing: u64) -> &'static str {
    match Listing::from_index(listing as u32) {
        Listing::Unlisted => "unlisted",
        Listing::Trusted => "trusted",
        Listing::Blocked => "blocked",
        Listing::Banned => "banned",
        Listing::MonitoredBlock => "blocked by a list that only watches",
        Listing::MonitoredBan => "banned by a list that only watches",
    }
}

#[inline(always)]
fn transport_name(transport: u64) -> &'static str {
    match Transport::from_index(transport as u32) {
        Some(Transport::TcpOpening) => "tcp, opens a connection",
        Some(Transport::Tcp) => "tcp, of a connection",
        Some(Transport::Udp) => "udp",
        Some(Transport::Icmp) => "icmp",
        Some(Transport::Other) | None => "other",
    }
}

#[inline(always)]
fn limit_name(limit: u64) -> &'static str {
    Limit::from_index(limit as u32).map_or("a limit", Limit::name)
}

#[inline(always)]
fn reason_name(reason: u64) -> &'static str {
    Reason::ALL
        .get(reason as usize)
        .map_or("unknown", |reason| reason.name())
}

#[inline(always)]
fn action(reason: u64, monitored: u64) -> &'static str {
    let drops = Reason::ALL
        .get(reason as usize)
        .is_some_and(|reason| reason.drops());
    match (drops, monitored) {
        (true, 0) => "drop",
        (true, _) => "pass, would be dropped",
        (false, _) => "pass",
    }
}
