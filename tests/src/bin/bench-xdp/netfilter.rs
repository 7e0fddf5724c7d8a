//! The kernel's own packet filters on a lane: nftables at ingress, ipset in the raw table. They
//! work on socket buffers, which the kernel has made of the frames by then.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use ipnet::IpNet;
use portcullis_tests::{
    loaded::Failure,
    run::{RigError, run},
};
use serde_json::Value;

use crate::{
    lanes::Lane,
    subject::{Judge, Seen},
};

/// How nftables holds the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// A hash of addresses.
    Exact,
    /// A tree of intervals.
    Interval,
}

/// A table of the netdev family that drops everything, what is on the list first.
pub(crate) struct Nft {
    total: Seen,
    table: &'static str,
}

impl Nft {
    /// Fills the set and hooks it to the lane.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub(crate) fn hook(lane: &Lane, set: Set, entries: &[IpNet]) -> Result<Self, Failure> {
        let (table, flags) = match set {
            Set::Exact => ("exact_set", String::new()),
            Set::Interval => ("interval_set", "flags interval; auto-merge;".to_owned()),
        };
        let mut rules = format!(
            "table netdev {table} {{\n\
             set blocked {{ type ipv4_addr; {flags} }}\n\
             counter listed {{}}\ncounter rest {{}}\n\
             chain ingress {{\ntype filter hook ingress device \"{}\" priority 0;\n\
             ip saddr @blocked counter name listed drop\ncounter name rest drop\n}}\n}}\n",
            lane.inner
        );
        for chunk in entries.chunks(50_000) {
            let elements: Vec<String> = chunk.iter().map(|entry| element(entry, set)).collect();
            writeln!(
                rules,
                "add element netdev {table} blocked {{ {} }}",
                elements.join(",")
            )?;
        }
        feed("nft", &["-f", "-"], &rules)?;
        Ok(Self {
            table,
            total: Seen::default(),
        })
    }
}

fn element(entry: &IpNet, set: Set) -> String {
    match set {
        Set::Exact => entry.addr().to_string(),
        Set::Interval => entry.to_string(),
    }
}

impl Nft {
    /// What a counter has counted since it was asked before. Asked to list one, `nft` 1.0 first
    /// reads every element of every set; asked to reset one, it doesn't.
    fn counted(&self, counter: &str) -> Result<u64, Failure> {
        let printed = run(
            "nft",
            ["-j", "reset", "counter", "netdev", self.table, counter],
        )?;
        let told: Value = serde_json::from_str(&printed)?;
        told["nftables"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|object| object["counter"]["packets"].as_u64())
            .ok_or_else(|| format!("nft names no counter {counter}: {printed}").into())
    }
}

impl Judge for Nft {
    fn seen(&mut self) -> Result<Option<Seen>, Failure> {
        self.total.clean += self.counted("rest")?;
        self.total.blocked += self.counted("listed")?;
        Ok(Some(self.total))
    }
}

/// A set of the kind hash:net and two rules in the raw table that drop everything.
pub(crate) struct IpSet {
    inner: String,
}

impl IpSet {
    /// Fills the set and adds the rules for the lane.
    ///
    /// # Errors
    /// When `ipset` or `iptables` refuses.
    pub(crate) fn hook(lane: &Lane, entries: &[IpNet]) -> Result<Self, Failure> {
        let mut lines = format!(
            "create blocked hash:net family inet hashsize {} maxelem {}\n",
            entries.len().next_power_of_two(),
            entries.len().max(1)
        );
        for entry in entries {
            writeln!(lines, "add blocked {entry}")?;
        }
        feed("ipset", &["restore"], &lines)?;
        let rule = ["-w", "-t", "raw", "-A", "PREROUTING", "-i", &lane.inner];
        let on_list = ["-m", "set", "--match-set", "blocked", "src"];
        run(
            "iptables",
            rule.iter().chain(&on_list).chain(&["-j", "DROP"]),
        )?;
        run("iptables", rule.iter().chain(&["-j", "DROP"]))?;
        Ok(Self {
            inner: lane.inner.clone(),
        })
    }
}

impl Judge for IpSet {
    fn seen(&mut self) -> Result<Option<Seen>, Failure> {
        let list = ["-w", "-t", "raw", "-L", "PREROUTING", "-v", "-x", "-n"];
        let printed = run("iptables", list)?;
        let mut packets = printed
            .lines()
            .filter(|line| line.split_whitespace().any(|word| word == self.inner))
            .filter_map(|line| line.split_whitespace().next()?.parse().ok());
        let (Some(blocked), Some(clean)) = (packets.next(), packets.next()) else {
            return Err(format!("iptables lists other rules than ours: {printed}").into());
        };
        Ok(Some(Seen {
            clean,
            blocked,
            ..Seen::default()
        }))
    }
}

/// Runs a program on this input.
fn feed(program: &str, args: &[&str], input: &str) -> Result<(), Failure> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| RigError(format!("{program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let start: String = said.chars().take(500).collect();
        return Err(format!("{program} {args:?}: {}: {start}", output.status).into());
    }
    Ok(())
}
