//! How long the CPU worked on packets, on a machine that does other things too.
//!
//! The kernel's own clock of a live-frame run (`bpf_test_timer_continue`, net/bpf/test_run.c)
//! runs while frames are made and, as softirqs are run when a batch ends, while they are received.
//! It stands still while the generator makes way for others, and it leaves out what comes before
//! and after: giving back the pages of a run alone takes 20 ms of sleep. What ksoftirqd has taken
//! over of the receiving is added.

use std::{fs, io, path::PathBuf, time::Duration};

/// Where the kernel keeps the times of one CPU's ksoftirqd.
#[derive(Clone, Debug)]
pub(crate) struct SoftirqThread(PathBuf);

impl SoftirqThread {
    /// Looks for it among all processes.
    ///
    /// # Errors
    /// When it isn't there, as in a PID namespace, or /proc can't be read.
    pub(crate) fn of(cpu: usize) -> io::Result<Self> {
        let name = format!("ksoftirqd/{cpu}");
        for process in fs::read_dir("/proc")? {
            let process = process?.path();
            if fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim() == name) {
                return Ok(Self(process.join("schedstat")));
            }
        }
        let why = format!("no {name} in /proc: is this a PID namespace?");
        Err(io::Error::new(io::ErrorKind::NotFound, why))
    }

    /// How long it has run since the machine started.
    ///
    /// # Errors
    /// When the kernel doesn't tell (`CONFIG_SCHED_INFO`).
    pub(crate) fn ran(&self) -> io::Result<Duration> {
        let text = fs::read_to_string(&self.0)?;
        parse(&text).ok_or_else(|| {
            let why = format!("{}: {text:?} doesn't begin with a time", self.0.display());
            io::Error::new(io::ErrorKind::InvalidData, why)
        })
    }
}

/// Nanoseconds on a CPU, nanoseconds in its queue, time slices
/// (Documentation/scheduler/sched-stats.rst).
fn parse(text: &str) -> Option<Duration> {
    let ran_ns = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ran_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_how_long_a_thread_ran() {
        let ran = Duration::from_nanos(1_415_341_079);
        assert_eq!(parse("1415341079 13383751521 37660\n"), Some(ran));
        assert_eq!(parse(""), None);
        assert_eq!(parse("a b c"), None);
    }
}
