//! What a process that handed over still serves ends as where it handed over to.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::time;

use crate::{
    admin::{self, Reply, Request},
    revocations::{Keeper, Which},
};

/// How often the next process is asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// Has in force what is revoked by the process that answers on this socket. Never ends.
pub(crate) async fn revocations(socket: PathBuf, keeper: Arc<Keeper>) {
    let (mut known, mut is_told) = (None, false);
    loop {
        let request = Request::Revocations {
            about: Which::default(),
            known,
        };
        let socket = socket.clone();
        let asked = tokio::task::spawn_blocking(move || admin::ask(&socket, &request));
        match asked.await {
            Ok(Ok(Reply::Revocations {
                version,
                revocations: Some(all),
            })) => {
                keeper.adopt(&all);
                known = Some(version);
            }
            Ok(Ok(Reply::Revocations { .. })) => is_told = false,
            Ok(Ok(_)) if !is_told => {
                tracing::warn!("the next process doesn't say what is revoked");
                is_told = true;
            }
            Ok(Err(error)) if !is_told => {
                tracing::warn!(%error, "it isn't known what is revoked since the hand-over");
                is_told = true;
            }
            Ok(_) => {}
            Err(_) => return,
        }
        time::sleep(INTERVAL).await;
    }
}
