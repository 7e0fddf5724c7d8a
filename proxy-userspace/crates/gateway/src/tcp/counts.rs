//! What is counted of tunnels, by the routes that are in force and by how they ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use audit::{TunnelRecord, Verdict};
use policy::TcpRoute;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::metrics::{NO_ROUTE, OfRoute};

/// Upper bounds of the histogram in seconds: from one question to a connection that is kept for a day.
const SECONDS: [f64; 9] = [
    0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfTunnel {
    route: String,
    verdict: &'static str,
}

/// Ends are names in this program: there are so many and no more.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfEnd {
    ended: String,
}

/// What the tunnels of one route count in.
#[derive(Debug)]
pub(crate) struct TunnelCounts {
    permitted: Counter,
    denied: Counter,
    seconds: Histogram,
    client_bytes: Counter,
    upstream_bytes: Counter,
}

/// Counts by route, of the routes that are in force.
#[derive(Debug)]
pub(crate) struct TunnelsByRoute {
    routes: BTreeMap<String, Arc<TunnelCounts>>,
    none: Arc<TunnelCounts>,
}

impl TunnelsByRoute {
    pub(crate) fn of(&self, route: &TcpRoute) -> Arc<TunnelCounts> {
        Arc::clone(self.routes.get(&route.name).unwrap_or(&self.none))
    }

    pub(crate) fn none(&self) -> Arc<TunnelCounts> {
        Arc::clone(&self.none)
    }
}

/// The counts of all tunnels; they go on when another configuration is put in force.
#[derive(Debug)]
pub(crate) struct TunnelMetrics {
    tunnels: Family<OfTunnel, Counter>,
    seconds: Family<OfRoute, Histogram, fn() -> Histogram>,
    client_bytes: Family<OfRoute, Counter>,
    upstream_bytes: Family<OfRoute, Counter>,
    ends: Family<OfEnd, Counter>,
}

impl Default for TunnelMetrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            tunnels: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            client_bytes: Family::default(),
            upstream_bytes: Family::default(),
            ends: Family::default(),
        }
    }
}

impl TunnelMetrics {
    /// Names them in a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "tunnels",
            "Connections of TCP listeners that ended, by route (- for none) and verdict",
            self.tunnels.clone(),
        );
        registry.register_with_unit(
            "tunnel_duration",
            "From an accepted connection of a TCP listener to its end",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_with_unit(
            "tunnel_client",
            "Bytes that came from clients of TCP listeners",
            Unit::Bytes,
            self.client_bytes.clone(),
        );
        registry.register_with_unit(
            "tunnel_upstream",
            "Bytes that went to clients of TCP listeners",
            Unit::Bytes,
            self.upstream_bytes.clone(),
        );
        registry.register(
            "tunnel_ends",
            "How what TCP listeners carried ended, by the word in the audit trail",
            self.ends.clone(),
        );
    }

    /// Those of these routes, to be held while they are in force.
    pub(crate) fn by_route(&self, routes: &[TcpRoute]) -> TunnelsByRoute {
        let named = routes.iter().map(|route| route.name.clone());
        TunnelsByRoute {
            routes: named.map(|name| (name.clone(), self.of(name))).collect(),
            none: self.of(NO_ROUTE.to_owned()),
        }
    }

    fn of(&self, route: String) -> Arc<TunnelCounts> {
        let of = |verdict| {
            let route = route.clone();
            self.tunnels
                .get_or_create_owned(&OfTunnel { route, verdict })
        };
        let (permitted, denied) = (of("permit"), of("deny"));
        let by_route = OfRoute { route };
        Arc::new(TunnelCounts {
            permitted,
            denied,
            seconds: self.seconds.get_or_create_owned(&by_route),
            client_bytes: self.client_bytes.get_or_create_owned(&by_route),
            upstream_bytes: self.upstream_bytes.get_or_create_owned(&by_route),
        })
    }

    /// A tunnel has ended.
    pub(crate) fn ended(&self, counts: &TunnelCounts, record: &TunnelRecord, took: Duration) {
        match record.verdict {
            Verdict::Permit => counts.permitted.inc(),
            Verdict::Deny | Verdict::Login => counts.denied.inc(),
        };
        counts.seconds.observe(took.as_secs_f64());
        counts.client_bytes.inc_by(record.client_bytes);
        counts.upstream_bytes.inc_by(record.upstream_bytes);
        if let Some(ended) = &record.ended {
            let ended = ended.to_string();
            self.ends.get_or_create(&OfEnd { ended }).inc();
        }
    }
}
