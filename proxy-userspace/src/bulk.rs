//! Long work beside requests: on a thread of its own that the scheduler puts behind all others, so that
//! a list of a million costs the list time and not those who are served meanwhile.

use std::{io, thread};

use tokio::sync::oneshot;

/// Steps on the scheduler's scale (sched(7)): a tenth of the weight of a thread that serves.
const NICENESS: i32 = 10;

/// How long it may go on when one that serves wakes up. By itself the scheduler lets it finish its
/// slice, about 3 ms, which is then what a request waits (EEVDF's RUN_TO_PARITY); 0.1 ms is the least
/// that may be asked (`sched_setattr(2)`, Linux 6.12; before that it is ignored).
const SLICE_NS: u64 = 100_000;

/// Puts this thread, or a process of one thread, behind those that serve requests. It keeps its tenth
/// on a host that is busy, so that a list still gets in under a flood; idle priority would starve it.
pub(crate) fn yield_to_requests() {
    let wish = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
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
