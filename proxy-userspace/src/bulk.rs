//! Long work beside requests: on a thread of its own that the scheduler puts behind all others, so that
//! a list of a million costs the list time and not those who are served meanwhile.

use std::{io, thread};

use rustix::process::nice;
use tokio::sync::oneshot;

/// Steps on the scheduler's scale (sched(7)): a tenth of the weight of a thread that serves.
const NICENESS: i32 = 10;

/// Puts this thread, or a process of one thread, behind those that serve requests.
pub(crate) fn yield_to_requests() {
    // Refused only where nobody may be put behind; then it competes.
    let _ = nice(NICENESS);
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
