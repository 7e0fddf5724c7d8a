//! What a stretch of load costs a proxy.

use std::{
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::run::Rigged;

use crate::{
    process::{Serving, proxy_core_worked},
    subject::Subject,
    upstream::Upstream,
};

/// Core time of a proxy over some work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// Its own, in user mode and in the kernel.
    pub(crate) core: Duration,
    /// Time that its core has worked for anybody else.
    pub(crate) others: Duration,
    /// Requests, or whatever was done.
    pub(crate) done: u64,
    /// How long that took.
    pub(crate) wall: Duration,
}

impl Spent {
    /// Over a stretch of a load that runs before and after it: no handshake, no first request and no
    /// end is in it. The upstream counts the requests.
    pub(crate) fn within(subject: &Subject, upstream: &Upstream, length: Duration) -> Rigged<Self> {
        let before = upstream.requests()?;
        let clock = Clock::start(&subject.serving)?;
        thread::sleep(length);
        let after = upstream.requests()?;
        clock.stop(after - before)
    }

    /// Microseconds of core time for each of what was done.
    pub(crate) fn us_each(self) -> f64 {
        self.core.as_secs_f64() * 1e6 / self.done as f64
    }

    /// Of what was done, how much in a second.
    pub(crate) fn per_second(self) -> f64 {
        self.done as f64 / self.wall.as_secs_f64()
    }

    /// Share of its core that the proxy used: 1 when it was what bounded the load.
    pub(crate) fn busy(self) -> f64 {
        self.core.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// Share of its core that others used. Each turn of theirs empties the caches that the proxy has
    /// filled, and so adds to its own time.
    pub(crate) fn disturbed(self) -> f64 {
        self.others.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Counts a proxy's core time from some moment on.
pub(crate) struct Clock<'s> {
    serving: &'s Serving,
    core: Duration,
    worked: Duration,
    begin: Instant,
}

impl<'s> Clock<'s> {
    /// From now on.
    pub(crate) fn start(serving: &'s Serving) -> Rigged<Self> {
        Ok(Self {
            serving,
            core: serving.core_time()?,
            worked: proxy_core_worked()?,
            begin: Instant::now(),
        })
    }

    /// Until now, for this much work.
    pub(crate) fn stop(self, done: u64) -> Rigged<Spent> {
        let core = self.serving.core_time()?.saturating_sub(self.core);
        let worked = proxy_core_worked()?.saturating_sub(self.worked);
        Ok(Spent {
            core,
            others: worked.saturating_sub(core),
            done,
            wall: self.begin.elapsed(),
        })
    }
}
