//! Client and upstream are other hosts. Here they share the machine, and would wait, before they are even asked,
//! for whatever the kernel does for an import on the core that they happen to be on: so they have the first core,
//! and long work has the last.

use portcullis_tests::run::{RigError, Rigged};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps this thread, and what it starts from now on, to the first core.
pub(crate) fn stay() -> Rigged<()> {
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first).map_err(|error| RigError(format!("core 0: {error}")))
}

/// Starts something there, and goes on where this thread was.
pub(crate) fn start<T>(what: impl FnOnce() -> Rigged<T>) -> Rigged<T> {
    let told = |error: rustix::io::Errno| RigError(format!("the cores: {error}"));
    let before = sched_getaffinity(None).map_err(told)?;
    stay()?;
    let started = what();
    sched_setaffinity(None, &before).map_err(told)?;
    started
}
