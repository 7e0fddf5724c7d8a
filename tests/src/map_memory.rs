//! How much memory the maps hold, as the kernel accounts it.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, AsRawFd as _},
};

use aya::maps::{ArrayOfMaps, Map, MapData};
use datapath::Pins;
use proxy_common::abi::LISTS_LEN;

use crate::run::{RigError, Rigged};

/// Bytes of each pinned map, and of both list tables, by name.
///
/// # Errors
/// When a pin or its accounting can't be read.
pub fn memory_of(pins: &Pins) -> Rigged<BTreeMap<String, u64>> {
    let mut bytes = BTreeMap::new();
    for entry in fs::read_dir(pins.root().join("maps"))? {
        let entry = entry?;
        let map = MapData::from_pin(entry.path()).map_err(|error| told(&error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        bytes.insert(name.clone(), memlock(map.fd())?);
        if name == "LISTS" {
            let lists: ArrayOfMaps<MapData, MapData> = Map::from_map_data(map)
                .and_then(TryFrom::try_from)
                .map_err(|error| told(&error))?;
            for place in 0..LISTS_LEN as u32 {
                let table = lists.get(&place, 0).map_err(|error| told(&error))?;
                bytes.insert(format!("{name}[{place}]"), memlock(table.fd())?);
            }
        }
    }
    Ok(bytes)
}

fn told(error: &dyn std::fmt::Display) -> RigError {
    RigError(error.to_string())
}

/// `memlock` of a map's descriptor (`bpf_map_show_fdinfo`, kernel/bpf/syscall.c).
fn memlock(map: impl AsFd) -> Rigged<u64> {
    let descriptor = map.as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    info.lines()
        .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
        .ok_or_else(|| RigError(format!("no memlock in {info}")))
}
