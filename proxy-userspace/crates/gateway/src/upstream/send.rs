//! One request to an upstream: its turn, an endpoint, a connection, the head of the answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use super::{
    Hold, Protocol, Upstream, UpstreamBody, UpstreamFault,
    connect::{Purpose, Sender},
    endpoint::{Endpoint, Load, Spoken},
    fault::ConnectFault,
    form::{as_http1, as_http2},
    pool::Taken,
};
use crate::flow::Flow;

/// Connections in a row that turn out closed by the endpoint before a new one is made.
const MOST_STALE: usize = 2;

/// How a request is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    /// The worker that it is on.
    pub(crate) worker: usize,
    /// What keeps it with an endpoint.
    pub(crate) key: Option<u64>,
    /// The connection is to become something else, which only HTTP/1.1 can.
    pub(crate) upgrade: bool,
    /// How long the client may owe the next part of its body.
    pub(crate) client_timeout: Duration,
    /// Whose request it is.
    pub(crate) client: SocketAddr,
}

/// Requests that wait for a turn or a connection.
#[derive(Debug)]
pub(super) struct Waiting(pub(super) AtomicUsize);

/// What came of a request that was given to a connection.
enum Outcome {
    Answered(Response<Incoming>),
    /// Nothing of it was sent.
    Unsent(Box<Request<UpstreamBody>>, UpstreamFault),
    Failed(UpstreamFault),
}

impl Upstream {
    /// Sends a request and waits for the head of its answer.
    ///
    /// What was not sent is given to another endpoint, as often as the bounds and the budget have it. What
    /// was sent is never sent again.
    pub(crate) async fn send(
        &self,
        mut request: Request<UpstreamBody>,
        flow: &Flow,
        sending: Sending,
    ) -> Result<(Response<Incoming>, Hold), UpstreamFault> {
        let Sending {
            worker,
            key,
            upgrade,
            client_timeout,
            client,
        } = sending;
        let purpose = Purpose {
            only_http1: upgrade,
            client: Some(client),
        };
        self.budget.earn();
        let turn = self.turn().await?;
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut stale = 0;
        loop {
            let endpoint = self.choose(key, &tried).await?;
            let load = endpoint.begin();
            let may_be_kept = stale < MOST_STALE && !self.spec.introduces;
            let taken = self
                .connection(&endpoint, worker, purpose, may_be_kept)
                .await;
            let (fault, was_kept) = match taken {
                Ok((mut taken, kept)) => {
                    let exchange = self.exchange(&mut taken, request, flow, client_timeout);
                    match exchange.await {
                        Outcome::Answered(response) => {
                            self.note_status(&endpoint, response.status());
                            let mut hold = self.hold(load, turn, taken, worker);
                            if self.spec.introduces {
                                hold.keep_out();
                            }
                            return Ok((response, hold));
                        }
                        Outcome::Failed(fault) => {
                            if !matches!(fault, UpstreamFault::ClientStalled) {
                                self.note_failure(&endpoint);
                            }
                            return Err(fault);
                        }
                        Outcome::Unsent(back, fault) => {
                            request = *back;
                            (fault, kept)
                        }
                    }
                }
                Err(fault) => (fault, false),
            };
            if was_kept && stale < MOST_STALE {
                // The endpoint had closed a connection that it needed no more: no failure of its.
                stale += 1;
                continue;
            }
            if matches!(fault, UpstreamFault::Overloaded) {
                return Err(fault);
            }
            self.note_failure(&endpoint);
            if tried.len() >= self.spec.bounds.retries || !self.budget.spend() {
                return Err(fault);
            }
            tried.push(endpoint);
        }
    }

    fn hold(
        &self,
        load: Load,
        turn: Option<OwnedSemaphorePermit>,
        taken: Taken,
        worker: usize,
    ) -> Hold {
        Hold {
            load,
            _turn: turn,
            taken: Some(taken),
            worker,
            most_idle: self.spec.bounds.max_idle,
        }
    }

    async fn choose(
        &self,
        key: Option<u64>,
        tried: &[Arc<Endpoint>],
    ) -> Result<Arc<Endpoint>, UpstreamFault> {
        let mut endpoints = self.endpoints.load();
        if endpoints.is_empty() {
            let mut resolved = self.resolved.subscribe();
            let looked_up = resolved.wait_for(|done| *done);
            let _ = time::timeout(self.spec.bounds.connect_timeout, looked_up).await;
            endpoints = self.endpoints.load();
        }
        if endpoints.is_empty() {
            return Err(UpstreamFault::Unresolved);
        }
        self.draw
            .choose(&endpoints, &self.spec.balance, key, tried)
            .ok_or(UpstreamFault::Unhealthy)
    }

    /// A connection of an endpoint, and whether it was a kept one.
    async fn connection(
        &self,
        endpoint: &Arc<Endpoint>,
        worker: usize,
        purpose: Purpose,
        may_be_kept: bool,
    ) -> Result<(Taken, bool), UpstreamFault> {
        let only_http1 = purpose.only_http1;
        let bounds = &self.spec.bounds;
        let pool = &endpoint.pools[worker];
        let spoken = self.spoken(endpoint, only_http1);
        let kept = || match spoken {
            Spoken::Http1 => pool.take_idle(bounds.idle_timeout),
            Spoken::Http2 => pool.take_stream(bounds.max_streams),
            Spoken::Unknown => None,
        };
        if may_be_kept && let Some(taken) = kept() {
            return Ok((taken, true));
        }
        // A connection that others can share is opened once for all that wait for one.
        let _opening = match spoken {
            Spoken::Http1 => None,
            Spoken::Http2 | Spoken::Unknown => Some(pool.opening.lock().await),
        };
        if spoken != Spoken::Http1 && may_be_kept {
            let shared = pool.take_stream(bounds.max_streams);
            if let Some(taken) = shared.or_else(|| pool.take_idle(bounds.idle_timeout)) {
                return Ok((taken, true));
            }
        }
        let slot = self.slot(endpoint).await?;
        let host = &self.hosts[endpoint.target];
        let sender = self
            .connector
            .connect(endpoint.address, host, purpose, Some(slot))
            .await
            .map_err(UpstreamFault::Unreachable)?;
        if !only_http1 {
            endpoint.learn(match &sender {
                Sender::Http1(_) => Spoken::Http1,
                Sender::Http2(_) => Spoken::Http2,
            });
        }
        Ok((pool.admit(sender, !self.spec.introduces), false))
    }

    /// What is known before a connection is there.
    fn spoken(&self, endpoint: &Endpoint, only_http1: bool) -> Spoken {
        match (self.spec.protocol, &self.spec.tls) {
            _ if only_http1 => Spoken::Http1,
            (Protocol::Http2, _) => Spoken::Http2,
            (Protocol::Http1, _) | (Protocol::Negotiated, None) => Spoken::Http1,
            (Protocol::Negotiated, Some(_)) => endpoint.spoken(),
        }
    }

    /// A turn among the upstream's requests, where they are bounded.
    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, UpstreamFault> {
        match &self.turns {
            None => Ok(None),
            Some(turns) => self.wait_for(turns, || ()).await.map(Some),
        }
    }

    /// Room for one more connection to an endpoint.
    async fn slot(&self, endpoint: &Endpoint) -> Result<OwnedSemaphorePermit, UpstreamFault> {
        if let Ok(slot) = Arc::clone(&endpoint.connections).try_acquire_owned() {
            return Ok(slot);
        }
        let _starving = Counted::enter(&endpoint.starved);
        self.wait_for(&endpoint.connections, || {
            // What another core keeps for later is of no use now.
            let _ = endpoint.pools.iter().any(super::pool::Pool::give_up_one);
        })
        .await
    }

    async fn wait_for(
        &self,
        permits: &Arc<Semaphore>,
        before: impl FnOnce(),
    ) -> Result<OwnedSemaphorePermit, UpstreamFault> {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Ok(permit);
        }
        let place = Counted::enter(&self.waiting.0);
        if place.before >= self.spec.bounds.max_waiting {
            return Err(UpstreamFault::Overloaded);
        }
        before();
        let permit = Arc::clone(permits).acquire_owned();
        match time::timeout(self.spec.bounds.queue_timeout, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(UpstreamFault::Overloaded),
        }
    }

    /// Gives a request to a connection and waits for the head of the answer.
    async fn exchange(
        &self,
        taken: &mut Taken,
        mut request: Request<UpstreamBody>,
        flow: &Flow,
        client_timeout: Duration,
    ) -> Outcome {
        let sent = Instant::now();
        let answered = match taken {
            Taken::Http1(sender) => {
                as_http1(&mut request);
                let sending = sender.try_send_request(request);
                self.in_time(sending, sent, flow, client_timeout).await
            }
            Taken::Http2(sender, _) => {
                as_http2(&mut request, self.spec.tls.is_some());
                let sending = sender.try_send_request(request);
                self.in_time(sending, sent, flow, client_timeout).await
            }
        };
        match answered {
            Ok(Ok(response)) => Outcome::Answered(response),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => Outcome::Unsent(
                    Box::new(request),
                    UpstreamFault::Unreachable(ConnectFault::Http(error.into_error())),
                ),
                None => Outcome::Failed(UpstreamFault::Broken(error.into_error())),
            },
            Err(fault) => Outcome::Failed(fault),
        }
    }

    /// Waits for the head of an answer: for the upstream from the last part that was sent, for the client
    /// while it owes the next one.
    async fn in_time<T>(
        &self,
        sending: impl Future<Output = T>,
        sent: Instant,
        flow: &Flow,
        client_timeout: Duration,
    ) -> Result<T, UpstreamFault> {
        let bounds = &self.spec.bounds;
        tokio::pin!(sending);
        let latest = bounds.total_timeout.map(|total| flow.began() + total);
        let mut until = sent + bounds.response_timeout.min(client_timeout);
        loop {
            let wait = latest.map_or(until, |latest| until.min(latest));
            match time::timeout_at(wait.into(), &mut sending).await {
                Ok(answered) => return Ok(answered),
                Err(_) if latest.is_some_and(|latest| latest <= Instant::now()) => {
                    return Err(UpstreamFault::Timeout);
                }
                Err(_) => {}
            }
            let (bound, late) = if flow.is_owed() {
                (client_timeout, UpstreamFault::ClientStalled)
            } else {
                (bounds.response_timeout, UpstreamFault::Timeout)
            };
            until = flow.moved().max(sent) + bound;
            if until <= Instant::now() {
                return Err(late);
            }
        }
    }

    /// A status that says that the endpoint, not the request, is at fault counts against it.
    fn note_status(&self, endpoint: &Arc<Endpoint>, status: StatusCode) {
        match status {
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => self.note_failure(endpoint),
            _ => endpoint.succeeded(),
        }
    }

    fn note_failure(&self, endpoint: &Arc<Endpoint>) {
        let endpoints = self.endpoints.load();
        // Half of them serve, whatever they do: setting all aside would help nobody.
        let may_go = || {
            let aside = endpoints.iter().filter(|it| !it.may_serve()).count();
            (aside + 1) * 2 <= endpoints.len()
        };
        if let Some(aside) = endpoint.failed(self.spec.ejection, may_go) {
            let (upstream, address) = (self.name(), endpoint.address);
            tracing::warn!(upstream, %address, ?aside, "endpoint set aside: requests to it failed");
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
