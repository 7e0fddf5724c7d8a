//! What serves requests: composed from a configuration, and exchanged for that of another one while requests
//! go on.

use std::{collections::BTreeMap, io, net::SocketAddr, num::NonZeroUsize, path::Path, sync::Arc};

use audit::Journal;
use gateway::{
    Certificates, Gateway, Issuer, Issuers, Listener, Live, Metrics, ProofRules, Proofs,
    SourceGate, Stage, Upstream, Upstreams, Workers,
};
use tokio::{runtime, sync::watch};

use crate::{
    automatic::{Automatic, Plain},
    bound::{Bound, ServiceError},
    changes::{self, Routes, Written, note_change, note_tables},
    config::{self, Config, ListenerConfig, Mistakes, ServiceConfig},
    current,
    lifeline::{Lifelines, Needed},
    lists::Lists,
    passed::Passed,
    task::Task,
    trail::note,
    upgrade::{Handle, Label},
};

/// Why another configuration was not put in force. The one before serves on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("{0}")]
    Config(#[from] Mistakes),
    #[error(
        "what has changed in {} is read at the start only; restart the daemon for that, or take it back and \
         reload", .0.join(", ")
    )]
    NeedsRestart(Vec<String>),
    #[error(
        "the keys of issuer {issuer:?}, which are elsewhere now, can't be had: {why}; mend that, and reload"
    )]
    Keys { issuer: String, why: String },
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// What a reload did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// In a few words each.
    pub(crate) changes: Vec<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub(crate) digest: String,
}

/// A listener as it serves.
struct Serving {
    /// As it is configured: with port 0, the kernel has chosen another one.
    configured: SocketAddr,
    listener: Arc<Listener>,
    certificates: Option<Arc<Certificates>>,
    _kept: Vec<Task>,
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
    /// Kept through a reload, so that what was used before isn't good again.
    proofs: Arc<Proofs>,
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
        lists: Arc<Lists>,
        lifelines: Arc<Lifelines>,
        journal: Arc<Journal>,
        stop: &Arc<watch::Sender<Stage>>,
    ) -> Result<Self, ServiceError> {
        let issuers: BTreeMap<_, _> = config
            .issuers
            .into_iter()
            .map(|issuer| keep_issuer(issuer, &journal))
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
        let gateway = compose(tables, (&issuers, &proofs), &upstreams, shared)?;
        let gateway = gateway.sampling(config.sampled);
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
            proofs,
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

    /// Reads the configuration again and puts it in force, whole or not at all. Requests that have begun
    /// end under the one that they began with.
    pub(crate) async fn reload(&mut self, path: &Path) -> Result<Reloaded, ReloadError> {
        let outcome = match config::load(path) {
            Ok(config) => self.exchange(config).await,
            Err(mistakes) => Err(mistakes.into()),
        };
        match &outcome {
            Ok(done) => note(
                &self.journal,
                "reload",
                &format!("sha256:{}: {}", done.digest, done.changes.join("; ")),
            ),
            Err(error) => note(&self.journal, "reload_refused", &error.to_string()),
        }
        outcome
    }

    async fn exchange(&mut self, config: Config) -> Result<Reloaded, ReloadError> {
        let config = config.service;
        self.refuse_what_is_fixed(&config.fixed)?;
        // All that can fail comes before anything that is seen.
        let mut changes = Vec::new();
        let mut issuers = Vec::new();
        for issuer in config.issuers {
            let name = issuer.rules().name.clone();
            let before = self.issuers.get(&name).map(|(issuer, _)| issuer);
            let taken_over = before.is_some_and(|it| issuer.keys().take_over(it.keys()));
            if !taken_over {
                let loaded = issuer.keys().refresh().await;
                loaded.map_err(|error| ReloadError::Keys {
                    issuer: name.clone(),
                    why: error.to_string(),
                })?;
            }
            let written = |all| changes::table(all, "issuer", "name", |it| it == name).cloned();
            let same = written(&self.exchanged) == written(&config.exchanged);
            note_change(
                &mut changes,
                "issuer",
                &name,
                before.is_some(),
                taken_over && same,
            );
            issuers.push(issuer);
        }
        let is_new = |listener: &ListenerConfig| {
            !self
                .listeners
                .iter()
                .any(|it| it.configured == listener.address)
        };
        let (fresh, kept): (Vec<_>, Vec<_>) = config.listeners.into_iter().partition(is_new);
        for listener in &fresh {
            note_change(&mut changes, "listener", &listener.address, false, false);
        }
        let mut passed = Passed::default();
        let bound = Bound::all(fresh, self.count, &mut passed).await?;
        let gate = Arc::clone(&self.lists) as Arc<dyn SourceGate>;
        // What is remembered is remembered for as long as these rules need.
        let proofs = if *self.proofs.rules() == config.proofs {
            Arc::clone(&self.proofs)
        } else {
            proofs(config.proofs)?
        };
        let bind = self.automatic.bind(config.acme.as_ref(), gate, &mut passed);
        let plain = bind.await?;

        let issuers: BTreeMap<_, _> = issuers
            .into_iter()
            .map(|issuer| keep_issuer(issuer, &self.journal))
            .collect();
        let mut upstreams = BTreeMap::new();
        let mut before = std::mem::take(&mut self.upstreams);
        for spec in config.upstreams {
            let earlier = before.remove(&spec.name);
            let known = earlier.is_some();
            let same = earlier.filter(|(upstream, _)| *upstream.spec() == spec);
            note_change(&mut changes, "upstream", &spec.name, known, same.is_some());
            let (name, kept) = match same {
                Some(same) => (spec.name, same),
                None => keep_upstream(Arc::new(Upstream::new(spec, self.count)), &self.journal),
            };
            upstreams.insert(name, kept);
        }
        let gone = |what: &str, names: Vec<&String>, changes: &mut Vec<String>| {
            changes.extend(names.iter().map(|name| format!("{what} {name} is gone")));
        };
        gone("upstream", before.keys().collect(), &mut changes);
        let of_old = self
            .issuers
            .keys()
            .filter(|name| !issuers.contains_key(*name));
        gone("issuer", of_old.collect(), &mut changes);
        let routes = Routes::of(&config.routes, &config.tcp_routes);
        routes.note(&self.routes, &mut changes);
        note_tables(&mut changes, &self.exchanged, &config.exchanged);

        let shared = (&self.lists, &self.journal, &self.metrics);
        let tables = (config.routes, config.tcp_routes);
        let gateway = compose(tables, (&issuers, &proofs), &upstreams, shared)?;
        self.live.exchange(gateway.sampling(config.sampled));
        self.proofs = proofs;
        (self.issuers, self.upstreams, self.routes) = (issuers, upstreams, routes);
        let exchanged = config.exchanged;
        let mut listeners = Vec::new();
        for serving in std::mem::take(&mut self.listeners) {
            let fits = |it: &&ListenerConfig| it.address == serving.configured;
            match kept.iter().find(fits) {
                Some(config) => {
                    let written = |all| {
                        let is_it = |it: &str| it.parse() == Ok(serving.configured);
                        changes::table(all, "listener", "address", is_it).cloned()
                    };
                    let same = written(&self.exchanged) == written(&exchanged);
                    note_change(&mut changes, "listener", &serving.configured, true, same);
                    serving.listener.exchange(config.spec.clone());
                    listeners.push(Serving {
                        certificates: certificates_of(config),
                        _kept: keep_certificates(config, &self.journal),
                        ..serving
                    });
                }
                None => {
                    serving.listener.close();
                    changes.push(format!("listener {} is gone", serving.configured));
                }
            }
        }
        self.listeners = listeners;
        self.serve(bound);
        self.automatic.exchange(config.acme, plain, &self.stop);
        self.order();
        self.need(config.needed);
        self.exchanged = exchanged;
        if changes.is_empty() {
            changes.push("nothing has changed".to_owned());
        }
        Ok(Reloaded {
            changes,
            digest: config.digest,
        })
    }

    fn refuse_what_is_fixed(&self, fixed: &Written) -> Result<(), ReloadError> {
        let names = self.fixed.keys().chain(fixed.keys());
        let mut changed: Vec<String> = names
            .filter(|name| self.fixed.get(*name) != fixed.get(*name))
            .map(|name| format!("[{name}]"))
            .collect();
        changed.sort();
        changed.dedup();
        if changed.is_empty() {
            return Ok(());
        }
        Err(ReloadError::NeedsRestart(changed))
    }

    /// Hosts that lists must leave in reach from now on.
    fn need(&mut self, needed: Vec<Needed>) {
        let of = |all: &[Needed], what: &str| -> Vec<Needed> {
            all.iter().filter(|it| it.what == what).cloned().collect()
        };
        let mut subjects: Vec<&str> = self.needed.iter().map(|it| it.what.as_str()).collect();
        subjects.extend(needed.iter().map(|it| it.what.as_str()));
        subjects.sort_unstable();
        subjects.dedup();
        for what in subjects {
            let fresh = of(&needed, what);
            if of(&self.needed, what) != fresh {
                self.lifelines.let_go(what);
                fresh.into_iter().for_each(|it| self.lifelines.need(it));
            }
        }
        self.needed = needed;
    }

    /// Ends all that still runs.
    pub(crate) async fn end(self) {
        let Self { workers, .. } = self;
        let _ = tokio::task::spawn_blocking(|| workers.end()).await;
    }
}

/// Issuers by name, with what keeps their keys current.
type KeptIssuers = BTreeMap<String, (Arc<Issuer>, Task)>;

fn compose(
    (routes, tcp_routes): (policy::RouteTable, policy::TcpRouteTable),
    (issuers, proofs): (&KeptIssuers, &Arc<Proofs>),
    upstreams: &BTreeMap<String, (Arc<Upstream>, Task)>,
    (lists, journal, metrics): (&Arc<Lists>, &Arc<Journal>, &Arc<Metrics>),
) -> Result<Gateway, ServiceError> {
    let upstreams: Upstreams = upstreams
        .values()
        .map(|(upstream, _)| Arc::clone(upstream))
        .collect();
    let issuers = issuers.values().map(|(issuer, _)| Arc::clone(issuer));
    Issuers::new(issuers)
        .and_then(|issuers| {
            Gateway::new(
                routes,
                tcp_routes,
                issuers.proving(Arc::clone(proofs)),
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
