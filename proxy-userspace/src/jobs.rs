//! The standing jobs of a daemon that has the state and the kernel side: begun, and ended so that another
//! process may have them.

use std::{
    io::{self, PipeWriter},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use audit::Journal;
use tokio::net::UnixListener;

use crate::{
    admin::Admin,
    drops::Drops,
    lifeline::Lifelines,
    lists::Lists,
    revocations::{self, Keeper},
    source::Feeds,
    task::Task,
    watch::{self, Counting},
};

/// What the jobs are about.
pub(crate) struct Jobs {
    pub(crate) lists: Arc<Lists>,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) lifelines: Arc<Lifelines>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) drops: Arc<Drops>,
    pub(crate) revocations: Arc<Keeper>,
    pub(crate) admin: Arc<Admin>,
    pub(crate) counting: Arc<Counting>,
    pub(crate) kernel_interval: Duration,
}

/// Jobs that run.
#[must_use]
pub(crate) struct Running {
    tasks: Vec<Task>,
    sampling: Option<Sampling>,
    feeds: Arc<Feeds>,
}

/// The thread that records samples, and what ends it when it is dropped.
struct Sampling {
    thread: JoinHandle<()>,
    alive: PipeWriter,
}

impl Jobs {
    /// Begins them, the admin socket among them.
    ///
    /// # Errors
    /// When the system gives no thread or descriptor.
    pub(crate) fn begin(&self, socket: &std::os::unix::net::UnixListener) -> io::Result<Running> {
        let socket = UnixListener::from_std(socket.try_clone()?)?;
        let sampling = self.begin_sampling()?;
        let lists = || Arc::clone(&self.lists);
        let journal = || Arc::clone(&self.journal);
        let feeds = Arc::clone(&self.feeds);
        let lifelines = Arc::clone(&self.lifelines);
        let counting = Arc::clone(&self.counting);
        feeds.start();
        Ok(Running {
            tasks: vec![
                Task(tokio::spawn(Arc::clone(&self.admin).serve(socket))),
                Task(tokio::spawn(watch::expire(lists(), journal()))),
                Task(tokio::spawn(revocations::expire(Arc::clone(
                    &self.revocations,
                )))),
                Task(tokio::spawn(watch::revert(
                    lists(),
                    Arc::clone(&feeds),
                    journal(),
                ))),
                Task(tokio::spawn(watch::protect(lifelines, lists(), journal()))),
                Task(tokio::spawn(watch::attend(lists(), journal()))),
                Task(tokio::spawn(counting.keep_recording(self.kernel_interval))),
            ],
            sampling,
            feeds,
        })
    }

    fn begin_sampling(&self) -> io::Result<Option<Sampling>> {
        let samples = self.lists.with_kernel(datapath::Datapath::take_samples);
        let Some(samples) = samples.flatten() else {
            return Ok(None);
        };
        let (ended, alive) = io::pipe()?;
        let (lists, journal) = (Arc::clone(&self.lists), Arc::clone(&self.journal));
        let drops = Arc::clone(&self.drops);
        let thread = thread::Builder::new()
            .name("drop-samples".to_owned())
            .spawn(move || watch::sample(samples, &ended, &lists, &drops, &journal))?;
        Ok(Some(Sampling { thread, alive }))
    }
}

impl Running {
    /// Ends them. What a job has begun on a thread is done when the lists are let go of.
    pub(crate) fn end(self) {
        self.feeds.rest();
        drop(self.tasks);
        if let Some(Sampling { thread, alive }) = self.sampling {
            drop(alive);
            if thread.join().is_err() {
                tracing::error!("the thread that records samples panicked");
            }
        }
    }
}
