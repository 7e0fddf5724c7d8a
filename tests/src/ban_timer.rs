//! How long from the command to the first dropped packet.

use std::time::{Duration, Instant};

use datapath::PinnedCounters;
use proxy_common::Reason;

use crate::{
    daemon::Daemon,
    run::{RigError, Rigged},
};

/// Longest wait for a drop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `portcullis block add ADDRESS --ttl 1h` against a source that is sending, and returns the
/// time from before the command was started to when the kernel had counted a banned packet.
///
/// # Errors
/// When the command fails, or no packet is dropped in time.
pub fn time_ban(daemon: &Daemon, counters: &PinnedCounters, address: &str) -> Rigged<Duration> {
    let before = banned(counters)?;
    let start = Instant::now();
    let mut command = daemon
        .ask_command(&["block", "add", address, "--ttl", "1h"])
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let mut first_drop = None;
    while first_drop.is_none() && start.elapsed() < PATIENCE {
        if banned(counters)? > before {
            first_drop = Some(start.elapsed());
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    let status = command.wait()?;
    if !status.success() {
        return Err(RigError(format!("block add {address} ended with {status}")));
    }
    first_drop.ok_or_else(|| RigError(format!("no packet of {address} was dropped")))
}

fn banned(counters: &PinnedCounters) -> Rigged<u64> {
    counters
        .packets(Reason::Banned)
        .map_err(|error| RigError(error.to_string()))
}
