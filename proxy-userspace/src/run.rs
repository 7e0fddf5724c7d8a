//! The daemon: everything made in an order that leaves nothing half-done, run, and stopped.

use std::{
    io,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use audit::{AuditError, Journal};
use datapath::{DatapathError, Host};
use gateway::{Gateway, Listener, SourceGate, Upstream, Upstreams, Workers};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task, time,
};
use tracing_subscriber::EnvFilter;

use crate::{
    admin::{self, Admin, AdminError},
    config::{self, Config, ListenerConfig, Mistakes},
    drops::Drops,
    guard::{self, GuardError},
    lifeline::Lifelines,
    lists::{Configured, ListError, Lists},
    memory::keep_large_blocks_apart,
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
    #[error("{place}: the port is in use; stop what listens there (`ss -ltnp`), or choose another")]
    PortInUse { place: String },
    #[error(
        "{place}: can't be bound: {source}; use an address of this host, and a port this user may bind"
    )]
    CantBind { place: String, source: io::Error },
    #[error("the system refused {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

/// Runs until SIGTERM or SIGINT. The kernel side stays attached after that: `portcullis detach`
/// takes it off.
pub(crate) fn run(config_path: &Path) -> Result<(), RunError> {
    keep_large_blocks_apart();
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
    let result = runtime.block_on(serve(config));
    // A trace needs a moment to put the normal program back.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn serve(config: Config) -> Result<(), RunError> {
    // From here on a signal ends the daemon in order, however early it comes.
    let mut stop_signals = StopSignals::new().map_err(|source| RunError::System {
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
            .needed
            .into_iter()
            .chain(feeds.iter().filter_map(Known::host))
            .collect(),
    ));
    lists.protect(&lifelines.observe(None))?;
    let journal = Arc::new(Journal::open(&config.audit_path)?);
    if let Some(set_aside) = &set_aside {
        guard::recover(set_aside, config.kernel.as_ref(), &lists, &journal);
    }
    let admin_socket = admin::bind(&config.admin_socket, !config.admin_uids.is_empty())?;
    let listeners = bind_all(config.listeners, config.workers).await?;
    let addresses: Vec<String> = listeners
        .iter()
        .map(|it| it.address().to_string())
        .collect();

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

    let (stop, draining) = watch::channel(false);
    let upstreams: Upstreams = config
        .upstreams
        .into_iter()
        .map(|spec| Arc::new(Upstream::new(spec, config.workers)))
        .collect();
    for upstream in upstreams.iter() {
        tokio::spawn(standing_jobs::keep_upstream(
            Arc::clone(upstream),
            Arc::clone(&journal),
        ));
    }
    let gateway = Gateway::new(
        config.routes,
        config
            .issuers
            .iter()
            .map(|issuer| Arc::clone(&issuer.issuer))
            .collect(),
        upstreams,
        Arc::clone(&lists) as Arc<dyn SourceGate>,
        Arc::clone(&journal),
    );
    let gateway = Arc::new(gateway.map_err(|source| RunError::System {
        what: "randomness",
        source,
    })?);
    let feeds = Feeds::new(
        Arc::clone(&lists),
        Arc::clone(&journal),
        Arc::clone(&lifelines),
        config.widest,
        runtime::Handle::current(),
        feeds,
    )?;
    let drops = Arc::new(Drops::new());
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
        listeners: addresses.clone(),
        without_kernel,
        draining: draining.clone(),
        tracing: Mutex::new(()),
    });
    for issuer in config.issuers {
        standing_jobs::load_keys(&issuer).await;
        tokio::spawn(standing_jobs::keep_keys(issuer));
    }
    tokio::spawn(admin.serve(admin_socket));
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
        lifelines,
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
    for listener in &listeners {
        tokio::spawn(standing_jobs::keep_certificates(
            Arc::clone(listener.certificates()),
            Arc::clone(&journal),
        ));
    }
    let workers =
        Workers::start(config.workers, &listeners, &gateway, &draining).map_err(no_thread)?;
    drop((draining, listeners));
    note(
        &journal,
        "start",
        &format!("serving on {}", addresses.join(", ")),
    );
    tracing::info!(listeners = addresses.join(", "), "portcullis is ready");

    let signal = stop_signals.next().await;
    note(
        &journal,
        "drain",
        &format!("{signal}: at most {:?}", config.drain),
    );
    tracing::info!(signal, drain = ?config.drain, "no further connections; finishing what runs");
    let _ = stop.send(true);
    // Every listener and connection holds a receiver; when the last is gone, all is done.
    let drained = time::timeout(config.drain, async {
        while stop.receiver_count() > 1 {
            time::sleep(Duration::from_millis(10)).await;
        }
    });
    let whole = drained.await.is_ok();
    // Connections that outlived the drain are cut off here, and recorded as such.
    let _ = task::spawn_blocking(|| workers.end()).await;
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

async fn bind_all(
    configs: Vec<ListenerConfig>,
    workers: NonZeroUsize,
) -> Result<Vec<Arc<Listener>>, RunError> {
    let mut listeners = Vec::new();
    for config in configs {
        let bound = Listener::bind(config.address, workers, config.spec).await;
        listeners.push(bound.map(Arc::new).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => RunError::PortInUse {
                place: config.place,
            },
            _ => RunError::CantBind {
                place: config.place,
                source,
            },
        })?);
    }
    Ok(listeners)
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
