//! The daemon's standing jobs: bans taken off, counters and samples recorded. What
//! takes locks is long work: it waits for a large change, and would then run before requests.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::{self, PipeReader},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use audit::{DropRecord, Event, Journal, KernelRecord, ListRecord, ReasonRecord};
use datapath::{Heartbeat, InterfaceEvent, Samples};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::time;

use crate::{
    bulk,
    drops::{Drops, Sample},
    guard::tell_attachment,
    lifeline::Lifelines,
    lists::Lists,
    source::Feeds,
    trail::{note, tell},
};

/// How often ended bans are taken off the lists. The kernel ends them by itself, to the
/// nanosecond; this only tidies up.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether a change has to be taken back.
const REVERT_INTERVAL: Duration = Duration::from_millis(250);

/// How often it is looked whether interfaces have come or gone.
const ATTEND_INTERVAL: Duration = Duration::from_millis(500);

/// How often a sign of life is given, where the kernel waits for it.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked what keeps this host reachable, and how often names are resolved again.
const PROTECT_INTERVAL: Duration = Duration::from_secs(2);
const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);

/// Takes ended bans off the lists. Never ends.
pub(crate) async fn expire(lists: Arc<Lists>, journal: Arc<Journal>) {
    loop {
        time::sleep(EXPIRY_INTERVAL).await;
        let lists = Arc::clone(&lists);
        let ended = bulk::run(move || lists.expire()).await;
        let Ok(ended) = ended else { continue };
        match ended {
            Ok(ended) => {
                for (list, prefix) in ended {
                    tell(
                        &journal,
                        &Event::List(ListRecord {
                            action: "expire".to_owned(),
                            list,
                            prefix: Some(prefix.to_string()),
                            changed: 1,
                            until: None,
                            reason: None,
                            by_uid: None,
                            by_pid: None,
                        }),
                    );
                }
            }
            Err(error) => tracing::error!(%error, "ended bans could not be taken off"),
        }
    }
}

/// Takes changes back that nobody confirmed in time. Never ends.
pub(crate) async fn revert(lists: Arc<Lists>, feeds: Arc<Feeds>, journal: Arc<Journal>) {
    let mut told = None;
    loop {
        time::sleep(REVERT_INTERVAL).await;
        let (lists, feeds) = (Arc::clone(&lists), Arc::clone(&feeds));
        let reverted = bulk::run(move || {
            let (reverted, failed) = lists.revert_due();
            for (change, _) in &reverted {
                feeds.reverted(&change.list);
            }
            (reverted, failed)
        })
        .await;
        let Ok((reverted, failed)) = reverted else {
            continue;
        };
        for (change, entries) in reverted {
            let what = &change.what;
            tracing::warn!(what, entries, "nobody confirmed it: reverted");
            note(&journal, "revert", &format!("{what}: nobody confirmed it"));
        }
        let why = failed.map(|error| error.to_string());
        if let Some(error) = why.as_ref().filter(|_| why != told) {
            tracing::error!(error, "a change could not be reverted; it is tried again");
        }
        told = why;
    }
}

/// Keeps what keeps this host reachable trusted. Never ends.
pub(crate) async fn protect(lifelines: Arc<Lifelines>, lists: Arc<Lists>, journal: Arc<Journal>) {
    let mut resolved = Instant::now();
    loop {
        time::sleep(PROTECT_INTERVAL).await;
        let (lists, lifelines) = (Arc::clone(&lists), Arc::clone(&lifelines));
        let is_old = resolved.elapsed() >= RESOLVE_INTERVAL;
        if is_old {
            resolved = Instant::now();
        }
        let protected = bulk::run(move || {
            if is_old {
                lifelines.resolve_again();
            }
            let found = lifelines.observe(None);
            lists.protect(&found).map(|outcome| (outcome, found))
        });
        match protected.await {
            Ok(Ok((outcome, found))) if outcome.touched() > 0 => {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                note(&journal, "lifelines", &found.join("; "));
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "what keeps this host reachable can't be trusted");
            }
            _ => {}
        }
    }
}

/// Guards interfaces that come back, and tells of those that go. Never ends.
pub(crate) async fn attend(lists: Arc<Lists>, journal: Arc<Journal>) {
    loop {
        time::sleep(ATTEND_INTERVAL).await;
        let lists = Arc::clone(&lists);
        let attended = bulk::run(move || lists.with_kernel(datapath::Datapath::attend));
        for event in attended.await.ok().flatten().into_iter().flatten() {
            match event {
                InterfaceEvent::Gone(interface) => {
                    tracing::error!(
                        interface,
                        "NOT GUARDED: the interface is gone; it is waited for"
                    );
                    note(&journal, "interface_gone", &interface);
                }
                InterfaceEvent::Returned(attachment) => {
                    note(&journal, "interface_returned", &attachment.interface);
                    tell_attachment(&attachment, &journal);
                }
                InterfaceEvent::Unguarded { interface, error } => {
                    tracing::error!(interface, %error, "NOT GUARDED: the interface is back");
                    let detail = format!("{interface}: {error}");
                    note(&journal, "interface_unguarded", &detail);
                }
            }
        }
    }
}

/// Gives signs of life, on a thread of its own: nothing that the daemon is busy with may hold them up.
/// Ends when what this returns is dropped, or when the kernel can't be told.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn beat(
    mut heartbeat: Heartbeat,
    fail_open_after: Duration,
) -> io::Result<mpsc::Sender<Infallible>> {
    let interval = (fail_open_after / 4).min(BEAT_INTERVAL);
    let (alive, ended) = mpsc::channel();
    let give = move || {
        loop {
            if let Err(error) = heartbeat.beat() {
                tracing::error!(%error, "NO SIGN OF LIFE CAN BE GIVEN: the kernel will let everything pass");
                return;
            }
            if let Err(RecvTimeoutError::Disconnected) = ended.recv_timeout(interval) {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(give)?;
    Ok(alive)
}

/// The kernel's counters, recorded as what was added since the record before.
pub(crate) struct Counting {
    lists: Arc<Lists>,
    journal: Arc<Journal>,
    recorded: Mutex<HashMap<Counted, (u64, u64)>>,
}

/// The place of a reason, and whether it was watched only.
type Counted = (u32, bool);
/// With the packets and bytes that are recorded.
pub(crate) type Recorded = (Counted, (u64, u64));

impl Counting {
    /// Begins with what an earlier run has recorded: as it says itself, or else all that was counted.
    pub(crate) fn new(
        lists: Arc<Lists>,
        journal: Arc<Journal>,
        recorded: Option<Vec<Recorded>>,
    ) -> Self {
        let counting = Self {
            lists,
            journal,
            recorded: Mutex::default(),
        };
        match recorded {
            Some(recorded) => *counting.recorded() = recorded.into_iter().collect(),
            None => drop(counting.added()),
        }
        counting
    }

    /// What is recorded already, for the next one.
    pub(crate) fn told(&self) -> Vec<Recorded> {
        let recorded = self.recorded();
        recorded.iter().map(|(key, count)| (*key, *count)).collect()
    }

    fn recorded(&self) -> MutexGuard<'_, HashMap<Counted, (u64, u64)>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records every `interval` in which anything was counted. Never ends.
    pub(crate) async fn keep_recording(self: Arc<Self>, interval: Duration) {
        loop {
            time::sleep(interval).await;
            // A change to the lists may have the kernel side for a second: requests on this thread
            // would wait with us.
            let counting = Arc::clone(&self);
            let recorded = bulk::run(move || counting.record()).await;
            if recorded.is_err() {
                tracing::error!("counters could not be recorded");
            }
        }
    }

    /// Records what was counted since the record before.
    pub(crate) fn record(&self) {
        let counts = self.added();
        if !counts.is_empty() {
            tell(&self.journal, &Event::Kernel(KernelRecord { counts }));
        }
    }

    fn added(&self) -> Vec<ReasonRecord> {
        let counts = match self.lists.with_kernel(|datapath| datapath.counters()) {
            Some(Ok(counts)) => counts,
            Some(Err(error)) => {
                tracing::error!(%error, "the kernel's counters can't be read");
                return Vec::new();
            }
            None => return Vec::new(),
        };
        let mut recorded = self.recorded();
        let mut added = Vec::new();
        for count in counts {
            let (packets, bytes) = recorded
                .insert(
                    (count.reason as u32, count.monitored),
                    (count.packets, count.bytes),
                )
                .unwrap_or_default();
            if count.packets > packets {
                added.push(ReasonRecord {
                    reason: count.reason.name().to_owned(),
                    dropped: count.reason.drops() && !count.monitored,
                    monitored: count.monitored,
                    packets: count.packets - packets,
                    bytes: count.bytes.saturating_sub(bytes),
                });
            }
        }
        added
    }
}

/// Records drop samples as they come, on a thread of its own: it polls a ring, writes a file and
/// must not hold up requests. Ends when the other end of `ended` is closed, or when the ring can't be polled.
pub(crate) fn sample(
    mut samples: Samples,
    ended: &PipeReader,
    lists: &Lists,
    drops: &Drops,
    journal: &Journal,
) {
    loop {
        let mut ring = [
            PollFd::from_borrowed_fd(samples.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut ring, None) {
            Ok(_) if !ring[1].revents().is_empty() => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "drop samples can't be read");
                return;
            }
        }
        while let Some(drop) = samples.next_drop() {
            let lists = drop
                .source
                .map(|source| lists.names_covering(source))
                .unwrap_or_default();
            if let Some(source) = drop.source {
                drops.note(source, drop.stands_for, sample_of(&drop));
            }
            let record = DropRecord {
                source: drop.source.map(|source| source.to_string()),
                reason: drop.reason.name().to_owned(),
                monitored: drop.monitored,
                lists,
                ifindex: drop.ifindex,
                bytes: drop.frame_bytes,
            };
            tell(journal, &Event::Drop(record));
        }
    }
}

fn sample_of(drop: &datapath::Drop) -> Sample {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Sample {
        at_ms: now.map_or(0, |now| now.as_millis() as u64),
        reason: drop.reason.name().to_owned(),
        monitored: drop.monitored,
        interface: datapath::interface_name(drop.ifindex),
        bytes: drop.frame_bytes,
    }
}
