//! `cargo xtask bench proxy`: what a request costs Portcullis, and HAProxy, Envoy and nginx beside it.
//! The proxy under test has a core for itself; load and upstream share the other one.
//!
//! ```text
//! stage      what all proxies share: certificate, tokens, upstreams
//! tokens     a thousand good tokens, and bad ones
//! upstream   an nginx that answers from memory and keeps count
//! subject    a proxy under test, and its access records
//! portcullis, haproxy, envoy, floor  how each is set up
//! process    core time and memory of a process
//! spent      what a stretch of load costs
//! premise    that each does the work, and the same
//! wrk, h2load  HTTP/1.1 and HTTP/2 as fast as they go, by tools that everybody knows
//! loads      our own: HTTP/2 with tokens in turn, a fixed rate, handshakes, large bodies
//! connection, http1, http2, hpack    the client of those loads
//! idle       connections and WebSockets that nobody uses
//! report     figures of all rounds
//! ```
//!
//! Every premise is asserted; one that doesn't hold ends the run with an error.

mod connection;
mod envoy;
mod floor;
mod h2load;
mod haproxy;
mod hpack;
mod http1;
mod http2;
mod idle;
mod loads;
mod portcullis;
mod premise;
mod process;
mod report;
mod spent;
mod stage;
mod subject;
mod tokens;
mod upstream;
mod wrk;

use std::{ops::RangeInclusive, process::ExitCode, time::Duration};

use portcullis_tests::run::{RigError, Rigged};

use crate::{
    report::Measured,
    spent::Spent,
    stage::Stage,
    subject::{Kind, Subject},
    wrk::Wrk,
};

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How large a run is: rounds, and how long each load is measured in each of them.
#[derive(Clone, Copy, Debug)]
struct Scale {
    rounds: u32,
    /// How long a load runs before it is measured.
    warm: Duration,
    h1: Duration,
    h2: Duration,
    h2load: Duration,
    paced: Duration,
    handshakes: Duration,
    large: Duration,
    /// Once, after all rounds.
    sockets: Duration,
}

impl Scale {
    const FULL: Self = Self {
        rounds: 7,
        warm: Duration::from_millis(400),
        h1: Duration::from_millis(1_500),
        h2: Duration::from_millis(1_500),
        h2load: Duration::from_millis(1_000),
        paced: Duration::from_millis(1_500),
        handshakes: Duration::from_millis(1_000),
        large: Duration::from_millis(600),
        sockets: Duration::from_secs(4),
    };
    const QUICK: Self = Self {
        rounds: 1,
        warm: Duration::from_millis(300),
        h1: Duration::from_millis(1_000),
        h2: Duration::from_millis(1_000),
        h2load: Duration::from_millis(500),
        paced: Duration::from_millis(1_000),
        handshakes: Duration::from_millis(500),
        large: Duration::from_millis(500),
        sockets: Duration::from_secs(1),
    };
}

/// The loads, in the order in which they run.
#[derive(Clone, Copy, Debug)]
enum LoadKind {
    Wrk,
    H2,
    H2load,
    PacedH1,
    PacedH2,
    Handshakes,
    Large,
}

impl LoadKind {
    const ALL: [Self; 7] = [
        Self::Wrk,
        Self::H2,
        Self::H2load,
        Self::PacedH1,
        Self::PacedH2,
        Self::Handshakes,
        Self::Large,
    ];
}

/// A load that has run.
struct Load {
    /// What it cost while it was measured.
    spent: Spent,
    /// How many requests it made in all.
    requests: RangeInclusive<u64>,
}

fn bench() -> Rigged<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let asked_for = |option: &str| args.iter().any(|arg| arg == option);
    if let Some(odd) = args
        .iter()
        .find(|arg| *arg != "--json" && *arg != "--quick")
    {
        return Err(RigError(format!("`{odd}` is none of --json, --quick")));
    }
    let (json, quick) = (asked_for("--json"), asked_for("--quick"));
    let measured = measure(if quick { Scale::QUICK } else { Scale::FULL })?;
    if quick {
        println!("a quick run, of one short round: nothing here counts");
    }
    report::print(&measured);
    if json {
        println!("{}", report::json(&measured, quick));
    }
    Ok(())
}

/// All rounds; of each proxy what came of them, in the order of [`Kind::ALL`].
fn measure(scale: Scale) -> Rigged<Vec<Measured>> {
    process::take_place()?;
    let stage = Stage::set()?;
    let mut subjects = Vec::new();
    let mut measured = Vec::new();
    for kind in Kind::ALL {
        eprintln!("bench-proxy: {}: is the work done?", kind.name());
        let mut subject = Subject::start(kind, &stage)?;
        let before = stage.upstream.requests()?;
        let rss_mib = idle::rss_mib(&subject, &stage)?;
        let made = stage.tokens.good.len() as u64;
        let reached = stage.upstream.requests()? - before;
        premise::reached(&subject, reached, &(made..=made))?;
        subject.add(&(made..=made));
        premise::recorded(&mut subject)?;
        premise::records_tell(&subject)?;
        premise::authenticates(&mut subject, &stage)?;
        measured.push(Measured::new(rss_mib));
        subjects.push(subject);
    }
    let wrk = Wrk::new(&stage)?;
    for number in 1..=scale.rounds {
        round(&mut subjects, &stage, &wrk, scale, &mut measured)?;
        for (subject, measured) in subjects.iter().zip(&measured) {
            let name = subject.kind.name();
            eprintln!(
                "bench-proxy: round {number} of {}: {name:<10} {}",
                scale.rounds,
                measured.last_round()
            );
        }
    }
    eprintln!("bench-proxy: WebSockets");
    for (subject, measured) in subjects.iter().zip(&mut measured) {
        measured.sockets = Some(idle::sockets(subject, &stage, scale.sockets)?);
    }
    Ok(measured)
}

/// Each load on one proxy after the other, so that they meet it in the same weather; those that wait
/// run, and have nothing to do.
fn round(
    subjects: &mut [Subject],
    stage: &Stage,
    wrk: &Wrk,
    scale: Scale,
    measured: &mut [Measured],
) -> Rigged<()> {
    for kind in LoadKind::ALL {
        for (subject, measured) in subjects.iter_mut().zip(&mut *measured) {
            let before = stage.upstream.requests()?;
            let load = match kind {
                LoadKind::Wrk => wrk.load(subject, stage, scale),
                LoadKind::H2 => loads::h2(subject, stage, scale),
                LoadKind::H2load => h2load::load(subject, stage, scale),
                LoadKind::PacedH1 => {
                    let (load, took) = loads::paced_h1(subject, stage, scale)?;
                    measured.late_h1.push(&took);
                    Ok(load)
                }
                LoadKind::PacedH2 => {
                    let (load, took) = loads::paced_h2(subject, stage, scale)?;
                    measured.late_h2.push(&took);
                    Ok(load)
                }
                LoadKind::Handshakes => loads::handshakes(subject, stage, scale),
                LoadKind::Large => loads::large(subject, stage, scale),
            }?;
            let reached = stage.upstream.requests_at_rest()? - before;
            premise::reached(subject, reached, &load.requests)?;
            subject.add(&load.requests);
            measured.spent[kind as usize].push(load.spent);
        }
    }
    subjects.iter_mut().try_for_each(premise::recorded)
}
