//! Requests while imports run, and without, by turns.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    daemon::Daemon,
    figures::quantile,
    run::{RigError, Rigged},
    scene::Scene,
};

use crate::{LIST, Scale, hosts, requests::Client};

/// Least length of a turn.
const TURN: Duration = Duration::from_secs(4);

/// Least requests of each kind: of 1,000, ten are slower than the 99th of a hundred.
const LEAST: usize = 1_000;

/// What came of all turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meanwhile {
    /// How much longer the 99th of 100 requests takes while lists are imported, as a share.
    pub(crate) growth: f64,
    pub(crate) quiet_p99_ms: f64,
    pub(crate) importing_p99_ms: f64,
    pub(crate) imports: u32,
    /// Of an import, on average.
    pub(crate) import_seconds: f64,
}

/// Imports follow each other without a pause, each of a list of `scale.entries` hosts, of which
/// `scale.fresh` are new.
pub(crate) fn measure(scene: &Scene, daemon: &Daemon, scale: Scale) -> Rigged<Meanwhile> {
    let mut client = Client::connect(scene)?;
    let (mut quiet, mut importing) = (Vec::new(), Vec::new());
    let (mut imports, mut imported_for) = (0, Duration::ZERO);
    // What is first done for a connection isn't what is measured.
    during(&mut client, || {
        thread::sleep(TURN / 4);
        Ok(())
    })?;
    for turn in 0..scale.turns {
        let (took, ()) = during(&mut client, || {
            thread::sleep(TURN);
            Ok(())
        })?;
        quiet.extend(&took);
        let quiet_ms = quantile(&took, 0.99);
        let begin = Instant::now();
        let mut among = Vec::new();
        while begin.elapsed() < TURN {
            imports += 1;
            let first = imports * scale.fresh;
            let file = hosts::file(&scene.scratch, "next.txt", first..first + scale.entries)?;
            let (took, import) = during(&mut client, || {
                let begin = Instant::now();
                let reply = daemon.ask(&["block", "import", &file, "--list", LIST])?;
                if reply["added"] != scale.fresh || reply["changed"] != scale.fresh {
                    return Err(RigError(format!("an import that wasn't one: {reply}")));
                }
                Ok(begin.elapsed())
            })?;
            imported_for += import;
            among.extend(took);
        }
        let importing_ms = quantile(&among, 0.99);
        eprintln!("bench-lists: turn {turn}: p99 {quiet_ms:.2} ms, importing {importing_ms:.2} ms");
        importing.extend(among);
    }
    if scale.entries >= 1_000_000 && quiet.len().min(importing.len()) < LEAST {
        return Err(RigError(format!(
            "{} and {} requests are too few",
            quiet.len(),
            importing.len()
        )));
    }
    let (quiet_p99_ms, importing_p99_ms) = (quantile(&quiet, 0.99), quantile(&importing, 0.99));
    Ok(Meanwhile {
        growth: importing_p99_ms / quiet_p99_ms - 1.0,
        quiet_p99_ms,
        importing_p99_ms,
        imports,
        import_seconds: imported_for.as_secs_f64() / f64::from(imports),
    })
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
