//! Long work beside requests: on a thread of its own that the scheduler puts behind all others, so that
//! a list of a million costs the list time and not those who are served meanwhile.

use std::{io, thread};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::oneshot;

/// Steps on the scheduler's scale (sched(7)): a tenth of the weight of a thread that serves.
const NICENESS: i32 = 10;

/// The slice it asks for (`sched_setattr(2)`, Linux 6.12; before that it is ignored): a little longer
/// than any default, which is at most 2.8 ms. A thread that wakes with a shorter slice takes the core at
/// once (EEVDF's PREEMPT_SHORT), and would wait for the next tick, up to 4 ms, if it weren't the shorter.
const SLICE_NS: u64 = 3_000_000;

/// Puts this thread, or a process of one thread, behind those that serve requests: it never takes a
/// core from them (`SCHED_BATCH`). It keeps its tenth on a host that is busy, so that a list still gets
/// in under a flood; idle priority would starve it.
pub(crate) fn yield_to_requests() {
    let wish = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_BATCH as u32,
        sched_flags: 0,
        sched_nice: NICENESS,
        sched_priority: 0,
        sched_runtime: SLICE_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // Refused only where nobody may be put behind; then it competes.
    // SAFETY: the kernel reads `size` bytes of an attribute that outlives the call.
    #[expect(unsafe_code, reason = "no crate wraps sched_setattr")]
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) };
    keep_to_one_core();
}

/// Long work of a command and of the daemon shares the last core that this thread may use, so that those
/// who serve requests find the others free: what wakes on a core beside other work waits for whatever
/// the kernel is doing there for it.
fn keep_to_one_core() {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let last = (0..CpuSet::MAX_CPU)
        .rev()
        .find(|core| allowed.is_set(*core));
    let Some(last) = last.filter(|_| allowed.count() > 1) else {
        return;
    };
    let mut one = CpuSet::new();
    one.set(last);
    // Refused only where that core is no longer ours.
    let _ = sched_setaffinity(None, &one);
}

/// Does some work on such a thread. The receiver is told what came of it, or closed when it panicked.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (done, told) = oneshot::channel();
    thread::Builder::new()
        .name("bulk".to_owned())
        .spawn(move || {
            yield_to_requests();
            // Whoever asked may be gone.
            let _ = done.send(work());
        })?;
    Ok(told)
}

/// Does some work on such a thread and waits for it, with a task and not with a thread of the runtime.
///
/// # Errors
/// When the system gives no thread, or the work panicked.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let told = spawn(work)?;
    told.await.map_err(io::Error::other)
}
