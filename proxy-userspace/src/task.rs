//! A task that ends with whoever began it.

use tokio::task::JoinHandle;

/// Ends when this is dropped.
pub(crate) struct Task(pub(crate) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
