//! Addresses that keep the host reachable, and what an entry of a list may not do to them.
//!
//! An entry that covers one is refused by name when somebody types it, and cut around when it comes
//! with a whole list: real lists hold 10.0.0.0/8, or the resolver of half the world.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where resolvers are written down. Where the first names only systemd's own stub, the second
/// has the servers behind it.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Who is logged in, from where (utmp(5)).
const LOGINS: &str = "/run/utmp";

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

/// What was cut out of an entry, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) entry: IpNet,
    pub(crate) around: Lifeline,
}

/// The lifelines of this host as it stands: loopback, its own addresses, default gateways, DNS
/// servers, remote logins, the operator who asks, and `needed`: what the configuration names.
///
/// What can't be read or resolved is logged and left out: an operator must be able to block on a
/// host whose /run/utmp is damaged, or whose resolver is under attack.
pub(crate) fn observe(operator: Option<IpAddr>, needed: &[Needed]) -> Vec<Lifeline> {
    let mut found = vec![
        Lifeline {
            prefix: Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).trunc().into(),
            what: "loopback".to_owned(),
        },
        lifeline(Ipv6Addr::LOCALHOST.into(), "loopback"),
    ];
    found.extend(operator.map(|peer| lifeline(peer, "where you are logged in from")));
    let addresses = told("this host's addresses", datapath::local_addresses());
    found.extend(addresses.map(|address| lifeline(address, "an address of this host")));
    let gateways = told("the default routes", datapath::default_gateways());
    found.extend(gateways.map(|address| lifeline(address, "the default gateway")));
    for path in RESOLVERS {
        let text = fs::read_to_string(path).unwrap_or_default();
        found.extend(resolvers(&text).map(|address| lifeline(address, "a DNS server")));
    }
    let records = fs::read(LOGINS).unwrap_or_default();
    found.extend(logins(&records).map(|address| lifeline(address, "a remote login's address")));
    found.extend(resolved(needed));
    widest(found)
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

/// How long all names together may take to resolve.
const PATIENCE: Duration = Duration::from_secs(2);

/// Addresses of hosts; names are resolved on threads of their own, because the system's resolver
/// has no deadline that one could set.
fn resolved(needed: &[Needed]) -> Vec<Lifeline> {
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
                found.extend(
                    addresses
                        .iter()
                        .map(|address| lifeline(address.ip(), &what)),
                );
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

fn told(what: &str, found: std::io::Result<Vec<IpAddr>>) -> impl Iterator<Item = IpAddr> {
    found
        .inspect_err(|error| tracing::warn!(%error, "can't read {what}; they aren't protected"))
        .unwrap_or_default()
        .into_iter()
}

fn lifeline(address: IpAddr, what: &str) -> Lifeline {
    Lifeline {
        prefix: address.to_canonical().into(),
        what: what.to_owned(),
    }
}

/// The first lifeline that an entry would cut.
pub(crate) fn covered<'a>(entry: &IpNet, lifelines: &'a [Lifeline]) -> Option<&'a Lifeline> {
    lifelines.iter().find(|line| overlap(entry, &line.prefix))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// Entries, and what goes with them, without the lifelines in them, and what was cut out.
pub(crate) fn cut_around<T: Copy>(
    entries: Vec<(IpNet, T)>,
    lifelines: &[Lifeline],
) -> (Vec<(IpNet, T)>, Vec<Cut>) {
    let mut kept = Vec::with_capacity(entries.len());
    let mut cuts = Vec::new();
    for (entry, with) in entries {
        if covered(&entry, lifelines).is_none() {
            kept.push((entry, with));
            continue;
        }
        let mut pieces = vec![entry];
        for line in lifelines {
            if !overlap(&entry, &line.prefix) {
                continue;
            }
            cuts.push(Cut {
                entry,
                around: line.clone(),
            });
            pieces = pieces
                .into_iter()
                .flat_map(|piece| without(piece, line.prefix))
                .collect();
        }
        kept.extend(pieces.into_iter().map(|piece| (piece, with)));
    }
    (kept, cuts)
}

/// A prefix without another one: the halves that don't hold it, from the widest down.
fn without(prefix: IpNet, hole: IpNet) -> Vec<IpNet> {
    if hole.contains(&prefix) {
        return Vec::new();
    }
    if !prefix.contains(&hole) {
        return vec![prefix];
    }
    let mut kept = Vec::new();
    let mut around = prefix;
    while around != hole {
        let Ok(halves) = around.subnets_one_longer() else {
            break;
        };
        let (inside, outside): (Vec<_>, Vec<_>) =
            halves.into_iter().partition(|half| half.contains(&hole));
        kept.extend(outside);
        let Some(half) = inside.first() else { break };
        around = *half;
    }
    kept
}

/// `subnets` of a prefix one bit longer, over both families.
trait Halves: Sized {
    fn subnets_one_longer(&self) -> Result<Vec<Self>, ipnet::PrefixLenError>;
}

impl Halves for IpNet {
    fn subnets_one_longer(&self) -> Result<Vec<Self>, ipnet::PrefixLenError> {
        let length = self.prefix_len() + 1;
        Ok(match self {
            Self::V4(net) => Ipv4Net::subnets(net, length)?.map(Self::from).collect(),
            Self::V6(net) => Ipv6Net::subnets(net, length)?.map(Self::from).collect(),
        })
    }
}

/// `nameserver` lines (resolv.conf(5)); a zone behind `%` is left out.
fn resolvers(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        words.next()?.split('%').next()?.parse().ok()
    })
}

/// Bytes of one record of utmp(5) with 32-bit times, as glibc writes them on every architecture
/// that we run on.
const LOGIN_BYTES: usize = 384;
/// `ut_type` of a session.
const USER_PROCESS: i16 = 7;
/// Where a record has `ut_addr_v6`.
const LOGIN_ADDRESS: usize = 348;

/// Addresses of sessions from elsewhere.
fn logins(records: &[u8]) -> impl Iterator<Item = IpAddr> + '_ {
    records.chunks_exact(LOGIN_BYTES).filter_map(|record| {
        let kind = i16::from_ne_bytes(*record.first_chunk()?);
        let octets: [u8; 16] = *record.get(LOGIN_ADDRESS..)?.first_chunk()?;
        if kind != USER_PROCESS || octets == [0; 16] {
            return None;
        }
        // An IPv4 address is in the first word, the others are zero.
        let (first, rest) = octets.split_first_chunk::<4>()?;
        Some(if rest == [0; 12] {
            Ipv4Addr::from(*first).into()
        } else {
            Ipv6Addr::from(octets).into()
        })
    })
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
    fn an_entry_that_covers_a_lifeline_or_lies_in_one_names_it() {
        let lines = [
            line("192.0.2.1/32", "gateway"),
            line("127.0.0.0/8", "loopback"),
        ];
        let named = |entry| covered(&net(entry), &lines).map(|line| line.what.as_str());
        assert_eq!(named("192.0.2.0/24"), Some("gateway"));
        assert_eq!(named("192.0.2.1/32"), Some("gateway"));
        assert_eq!(named("127.1.2.3/32"), Some("loopback"));
        assert_eq!(named("192.0.2.2/32"), None);
        assert_eq!(named("2001:db8::/32"), None);
    }

    #[test]
    fn an_entry_is_cut_around_a_lifeline_and_loses_nothing_else() {
        let lines = [
            line("192.0.2.1/32", "gateway"),
            line("192.0.2.64/26", "office"),
        ];
        let (kept, cuts) = cut_around(
            vec![(net("192.0.2.0/24"), 1), (net("198.51.100.7/32"), 2)],
            &lines,
        );
        let names: Vec<_> = cuts.iter().map(|cut| cut.around.what.as_str()).collect();
        assert_eq!(names, ["gateway", "office"]);
        for host in 0..=255_u8 {
            let address = IpNet::from(IpAddr::from([192, 0, 2, host]));
            let is_kept = kept.iter().any(|(prefix, _)| prefix.contains(&address));
            assert_eq!(is_kept, host != 1 && !(64..128).contains(&host), "{host}");
        }
        assert!(kept.contains(&(net("198.51.100.7/32"), 2)));
        assert_eq!(kept.len(), 8);
    }

    #[test]
    fn an_entry_inside_a_lifeline_is_gone() {
        let lines = [line("127.0.0.0/8", "loopback"), line("::1/128", "loopback")];
        let (kept, cuts) = cut_around(
            vec![(net("127.0.0.53/32"), ()), (net("::1/128"), ())],
            &lines,
        );
        assert_eq!((kept.len(), cuts.len()), (0, 2));
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
    fn resolvers_are_read_as_the_resolver_does() {
        let text = "# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.53\n\
                    nameserver fe80::1%eth0\nnameserver\nnameserver nonsense\n";
        let found: Vec<String> = resolvers(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.53", "fe80::1"]);
    }

    #[test]
    fn logins_from_elsewhere_are_found_and_a_torn_record_is_no_error() {
        let record = |kind: i16, address: &[u8]| {
            let mut record = [0; LOGIN_BYTES];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record[LOGIN_ADDRESS..LOGIN_ADDRESS + address.len()].copy_from_slice(address);
            record
        };
        let v6: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let mut file = [
            record(USER_PROCESS, &[192, 0, 2, 7]),
            record(USER_PROCESS, &[]),
            record(8, &[192, 0, 2, 8]),
            record(USER_PROCESS, &v6.octets()),
        ]
        .concat();
        file.extend([7, 0, 1, 2, 3]);
        let found: Vec<String> = logins(&file).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.7", "2001:db8::7"]);
    }

    #[test]
    fn this_host_has_loopback_and_its_own_addresses() {
        let needed = [Needed::of_url(
            "https://198.51.100.9:8443",
            "upstream `a`".to_owned(),
        )];
        let needed = needed.map(|needed| needed.expect("a host"));
        let found = observe(Some(IpAddr::from([203, 0, 113, 9])), &needed);
        let what = |address: &str| covered(&net(address), &found).map(|line| line.what.as_str());
        assert_eq!(what("127.0.0.2/32"), Some("loopback"));
        assert_eq!(what("203.0.113.9/32"), Some("where you are logged in from"));
        assert_eq!(what("198.51.100.0/24"), Some("upstream `a`"));
    }
}
