//! The main job, end to end, on the real kernel with a real upstream and a real client:
//! `cargo xtask demo [--keep]`.
//!
//! One process plays, another cleans up after it. The player may be interrupted, may panic, may
//! be killed: the cleaner knows the names of all that was made and removes it.

mod acts;
mod report;

use std::{
    path::Path,
    process::{Command, ExitCode},
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use portcullis_tests::{
    netns::remove_namespace,
    privilege::why_no_kernel,
    run::{Rigged, run},
    scratch::unique_name,
};

/// Tells the player the names it is to use.
const PREFIX_VARIABLE: &str = "PORTCULLIS_DEMO_PREFIX";

fn main() -> ExitCode {
    let keep = std::env::args().any(|arg| arg == "--keep");
    match std::env::var(PREFIX_VARIABLE) {
        Ok(prefix) => play(&prefix, keep),
        Err(_) => supervise(),
    }
}

/// Starts the player, waits for its end however it comes, and removes what it left.
fn supervise() -> ExitCode {
    if let Some(why) = why_no_kernel() {
        eprintln!("demo: {why}");
        return ExitCode::FAILURE;
    }
    let prefix = unique_name();
    match supervise_as(&prefix) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise_as(prefix: &str) -> Rigged<bool> {
    // Ctrl-C reaches the player by itself; here it must not end the cleaner.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let mut player = Command::new(std::env::current_exe()?)
        .args(std::env::args().skip(1))
        .env(PREFIX_VARIABLE, prefix)
        .spawn()?;
    let status = player.wait();
    clean_up(prefix);
    Ok(status?.success())
}

/// Removes all that a player of this prefix may have left.
fn clean_up(prefix: &str) {
    let namespaces = run("ip", ["netns", "list"]).unwrap_or_default();
    for name in namespaces.lines().filter_map(|line| line.split(' ').next()) {
        if name.starts_with(&format!("{prefix}-")) {
            remove_namespace(name);
        }
    }
    let folder = std::env::temp_dir().join(prefix);
    unmount_under(&folder);
    if folder.exists()
        && let Err(error) = std::fs::remove_dir_all(&folder)
    {
        eprintln!("demo: {} is left behind: {error}", folder.display());
    }
}

fn unmount_under(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(point).starts_with(folder)
            && let Err(error) = run("umount", [point])
        {
            eprintln!("demo: {point} is left mounted: {error}");
        }
    }
}

fn play(prefix: &str, keep: bool) -> ExitCode {
    let start = Instant::now();
    let mut report = report::Report::default();
    let played = acts::play(prefix, keep, &mut report);
    println!("\n{}", report.table());
    println!("played in {:.1} s", start.elapsed().as_secs_f64());
    match played {
        Ok(()) if report.all_as_expected() => {
            println!("everything was as expected");
            ExitCode::SUCCESS
        }
        Ok(()) => {
            println!("SOMETHING DIFFERED");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("THE DEMO BROKE OFF: {error}");
            ExitCode::FAILURE
        }
    }
}
