//! What a process has cost so far: core time and memory, as the kernel accounts them.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use portcullis_tests::run::{RigError, Rigged, eventually};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};

/// The core that the proxy under test has for itself.
pub(crate) const PROXY_CORE: usize = 0;
/// The core of load and upstream.
const LOAD_CORE: usize = 1;
/// Ticks of the times in /proc/PID/stat: `USER_HZ`, 100 on every architecture that we build for.
const TICK: Duration = Duration::from_millis(10);
/// How long a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(15);
/// Open files that 1,000 connections on both sides take, and then some.
const FILES: u64 = 16_384;

/// Puts this process, and whatever it starts, on the core of the load, and lets all of them have as
/// many files as the connections take.
pub(crate) fn take_place() -> Rigged<()> {
    let mut cores = CpuSet::new();
    cores.set(LOAD_CORE);
    sched_setaffinity(None, &cores).map_err(|error| {
        RigError(format!(
            "core {LOAD_CORE}: {error}; the bench takes two cores"
        ))
    })?;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|now| now < FILES) {
        let raised = Rlimit {
            current: Some(maximum.map_or(FILES, |most| most.min(FILES))),
            maximum,
        };
        setrlimit(Resource::Nofile, raised)
            .map_err(|error| RigError(format!("{FILES} open files: {error}")))?;
    }
    Ok(())
}

/// How long the proxy's core has worked for anybody, since the machine started.
pub(crate) fn proxy_core_worked() -> Rigged<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    worked(&text, PROXY_CORE).ok_or_else(|| RigError(format!("no core {PROXY_CORE} in {text:?}")))
}

/// `user`, `nice`, `system`, `irq`, `softirq` and `steal` of a core (proc_stat(5)).
fn worked(stat: &str, core: usize) -> Option<Duration> {
    let begin = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&begin))?;
    let ticks: Vec<u32> = line
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    // The fourth and fifth are idle time, and those behind the eighth are in the first two as well.
    let working: u32 = ticks.get(..3)?.iter().chain(ticks.get(5..8)?).sum();
    Some(TICK * working)
}

/// A command whose process has the proxy's core and no other. `taskset` becomes the program, so that
/// the process id is the program's.
pub(crate) fn on_proxy_core(program: PathBuf) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &PROXY_CORE.to_string()]).arg(program);
    command
}

/// A program that serves; killed when dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
}

impl Serving {
    /// Starts it and waits until it listens. `log` is where it says what is wrong.
    pub(crate) fn start(
        command: &mut Command,
        address: SocketAddr,
        log: &std::path::Path,
    ) -> Rigged<Self> {
        let mut serving = Self {
            child: command
                .spawn()
                .map_err(|error| RigError(format!("{command:?}: {error}")))?,
        };
        let mut ended = None;
        let up = eventually("it listens", PATIENCE, || {
            ended = serving.child.try_wait().ok().flatten();
            let up = std::net::TcpStream::connect(address).is_ok();
            (ended.is_some() || up).then_some(())
        });
        if let (Ok(()), None) = (up, ended) {
            return Ok(serving);
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(RigError(format!("{command:?} did not start: {said}")))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Core time of all its threads, those that have ended too, in user mode and in the kernel.
    pub(crate) fn core_time(&self) -> Rigged<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        core_time(&text).ok_or_else(|| RigError(format!("no times in {text:?}")))
    }

    /// `VmRSS` of proc_pid_status(5), in MiB.
    pub(crate) fn rss_mib(&self) -> Rigged<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: Option<f64> =
            line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        kib.map(|kib| kib / 1024.0)
            .ok_or_else(|| RigError(format!("no VmRSS in {text:?}")))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `utime` and `stime`, the 14th and 15th field of proc_pid_stat(5). The second field is the
/// program's name, which may hold anything, also spaces and parentheses.
fn core_time(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut fields = behind_name.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194560 9 0 0 0 120 35 0 0 20 0 4 0 99 1 2";
        assert_eq!(core_time(stat), Some(Duration::from_millis(1_550)));
        assert_eq!(core_time("7 (a"), None);
    }

    #[test]
    fn a_core_that_waits_does_not_work() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 400 500 6 7 8 9 10\ncpu1 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(worked(stat, 0), Some(TICK * 27));
        assert_eq!(worked(stat, 2), None);
    }
}
