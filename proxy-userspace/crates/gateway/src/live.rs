//! What requests meet, exchanged as a whole while they do.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::gateway::Gateway;

/// The gateway in force. A request that has begun goes on with the one that it began with.
pub struct Live(ArcSwap<Gateway>);

impl Live {
    /// Begins with this one.
    pub fn new(gateway: Gateway) -> Self {
        Self(ArcSwap::from_pointee(gateway))
    }

    /// The one in force.
    pub fn current(&self) -> Arc<Gateway> {
        self.0.load_full()
    }

    /// Puts another one in force, from the next request on.
    pub fn exchange(&self, gateway: Gateway) {
        self.0.store(Arc::new(gateway));
    }
}
