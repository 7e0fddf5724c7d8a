//! How connections come to an end before the process does.

use tokio::sync::watch;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// New ones are taken.
    #[default]
    Serving,
    /// Another process takes new ones, from the same sockets. Those that are open end when a client can't
    /// mistake it: a kept one after its next answer, which says so, and not while its next request may be on
    /// its way.
    HandedOver,
    /// Nobody takes new ones. Those without a request end at once.
    Stopping,
}

impl Stage {
    /// Whether new ones are left to others, or to nobody.
    pub fn is_ending(&self) -> bool {
        *self != Self::Serving
    }
}

/// Ends connections gracefully: each holds a receiver, and the last to go is noticed.
pub type Drain = watch::Receiver<Stage>;

/// Returns when no new connections are to be taken.
pub(crate) async fn ending(drain: &mut Drain) {
    // An error means that the sender is gone, which is the end as well.
    let _ = drain.wait_for(Stage::is_ending).await;
}

/// Returns when connections without a request are to end at once.
pub(crate) async fn stopping(drain: &mut Drain) {
    let _ = drain.wait_for(|stage| *stage == Stage::Stopping).await;
}
