//! The generator: every live frame gets a source and leaves through one end of a veth pair.
//!
//! All modes do the same work but for a few instructions: two random words, an address reckoned from
//! each, one store of the source. The frame's pages are recycled with what was written into them,
//! so everything that varies is written anew each time.

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, PerCpuArray},
    helpers::generated::{bpf_ktime_get_ns, bpf_redirect},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

use crate::{
    frame::{
        Frame, V4_CHECKSUM, V4_HEADERS, V4_SOURCE, V6_HEADERS, V6_SOURCE, store_u16, store_u32,
        store_u64,
    },
    plan::{
        Class, HEAVY, HEAVY_FROM, INNOCENTS, INNOCENTS_FROM, Plan, SPOOFED, Sources, listed_v4,
        listed_v6, spread,
    },
};

// A plan's word for each, to match on.
const RANDOM: u32 = Sources::Random as u32;
const LISTED: u32 = Sources::Listed as u32;
const MIXED: u32 = Sources::Mixed as u32;
const SPOOFED_MILLION: u32 = Sources::Spoofed as u32;
const IN_PREFIX: u32 = Sources::InPrefix as u32;
const FIXED: u32 = Sources::Fixed as u32;
const FLOOD: u32 = Sources::Flood as u32;

#[btf_map]
static PLAN: Array<Plan, 1> = Array::new();

/// Packets sent by [`Class`].
#[btf_map]
static SENT: PerCpuArray<u64, 3> = PerCpuArray::new();

/// Where this CPU's generator stands.
#[repr(C)]
struct State {
    /// Of a xorshift generator; the benchmark seeds it, never with 0.
    random: u64,
    /// When the next paced packet is due, by `CLOCK_MONOTONIC`; 0 before the first.
    due_ns: u64,
    /// Paced packets so far.
    paced: u64,
    /// Packets between them so far.
    between: u64,
}

#[btf_map]
static STATE: PerCpuArray<State, 1> = PerCpuArray::new();

/// A source, or none yet: the time hasn't come.
type Drawn<T> = Option<T>;

/// Entry point of `BPF_PROG_TEST_RUN`.
#[xdp]
pub fn generate(context: XdpContext) -> u32 {
    send(&Frame::new(&context)).unwrap_or(xdp_action::XDP_DROP)
}

#[inline(always)]
fn send(frame: &Frame) -> Option<u32> {
    let plan = PLAN.get(0)?;
    let state = STATE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own slot; live frames run with softirqs off.
    let state = unsafe { &mut *state };
    if plan.version == 4 {
        let start = frame.holding(V4_HEADERS)?;
        let source = draw_v4(plan, state)?;
        // SAFETY: `holding` has checked these bytes, here and below.
        unsafe { store_u32(start + V4_SOURCE, source as u64) };
        let sum = plan.header_sum as u64 + (source & 0xffff) as u64 + (source >> 16) as u64;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        // SAFETY: as above.
        unsafe { store_u16(start + V4_CHECKSUM, !sum & 0xffff) };
    } else {
        let start = frame.holding(V6_HEADERS)?;
        let [high, low] = draw_v6(plan, state)?;
        // SAFETY: as above.
        unsafe { store_u64(start + V6_SOURCE, high) };
        // SAFETY: as above.
        unsafe { store_u64(start + V6_SOURCE + 8, low) };
    }
    // SAFETY: a helper that takes numbers only.
    Some(unsafe { bpf_redirect(plan.ifindex, 0) } as u32)
}

#[inline(always)]
fn draw_v4(plan: &Plan, state: &mut State) -> Drawn<u32> {
    let random = next(state);
    let listed = listed_v4(below(plan.listed, next(state))).to_be();
    let source = match plan.sources {
        RANDOM => random as u32,
        LISTED => listed,
        MIXED => {
            if random >> 63 == 0 {
                random as u32
            } else {
                listed
            }
        }
        SPOOFED_MILLION => spoofed(random),
        FIXED => due(plan, state).then_some(plan.fixed[0] as u32)?,
        FLOOD => flood(plan, state, random),
        _ => return None,
    };
    Some(source)
}

#[inline(always)]
fn draw_v6(plan: &Plan, state: &mut State) -> Drawn<[u64; 2]> {
    let random = next(state);
    let more = next(state);
    let (high, low) = listed_v6(below(plan.listed, more));
    let listed = [high.to_be(), low.to_be()];
    // 2000::/3.
    let anywhere = [(random >> 3 | 1 << 61).to_be(), more];
    let source = match plan.sources {
        RANDOM => anywhere,
        LISTED => listed,
        MIXED => {
            if random >> 63 == 0 {
                anywhere
            } else {
                listed
            }
        }
        SPOOFED_MILLION => {
            let one = spread(below(SPOOFED, random) as u64);
            [(one >> 3 | 1 << 61).to_be(), spread(one)]
        }
        // The prefix's 32 bits are the first four bytes.
        IN_PREFIX => {
            let prefix = plan.fixed[0] & u32::MAX as u64;
            [prefix | random << 32, more]
        }
        FIXED => due(plan, state).then_some(plan.fixed)?,
        _ => return None,
    };
    Some(source)
}

#[inline(always)]
fn spoofed(random: u64) -> u32 {
    // An odd factor spreads the numbers over all addresses, each to its own; none becomes 0.
    (1 + below(SPOOFED, random)).wrapping_mul(0x9e37_79b1)
}

#[inline(always)]
fn flood(plan: &Plan, state: &mut State, random: u64) -> u32 {
    let (class, source) = if due(plan, state) {
        let turn = (state.paced % INNOCENTS as u64) as u32;
        (Class::Innocent, (INNOCENTS_FROM + turn).to_be())
    } else {
        state.between += 1;
        if state.between & 1 == 0 {
            let turn = (state.between / 2 % HEAVY as u64) as u32;
            (Class::Heavy, (HEAVY_FROM + turn).to_be())
        } else {
            (Class::Other, spoofed(random))
        }
    };
    if let Some(sent) = SENT.get_ptr_mut(class as u32) {
        // SAFETY: this CPU's own slot.
        unsafe { *sent += 1 };
    }
    source
}

/// Whether the next paced packet is due; if so, it is taken to be sent. What a stall has delayed
/// is caught up with.
#[inline(always)]
fn due(plan: &Plan, state: &mut State) -> bool {
    // SAFETY: a helper without arguments that any program type may call.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if state.due_ns == 0 {
        state.due_ns = now_ns;
    }
    if now_ns < state.due_ns {
        return false;
    }
    state.due_ns += plan.every_ns;
    state.paced += 1;
    true
}

/// The next number of a xorshift generator (Marsaglia, 2003; the triple 13, 7, 17).
#[inline(always)]
fn next(state: &mut State) -> u64 {
    let mut word = state.random;
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    state.random = word;
    word
}

/// A number below `bound` out of the middle bits of a random word.
#[inline(always)]
fn below(bound: u32, random: u64) -> u32 {
    let middle = random >> 16 & u32::MAX as u64;
    ((middle * bound as u64) >> 32) as u32
}
