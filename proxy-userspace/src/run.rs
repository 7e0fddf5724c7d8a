//! The daemon's start: everything made in an order that leaves nothing half-done.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use audit::{AuditError, Journal};
use datapath::{DatapathError, Host};
use gateway::{KeyError, Observer, Stage, Uses};
use tokio::{
    runtime,
    sync::{mpsc, watch},
};
use tracing_subscriber::EnvFilter;

use crate::{
    admin::{self, Admin, AdminError},
    automatic::Automatic,
    bound::{Bound, ServiceError},
    config::{self, Config, Mistakes},
    current,
    daemon::{Daemon, Seen},
    drops::Drops,
    guard::{self, GuardError},
    jobs::Jobs,
    lifeline::Lifelines,
    lists::{Configured, ListError, Lists},
    notify::{News, notify},
    observe::{Observed, Reloads, Watched},
    passed::{For, Passed, PassedError},
    render::rfc3339_ms,
    revocations::Keeper,
    service::{Service, Shared},
    signals::Signals,
    source::{Feeds, Known},
    state::{Clock, State, StateError},
    trail::note,
    upgrade::{Predecessor, Program, TakeOverError, Waiting},
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
    #[error(transparent)]
    Passed(#[from] PassedError),
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    #[error("can't keep the tokens that were used in {}: {source}; mend that, or set state.directory to another folder", path.display())]
    Uses { path: PathBuf, source: io::Error },
    #[error("the keys of issuer {issuer:?} can't be had: {source}; mend that, and upgrade again")]
    Keys { issuer: String, source: KeyError },
    #[error("the system refused {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

/// Runs until SIGTERM or SIGINT, or until another process has taken over. The kernel side stays attached
/// after that: `portcullis detach` takes it off.
pub(crate) fn run(config_path: &Path) -> Result<(), RunError> {
    let mut passed = Passed::by_service_manager()?;
    let filter = EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .init();
    let refused = |what| move |source| RunError::System { what, source };
    let program = Program::of_this_process().map_err(refused("the path of this program"))?;
    let predecessor = Predecessor::find()?.map(|(predecessor, handles)| {
        passed.add(handles);
        predecessor
    });
    let config = match config::load(config_path) {
        Ok(config) => config,
        Err(mistakes) => {
            if let Some(predecessor) = predecessor {
                predecessor.refuse(&mistakes.to_string());
            }
            return Err(mistakes.into());
        }
    };
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(refused("a runtime"))?;
    let result = runtime.block_on(async {
        let predecessor = predecessor.map(Predecessor::wait).transpose()?;
        let started = start(config, config_path, program, passed, predecessor.as_ref()).await;
        match (started, predecessor) {
            (Ok(daemon), _) => daemon.serve().await,
            (Err(error), Some(predecessor)) => {
                predecessor.refuse(&error.to_string());
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    });
    // A trace needs a moment to put the normal program back.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// What could keep a process from taking over, before anything is touched that the one before still has.
async fn prepare(config: &Config, passed: &mut Passed) -> Result<(), RunError> {
    if let Some(kernel) = &config.kernel {
        guard::can_take_over(kernel)?;
    }
    passed.complete(config).await?;
    for issuer in &config.service.issuers {
        let obtained = current::obtain_keys(issuer).await;
        obtained.map_err(|source| RunError::Keys {
            issuer: issuer.rules().name.clone(),
            source,
        })?;
    }
    Ok(())
}

async fn start(
    config: Config,
    config_path: &Path,
    program: Program,
    mut passed: Passed,
    predecessor: Option<&Waiting>,
) -> Result<Daemon, RunError> {
    // From here on a signal ends the daemon in order, however early it comes.
    let mut signals = Signals::new().map_err(|source| RunError::System {
        what: "a signal handler",
        source,
    })?;
    // A host that can't run the kernel side is told so before anything is touched.
    if let Some(kernel) = config.kernel.as_ref().filter(|kernel| kernel.required) {
        Host::observe(&kernel.bpffs).check()?;
    }
    let handed_over = match predecessor {
        Some(predecessor) => {
            tokio::select! {
                prepared = prepare(&config, &mut passed) => prepared?,
                signal = signals.stop() => return Err(TakeOverError::Stopped { signal }.into()),
            }
            Some(predecessor.handed_over(&mut signals).await?)
        }
        None => None,
    };
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
    let journal = Arc::new(match &handed_over {
        Some(before) => Journal::open_beside(&config.audit_path, before.torn)?,
        None => Journal::open(&config.audit_path)?,
    });
    if let Some(set_aside) = &set_aside {
        guard::recover(set_aside, config.kernel.as_ref(), &lists, &journal);
    }
    let taken = passed.take_admin(&config.admin_socket);
    let answers_on_same_socket = taken.is_some();
    let for_others = !config.admin_uids.is_empty();
    let admin_socket = match taken {
        Some(socket) => socket,
        None => admin::bind(&config.admin_socket, for_others)?,
    };
    let mut config_service = config.service;
    let listeners = std::mem::take(&mut config_service.listeners);
    let bound = Bound::all(listeners, config_service.workers, &mut passed).await?;
    let plain = Automatic::default()
        .bind(
            config_service.acme.as_ref(),
            Arc::clone(&lists) as _,
            &mut passed,
        )
        .await?;

    let observer = match config.observe {
        None => None,
        Some((address, place)) => {
            let bound = match passed.take_one(For::Observer, address) {
                Some(socket) => Observer::take_over(socket),
                None => Observer::bind(address).await,
            };
            let bound = bound.map_err(|source| ServiceError::binding(place, source))?;
            Some((address, Arc::new(bound)))
        }
    };
    passed.refuse_rest()?;

    let configured_interfaces = config.kernel.as_ref().map(|it| it.interfaces.clone());
    let added = lists.stored(guard::ADDED)?;
    let added: Vec<String> = added.into_iter().map(|(interface, _)| interface).collect();
    // The kernel side after everything that may refuse to start, so that a start that fails
    // leaves no program behind.
    let without_kernel = guard::start(config.kernel.clone(), &added, &lists, &journal)?;
    // Before anything that may take long, such as fetching keys.
    let heartbeat = lists.with_kernel(guard::heartbeat).flatten();
    let alive = heartbeat
        .map(|(heartbeat, after)| standing_jobs::beat(heartbeat, after))
        .transpose()
        .map_err(no_thread)?;
    drop(earlier_life);

    let stop = Arc::new(watch::Sender::new(Stage::Serving));
    // Told the same, and waited for by nobody.
    let told = watch::Sender::new(Stage::Serving);
    let feeds = Feeds::new(
        Arc::clone(&lists),
        Arc::clone(&journal),
        Arc::clone(&lifelines),
        config.widest,
        runtime::Handle::current(),
        feeds,
    )?;
    let drops = Arc::new(Drops::new());
    let revocations = Keeper::load(Arc::clone(&lists), Arc::clone(&journal))?;
    let revocations = Arc::new(revocations);
    let uses = open_uses(&config.state_directory)?;
    let (orders, asked) = mpsc::channel(1);
    let admin = Arc::new(Admin {
        lists: Arc::clone(&lists),
        feeds: Arc::clone(&feeds),
        lifelines: Arc::clone(&lifelines),
        configured_interfaces: configured_interfaces.unwrap_or_default(),
        drops: Arc::clone(&drops),
        revocations: Arc::clone(&revocations),
        journal: Arc::clone(&journal),
        allowed_uids: config.admin_uids,
        widest: config.widest,
        started: Instant::now(),
        listeners: Mutex::new(bound.addresses()),
        orders,
        conversations: watch::Sender::new(()),
        without_kernel,
        draining: told.subscribe(),
        tracing: Mutex::new(()),
    });
    let recorded = handed_over.map(|before| before.recorded);
    let counting = Counting::new(Arc::clone(&lists), Arc::clone(&journal), recorded);
    let jobs = Jobs {
        lists: Arc::clone(&lists),
        feeds,
        lifelines: Arc::clone(&lifelines),
        journal: Arc::clone(&journal),
        drops,
        revocations: Arc::clone(&revocations),
        admin: Arc::clone(&admin),
        counting: Arc::new(counting),
        kernel_interval: config.kernel_interval,
    };
    for issuer in &config_service.issuers {
        current::warn_of_development(issuer, &journal);
    }
    let begin = || jobs.begin(&admin_socket).map_err(no_thread);
    let running = match predecessor {
        Some(_) => None,
        None => {
            let running = begin()?;
            for issuer in &config_service.issuers {
                current::load_keys(issuer, &journal).await;
            }
            Some(running)
        }
    };
    let service = Service::start(
        config_service,
        bound,
        plain,
        Shared {
            lists: Arc::clone(&lists),
            lifelines,
            journal: Arc::clone(&journal),
            revocations: Arc::clone(revocations.in_force()),
            uses,
        },
        &stop,
    );
    let mut service = service.await?;
    revocations.knows(service.issuers());
    let reloaded = Arc::new(Reloads::default());
    let shown = Arc::new(Mutex::new(service.certificates()));
    let mut watching = None;
    if let Some((_, observer)) = &observer {
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
        let views = Arc::new(Observed::new(watched, metrics));
        let serving = Arc::clone(observer).serve(views, told.subscribe());
        watching = Some(tokio::spawn(serving));
    }
    // From here on the process before takes nothing back, and this one must not fail.
    let reload_asked = match predecessor {
        Some(before) => before.ready(answers_on_same_socket, &mut signals).await?,
        None => false,
    };
    let running = match running {
        Some(running) => running,
        None => begin()?,
    };
    service.order();
    let addresses = service.addresses().join(", ");
    let how = match predecessor {
        Some(before) => format!("serving on {addresses}, after process {}", before.pid()),
        None => format!("serving on {addresses}"),
    };
    note(&journal, "start", &how);
    tracing::info!(listeners = addresses, "portcullis is ready");
    notify(News::Ready);
    Ok(Daemon {
        config_path: config_path.to_path_buf(),
        kernel: config.kernel,
        drain: config.drain,
        ready_within: config.ready_within,
        admin_path: config.admin_socket,
        admin_socket,
        program,
        signals,
        asked,
        service,
        jobs,
        running: Some(running),
        alive,
        seen: Seen {
            observer,
            watching,
            reloaded,
            shown,
        },
        stop,
        told,
        reload_asked,
    })
}

/// The tokens that were used where each is good once. How many are remembered is the service's to say.
fn open_uses(state_directory: &Path) -> Result<Arc<Uses>, RunError> {
    let path = state_directory.join("used-tokens");
    let clock = Clock::now();
    let opened = Uses::open(&path, clock.boot(), 0, clock.unix_ms / 1_000);
    let uses = opened.map_err(|source| RunError::Uses { path, source })?;
    if let Some(before) = uses.unknown_before() {
        let before = rfc3339_ms(before.saturating_mul(1_000));
        tracing::warn!(
            before,
            "the machine went down without an orderly stop: tokens issued before are refused where each is good once"
        );
    }
    Ok(Arc::new(uses))
}

fn no_thread(source: io::Error) -> RunError {
    RunError::System {
        what: "a thread",
        source,
    }
}
