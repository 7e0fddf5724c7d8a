//! The daemon while it serves: what is asked of it as a whole, and its end.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc as threads},
    time::Duration,
};

use gateway::{Certificates, Observer, Stage};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time,
};

use crate::{
    admin::Order,
    config::KernelConfig,
    follow,
    jobs::{Jobs, Running},
    notify::{News, notify},
    observe::Reloads,
    run::RunError,
    service::{ReloadError, Reloaded, Service},
    signals::{Asked, Signals},
    state::Clock,
    task::Task,
    trail::note,
    upgrade::{Program, UpgradeError},
};

/// Connections that are asked to end when their time is over get this long to do so.
const GRACE: Duration = Duration::from_millis(500);
/// Whoever asked something on the admin socket has its answer by then.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A daemon that serves.
pub(crate) struct Daemon {
    pub(crate) config_path: PathBuf,
    pub(crate) kernel: Option<KernelConfig>,
    pub(crate) drain: Duration,
    pub(crate) ready_within: Duration,
    pub(crate) admin_path: PathBuf,
    pub(crate) admin_socket: UnixListener,
    pub(crate) program: Program,
    pub(crate) signals: Signals,
    pub(crate) asked: mpsc::Receiver<Order>,
    pub(crate) service: Service,
    pub(crate) jobs: Jobs,
    /// `None` while another process may have what they need.
    pub(crate) running: Option<Running>,
    /// Gives signs of life to the kernel as long as this is here.
    pub(crate) alive: Option<threads::Sender<Infallible>>,
    pub(crate) seen: Seen,
    /// Each connection holds a receiver.
    pub(crate) stop: Arc<watch::Sender<Stage>>,
    /// Told the same, and waited for by nobody.
    pub(crate) told: watch::Sender<Stage>,
    /// Whether somebody asked the process before for a reload.
    pub(crate) reload_asked: bool,
}

/// What those who watch see.
pub(crate) struct Seen {
    /// And where it is configured.
    pub(crate) observer: Option<(SocketAddr, Arc<Observer>)>,
    pub(crate) watching: Option<JoinHandle<()>>,
    pub(crate) reloaded: Arc<Reloads>,
    pub(crate) shown: Arc<Mutex<Vec<Arc<Certificates>>>>,
}

/// Why it serves no longer.
pub(crate) enum End {
    Stopped(&'static str),
    /// Another process serves.
    HandedOver {
        pid: u32,
        /// Whether that one has another admin socket.
        admin_moved: bool,
    },
}

impl Daemon {
    /// Serves until it is stopped, or another process has taken over.
    pub(crate) async fn serve(mut self) -> Result<(), RunError> {
        let end = loop {
            if std::mem::take(&mut self.reload_asked) {
                // Told in the log and the trail.
                let _ = self.reload().await;
            }
            let asked = tokio::select! {
                asked = self.signals.next() => match asked {
                    Asked::Stop(signal) => break End::Stopped(signal),
                    Asked::Reload => {
                        self.reload_asked = true;
                        continue;
                    }
                    Asked::Upgrade => None,
                },
                Some(order) = self.asked.recv() => match order {
                    Order::Reload(asker) => {
                        let outcome = self.reload().await;
                        // Whoever asked may be gone.
                        let _ = asker.send(outcome.map_err(|error| error.to_string()));
                        continue;
                    }
                    Order::Upgrade(asker) => Some(asker),
                },
            };
            let outcome = self.upgrade().await;
            if let Some(asker) = asked {
                let said = match &outcome {
                    Ok(End::HandedOver { pid, .. }) => Ok(*pid),
                    Ok(End::Stopped(signal)) => Err((*signal).to_owned()),
                    Err(error) => Err(error.to_string()),
                };
                let _ = asker.send(said);
            }
            match outcome {
                Ok(end) => break end,
                Err(UpgradeError::Stopped { signal }) => break End::Stopped(signal),
                Err(_) => {}
            }
        };
        self.end(end).await
    }

    async fn reload(&mut self) -> Result<Reloaded, ReloadError> {
        notify(News::Reloading);
        let outcome = self.service.reload(&self.config_path).await;
        self.seen.reloaded.count(outcome.is_ok());
        match &outcome {
            Ok(done) => {
                tracing::info!(digest = done.digest, changes = ?done.changes, "reloaded");
                self.jobs.admin.listens_on(self.service.addresses());
                self.jobs.revocations.knows(self.service.issuers());
                let mut shown = self
                    .seen
                    .shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *shown = self.service.certificates();
            }
            Err(error) => {
                tracing::error!(%error, "NOT RELOADED: the configuration before serves on");
            }
        }
        notify(News::Ready);
        outcome
    }

    async fn end(mut self, end: End) -> Result<(), RunError> {
        let journal = Arc::clone(&self.jobs.journal);
        match end {
            End::Stopped(signal) => {
                notify(News::Stopping);
                note(
                    &journal,
                    "drain",
                    &format!("{signal}: at most {:?}", self.drain),
                );
                tracing::info!(signal, drain = ?self.drain, "no further connections; finishing what runs");
                self.told.send_replace(Stage::Stopping);
                self.stop.send_replace(Stage::Stopping);
            }
            End::HandedOver { pid, .. } => {
                note(
                    &journal,
                    "handed_over",
                    &format!("to process {pid}; drain: at most {:?}", self.drain),
                );
                tracing::info!(pid, drain = ?self.drain, "another process serves; finishing what runs");
            }
        }
        let _following = match end {
            End::HandedOver {
                admin_moved: false, ..
            } => {
                let path = self.admin_path.clone();
                let following = follow::revocations(path, Arc::clone(&self.jobs.revocations));
                Some(Task(tokio::spawn(following)))
            }
            End::HandedOver {
                admin_moved: true, ..
            }
            | End::Stopped(_) => None,
        };
        let mut whole = self.drained(&end).await;
        if let End::HandedOver { .. } = end {
            // Kept connections that nobody has used.
            self.stop.send_replace(Stage::Stopping);
            whole |= time::timeout(GRACE, self.stop.closed()).await.is_ok();
        }
        let uses = self.service.uses();
        // Connections that outlived the drain are cut off here, and recorded as such.
        self.service.end().await;
        if let End::Stopped(_) = end {
            if let Err(error) = uses.settle(Clock::now().unix_ms / 1_000) {
                tracing::error!(%error, "tokens that were used may not be on disk: after another boot, older ones are refused where each is good once");
            }
            self.jobs.counting.record();
        }
        note(
            &journal,
            "stop",
            if whole {
                "drained"
            } else {
                "deadline: open connections were cut off"
            },
        );
        if let Err(error) = journal.sync() {
            tracing::error!(%error, "the audit trail may not be on disk");
        }
        let conversations = self.jobs.admin.conversations.closed();
        let _ = time::timeout(LAST_ANSWERS, conversations).await;
        let is_ours = match end {
            End::Stopped(_) => true,
            End::HandedOver { admin_moved, .. } => admin_moved,
        };
        if is_ours {
            let _ = fs::remove_file(&self.admin_path);
        }
        tracing::info!(
            whole,
            "portcullis stopped; the kernel side goes on dropping"
        );
        Ok(())
    }

    /// Waits until all connections have ended, or their time is over; whether they have.
    async fn drained(&mut self, end: &End) -> bool {
        let deadline = time::Instant::now() + self.drain;
        loop {
            let closed = async {
                // Every listener and connection holds a receiver.
                self.stop.closed().await;
                if let (End::HandedOver { .. }, Some(watching)) = (end, &mut self.seen.watching) {
                    let _ = watching.await;
                }
            };
            tokio::select! {
                () = closed => return true,
                () = time::sleep_until(deadline) => return false,
                asked = self.signals.next() => match (asked, end) {
                    (Asked::Stop(signal), End::HandedOver { .. }) => {
                        tracing::info!(signal, "connections without a request end now");
                        self.stop.send_replace(Stage::Stopping);
                    }
                    (Asked::Stop(_), End::Stopped(_)) => {}
                    (asked, _) => tracing::warn!(?asked, "not done: this process is about to end"),
                },
            }
        }
    }
}
