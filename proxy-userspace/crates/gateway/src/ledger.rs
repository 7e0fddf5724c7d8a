//! One audit record a request, however it ends: served, refused, broken off, or dropped in the
//! middle of a stage.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use audit::{DecisionId, Journal, PrincipalRecord, RequestRecord, Verdict};
use http::{Method, StatusCode, Version, request::Parts};
use policy::{CanonicalRequest, Permit, Route};

use crate::{
    authenticate::Caller,
    connection::Connection,
    flow::{BodyFault, Flow},
    gateway::Gateway,
    metrics::{Metrics, RouteCounts},
    refusal::Refusal,
    tenure::Over,
    trace::Trace,
};

/// The client went away before there was an answer.
const CLIENT_GONE: &str = "client_gone";

/// Counts bytes while they are carried.
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
    flow: Flow,
    tunnel: Option<ByteCount>,
    metrics: Arc<Metrics>,
    counts: Arc<RouteCounts>,
    head_only: bool,
    record: Box<RequestRecord>,
}

impl Ledger {
    pub(crate) fn begin(
        gateway: &Gateway,
        id: DecisionId,
        connection: &Connection,
        trace: Trace,
        parts: &Parts,
    ) -> Self {
        let peer = connection.peer;
        let began = Instant::now();
        Self {
            journal: Arc::clone(&gateway.journal),
            metrics: Arc::clone(&gateway.metrics),
            counts: gateway.counts.none(),
            began,
            decided: None,
            flow: Flow::begin(began),
            tunnel: None,
            head_only: parts.method == Method::HEAD,
            record: Box::new(RequestRecord {
                decision_id: id,
                trace_id: trace.trace,
                span_id: trace.span,
                peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                client: None,
                protocol: protocol_name(parts.version),
                tls: connection.tls,
                client_certificate: connection.client_certificate.clone(),
                method: parts.method.to_string(),
                host: None,
                path: None,
                route: None,
                principal: None,
                verdict: Verdict::Deny,
                // What stands if the client goes away before anything is decided.
                reason: Cow::Borrowed(CLIENT_GONE),
                detail: None,
                status: 0,
                grpc_status: None,
                complete: false,
                request_bytes: 0,
                response_bytes: 0,
                decision_us: 0,
                upstream_us: None,
                total_us: 0,
            }),
        }
    }

    pub(crate) fn canonical(&mut self, request: &CanonicalRequest) {
        self.record.host = Some(request.host().to_string());
        self.record.path = Some(request.path().to_string());
    }

    /// The host that is asked for, in canonical form.
    pub(crate) fn host(&self) -> Option<&str> {
        self.record.host.as_deref()
    }

    /// The name of the route.
    pub(crate) fn route(&self) -> Option<&str> {
        self.record.route.as_deref()
    }

    pub(crate) fn routed(&mut self, route: &Route, counts: Arc<RouteCounts>) {
        self.counts = counts;
        self.record.route = Some(route.name.clone());
    }

    pub(crate) fn authenticated(&mut self, caller: Option<&Caller>) {
        self.record.principal = caller.map(|caller| {
            let (principal, token) = (caller.principal(), caller.token());
            PrincipalRecord {
                issuer: principal.issuer.clone(),
                subject: principal.subject.clone(),
                proven_by: principal.proven_by.as_str(),
                token_id: token.and_then(|token| token.claims.token_id.clone()),
                key_id: caller.key_id(),
            }
        });
    }

    pub(crate) fn permitted(&mut self, _permit: &Permit<'_>) {
        self.record.verdict = Verdict::Permit;
        self.record.reason = Cow::Borrowed("permitted");
        self.decide();
    }

    /// It is a step of a login, and answered here.
    pub(crate) fn logs_in(&mut self, reason: String) {
        self.record.verdict = Verdict::Login;
        self.record.reason = Cow::Owned(reason);
        self.decide();
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.record.reason = Cow::Owned(refusal.reason());
        self.record.detail = refusal.detail();
        let RequestRecord {
            decision_id,
            peer,
            reason,
            detail,
            ..
        } = self.record.as_ref();
        tracing::info!(%decision_id, %peer, %reason, detail = detail.as_deref(), "refused");
        self.decide();
    }

    pub(crate) fn answered(&mut self) {
        self.record.upstream_us = self.decided.map(|decided| micros(decided.elapsed()));
    }

    /// A WebSocket begins: what goes to the client is counted here, however it ends.
    pub(crate) fn tunnels(&mut self) -> ByteCount {
        self.tunnel.get_or_insert_default().clone()
    }

    /// A WebSocket has ended, as both ends meant it to or not.
    pub(crate) fn carried(&mut self, whole: bool) {
        self.record.complete = whole;
    }

    /// More of the answer's body goes to the client.
    pub(crate) fn sends(&mut self, bytes: usize, ended: bool) {
        self.record.response_bytes += bytes as u64;
        self.record.complete = ended;
    }

    /// The upstream fell silent in the middle of its answer.
    pub(crate) fn silent(&mut self) {
        self.record.reason = Cow::Borrowed("upstream_silent");
    }

    /// What let the request in is good no more.
    pub(crate) fn over(&mut self, fault: &Over) {
        self.record.reason = Cow::Owned(fault.to_string());
    }

    /// The answer was broken off, by the upstream or because of the request's body.
    pub(crate) fn broken_off(&mut self) {
        self.record.reason = match self.flow.fault() {
            Some(fault) => Cow::Owned(fault.to_string()),
            None => Cow::Borrowed("answer_broken"),
        };
    }

    /// The answer's body is gone, `ended` before it was asked for anything or not.
    pub(crate) fn had_nothing_to_send(&mut self, ended: bool) {
        self.record.complete |= self.head_only || ended;
    }

    /// What the service said of a gRPC call.
    pub(crate) fn grpc_status(&mut self, status: u32) {
        self.record.grpc_status = Some(status);
    }

    /// Who asks, where that isn't who is connected.
    pub(crate) fn client(&mut self, address: IpAddr) {
        self.record.client = Some(address);
    }

    /// The status of an answer that has no body to count.
    pub(crate) fn status(&mut self, status: StatusCode) {
        self.record.status = status.as_u16();
    }

    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// What a permitted request came to that nobody was there to be answered of.
    fn unanswered(&self) -> Cow<'static, str> {
        match self.flow.fault() {
            Some(fault) => fault.to_string().into(),
            None if self.flow.has_ended() => CLIENT_GONE.into(),
            // Nobody read on when it broke.
            None => BodyFault::Broken.to_string().into(),
        }
    }

    fn decide(&mut self) {
        if self.decided.is_none() {
            let now = Instant::now();
            self.record.decision_us = micros(now - self.began);
            self.decided = Some(now);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.record.request_bytes = self.flow.bytes();
        if let Some(tunnel) = &self.tunnel {
            self.record.response_bytes = tunnel.bytes();
        }
        if self.record.status == 0 && self.record.verdict == Verdict::Permit {
            self.record.reason = self.unanswered();
        }
        let took = self.began.elapsed();
        self.record.total_us = micros(took);
        self.metrics.ended(&self.counts, &self.record, took);
        // The worker hands it over before it waits for anything.
        if let Err(error) = self.journal.post(self.record.as_ref()) {
            tracing::error!(%error, record = ?self.record, "audit record not written");
        }
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn protocol_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/?",
    }
}
