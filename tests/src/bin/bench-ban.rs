//! `cargo xtask bench ban`: how long from `block add` to the first dropped packet.
//!
//! A client sends 10,000 datagrams a second over a veth pair. Each round runs the real command,
//! `portcullis block add`, process start included, and ends when the kernel's own counter of
//! banned packets has risen; then the ban is removed. The resolution is the gap between two
//! packets, 0.1 ms, and the poll of the counter, 0.05 ms.

use std::{process::ExitCode, time::Duration};

use datapath::PinnedCounters;
use portcullis_tests::{
    ban_timer::time_ban,
    netns::BOB,
    privilege::why_no_kernel,
    run::{RigError, Rigged},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
};
use serde_json::json;

const PPS: u32 = 10_000;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-ban: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Rigged<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let json = args.iter().any(|arg| arg == "--json");
    let rounds = match args.iter().position(|arg| arg == "--rounds") {
        Some(at) => args
            .get(at + 1)
            .and_then(|rounds| rounds.parse().ok())
            .filter(|rounds| *rounds > 0)
            .ok_or_else(|| RigError("--rounds takes a number above 0".to_owned()))?,
        None => 200_usize,
    };
    if let Some(why) = why_no_kernel() {
        return Err(RigError(why.to_owned()));
    }
    let scene = Scene::set(&unique_name(), SceneLimits::NONE)?;
    let daemon = scene.start()?;
    let counters =
        PinnedCounters::open(&scene.pins).map_err(|error| RigError(error.to_string()))?;
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..rounds {
        // A sender for each round: none outlives the bench by more than this.
        let sender = scene.send(BOB, PPS, Duration::from_secs(10))?;
        wait_for_packets(&counters)?;
        times.push(time_ban(&daemon, &counters, BOB)?);
        drop(sender);
        let reply = daemon.ask(&["block", "remove", BOB])?;
        if reply["changed"] != 1 {
            return Err(RigError(format!("the ban was not there: {reply}")));
        }
    }
    daemon.stop()?;
    scene.detach()?;

    times.sort_unstable();
    let ms = |share: f64| {
        let rank = (share * times.len() as f64).ceil() as usize;
        times[rank.clamp(1, times.len()) - 1].as_secs_f64() * 1e3
    };
    let (p50, p99, max) = (ms(0.50), ms(0.99), ms(1.0));
    if json {
        println!(
            "{}",
            json!({ "rounds": rounds, "p50_ms": p50, "p99_ms": p99, "max_ms": max, "pps": PPS })
        );
    } else {
        println!("from `block add` to the first dropped packet, {rounds} rounds:");
        println!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms (required: p99 at most 10 ms)");
    }
    Ok(())
}

/// The premise: the client's packets arrive and pass.
fn wait_for_packets(counters: &PinnedCounters) -> Rigged<()> {
    let clean = || counters.packets(proxy_common::Reason::Clean).ok();
    let before = clean();
    portcullis_tests::run::eventually("the sender's packets pass", Duration::from_secs(5), || {
        (clean()? > before? + 100).then_some(())
    })
}
