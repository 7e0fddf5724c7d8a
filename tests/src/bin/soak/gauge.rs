//! What the proxy holds: memory, descriptors, threads, tasks.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use portcullis_tests::run::{RigError, Rigged, eventually};

/// Two of these are longer than the runtime keeps a thread that has nothing to do (10 s), and the proxy a
/// connection to a service that nobody uses (5 s, as it is configured here).
const STRETCH: Duration = Duration::from_secs(6);

/// The runtime has threads that wait for disks, as many as work at the same moment and each for as long as it has
/// had work within 10 s; files are looked at each second.
pub(crate) const SPARE_THREADS: u64 = 3;

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
        let [files, threads] = counts(pid)?;
        Ok(Self {
            rss_mib: number(pid, "VmRSS:")? as f64 / 1024.0,
            files,
            threads,
            tasks: tasks(&metrics(observe)?)?,
        })
    }

    /// As soon as it lets go of nothing more: the least of what it holds, for it asks services all the time
    /// whether they are well. The metrics aren't asked meanwhile, which would keep a thread busy.
    pub(crate) fn at_rest(pid: u32, observe: SocketAddr, patience: Duration) -> Rigged<Self> {
        let least = || -> Rigged<[u64; 2]> {
            let (mut least, begin) = (counts(pid)?, Instant::now());
            while begin.elapsed() < STRETCH {
                std::thread::sleep(Duration::from_millis(100));
                let now = counts(pid)?;
                least = [least[0].min(now[0]), least[1].min(now[1])];
            }
            Ok(least)
        };
        let mut before = least()?;
        let [files, threads] = eventually("the proxy comes to rest", patience, || {
            let now = least().ok()?;
            let rests = now == before;
            before = now;
            rests.then_some(now)
        })?;
        let mut held = Self::of(pid, observe)?;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(50));
            held.tasks = held.tasks.min(tasks(&metrics(observe)?)?);
        }
        Ok(Self {
            files,
            threads,
            ..held
        })
    }
}

/// Descriptors and threads of a process.
fn counts(pid: u32) -> Rigged<[u64; 2]> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    Ok([files, number(pid, "Threads:")?])
}

fn number(pid: u32, name: &str) -> Rigged<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| RigError(format!("no {name} of process {pid}")))
}

/// Tasks of all runtimes.
fn tasks(metrics: &str) -> Rigged<u64> {
    let samples = metrics
        .lines()
        .filter(|line| line.starts_with("portcullis_tasks{"));
    let values: Option<Vec<u64>> = samples
        .map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    let values = values.filter(|values| !values.is_empty());
    let values = values.ok_or_else(|| RigError("no portcullis_tasks are counted".to_owned()))?;
    Ok(values.iter().sum())
}

fn metrics(observe: SocketAddr) -> Rigged<String> {
    let mut stream = TcpStream::connect(observe)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
