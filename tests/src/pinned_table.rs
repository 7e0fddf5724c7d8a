//! A table in force, as somebody sees and writes it who has the rights and no manners: line by
//! line through its pinned map, past the daemon.

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use datapath::Pins;
use proxy_common::{
    abi::Line,
    table::{Lines, LinesMut},
};

use crate::run::{RigError, Rigged};

/// One of the two tables of `LISTS`.
pub struct PinnedTable(Array<MapData, Line>);

impl PinnedTable {
    /// The table at this place that is in force now.
    ///
    /// # Errors
    /// When nothing is pinned, or something else.
    pub fn open(pins: &Pins, place: u32) -> Rigged<Self> {
        MapData::from_pin(pins.root().join("maps/LISTS"))
            .and_then(Map::from_map_data)
            .and_then(ArrayOfMaps::<MapData, Array<MapData, Line>>::try_from)
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
