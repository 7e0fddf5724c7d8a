//! Connections that carry no requests: which route one is for, by the name that the client asks for in TLS,
//! and whether it may take it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

use crate::host::CanonicalHost;

/// Which server names a route answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// Every name, and none.
    Any,
    /// All that lie below this one, at any depth; not itself.
    Below(CanonicalHost),
    /// This one.
    Exact(CanonicalHost),
}

impl NamePattern {
    /// Whether it answers for a name, or for none.
    pub fn matches(&self, name: Option<&CanonicalHost>) -> bool {
        match (self, name) {
            (Self::Any, _) => true,
            (Self::Exact(own), Some(name)) => own == name,
            (Self::Below(own), Some(name)) => name
                .as_str()
                .strip_suffix(own.as_str())
                .and_then(|below| below.strip_suffix('.'))
                .is_some_and(|below| !below.is_empty()),
            (Self::Exact(_) | Self::Below(_), None) => false,
        }
    }

    /// A name before what lies below one, and a long one before a short one.
    fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (2, 0),
            Self::Below(own) => (1, own.as_str().len()),
            Self::Any => (0, 0),
        }
    }
}

/// Who may use a route. Each has to be asked for by name in the configuration: there are no tokens here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpAccess {
    /// Everybody.
    Public,
    /// Sources in these ranges.
    Sources(Vec<IpNet>),
    /// Whoever has shown a good certificate, from these ranges where there are any.
    ClientCertificate(Option<Vec<IpNet>>),
}

/// A way from a connection to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpRoute {
    /// Its name in logs, audit records and metrics.
    pub name: String,
    /// Listeners whose connections it is for, as they are configured.
    pub listeners: Vec<SocketAddr>,
    /// Server names it answers for.
    pub host: NamePattern,
    /// Who may use it.
    pub access: TcpAccess,
    /// Name of the upstream.
    pub upstream: String,
    /// How long both ends may be silent.
    pub idle_timeout: Duration,
}

/// Why a connection may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TcpDenial {
    /// No route of the listener answers for the name.
    #[error("no_route")]
    NoRoute,
    /// The route asks for a certificate, and there was none.
    #[error("client_certificate_missing")]
    Certificate,
    /// The source is in none of the route's ranges.
    #[error("source_not_accepted")]
    Source,
}

/// Two routes that answer for the same connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two routes answer for the same listener and host")]
pub struct TcpRouteConflict {
    /// Index of the earlier route.
    pub first: usize,
    /// Index of the later one.
    pub second: usize,
}

/// All routes, most specific first.
#[derive(Clone, Debug, Default)]
pub struct TcpRouteTable {
    routes: Vec<TcpRoute>,
}

/// The route that a connection is for; only [`TcpRouteTable::find`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct TcpMatch<'a>(&'a TcpRoute);

/// Leave to carry one connection along one route. It can't be made anywhere but here.
#[derive(Clone, Copy, Debug)]
pub struct TcpPermit<'a>(&'a TcpRoute);

impl<'a> TcpPermit<'a> {
    /// The route it may take.
    pub fn route(&self) -> &'a TcpRoute {
        self.0
    }
}

impl TcpRouteTable {
    /// A table of these routes.
    ///
    /// # Errors
    /// [`TcpRouteConflict`] when two routes have the same host and share a listener.
    pub fn new(mut routes: Vec<TcpRoute>) -> Result<Self, TcpRouteConflict> {
        for (second, later) in routes.iter().enumerate() {
            let shares = |it: &TcpRoute| it.listeners.iter().any(|at| later.listeners.contains(at));
            let twin = |earlier: &TcpRoute| earlier.host == later.host && shares(earlier);
            if let Some(first) = routes[..second].iter().position(twin) {
                return Err(TcpRouteConflict { first, second });
            }
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.host.specificity()));
        Ok(Self { routes })
    }

    /// The most specific route of a listener for a name.
    ///
    /// # Errors
    /// [`TcpDenial::NoRoute`].
    pub fn find(
        &self,
        listener: SocketAddr,
        name: Option<&CanonicalHost>,
    ) -> Result<TcpMatch<'_>, TcpDenial> {
        let answers =
            |route: &&TcpRoute| route.listeners.contains(&listener) && route.host.matches(name);
        let found = self.routes.iter().find(answers);
        found.map(TcpMatch).ok_or(TcpDenial::NoRoute)
    }

    /// The routes, most specific first.
    pub fn routes(&self) -> &[TcpRoute] {
        &self.routes
    }
}

impl<'a> TcpMatch<'a> {
    /// The route.
    pub fn route(&self) -> &'a TcpRoute {
        self.0
    }

    /// Decides whether a source may take it, which has shown a good certificate or has not. One that may not
    /// is denied: it doesn't fall through to a wider route.
    ///
    /// # Errors
    /// See [`TcpDenial`].
    pub fn authorise(self, source: IpAddr, certified: bool) -> Result<TcpPermit<'a>, TcpDenial> {
        let source = source.to_canonical();
        let within = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&source));
        let accepted = match &self.0.access {
            TcpAccess::Public | TcpAccess::ClientCertificate(None) => true,
            TcpAccess::Sources(ranges) | TcpAccess::ClientCertificate(Some(ranges)) => {
                within(ranges)
            }
        };
        if !accepted {
            return Err(TcpDenial::Source);
        }
        if matches!(self.0.access, TcpAccess::ClientCertificate(_)) && !certified {
            return Err(TcpDenial::Certificate);
        }
        Ok(TcpPermit(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1:443";

    fn host(name: &str) -> CanonicalHost {
        CanonicalHost::parse(name).expect("a host")
    }

    fn route(pattern: &str, access: TcpAccess) -> TcpRoute {
        TcpRoute {
            name: pattern.to_owned(),
            listeners: vec![HERE.parse().expect("an address")],
            host: match (pattern, pattern.strip_prefix("*.")) {
                ("*", _) => NamePattern::Any,
                (_, Some(below)) => NamePattern::Below(host(below)),
                (exact, None) => NamePattern::Exact(host(exact)),
            },
            access,
            upstream: "app".to_owned(),
            idle_timeout: Duration::from_secs(1),
        }
    }

    fn found(table: &TcpRouteTable, at: &str, name: Option<&str>) -> Result<String, TcpDenial> {
        let name = name.map(host);
        let at = at.parse().expect("an address");
        let found = table.find(at, name.as_ref())?;
        Ok(found.route().name.clone())
    }

    #[test]
    fn the_most_specific_name_wins_whatever_the_order() {
        let mut routes: Vec<_> = ["*", "*.example", "*.a.example", "a.example"]
            .map(|pattern| route(pattern, TcpAccess::Public))
            .into();
        for _ in 0..2 {
            routes.reverse();
            let table = TcpRouteTable::new(routes.clone()).expect("no conflict");
            for (name, expected) in [
                (Some("a.example"), "a.example"),
                (Some("b.a.example"), "*.a.example"),
                (Some("c.b.a.example"), "*.a.example"),
                (Some("aa.example"), "*.example"),
                (Some("example"), "*"),
                (Some("badexample"), "*"),
                (None, "*"),
            ] {
                let route = found(&table, HERE, name);
                assert_eq!(route.as_deref(), Ok(expected), "{name:?}");
            }
        }
    }

    #[test]
    fn denies_what_no_route_of_the_listener_names() {
        let routes = vec![
            route("a.example", TcpAccess::Public),
            route("*.b.example", TcpAccess::Public),
        ];
        let table = TcpRouteTable::new(routes).expect("no conflict");
        for name in [Some("b.example"), Some("c.example"), None] {
            assert_eq!(found(&table, HERE, name), Err(TcpDenial::NoRoute));
        }
        let elsewhere = found(&table, "192.0.2.1:444", Some("a.example"));
        assert_eq!(elsewhere, Err(TcpDenial::NoRoute));
    }

    #[test]
    fn a_name_may_be_routed_on_each_listener_but_not_doubled() {
        let first = route("a.example", TcpAccess::Public);
        let mut second = first.clone();
        second.listeners = vec!["192.0.2.1:444".parse().expect("an address")];
        TcpRouteTable::new(vec![first.clone(), second.clone()]).expect("no conflict");
        second.listeners.extend(&first.listeners);
        let conflict = TcpRouteTable::new(vec![first, second]).expect_err("a duplicate");
        assert_eq!((conflict.first, conflict.second), (0, 1));
    }

    #[test]
    fn each_access_lets_in_whom_it_names_and_nobody_else() {
        let ranges: Vec<IpNet> = vec!["192.0.2.0/24".parse().expect("a range")];
        let may = |access: TcpAccess, source: &str, certified| {
            let table = TcpRouteTable::new(vec![route("*", access)]).expect("no conflict");
            let here = HERE.parse().expect("an address");
            let source = source.parse().expect("an address");
            let found = table.find(here, None).expect("a route");
            found.authorise(source, certified).map(|_| ())
        };
        let (inside, mapped, outside) = ("192.0.2.7", "::ffff:192.0.2.7", "198.51.100.7");
        assert_eq!(may(TcpAccess::Public, outside, false), Ok(()));
        let sources = || TcpAccess::Sources(ranges.clone());
        assert_eq!(may(sources(), inside, false), Ok(()));
        assert_eq!(may(sources(), mapped, false), Ok(()));
        assert_eq!(may(sources(), outside, true), Err(TcpDenial::Source));
        let nobody = TcpAccess::Sources(Vec::new());
        assert_eq!(may(nobody, inside, true), Err(TcpDenial::Source));
        let shown = || TcpAccess::ClientCertificate(None);
        assert_eq!(may(shown(), outside, true), Ok(()));
        assert_eq!(may(shown(), outside, false), Err(TcpDenial::Certificate));
        let both = || TcpAccess::ClientCertificate(Some(ranges.clone()));
        assert_eq!(may(both(), inside, true), Ok(()));
        assert_eq!(may(both(), inside, false), Err(TcpDenial::Certificate));
        assert_eq!(may(both(), outside, true), Err(TcpDenial::Source));
    }
}
