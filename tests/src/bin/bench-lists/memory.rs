//! What the daemon holds.

use std::{fs, time::Duration};

use portcullis_tests::run::{RigError, Rigged, eventually};

/// Longest wait until memory stays as it is.
const PATIENCE: Duration = Duration::from_secs(15);

/// Memory of a process in MiB, as the kernel accounts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// `VmRSS` of proc_pid_status(5).
    pub(crate) rss_mib: f64,
    /// `RssAnon`: heap and stacks.
    pub(crate) anon_mib: f64,
    /// `VmHWM`.
    pub(crate) peak_mib: f64,
    /// Resident pages of mapped BPF maps (proc_pid_smaps(5)), which are in `VmRSS` too.
    pub(crate) tables_mib: f64,
}

/// What an allocator takes and gives back all the time.
const JITTER_MIB: f64 = 1.0;

impl Memory {
    /// As soon as the heap has been the same for a second, but for what jitters.
    pub(crate) fn settled(pid: u32) -> Rigged<Self> {
        let (mut last, mut same) = (0.0_f64, 0);
        eventually("the daemon's memory settles", PATIENCE, || {
            std::thread::sleep(Duration::from_millis(100));
            let now = Self::of(pid).ok()?;
            if (now.anon_mib - last).abs() < JITTER_MIB {
                same += 1;
            } else {
                (last, same) = (now.anon_mib, 0);
            }
            (same >= 10).then_some(now)
        })
    }

    /// Without the kernel's tables.
    pub(crate) fn own_mib(self) -> f64 {
        self.rss_mib - self.tables_mib
    }

    fn of(pid: u32) -> Rigged<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
        let field = |name: &str| {
            kib(&status, name)
                .next()
                .map(|kib| kib / 1024.0)
                .ok_or_else(|| RigError(format!("no {name} of process {pid}")))
        };
        Ok(Self {
            rss_mib: field("VmRSS:")?,
            anon_mib: field("RssAnon:")?,
            peak_mib: field("VmHWM:")?,
            tables_mib: tables_kib(&smaps) / 1024.0,
        })
    }
}

fn kib<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = f64> + 't {
    text.lines().filter_map(move |line| {
        let value = line.strip_prefix(name)?.trim().strip_suffix(" kB")?;
        value.parse().ok()
    })
}

/// `Rss` of each mapping whose header names a BPF map.
fn tables_kib(smaps: &str) -> f64 {
    let mut total = 0.0;
    let mut of_table = false;
    for line in smaps.lines() {
        let is_header = line
            .split(' ')
            .next()
            .is_some_and(|word| word.contains('-'));
        if is_header {
            of_table = line.contains("bpf-map");
        } else if of_table {
            total += kib(line, "Rss:").sum::<f64>();
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mapped_tables_are_counted_as_tables() {
        let smaps = "7f00-7f10 rw-s 00000000 00:0e 1 anon_inode:bpf-map\nSize: 99 kB\n\
            Rss: 64 kB\n7f20-7f30 rw-p 00000000 00:00 0 [heap]\nRss: 1000 kB\n\
            7f40-7f50 rw-s 00000000 00:0e 1 anon_inode:bpf-map\nRss: 8 kB\n";
        assert_eq!(tables_kib(smaps), 72.0);
    }
}
