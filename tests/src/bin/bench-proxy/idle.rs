//! What connections cost that nobody uses.

use std::{thread, time::Duration};

use portcullis_tests::run::Rigged;

use crate::{
    connection::{Connection, Http},
    http1::{Asking, request, upgrade},
    spent::Clock,
    stage::Stage,
    subject::Subject,
    upstream::SMALL,
};

/// WebSockets that are open.
pub(crate) const SOCKETS: usize = 256;
/// Until what the kernel and the proxy do afterwards is done.
const SETTLES: Duration = Duration::from_millis(500);

/// Memory of a proxy with a connection for each token, each of which has made one request: a proof,
/// too, that every token is good.
pub(crate) fn rss_mib(subject: &Subject, stage: &Stage) -> Rigged<f64> {
    let mut held = Vec::new();
    for token in &stage.tokens.good {
        let connection = Connection::open(subject.address, &stage.trust, Http::One)?;
        let mut asking = Asking::over(connection);
        asking.ask(&request("/orders", token), SMALL)?;
        held.push(asking);
    }
    thread::sleep(SETTLES);
    subject.serving.rss_mib()
}

/// What idle WebSockets take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sockets {
    /// Memory of each, in KiB. A proxy that has room left from before takes none.
    pub(crate) kib: f64,
    /// Core time of a second with all of them, in ms.
    pub(crate) core_ms: f64,
}

/// Opens them, and lets them be for this long.
pub(crate) fn sockets(subject: &Subject, stage: &Stage, length: Duration) -> Rigged<Sockets> {
    let before = subject.serving.rss_mib()?;
    let mut held = Vec::new();
    for token in stage.tokens.good.iter().take(SOCKETS) {
        let connection = Connection::open(subject.address, &stage.trust, Http::One)?;
        let mut asking = Asking::over(connection);
        asking.upgrade(&upgrade("/socket", token))?;
        held.push(asking);
    }
    thread::sleep(SETTLES);
    let grown = subject.serving.rss_mib()? - before;
    let clock = Clock::start(&subject.serving)?;
    thread::sleep(length);
    let spent = clock.stop(SOCKETS as u64)?;
    for socket in held {
        socket.close_socket()?;
    }
    Ok(Sockets {
        kib: grown * 1024.0 / SOCKETS as f64,
        core_ms: spent.busy() * 1e3,
    })
}
