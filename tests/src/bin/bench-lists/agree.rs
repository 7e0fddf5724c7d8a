//! The premise: the daemon shows the whole list, and the kernel drops what is on it and nothing
//! else.

use portcullis_tests::{
    daemon::Daemon,
    pinned::PinnedTable,
    run::{RigError, Rigged},
    scene::Scene,
};
use proxy_common::{Cell, abi::LISTS_V4, table::v4};

use crate::{LIST, hosts::host};

/// Addresses that are looked up of those that are listed, and of those that aren't.
const SAMPLE: u32 = 1_000;

pub(crate) fn check(scene: &Scene, daemon: &Daemon, entries: u32) -> Rigged<()> {
    let status = daemon.status()?;
    let lists = status["lists"].as_array();
    let list = lists
        .into_iter()
        .flatten()
        .find(|list| list["list"] == LIST);
    let count = list.and_then(|list| list["entries"].as_u64());
    if count != Some(entries.into()) {
        return Err(RigError(format!("{count:?} of {entries} are listed")));
    }
    let table = PinnedTable::open(&scene.pins, LISTS_V4)?;
    for number in 0..SAMPLE {
        let listed = (u64::from(number) * u64::from(entries) / u64::from(SAMPLE)) as u32;
        for (number, due) in [(listed, true), (10_000_000 + number, false)] {
            let address = host(number);
            let dropped = v4::look_up(&table, address.to_bits()).flags & Cell::ENFORCED != 0;
            if dropped != due {
                return Err(RigError(format!(
                    "the kernel drops {address}: {dropped}, and should: {due}"
                )));
            }
        }
    }
    Ok(())
}
