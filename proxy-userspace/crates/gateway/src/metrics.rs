//! Counts of what the gateway did, for Prometheus. What a request counts in is held by its route: nothing is
//! looked up by label while one is served.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use audit::{RequestRecord, Verdict};
use policy::Route;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{runtimes::Runtimes, tcp::TunnelMetrics};

/// Upper bounds of the histogram in seconds: from what a request costs on one host to what a person waits.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// Where requests count that no route was found for.
pub(crate) const NO_ROUTE: &str = "-";

/// Statuses by their first digit, from 1 on; the last for none at all.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OfRoute {
    pub(crate) route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRequest {
    route: String,
    verdict: &'static str,
    status: &'static str,
}

/// Reasons are names in this program: there are so many and no more.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfReason {
    reason: String,
}

/// What requests of one route count in.
#[derive(Debug)]
pub(crate) struct RouteCounts {
    permitted: [Counter; CLASSES.len()],
    denied: [Counter; CLASSES.len()],
    logins: [Counter; CLASSES.len()],
    seconds: Histogram,
    request_bytes: Counter,
    response_bytes: Counter,
}

impl RouteCounts {
    fn count(&self, record: &RequestRecord, took: Duration) {
        let class = usize::from(record.status / 100);
        let class = class.checked_sub(1).unwrap_or(CLASSES.len());
        let of = match record.verdict {
            Verdict::Permit => &self.permitted,
            Verdict::Deny => &self.denied,
            Verdict::Login => &self.logins,
        };
        of[class.min(CLASSES.len() - 1)].inc();
        self.seconds.observe(took.as_secs_f64());
        self.request_bytes.inc_by(record.request_bytes);
        self.response_bytes.inc_by(record.response_bytes);
    }
}

/// Counts by route, of the routes that are in force.
#[derive(Debug)]
pub(crate) struct ByRoute {
    routes: BTreeMap<String, Arc<RouteCounts>>,
    none: Arc<RouteCounts>,
}

impl ByRoute {
    pub(crate) fn of(&self, route: &Route) -> Arc<RouteCounts> {
        Arc::clone(self.routes.get(&route.name).unwrap_or(&self.none))
    }

    pub(crate) fn none(&self) -> Arc<RouteCounts> {
        Arc::clone(&self.none)
    }
}

/// The counts of a gateway; they go on when another configuration is put in force.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<OfRequest, Counter>,
    seconds: Family<OfRoute, Histogram, fn() -> Histogram>,
    request_bytes: Family<OfRoute, Counter>,
    response_bytes: Family<OfRoute, Counter>,
    refusals: Family<OfReason, Counter>,
    connections: Counter,
    open: Gauge,
    refused_connections: Family<OfReason, Counter>,
    pub(crate) tunnels: TunnelMetrics,
    /// What runs.
    pub runtimes: Runtimes,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            request_bytes: Family::default(),
            response_bytes: Family::default(),
            refusals: Family::default(),
            connections: Counter::default(),
            open: Gauge::default(),
            refused_connections: Family::default(),
            tunnels: TunnelMetrics::default(),
            runtimes: Runtimes::default(),
        }
    }
}

impl Metrics {
    /// Names them in a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests that ended, by route (- for none), verdict and class of the status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a request's head to the end of its answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_with_unit(
            "request_body",
            "Bytes of requests' bodies",
            Unit::Bytes,
            self.request_bytes.clone(),
        );
        registry.register_with_unit(
            "response_body",
            "Bytes of answers' bodies",
            Unit::Bytes,
            self.response_bytes.clone(),
        );
        registry.register(
            "refusals",
            "Requests that were refused or failed, by the reason in the audit trail",
            self.refusals.clone(),
        );
        registry.register(
            "connections",
            "Connections that were accepted",
            self.connections.clone(),
        );
        registry.register(
            "open_connections",
            "Connections that are open",
            self.open.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections that carried no request, by the reason in the audit trail",
            self.refused_connections.clone(),
        );
        self.tunnels.register(registry);
    }

    /// Those of these routes, to be held while they are in force.
    pub(crate) fn by_route<'r>(&self, routes: impl Iterator<Item = &'r Route>) -> ByRoute {
        ByRoute {
            routes: routes
                .map(|route| (route.name.clone(), self.counts_of(&route.name)))
                .collect(),
            none: self.counts_of(NO_ROUTE),
        }
    }

    fn counts_of(&self, route: &str) -> Arc<RouteCounts> {
        let route = route.to_owned();
        let of = |verdict| {
            CLASSES.map(|status| {
                let labels = OfRequest {
                    route: route.clone(),
                    verdict,
                    status,
                };
                self.requests.get_or_create_owned(&labels)
            })
        };
        let by_route = OfRoute {
            route: route.clone(),
        };
        Arc::new(RouteCounts {
            permitted: of("permit"),
            denied: of("deny"),
            logins: of("login"),
            seconds: self.seconds.get_or_create_owned(&by_route),
            request_bytes: self.request_bytes.get_or_create_owned(&by_route),
            response_bytes: self.response_bytes.get_or_create_owned(&by_route),
        })
    }

    /// A request has ended.
    pub(crate) fn ended(&self, counts: &RouteCounts, record: &RequestRecord, took: Duration) {
        counts.count(record, took);
        if record.reason != "permitted" && record.verdict != Verdict::Login {
            let reason = record.reason.to_string();
            self.refusals.get_or_create(&OfReason { reason }).inc();
        }
    }

    /// A connection was accepted, and is open until what this returns is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> OpenConnection {
        self.connections.inc();
        self.open.inc();
        OpenConnection(Arc::clone(self))
    }

    /// A connection ended that had carried no request, and nothing else.
    pub(crate) fn refused_connection(&self, reason: &str) {
        let reason = reason.to_owned();
        let labels = OfReason { reason };
        self.refused_connections.get_or_create(&labels).inc();
    }
}

/// Counts as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}
