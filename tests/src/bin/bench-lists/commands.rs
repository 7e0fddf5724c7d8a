//! How long commands take, process start included.

use std::{
    io::Read as _,
    process::Stdio,
    time::{Duration, Instant},
};

use portcullis_tests::{
    daemon::Daemon,
    figures::quantile,
    run::{RigError, Rigged, eventually, succeed},
};

/// `block list`, read to its end.
pub(crate) fn list(daemon: &Daemon, list: &str, entries: u32) -> Rigged<Duration> {
    let begin = Instant::now();
    let mut child = daemon
        .ask_command(&["block", "list", "--list", list])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut printed)?;
    }
    let status = child.wait()?;
    let took = begin.elapsed();
    let shown = printed.matches("\"prefix\":").count();
    if !status.success() || shown != entries as usize || !printed.ends_with("]}\n") {
        return Err(RigError(format!(
            "{status}, and {shown} entries were shown"
        )));
    }
    Ok(took)
}

/// Milliseconds of each of so many commands; each must succeed.
pub(crate) fn each(
    daemon: &Daemon,
    count: u32,
    words: impl Fn(u32) -> Vec<String>,
) -> Rigged<Vec<f64>> {
    let mut took = Vec::new();
    for number in 0..count {
        let words = words(number);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let begin = Instant::now();
        succeed(&mut daemon.ask_command(&words))?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

/// Milliseconds of `feed refresh` of a file that hasn't changed, the median of a few.
pub(crate) fn refresh_unchanged(daemon: &Daemon, file: &str, entries: u32) -> Rigged<f64> {
    daemon.ask(&["feed", "add", "followed", "--file", file])?;
    eventually("the file is followed", Duration::from_secs(60), || {
        let feed = daemon.ask(&["feed", "show", "followed"]).ok()?;
        (feed["entries"] == entries && feed["state"] == "good").then_some(())
    })?;
    let mut took = Vec::new();
    for _ in 0..9 {
        let begin = Instant::now();
        let reply = daemon.ask(&["feed", "refresh", "followed"])?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
        if reply["state"] != "unchanged" {
            return Err(RigError(format!("it was read anew: {reply}")));
        }
    }
    Ok(quantile(&took, 0.5))
}
