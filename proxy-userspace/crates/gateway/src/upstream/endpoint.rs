//! One address of an upstream: what it has to do, and whether it may be given more.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{balance::fnv, pool::Pool};

/// Longest time an endpoint is set aside, however often it failed.
const LONGEST_EJECTION: Duration = Duration::from_secs(300);

/// Share of the load that an endpoint gets at the start of its slow start.
const COLDEST: f64 = 0.1;

/// When an endpoint is set aside for failing requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// After so many failures in a row; 0 for never.
    pub failures: u32,
    /// For so long the first time; twice as long each further time, up to five minutes.
    pub first: Duration,
}

/// How an endpoint's connections speak, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Unknown,
    Http1,
    Http2,
}

/// One address.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// Of the address, the same in every process: what keys are spread by.
    pub(super) identity: u64,
    /// Which target of the upstream it belongs to.
    pub(super) target: usize,
    /// For each worker.
    pub(super) pools: Box<[Pool]>,
    /// Connections that it may still have, and requests that wait for one.
    pub(super) connections: Arc<Semaphore>,
    pub(super) starved: AtomicUsize,
    spoken: AtomicU8,
    /// Requests that it has now.
    active: AtomicUsize,
    /// What its health check says.
    healthy: AtomicBool,
    /// Failed requests since the last good one.
    failures: AtomicU32,
    ejections: AtomicU32,
    base: Instant,
    /// Milliseconds after `base` until which it is set aside.
    ejected_until: AtomicU64,
    /// Milliseconds after `base` since which it serves; 0 for one that was there from the start.
    serves_since: AtomicU64,
    slow_start: Duration,
}

impl Endpoint {
    /// `cold` for one that has come to others, and starts slowly.
    pub(super) fn new(
        address: SocketAddr,
        target: usize,
        workers: usize,
        most_connections: usize,
        slow_start: Duration,
        cold: bool,
    ) -> Self {
        Self {
            address,
            identity: fnv(address.to_string().as_bytes()),
            target,
            pools: (0..workers).map(|_| Pool::default()).collect(),
            connections: Arc::new(Semaphore::new(most_connections)),
            starved: AtomicUsize::new(0),
            spoken: AtomicU8::new(0),
            active: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            base: Instant::now(),
            ejected_until: AtomicU64::new(0),
            serves_since: AtomicU64::new(u64::from(cold)),
            slow_start,
        }
    }

    pub(super) fn spoken(&self) -> Spoken {
        match self.spoken.load(Ordering::Relaxed) {
            1 => Spoken::Http1,
            2 => Spoken::Http2,
            _ => Spoken::Unknown,
        }
    }

    pub(super) fn learn(&self, spoken: Spoken) {
        self.spoken.store(spoken as u8, Ordering::Relaxed);
    }

    /// Counts one request until that is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Load {
        self.active.fetch_add(1, Ordering::Relaxed);
        Load(Arc::clone(self))
    }

    /// Requests it has.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Requests it has, as heavy as they are for one that is still cold.
    pub(super) fn load(&self) -> f64 {
        let active = self.active.load(Ordering::Relaxed) + 1;
        active as f64 / self.warmth()
    }

    /// Share of its load that it may have by now.
    pub(super) fn warmth(&self) -> f64 {
        let since = self.serves_since.load(Ordering::Relaxed);
        if since == 0 || self.slow_start.is_zero() {
            return 1.0;
        }
        let served = self.now().saturating_sub(since) as f64;
        (served / self.slow_start.as_millis() as f64).clamp(COLDEST, 1.0)
    }

    /// Whether it may be given a request.
    pub(super) fn may_serve(&self) -> bool {
        self.healthy.load(Ordering::Relaxed) && !self.is_ejected()
    }

    pub(super) fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until > 0 && self.now() < until
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// What its health check says from now on; whether that is new.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        let before = self.healthy.swap(healthy, Ordering::Relaxed);
        if healthy && !before {
            self.serves_since
                .store(self.now().max(1), Ordering::Relaxed);
        }
        before != healthy
    }

    /// A request came back in order.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed. Whether it is set aside for that, and for how long: `may_go` says whether the
    /// others suffice.
    pub(super) fn failed(
        &self,
        ejection: Ejection,
        may_go: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if ejection.failures == 0 || failures < ejection.failures || self.is_ejected() || !may_go()
        {
            return None;
        }
        self.failures.store(0, Ordering::Relaxed);
        let earlier = self.ejections.fetch_add(1, Ordering::Relaxed).min(16);
        let aside = (ejection.first * (1 << earlier)).min(LONGEST_EJECTION);
        let until = self.now() + aside.as_millis() as u64;
        self.ejected_until.store(until.max(1), Ordering::Relaxed);
        self.serves_since.store(until, Ordering::Relaxed);
        Some(aside)
    }

    fn now(&self) -> u64 {
        self.base.elapsed().as_millis() as u64
    }
}

/// A request that an endpoint has, until it is dropped.
#[derive(Debug)]
pub(super) struct Load(Arc<Endpoint>);

impl Load {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
