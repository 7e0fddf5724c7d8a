//! A whole public list: each of its entries is answered for, and nothing beside it.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
    time::Instant,
};

use portcullis_tests::{
    public_list::ipsum,
    run::{RigError, Rigged},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
};
use serde_json::{Value, json};

use crate::hosts::host;

/// Addresses beside the list that are asked for.
const OTHERS: usize = 1_000;

/// What became of the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soaked {
    pub(crate) entries: usize,
    pub(crate) import_seconds: f64,
}

/// Imports the list as an operator would and asks for every entry, as `block test` does; the command
/// itself is left out, which would take a hundred times as long.
pub(crate) fn soak() -> Rigged<Option<Soaked>> {
    let Some(path) = ipsum("whether each entry of a public list is answered for") else {
        return Ok(None);
    };
    let listed = addresses(path)?;
    let scene = Scene::set(&unique_name(), SceneLimits::NONE)?;
    let daemon = scene.start()?;
    let begin = Instant::now();
    let file = path.display().to_string();
    let reply = daemon.ask(&["block", "import", &file, "--list", "ipsum"])?;
    let import_seconds = begin.elapsed().as_secs_f64();
    if reply["added"] != listed.len() || reply["format"] != "ipsum" {
        return Err(RigError(format!("{} hosts, and {reply}", listed.len())));
    }
    let others = (0..).map(host).filter(|host| !listed.contains(host));
    let asked = listed.iter().copied().map(|host| (host, true));
    for (address, due) in asked.chain(others.take(OTHERS).map(|host| (host, false))) {
        let reply = test(&scene, address)?;
        if reply["dropped"] != due {
            return Err(RigError(format!(
                "{address} should be dropped: {due}: {reply}"
            )));
        }
    }
    daemon.stop()?;
    scene.detach()?;
    Ok(Some(Soaked {
        entries: listed.len(),
        import_seconds,
    }))
}

/// The first word of each line that isn't a comment; not as the product reads it.
fn addresses(path: &Path) -> Rigged<HashSet<Ipv4Addr>> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    let parsed: Result<HashSet<Ipv4Addr>, _> = words.map(str::parse).collect();
    let listed = parsed.map_err(|error| RigError(format!("{}: {error}", path.display())))?;
    if listed.len() < 100_000 {
        return Err(RigError(format!("only {} hosts", listed.len())));
    }
    Ok(listed)
}

/// One question to the daemon's socket.
fn test(scene: &Scene, address: Ipv4Addr) -> Rigged<Value> {
    let mut stream = UnixStream::connect(&scene.socket)?;
    let request = json!({"request": "test", "address": address});
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(|error| RigError(format!("{answer:?}: {error}")))
}
