//! Certificates that an authority issues, as long as they are configured: kept current, told of, and the
//! plain HTTP listener by which names may be checked.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use audit::Journal;
use gateway::{
    AcmeNews, Attempts, Authority, Issued, Pending, PlainListener, PlainSpec, SourceGate, Stage,
    keep_issued,
};
use tokio::sync::watch;

use crate::{
    bound::ServiceError,
    config::{AcmeConfig, PlainConfig},
    passed::{For, Passed},
    task::Task,
    trail::note,
};

/// The task that keeps them, and the listener.
#[derive(Default)]
pub(crate) struct Automatic {
    attempts: Arc<Attempts>,
    /// What is asked for, and of whom.
    orders: Option<Orders>,
    keeping: Option<Task>,
    plain: Option<Plain>,
}

type Orders = (Authority, Vec<Arc<Issued>>, Arc<Pending>);

/// A plain HTTP listener as it is configured, bound.
pub(crate) struct Plain {
    config: PlainConfig,
    listener: Arc<PlainListener>,
    serving: Option<Task>,
}

impl Automatic {
    /// Binds what a configuration listens on over plain HTTP and isn't bound yet; changes nothing else.
    pub(crate) async fn bind(
        &self,
        config: Option<&AcmeConfig>,
        gate: Arc<dyn SourceGate>,
        passed: &mut Passed,
    ) -> Result<Option<Plain>, ServiceError> {
        let Some((acme, plain)) = config.and_then(|acme| Some((acme, acme.plain.as_ref()?))) else {
            return Ok(None);
        };
        let bound = self.plain.as_ref();
        if bound.is_some_and(|bound| bound.config.address == plain.address) {
            return Ok(None);
        }
        let spec = spec(acme, plain);
        let listener = match passed.take_one(For::Plain, plain.address) {
            Some(socket) => PlainListener::take_over(socket, spec, gate),
            None => PlainListener::bind(plain.address, spec, gate).await,
        };
        let listener =
            listener.map_err(|source| ServiceError::binding(plain.place.clone(), source))?;
        Ok(Some(Plain {
            config: plain.clone(),
            listener: Arc::new(listener),
            serving: None,
        }))
    }

    /// Does what this configuration says from now on, with what was bound for it. An order that is under
    /// way is given up, and is begun again by [`Self::order`].
    pub(crate) fn exchange(
        &mut self,
        config: Option<AcmeConfig>,
        bound: Option<Plain>,
        stop: &watch::Sender<Stage>,
    ) {
        (self.keeping, self.orders) = (None, None);
        self.plain = match config.as_ref().and_then(|acme| acme.plain.as_ref()) {
            Some(_) => bound.or_else(|| self.plain.take()),
            None => None,
        };
        let Some(acme) = config else { return };
        if let (Some(plain), Some(config)) = (&mut self.plain, &acme.plain) {
            plain.config = config.clone();
            plain.listener.exchange(spec(&acme, config));
            let serving = || Arc::clone(&plain.listener).serve(stop.subscribe());
            let serve = || Task(tokio::spawn(serving()));
            plain.serving.get_or_insert_with(serve);
        }
        let authority = acme.authority.filter(|_| !acme.issued.is_empty());
        self.orders = authority.map(|authority| (authority, acme.issued, acme.pending));
    }

    /// Begins to keep certificates current.
    pub(crate) fn order(&mut self, journal: &Arc<Journal>) {
        let Some((authority, issued, pending)) = self.orders.clone() else {
            return;
        };
        let (attempts, journal) = (Arc::clone(&self.attempts), Arc::clone(journal));
        self.keeping = Some(Task(tokio::spawn(keep_issued(
            authority,
            issued,
            pending,
            attempts,
            move |names, news| tell(&journal, names, &news),
        ))));
    }

    /// Gives up orders that are under way, until they are begun again.
    pub(crate) fn rest(&mut self) {
        self.keeping = None;
    }

    /// The plain listener's socket once more, for another process, and where it is configured.
    pub(crate) fn handle(&self) -> Option<(SocketAddr, io::Result<OwnedFd>)> {
        let plain = self.plain.as_ref()?;
        Some((plain.config.address, plain.listener.handle()))
    }

    /// Leaves plain HTTP to another process. What was asked here is answered.
    pub(crate) fn let_go(&mut self) {
        self.plain = None;
    }
}

fn spec(acme: &AcmeConfig, plain: &PlainConfig) -> PlainSpec {
    PlainSpec {
        pending: Arc::clone(&acme.pending),
        hosts: plain.hosts.clone(),
    }
}

fn tell(journal: &Journal, names: &[String], news: &AcmeNews<'_>) {
    let names = names.join(", ");
    match news {
        AcmeNews::Obtained(until) => {
            let until = humantime::format_rfc3339_seconds(*until).to_string();
            tracing::info!(names, until, "certificate obtained");
            note(
                journal,
                "certificate_obtained",
                &format!("{names}: good until {until}"),
            );
        }
        AcmeNews::Failed(error, wait) => {
            let again = humantime::format_duration(Duration::from_secs(wait.as_secs()));
            tracing::error!(names, %error, %again, "NO NEW CERTIFICATE: what there is serves on");
            let detail = format!("{names}: {error}; again in {again}");
            note(journal, "certificate_not_obtained", &detail);
        }
        AcmeNews::Damaged(problem) => {
            tracing::error!(
                names,
                problem,
                "a kept certificate can't be used; another one is asked for"
            );
            note(
                journal,
                "certificate_damaged",
                &format!("{names}: {problem}"),
            );
        }
        AcmeNews::Registered(error) => {
            tracing::warn!(%error, "another account was registered");
            note(
                journal,
                "acme_account",
                &format!("another one was registered: {error}"),
            );
        }
    }
}
