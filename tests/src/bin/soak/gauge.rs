//! What the proxy holds: memory, descriptors, threads, tasks.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use portcullis_tests::run::{RigError, Rigged, eventually};

/// One look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    /// `VmRSS` of proc_pid_status(5).
    pub(crate) rss_mib: f64,
    pub(crate) files: u64,
    pub(crate) threads: u64,
    /// Of all its runtimes.
    pub(crate) tasks: u64,
}

impl Held {
    /// What a process holds now; its listener for those who watch is there.
    pub(crate) fn of(pid: u32, observe: SocketAddr) -> Rigged<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.ok_or_else(|| RigError(format!("no {name} of process {pid}")))
        };
        let mut tasks = None;
        for line in metrics(observe)?.lines() {
            if let Some(sample) = line.strip_prefix("portcullis_tasks{") {
                let value = sample
                    .rsplit(' ')
                    .next()
                    .and_then(|it| it.parse::<u64>().ok());
                tasks = tasks
                    .unwrap_or(Some(0))
                    .zip(value)
                    .map(|(sum, it)| Some(sum + it));
            }
        }
        Ok(Self {
            rss_mib: field("VmRSS:")? as f64 / 1024.0,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            threads: field("Threads:")?,
            tasks: tasks
                .flatten()
                .ok_or_else(|| RigError("no portcullis_tasks are counted".to_owned()))?,
        })
    }

    /// As soon as it has held no more of anything for a while.
    pub(crate) fn at_rest(pid: u32, observe: SocketAddr, patience: Duration) -> Rigged<Self> {
        const REST: Duration = Duration::from_secs(3);
        let mut least = Self::of(pid, observe)?;
        let mut since = Instant::now();
        eventually("the proxy comes to rest", patience, || {
            std::thread::sleep(Duration::from_millis(250));
            let now = Self::of(pid, observe).ok()?;
            if now.counts() != least.counts() {
                (least, since) = (now, Instant::now());
            }
            (since.elapsed() > REST).then_some(now)
        })
    }

    /// All but the memory.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [self.files, self.threads, self.tasks]
    }

    /// Whether it holds no more than then of anything but memory.
    pub(crate) fn no_more_than(&self, then: &Self) -> bool {
        let pairs = self.counts().into_iter().zip(then.counts());
        pairs.into_iter().all(|(now, then)| now <= then)
    }
}

fn metrics(observe: SocketAddr) -> Rigged<String> {
    let mut stream = TcpStream::connect(observe)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
