//! Kept connections of one endpoint, for each worker its own: what a worker opened is driven by it, and no
//! request waits for another core.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::client::conn::{http1, http2};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::{
    body::UpstreamBody,
    connect::Sender,
    endpoint::{Endpoint, Load},
};
use crate::flow::Flow;

/// Kept connections of one endpoint and worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shared>>,
    /// Held while a connection is opened that others can share, so that they wait for that one.
    pub(super) opening: tokio::sync::Mutex<()>,
    /// Told when a stream can be had.
    pub(super) freed: Arc<Notify>,
}

/// An HTTP/1.1 connection that nobody uses, or whose last answer is about to end.
#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<UpstreamBody>,
    since: Instant,
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<UpstreamBody>,
    streams: Arc<AtomicUsize>,
    used: Instant,
}

/// What a request takes of an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Stream {
    streams: Arc<AtomicUsize>,
    freed: Arc<Notify>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
        self.freed.notify_one();
    }
}

/// A connection for one request.
#[derive(Debug)]
pub(super) enum Taken {
    Http1(http1::SendRequest<UpstreamBody>),
    /// With its part of the connection.
    Http2(
        http2::SendRequest<UpstreamBody>,
        #[expect(dead_code, reason = "counts until it is dropped")] Stream,
    ),
}

impl Pool {
    /// A kept connection that has nothing to do.
    pub(super) fn take_idle(&self, kept: Duration) -> Option<Taken> {
        let mut idle = lock(&self.idle);
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let one = &idle[at];
            if one.sender.is_closed() || one.since.elapsed() > kept {
                idle.swap_remove(at);
            } else if one.sender.is_ready() {
                return Some(Taken::Http1(idle.swap_remove(at).sender));
            }
        }
        None
    }

    /// A stream of a connection that has fewer than `most`.
    pub(super) fn take_stream(&self, most: usize) -> Option<Taken> {
        let mut shared = lock(&self.shared);
        shared.retain(|one| !one.sender.is_closed());
        let free = |one: &&mut Shared| one.streams.load(Ordering::Relaxed) < most;
        let one = shared.iter_mut().find(free)?;
        one.used = Instant::now();
        Some(self.stream_of(one))
    }

    /// Takes a new connection in, where others may have it too, and a request's part of it out.
    pub(super) fn admit(&self, sender: Sender, for_others: bool) -> Taken {
        match sender {
            Sender::Http1(sender) => Taken::Http1(sender),
            Sender::Http2(sender) => {
                let one = Shared {
                    sender,
                    streams: Arc::default(),
                    used: Instant::now(),
                };
                let taken = self.stream_of(&one);
                if for_others {
                    lock(&self.shared).push(one);
                    self.freed.notify_waiters();
                }
                taken
            }
        }
    }

    fn stream_of(&self, one: &Shared) -> Taken {
        one.streams.fetch_add(1, Ordering::Relaxed);
        let stream = Stream {
            streams: Arc::clone(&one.streams),
            freed: Arc::clone(&self.freed),
        };
        Taken::Http2(one.sender.clone(), stream)
    }

    fn put_back(&self, sender: http1::SendRequest<UpstreamBody>, most: usize) {
        let mut idle = lock(&self.idle);
        if idle.len() < most && !sender.is_closed() {
            let since = Instant::now();
            idle.push(Idle { sender, since });
        }
    }

    /// Closes what was not used for so long.
    pub(super) fn sweep(&self, kept: Duration) {
        lock(&self.idle).retain(|one| !one.sender.is_closed() && one.since.elapsed() <= kept);
        lock(&self.shared).retain(|one| {
            let is_used = one.streams.load(Ordering::Relaxed) > 0 || one.used.elapsed() <= kept;
            !one.sender.is_closed() && is_used
        });
    }

    /// Closes one connection that nobody uses, whoever's it is.
    pub(super) fn give_up_one(&self) -> bool {
        if lock(&self.idle).pop().is_some() {
            return true;
        }
        let mut shared = lock(&self.shared);
        let unused = |one: &Shared| one.streams.load(Ordering::Relaxed) == 0;
        let found = shared.iter().position(unused);
        found.map(|at| shared.swap_remove(at)).is_some()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a request holds of its upstream until its answer has been sent whole.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(super) load: Load,
    /// Its turn among the upstream's requests.
    pub(super) _turn: Option<OwnedSemaphorePermit>,
    pub(super) taken: Option<Taken>,
    /// The request's body: a connection on which that goes on is of no use to another request.
    pub(super) flow: Flow,
    pub(super) worker: usize,
    pub(super) most_idle: usize,
}

impl Hold {
    /// The connection has become something else, and is of no use to another request.
    pub(crate) fn keep_out(&mut self) {
        self.taken = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(Taken::Http1(sender)) = self.taken.take() else {
            return;
        };
        let endpoint: &Endpoint = self.load.endpoint();
        // Somebody waits for a connection to end, perhaps on another core.
        let is_free = self.flow.has_ended() || sender.is_ready();
        if is_free && endpoint.starved.load(Ordering::Relaxed) == 0 {
            endpoint.pools[self.worker].put_back(sender, self.most_idle);
        }
    }
}
