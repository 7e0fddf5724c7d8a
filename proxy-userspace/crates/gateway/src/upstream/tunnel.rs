//! A connection for bytes that nobody looks at: its turn, an endpoint, TCP and TLS; another endpoint where the
//! first can't be had.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Upstream, UpstreamFault,
    connect::{Purpose, Reached},
    endpoint::{Endpoint, Load},
};

/// A connection, and what it holds of its upstream for as long as it is there.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Reached,
    load: Load,
    _turn: Option<OwnedSemaphorePermit>,
    _slot: OwnedSemaphorePermit,
}

impl Opened {
    /// Where it leads.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.load.endpoint().address
    }
}

impl Upstream {
    /// Opens a connection for a client's. Nothing was sent on one that can't be had, so another endpoint may
    /// be tried, as often as the bounds and the budget have it.
    pub(crate) async fn open_tunnel(&self, client: SocketAddr) -> Result<Opened, UpstreamFault> {
        self.budget.earn();
        let turn = self.turn().await?;
        let key = self.spec.balance.key_of_source(client.ip());
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        loop {
            let endpoint = self.choose(key, &tried).await?;
            let load = endpoint.begin();
            let slot = self.slot(&endpoint, None).await?;
            let fault = match self.reach_for(&endpoint, client).await {
                Ok(stream) => {
                    endpoint.succeeded();
                    return Ok(Opened {
                        stream,
                        load,
                        _turn: turn,
                        _slot: slot,
                    });
                }
                Err(fault) => fault,
            };
            self.note_failure(&endpoint);
            if !self.may_try_again(&tried) {
                return Err(fault);
            }
            tried.push(endpoint);
        }
    }

    async fn reach_for(
        &self,
        endpoint: &Endpoint,
        client: SocketAddr,
    ) -> Result<Reached, UpstreamFault> {
        let purpose = Purpose {
            only_http1: false,
            client: Some(client),
        };
        let host = &self.hosts[endpoint.target];
        self.connector
            .reach(endpoint.address, host, purpose)
            .await
            .map_err(UpstreamFault::Unreachable)
    }
}
