//! Which route a request is for. Without one it is denied.

use http::Method;

use crate::{
    access::Access,
    host::CanonicalHost,
    path::PathFault,
    pattern::{HostPattern, PathPattern},
    reading::Relaxations,
    request::CanonicalRequest,
};

/// A way from a request to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name in logs, audit records and policy.
    pub name: String,
    /// Hosts it answers for.
    pub host: HostPattern,
    /// Paths it answers for.
    pub path: PathPattern,
    /// Methods it answers for.
    pub methods: Vec<Method>,
    /// Who may use it.
    pub access: Access,
    /// Name of the upstream.
    pub upstream: String,
    /// Rules of strict reading that don't hold for its paths.
    pub relaxed: Relaxations,
    /// Whether a request may become a WebSocket.
    pub websocket: bool,
    /// Most bytes of a request's body.
    pub max_body_bytes: u64,
}

impl Route {
    fn has_pattern_of(&self, other: &Self) -> bool {
        self.host == other.host && self.path == other.path
    }
}

/// Why no route was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No route has this host and path.
    #[error("no_route")]
    Unknown,
    /// Routes have this host and path, but none of them the method.
    #[error("method_not_routed")]
    Method,
    /// The path needs a rule relaxed that the route doesn't relax, or no route has it.
    #[error(transparent)]
    Path(PathFault),
}

/// Two routes that answer for the same requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("routes {first:?} and {second:?} answer for the same host, path and method")]
pub struct RouteConflict {
    /// Index of the earlier route.
    pub first: usize,
    /// Index of the later one.
    pub second: usize,
}

/// All routes, most specific first.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
}

/// A request and the route it is for; only [`RouteTable::find`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'a> {
    pub(crate) request: &'a CanonicalRequest,
    pub(crate) route: &'a Route,
}

impl<'a> RouteMatch<'a> {
    /// The route.
    pub fn route(&self) -> &'a Route {
        self.route
    }
}

impl RouteTable {
    /// A table of these routes.
    ///
    /// # Errors
    /// [`RouteConflict`] when two routes have the same host and path and share a method.
    pub fn new(mut routes: Vec<Route>) -> Result<Self, RouteConflict> {
        for (second, later) in routes.iter().enumerate() {
            let twin = |earlier: &Route| {
                earlier.host == later.host
                    && earlier.path == later.path
                    && earlier
                        .methods
                        .iter()
                        .any(|method| later.methods.contains(method))
            };
            if let Some(first) = routes[..second].iter().position(twin) {
                return Err(RouteConflict { first, second });
            }
        }
        routes.sort_by_key(|route| {
            let host_named = matches!(route.host, HostPattern::Exact(_));
            std::cmp::Reverse((host_named, route.path.specificity()))
        });
        Ok(Self { routes })
    }

    /// The most specific route for a request.
    ///
    /// The method is looked at last: a request whose most specific host and path has no route
    /// for its method is denied, and doesn't fall through to a wider route.
    ///
    /// Whoever stands behind a route that relaxes a rule may read the path otherwise. Each such reading
    /// has to lead to the same pattern, or else one route's decision would let in what belongs to another.
    ///
    /// # Errors
    /// See [`NoRoute`].
    pub fn find<'a>(&'a self, request: &'a CanonicalRequest) -> Result<RouteMatch<'a>, NoRoute> {
        let path = request.path();
        let best = self.best(request.host(), path.as_str());
        // Of routes that share a pattern, the one for the method says what it relaxes.
        let found = best.and_then(|best| {
            let mut same = self
                .routes
                .iter()
                .filter(|other| best.has_pattern_of(other));
            same.find(|route| route.methods.contains(request.method()))
        });
        let relaxed = found.map(|route| route.relaxed).unwrap_or_default();
        if let Some(needed) = path.needs().first_beyond(relaxed) {
            return Err(NoRoute::Path(needed.fault()));
        }
        let best = best.ok_or(NoRoute::Unknown)?;
        for reading in path.other_readings() {
            if !self
                .best(request.host(), &reading)
                .is_some_and(|other| best.has_pattern_of(other))
            {
                return Err(NoRoute::Path(PathFault::Ambiguous));
            }
        }
        found
            .map(|route| RouteMatch { request, route })
            .ok_or(NoRoute::Method)
    }

    fn best(&self, host: &CanonicalHost, path: &str) -> Option<&Route> {
        let answers = |route: &&Route| {
            let host = match &route.host {
                HostPattern::Any => true,
                HostPattern::Exact(own) => own == host,
            };
            host && route.path.matches(path)
        };
        self.routes.iter().find(answers)
    }

    /// The route of this name.
    pub fn named(&self, name: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.name == name)
    }

    /// The routes, most specific first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{path::RequestPath, reading::Relaxation};

    fn path(text: &str) -> RequestPath {
        RequestPath::parse(text).expect("a path")
    }

    fn route(name: &str, host: &str, pattern: PathPattern, methods: &[Method]) -> Route {
        Route {
            name: name.to_owned(),
            host: match host {
                "*" => HostPattern::Any,
                host => HostPattern::Exact(CanonicalHost::parse(host).expect("a host")),
            },
            path: pattern,
            methods: methods.to_vec(),
            access: Access::Public,
            upstream: "app".to_owned(),
            relaxed: Relaxations::default(),
            websocket: false,
            max_body_bytes: 0,
        }
    }

    fn found(table: &RouteTable, method: Method, target: &str) -> Result<String, NoRoute> {
        let (parts, ()) = http::Request::builder()
            .method(method)
            .uri(target)
            .header("host", "a.example")
            .body(())
            .expect("a legal message")
            .into_parts();
        let request = CanonicalRequest::from_parts(&parts).expect("one reading");
        table.find(&request).map(|found| found.route().name.clone())
    }

    #[test]
    fn denies_what_no_route_names() {
        let prefix = PathPattern::Prefix(path("/api"));
        let table = RouteTable::new(vec![route("api", "a.example", prefix, &[Method::GET])])
            .expect("no conflict");
        assert_eq!(found(&table, Method::GET, "/api/x").as_deref(), Ok("api"));
        assert_eq!(found(&table, Method::GET, "/api").as_deref(), Ok("api"));
        assert_eq!(found(&table, Method::GET, "/apix"), Err(NoRoute::Unknown));
        assert_eq!(found(&table, Method::GET, "/API/x"), Err(NoRoute::Unknown));
        assert_eq!(found(&table, Method::POST, "/api/x"), Err(NoRoute::Method));
    }

    #[test]
    fn the_most_specific_route_wins_whatever_the_order() {
        let routes = [
            route("any", "*", PathPattern::Prefix(path("/")), &[Method::GET]),
            route(
                "host",
                "a.example",
                PathPattern::Prefix(path("/")),
                &[Method::GET],
            ),
            route(
                "api",
                "a.example",
                PathPattern::Prefix(path("/api/")),
                &[Method::GET],
            ),
            route(
                "exact",
                "a.example",
                PathPattern::Exact(path("/api/me")),
                &[Method::GET],
            ),
        ];
        let mut reversed = routes.to_vec();
        reversed.reverse();
        for order in [routes.to_vec(), reversed] {
            let table = RouteTable::new(order).expect("no conflict");
            assert_eq!(found(&table, Method::GET, "/x").as_deref(), Ok("host"));
            assert_eq!(found(&table, Method::GET, "/api/x").as_deref(), Ok("api"));
            assert_eq!(
                found(&table, Method::GET, "/api/me").as_deref(),
                Ok("exact")
            );
        }
    }

    #[test]
    fn prefixes_that_differ_in_a_trailing_slash_are_a_conflict() {
        let routes = ["/api", "/api/"]
            .map(|text| route(text, "*", PathPattern::prefix(path(text)), &[Method::GET]));
        RouteTable::new(routes.to_vec()).expect_err("a duplicate");
    }

    #[test]
    fn a_route_lets_in_what_it_relaxes_and_nothing_else() {
        let mut store = route(
            "store",
            "*",
            PathPattern::Prefix(path("/store")),
            &[Method::GET],
        );
        store.relaxed = [Relaxation::EncodedSlash].into_iter().collect();
        let rest = route("rest", "*", PathPattern::Prefix(path("/")), &[Method::GET]);
        let table = RouteTable::new(vec![store, rest]).expect("no conflict");
        let get = |target: &str| found(&table, Method::GET, target);
        assert_eq!(get("/store/a%2fb").as_deref(), Ok("store"));
        let refused = |fault| Err(NoRoute::Path(fault));
        assert_eq!(get("/store/a//b"), refused(PathFault::EmptySegment));
        assert_eq!(get("/other/a%2fb"), refused(PathFault::EncodedSlash));
        // To the proxy a name below `/`, to others the store.
        assert_eq!(get("/store%2fb"), refused(PathFault::EncodedSlash));
    }

    #[test]
    fn a_route_is_not_relaxed_by_one_that_has_its_path_for_other_methods() {
        let prefix = || PathPattern::Prefix(path("/store"));
        let mut read = route("read", "*", prefix(), &[Method::GET]);
        read.relaxed = [Relaxation::EncodedSlash].into_iter().collect();
        let write = route("write", "*", prefix(), &[Method::DELETE]);
        for routes in [[read.clone(), write.clone()], [write, read]] {
            let table = RouteTable::new(routes.to_vec()).expect("no conflict");
            let target = "/store/a%2Fb";
            assert_eq!(found(&table, Method::GET, target).as_deref(), Ok("read"));
            let refused = Err(NoRoute::Path(PathFault::EncodedSlash));
            assert_eq!(found(&table, Method::DELETE, target), refused);
            assert_eq!(found(&table, Method::PUT, target), refused);
        }
    }

    #[test]
    fn a_reading_that_leads_to_another_route_is_refused() {
        let everything: Relaxations = Relaxation::ALL.into_iter().collect();
        let mut open = route("open", "*", PathPattern::Prefix(path("/")), &[Method::GET]);
        open.relaxed = everything;
        let mut admin = route(
            "admin",
            "*",
            PathPattern::Prefix(path("/admin")),
            &[Method::GET],
        );
        admin.relaxed = everything;
        let exact = route(
            "me",
            "*",
            PathPattern::Exact(path("/admin/me")),
            &[Method::GET],
        );
        let table = RouteTable::new(vec![open, admin, exact]).expect("no conflict");
        for target in [
            "/admin;x",
            "/admin%3bx/y",
            "/%2561dmin",
            "/%252561dmin/x",
            "/admin//me",
            "/admin/me;x",
            "/admin%2fme",
            "/admin%253bx",
        ] {
            let refused = found(&table, Method::GET, target).expect_err(target);
            assert!(matches!(refused, NoRoute::Path(_)), "{target}: {refused}");
        }
        for target in ["/a//b", "/a%2fb", "/a;x=1", "/a%5cb", "/100%2525"] {
            let route = found(&table, Method::GET, target);
            assert_eq!(route.as_deref(), Ok("open"), "{target}");
        }
        assert_eq!(
            found(&table, Method::GET, "/admin/a//b").as_deref(),
            Ok("admin")
        );
    }

    #[test]
    fn a_method_that_the_narrow_route_lacks_does_not_fall_through_to_the_wide_one() {
        let table = RouteTable::new(vec![
            route(
                "wide",
                "*",
                PathPattern::Prefix(path("/")),
                &[Method::DELETE],
            ),
            route(
                "narrow",
                "*",
                PathPattern::Prefix(path("/api")),
                &[Method::GET],
            ),
        ])
        .expect("no conflict");
        assert_eq!(
            found(&table, Method::DELETE, "/api/x"),
            Err(NoRoute::Method)
        );
    }

    #[test]
    fn one_pattern_may_be_split_by_method_but_not_doubled() {
        let prefix = || PathPattern::Prefix(path("/api"));
        let read = route("read", "*", prefix(), &[Method::GET, Method::HEAD]);
        let write = route("write", "*", prefix(), &[Method::POST]);
        let table = RouteTable::new(vec![read.clone(), write]).expect("no conflict");
        assert_eq!(found(&table, Method::POST, "/api").as_deref(), Ok("write"));
        let again = route("again", "*", prefix(), &[Method::HEAD]);
        let conflict = RouteTable::new(vec![read, again]).expect_err("a duplicate");
        assert_eq!((conflict.first, conflict.second), (0, 1));
    }
}
