//! Samples of drops.

use std::time::Duration;

use datapath::Rules;
use portcullis_tests::{frames::cut, loaded::Failure};
use proxy_common::{
    Gcra, Limit, LimitSetting, Mode,
    Reason::{self, Blocked, Clean, Malformed, SourceUdp},
};

use crate::{
    Kernel, Scene,
    lists::{BLOCKED_V4, BLOCKED_V6, UNLISTED_V4, datagram_v4, datagram_v6},
    play::{WATCHED, hourly, in_turn, ruled, scene, while_listed},
};

#[rustfmt::skip]
pub(crate) const SCENES: &[Scene] = &[
    scene("a sample of a dropped IPv4 packet says when, whose, why and how long", sample_v4),
    scene("a sample of a dropped IPv6 packet carries its whole source", sample_v6),
    scene("a sample of a frame whose source is out of reach carries none", sample_without_source),
    scene("a sample of a packet over a limit names the limit", sample_of_limit),
    scene("a sample of a packet that was only watched says so", sample_watched),
    scene("a sample stands for the drops since the one before it", sample_weight),
    scene("samples stop at their cap, drops don't", sample_cap),
];

/// Runs frames with samples on and returns those that came.
fn sampled(
    kernel: &mut Kernel,
    rules: Rules,
    sample_rate: Gcra,
    play: impl FnOnce(&Kernel) -> Result<(), Failure>,
) -> Result<Vec<datapath::Drop>, Failure> {
    let rules = Rules {
        sample_rate,
        ..rules
    };
    ruled(kernel, rules, |kernel| play(kernel))?;
    Ok(std::iter::from_fn(|| kernel.samples.next_drop()).collect())
}

/// A sample of every drop: one a nanosecond.
const EVERY_DROP: Gcra = Gcra {
    emission: 1 << 10,
    tolerance_ns: 0,
};

/// `BPF_PROG_TEST_RUN` has packets come in on the loopback interface, which has index 1.
const LOOPBACK: u32 = 1;

fn one_sample(
    kernel: &mut Kernel,
    frame: &[u8],
    source: Option<&str>,
    reason: Reason,
) -> Result<(), Failure> {
    let earliest_ns = datapath::boot_ns();
    let samples = sampled(kernel, Rules::NONE, EVERY_DROP, |kernel| {
        in_turn(
            kernel,
            &[(frame, reason), (&datagram_v4(UNLISTED_V4), Clean)],
        )
    })?;
    let [sample] = samples[..] else {
        return Err(format!("expected one sample: {samples:?}").into());
    };
    let expected = datapath::Drop {
        at_ns: sample.at_ns,
        source: source.map(str::parse).transpose()?,
        reason,
        monitored: false,
        ifindex: LOOPBACK,
        frame_bytes: u32::try_from(frame.len())?,
        stands_for: 1,
    };
    if sample != expected || !(earliest_ns..=datapath::boot_ns()).contains(&sample.at_ns) {
        return Err(format!("{sample:?}, expected {expected:?} after {earliest_ns}").into());
    }
    Ok(())
}

fn sample_v4(kernel: &mut Kernel) -> Result<(), Failure> {
    one_sample(
        kernel,
        &datagram_v4(BLOCKED_V4),
        Some("198.51.100.7"),
        Blocked,
    )
}

fn sample_v6(kernel: &mut Kernel) -> Result<(), Failure> {
    one_sample(
        kernel,
        &datagram_v6(BLOCKED_V6),
        Some("2001:db8:1::7"),
        Blocked,
    )
}

fn sample_without_source(kernel: &mut Kernel) -> Result<(), Failure> {
    one_sample(kernel, &cut(datagram_v4(BLOCKED_V4), 20), None, Malformed)
}

fn sample_cap(kernel: &mut Kernel) -> Result<(), Failure> {
    const DROPS: usize = 50;
    let frame = datagram_v4(BLOCKED_V4);
    let samples = sampled(kernel, Rules::NONE, hourly(2), |kernel| {
        (0..DROPS).try_for_each(|_| in_turn(kernel, &[(&frame, Blocked)]))
    })?;
    // The cap is one CPU's, and the scheduler may move us.
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| format!("{path}: {error}"))?;
    if !(2..=2 * cpus).contains(&samples.len()) || samples.len() >= DROPS {
        return Err(format!("{} samples of {DROPS} drops, {cpus} CPUs", samples.len()).into());
    }
    Ok(())
}

fn sample_of_limit(kernel: &mut Kernel) -> Result<(), Failure> {
    let frame = datagram_v4([100, 64, 16, 1]);
    let limit = LimitSetting::new(hourly(1), Mode::Enforce);
    let rules = Rules::NONE.with(Limit::SourceUdp, limit);
    let samples = sampled(kernel, rules, EVERY_DROP, |kernel| {
        in_turn(kernel, &[(&frame, Clean), (&frame, SourceUdp)])
    })?;
    match samples[..] {
        [sample] if (sample.reason, sample.monitored) == (SourceUdp, false) => Ok(()),
        _ => Err(format!("expected one sample of source_udp: {samples:?}").into()),
    }
}

fn sample_watched(kernel: &mut Kernel) -> Result<(), Failure> {
    while_listed(kernel, &[("100.64.16.0/24", 9, WATCHED)], |kernel| {
        let frame = datagram_v4([100, 64, 16, 2]);
        let samples = sampled(kernel, Rules::NONE, EVERY_DROP, |kernel| {
            kernel.loaded.expect_watched(&frame, Blocked)
        })?;
        match samples[..] {
            [sample] if (sample.reason, sample.monitored) == (Blocked, true) => Ok(()),
            _ => Err(format!("expected one watched sample: {samples:?}").into()),
        }
    })
}

fn sample_weight(kernel: &mut Kernel) -> Result<(), Failure> {
    const DROPS: u64 = 40;
    const GAP: Duration = Duration::from_millis(100);
    let frame = datagram_v4(BLOCKED_V4);
    let one_a_gap = Gcra::per_second(10, 1).ok_or("a rate")?;
    let samples = sampled(kernel, Rules::NONE, one_a_gap, |kernel| {
        (0..DROPS).try_for_each(|_| in_turn(kernel, &[(&frame, Blocked)]))?;
        // Each CPU that the scheduler had us on tells of what it still owes.
        for _ in 0..8 {
            std::thread::sleep(GAP + GAP / 2);
            in_turn(kernel, &[(&frame, Blocked)])?;
        }
        // What follows begins with empty buckets.
        std::thread::sleep(2 * GAP);
        Ok(())
    })?;
    let told: u64 = samples.iter().map(|sample| sample.stands_for).sum();
    let heaviest = samples.iter().map(|sample| sample.stands_for).max();
    // A CPU that we didn't come back to may owe some.
    if !(DROPS / 2..=DROPS + 8).contains(&told) || heaviest.is_none_or(|it| it < DROPS / 4) {
        return Err(format!(
            "samples stand for {told} of {} drops: {samples:?}",
            DROPS + 8
        )
        .into());
    }
    Ok(())
}
