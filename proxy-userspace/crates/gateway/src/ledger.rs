//! One audit record a request, however it ends: served, refused, broken off, or dropped in the
//! middle of a stage.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use audit::{Event, Journal, PrincipalRecord, RequestRecord, Verdict};
use bytes::Bytes;
use http::{Method, Response, StatusCode, Version, request::Parts};
use http_body::{Body, Frame, SizeHint};
use policy::{CanonicalRequest, Permit, Principal, Route};

use crate::refusal::Refusal;

/// Names a decision to the client, the upstream and the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecisionId(u64, u64);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}

/// Hands out decision ids: a random half for the process, a counter for the decision.
#[derive(Debug)]
pub(crate) struct DecisionIds {
    process: u64,
    next: AtomicU64,
}

impl DecisionIds {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self {
            process: getrandom::u64()?,
            next: AtomicU64::new(0),
        })
    }

    pub(crate) fn draw(&self) -> DecisionId {
        DecisionId(self.process, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Counts the bytes of a request's body as they are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByteCount(Arc<AtomicU64>);

impl ByteCount {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The record of a request while it is made. It is written when this is dropped, so no way out
/// of the pipeline is without one.
#[derive(Debug)]
pub(crate) struct Ledger {
    journal: Arc<Journal>,
    began: Instant,
    decided: Option<Instant>,
    request_bytes: ByteCount,
    head_only: bool,
    record: RequestRecord,
}

impl Ledger {
    pub(crate) fn begin(
        journal: &Arc<Journal>,
        id: DecisionId,
        peer: SocketAddr,
        tls: &str,
        parts: &Parts,
    ) -> Self {
        Self {
            journal: Arc::clone(journal),
            began: Instant::now(),
            decided: None,
            request_bytes: ByteCount::default(),
            head_only: parts.method == Method::HEAD,
            record: RequestRecord {
                decision_id: id.to_string(),
                peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string(),
                protocol: protocol_name(parts.version).to_owned(),
                tls: tls.to_owned(),
                method: parts.method.to_string(),
                host: None,
                path: None,
                route: None,
                principal: None,
                verdict: Verdict::Deny,
                // What stands if the client goes away before anything is decided.
                reason: "client_gone".to_owned(),
                status: 0,
                complete: false,
                request_bytes: 0,
                response_bytes: 0,
                decision_us: 0,
                upstream_us: None,
                total_us: 0,
            },
        }
    }

    pub(crate) fn canonical(&mut self, request: &CanonicalRequest) {
        self.record.host = Some(request.host().to_string());
        self.record.path = Some(request.path().to_string());
    }

    pub(crate) fn routed(&mut self, route: &Route) {
        self.record.route = Some(route.name.clone());
    }

    pub(crate) fn authenticated(&mut self, principal: Option<&Principal>) {
        self.record.principal = principal.map(|principal| PrincipalRecord {
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
        });
    }

    pub(crate) fn permitted(&mut self, _permit: &Permit<'_>) {
        self.record.verdict = Verdict::Permit;
        "permitted".clone_into(&mut self.record.reason);
        self.decide();
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.record.reason = refusal.reason();
        let RequestRecord {
            decision_id,
            peer,
            reason,
            ..
        } = &self.record;
        tracing::info!(decision_id, peer, reason, "refused");
        self.decide();
    }

    pub(crate) fn answered(&mut self) {
        self.record.upstream_us = self.decided.map(|decided| micros(decided.elapsed()));
    }

    /// Ends the record of a WebSocket.
    pub(crate) fn carried(&mut self, to_client: u64, whole: bool) {
        self.record.response_bytes = to_client;
        self.record.complete = whole;
    }

    /// The status of an answer that has no body to count.
    pub(crate) fn status(&mut self, status: StatusCode) {
        self.record.status = status.as_u16();
    }

    pub(crate) fn request_bytes(&self) -> ByteCount {
        self.request_bytes.clone()
    }

    fn decide(&mut self) {
        if self.decided.is_none() {
            let now = Instant::now();
            self.record.decision_us = micros(now - self.began);
            self.decided = Some(now);
        }
    }

    /// Hands the record to the answer's body, which ends it.
    pub(crate) fn close_with<B>(mut self, response: Response<B>) -> Response<Recorded<B>>
    where
        B: Body<Data = Bytes>,
    {
        self.record.status = response.status().as_u16();
        response.map(|body| Recorded { body, ledger: self })
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.record.request_bytes = self.request_bytes.bytes();
        self.record.total_us = micros(self.began.elapsed());
        if let Err(error) = self.journal.record(&Event::Request(self.record.clone())) {
            tracing::error!(%error, decision_id = self.record.decision_id, "audit record lost");
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn protocol_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/?",
    }
}

/// The body of an answer; counts what is sent and ends the record.
#[derive(Debug)]
pub(crate) struct Recorded<B: Body<Data = Bytes>> {
    body: B,
    ledger: Ledger,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Recorded<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let sent = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.ledger.record.response_bytes += sent;
                self.ledger.record.complete = self.body.is_end_stream();
            }
            Poll::Ready(None) => self.ledger.record.complete = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body<Data = Bytes>> Drop for Recorded<B> {
    fn drop(&mut self) {
        // Nobody polls a body that has nothing to send.
        let nothing_to_send = self.ledger.head_only || self.body.is_end_stream();
        self.ledger.record.complete |= nothing_to_send;
    }
}
