//! The packet generator: live frames of `BPF_PROG_TEST_RUN`, redirected into a lane.
//!
//! The kernel makes `repeat` frames in batches, runs the generator's program on each and sends
//! them on with softirqs off; the receiver's NAPI runs when a batch ends, on the same CPU.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunAttrs, TestRunOptions,
    maps::{Array, MapData, PerCpuArray, PerCpuValues},
    programs::Xdp,
    util::nr_cpus,
};
use portcullis_tests::{
    frames::{IPV4, IPV6, UDP, ethernet, ipv4, ipv6, udp},
    loaded::Failure,
    run::RigError,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    core_time::SoftirqThread,
    lanes::Lane,
    lists::{Numbers, SENT_FROM},
    plan::{PLAN_WORDS, Plan, Sources},
    rivals::map,
};

/// Frames a batch. The receiver's ring holds 256 (`VETH_RING_SIZE`, drivers/net/veth.c), and one
/// poll takes 64.
const BATCH: u32 = 64;

/// Bytes of `struct xdp_md` (linux/bpf.h), six words of 32 bits.
const XDP_MD_WORDS: usize = 6;

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// 4 or 6.
    pub(crate) version: u8,
    /// How sources are drawn.
    pub(crate) sources: Sources,
    /// How many of the list's entries are sent from.
    pub(crate) listed: u32,
    /// The one source, or the /32; IPv4 is in its first four bytes.
    pub(crate) fixed: [u8; 16],
    /// Gap between two paced packets.
    pub(crate) every: Duration,
}

impl Traffic {
    /// Sources of this kind, without a pace.
    pub(crate) const fn new(version: u8, sources: Sources, listed: u32) -> Self {
        Self {
            version,
            sources,
            listed,
            fixed: [0; 16],
            every: Duration::ZERO,
        }
    }
}

/// A loaded generator with maps of its own.
pub(crate) struct Generator {
    ebpf: Ebpf,
    cpu: usize,
    softirq_thread: SoftirqThread,
    stop: Stop,
}

/// Set when the run is to end before its time.
pub(crate) type Stop = Arc<AtomicBool>;

impl Generator {
    /// Loads one that will run on `cpu`, until it is told to stop.
    ///
    /// # Errors
    /// When the kernel refuses the object.
    pub(crate) fn load(object: &[u8], cpu: usize, stop: &Stop) -> Result<Self, Failure> {
        let mut ebpf = EbpfLoader::new().load(object)?;
        let program: &mut Xdp = ebpf
            .program_mut("generate")
            .ok_or("the bench object has no program `generate`")?
            .try_into()?;
        program.load()?;
        // Random state and three words of pace; see `State` of the generator.
        let mut numbers = Numbers(0x706f_7274);
        let mut generator = Self {
            ebpf,
            cpu,
            softirq_thread: SoftirqThread::of(cpu)?,
            stop: Arc::clone(stop),
        };
        let seeds: Vec<[u64; 4]> = (0..nr_cpus().map_err(|(_, error)| error)?)
            .map(|_| [numbers.draw() | 1, 0, 0, 0])
            .collect();
        let mut state: PerCpuArray<&mut MapData, [u64; 4]> =
            map(&mut generator.ebpf, "STATE")?.try_into()?;
        state.set(0, PerCpuValues::try_from(seeds)?, 0)?;
        Ok(generator)
    }

    /// Sends so many frames down a lane and returns how long the CPU worked on that. A paced
    /// traffic sends fewer.
    ///
    /// # Errors
    /// When the kernel refuses the run, or the whole run is to stop.
    pub(crate) fn send(
        &mut self,
        lane: &Lane,
        traffic: &Traffic,
        frames: u32,
    ) -> Result<Duration, Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        let frame = template(traffic.version);
        self.write_plan(lane, traffic, &frame)?;
        let program: &Xdp = self
            .ebpf
            .program("generate")
            .ok_or("the bench object has no program `generate`")?
            .try_into()?;
        let mut context = [0_u32; XDP_MD_WORDS];
        // `data_end`, and `ingress_ifindex`: `bpf_redirect` resolves its target in that
        // interface's network namespace.
        context[1] = frame.len() as u32;
        context[3] = lane.out_index;
        let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (cpu, softirq_thread) = (self.cpu, &self.softirq_thread);
        let run = || -> Result<Duration, Failure> {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            sched_setaffinity(None, &cpus)?;
            let before = softirq_thread.ran()?;
            let run = program.test_run(TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&context),
                repeat: frames,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            })?;
            // `duration` is what one frame took.
            Ok(run.duration * frames + (softirq_thread.ran()? - before))
        };
        // A thread of its own, so that nothing else is bound to that CPU.
        thread::scope(|scope| scope.spawn(run).join())
            .map_err(|_| RigError("the generator's thread panicked".to_owned()))?
    }

    /// Packets sent by class in [`Sources::Flood`].
    ///
    /// # Errors
    /// When the kernel refuses the read.
    pub(crate) fn sent(&mut self) -> Result<[u64; 3], Failure> {
        let sent: PerCpuArray<&mut MapData, u64> = map(&mut self.ebpf, "SENT")?.try_into()?;
        let mut sums = [0; 3];
        for (class, sum) in (0..).zip(&mut sums) {
            *sum = sent.get(&class, 0)?.iter().sum();
        }
        Ok(sums)
    }

    fn write_plan(&mut self, lane: &Lane, traffic: &Traffic, frame: &[u8]) -> Result<(), Failure> {
        let plan = Plan {
            sources: traffic.sources as u32,
            version: u32::from(traffic.version),
            ifindex: lane.out_index,
            listed: traffic.listed.clamp(1, SENT_FROM),
            header_sum: header_sum(frame),
            reserved: 0,
            fixed: words(traffic.fixed),
            every_ns: traffic.every.as_nanos() as u64,
        };
        let mut map: Array<&mut MapData, [u64; PLAN_WORDS]> =
            map(&mut self.ebpf, "PLAN")?.try_into()?;
        let [first, second] = plan.fixed;
        let pair = |low: u32, high: u32| {
            let [a, b, c, d] = low.to_ne_bytes();
            let [e, f, g, h] = high.to_ne_bytes();
            u64::from_ne_bytes([a, b, c, d, e, f, g, h])
        };
        // aya takes arrays of words; the order is that of the `repr(C)` fields.
        let words = [
            pair(plan.sources, plan.version),
            pair(plan.ifindex, plan.listed),
            pair(plan.header_sum, plan.reserved),
            first,
            second,
            plan.every_ns,
        ];
        map.set(0, words, 0)?;
        Ok(())
    }
}

/// A UDP datagram of the shortest frame that Ethernet sends, its source and, in IPv4, its
/// checksum still zero.
fn template(version: u8) -> Vec<u8> {
    let datagram = udp(&[0; 18]);
    match version {
        4 => ethernet(IPV4, &ipv4([0; 4], UDP, &datagram)),
        _ => ethernet(IPV6, &ipv6([0; 8], UDP, &datagram)),
    }
}

/// One's complement sum of an IPv4 header's words as this machine reads them (RFC 1071, 2B: the
/// byte order doesn't matter as long as all sums have the same).
fn header_sum(frame: &[u8]) -> u32 {
    let mut sum: u32 = frame[14..34]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// An address as the generator stores it.
fn words(octets: [u8; 16]) -> [u64; 2] {
    let (high, low) = octets.split_at(8);
    let word = |half: &[u8]| {
        half.iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    [word(high).to_be(), word(low).to_be()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_in_place_sums_to_all_ones() {
        let mut frame = template(4);
        frame[26..30].copy_from_slice(&[198, 51, 100, 7]);
        let checksum = !(header_sum(&frame) as u16);
        frame[24..26].copy_from_slice(&checksum.to_ne_bytes());
        assert_eq!(header_sum(&frame), 0xffff);
    }

    #[test]
    fn an_address_keeps_its_byte_order_in_memory() {
        let octets: [u8; 16] = std::array::from_fn(|at| at as u8);
        let stored: Vec<u8> = words(octets).iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(stored, octets);
    }
}
