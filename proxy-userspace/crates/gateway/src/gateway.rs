//! What requests and connections meet, as one.

use std::{net::IpAddr, sync::Arc};

use audit::Journal;
use policy::{RouteTable, TcpRouteTable};

use crate::{
    authenticate::Issuers,
    decision_ids::DecisionIds,
    login::Logins,
    metrics::{ByRoute, Metrics},
    tcp::TunnelsByRoute,
    trace::Traces,
    upstream::Upstreams,
};

/// Why a source is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceRefusal {
    /// On a blocklist.
    #[error("source_blocked")]
    Blocked,
    /// Banned for a while.
    #[error("source_banned")]
    Banned,
}

/// The lists, asked again in userspace: losing the kernel side costs speed, not safety.
pub trait SourceGate: Send + Sync {
    /// Whether a source may be served.
    ///
    /// # Errors
    /// Why it may not.
    fn admit(&self, source: IpAddr) -> Result<(), SourceRefusal>;
}

/// Everything a request meets. Built whole, then shared; nothing in it changes but the issuers'
/// keys.
pub struct Gateway {
    /// The routes of requests.
    pub routes: RouteTable,
    /// The routes of connections that carry none.
    pub tcp_routes: TcpRouteTable,
    /// The trusted issuers.
    pub issuers: Issuers,
    /// The logins of browsers.
    pub logins: Logins,
    /// The services behind the proxy.
    pub upstreams: Upstreams,
    /// The lists.
    pub gate: Arc<dyn SourceGate>,
    /// The audit trail.
    pub journal: Arc<Journal>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    pub(crate) counts: ByRoute,
    pub(crate) tunnel_counts: TunnelsByRoute,
    pub(crate) ids: DecisionIds,
    pub(crate) traces: Traces,
}

impl Gateway {
    /// A gateway of these parts.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(
        routes: RouteTable,
        tcp_routes: TcpRouteTable,
        issuers: Issuers,
        upstreams: Upstreams,
        gate: Arc<dyn SourceGate>,
        journal: Arc<Journal>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, std::io::Error> {
        Ok(Self {
            counts: metrics.by_route(routes.routes().iter()),
            tunnel_counts: metrics.tunnels.by_route(tcp_routes.routes()),
            metrics,
            routes,
            tcp_routes,
            issuers,
            logins: Logins::default(),
            upstreams,
            gate,
            journal,
            ids: DecisionIds::new()?,
            traces: Traces::new()?,
        })
    }

    /// With traces that begin here asking to be recorded, or not.
    #[must_use]
    pub fn sampling(mut self, sampled: bool) -> Self {
        self.traces.sample(sampled);
        self
    }

    /// With these logins.
    #[must_use]
    pub fn logging_in(mut self, logins: Logins) -> Self {
        self.logins = logins;
        self
    }
}
