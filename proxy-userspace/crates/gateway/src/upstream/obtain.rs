//! A connection for one request: a kept one, a stream of a shared one, or a new one, each in bounded time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use super::{
    Protocol, Upstream, UpstreamFault,
    connect::{Purpose, Sender},
    endpoint::{Endpoint, Spoken},
    pool::{Pool, Taken},
};

/// Requests that wait for a turn or a connection.
#[derive(Debug)]
pub(super) struct Waiting(pub(super) AtomicUsize);

/// What came of waiting for others.
enum Waited<T> {
    /// It is this request's turn.
    Turn(T),
    /// A stream became free meanwhile.
    Taken(Taken),
}

impl Upstream {
    /// A connection of an endpoint, and whether it was a kept one.
    pub(super) async fn connection(
        &self,
        endpoint: &Arc<Endpoint>,
        worker: usize,
        purpose: Purpose,
        may_be_kept: bool,
    ) -> Result<(Taken, bool), UpstreamFault> {
        let pool = &endpoint.pools[worker];
        let spoken = self.spoken(endpoint, purpose.only_http1);
        let kept = || self.kept(pool, spoken).filter(|_| may_be_kept);
        if let Some(taken) = kept() {
            return Ok((taken, true));
        }
        if spoken == Spoken::Http1 || self.spec.introduces {
            let slot = self.slot(endpoint, None).await?;
            let opened = self.open(endpoint, pool, purpose, slot).await?;
            return Ok((opened, false));
        }
        // A connection that others can share is opened once for all that wait for one.
        let _opening = match pool.opening.try_lock() {
            Ok(opening) => opening,
            Err(_) => match self.in_line(pool, pool.opening.lock(), &kept).await? {
                Waited::Turn(opening) => opening,
                Waited::Taken(taken) => return Ok((taken, true)),
            },
        };
        // It may have spoken for the first time meanwhile.
        let spoken = self.spoken(endpoint, purpose.only_http1);
        let kept = || self.kept(pool, spoken).filter(|_| may_be_kept);
        if let Some(taken) = kept() {
            return Ok((taken, true));
        }
        let slot = match Arc::clone(&endpoint.connections).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                let slot = self.slot(endpoint, Some(pool));
                match self.in_line(pool, slot, &kept).await? {
                    Waited::Turn(slot) => slot?,
                    Waited::Taken(taken) => return Ok((taken, true)),
                }
            }
        };
        let opened = self.open(endpoint, pool, purpose, slot).await?;
        Ok((opened, false))
    }

    fn kept(&self, pool: &Pool, spoken: Spoken) -> Option<Taken> {
        let bounds = &self.spec.bounds;
        match spoken {
            Spoken::Http1 => pool.take_idle(bounds.idle_timeout),
            Spoken::Http2 => pool.take_stream(bounds.max_streams),
            Spoken::Unknown => None,
        }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        pool: &Pool,
        purpose: Purpose,
        slot: OwnedSemaphorePermit,
    ) -> Result<Taken, UpstreamFault> {
        let host = &self.hosts[endpoint.target];
        // Of what a request carries about, this would be two thirds, and few open a connection.
        let connected =
            Box::pin(
                self.connector
                    .connect(endpoint.address, host, purpose, Some(slot)),
            );
        let sender = connected.await.map_err(UpstreamFault::Unreachable)?;
        if !purpose.only_http1 {
            endpoint.learn(match &sender {
                Sender::Http1(_) => Spoken::Http1,
                Sender::Http2(_) => Spoken::Http2,
            });
        }
        Ok(pool.admit(sender, !self.spec.introduces))
    }

    /// Waits for a turn, or for a stream that becomes free: as one of those that wait, and not for ever.
    async fn in_line<T>(
        &self,
        pool: &Pool,
        turn: impl Future<Output = T>,
        kept: &impl Fn() -> Option<Taken>,
    ) -> Result<Waited<T>, UpstreamFault> {
        let _place = self.place()?;
        let bounds = &self.spec.bounds;
        tokio::pin!(turn);
        let waiting = async {
            loop {
                let freed = pool.freed.notified();
                tokio::select! {
                    turn = &mut turn => return Waited::Turn(turn),
                    () = freed => {
                        if let Some(taken) = kept() {
                            return Waited::Taken(taken);
                        }
                    }
                }
            }
        };
        // Whoever is opening one may take as long as that takes.
        let longest = bounds.queue_timeout.max(bounds.connect_timeout);
        let waited = time::timeout(longest, waiting).await;
        waited.map_err(|_| UpstreamFault::Overloaded)
    }

    /// What is known before a connection is there.
    fn spoken(&self, endpoint: &Endpoint, only_http1: bool) -> Spoken {
        match (self.spec.protocol, &self.spec.tls) {
            _ if only_http1 => Spoken::Http1,
            (Protocol::Http2, _) => Spoken::Http2,
            (Protocol::Http1 | Protocol::Tcp, _) | (Protocol::Negotiated, None) => Spoken::Http1,
            (Protocol::Negotiated, Some(_)) => endpoint.spoken(),
        }
    }

    /// A turn among the upstream's requests, where they are bounded.
    pub(super) async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, UpstreamFault> {
        match &self.turns {
            None => Ok(None),
            Some(turns) => self.wait_for(turns).await.map(Some),
        }
    }

    /// Room for one more connection to an endpoint. What is kept for later, whoever's it is, is given up for
    /// it, but for what is in `own`, which the caller looks at himself.
    pub(super) async fn slot(
        &self,
        endpoint: &Endpoint,
        own: Option<&Pool>,
    ) -> Result<OwnedSemaphorePermit, UpstreamFault> {
        if let Ok(slot) = Arc::clone(&endpoint.connections).try_acquire_owned() {
            return Ok(slot);
        }
        let _starving = Counted::enter(&endpoint.starved);
        let others = endpoint
            .pools
            .iter()
            .filter(|pool| own.is_none_or(|own| !std::ptr::eq(*pool, own)));
        let _ = others.into_iter().any(Pool::give_up_one);
        self.wait_for(&endpoint.connections).await
    }

    fn place(&self) -> Result<Counted<'_>, UpstreamFault> {
        let place = Counted::enter(&self.waiting.0);
        if place.before >= self.spec.bounds.max_waiting {
            return Err(UpstreamFault::Overloaded);
        }
        Ok(place)
    }

    async fn wait_for(
        &self,
        permits: &Arc<Semaphore>,
    ) -> Result<OwnedSemaphorePermit, UpstreamFault> {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Ok(permit);
        }
        let _place = self.place()?;
        let permit = Arc::clone(permits).acquire_owned();
        match time::timeout(self.spec.bounds.queue_timeout, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(UpstreamFault::Overloaded),
        }
    }
}

/// One of those that are counted, until it is dropped.
struct Counted<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Counted<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        let before = count.fetch_add(1, Ordering::Relaxed);
        Self { count, before }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
