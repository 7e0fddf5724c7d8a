//! Requests while imports run, and without, by turns.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    daemon::Daemon,
    figures::{median, quantile},
    run::{RigError, Rigged},
    scene::Scene,
};

use crate::{LIST, Scale, hosts, requests::Client};

/// A quiet stretch: about as long as an import.
const QUIET: Duration = Duration::from_millis(1_500);

/// Least requests of each kind: of 1,000, ten are slower than the 99th of a hundred.
const LEAST: usize = 1_000;

/// What came of all turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meanwhile {
    /// How much longer the 99th of 100 requests takes while a list is imported, as a share: the
    /// median over the turns, each of which compares an import with the quiet stretch beside it.
    pub(crate) growth: f64,
    pub(crate) quiet_p99_ms: f64,
    pub(crate) importing_p99_ms: f64,
    pub(crate) imports: u32,
    /// Of an import, on average.
    pub(crate) import_seconds: f64,
}

/// A turn is one import of a list of `scale.entries` hosts, of which `scale.fresh` are new, and one
/// quiet stretch, in either order by turns. What disturbs this machine for seconds disturbs both,
/// or a few turns of many, which a median doesn't show.
pub(crate) fn measure(scene: &Scene, daemon: &Daemon, scale: Scale) -> Rigged<Meanwhile> {
    let mut client = Client::connect(scene)?;
    let (mut quiet, mut importing, mut growths) = (Vec::new(), Vec::new(), Vec::new());
    let mut imported_for = Duration::ZERO;
    let rest = |client: &mut Client| {
        let (took, ()) = during(client, || {
            thread::sleep(QUIET);
            Ok(())
        })?;
        Rigged::Ok(took)
    };
    // What is first done for a connection isn't what is measured.
    rest(&mut client)?;
    for turn in 0..scale.turns {
        let first = (turn + 1) * scale.fresh;
        let file = hosts::file(&scene.scratch, "next.txt", first..first + scale.entries)?;
        let import_first = turn % 2 == 1;
        let before = if import_first {
            None
        } else {
            Some(rest(&mut client)?)
        };
        let (among, import) = during(&mut client, || import(daemon, &file, scale.fresh))?;
        let alone = match before {
            Some(took) => took,
            None => rest(&mut client)?,
        };
        imported_for += import;
        let (alone_ms, among_ms) = (quantile(&alone, 0.99), quantile(&among, 0.99));
        growths.push(among_ms / alone_ms - 1.0);
        eprintln!("bench-lists: turn {turn}: p99 {alone_ms:.2} ms, importing {among_ms:.2} ms");
        quiet.extend(alone);
        importing.extend(among);
    }
    if scale.entries >= 1_000_000 && quiet.len().min(importing.len()) < LEAST {
        return Err(RigError(format!(
            "{} and {} requests are too few",
            quiet.len(),
            importing.len()
        )));
    }
    Ok(Meanwhile {
        growth: median(&growths),
        quiet_p99_ms: quantile(&quiet, 0.99),
        importing_p99_ms: quantile(&importing, 0.99),
        imports: scale.turns,
        import_seconds: imported_for.as_secs_f64() / f64::from(scale.turns),
    })
}

/// One import, and how long it took.
fn import(daemon: &Daemon, file: &str, fresh: u32) -> Rigged<Duration> {
    let begin = Instant::now();
    let reply = daemon.ask(&["block", "import", file, "--list", LIST])?;
    if reply["added"] != fresh || reply["changed"] != fresh {
        return Err(RigError(format!("an import that wasn't one: {reply}")));
    }
    Ok(begin.elapsed())
}

/// What requests take while something is done.
fn during<T: Send>(client: &mut Client, work: impl FnOnce() -> Rigged<T>) -> Rigged<(Vec<f64>, T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| client.keep_asking(&stop));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let took = asking
            .join()
            .map_err(|_| RigError("the client panicked".to_owned()))??;
        Ok((took, done?))
    })
}
