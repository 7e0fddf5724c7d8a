//! Addresses of the hosts that the configuration names.

use std::{
    net::ToSocketAddrs as _,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{Lifeline, Needed, lifeline};

/// How long all names together may take to resolve.
const PATIENCE: Duration = Duration::from_secs(2);

/// Addresses of one name that are protected. Whoever answers for a name must not get any number of his
/// own past the lists.
const MOST: usize = 32;

/// Addresses of hosts; names are resolved on threads of their own, because the system's resolver
/// has no deadline that one could set.
pub(super) fn resolved(needed: &[Needed]) -> Vec<Lifeline> {
    let (sender, answers) = mpsc::channel();
    let mut found = Vec::new();
    let mut awaited = 0;
    for Needed { host, what } in needed {
        if let Ok(address) = host.parse() {
            found.push(lifeline(address, what));
            continue;
        }
        let (sender, host, what) = (sender.clone(), host.clone(), what.clone());
        awaited += 1;
        thread::spawn(move || {
            let addresses = (host.as_str(), 0).to_socket_addrs();
            // Nobody listens any more when it took too long.
            let _ = sender.send((what, addresses.map(Vec::from_iter)));
        });
    }
    let end = Instant::now() + PATIENCE;
    for _ in 0..awaited {
        match answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((what, Ok(addresses))) => {
                if addresses.len() > MOST {
                    let there = addresses.len();
                    tracing::warn!("{what} has {there} addresses; the first {MOST} are protected");
                }
                let protected = addresses.iter().take(MOST);
                found.extend(protected.map(|address| lifeline(address.ip(), &what)));
            }
            Ok((what, Err(error))) => {
                tracing::warn!(%error, "can't resolve {what}; it isn't protected from blocks");
            }
            Err(_) => {
                tracing::warn!("a name took too long to resolve; it isn't protected from blocks");
                break;
            }
        }
    }
    found
}
