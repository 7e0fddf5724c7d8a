//! `cargo xtask bench lists`: what a list of a million hosts takes in the real daemon, with its
//! kernel side on a veth pair, and what requests notice of it.
//!
//! ```text
//! hosts    random hosts, and files of them
//! commands how long commands take
//! memory   what the daemon holds
//! requests HTTPS at a steady rate
//! meanwhile requests while imports run, and without
//! elsewhere who is another host
//! ipsum    a whole public list, entry by entry
//! agree    the premise: disk, daemon and kernel hold the list
//! ```
//!
//! Every premise is asserted; one that doesn't hold ends the run with an error.

mod agree;
mod commands;
mod elsewhere;
mod hosts;
mod ipsum;
mod meanwhile;
mod memory;
mod requests;

use std::{process::ExitCode, time::Instant};

use portcullis_tests::{
    figures::{Figure, Required, quantile},
    privilege::why_no_kernel,
    run::{RigError, Rigged},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
};
use serde_json::{Map, json};

use crate::{hosts::host, ipsum::Soaked, meanwhile::Meanwhile, memory::Memory};

/// The list that all is about.
const LIST: &str = "big";

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-lists: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How large a run is.
#[derive(Clone, Copy, Debug)]
struct Scale {
    entries: u32,
    /// Commands that are timed one by one.
    asked: u32,
    /// Imports with requests beside them, each next to a stretch without.
    turns: u32,
    /// Hosts that each import of a turn adds.
    fresh: u32,
}

impl Scale {
    const FULL: Self = Self {
        entries: 1_000_000,
        asked: 300,
        turns: 31,
        fresh: 50_000,
    };
    const QUICK: Self = Self {
        entries: 50_000,
        asked: 20,
        turns: 2,
        fresh: 5_000,
    };
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
    if let Some(why) = why_no_kernel() {
        return Err(RigError(why.to_owned()));
    }
    let figures = measure(if quick { Scale::QUICK } else { Scale::FULL })?;
    if quick {
        println!("a quick run, with a small list: nothing here counts");
    }
    println!("{:<30}{:>12}{:>12}", "figure", "required", "measured");
    for figure in &figures {
        println!("{figure}");
    }
    println!(
        "daemon_rss_mib_1m is VmRSS without the resident pages of the kernel's tables, which are \
         mapped into the daemon and are the kernel's memory (cargo xtask bench xdp: kernel_mib_1m)"
    );
    if json {
        let mut object = Map::new();
        for figure in &figures {
            object.insert(figure.key.to_owned(), json!(figure.value));
        }
        object.insert("quick".to_owned(), json!(quick));
        println!("{}", serde_json::Value::from(object));
    }
    Ok(())
}

fn measure(scale: Scale) -> Rigged<Vec<Figure>> {
    use Required::{AtMost, Nothing};
    let scene = elsewhere::start(|| Scene::set(&unique_name(), SceneLimits::NONE))?;
    let daemon = scene.start()?;
    let file = hosts::file(&scene.scratch, "big.txt", 0..scale.entries)?;

    eprintln!("bench-lists: importing {} hosts", scale.entries);
    let begin = Instant::now();
    let reply = daemon.ask(&["block", "import", &file, "--list", LIST])?;
    let import = begin.elapsed();
    if reply["added"] != scale.entries {
        return Err(RigError(format!("not all were added: {reply}")));
    }
    agree::check(&scene, &daemon, scale.entries)?;
    let memory = Memory::settled(daemon.pid())?;

    eprintln!("bench-lists: asking");
    let list = commands::list(&daemon, LIST, scale.entries)?;
    let test = commands::each(&daemon, scale.asked, |number| {
        vec!["block".into(), "test".into(), host(number).to_string()]
    })?;

    eprintln!("bench-lists: requests with imports and without");
    let Meanwhile {
        growth,
        quiet_p99_ms,
        importing_p99_ms,
        imports,
        import_seconds,
    } = meanwhile::measure(&scene, &daemon, scale)?;

    let listed = scale.entries + imports * scale.fresh;
    daemon.kill()?;
    let begin = Instant::now();
    let daemon = scene.start()?;
    let restart = begin.elapsed();
    agree::check(&scene, &daemon, listed)?;
    eprintln!("bench-lists: following a file");
    let refresh = commands::refresh_unchanged(&daemon, &file, scale.entries)?;
    let why = commands::each(&daemon, scale.asked, |number| {
        vec!["why".into(), host(number).to_string()]
    })?;
    daemon.stop()?;
    scene.detach()?;
    eprintln!("bench-lists: a public list, entry by entry");
    let soaked = ipsum::soak()?;

    let mut figures = vec![
        Figure::new("import_1m_seconds", import.as_secs_f64(), AtMost(4.0)),
        Figure::new("refresh_unchanged_1m_ms", refresh, AtMost(300.0)),
        Figure::new("list_1m_seconds", list.as_secs_f64(), AtMost(3.0)),
        Figure::new("why_p99_ms", quantile(&why, 0.99), AtMost(5.0)),
        Figure::new("test_p99_ms", quantile(&test, 0.99), Nothing),
        Figure::new("daemon_rss_mib_1m", memory.own_mib(), AtMost(200.0)),
        Figure::new("daemon_anon_mib_1m", memory.anon_mib, Nothing),
        Figure::new("daemon_vmrss_mib_1m", memory.rss_mib, Nothing),
        Figure::new("daemon_tables_mib_1m", memory.tables_mib, Nothing),
        Figure::new("daemon_peak_mib", memory.peak_mib, Nothing),
        Figure::new("request_p99_growth", growth, AtMost(0.20)),
        Figure::new("request_quiet_p99_ms", quiet_p99_ms, Nothing),
        Figure::new("request_importing_p99_ms", importing_p99_ms, Nothing),
        Figure::new("import_among_requests_seconds", import_seconds, Nothing),
        Figure::new("restart_after_kill_seconds", restart.as_secs_f64(), Nothing),
    ];
    if let Some(Soaked {
        entries,
        import_seconds,
    }) = soaked
    {
        let entries = entries as f64;
        figures.push(Figure::new("ipsum_entries_answered", entries, Nothing));
        figures.push(Figure::new("ipsum_import_seconds", import_seconds, Nothing));
    }
    Ok(figures)
}
