//! Pinned maps as somebody sees and writes them who has the rights and no manners: past the daemon,
//! a table line by line.

use std::fs;

use aya::maps::{Array, ArrayOfMaps, InnerMap, Map, MapData, MapError, MapInfo};
use datapath::Pins;
use proxy_common::{
    Settings,
    abi::Line,
    table::{Lines, LinesMut},
};

use crate::run::{RigError, Rigged};

/// The settings that the program reads.
///
/// # Panics
/// When none are pinned.
pub fn pinned_settings(pins: &Pins) -> Array<MapData, Settings> {
    let data = MapData::from_pin(pins.root().join("maps/SETTINGS")).expect("pinned settings");
    let map = Map::from_map_data(data).expect("a map of a known type");
    map.try_into().expect("an array")
}

/// Ids of all pinned maps, by name.
///
/// # Panics
/// When there are no pins.
pub fn pinned_ids(pins: &Pins) -> Vec<(String, u32)> {
    let directory = fs::read_dir(pins.root().join("maps")).expect("pinned maps");
    let mut ids: Vec<_> = directory
        .map(|entry| {
            let entry = entry.expect("an entry");
            let info = MapInfo::from_pin(entry.path()).expect("a pinned map");
            (entry.file_name().to_string_lossy().into_owned(), info.id())
        })
        .collect();
    ids.sort();
    ids
}

/// Id of the table of `LISTS` that is in force at a place.
///
/// # Errors
/// When nothing is pinned, or something else.
pub fn table_id(pins: &Pins, place: u32) -> Rigged<u32> {
    let told = |error: MapError| RigError(format!("LISTS at {place}: {error}"));
    let table = lists::<MapData>(pins).and_then(|lists| lists.get(&place, 0));
    Ok(table.and_then(|table| table.info()).map_err(told)?.id())
}

fn lists<V: InnerMap>(pins: &Pins) -> Result<ArrayOfMaps<MapData, V>, MapError> {
    MapData::from_pin(pins.root().join("maps/LISTS"))
        .and_then(Map::from_map_data)
        .and_then(TryInto::try_into)
}

/// One of the two tables of `LISTS`.
pub struct PinnedTable(Array<MapData, Line>);

impl PinnedTable {
    /// The table at this place that is in force now.
    ///
    /// # Errors
    /// When nothing is pinned, or something else.
    pub fn open(pins: &Pins, place: u32) -> Rigged<Self> {
        lists(pins)
            .and_then(|lists| lists.get(&place, 0))
            .map(Self)
            .map_err(|error| RigError(format!("LISTS at {place}: {error}")))
    }
}

impl Lines for PinnedTable {
    type Line = Line;

    fn line(&self, index: u32) -> Option<Line> {
        self.0.get(&index, 0).ok()
    }

    fn word(&self, line: Line, index: usize) -> u64 {
        line.0[index]
    }
}

impl LinesMut for PinnedTable {
    fn store(&mut self, line: u32, index: usize, word: u64) {
        let mut changed = self.line(line).unwrap_or(Line([0; 8]));
        changed.0[index] = word;
        // A line past the end can't be written; whoever tampers looks at what came of it.
        let _ = self.0.set(line, changed, 0);
    }
}
