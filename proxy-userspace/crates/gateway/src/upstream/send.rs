//! One request to an upstream: its turn, an endpoint, a connection, the head of the answer.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::{sync::OwnedSemaphorePermit, time};

use super::{
    Hold, Upstream, UpstreamBody, UpstreamFault,
    connect::Purpose,
    endpoint::{Endpoint, Load},
    fault::ConnectFault,
    form::{as_http1, as_http2},
    pool::Taken,
};
use crate::{flow::Flow, tenure::Tenure};

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

/// How long the head of an answer is waited for.
struct Waiting<'a> {
    flow: &'a Flow,
    client_timeout: Duration,
    tenure: &'a mut Option<Tenure>,
}

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
        request: Box<Request<UpstreamBody>>,
        flow: &Flow,
        sending: Sending,
        tenure: &mut Option<Tenure>,
    ) -> Result<(Response<Incoming>, Hold), UpstreamFault> {
        let sent = self.send_untimed(request, flow, sending, tenure);
        let Some(total) = self.spec.bounds.total_timeout else {
            return sent.await;
        };
        let late = |_| match flow.is_owed() {
            true => UpstreamFault::ClientStalled,
            false => UpstreamFault::Timeout,
        };
        time::timeout_at((flow.began() + total).into(), sent)
            .await
            .map_err(late)
            .flatten()
    }

    async fn send_untimed(
        &self,
        mut request: Box<Request<UpstreamBody>>,
        flow: &Flow,
        sending: Sending,
        tenure: &mut Option<Tenure>,
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
                    let waiting = Waiting {
                        flow,
                        client_timeout,
                        tenure,
                    };
                    match self.exchange(&mut taken, request, waiting).await {
                        Outcome::Answered(response) => {
                            self.note_status(&endpoint, response.status());
                            let mut hold = self.hold(load, turn, taken, worker, flow);
                            if self.spec.introduces {
                                hold.keep_out();
                            }
                            return Ok((response, hold));
                        }
                        Outcome::Failed(fault) => {
                            // What the client broke off says nothing about the endpoint.
                            let of_client = matches!(
                                fault,
                                UpstreamFault::ClientStalled | UpstreamFault::Over(_)
                            );
                            if !of_client && !flow.is_broken() {
                                self.note_failure(&endpoint);
                            }
                            return Err(fault);
                        }
                        Outcome::Unsent(back, fault) => {
                            request = back;
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
            if !self.may_try_again(&tried) {
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
        flow: &Flow,
    ) -> Hold {
        Hold {
            load,
            _turn: turn,
            taken: Some(taken),
            flow: flow.clone(),
            worker,
            most_idle: self.spec.bounds.max_idle,
        }
    }

    /// Whether another endpoint may be tried after these and the one that has just failed.
    pub(super) fn may_try_again(&self, tried: &[Arc<Endpoint>]) -> bool {
        tried.len() < self.spec.bounds.retries && self.budget.spend()
    }

    pub(super) async fn choose(
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

    /// Gives a request to a connection and waits for the head of the answer.
    async fn exchange(
        &self,
        taken: &mut Taken,
        mut request: Box<Request<UpstreamBody>>,
        waiting: Waiting<'_>,
    ) -> Outcome {
        // It may have waited for its turn or a connection.
        if let Some(Err(over)) = waiting.tenure.as_mut().map(Tenure::stands) {
            return Outcome::Failed(UpstreamFault::Over(over));
        }
        let sent = Instant::now();
        let answered = match taken {
            Taken::Http1(sender) => {
                as_http1(&mut request);
                let sending = sender.try_send_request(*request);
                self.in_time(sending, sent, waiting).await
            }
            Taken::Http2(sender, _) => {
                as_http2(&mut request, self.spec.tls.is_some());
                let sending = sender.try_send_request(*request);
                self.in_time(sending, sent, waiting).await
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
    /// while it owes the next one, and no longer than what let the request in is good.
    async fn in_time<T>(
        &self,
        sending: impl Future<Output = T>,
        sent: Instant,
        waiting: Waiting<'_>,
    ) -> Result<T, UpstreamFault> {
        let Waiting {
            flow,
            client_timeout,
            tenure,
        } = waiting;
        let bounds = &self.spec.bounds;
        tokio::pin!(sending);
        let mut until = sent + bounds.response_timeout.min(client_timeout);
        loop {
            let wakes = tenure.as_ref().map_or(until, |it| it.wakes().min(until));
            let looking = poll_fn(|context| match sending.as_mut().poll(context) {
                Poll::Ready(answered) => Poll::Ready(Ok(answered)),
                Poll::Pending => match tenure.as_mut().map(|it| it.look(context)) {
                    Some(Err(fault)) => Poll::Ready(Err(UpstreamFault::Over(fault))),
                    Some(Ok(())) | None => Poll::Pending,
                },
            });
            if let Ok(answered) = time::timeout_at(wakes.into(), looking).await {
                return answered;
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

    pub(super) fn note_failure(&self, endpoint: &Arc<Endpoint>) {
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
