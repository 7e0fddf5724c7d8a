//! What a process costs: processor time and memory, as the kernel counts them.

use std::{fs, time::Duration};

use crate::{
    daemon::Daemon,
    run::{RigError, Rigged},
};

/// USER_HZ is 100 wherever Linux runs today: part of the kernel's ABI, whatever its own tick is.
const TICK_MILLIS: u64 = 10;

/// A process's costs so far.
#[derive(Clone, Copy, Debug)]
pub struct Burden {
    /// In user and kernel mode, all threads together.
    pub processor: Duration,
    /// Bytes of memory that are resident.
    pub resident: u64,
}

impl Burden {
    /// What the daemon costs up to now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn of(daemon: &Daemon) -> Rigged<Self> {
        let pid = daemon.pid();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let unread = || RigError(format!("the costs of process {pid}: {stat}{status}"));
        // proc_pid_stat(5): the name, which is field 2, may hold anything but ends with the last `)`.
        let fields = stat.rsplit(')').next().ok_or_else(unread)?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(Self {
            processor: Duration::from_millis(ticks * TICK_MILLIS),
            resident: kib.ok_or_else(unread)? * 1024,
        })
    }

    /// What came to it after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            processor: self.processor.saturating_sub(earlier.processor),
            resident: self.resident.saturating_sub(earlier.resident),
        }
    }
}
