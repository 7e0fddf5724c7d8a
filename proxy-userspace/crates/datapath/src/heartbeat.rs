//! The daemon's sign of life, for a program that is to let everything pass when it has been gone for
//! long.

use aya::maps::{Array, Map, MapData, MapError};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    error::{DatapathError, While as _},
    pins::Pins,
};

/// Gives signs of life. It needs nothing that a long change of the lists holds.
pub struct Heartbeat {
    map: Array<MapData, u64>,
}

impl Heartbeat {
    pub(crate) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self {
            map: map.try_into()?,
        })
    }

    /// Of what an earlier run left attached; `None` where it left nothing. With it, a start that takes
    /// long gives signs of life before it has taken over.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when what is pinned can't be opened.
    pub fn pinned(pins: &Pins) -> Result<Option<Self>, DatapathError> {
        let path = pins.map("HEARTBEAT");
        if !path.exists() {
            return Ok(None);
        }
        let map = MapData::from_pin(path)
            .and_then(Map::from_map_data)
            .and_then(Self::new)
            .while_trying_to("open the pinned heartbeat")?;
        Ok(Some(map))
    }

    /// Gives one.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when the map can't be written.
    pub fn beat(&mut self) -> Result<(), DatapathError> {
        let now = clock_gettime(ClockId::Monotonic);
        let now_ns = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        self.map
            .set(0, now_ns, 0)
            .while_trying_to("give a sign of life")
    }
}
