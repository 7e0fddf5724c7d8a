//! The services behind the proxy.
//!
//! ```text
//! send       one request: its turn, an endpoint, a connection, the answer's head; again where that is safe
//!   balance    which endpoint
//!   obtain     a connection: a kept one, a stream, a new one
//!   pool       kept connections of an endpoint
//!   connect    a new one
//!   body       the request's body on its way up
//!   form       a request in HTTP/1.1 and in HTTP/2
//! tunnel     one connection without HTTP: its turn, an endpoint, TCP and TLS
//! budget     how much may be tried again
//! endpoint   one address: load, health, ejection
//! resolve    names to addresses, again and again
//! health     asking endpoints whether they are well
//! trust      how an upstream proves who it is
//! fault      why there was no answer
//! ```

mod balance;
mod body;
mod budget;
mod connect;
mod endpoint;
mod fault;
mod form;
mod health;
mod obtain;
mod pool;
mod resolve;
mod send;
mod trust;
mod tunnel;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use tokio::sync::{Semaphore, watch};

pub use self::{
    balance::Balance,
    connect::{Protocol, UpstreamTls},
    endpoint::Ejection,
    health::{HealthCheck, HealthRequest},
    resolve::{EndpointRule, Target, UpstreamNews},
    trust::{ClientIdentity, UpstreamRoots, upstream_client},
};
use self::{
    balance::Draw, budget::RetryBudget, connect::Connector, endpoint::Endpoint, obtain::Waiting,
};
pub(crate) use self::{
    body::UpstreamBody, fault::UpstreamFault, pool::Hold, send::Sending, tunnel::Opened,
};

/// Bounds of one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamBounds {
    /// Longest wait for a connection: TCP, TLS and the start of HTTP.
    pub connect_timeout: Duration,
    /// Longest wait for the head of the answer, from the last byte that the request moved.
    pub response_timeout: Duration,
    /// Longest silence in the middle of an answer.
    pub stream_timeout: Duration,
    /// Longest time from the request to the end of its answer; none for endless answers.
    pub total_timeout: Option<Duration>,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Most unused connections that are kept, of each endpoint and worker.
    pub max_idle: usize,
    /// Most connections to one endpoint.
    pub max_connections: usize,
    /// Most streams on one HTTP/2 connection; another one is opened for more.
    pub max_streams: usize,
    /// Most requests at a time; none for no bound.
    pub max_requests: Option<NonZeroUsize>,
    /// Most requests that wait for a turn or a connection.
    pub max_waiting: usize,
    /// How long each may.
    pub queue_timeout: Duration,
    /// How often a request that wasn't sent is given to another endpoint.
    pub retries: usize,
    /// How long an endpoint that has come, or come back, gets less than its share.
    pub slow_start: Duration,
    /// How often names are resolved again.
    pub resolve_interval: Duration,
}

/// An upstream as it is configured.
#[derive(Clone, PartialEq)]
pub struct UpstreamSpec {
    /// Its name.
    pub name: String,
    /// Where it is; at least one.
    pub targets: Vec<Target>,
    /// Its TLS; `None` where it has none.
    pub tls: Option<UpstreamTls>,
    /// The version it is spoken to in.
    pub protocol: Protocol,
    /// Whether each connection begins with the PROXY protocol, version 2, and is one client's.
    pub introduces: bool,
    /// How requests are spread.
    pub balance: Balance,
    /// Which addresses its names may lead to.
    pub rule: EndpointRule,
    /// How its endpoints are asked whether they are well.
    pub health: Option<HealthCheck>,
    /// When one is set aside for failing requests.
    pub ejection: Ejection,
    /// Its bounds.
    pub bounds: UpstreamBounds,
}

/// One service.
pub struct Upstream {
    spec: UpstreamSpec,
    /// What certificates of each target must be good for, where nothing else is said.
    hosts: Vec<ServerName<'static>>,
    connector: Connector,
    workers: usize,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Whether names were looked up once.
    resolved: watch::Sender<bool>,
    draw: Draw,
    budget: RetryBudget,
    turns: Option<Arc<Semaphore>>,
    waiting: Waiting,
}

impl Upstream {
    /// An upstream whose kept connections belong to so many workers each.
    pub fn new(spec: UpstreamSpec, workers: NonZeroUsize) -> Self {
        let turns = spec
            .bounds
            .max_requests
            .map(|most| Arc::new(Semaphore::new(most.get())));
        let upstream = Self {
            hosts: spec.targets.iter().map(Target::server_name).collect(),
            connector: Connector {
                tls: spec.tls.clone(),
                protocol: spec.protocol,
                introduces: spec.introduces,
                timeout: spec.bounds.connect_timeout,
            },
            workers: workers.get(),
            endpoints: ArcSwap::default(),
            resolved: watch::Sender::new(false),
            draw: Draw::default(),
            budget: RetryBudget::default(),
            turns,
            waiting: Waiting(AtomicUsize::new(0)),
            spec,
        };
        upstream.take_literal_addresses();
        upstream
    }

    /// As it is configured.
    pub fn spec(&self) -> &UpstreamSpec {
        &self.spec
    }

    /// Its configured name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its bounds.
    pub(crate) fn bounds(&self) -> &UpstreamBounds {
        &self.spec.bounds
    }

    /// How requests are spread.
    pub(crate) fn balance(&self) -> &Balance {
        &self.spec.balance
    }
}

/// How one endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// Where it is.
    pub address: SocketAddr,
    /// It passes its health check.
    pub healthy: bool,
    /// It is set aside for failing requests.
    pub ejected: bool,
    /// Requests that it has.
    pub active: usize,
}

impl Upstream {
    /// How its endpoints are.
    pub fn endpoints(&self) -> Vec<EndpointState> {
        let state = |endpoint: &Arc<Endpoint>| EndpointState {
            address: endpoint.address,
            healthy: endpoint.is_healthy(),
            ejected: endpoint.is_ejected(),
            active: endpoint.active(),
        };
        self.endpoints.load().iter().map(state).collect()
    }

    /// Requests that wait for a turn or a connection.
    pub fn waiting(&self) -> usize {
        self.waiting.0.load(Ordering::Relaxed)
    }
}

/// The upstreams by their configured names.
#[derive(Clone, Default)]
pub struct Upstreams(BTreeMap<String, Arc<Upstream>>);

impl FromIterator<Arc<Upstream>> for Upstreams {
    fn from_iter<I: IntoIterator<Item = Arc<Upstream>>>(upstreams: I) -> Self {
        let named = |upstream: Arc<Upstream>| (upstream.name().to_owned(), upstream);
        Self(upstreams.into_iter().map(named).collect())
    }
}

impl Upstreams {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.values()
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Arc<Upstream>, UpstreamFault> {
        self.0.get(name).ok_or(UpstreamFault::NotConfigured)
    }
}
