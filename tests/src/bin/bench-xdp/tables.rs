//! How fast lists reach the kernel, and what they hold there.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Instant,
};

use portcullis_tests::{
    figures::quantile,
    frames::{IPV4, UDP, ethernet, ipv4, udp},
    loaded::Failure,
    public_list,
    scratch::Scratch,
};

use crate::{
    lists::{Entry, hosts_v4, mixed_v6},
    ours::{Onward, Ours, Rate},
    scale::Scale,
};

/// Nobody reaches it.
const RATE: Rate = Rate {
    per_second: 1_000_000,
    burst: 1_000_000,
};

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    /// From the file of the largest list to its last entry in force.
    pub(crate) load_seconds: f64,
    /// From a file with every tenth entry replaced to the last of them in force.
    pub(crate) reload_seconds: f64,
    /// From the call that adds an entry to the first dropped packet, 99 of 100.
    pub(crate) add_p99_ms: f64,
    /// The same, every other one.
    pub(crate) add_p50_ms: f64,
    /// Kernel memory with the largest list of IPv4 hosts.
    pub(crate) kernel_mib: f64,
    /// Kernel memory with the largest list of IPv6 prefixes.
    pub(crate) kernel_mib_v6: f64,
    /// Kernel memory with a public list; `None` where it isn't at hand.
    pub(crate) kernel_mib_ipsum: Option<f64>,
}

/// Runs all of them.
///
/// # Errors
/// When a part of the rig fails, or a premise doesn't hold.
pub(crate) fn measure(scale: &Scale) -> Result<Tables, Failure> {
    let count = scale.largest();
    let replaced = count / 10;
    let hosts = hosts_v4(count + replaced + scale.additions);
    let (listed, rest) = hosts.split_at(count);
    let (fresh, unlisted) = rest.split_at(replaced);
    let kept = &listed[replaced..];

    let scratch = Scratch::new()?;
    let first = scratch.write("first", text(listed.iter()))?;
    let second = scratch.write("second", text(kept.iter().chain(fresh)))?;

    let mut ours = Ours::start(RATE, Onward::ToTheStack, &[])?;
    let load_seconds = in_force(&mut ours, &first, listed)?;
    if ours.entries() != count {
        return Err(format!("{} of {count} entries are loaded", ours.entries()).into());
    }
    let kernel_mib = mib(ours.kernel_bytes()?);
    let reload_seconds = in_force(&mut ours, &second, fresh)?;
    for gone in listed[..replaced].iter().step_by(100) {
        if ours.drops(&frame(gone.member))? {
            return Err(format!("{} is dropped although it was taken off", gone.member).into());
        }
    }
    let additions = add(&mut ours, unlisted)?;
    drop(ours);

    let v6: Vec<Entry<Ipv6Addr>> = mixed_v6(count);
    let mut ours = Ours::start(RATE, Onward::ToTheStack, &[])?;
    ours.set_list(v6.iter().map(|entry| entry.prefix).collect())?;
    let kernel_mib_v6 = mib(ours.kernel_bytes()?);
    drop(ours);
    Ok(Tables {
        load_seconds,
        reload_seconds,
        add_p99_ms: quantile(&additions, 0.99),
        add_p50_ms: quantile(&additions, 0.5),
        kernel_mib,
        kernel_mib_v6,
        kernel_mib_ipsum: ipsum()?,
    })
}

/// Seconds until the kernel drops the last of these; then looks at a hundredth of all.
fn in_force(ours: &mut Ours, file: &Path, new: &[Entry<Ipv4Addr>]) -> Result<f64, Failure> {
    let last = frame(new.last().ok_or("an empty list")?.member);
    if ours.drops(&last)? {
        return Err("the last entry is dropped before it is loaded".into());
    }
    let start = Instant::now();
    ours.set_list_from(file)?;
    let dropped = ours.drops(&last)?;
    let took = start.elapsed().as_secs_f64();
    for entry in new.iter().step_by(100) {
        if !dropped || !ours.drops(&frame(entry.member))? {
            return Err(format!("{} is loaded and not dropped", entry.member).into());
        }
    }
    Ok(took)
}

/// Milliseconds from the call to the drop, each entry taken back again.
fn add(ours: &mut Ours, entries: &[Entry<Ipv4Addr>]) -> Result<Vec<f64>, Failure> {
    let mut times = Vec::with_capacity(entries.len());
    for entry in entries {
        let frame = frame(entry.member);
        if ours.drops(&frame)? {
            return Err(format!("{} is dropped before it is added", entry.member).into());
        }
        let start = Instant::now();
        ours.add(entry.prefix)?;
        while !ours.drops(&frame)? {
            if start.elapsed().as_secs() > 5 {
                return Err(format!("{} is added and not dropped", entry.member).into());
            }
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
        ours.remove(entry.prefix)?;
    }
    Ok(times)
}

fn ipsum() -> Result<Option<f64>, Failure> {
    let Some(path) = public_list::ipsum("kernel_mib_ipsum") else {
        return Ok(None);
    };
    let mut ours = Ours::start(RATE, Onward::ToTheStack, &[])?;
    ours.set_list_from(path)?;
    if ours.entries() < 100_000 {
        return Err(format!("{} has only {} entries", path.display(), ours.entries()).into());
    }
    Ok(Some(mib(ours.kernel_bytes()?)))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn frame(source: Ipv4Addr) -> Vec<u8> {
    ethernet(IPV4, &ipv4(source.octets(), UDP, &udp(&[0; 18])))
}

fn text<'a>(entries: impl Iterator<Item = &'a Entry<Ipv4Addr>>) -> String {
    let mut text = String::new();
    for entry in entries {
        // A string takes whatever is written.
        let _ = writeln!(text, "{}", entry.member);
    }
    text
}
