//! One audit record a connection, however it ends: carried, refused, broken off, or dropped in the middle of a
//! stage.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Instant};

use audit::{Journal, TunnelRecord, Verdict};
use policy::{CanonicalHost, TcpPermit, TcpRoute};

use super::{Carried, Visit, counts::TunnelCounts};
use crate::{
    gateway::Gateway,
    ledger::{ByteCount, micros},
    metrics::Metrics,
    upstream::Opened,
};

/// What stands if the daemon ends before the connection does.
const CUT_OFF: &str = "cut_off";

/// The record of a connection while it is made. It is written when this is dropped.
#[derive(Debug)]
pub(super) struct TunnelLedger {
    journal: Arc<Journal>,
    metrics: Arc<Metrics>,
    counts: Arc<TunnelCounts>,
    began: Instant,
    decided: Option<Instant>,
    /// From the client, and to it.
    pub(super) up: ByteCount,
    pub(super) down: ByteCount,
    record: Box<TunnelRecord>,
}

impl TunnelLedger {
    pub(super) fn begin(gateway: &Gateway, visit: &Visit) -> Self {
        let Visit {
            peer,
            listener,
            began,
            carried,
        } = *visit;
        Self {
            journal: Arc::clone(&gateway.journal),
            metrics: Arc::clone(&gateway.metrics),
            counts: gateway.tunnel_counts.none(),
            began,
            decided: None,
            up: ByteCount::default(),
            down: ByteCount::default(),
            record: Box::new(TunnelRecord {
                decision_id: gateway.ids.draw(),
                peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                listener: listener.bound,
                carried: match carried {
                    Carried::Tls => "tls",
                    Carried::Passthrough => "passthrough",
                },
                tls: None,
                client_certificate: None,
                server_name: None,
                route: None,
                upstream: None,
                endpoint: None,
                verdict: Verdict::Deny,
                reason: Cow::Borrowed(CUT_OFF),
                detail: None,
                ended: None,
                client_bytes: 0,
                upstream_bytes: 0,
                decision_us: 0,
                upstream_us: None,
                total_us: 0,
            }),
        }
    }

    /// The handshake that was made here.
    pub(super) fn greeted(&mut self, tls: Option<&'static str>, certificate: Option<&String>) {
        self.record.tls = tls;
        self.record.client_certificate = certificate.cloned();
    }

    pub(super) fn named(&mut self, name: &CanonicalHost) {
        self.record.server_name = Some(name.to_string());
    }

    pub(super) fn routed(&mut self, route: &TcpRoute, counts: Arc<TunnelCounts>) {
        self.counts = counts;
        self.record.route = Some(route.name.clone());
        self.record.upstream = Some(route.upstream.clone());
    }

    pub(super) fn permitted(&mut self, _permit: &TcpPermit<'_>) {
        self.record.verdict = Verdict::Permit;
        self.record.reason = Cow::Borrowed("permitted");
        self.decide();
    }

    /// By policy, or for want of an upstream.
    pub(super) fn refused(&mut self, reason: &str, detail: Option<String>) {
        self.record.reason = Cow::Owned(reason.to_owned());
        self.record.detail = detail;
        self.metrics.refused_connection(reason);
        let TunnelRecord {
            decision_id, peer, ..
        } = self.record.as_ref();
        tracing::info!(%decision_id, %peer, reason, "refused");
        self.decide();
    }

    pub(super) fn opened(&mut self, opened: &Opened) {
        self.record.endpoint = Some(opened.endpoint());
        self.record.upstream_us = self.decided.map(|decided| micros(decided.elapsed()));
        self.record.ended = Some(Cow::Borrowed(CUT_OFF));
    }

    pub(super) fn ended(&mut self, how: Cow<'static, str>) {
        self.record.ended = Some(how);
    }

    fn decide(&mut self) {
        if self.decided.is_none() {
            let now = Instant::now();
            self.record.decision_us = micros(now - self.began);
            self.decided = Some(now);
        }
    }
}

impl Drop for TunnelLedger {
    fn drop(&mut self) {
        self.record.client_bytes = self.up.bytes();
        self.record.upstream_bytes = self.down.bytes();
        let took = self.began.elapsed();
        self.record.total_us = micros(took);
        self.metrics.tunnels.ended(&self.counts, &self.record, took);
        // The worker hands it over before it waits for anything.
        if let Err(error) = self.journal.post(self.record.as_ref()) {
            tracing::error!(%error, record = ?self.record, "audit record not written");
        }
    }
}
