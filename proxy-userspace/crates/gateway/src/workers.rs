//! A thread for each core, with its own runtime, sockets and upstream connections: a request is served from
//! its first byte to its last by one core, and waits for no other.

use std::{
    io,
    num::NonZeroUsize,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime,
    sync::{mpsc, watch},
};

use crate::{drain::Stage, listener::Listener, live::Live};

/// Connections that are cut off get this long to say so.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The threads.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// What each is to serve besides.
    orders: Vec<mpsc::UnboundedSender<Arc<Listener>>>,
    end: watch::Sender<bool>,
}

impl Workers {
    /// Starts so many. `drain` ends connections gracefully: each that is being served holds a receiver of it.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub fn start(
        count: NonZeroUsize,
        live: &Arc<Live>,
        drain: &Arc<watch::Sender<Stage>>,
    ) -> io::Result<Self> {
        let (end, ended) = watch::channel(false);
        let (mut threads, mut orders) = (Vec::new(), Vec::new());
        for worker in 0..count.get() {
            let journal = Arc::clone(&live.current().journal);
            // Records of the requests that ended in one go are handed over in one go.
            let hand_over = move || {
                if let Err(error) = journal.hand_over() {
                    tracing::error!(%error, "audit records wait to be written");
                }
            };
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(hand_over.clone())
                .build()?;
            let name = format!("worker-{worker}");
            let handle = runtime.handle().clone();
            live.current().metrics.runtimes.add(&name, handle);
            let (order, mut ordered) = mpsc::unbounded_channel::<Arc<Listener>>();
            let (live, drain) = (Arc::clone(live), Arc::clone(drain));
            let mut ended = ended.clone();
            let run = move || {
                runtime.block_on(async {
                    loop {
                        let listener = tokio::select! {
                            Some(listener) = ordered.recv() => listener,
                            // An error means that the sender is gone, which is the end as well.
                            _ = ended.wait_for(|ended| *ended) => return,
                        };
                        let serving = listener.serve(worker, Arc::clone(&live), drain.subscribe());
                        tokio::spawn(async move {
                            if let Err(error) = serving.await {
                                tracing::error!(worker, %error, "a worker can't listen");
                            }
                        });
                    }
                });
                runtime.shutdown_timeout(LAST_WORDS);
                hand_over();
            };
            threads.push(thread::Builder::new().name(name).spawn(run)?);
            orders.push(order);
        }
        Ok(Self {
            threads,
            orders,
            end,
        })
    }

    /// Has all serve a listener, each its share.
    pub fn serve(&self, listener: &Arc<Listener>) {
        for order in &self.orders {
            // One that has ended serves nothing more.
            let _ = order.send(Arc::clone(listener));
        }
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
