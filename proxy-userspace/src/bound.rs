//! Listeners that are bound and don't serve yet: what can fail comes before anything is put in force.

use std::{io, num::NonZeroUsize, sync::Arc};

use gateway::{Listener, SessionKeyError, Sockets};

use crate::{
    config::ListenerConfig,
    passed::{For, Passed},
};

/// Why something that serves requests could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
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
    #[error("no key for the sessions of logins: {0}")]
    SessionKey(#[from] SessionKeyError),
}

impl ServiceError {
    pub(crate) fn binding(place: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse { place },
            _ => Self::CantBind { place, source },
        }
    }
}

/// Listeners that are bound and don't serve yet.
pub(crate) struct Bound(pub(crate) Vec<(ListenerConfig, Arc<Listener>)>);

impl Bound {
    /// Binds all of them that weren't passed.
    pub(crate) async fn all(
        configs: Vec<ListenerConfig>,
        workers: NonZeroUsize,
        passed: &mut Passed,
    ) -> Result<Self, ServiceError> {
        let mut bound = Vec::new();
        for (at, config) in configs.into_iter().enumerate() {
            let taken = passed.take(For::Listener { at }, config.address);
            let sockets = if taken.is_empty() {
                Sockets::bind(config.address, workers).await
            } else {
                Sockets::take_over(taken, workers).await
            };
            let sockets =
                sockets.map_err(|source| ServiceError::binding(config.place.clone(), source))?;
            let listener = Listener::new(config.address, sockets, config.spec.clone());
            bound.push((config, Arc::new(listener)));
        }
        Ok(Self(bound))
    }

    /// Where.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let of = |(_, listener): &(_, Arc<Listener>)| listener.address().to_string();
        self.0.iter().map(of).collect()
    }
}
