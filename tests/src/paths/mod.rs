//! Targets by the thousand against the running proxy: the path that is recorded of each is, byte for byte, what
//! the upstream received, and nothing that was refused reached it.
//!
//! ```text
//! targets      what is asked for
//! reading      what a target says, read without the proxy's own code
//! pipelined    clients that ask over HTTP/1.1, one request behind the other
//! multiplexed  clients that ask over HTTP/2, many at a time
//! recorder     the upstream, which notes each request line as it came
//! trail        the audit trail, read while it is written
//! accounts     what the three say of each request, put together as soon as all have spoken
//! ```
//!
//! An account is closed once it is whole, and clients wait while too many are open: memory doesn't grow with
//! the number of targets.

mod accounts;
mod multiplexed;
mod pipelined;
mod reading;
mod recorder;
mod targets;
mod trail;

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use self::{accounts::Accounts, targets::Targets};
use crate::{
    front::Front,
    ground::Ground,
    run::{RigError, Rigged},
};

/// Clients over HTTP/1.1, each with a request at the proxy at a time, and over HTTP/2.
const PIPELINED: u64 = 4;
const MULTIPLEXED: u64 = 2;

/// Every rule that a route may relax.
pub const RELAXED: &str = "allow_encoded_slash = true\nallow_encoded_backslash = true\n\
    allow_path_parameters = true\nallow_empty_segments = true\nallow_double_encoding = true";

/// A second route, which relaxes none.
const STRICT: &str = r#"[[route]]
name = "strict"
host = "api.example"
path = "/strict"
methods = ["GET"]
upstream = "app"
access = "public"

[admin]"#;

/// Whether requests go over HTTP/1.1 or HTTP/2: what a target says depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

/// What came of the requests over one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// That the upstream received, each with the path of its record.
    pub served: u64,
    /// That were answered with a refusal, and that the upstream didn't receive.
    pub refused: u64,
    /// That the HTTP library couldn't read, so that nobody decided on them.
    pub unread: u64,
    /// Connections. Each over HTTP/1.1 ended with a refusal or with the run.
    pub connections: u64,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// Over HTTP/1.1.
    pub http1: Share,
    /// Over HTTP/2.
    pub http2: Share,
    /// Most requests of which something was known and not yet all.
    pub most_open: usize,
    /// How long it took.
    pub took: Duration,
}

impl Compared {
    /// Requests whose path is the same in the record and at the upstream.
    pub fn served(&self) -> u64 {
        self.http1.served + self.http2.served
    }

    fn of(&mut self, http: Http) -> &mut Share {
        match http {
            Http::One => &mut self.http1,
            Http::Two => &mut self.http2,
        }
    }
}

/// Asks until the upstream has received `count` requests, half of them over each protocol, and compares all.
///
/// # Errors
/// When a record and the upstream differ, a refused request reached the upstream, a request has no record or
/// two, or a client isn't answered; with the first of these and the seed.
pub fn compare(count: u64, seed: u64) -> Rigged<Compared> {
    let told = |error: &dyn Display| RigError(format!("with seed {seed}: {error}"));
    let accounts = Arc::new(Accounts::new(count.div_ceil(2)));
    let front = Ground::set()?
        .with_upstream(recorder::listen(&accounts)?)?
        .alter("match = \"exact\"", RELAXED)?
        .alter("[admin]", STRICT)?
        .start()?;
    let begun = Instant::now();
    let asked = ask(front, &accounts, seed);
    let mut compared = accounts.settle().map_err(|error| told(&error))?;
    asked.map_err(|error| told(&error))?;
    compared.took = begun.elapsed();
    Ok(compared)
}

/// Lets clients ask, and follows the trail to its end.
fn ask(front: Front, accounts: &Accounts, seed: u64) -> Rigged<()> {
    let trail = front.ground.scratch.join("audit.jsonl");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let following = scope.spawn(|| {
            let followed = trail::follow(&trail, accounts, &over);
            followed.inspect_err(|error| accounts.fault(error.to_string()))
        });
        ask_all(&front, accounts, seed);
        // All that is to be recorded is written when the daemon has ended.
        let stopped = front.stop();
        over.store(true, Ordering::Release);
        let followed = following.join();
        followed.map_err(|_| RigError("whoever follows the trail panicked".to_owned()))??;
        match stopped? {
            (status, _ground) if status.success() => Ok(()),
            (status, _ground) => Err(RigError(format!("the daemon ended with {status}"))),
        }
    })
}

fn ask_all(front: &Front, accounts: &Accounts, seed: u64) {
    thread::scope(|scope| {
        for (http, clients) in [(Http::One, PIPELINED), (Http::Two, MULTIPLEXED)] {
            for client in 0..clients {
                let mut targets = Targets::new(seed, http, client);
                scope.spawn(move || {
                    let asked = match http {
                        Http::One => pipelined::ask(front, accounts, &mut targets),
                        Http::Two => multiplexed::ask(front, accounts, &mut targets),
                    };
                    if let Err(error) = asked {
                        accounts.fault(error.to_string());
                    }
                });
            }
        }
    });
}
