//! The daemon: everything made in an order that leaves nothing half-done, run, and stopped.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use audit::{AuditError, Journal};
use datapath::{DatapathError, Host};
use gateway::Observer;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time,
};
use tracing_subscriber::EnvFilter;

use crate::{
    admin::{self, Admin, AdminError},
    automatic::Automatic,
    bound::{Bound, ServiceError},
    config::{self, Config, Mistakes},
    drops::Drops,
    guard::{self, GuardError},
    lifeline::Lifelines,
    lists::{Configured, ListError, Lists},
    observe::{Observed, Reloads, Watched},
    service::Service,
    source::{Feeds, Known},
    state::{State, StateError},
    trail::note,
    watch::{self as standing_jobs, Counting},
};

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Config(#[from] Mistakes),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Lists(#[from] ListError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Kernel(#[from] DatapathError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("the system refused {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

/// Runs until SIGTERM or SIGINT. The kernel side stays attached after that: `portcullis detach`
/// takes it off.
pub(crate) fn run(config_path: &Path) -> Result<(), RunError> {
    let filter = EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .init();
    let config = config::load(config_path)?;
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| RunError::System {
            what: "a runtime",
            source,
        })?;
    let result = runtime.block_on(serve(config, config_path));
    // A trace needs a moment to put the normal program back.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn serve(config: Config, config_path: &Path) -> Result<(), RunError> {
    // From here on a signal ends the daemon in order, however early it comes.
    let mut signals = Signals::new().map_err(|source| RunError::System {
        what: "a signal handler",
        source,
    })?;
    // A host that can't run the kernel side is told so before anything is touched.
    if let Some(kernel) = config.kernel.as_ref().filter(|kernel| kernel.required) {
        Host::observe(&kernel.bpffs).check()?;
    }
    // The state's lock comes first: a second daemon must not touch what the first one holds.
    let (state, found, set_aside) = State::open(&config.state_directory)?;
    // Before lists are read, which may take longer than the kernel waits.
    let earlier_life = match &config.kernel {
        Some(kernel) => guard::beat_for_an_earlier_run(kernel).map_err(no_thread)?,
        None => None,
    };
    let (feeds, unproven) = Known::all(config.feeds, &state)?;
    let watching = feeds.iter().filter(|feed| feed.only_watches());
    let watching = watching.map(|feed| feed.list().0);
    let configured = Configured {
        trusted: &config.trusted,
        blocked: &config.blocked,
        forced: &config.forced,
        monitored: &config
            .monitored
            .into_iter()
            .chain(watching)
            .chain(unproven)
            .collect::<Vec<_>>(),
        feeds: feeds.iter().map(Known::list).collect(),
    };
    let lists = Arc::new(Lists::load(state, found, &configured)?);
    let lifelines = Arc::new(Lifelines::new(
        config
            .service
            .needed
            .iter()
            .cloned()
            .chain(feeds.iter().filter_map(Known::host))
            .collect(),
    ));
    lists.protect(&lifelines.observe(None))?;
    let journal = Arc::new(Journal::open(&config.audit_path)?);
    if let Some(set_aside) = &set_aside {
        guard::recover(set_aside, config.kernel.as_ref(), &lists, &journal);
    }
    let admin_socket = admin::bind(&config.admin_socket, !config.admin_uids.is_empty())?;
    let mut config_service = config.service;
    let listeners = std::mem::take(&mut config_service.listeners);
    let bound = Bound::all(listeners, config_service.workers).await?;
    let plain = Automatic::default()
        .bind(config_service.acme.as_ref(), Arc::clone(&lists) as _)
        .await?;

    let observer = match config.observe {
        None => None,
        Some((address, place)) => {
            let bound = Observer::bind(address).await;
            Some(bound.map_err(|source| ServiceError::binding(place, source))?)
        }
    };

    let configured_interfaces = config.kernel.as_ref().map(|it| it.interfaces.clone());
    let added = lists.stored(guard::ADDED)?;
    let added: Vec<String> = added.into_iter().map(|(interface, _)| interface).collect();
    // The kernel side after everything that may refuse to start, so that a start that fails
    // leaves no program behind.
    let without_kernel = guard::start(config.kernel, &added, &lists, &journal)?;
    // Before anything that may take long, such as fetching keys.
    let heartbeat = lists.with_kernel(guard::heartbeat).flatten();
    let _alive = heartbeat
        .map(|(heartbeat, after)| standing_jobs::beat(heartbeat, after))
        .transpose()
        .map_err(no_thread)?;
    drop(earlier_life);

    let stop = Arc::new(watch::Sender::new(false));
    let feeds = Feeds::new(
        Arc::clone(&lists),
        Arc::clone(&journal),
        Arc::clone(&lifelines),
        config.widest,
        runtime::Handle::current(),
        feeds,
    )?;
    let drops = Arc::new(Drops::new());
    let (reload, mut reloads) = mpsc::channel(1);
    let admin = Arc::new(Admin {
        lists: Arc::clone(&lists),
        feeds: Arc::clone(&feeds),
        lifelines: Arc::clone(&lifelines),
        configured_interfaces: configured_interfaces.unwrap_or_default(),
        drops: Arc::clone(&drops),
        journal: Arc::clone(&journal),
        allowed_uids: config.admin_uids,
        widest: config.widest,
        started: Instant::now(),
        listeners: Mutex::new(bound.addresses()),
        reload,
        without_kernel,
        draining: stop.subscribe(),
        tracing: Mutex::new(()),
    });
    tokio::spawn(Arc::clone(&admin).serve(admin_socket));
    tokio::spawn(standing_jobs::expire(
        Arc::clone(&lists),
        Arc::clone(&journal),
    ));
    tokio::spawn(standing_jobs::revert(
        Arc::clone(&lists),
        Arc::clone(&feeds),
        Arc::clone(&journal),
    ));
    tokio::spawn(standing_jobs::protect(
        Arc::clone(&lifelines),
        Arc::clone(&lists),
        Arc::clone(&journal),
    ));
    tokio::spawn(standing_jobs::attend(
        Arc::clone(&lists),
        Arc::clone(&journal),
    ));
    feeds.start();
    let counting = Arc::new(Counting::new(Arc::clone(&lists), Arc::clone(&journal)));
    tokio::spawn(Arc::clone(&counting).keep_recording(config.kernel_interval));
    if let Some(samples) = lists
        .with_kernel(datapath::Datapath::take_samples)
        .flatten()
    {
        let (lists, journal) = (Arc::clone(&lists), Arc::clone(&journal));
        std::thread::Builder::new()
            .name("drop-samples".to_owned())
            .spawn(move || standing_jobs::sample(samples, &lists, &drops, &journal))
            .map_err(no_thread)?;
    }
    let mut service = Service::start(
        config_service,
        bound,
        plain,
        Arc::clone(&lists),
        lifelines,
        Arc::clone(&journal),
        &stop,
    )
    .await?;
    let reloaded = Arc::new(Reloads::default());
    let shown = Arc::new(Mutex::new(service.certificates()));
    let ours = 1 + usize::from(observer.is_some());
    if let Some(observer) = observer {
        let (live, metrics) = service.parts();
        let watched = Watched {
            live: Arc::clone(live),
            lists: Arc::clone(&lists),
            journal: Arc::clone(&journal),
            reloads: Arc::clone(&reloaded),
            shown: Arc::clone(&shown),
            draining: admin.draining.clone(),
        };
        if let Ok(address) = observer.address() {
            tracing::info!(%address, "/healthz, /readyz and /metrics");
        }
        tokio::spawn(observer.serve(Arc::new(Observed::new(watched, metrics))));
    }
    let addresses = service.addresses().join(", ");
    note(&journal, "start", &format!("serving on {addresses}"));
    tracing::info!(listeners = addresses, "portcullis is ready");

    let signal = loop {
        let (outcome, asker) = tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop(signal) => break signal,
                Asked::Reload => (service.reload(config_path).await, None),
            },
            Some(asker) = reloads.recv() => (service.reload(config_path).await, Some(asker)),
        };
        reloaded.count(outcome.is_ok());
        match &outcome {
            Ok(done) => {
                tracing::info!(digest = done.digest, changes = ?done.changes, "reloaded");
                admin.listens_on(service.addresses());
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = service.certificates();
            }
            Err(error) => {
                tracing::error!(%error, "NOT RELOADED: the configuration before serves on")
            }
        }
        if let Some(asker) = asker {
            // Whoever asked may be gone.
            let _ = asker.send(outcome.map_err(|error| error.to_string()));
        }
    };
    note(
        &journal,
        "drain",
        &format!("{signal}: at most {:?}", config.drain),
    );
    tracing::info!(signal, drain = ?config.drain, "no further connections; finishing what runs");
    stop.send_replace(true);
    // Every listener and connection holds a receiver; when only ours are left, all is done.
    let drained = time::timeout(config.drain, async {
        while stop.receiver_count() > ours {
            time::sleep(Duration::from_millis(10)).await;
        }
    });
    let whole = drained.await.is_ok();
    // Connections that outlived the drain are cut off here, and recorded as such.
    service.end().await;
    counting.record();
    note(
        &journal,
        "stop",
        if whole {
            "drained"
        } else {
            "deadline: open connections were cut off"
        },
    );
    if let Err(error) = journal.sync() {
        tracing::error!(%error, "the audit trail may not be on disk");
    }
    let _ = std::fs::remove_file(&config.admin_socket);
    tracing::info!(
        whole,
        "portcullis stopped; the kernel side goes on dropping"
    );
    Ok(())
}

fn no_thread(source: io::Error) -> RunError {
    RunError::System {
        what: "a thread",
        source,
    }
}

/// SIGTERM and SIGINT end the daemon; SIGHUP has it read its configuration again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}

/// What a signal asks for.
enum Asked {
    Stop(&'static str),
    Reload,
}
