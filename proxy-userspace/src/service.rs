//! What serves requests: composed from a configuration, and exchanged for that of another one while requests
//! go on.

mod reload;

pub(crate) use reload::{ReloadError, Reloaded};

use std::{collections::BTreeMap, io, net::SocketAddr, num::NonZeroUsize, sync::Arc};

use audit::Journal;
use gateway::{
    Certificates, Gateway, Introspector, Issuer, Issuers, Listener, Live, LoginMemory, LoginRules,
    Logins, Metrics, ProofRules, Proofs, Revocations, SourceGate, Stage, Upstream, Upstreams, Uses,
    Workers,
};
use tokio::{runtime, sync::watch};

use crate::{
    api_keys::KeyFile,
    automatic::{Automatic, Plain},
    bound::{Bound, ServiceError},
    changes::{Routes, Written},
    config::{ListenerConfig, ServiceConfig},
    current,
    lifeline::{Lifelines, Needed},
    lists::Lists,
    task::Task,
    upgrade::{Handle, Label},
};

/// A listener as it serves.
struct Serving {
    /// As it is configured: with port 0, the kernel has chosen another one.
    configured: SocketAddr,
    listener: Arc<Listener>,
    certificates: Option<Arc<Certificates>>,
    _kept: Vec<Task>,
}

/// What it shares with the daemon's jobs.
pub(crate) struct Shared {
    pub(crate) lists: Arc<Lists>,
    pub(crate) lifelines: Arc<Lifelines>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) uses: Arc<Uses>,
}

/// What serves requests.
pub(crate) struct Service {
    lists: Arc<Lists>,
    lifelines: Arc<Lifelines>,
    journal: Arc<Journal>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    workers: Workers,
    count: NonZeroUsize,
    fixed: Written,
    exchanged: Written,
    routes: Routes,
    needed: Vec<Needed>,
    listeners: Vec<Serving>,
    upstreams: BTreeMap<String, (Arc<Upstream>, Task)>,
    issuers: BTreeMap<String, (Arc<Issuer>, Task)>,
    introspectors: KeptIntrospectors,
    api_keys: KeptKeys,
    /// Kept through a reload, so that what was used before isn't good again.
    proofs: Arc<Proofs>,
    revocations: Arc<Revocations>,
    uses: Arc<Uses>,
    logins: Vec<LoginRules>,
    /// Kept through a reload, so that what was ended before stays so.
    login_memory: Arc<LoginMemory>,
    automatic: Automatic,
    stop: Arc<watch::Sender<Stage>>,
}

impl Service {
    /// Serves on what is bound, until `stop` ends that. Keys are loaded before, certificates ordered by
    /// [`Self::order`].
    pub(crate) async fn start(
        config: ServiceConfig,
        bound: Bound,
        plain: Option<Plain>,
        shared: Shared,
        stop: &Arc<watch::Sender<Stage>>,
    ) -> Result<Self, ServiceError> {
        let Shared {
            lists,
            lifelines,
            journal,
            revocations,
            uses,
        } = shared;
        uses.bound(config.used_tokens);
        let login_memory = Arc::default();
        let logins = Logins::new(
            &config.logins,
            &config.issuers,
            (&login_memory, &revocations),
        )?;
        let issuers: BTreeMap<_, _> = config
            .issuers
            .into_iter()
            .map(|issuer| keep_issuer(issuer, &journal))
            .collect();
        let introspectors: BTreeMap<_, _> = config
            .introspectors
            .into_iter()
            .map(|introspector| keep_introspector(introspector, &journal))
            .collect();
        let api_keys: BTreeMap<_, _> = config
            .api_keys
            .into_iter()
            .map(|file| keep_api_keys(file, &journal))
            .collect();
        let upstreams: BTreeMap<_, _> = config
            .upstreams
            .into_iter()
            .map(|spec| {
                let upstream = Arc::new(Upstream::new(spec, config.workers));
                keep_upstream(upstream, &journal)
            })
            .collect();
        let routes = Routes::of(&config.routes, &config.tcp_routes);
        let metrics = Arc::new(Metrics::default());
        metrics.runtimes.add("main", runtime::Handle::current());
        let shared = (&lists, &journal, &metrics);
        let tables = (config.routes, config.tcp_routes);
        let proofs = proofs(config.proofs)?;
        let identity = Identity {
            issuers: &issuers,
            introspectors: &introspectors,
            api_keys: &api_keys,
            proofs: &proofs,
            revocations: &revocations,
            uses: &uses,
        };
        let gateway = compose(tables, &identity, &upstreams, shared)?;
        let gateway = gateway.sampling(config.sampled).logging_in(logins);
        let live = Arc::new(Live::new(gateway));
        let workers =
            Workers::start(config.workers, &live, stop).map_err(|source| ServiceError::System {
                what: "a thread",
                source,
            })?;
        let mut service = Self {
            lists,
            lifelines,
            journal,
            live,
            metrics,
            workers,
            count: config.workers,
            fixed: config.fixed,
            exchanged: config.exchanged,
            routes,
            needed: config.needed,
            listeners: Vec::new(),
            upstreams,
            issuers,
            introspectors,
            api_keys,
            proofs,
            revocations,
            uses,
            logins: config.logins,
            login_memory,
            automatic: Automatic::default(),
            stop: Arc::clone(stop),
        };
        service.serve(bound);
        service.automatic.exchange(config.acme, plain, stop);
        Ok(service)
    }

    /// Begins to order certificates, or begins again.
    pub(crate) fn order(&mut self) {
        self.automatic.order(&self.journal);
    }

    /// Orders no certificates until that is begun again.
    pub(crate) fn rest(&mut self) {
        self.automatic.rest();
    }

    /// Another process may see what this one would have to remember.
    pub(crate) fn seal(&self) {
        self.proofs.seal();
    }

    /// There is no other process.
    pub(crate) fn reopen(&self) {
        self.proofs.reopen();
    }

    /// Its sockets once more, for another process.
    pub(crate) fn handles(&self) -> io::Result<Vec<Handle>> {
        let mut handles = Vec::new();
        for (at, serving) in self.listeners.iter().enumerate() {
            let configured = serving.configured;
            let label = Label::Listener { at, configured };
            let sockets = serving.listener.handles()?.into_iter();
            handles.extend(sockets.map(|socket| Handle {
                label: label.clone(),
                socket,
            }));
        }
        if let Some((configured, socket)) = self.automatic.handle() {
            handles.push(Handle {
                label: Label::Plain { configured },
                socket: socket?,
            });
        }
        Ok(handles)
    }

    /// Leaves new connections to another process.
    pub(crate) fn let_go(&mut self) {
        self.automatic.let_go();
        self.stop.send_replace(Stage::HandedOver);
    }

    fn serve(&mut self, bound: Bound) {
        for (config, listener) in bound.0 {
            self.workers.serve(&listener);
            self.listeners.push(Serving {
                configured: config.address,
                listener,
                certificates: certificates_of(&config),
                _kept: keep_certificates(&config, &self.journal),
            });
        }
    }

    /// What is in force, and what it counts.
    pub(crate) fn parts(&self) -> (&Arc<Live>, &Arc<Metrics>) {
        (&self.live, &self.metrics)
    }

    /// Whose tokens are trusted: name and value of `iss`.
    pub(crate) fn issuers(&self) -> Vec<(String, String)> {
        let of = |(issuer, _): &(Arc<Issuer>, Task)| {
            let rules = issuer.rules();
            (rules.name.clone(), rules.issuer.clone())
        };
        self.issuers.values().map(of).collect()
    }

    /// What clients are shown.
    pub(crate) fn certificates(&self) -> Vec<Arc<Certificates>> {
        let of = |serving: &Serving| serving.certificates.clone();
        self.listeners.iter().filter_map(of).collect()
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let of = |serving: &Serving| serving.listener.address().to_string();
        self.listeners.iter().map(of).collect()
    }

    /// The tokens that were used.
    pub(crate) fn uses(&self) -> Arc<Uses> {
        Arc::clone(&self.uses)
    }

    /// Ends all that still runs.
    pub(crate) async fn end(self) {
        let Self { workers, .. } = self;
        let _ = tokio::task::spawn_blocking(|| workers.end()).await;
    }
}

/// Issuers by name, with what keeps their keys current.
type KeptIssuers = BTreeMap<String, (Arc<Issuer>, Task)>;

/// Issuers that are asked about their tokens by name, with what tells whether they can be.
type KeptIntrospectors = BTreeMap<String, (Arc<Introspector>, Task)>;

/// Files of API keys by name, with what keeps them current.
type KeptKeys = BTreeMap<String, (KeyFile, Task)>;

/// By what it is proven who is calling, and what is known of that.
struct Identity<'s> {
    issuers: &'s KeptIssuers,
    introspectors: &'s KeptIntrospectors,
    api_keys: &'s KeptKeys,
    proofs: &'s Arc<Proofs>,
    revocations: &'s Arc<Revocations>,
    uses: &'s Arc<Uses>,
}

fn compose(
    (routes, tcp_routes): (policy::RouteTable, policy::TcpRouteTable),
    identity: &Identity<'_>,
    upstreams: &BTreeMap<String, (Arc<Upstream>, Task)>,
    (lists, journal, metrics): (&Arc<Lists>, &Arc<Journal>, &Arc<Metrics>),
) -> Result<Gateway, ServiceError> {
    let upstreams: Upstreams = upstreams
        .values()
        .map(|(upstream, _)| Arc::clone(upstream))
        .collect();
    let issuers = identity.issuers.values().map(|(it, _)| Arc::clone(it));
    let introspectors = identity.introspectors.values();
    let introspectors = introspectors.map(|(it, _)| Arc::clone(it));
    let api_keys = identity
        .api_keys
        .values()
        .map(|(it, _)| Arc::clone(&it.keys));
    Issuers::new(issuers)
        .and_then(|issuers| {
            Gateway::new(
                routes,
                tcp_routes,
                issuers
                    .asking(introspectors)
                    .with_api_keys(api_keys)
                    .proving(Arc::clone(identity.proofs))
                    .revoking(Arc::clone(identity.revocations))
                    .remembering(Arc::clone(identity.uses)),
                upstreams,
                Arc::clone(lists) as Arc<dyn SourceGate>,
                Arc::clone(journal),
                Arc::clone(metrics),
            )
        })
        .map_err(|source| ServiceError::System {
            what: "randomness",
            source,
        })
}

fn proofs(rules: ProofRules) -> Result<Arc<Proofs>, ServiceError> {
    let made = Proofs::new(rules).map(Arc::new);
    made.map_err(|source| ServiceError::System {
        what: "randomness",
        source,
    })
}

fn keep_issuer(issuer: Arc<Issuer>, journal: &Arc<Journal>) -> (String, (Arc<Issuer>, Task)) {
    let name = issuer.rules().name.clone();
    let kept = current::keep_keys(Arc::clone(&issuer), Arc::clone(journal));
    let task = Task(tokio::spawn(kept));
    (name, (issuer, task))
}

fn keep_introspector(
    introspector: Arc<Introspector>,
    journal: &Arc<Journal>,
) -> (String, (Arc<Introspector>, Task)) {
    let name = introspector.rules().name.clone();
    let told = current::tell_of_introspection(Arc::clone(&introspector), Arc::clone(journal));
    (name, (introspector, Task(tokio::spawn(told))))
}

fn keep_api_keys(file: KeyFile, journal: &Arc<Journal>) -> (String, (KeyFile, Task)) {
    let name = file.name().to_owned();
    let kept = file.clone().keep_current(Arc::clone(journal));
    (name, (file, Task(tokio::spawn(kept))))
}

fn keep_upstream(
    upstream: Arc<Upstream>,
    journal: &Arc<Journal>,
) -> (String, (Arc<Upstream>, Task)) {
    let kept = current::keep_upstream(Arc::clone(&upstream), Arc::clone(journal));
    let task = Task(tokio::spawn(kept));
    (upstream.name().to_owned(), (upstream, task))
}

fn certificates_of(config: &ListenerConfig) -> Option<Arc<Certificates>> {
    Some(Arc::clone(config.spec.speaks.tls()?.certificates()))
}

fn keep_certificates(config: &ListenerConfig, journal: &Arc<Journal>) -> Vec<Task> {
    let Some(tls) = config.spec.speaks.tls() else {
        return Vec::new();
    };
    let own = current::keep_certificates(Arc::clone(tls.certificates()), Arc::clone(journal));
    let mut tasks = vec![Task(tokio::spawn(own))];
    for rule in tls.client_certificates().iter() {
        let kept = current::keep_client_certificates(Arc::clone(rule), Arc::clone(journal));
        tasks.push(Task(tokio::spawn(kept)));
    }
    tasks
}
