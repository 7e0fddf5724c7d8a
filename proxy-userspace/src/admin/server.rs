//! The daemon's end of the admin socket.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use audit::Journal;
use gateway::Stage;
use ipnet::IpNet;
use tokio::{
    io::{
        AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::{UnixListener, UnixStream, unix::UCred},
    sync::{mpsc, oneshot, watch},
    time,
};

use super::{
    LONGEST_LINE, ListSize, ReasonStatus, Reply, Request, Status, bounded,
    interfaces::InterfaceError, long::LongRequest, mode_name, protocol::json_line,
};
use crate::{
    bulk,
    drops::Drops,
    lifeline::Lifelines,
    lists::{ListError, Lists, Widest},
    revocations::{Keeper, RevocationError},
    service::Reloaded,
    source::{Feeds, FeedsError},
};

/// A peer that asks nothing for this long is let go.
const SILENCE: Duration = Duration::from_secs(10);

/// A peer that doesn't take a page, or doesn't finish a long request, for this long is let go.
const SLOWEST: Duration = Duration::from_secs(60);

/// Bytes of a request from which on it is long work.
const BULK: usize = 256 * 1024;

/// Bytes that are read from a peer at once.
const AT_ONCE: usize = 64 * 1024;

/// Pages that are made before the first one is taken.
const PAGES_AHEAD: usize = 2;

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("can't make the admin socket {}: {source}; set admin.socket to a path that can be written", path.display())]
    Bind { path: PathBuf, source: io::Error },
    #[error("{} exists and is no socket; it is left alone: set admin.socket to another path", path.display())]
    NotASocket { path: PathBuf },
    #[error("another portcullis answers at {}; stop it first, or give this one an admin.socket of its own", path.display())]
    InUse { path: PathBuf },
}

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Feeds(#[from] FeedsError),
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    #[error(transparent)]
    Revocation(#[from] RevocationError),
}

/// What is asked of the daemon as a whole, by somebody who waits for the outcome.
#[derive(Debug)]
pub(crate) enum Order {
    Reload(oneshot::Sender<Result<Reloaded, String>>),
    /// The outcome is the process id of the one that took over.
    Upgrade(oneshot::Sender<Result<u32, String>>),
}

/// What the admin socket acts on.
pub(crate) struct Admin {
    pub(crate) lists: Arc<Lists>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) allowed_uids: Vec<u32>,
    pub(crate) started: Instant,
    pub(crate) listeners: Mutex<Vec<String>>,
    pub(crate) orders: mpsc::Sender<Order>,
    /// Each conversation holds a receiver.
    pub(crate) conversations: watch::Sender<()>,
    pub(crate) without_kernel: Option<String>,
    pub(crate) draining: watch::Receiver<Stage>,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) lifelines: Arc<Lifelines>,
    pub(crate) drops: Arc<Drops>,
    pub(crate) revocations: Arc<Keeper>,
    pub(crate) configured_interfaces: Vec<String>,
    /// Wider prefixes are only added when they are typed twice.
    pub(crate) widest: Widest,
    /// Held while somebody traces.
    pub(crate) tracing: Mutex<()>,
}

/// Makes the socket, for its owner's eyes only unless other users are allowed.
pub(crate) fn bind(
    path: &Path,
    for_others: bool,
) -> Result<std::os::unix::net::UnixListener, AdminError> {
    let failed = |source| AdminError::Bind {
        path: path.to_path_buf(),
        source,
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(AdminError::InUse {
            path: path.to_path_buf(),
        });
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(folder).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        // Left by a daemon that was killed.
        Ok(facts) if facts.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => {
            return Err(AdminError::NotASocket {
                path: path.to_path_buf(),
            });
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).and_then(UnixListener::into_std);
    let listener = listener.map_err(failed)?;
    // Whoever gets through is asked for his uid all the same.
    let mode = if for_others { 0o666 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

/// A line, or the first `BULK` bytes of a longer one.
async fn part_of_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = reader.take(BULK as u64);
    part.read_until(b'\n', &mut line).await?;
    Ok(line)
}

/// Says a reply to a peer that takes it.
async fn told_in_time(peer: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    let line = json_line(reply)?;
    time::timeout(SLOWEST, peer.write_all(&line)).await?
}

impl Admin {
    /// Serves until the task is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (admin, held) = (Arc::clone(&self), self.conversations.subscribe());
                    tokio::spawn(async move {
                        if let Err(error) = admin.welcome(stream).await {
                            tracing::debug!(%error, "admin connection ended");
                        }
                        drop(held);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept on the admin socket failed");
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn welcome(self: Arc<Self>, mut stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?;
        if peer.uid() != 0 && !self.allowed_uids.contains(&peer.uid()) {
            let message = format!(
                "uid {} may not use the admin socket; run this as root, or list the uid in admin.allowed_uids",
                peer.uid()
            );
            return told_in_time(&mut stream, &Reply::Error { message }).await;
        }
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::with_capacity(AT_ONCE, reader.take(LONGEST_LINE));
        let line = time::timeout(SILENCE, part_of_line(&mut reader)).await??;
        // Lists take locks and sync the disk, and a large one takes long to read and to parse: nothing
        // for a thread that serves requests.
        if line.len() == BULK && line.last() != Some(&b'\n') {
            let mut long = LongRequest::take(reader, writer, line, SLOWEST)?;
            // The thread says what came of it.
            drop(bulk::spawn(move || {
                // Whoever stops halfway through a request gets no answer.
                let Ok(line) = long.read() else { return };
                let request = serde_json::from_slice(&line);
                drop(line);
                self.answer(request, &peer, &|reply| long.say(&reply));
            })?);
            return Ok(());
        }
        let (said, mut replies) = mpsc::channel(PAGES_AHEAD);
        let admin = Arc::clone(&self);
        let told = tokio::task::spawn_blocking(move || {
            let request = serde_json::from_slice(&line);
            admin.answer(request, &peer, &|reply| said.blocking_send(reply).is_ok())
        });
        while let Some(reply) = replies.recv().await {
            told_in_time(&mut writer, &reply).await?;
        }
        if let Ok(Some((target, length))) = told.await {
            return self.trace(target, length, peer, reader, writer).await;
        }
        Ok(())
    }

    /// Says one reply, or page after page until there are no more or nobody listens. A trace is told
    /// line by line as it happens, which is the caller's to do.
    fn answer(
        &self,
        request: serde_json::Result<Request>,
        peer: &UCred,
        say: &dyn Fn(Reply) -> bool,
    ) -> Option<(IpNet, Duration)> {
        let refused = |message| Reply::Error { message };
        let reply = match request {
            Ok(Request::Trace { target, for_ms }) => {
                return Some((target, Duration::from_millis(for_ms)));
            }
            Ok(Request::List {
                filter,
                after,
                limit,
            }) => {
                self.list(&filter, after, limit, say);
                return None;
            }
            Ok(request) => self
                .act(request, peer)
                .unwrap_or_else(|error| refused(error.to_string())),
            Err(error) => refused(format!("the request can't be read: {error}")),
        };
        say(reply);
        None
    }

    fn act(&self, request: Request, peer: &UCred) -> Result<Reply, Refused> {
        match request {
            Request::Reload => Ok(self.reload()),
            Request::Upgrade => Ok(self.upgrade()),
            Request::Status => Ok(Reply::Status(Box::new(self.status()?))),
            Request::Why { address } => Ok(self.why(address)?),
            Request::Interfaces => Ok(Reply::Interfaces {
                interfaces: self.interfaces(),
            }),
            Request::AddInterface { name } => self.add_interface(&name, peer),
            Request::RemoveInterface { name } => self.remove_interface(&name, peer),
            Request::Limits => Ok(self.limits()?),
            Request::SetLimit {
                limit,
                rate,
                burst,
                mode,
                confirm_ms,
            } => {
                let confirm = confirm_ms.map(bounded);
                Ok(self.set_limit(&limit, rate, burst, mode.as_deref(), confirm, peer)?)
            }
            // Answered line by line, in `welcome`.
            Request::Trace { .. } => Ok(Reply::TraceEnd { lines: 0, lost: 0 }),
            about_feeds @ (Request::Feeds
            | Request::Feed { .. }
            | Request::RefreshFeed { .. }
            | Request::AcceptFeed { .. }
            | Request::PauseFeed { .. }
            | Request::AddFeed { .. }
            | Request::RemoveFeed { .. }) => Ok(self.act_on_feeds(about_feeds)?),
            about_tokens @ (Request::RevokeTokens { .. }
            | Request::UnrevokeTokens { .. }
            | Request::Revocations { .. }) => Ok(self.act_on_tokens(about_tokens, peer)?),
            about_lists => Ok(self.act_on_lists(about_lists, peer)?),
        }
    }

    /// Where the proxy listens from now on.
    pub(crate) fn listens_on(&self, addresses: Vec<String>) {
        *self.listening() = addresses;
    }

    fn listening(&self) -> MutexGuard<'_, Vec<String>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn reload(&self) -> Reply {
        match self.order(Order::Reload) {
            Ok(Reloaded { changes, digest }) => Reply::Reloaded { changes, digest },
            Err(message) => Reply::Error { message },
        }
    }

    fn upgrade(&self) -> Reply {
        match self.order(Order::Upgrade) {
            Ok(pid) => Reply::Upgraded { pid },
            Err(message) => Reply::Error { message },
        }
    }

    /// Whether somebody traces.
    pub(crate) fn is_tracing(&self) -> bool {
        matches!(self.tracing.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Waits for the outcome; the caller is on a thread that may.
    fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Order,
    ) -> Result<T, String> {
        let (asker, outcome) = oneshot::channel();
        let asked = self.orders.blocking_send(order(asker)).is_ok();
        let outcome = outcome.blocking_recv().ok().filter(|_| asked);
        outcome.unwrap_or_else(|| Err("the daemon is stopping".to_owned()))
    }

    fn status(&self) -> Result<Status, ListError> {
        let kernel = self.lists.with_kernel(|datapath| {
            let reasons = datapath.counters()?;
            Ok::<_, ListError>(reasons)
        });
        let reasons = kernel.transpose()?.unwrap_or_default();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            draining: self.draining.borrow().is_ending(),
            listeners: self.listening().clone(),
            interfaces: self.interfaces(),
            without_kernel: self.without_kernel.clone(),
            lists: self
                .lists
                .sizes()
                .into_iter()
                .map(|size| ListSize {
                    list: size.list,
                    trusted: size.trusted,
                    mode: mode_name(size.mode).to_owned(),
                    entries: size.entries,
                })
                .collect(),
            reasons: reasons
                .into_iter()
                .map(|count| ReasonStatus {
                    reason: count.reason.name().to_owned(),
                    dropped: count.reason.drops() && !count.monitored,
                    monitored: count.monitored,
                    packets: count.packets,
                    bytes: count.bytes,
                })
                .collect(),
            audit_path: self.journal.path().display().to_string(),
            audit_failing: self.journal.is_failing(),
        })
    }
}
