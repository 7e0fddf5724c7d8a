//! Routes as proven.

use http::Method;
use policy::{
    CanonicalHost, HostPattern, PathPattern, Relaxation, Relaxations, RequestPath, Route,
    RouteTable,
};
use toml::Spanned;

use super::{
    mistake::Prover,
    prove_access::{self, Vouching},
    value::{in_range, reject_repeated},
    written,
    written_tcp::ListenerProtocol,
    written_upstream,
};

/// Largest body of a request, where a route says nothing else.
const LARGEST_BODY: u64 = 64 * 1024 * 1024;

pub(super) fn routes(prover: &mut Prover<'_>, whole: &written::Written) -> RouteTable {
    let (written, listeners) = (&whole.route, &whole.listener);
    let has_requests = listeners
        .iter()
        .any(|it| it.carries() == ListenerProtocol::Https);
    match written.first() {
        None if has_requests => {
            prover.missing("[[route]]", "without one every request is refused; add one");
        }
        Some(first) if !has_requests && !listeners.is_empty() => {
            let problem = "no listener carries requests";
            let mend = "write a [[tcp_route]] for what goes over TCP, or give a listener protocol = \"https\"";
            prover.reject("route[0].name", first.name.span(), problem, mend);
        }
        None | Some(_) => {}
    }
    reject_repeated(prover, "route", written.iter().map(|route| &route.name));
    let vouching = Vouching::of(whole);
    let mut proven = Vec::new();
    let mut indices = Vec::new();
    for (index, route) in written.iter().enumerate() {
        if let Some(route) = prove_route(prover, index, route, &whole.upstream, &vouching) {
            proven.push(route);
            indices.push(index);
        }
    }
    RouteTable::new(proven).unwrap_or_else(|conflict| {
        let (first, second) = (indices[conflict.first], indices[conflict.second]);
        prover.reject(
            &format!("route[{second}].path"),
            written[second].path.span(),
            format!(
                "route {:?} answers for the same host, path and method already",
                written[first].name.as_ref()
            ),
            "remove one of the two, or give them different methods",
        );
        RouteTable::default()
    })
}

fn prove_route(
    prover: &mut Prover<'_>,
    index: usize,
    written: &written::Route,
    upstreams: &[written_upstream::Upstream],
    vouching: &Vouching<'_>,
) -> Option<Route> {
    let key = |name: &str| format!("route[{index}].{name}");
    let upstream = prove_route_upstream(prover, &key("upstream"), written, upstreams);
    let access = prove_access::access(prover, index, written, vouching);
    let host = match written.host.as_ref().as_str() {
        "*" => Some(HostPattern::Any),
        host => CanonicalHost::parse(host)
            .map_err(|error| {
                let mend = "write it like \"api.example\", or \"*\" for any";
                prover.reject(&key("host"), written.host.span(), error, mend);
            })
            .ok()
            .map(HostPattern::Exact),
    };
    let path = RequestPath::parse(written.path.as_ref())
        .map_err(|error| {
            let mend =
                "write it like \"/api\": absolute, without dot segments, query or encoded slashes";
            prover.reject(&key("path"), written.path.span(), error, mend);
        })
        .ok();
    let methods = prove_methods(prover, &key("methods"), &written.methods);
    Some(Route {
        name: written.name.as_ref().clone(),
        host: host?,
        path: match written.path_match.unwrap_or_default() {
            written::PathMatch::Prefix => PathPattern::prefix(path?),
            written::PathMatch::Exact => PathPattern::Exact(path?),
        },
        methods,
        access,
        upstream: upstream?,
        relaxed: relaxed(written),
        websocket: written.websocket,
        max_body_bytes: in_range(
            prover,
            &key("max_body_bytes"),
            written.max_body_bytes.as_ref(),
            LARGEST_BODY,
            (0, u64::MAX),
        ),
    })
}

fn relaxed(written: &written::Route) -> Relaxations {
    let allowed = |one: &Relaxation| match one {
        Relaxation::EncodedSlash => written.allow_encoded_slash,
        Relaxation::EncodedBackslash => written.allow_encoded_backslash,
        Relaxation::PathParameters => written.allow_path_parameters,
        Relaxation::EmptySegments => written.allow_empty_segments,
        Relaxation::DoubleEncoding => written.allow_double_encoding,
    };
    Relaxation::ALL.into_iter().filter(allowed).collect()
}

fn prove_route_upstream(
    prover: &mut Prover<'_>,
    key: &str,
    written: &written::Route,
    upstreams: &[written_upstream::Upstream],
) -> Option<String> {
    let names: Vec<&str> = upstreams
        .iter()
        .map(|upstream| upstream.name.as_ref().as_str())
        .collect();
    let known = format!("use one of: {}", names.join(", "));
    let Some(upstream) = &written.upstream else {
        let problem = "the route has no upstream";
        let mend = format!("add upstream = \"…\" to it; {known}");
        prover.reject(
            &key.replace("upstream", "name"),
            written.name.span(),
            problem,
            mend,
        );
        return None;
    };
    if !names.contains(&upstream.as_ref().as_str()) {
        prover.reject(key, upstream.span(), "no upstream has that name", known);
        return None;
    }
    let mut named = upstreams.iter().filter(|it| it.name == *upstream);
    if named.any(written_upstream::Upstream::carries_no_requests) {
        let problem = "this upstream carries no requests";
        let mend = "write its URL with http:// or https://, or use [[tcp_route]]";
        prover.reject(key, upstream.span(), problem, mend);
        return None;
    }
    Some(upstream.as_ref().clone())
}

fn prove_methods(
    prover: &mut Prover<'_>,
    key: &str,
    written: &Spanned<Vec<String>>,
) -> Vec<Method> {
    let mut proven = Vec::new();
    for name in written.as_ref() {
        let method = Method::from_bytes(name.as_bytes()).ok().filter(|method| {
            let upper_case = !name.bytes().any(|byte| byte.is_ascii_lowercase());
            upper_case && *method != Method::CONNECT && *method != Method::TRACE
        });
        match method {
            Some(method) => proven.push(method),
            None => prover.reject(
                key,
                written.span(),
                format!("{name:?} is no method that is routed"),
                "use methods such as GET, in upper case; CONNECT and TRACE are never routed",
            ),
        }
    }
    if written.as_ref().is_empty() {
        prover.reject(
            key,
            written.span(),
            "names no method",
            "name those the route answers for, such as [\"GET\", \"HEAD\"]",
        );
    }
    proven
}
