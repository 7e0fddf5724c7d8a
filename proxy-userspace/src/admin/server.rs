//! The daemon's end of the admin socket.

use std::{
    cmp::Reverse,
    fs, io,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use audit::{Event, Journal, ListRecord};
use datapath::{AttachmentOrigin, Standing};
use ipnet::IpNet;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::watch,
    time,
};

use super::{
    CutReport, InterfaceStatus, LONGEST_LINE, ListSize, ReasonStatus, Reply, Request, Status,
    Tested, mode_name,
};
use crate::{
    feed::parse_prefix,
    lifeline::{self, Cut, Needed},
    lists::{Addition, ListError, Lists, Preview},
    trail::{note, tell},
};

/// A peer that asks nothing for this long is let go.
const SILENCE: Duration = Duration::from_secs(10);

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

/// What the admin socket acts on.
pub(crate) struct Admin {
    pub(crate) lists: Arc<Lists>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) allowed_uids: Vec<u32>,
    pub(crate) started: Instant,
    pub(crate) listeners: Vec<String>,
    pub(crate) without_kernel: Option<String>,
    pub(crate) draining: watch::Receiver<bool>,
    /// What the configuration names and the host must go on reaching.
    pub(crate) needed: Vec<Needed>,
    /// Held while somebody traces.
    pub(crate) tracing: Mutex<()>,
}

/// A change of a list, for the audit trail.
struct Change<'a> {
    action: &'a str,
    list: &'a str,
    ttl: Option<Duration>,
    reason: Option<&'a str>,
    changed: usize,
}

/// Makes the socket, for its owner's eyes only unless other users are allowed.
pub(crate) fn bind(path: &Path, for_others: bool) -> Result<UnixListener, AdminError> {
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
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Whoever gets through is asked for his uid all the same.
    let mode = if for_others { 0o666 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

impl Admin {
    /// Serves until the task is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&self);
                    tokio::spawn(async move {
                        if let Err(error) = admin.welcome(stream).await {
                            tracing::debug!(%error, "admin connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept on the admin socket failed");
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn welcome(self: Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?;
        let (reader, mut writer) = stream.into_split();
        let reply = if peer.uid() == 0 || self.allowed_uids.contains(&peer.uid()) {
            let mut line = String::new();
            let mut reader = BufReader::new(reader.take(LONGEST_LINE));
            time::timeout(SILENCE, reader.read_line(&mut line)).await??;
            if let Ok(Request::Trace { target, for_ms }) = serde_json::from_str(&line) {
                let length = Duration::from_millis(for_ms);
                return self.trace(target, length, peer, reader, writer).await;
            }
            // Lists take locks and sync the disk: nothing for a thread that serves requests.
            let admin = Arc::clone(&self);
            tokio::task::spawn_blocking(move || admin.answer(&line, &peer)).await?
        } else {
            Reply::Error {
                message: format!(
                    "uid {} may not use the admin socket; run this as root, or list the uid in admin.allowed_uids",
                    peer.uid()
                ),
            }
        };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        writer.write_all(&line).await
    }

    fn answer(&self, line: &str, peer: &UCred) -> Reply {
        let request = match serde_json::from_str(line) {
            Ok(request) => request,
            Err(error) => {
                return Reply::Error {
                    message: format!("the request can't be read: {error}"),
                };
            }
        };
        self.act(request, peer)
            .unwrap_or_else(|error| Reply::Error {
                message: error.to_string(),
            })
    }

    fn act(&self, request: Request, peer: &UCred) -> Result<Reply, ListError> {
        match request {
            Request::Add {
                list,
                trusted,
                prefixes,
                ttl_ms,
                reason,
                force,
                operator,
            } => {
                let prefixes = check_prefixes(&prefixes)?;
                if !trusted {
                    self.spare_lifelines(&prefixes, &force, operator)?;
                }
                let ttl = ttl_ms.map(bounded_ttl);
                let entries: Vec<_> = prefixes.iter().map(|prefix| (*prefix, ttl)).collect();
                let addition = Addition {
                    list: &list,
                    trusted,
                    entries: &entries,
                    reason,
                };
                let changed = self.lists.add(&addition)?;
                let change = Change {
                    action: "add",
                    list: &list,
                    ttl,
                    reason: addition.reason.as_deref(),
                    changed,
                };
                for prefix in &prefixes {
                    self.record(&change, Some(prefix), peer);
                }
                Ok(changed_of(changed, prefixes.len(), Vec::new()))
            }
            Request::Remove { list, prefixes } => {
                let prefixes = check_prefixes(&prefixes)?;
                let change = Change {
                    action: "remove",
                    list: &list,
                    ttl: None,
                    reason: None,
                    changed: self.lists.remove(&list, &prefixes)?,
                };
                for prefix in &prefixes {
                    self.record(&change, Some(prefix), peer);
                }
                Ok(changed_of(change.changed, prefixes.len(), Vec::new()))
            }
            Request::Import {
                list,
                prefixes,
                timed,
                ttl_ms,
                reason,
                operator,
                dry_run,
            } => {
                let ttl = ttl_ms.map(bounded_ttl);
                let lifelines = lifeline::observe(operator, &self.needed);
                let (entries, cuts) =
                    lifeline::cut_around(imported(&prefixes, &timed, ttl)?, &lifelines);
                let addition = Addition {
                    list: &list,
                    trusted: false,
                    entries: &entries,
                    reason,
                };
                if dry_run {
                    let preview = self.lists.preview(&addition)?;
                    return Ok(planned(preview, cuts));
                }
                let changed = self.lists.add(&addition)?;
                let change = Change {
                    action: "import",
                    list: &list,
                    ttl,
                    reason: addition.reason.as_deref(),
                    changed,
                };
                self.record(&change, None, peer);
                for Cut { entry, around } in &cuts {
                    let detail = format!("{entry} of {list} around {around}");
                    note(&self.journal, "cut_entry", &detail);
                }
                Ok(changed_of(changed, addition.entries.len(), cuts))
            }
            Request::List { list, trusted } => Ok(Reply::Entries {
                entries: self.lists.entries(list.as_deref(), Some(trusted)),
            }),
            Request::Test { address } => {
                let (standing, entries) = self.lists.test(address);
                let (standing, dropped) = match standing {
                    Standing::Unlisted => ("unlisted", false),
                    Standing::Trusted => ("trusted", false),
                    Standing::Blocked => ("blocked", true),
                    Standing::Banned { .. } => ("banned", true),
                    Standing::Monitored => ("monitored", false),
                };
                Ok(Reply::Tested(Tested {
                    address: address.to_canonical(),
                    standing: standing.to_owned(),
                    dropped,
                    entries,
                }))
            }
            Request::Status => Ok(Reply::Status(Box::new(self.status()?))),
            Request::Limits => self.limits(),
            Request::SetLimit {
                limit,
                rate,
                burst,
                mode,
            } => self.set_limit(&limit, rate, burst, mode.as_deref(), peer),
            // Answered line by line, in `welcome`.
            Request::Trace { .. } => Ok(Reply::TraceEnd { lines: 0, lost: 0 }),
        }
    }

    /// Refuses prefixes that cover what keeps the host reachable, but those that are forced.
    fn spare_lifelines(
        &self,
        prefixes: &[IpNet],
        force: &[IpNet],
        operator: Option<IpAddr>,
    ) -> Result<(), ListError> {
        let lifelines = lifeline::observe(operator, &self.needed);
        for prefix in prefixes.iter().filter(|prefix| !force.contains(prefix)) {
            if let Some(line) = lifeline::covered(prefix, &lifelines) {
                return Err(ListError::Lifeline {
                    prefix: *prefix,
                    line: line.clone(),
                });
            }
        }
        Ok(())
    }

    fn record(&self, change: &Change<'_>, prefix: Option<&IpNet>, peer: &UCred) {
        let until = change
            .ttl
            .and_then(|ttl| std::time::SystemTime::now().checked_add(ttl));
        let record = ListRecord {
            action: change.action.to_owned(),
            list: change.list.to_owned(),
            prefix: prefix.map(ToString::to_string),
            changed: change.changed,
            until: until.map(crate::render::rfc3339),
            reason: change.reason.map(str::to_owned),
            by_uid: Some(peer.uid()),
            by_pid: peer.pid(),
        };
        tell(&self.journal, &Event::List(record));
    }

    fn status(&self) -> Result<Status, ListError> {
        let kernel = self.lists.with_kernel(|datapath| {
            let interfaces = datapath
                .attachments()
                .iter()
                .map(|attachment| InterfaceStatus {
                    interface: attachment.interface.clone(),
                    mode: if attachment.in_force() {
                        attachment.mode.name().to_owned()
                    } else {
                        "none".to_owned()
                    },
                    program_id: attachment.program_id,
                    adopted: attachment.origin == AttachmentOrigin::Adopted,
                })
                .collect();
            let reasons = datapath.counters()?;
            Ok::<_, ListError>((interfaces, reasons))
        });
        let (interfaces, reasons) = kernel.transpose()?.unwrap_or_default();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            draining: *self.draining.borrow(),
            listeners: self.listeners.clone(),
            interfaces,
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

/// What the command line has checked is checked again: anybody may write to the socket who may
/// use it.
fn check_prefixes(prefixes: &[IpNet]) -> Result<Vec<IpNet>, ListError> {
    prefixes
        .iter()
        .map(|prefix| {
            parse_prefix(&prefix.to_string()).map_err(|problem| ListError::Prefix {
                prefix: *prefix,
                problem,
            })
        })
        .collect()
}

/// Each prefix of an import once. Of two with different times, the longer one counts.
fn imported(
    prefixes: &[IpNet],
    timed: &[(IpNet, u64)],
    ttl: Option<Duration>,
) -> Result<Vec<(IpNet, Option<Duration>)>, ListError> {
    let (with_time, times): (Vec<IpNet>, Vec<u64>) = timed.iter().copied().unzip();
    let times = times.into_iter().map(|ms| Some(bounded_ttl(ms)));
    let mut entries: Vec<_> = check_prefixes(prefixes)?
        .into_iter()
        .map(|prefix| (prefix, ttl))
        .chain(check_prefixes(&with_time)?.into_iter().zip(times))
        .collect();
    let time = |ttl: Option<Duration>| ttl.unwrap_or(Duration::MAX);
    entries.sort_unstable_by_key(|(prefix, ttl)| (*prefix, Reverse(time(*ttl))));
    entries.dedup_by_key(|(prefix, _)| *prefix);
    Ok(entries)
}

/// A ban of a century is for good, and its end can still be written down (RFC 3339 ends in 9999).
fn bounded_ttl(ttl_ms: u64) -> Duration {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
    Duration::from_millis(ttl_ms).min(CENTURY)
}

fn planned(preview: Preview, cuts: Vec<Cut>) -> Reply {
    Reply::Planned {
        added: preview.added,
        changed: preview.changed,
        unchanged: preview.unchanged,
        cut: reported(cuts),
    }
}

fn reported(cuts: Vec<Cut>) -> Vec<CutReport> {
    let report = |Cut { entry, around }| CutReport {
        entry,
        around: around.prefix,
        what: around.what,
    };
    cuts.into_iter().map(report).collect()
}

fn changed_of(changed: usize, asked: usize, cuts: Vec<Cut>) -> Reply {
    Reply::Changed {
        changed,
        unchanged: asked.saturating_sub(changed),
        cut: reported(cuts),
    }
}
