//! The runtimes of this process, and how many tasks each has: one that is never done is a leak.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

/// All of them, by name.
#[derive(Debug, Default)]
pub struct Runtimes(Mutex<Vec<(String, Handle)>>);

impl Runtimes {
    /// Has this one counted too.
    pub fn add(&self, name: impl Into<String>, runtime: Handle) {
        self.all().push((name.into(), runtime));
    }

    /// Tasks that are alive, of each.
    pub fn tasks(&self) -> Vec<(String, usize)> {
        let all = self.all();
        let tasks = all
            .iter()
            .map(|(name, runtime)| (name.clone(), runtime.metrics().num_alive_tasks()));
        tasks.collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<(String, Handle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
