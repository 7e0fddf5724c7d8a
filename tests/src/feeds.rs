//! Lists with a source, as tests configure and watch them.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;

use crate::{
    front::Front,
    ground::Ground,
    run::{RigError, Rigged, eventually},
};

/// How long the daemon may take to notice something.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A ground with these lines in its configuration.
///
/// # Errors
/// See [`Ground::alter`].
pub fn with(ground: Ground, lines: &str) -> Rigged<Ground> {
    ground.alter("[admin]", &format!("{lines}\n[admin]"))
}

/// The feed `drop`, which reads `list.txt` of the ground's folder.
pub fn of_file(ground: &Ground, more: &str) -> String {
    let file = ground.scratch.join("list.txt");
    format!(
        "[[feed]]\nname = \"drop\"\nfile = \"{}\"\n{more}\n",
        file.display()
    )
}

/// The feed `drop`, which asks a server, as often as a test likes.
pub fn of_url(ground: &Ground, url: &str, more: &str) -> String {
    format!(
        "[[feed]]\nname = \"drop\"\nurl = \"{url}\"\nca = \"{}\"\nallow_addresses = [\"127.0.0.1\"]\n\
         min_interval = \"1ms\"\n{more}\n",
        ground.pki.ca.display()
    )
}

/// So many hosts, a line each.
pub fn hosts(first: u32, count: u32) -> String {
    from(Ipv4Addr::new(198, 51, 100, 0), first, count)
}

/// So many hosts of 100.64.0.0/10, a line each: room for four million, none of them a lifeline.
pub fn many_hosts(first: u32, count: u32) -> String {
    from(Ipv4Addr::new(100, 64, 0, 0), first, count)
}

fn from(begin: Ipv4Addr, first: u32, count: u32) -> String {
    (first..first + count)
        .map(|n| format!("{}\n", Ipv4Addr::from_bits(begin.to_bits() + n)))
        .collect()
}

/// What is known of the feed.
///
/// # Errors
/// When the command fails.
pub fn shown(front: &Front) -> Rigged<Value> {
    front.daemon.ask(&["feed", "show", "drop"])
}

/// How an address stands.
///
/// # Errors
/// When the command fails.
pub fn standing(front: &Front, address: &str) -> Rigged<String> {
    let tested = front.daemon.ask(&["block", "test", address])?;
    Ok(tested["standing"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the feed has so many entries.
///
/// # Errors
/// When it doesn't in time.
pub fn await_entries(front: &Front, count: u64) -> Rigged<Value> {
    eventually(&format!("{count} entries"), PATIENCE, || {
        let feed = shown(front).ok()?;
        (feed["entries"] == count && feed["state"] != "waiting").then_some(feed)
    })
}

/// Waits until the feed's trouble has these words in it.
///
/// # Errors
/// When it hasn't in time; with the feed.
pub fn await_problem(front: &Front, words: &str) -> Rigged<()> {
    eventually(words, PATIENCE, || {
        let feed = shown(front).ok()?;
        feed["problem"].as_str()?.contains(words).then_some(())
    })
    .map_err(|error| {
        let feed = shown(front).unwrap_or_default();
        RigError(format!("{error}; the feed: {feed}"))
    })
}
