//! What long work is at, on a terminal; nothing elsewhere, so that logs and pipes stay clean.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What takes less than this isn't long.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time between two looks at the stage.
const REFRESH: Duration = Duration::from_millis(200);

/// Back to the line's begin, and the line erased (ECMA-48: CR, EL).
const ERASE: &str = "\r\x1b[K";

/// A line on standard error that says what is done now and for how long; gone when this is.
pub(crate) struct Progress {
    stage: Arc<Mutex<String>>,
    shown: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins with a stage.
    pub(crate) fn begin(stage: &str) -> Self {
        let stage = Arc::new(Mutex::new(stage.to_owned()));
        let shown = stderr().is_terminal().then(|| {
            let (stop, stopped) = mpsc::channel();
            let stage = Arc::clone(&stage);
            (stop, thread::spawn(move || show(&stage, &stopped)))
        });
        Self { stage, shown }
    }

    /// Says what is done now.
    pub(crate) fn stage(&self, stage: String) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, shown)) = self.shown.take() {
            drop(stop);
            // A terminal that can't be written to is no reason to fail.
            let _ = shown.join();
        }
    }
}

fn show(stage: &Mutex<String>, stopped: &mpsc::Receiver<()>) {
    let begin = Instant::now();
    let mut wait = PATIENCE;
    let mut is_shown = false;
    while stopped.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout) {
        wait = REFRESH;
        is_shown = true;
        let seconds = begin.elapsed().as_secs_f64();
        let stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = write!(stderr(), "{ERASE}{stage} ({seconds:.1} s)");
    }
    if is_shown {
        let _ = write!(stderr(), "{ERASE}");
    }
}
