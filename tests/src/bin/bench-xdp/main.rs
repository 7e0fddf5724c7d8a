//! `cargo xtask bench xdp`: packets a second of this program, of others, and of the most that can
//! be reached, on a veth pair and one core; then what the limiter and the tables cost and hold.
//!
//! ```text
//! scale       how large a run is
//! lists       random lists
//! lanes       veth pairs, in a namespace of the run
//! core_time   how long packets had the CPU
//! generator   live frames into a lane
//! subject     a program under test
//! rivals      other XDP programs
//! netfilter   nftables and ipset
//! ours        this project's
//! throughput  packets a second of all of them
//! limiter     innocents in a flood, one source over its limit
//! tables      loading, reloading, adding; memory
//! report      for people and as JSON
//! chart       a picture
//! plan        what the generator is told, shared with it
//! ```
//!
//! Every premise is asserted: that the lists are loaded, that every packet sent has arrived, that
//! the verdicts are those the traffic must get, that programs run in the driver and compiled. A
//! premise that doesn't hold ends the run with an error.

mod chart;
mod core_time;
mod generator;
mod lanes;
mod limiter;
mod lists;
mod netfilter;
mod ours;
#[expect(dead_code, reason = "the eBPF side uses what this side doesn't")]
#[path = "../../../ebpf/src/plan.rs"]
mod plan;
mod report;
mod rivals;
mod scale;
mod subject;
mod tables;
mod throughput;

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc};

use portcullis_tests::{loaded::Failure, privilege::why_no_kernel};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    generator::{Generator, Stop},
    lanes::Ground,
    report::Report,
    scale::Scale,
};

/// Names the eBPF object that holds the programs of the benchmark.
const OBJECT_VARIABLE: &str = "PORTCULLIS_BENCH_OBJECT";

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-xdp: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Asked {
    json: bool,
    quick: bool,
    svg: Option<PathBuf>,
}

impl Asked {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut asked = Self {
            json: false,
            quick: false,
            svg: None,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => asked.json = true,
                "--quick" => asked.quick = true,
                "--svg" => asked.svg = Some(args.next().ok_or("--svg takes a path")?.into()),
                _ => return Err(format!("`{arg}` is none of --json, --quick, --svg PATH").into()),
            }
        }
        Ok(asked)
    }
}

fn bench() -> Result<(), Failure> {
    let asked = Asked::parse(std::env::args().skip(1))?;
    if let Some(why) = why_no_kernel() {
        return Err(why.into());
    }
    let object = std::env::var_os(OBJECT_VARIABLE)
        .ok_or_else(|| format!("{OBJECT_VARIABLE} isn't set: run `cargo xtask bench xdp`"))?;
    let object = fs::read(&object).map_err(|e| format!("{}: {e}", object.display()))?;
    let scale = if asked.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };

    // Namespace and bpffs go with what holds them, so a signal only asks for an end.
    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let _ground = Ground::enter()?;
    let cpu = std::thread::available_parallelism()?.get() - 1;
    let mut generator = Generator::load(&object, cpu, &stop)?;
    let report = Report {
        quick: asked.quick,
        entries: scale.largest(),
        speeds: throughput::measure(&object, &mut generator, &scale)?,
        limiter: limiter::measure(&object, cpu, &stop, &scale)?,
        tables: tables::measure(&scale)?,
    };
    if let Some(path) = &asked.svg {
        chart::draw(path, &report)?;
        eprintln!("bench-xdp: drew {}", path.display());
    }
    report.print(asked.json);
    Ok(())
}
