//! A thread for each core, with its own runtime, sockets and upstream connections: a request is served from
//! its first byte to its last by one core, and waits for no other.

use std::{
    io,
    num::NonZeroUsize,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{runtime, sync::watch};

use crate::{listener::Listener, pipeline::Gateway};

/// Connections that are cut off get this long to say so.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The threads.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    end: watch::Sender<bool>,
}

impl Workers {
    /// Starts so many, each with its share of every listener, until `drain` turns true. Connections that
    /// are being served hold their own receiver of `drain`.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub fn start(
        count: NonZeroUsize,
        listeners: &[Arc<Listener>],
        gateway: &Arc<Gateway>,
        drain: &watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let (end, ended) = watch::channel(false);
        let mut threads = Vec::new();
        for worker in 0..count.get() {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            for listener in listeners {
                let share = Arc::clone(listener);
                let serving = share.serve(worker, Arc::clone(gateway), drain.clone());
                runtime.spawn(async move {
                    if let Err(error) = serving.await {
                        tracing::error!(worker, %error, "a worker can't listen");
                    }
                });
            }
            let mut ended = ended.clone();
            let run = move || {
                runtime.block_on(async {
                    // An error means that the sender is gone, which is the end as well.
                    let _ = ended.wait_for(|ended| *ended).await;
                });
                runtime.shutdown_timeout(LAST_WORDS);
            };
            let name = format!("worker-{worker}");
            threads.push(thread::Builder::new().name(name).spawn(run)?);
        }
        Ok(Self { threads, end })
    }

    /// Ends them; what they still do is cut off, and recorded as such. Waits for that.
    pub fn end(self) {
        self.end.send_replace(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}
