//! What the daemon says that it blocks, and what the kernel drops.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use proxy_common::{
    Cell,
    abi::{LISTS_V4, Line},
    table::{Code, FRONT_LINES, HEADER_LINES, Lines as _, code, v4},
};

use crate::{
    daemon::Daemon,
    pinned::PinnedTable,
    run::{RigError, Rigged},
    scene::Scene,
};

/// Blocked prefixes as the daemon shows them, with the milliseconds they have left; none of those that
/// are blocked for good.
///
/// # Errors
/// When the command fails.
pub fn listed(daemon: &Daemon) -> Rigged<BTreeMap<String, Option<u64>>> {
    let listed = daemon.ask(&["block", "list"])?;
    let entries = listed["entries"]
        .as_array()
        .ok_or_else(|| RigError(format!("no entries: {listed}")))?;
    Ok(entries
        .iter()
        .filter_map(|entry| {
            let prefix = entry["prefix"].as_str()?.to_owned();
            Some((prefix, entry["left_ms"].as_u64()))
        })
        .collect())
}

/// IPv4 prefixes that have a cell of their own in the kernel by which they are dropped.
///
/// # Errors
/// When the table can't be read.
pub fn in_kernel(scene: &Scene) -> Rigged<BTreeSet<String>> {
    let table = PinnedTable::open(&scene.pins, LISTS_V4).map_err(told)?;
    Ok(v4::cells(&table)
        .filter(|(_, cell)| cell.flags & Cell::ENFORCED != 0)
        .map(|((address, length), _)| format!("{}/{length}", Ipv4Addr::from_bits(address)))
        .collect())
}

/// /24s of which the front of the kernel's IPv4 table says that something in them may be dropped.
///
/// # Errors
/// When the table can't be read.
pub fn blocks_in_kernel(scene: &Scene) -> Rigged<BTreeSet<u32>> {
    let table = PinnedTable::open(&scene.pins, LISTS_V4).map_err(told)?;
    let mut lines = vec![Line([0; 8]); (HEADER_LINES + FRONT_LINES) as usize];
    for (index, line) in (0..).zip(&mut lines) {
        *line = table
            .line(index)
            .ok_or_else(|| RigError(format!("no line {index} of the front")))?;
    }
    // What keeps the host reachable is trusted, and lies in /24s of its own here.
    let trusted: BTreeSet<u32> = v4::cells(&table)
        .filter(|(_, cell)| cell.flags & Cell::TRUSTED != 0)
        .map(|((address, _), _)| address >> 8)
        .collect();
    let front = lines.as_mut_slice();
    Ok((0..1 << 24)
        .filter(|block| {
            let code = code(&front, *block);
            code != Code::Unlisted && code != Code::Trusted && !trusted.contains(block)
        })
        .collect())
}

fn told(error: impl std::fmt::Display) -> RigError {
    RigError(format!("the kernel's table: {error}"))
}
