//! What the limiter does to the innocent, and how exact it is.

use std::{
    thread,
    time::{Duration, Instant},
};

use aya::{
    EbpfLoader,
    maps::{MapData, PerCpuArray},
    programs::{SchedClassifier, TcAttachType},
};
use portcullis_tests::loaded::Failure;

use crate::{
    generator::{Generator, Stop, Traffic},
    lanes::Lane,
    ours::{Onward, Ours, Rate},
    plan::{Class, HEAVY, INNOCENTS, Sources},
    rivals::map,
    scale::Scale,
    subject::{Judge as _, Seen},
};

/// Every source's limit during the flood.
const FLOOD_RATE: Rate = Rate {
    per_second: 100,
    burst: 20,
};

/// The limit that one source exceeds tenfold. The burst, 0.1 s of the rate, covers the gaps
/// between two calls of the generator, which then catches up; without it the limiter would be
/// blamed for packets that weren't there to pass.
const EXACT_RATE: Rate = Rate {
    per_second: 10_000,
    burst: 1_000,
};

/// Frames in one call of the generator: bounds how far past its end a run goes.
const CHUNK: u32 = 1_000_000;

/// Tries at a flood that no packet is lost of before it is judged.
const FLOOD_TRIES: u32 = 5;

/// How a flood ended.
enum Flood {
    /// Loss of the innocents, their packets, and packets a second in all.
    Judged((f64, u64, f64)),
    /// The receiver's ring was full for so many packets, and nobody knows whose they were.
    LostOnTheWay(u64),
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    /// Share of the innocents' packets that was dropped.
    pub(crate) innocent_loss: f64,
    /// Packets of innocents that this share is of.
    pub(crate) innocent_packets: u64,
    /// Packets a second of the flood, innocents included.
    pub(crate) flood_pps: f64,
    /// `passed / limit - 1` of a source on one CPU.
    pub(crate) error_one_cpu: f64,
    /// The same, of a source spread over two; `None` on a machine with one.
    pub(crate) error_two_cpus: Option<f64>,
}

impl Limiter {
    /// The worse of both.
    pub(crate) fn worst_error(&self) -> f64 {
        self.error_one_cpu
            .abs()
            .max(self.error_two_cpus.unwrap_or_default().abs())
    }
}

/// Runs both.
///
/// # Errors
/// When a part of the rig fails, or a premise doesn't hold.
pub(crate) fn measure(
    object: &[u8],
    cpu: usize,
    stop: &Stop,
    scale: &Scale,
) -> Result<Limiter, Failure> {
    let mut tries = 0;
    let (innocent_loss, innocent_packets, flood_pps) = loop {
        tries += 1;
        match flood(object, cpu, stop, scale.watch)? {
            Flood::Judged(found) => break found,
            Flood::LostOnTheWay(lost) if tries == FLOOD_TRIES => {
                return Err(format!("flood: {lost} packets were lost on the way").into());
            }
            Flood::LostOnTheWay(_) => {}
        }
    };
    Ok(Limiter {
        innocent_loss,
        innocent_packets,
        flood_pps,
        error_one_cpu: exactness(object, &[cpu], stop, scale.watch)?,
        error_two_cpus: match cpu {
            0 => None,
            _ => Some(exactness(object, &[cpu, cpu - 1], stop, scale.watch)?),
        },
    })
}

/// Two thousand innocents, each at half its limit, among a thousand sources over theirs and a
/// million spoofed ones. What the program lets through is counted where the network stack begins.
fn flood(object: &[u8], cpu: usize, stop: &Stop, watch: Duration) -> Result<Flood, Failure> {
    let lane = Lane::new("flood")?;
    let mut ours = Ours::start(FLOOD_RATE, Onward::ToTheStack, &[&lane])?;
    let mut ebpf = EbpfLoader::new().load(object)?;
    let arrivals: &mut SchedClassifier = ebpf
        .program_mut("arrivals")
        .ok_or("the bench object has no program `arrivals`")?
        .try_into()?;
    arrivals.load()?;
    arrivals.attach(&lane.inner, TcAttachType::Ingress)?;

    let innocents_pps = INNOCENTS * FLOOD_RATE.per_second as u32 / 2;
    let traffic = Traffic {
        every: Duration::from_secs(1) / innocents_pps,
        ..Traffic::new(4, Sources::Flood, 1)
    };
    let mut generator = Generator::load(object, cpu, stop)?;
    let start = Instant::now();
    let mut frames = 0;
    while start.elapsed() < watch {
        generator.send(&lane, &traffic, CHUNK)?;
        frames += u64::from(CHUNK);
    }
    let took = start.elapsed();
    // The last packets may still be in the receiver's ring.
    thread::sleep(Duration::from_millis(50));
    let sent = generator.sent()?;
    let arrived: PerCpuArray<&mut MapData, u64> = map(&mut ebpf, "ARRIVED")?.try_into()?;
    let arrived = |class: Class| -> Result<u64, Failure> {
        Ok(arrived.get(&(class as u32), 0)?.iter().sum())
    };
    let sent = |class: Class| sent[class as usize];
    let seen = ours.seen()?.unwrap_or_default();
    let lost = lane.lost()?;

    if lost > 0 {
        return Ok(Flood::LostOnTheWay(lost));
    }
    if seen.total() != frames {
        return Err(format!("flood: {frames} packets were sent, but: {seen:?}").into());
    }
    let innocent_pps = sent(Class::Innocent) as f64 / took.as_secs_f64();
    if (innocent_pps / f64::from(innocents_pps) - 1.0).abs() > 0.1 {
        return Err(format!(
            "flood: innocents sent {innocent_pps:.0} packets a second in place of {innocents_pps}"
        )
        .into());
    }
    let heavy_pps = sent(Class::Heavy) as f64 / took.as_secs_f64() / f64::from(HEAVY);
    if heavy_pps < 1.5 * FLOOD_RATE.per_second as f64 || arrived(Class::Heavy)? == 0 {
        return Err(format!(
            "flood: {heavy_pps:.0} packets a second of a heavy source, whose limit is {}; {} of \
             all arrived",
            FLOOD_RATE.per_second,
            arrived(Class::Heavy)?
        )
        .into());
    }
    let loss = 1.0 - arrived(Class::Innocent)? as f64 / sent(Class::Innocent) as f64;
    Ok(Flood::Judged((
        loss,
        sent(Class::Innocent),
        frames as f64 / took.as_secs_f64(),
    )))
}

/// One source at ten times its limit, its packets spread evenly over these CPUs, each with a lane
/// of its own; how far what passes is off the limit, as a share of it.
fn exactness(object: &[u8], cpus: &[usize], stop: &Stop, watch: Duration) -> Result<f64, Failure> {
    let lanes: Vec<Lane> = cpus
        .iter()
        .map(|cpu| Lane::new(&format!("exact{}c{cpu}", cpus.len())))
        .collect::<Result<_, _>>()?;
    let mut ours = Ours::start(
        EXACT_RATE,
        Onward::Nowhere,
        &lanes.iter().collect::<Vec<_>>(),
    )?;
    let mut fixed = [0; 16];
    fixed[..4].copy_from_slice(&[198, 51, 100, 7]);
    let pps = EXACT_RATE.per_second as u32 * 10;
    let traffic = Traffic {
        fixed,
        every: Duration::from_secs(1) / pps * cpus.len() as u32,
        ..Traffic::new(4, Sources::Fixed, 1)
    };
    let settle = Duration::from_millis(500);
    let end = Instant::now() + settle + watch + Duration::from_millis(500);
    let send = |cpu: usize, lane: &Lane| -> Result<(), Failure> {
        let mut generator = Generator::load(object, cpu, stop)?;
        while Instant::now() < end {
            generator.send(lane, &traffic, CHUNK)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let senders: Vec<_> = cpus
            .iter()
            .zip(&lanes)
            .map(|(&cpu, lane)| scope.spawn(move || send(cpu, lane)))
            .collect();
        // The initial burst is over by then.
        thread::sleep(settle);
        let (from, before) = (Instant::now(), ours.seen()?.unwrap_or_default());
        thread::sleep(watch);
        let (took, after) = (from.elapsed(), ours.seen()?.unwrap_or_default());
        for sender in senders {
            sender.join().map_err(|_| "a sender panicked")??;
        }
        let Seen { clean, limited, .. } = after.since(before);
        let sent_pps = (clean + limited) as f64 / took.as_secs_f64();
        if (sent_pps / f64::from(pps) - 1.0).abs() > 0.1 {
            return Err(format!(
                "{} CPUs sent {sent_pps:.0} packets a second in place of {pps}",
                cpus.len()
            )
            .into());
        }
        let passed_pps = clean as f64 / took.as_secs_f64();
        Ok(passed_pps / EXACT_RATE.per_second as f64 - 1.0)
    })
}
