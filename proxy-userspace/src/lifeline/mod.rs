//! Addresses that keep the host reachable, and what an entry of a list may not do to them.
//!
//! An entry that covers one is refused by name when somebody types it, and cut around when it comes
//! with a whole list: real lists hold 10.0.0.0/8, or the resolver of half the world. All of them are
//! trusted as well, as long as they are lifelines, so that no list that is there already, and none of
//! the configuration, cuts them off either.
//!
//! ```text
//! host    what keeps this host reachable as it stands
//! names   addresses of the hosts that the configuration names
//! cut     what an entry may not do to a lifeline
//! ```

mod cut;
mod host;
mod names;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;

pub(crate) use cut::{Cut, covered, cut_around};

/// An address that the host, or its operator, can't do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifeline {
    pub(crate) prefix: IpNet,
    /// What it is: `the default gateway`.
    pub(crate) what: String,
}

impl fmt::Display for Lifeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, what } = self;
        if prefix.prefix_len() == prefix.max_prefix_len() {
            return write!(f, "{}, {what}", prefix.addr());
        }
        write!(f, "{prefix}, {what}")
    }
}

/// A host that the configuration names and that must stay in reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    /// A name or an address.
    pub(crate) host: String,
    /// What it is: `upstream "orders"`.
    pub(crate) what: String,
}

impl Needed {
    /// The host of a URL, if it has one.
    pub(crate) fn of_url(url: &str, what: String) -> Option<Self> {
        let url: http::Uri = url.parse().ok()?;
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        Some(Self { host, what })
    }
}

/// How long an operator's address is a lifeline after his last command. Not every host notes logins.
const OPERATOR: Duration = Duration::from_secs(12 * 3_600);

/// The lifelines of this host, kept current.
pub(crate) struct Lifelines {
    needed: Mutex<Vec<Needed>>,
    /// Of `needed`, as they resolved last.
    resolved: Mutex<Vec<Lifeline>>,
    /// From where somebody gave a command, and when.
    operators: Mutex<HashMap<IpAddr, Instant>>,
}

impl Lifelines {
    /// Resolves what the configuration names, for the first time.
    pub(crate) fn new(needed: Vec<Needed>) -> Self {
        Self {
            resolved: Mutex::new(names::resolved(&needed)),
            needed: Mutex::new(needed),
            operators: Mutex::default(),
        }
    }

    /// Takes one more host up, at once.
    pub(crate) fn need(&self, needed: Needed) {
        let addresses = names::resolved(std::slice::from_ref(&needed));
        let mut all = lock(&self.needed);
        lock(&self.resolved).extend(addresses);
        all.push(needed);
    }

    /// Lets the hosts go that are needed for just this.
    pub(crate) fn let_go(&self, what: &str) {
        let mut needed = lock(&self.needed);
        needed.retain(|needed| needed.what != what);
        lock(&self.resolved).retain(|line| line.what != what);
    }

    /// Resolves the names once more. One that doesn't resolve any more keeps its addresses: whoever
    /// attacks the resolver must not get them blocked.
    pub(crate) fn resolve_again(&self) {
        let needed = lock(&self.needed).clone();
        let mut fresh = names::resolved(&needed);
        // What was let go meanwhile stays so.
        let needed = lock(&self.needed);
        fresh.retain(|new| needed.iter().any(|needed| needed.what == new.what));
        let mut resolved = lock(&self.resolved);
        resolved.retain(|old| !fresh.iter().any(|new| new.what == old.what));
        resolved.extend(fresh);
    }

    /// All of them as they are now; `operator` is where the one who asks is logged in from.
    pub(crate) fn observe(&self, operator: Option<IpAddr>) -> Vec<Lifeline> {
        let mut found: Vec<Lifeline> = Vec::new();
        {
            let mut operators = lock(&self.operators);
            operators.retain(|_, seen| seen.elapsed() < OPERATOR);
            operators.extend(operator.map(|operator| (operator, Instant::now())));
            let others = operators.keys().filter(|peer| Some(**peer) != operator);
            found.extend(operator.map(|peer| lifeline(peer, "where you are logged in from")));
            found.extend(others.map(|peer| lifeline(*peer, "an operator's address")));
        }
        found.extend(host::observe());
        found.extend(lock(&self.resolved).iter().cloned());
        widest(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without those that lie in another, or are another under a second name.
fn widest(lifelines: Vec<Lifeline>) -> Vec<Lifeline> {
    let mut kept: Vec<Lifeline> = Vec::new();
    for line in lifelines {
        if kept.iter().any(|other| other.prefix.contains(&line.prefix)) {
            continue;
        }
        kept.retain(|other| !line.prefix.contains(&other.prefix));
        kept.push(line);
    }
    kept
}

fn lifeline(address: IpAddr, what: &str) -> Lifeline {
    Lifeline {
        prefix: address.to_canonical().into(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn line(prefix: &str, what: &str) -> Lifeline {
        Lifeline {
            prefix: net(prefix),
            what: what.to_owned(),
        }
    }

    #[test]
    fn an_address_that_is_needed_twice_is_told_once_and_by_its_widest_name() {
        let lines = vec![
            line("192.0.2.1/32", "resolver"),
            line("127.0.0.0/8", "loopback"),
            line("127.0.0.1/32", "upstream"),
            line("192.0.2.1/32", "gateway"),
            line("192.0.2.0/24", "office"),
        ];
        let names: Vec<_> = widest(lines).into_iter().map(|line| line.what).collect();
        assert_eq!(names, ["loopback", "office"]);
    }

    #[test]
    fn this_host_has_loopback_its_operators_and_what_its_configuration_names() {
        let needed = Needed::of_url("https://198.51.100.9:8443", "upstream `a`".to_owned());
        let lifelines = Lifelines::new(needed.into_iter().collect());
        let operator = IpAddr::from([203, 0, 113, 9]);
        let what = |operator: Option<IpAddr>, address: &str| {
            let found = lifelines.observe(operator);
            covered(&net(address), &found).map(|line| line.what.clone())
        };
        assert_eq!(what(None, "127.0.0.2/32").as_deref(), Some("loopback"));
        assert_eq!(
            what(None, "198.51.100.0/24").as_deref(),
            Some("upstream `a`")
        );
        assert_eq!(what(None, "203.0.113.9/32"), None);
        let told = what(Some(operator), "203.0.113.9/32");
        assert_eq!(told.as_deref(), Some("where you are logged in from"));
        let told = what(None, "203.0.113.9/32");
        assert_eq!(told.as_deref(), Some("an operator's address"));
    }
}
