//! The proxy that is soaked: three services that may die, one that lasts, a WebSocket; and its configuration,
//! which becomes another one each second.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    front::Front,
    ground::{Ground, free_address},
    pki::unix_now,
    run::{RigError, Rigged},
    scene::HOST,
    websocket::EchoServer,
};

use crate::{
    backend::{PATH, STREAM},
    fleet::Fleet,
    lasting::TALK,
};

/// Services of the load.
const SERVICES: usize = 3;
/// Different tokens.
const TOKENS: usize = 64;
/// Between two reloads.
const INTERVAL: Duration = Duration::from_secs(1);

/// The running proxy and all behind it.
// Fields drop in their order: the daemon ends before what it uses.
pub(crate) struct Stage {
    pub(crate) front: Front,
    pub(crate) observe: SocketAddr,
    _lasts: Fleet,
    _echo: EchoServer,
}

/// The scope that all routes ask for.
const SCOPE: &str = "soak";

/// Starts it, and the services that may die beside it.
pub(crate) fn set() -> Rigged<(Stage, Fleet)> {
    let ground = Ground::set()?;
    let fleet = Fleet::start(ground.scratch.join("die"), SERVICES)?;
    let lasts = Fleet::start(ground.scratch.join("last"), 1)?;
    let echo = EchoServer::start()?;
    let observe = free_address()?;
    let route = |name: &str, path: &str, more: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nhost = \"{HOST}\"\npath = \"{path}\"\nupstream = \"{name}\"\n\
             issuers = [\"main\"]\nscopes = [\"{SCOPE}\"]\n{more}\n"
        )
    };
    let urls = |fleet: &Fleet| {
        let urls = fleet.addresses().into_iter();
        let urls: Vec<_> = urls.map(|at| format!("\"http://{at}\"")).collect();
        urls.join(", ")
    };
    let added = format!(
        "[[upstream]]\nname = \"soak\"\nurls = [{}]\nresponse_timeout = \"30s\"\nidle_timeout = \"5s\"\n\
         connect_timeout = \"1s\"\neject_for = \"1s\"\n\n\
         [upstream.health]\npath = \"/healthz\"\ninterval = \"500ms\"\ntimeout = \"2s\"\n\n\
         [[upstream]]\nname = \"stream\"\nurl = \"http://{}\"\n\n\
         [[upstream]]\nname = \"talk\"\nurl = \"http://{}\"\n\n{}{}{}\
         [observe]\naddress = \"{observe}\"\n\n[admin]",
        urls(&fleet),
        lasts.addresses()[0],
        echo.address(),
        route(
            "soak",
            PATH.trim_end_matches('/'),
            "methods = [\"GET\", \"POST\"]\nmax_body_bytes = 65536\n"
        ),
        route("stream", STREAM, "methods = [\"GET\"]\n"),
        route("talk", TALK, "methods = [\"GET\"]\nwebsocket = true\n"),
    );
    let front = ground
        .alter(
            "algorithms = [\"ES256\"]",
            "algorithms = [\"ES256\"]\nleeway = \"30s\"",
        )?
        .alter("[admin]", &added)?
        .start()?;
    let stage = Stage {
        front,
        observe,
        _lasts: lasts,
        _echo: echo,
    };
    Ok((stage, fleet))
}

impl Stage {
    /// Tokens that are good for longer than the run.
    pub(crate) fn tokens(&self, run: Duration) -> Rigged<Vec<String>> {
        let issuer = &self.front.ground.issuer;
        let token = |at: usize| {
            let mut claims = issuer.claims(&format!("client-{at}"), SCOPE);
            claims["exp"] = (unix_now() + run.as_secs() + 3_600).into();
            issuer.sign(&claims)
        };
        (0..TOKENS).map(token).collect()
    }

    /// Puts another configuration in force each second until `over`, and says how often that was.
    pub(crate) fn keep_reloading<'s>(
        &self,
        scope: &'s thread::Scope<'s, '_>,
        over: &Arc<AtomicBool>,
    ) -> thread::ScopedJoinHandle<'s, Rigged<u64>> {
        let text = self.front.ground.text.clone();
        let path = self.front.ground.scratch.join("portcullis.toml");
        let words = ["reload"];
        let mut asking = self.front.daemon.ask_command(&words);
        let over = Arc::clone(over);
        scope.spawn(move || {
            let mut due = Instant::now();
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                due += INTERVAL;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                count += 1;
                let other = other(&text, count)?;
                let fresh = path.with_extension("new");
                std::fs::write(&fresh, other)?;
                std::fs::rename(&fresh, &path)?;
                let said = portcullis_tests::run::succeed(&mut asking)?;
                if said.contains("\"changes\":[]") || !said.contains("\"changes\":[") {
                    return Err(RigError(format!("reload {count} changed nothing: {said}")));
                }
            }
            Ok(count)
        })
    }
}

/// The configuration as it is after so many reloads: a route that comes and goes, another body limit each
/// time, now and then other deadlines (which makes the upstream another one) and another leeway (which makes
/// the issuer another one).
fn other(text: &str, count: u64) -> Rigged<String> {
    let mut other = text.to_owned();
    let mut put = |from: &str, to: String| {
        if !other.contains(from) {
            return Err(RigError(format!("no {from:?} in {other}")));
        }
        other = other.replacen(from, &to, 1);
        Ok(())
    };
    put(
        "max_body_bytes = 65536",
        format!("max_body_bytes = {}", 65_536 + count),
    )?;
    put(
        "response_timeout = \"30s\"",
        format!("response_timeout = \"{}s\"", 30 + count / 3 % 5),
    )?;
    put(
        "leeway = \"30s\"",
        format!("leeway = \"{}s\"", 30 + count / 7 % 5),
    )?;
    if count % 2 == 1 {
        put(
            "[observe]",
            format!(
                "[[route]]\nname = \"passing\"\nhost = \"{HOST}\"\npath = \"/passing\"\nmethods = [\"GET\"]\n\
                 upstream = \"stream\"\naccess = \"public\"\n\n[observe]"
            ),
        )?;
    }
    Ok(other)
}
