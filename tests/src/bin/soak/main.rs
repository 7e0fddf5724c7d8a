//! `cargo xtask soak`: the proxy for twenty minutes at half of what it can do, while its configuration changes
//! each second and the services behind it are killed at random. Nothing may be lost that a service had which
//! was well, and nothing may be left over.
//!
//! ```text
//! backend  a service, which writes down what reached it
//! fleet    the services, and who kills them
//! stage    the proxy, and its configurations
//! line     a client's connection
//! crew     clients at a steady rate
//! lasting  a stream and a WebSocket that last as long
//! gauge    memory, descriptors, threads and tasks of the proxy
//! verdict  all accounts put together
//! ```
//!
//! Every premise is asserted: that services died, that configurations were put in force, and requests served.

mod backend;
mod crew;
mod fleet;
mod gauge;
mod lasting;
mod line;
mod stage;
mod verdict;

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    figures::{Figure, Required, median},
    numbers::Numbers,
    pki::unix_now,
    run::{RigError, Rigged},
};
use serde_json::{Map, json};

use crate::{
    crew::Crew, gauge::Held, gauge::SPARE_THREADS, lasting::Lasted, line::Target, stage::Stage,
    verdict::Verdict,
};

/// How long capacity is measured.
const CAPACITY: Duration = Duration::from_secs(5);
/// Between two looks at what is held.
const LOOK: Duration = Duration::from_secs(1);
/// How long the proxy may take to let go of what the load has left: kept connections and idle threads.
const PATIENCE: Duration = Duration::from_secs(90);
/// Lost requests that are shown in full.
const SHOWN: usize = 10;
/// The share of its memory by which the last minute may differ from the first.
const FLAT: f64 = 0.05;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match &args[..] {
        [word, address, log] if word == "backend" => address
            .parse()
            .map_err(line::told)
            .and_then(|address| backend::serve(address, Path::new(log))),
        args => Options::read(args).and_then(|options| soak(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for.
struct Options {
    run: Duration,
    seed: u64,
    json: bool,
}

impl Options {
    fn read(args: &[String]) -> Rigged<Self> {
        let mut options = Self {
            run: Duration::from_secs(20 * 60),
            seed: unix_now(),
            json: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                let value = args.next().and_then(|value| value.parse::<f64>().ok());
                let value = value.filter(|value| (0.1..1e15).contains(value));
                value.ok_or_else(|| RigError(format!("{arg} takes a number from 0.1 on")))
            };
            match arg.as_str() {
                "--json" => options.json = true,
                "--minutes" => options.run = Duration::from_secs_f64(value()? * 60.0),
                "--seed" => options.seed = value()? as u64,
                odd => {
                    return Err(RigError(format!(
                        "`{odd}` is none of --minutes, --seed, --json"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// How long what is held is looked at first and last: a minute, of a run that is long enough.
    fn window(&self) -> Duration {
        Duration::from_secs(60).min(self.run / 4)
    }
}

/// What came of a run.
struct Soaked {
    capacity: f64,
    rate: f64,
    reloads: u64,
    kills: usize,
    lasted: Lasted,
    verdict: Verdict,
    looks: Vec<(Duration, Held)>,
    before: Held,
    after: Held,
}

fn soak(options: &Options) -> Rigged<()> {
    let (stage, fleet) = stage::set()?;
    eprintln!(
        "soak: {:.1} minutes, with --seed {}",
        options.run.as_secs_f64() / 60.0,
        options.seed
    );
    let soaked = run(options, &stage, fleet)?;
    report(options, &soaked)
}

fn run(options: &Options, stage: &Stage, fleet: fleet::Fleet) -> Rigged<Soaked> {
    let front = &stage.front;
    let target = Target::new(front.address, &front.ground.pki)?;
    let tokens = stage.tokens(options.run)?;
    let crew = Crew::new(target.clone(), tokens.clone());

    let capacity = thread::scope(|scope| {
        let over = Arc::new(AtomicBool::new(false));
        let asking = scope.spawn({
            let over = Arc::clone(&over);
            let crew = &crew;
            move || crew.ask(None, &over)
        });
        thread::sleep(CAPACITY);
        over.store(true, Ordering::Relaxed);
        joined(asking.join())
    })?;
    let rate = capacity / 2.0;
    let (pid, observe) = (front.daemon.pid(), stage.observe);
    let before = Held::at_rest(pid, observe, PATIENCE)?;
    eprintln!("soak: {capacity:.0} requests a second at most, {rate:.0} from now on; {before:?}");

    let over = Arc::new(AtomicBool::new(false));
    let haunted = fleet.haunt(Numbers::new(options.seed));
    let lasting = lasting::begin(&target, &tokens[0], &over);
    let (reloads, looks) = thread::scope(|scope| {
        let reloading = stage.keep_reloading(scope, &over);
        let asking = scope.spawn({
            let over = Arc::clone(&over);
            let crew = &crew;
            move || crew.ask(Some(rate), &over)
        });
        let looks = look(pid, stage, options, || {
            // Whoever has failed has no more to say.
            reloading.is_finished() || asking.is_finished() || lasting.is_finished()
        });
        over.store(true, Ordering::Relaxed);
        let asked = joined(asking.join());
        let reloads = joined(reloading.join())?;
        asked?;
        Rigged::Ok((reloads, looks?))
    })?;
    let lasted = joined(lasting.join())?;
    let fleet = haunted.end()?;
    eprintln!("soak: over; the proxy comes to rest");
    let after = Held::at_rest(pid, observe, PATIENCE)?;
    let trail = front.ground.scratch.join("audit.jsonl");
    Ok(Soaked {
        capacity,
        rate,
        reloads,
        kills: fleet.absences.len(),
        lasted,
        verdict: verdict::judge(&crew.fates, &fleet, &trail)?,
        looks,
        before,
        after,
    })
}

fn joined<T>(done: thread::Result<Rigged<T>>) -> Rigged<T> {
    done.map_err(|_| RigError("a thread panicked".to_owned()))?
}

/// Looks at what the proxy holds until the run is over, or somebody has failed.
fn look(
    pid: u32,
    stage: &Stage,
    options: &Options,
    failed: impl Fn() -> bool,
) -> Rigged<Vec<(Duration, Held)>> {
    let (begin, run) = (Instant::now(), options.run);
    // Before it is first looked at, under load, all has been in use once.
    let warm = options.window();
    let mut looks = Vec::new();
    let mut told = 0;
    while begin.elapsed() < warm + run && !failed() {
        thread::sleep(LOOK);
        let held = Held::of(pid, stage.observe)?;
        if let Some(at) = begin.elapsed().checked_sub(warm) {
            looks.push((at, held));
            if at.as_secs() / 60 >= told {
                told += 1;
                eprintln!("soak: after {:.0} s: {held:?}", at.as_secs_f64());
            }
        }
    }
    Ok(looks)
}

fn report(options: &Options, soaked: &Soaked) -> Rigged<()> {
    use Required::{AtMost, Nothing};
    let window = options.window();
    let memory = |within: &dyn Fn(Duration) -> bool| {
        let looks = soaked.looks.iter().filter(|(at, _)| within(*at));
        let memory: Vec<f64> = looks.map(|(_, held)| held.rss_mib).collect();
        (memory.len() >= 3)
            .then(|| median(&memory))
            .ok_or_else(|| RigError(format!("{} looks in {window:?}", memory.len())))
    };
    let first = memory(&|at| at <= window)?;
    let last = memory(&|at| at + window >= options.run)?;
    let verdict = &soaked.verdict;
    let least = (soaked.rate * options.run.as_secs_f64() * 0.5) as u64;
    let seconds = options.run.as_secs();
    for (what, count, least) in [
        ("requests", verdict.requests, least),
        ("reloads", soaked.reloads, seconds / 2),
        (
            "services that were killed",
            soaked.kills as u64,
            seconds / 10,
        ),
        ("events", soaked.lasted.events, seconds),
        ("messages", soaked.lasted.messages, seconds),
    ] {
        if count < least.max(1) {
            return Err(RigError(format!("{count} {what}, and {least} were due")));
        }
    }
    let Held {
        files,
        threads,
        tasks,
        ..
    } = soaked.before;
    let after = &soaked.after;
    // In a run that is too short for minutes, memory still settles.
    let flat = if window < Duration::from_secs(60) {
        Nothing
    } else {
        AtMost(FLAT)
    };
    let figures = [
        Figure::new("requests", verdict.requests as f64, Nothing),
        Figure::new("capacity_per_second", soaked.capacity, Nothing),
        Figure::new("rate_per_second", soaked.rate, Nothing),
        Figure::new("reloads", soaked.reloads as f64, Nothing),
        Figure::new("services_killed", soaked.kills as f64, Nothing),
        Figure::new("lost", verdict.lost.len() as f64, AtMost(0.0)),
        Figure::new(
            "died_with_their_service",
            verdict.died_with_it as f64,
            Nothing,
        ),
        Figure::new(
            "unreached_while_one_was_gone",
            verdict.unreached as f64,
            Nothing,
        ),
        Figure::new("events", soaked.lasted.events as f64, Nothing),
        Figure::new("messages", soaked.lasted.messages as f64, Nothing),
        Figure::new("rss_mib_first_minute", first, Nothing),
        Figure::new("rss_mib_last_minute", last, Nothing),
        Figure::new("rss_change", (last / first - 1.0).abs(), flat),
        Figure::new("files_after", after.files as f64, AtMost(files as f64)),
        Figure::new(
            "threads_after",
            after.threads as f64,
            AtMost((threads + SPARE_THREADS) as f64),
        ),
        Figure::new("tasks_after", after.tasks as f64, AtMost(tasks as f64)),
    ];
    for lost in verdict.lost.iter().take(SHOWN) {
        eprintln!("soak: {lost}");
    }
    println!("{:<30}{:>12}{:>12}", "figure", "required", "measured");
    for figure in &figures {
        println!("{figure}");
    }
    if options.json {
        let figures = figures.iter();
        let figures = figures.map(|figure| (figure.key.to_owned(), json!(figure.value)));
        println!(
            "{}",
            serde_json::Value::from(figures.collect::<Map<_, _>>())
        );
    }
    if figures.iter().any(|figure| figure.verdict() == "missed") {
        return Err(RigError("a figure is missed".to_owned()));
    }
    Ok(())
}
