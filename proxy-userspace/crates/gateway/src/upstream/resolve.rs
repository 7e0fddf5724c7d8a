//! Where an upstream is: its addresses, looked up again and again, and refused where a name leads into the
//! proxy's own host or to a cloud's metadata.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use rustls::pki_types::ServerName;
use tokio::time::{self, Instant};

use super::{Upstream, endpoint::Endpoint};
use crate::address::carries_ipv4;

/// Addresses at which clouds answer questions about a host, and which aren't link-local: Azure's wire
/// server, Alibaba's and Oracle's metadata, AWS's and Google's over IPv6.
const METADATA: [&str; 5] = [
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
];

/// Endpoints of one upstream at most: what a name leads to is bounded.
const MOST_ENDPOINTS: usize = 256;

/// Shortest pause after a look-up that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest time between two looks at what nobody has used.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

/// A host and port of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address: the operator wrote it, so it may be any.
    Address(SocketAddr),
    /// A name, and a port.
    Name(String, u16, ServerName<'static>),
}

impl Target {
    /// What its certificate has to be good for.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        match self {
            Self::Address(address) => ServerName::IpAddress(address.ip().into()),
            Self::Name(_, _, name) => name.clone(),
        }
    }
}

/// Which addresses a name may lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointRule {
    /// Ranges allowed although they are this host's, link-local, or a cloud's metadata.
    pub allowed: Vec<IpNet>,
}

impl EndpointRule {
    /// Whether a name may lead there.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let own = match address {
            IpAddr::V4(v4) => {
                v4.is_loopback()
                    || v4.is_link_local()
                    || v4.octets()[0] == 0
                    || v4.octets()[0] >= 224
            }
            IpAddr::V6(v6) => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_unicast_link_local()
                    || v6.is_multicast()
                    || carries_ipv4(v6)
            }
        };
        let metadata = METADATA.iter().any(|known| known.parse() == Ok(address));
        !(own || metadata) || self.allowed.iter().any(|net| net.contains(&address))
    }
}

/// What became of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamNews {
    /// Its names have these addresses from now on.
    Resolved(Vec<SocketAddr>),
    /// They couldn't be looked up; the last ones stay.
    Unresolved(String),
    /// A name led to an address that no name may lead to.
    Refused(IpAddr),
    /// An endpoint fails its health check, and why.
    Unhealthy(SocketAddr, String),
    /// An endpoint passes it again.
    Healthy(SocketAddr),
}

impl Upstream {
    /// Endpoints of addresses that were written as such.
    pub(super) fn take_literal_addresses(&self) {
        let literal = self.spec.targets.iter().enumerate();
        let found: Vec<(usize, SocketAddr)> = literal
            .filter_map(|(index, target)| match target {
                Target::Address(address) => Some((index, *address)),
                Target::Name(..) => None,
            })
            .collect();
        let complete = found.len() == self.spec.targets.len();
        self.endpoints.store(Arc::new(self.endpoints_at(&found)));
        self.resolved.send_replace(complete);
    }

    /// Looks its names up again, and closes connections that nobody has used. Never ends.
    pub async fn keep_current(self: Arc<Self>, tell: impl Fn(&str, UpstreamNews)) {
        let has_names = self
            .spec
            .targets
            .iter()
            .any(|target| matches!(target, Target::Name(..)));
        let unused_for = self.spec.bounds.idle_timeout;
        let between_sweeps = (unused_for / 4).max(SHORTEST_SWEEP);
        let mut told = None;
        let mut due = Instant::now();
        loop {
            if has_names && Instant::now() >= due {
                let mut pause = self.spec.bounds.resolve_interval;
                let news = self.resolve_again().await;
                if matches!(
                    news,
                    Some(UpstreamNews::Unresolved(_) | UpstreamNews::Refused(_))
                ) {
                    pause = pause.min(RETRY_INTERVAL);
                }
                // The same trouble is told once, however long it lasts.
                if let Some(news) = news.clone()
                    && Some(&news) != told.as_ref()
                {
                    tell(self.name(), news);
                }
                told = news.or(told.filter(|it| matches!(it, UpstreamNews::Resolved(_))));
                due = Instant::now() + pause;
            }
            self.resolved.send_replace(true);
            for endpoint in self.endpoints.load().iter() {
                for pool in &endpoint.pools {
                    pool.sweep(unused_for);
                }
            }
            let swept = Instant::now() + between_sweeps;
            let next = if has_names { swept.min(due) } else { swept };
            time::sleep_until(next).await;
        }
    }

    /// What came of it; `None` when all is as it was.
    async fn resolve_again(&self) -> Option<UpstreamNews> {
        let targets = self.spec.targets.clone();
        let looked_up = tokio::task::spawn_blocking(move || look_up(&targets)).await;
        let found = match looked_up.map_err(io::Error::other).flatten() {
            Ok(found) => found,
            Err(error) => return Some(UpstreamNews::Unresolved(error.to_string())),
        };
        let is_name =
            |target: usize| matches!(self.spec.targets.get(target), Some(Target::Name(..)));
        let refused = found
            .iter()
            .find(|(target, at)| is_name(*target) && !self.spec.rule.permits(at.ip()));
        if let Some((_, at)) = refused {
            return Some(UpstreamNews::Refused(at.ip()));
        }
        let before: BTreeSet<SocketAddr> =
            self.endpoints.load().iter().map(|it| it.address).collect();
        let now: BTreeSet<SocketAddr> = found.iter().map(|(_, at)| *at).collect();
        if before == now {
            return None;
        }
        self.endpoints.store(Arc::new(self.endpoints_at(&found)));
        Some(UpstreamNews::Resolved(now.into_iter().collect()))
    }

    /// Endpoints at these addresses: those that are there already stay as they are.
    fn endpoints_at(&self, found: &[(usize, SocketAddr)]) -> Vec<Arc<Endpoint>> {
        let present = self.endpoints.load();
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for (target, address) in found.iter().take(MOST_ENDPOINTS) {
            if endpoints.iter().any(|it| it.address == *address) {
                continue;
            }
            let here = present.iter().find(|it| it.address == *address).cloned();
            endpoints.push(here.unwrap_or_else(|| {
                Arc::new(Endpoint::new(
                    *address,
                    *target,
                    self.workers,
                    self.spec.bounds.max_connections,
                    self.spec.bounds.slow_start,
                    !present.is_empty(),
                ))
            }));
        }
        endpoints
    }
}

/// All addresses of all targets. One name that can't be looked up fails the whole: the endpoints that it
/// had stay.
fn look_up(targets: &[Target]) -> io::Result<Vec<(usize, SocketAddr)>> {
    let mut found = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        match target {
            Target::Address(address) => found.push((index, *address)),
            Target::Name(name, port, _) => {
                let addresses = (name.as_str(), *port)
                    .to_socket_addrs()
                    .map_err(|error| io::Error::other(format!("{name}: {error}")))?;
                found.extend(addresses.map(|address| (index, address)));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_neither_to_this_host_nor_to_metadata_unless_listed() {
        let rule = EndpointRule::default();
        for own in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::7f00:1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "192.0.0.192",
            "2001::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "2002:7f00:1::",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(!rule.permits(own.parse().expect("an address")), "{own}");
        }
        for service in ["10.0.0.1", "192.168.1.1", "1.1.1.1", "fd00::1", "2606::1"] {
            assert!(
                rule.permits(service.parse().expect("an address")),
                "{service}"
            );
        }
        let listed = EndpointRule {
            allowed: vec!["127.0.0.0/8".parse().expect("a range")],
        };
        assert!(listed.permits("127.0.0.1".parse().expect("an address")));
        assert!(!listed.permits("::1".parse().expect("an address")));
    }
}
