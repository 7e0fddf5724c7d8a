//! What listeners carry, and routes of connections that carry no requests, as proven.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::Duration,
};

use gateway::{Alpn, Protocol, Speaks, UpstreamSpec};
use ipnet::IpNet;
use policy::{CanonicalHost, NamePattern, TcpAccess, TcpRoute, TcpRouteTable};
use toml::Spanned;

use super::{
    mistake::Prover,
    prove_acme::Automatic,
    prove_tls,
    value::{prove_duration, prove_prefix, reject_repeated},
    written::{self, Written},
    written_tcp::{self, ListenerProtocol},
};

/// How long both ends may be silent, where a route says nothing else.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// What a listener's connections carry.
pub(super) fn speaks(
    prover: &mut Prover<'_>,
    index: usize,
    listener: &written::Listener,
    automatic: &mut Automatic<'_>,
) -> Option<Speaks> {
    let protocol = listener.carries();
    if protocol != ListenerProtocol::Https {
        let problem = "is about requests, and this listener carries none";
        let mend = "remove it, or the listener's protocol";
        for (name, span) in keys_about_requests(listener) {
            prover.reject(&format!("listener[{index}].{name}"), span, problem, mend);
        }
    }
    match protocol {
        ListenerProtocol::Https => {
            prove_tls::tls(prover, index, listener, automatic, Alpn::Http).map(Speaks::Http)
        }
        ListenerProtocol::Tcp => {
            prove_tls::tls(prover, index, listener, automatic, Alpn::None).map(Speaks::Tcp)
        }
        ListenerProtocol::TlsPassthrough => {
            let problem = "could never be used: TLS goes through, and ends at the upstream";
            let mend = "remove it, or write protocol = \"tcp\" to end TLS here";
            for (name, span) in keys_about_tls(listener) {
                prover.reject(&format!("listener[{index}].{name}"), span, problem, mend);
            }
            Some(Speaks::Passthrough)
        }
    }
}

fn keys_about_requests(listener: &written::Listener) -> Vec<(&'static str, Range<usize>)> {
    let spans = [
        (
            "header_timeout",
            listener.header_timeout.as_ref().map(Spanned::span),
        ),
        (
            "max_header_bytes",
            listener.max_header_bytes.as_ref().map(Spanned::span),
        ),
        (
            "body_timeout",
            listener.body_timeout.as_ref().map(Spanned::span),
        ),
        (
            "max_streams",
            listener.max_streams.as_ref().map(Spanned::span),
        ),
        (
            "stall_timeout",
            listener.stall_timeout.as_ref().map(Spanned::span),
        ),
        (
            "trusted_hops",
            listener.trusted_hops.first().map(Spanned::span),
        ),
    ];
    let given = |(name, span): (&'static str, Option<Range<usize>>)| Some((name, span?));
    spans.into_iter().filter_map(given).collect()
}

fn keys_about_tls(listener: &written::Listener) -> Vec<(&'static str, Range<usize>)> {
    let spans = [
        (
            "certificate",
            listener.certificate.as_ref().map(Spanned::span),
        ),
        ("key", listener.key.as_ref().map(Spanned::span)),
        ("ocsp", listener.ocsp.as_ref().map(Spanned::span)),
        ("acme", listener.acme.first().map(|it| it.names.span())),
        (
            "certificates",
            listener
                .certificates
                .first()
                .map(|it| it.certificate.span()),
        ),
        (
            "client_certificates",
            listener.client_certificates.first().map(Spanned::span),
        ),
    ];
    let given = |(name, span): (&'static str, Option<Range<usize>>)| Some((name, span?));
    spans.into_iter().filter_map(given).collect()
}

/// The routes. Each listener that carries no requests needs one, and each that does needs none of these.
pub(super) fn routes(
    prover: &mut Prover<'_>,
    written: &Written,
    upstreams: &[UpstreamSpec],
) -> TcpRouteTable {
    let names = written.tcp_route.iter().map(|route| &route.name);
    reject_repeated(prover, "tcp_route", names);
    let mut proven = Vec::new();
    let mut indices = Vec::new();
    for (index, route) in written.tcp_route.iter().enumerate() {
        let proving = Proving {
            index,
            route,
            listeners: &written.listener,
        };
        if let Some(route) = proving.prove(prover, upstreams) {
            proven.push(route);
            indices.push(index);
        }
    }
    reject_unrouted(prover, written);
    TcpRouteTable::new(proven).unwrap_or_else(|conflict| {
        let (first, second) = (indices[conflict.first], indices[conflict.second]);
        let first = written.tcp_route[first].name.as_ref();
        prover.reject(
            &format!("tcp_route[{second}].host"),
            written.tcp_route[second].host.span(),
            format!("tcp_route {first:?} answers for the same listener and host already"),
            "remove one of the two, or give them different hosts or listeners",
        );
        TcpRouteTable::default()
    })
}

/// A listener that no route names would refuse everybody.
fn reject_unrouted(prover: &mut Prover<'_>, written: &Written) {
    for (index, listener) in written.listener.iter().enumerate() {
        let address = listener.address.as_ref();
        let names_it = |route: &written_tcp::TcpRoute| {
            let mut listeners = route.listeners.as_ref().iter();
            listeners.any(|it| it.as_ref() == address)
        };
        let needs_one = listener.carries() != ListenerProtocol::Https;
        if needs_one && !written.tcp_route.iter().any(names_it) {
            prover.reject(
                &format!("listener[{index}].address"),
                listener.address.span(),
                "no [[tcp_route]] names this listener: every connection would be refused",
                format!("add one with listeners = [\"{address}\"]"),
            );
        }
    }
}

/// One route, and where it stands.
struct Proving<'w> {
    index: usize,
    route: &'w written_tcp::TcpRoute,
    listeners: &'w [written::Listener],
}

impl<'w> Proving<'w> {
    fn key(&self, name: &str) -> String {
        format!("tcp_route[{}].{name}", self.index)
    }

    fn prove(&self, prover: &mut Prover<'_>, upstreams: &[UpstreamSpec]) -> Option<TcpRoute> {
        let route = self.route;
        let listeners = self.listeners(prover);
        let host = self.host(prover);
        let passes = |it: &&written::Listener| it.carries() == ListenerProtocol::TlsPassthrough;
        let is_passed = listeners.iter().any(passes);
        let upstream = self.upstream(prover, upstreams, is_passed);
        let access = self.access(prover, host.as_ref(), &listeners);
        let parsed = |it: &&written::Listener| it.address.as_ref().parse().ok();
        let at: Vec<SocketAddr> = listeners.iter().filter_map(parsed).collect();
        Some(TcpRoute {
            name: route.name.as_ref().clone(),
            listeners: at,
            host: host?,
            access: access?,
            upstream: upstream?,
            idle_timeout: prove_duration(
                prover,
                &self.key("idle_timeout"),
                route.idle_timeout.as_ref(),
                IDLE_TIMEOUT,
            ),
        })
    }

    /// Those that it names.
    fn listeners(&self, prover: &mut Prover<'_>) -> Vec<&'w written::Listener> {
        let key = self.key("listeners");
        let named = &self.route.listeners;
        if named.as_ref().is_empty() {
            let mend = "write the address of one that has protocol \"tcp\" or \"tls-passthrough\"";
            prover.reject(&key, named.span(), "names no listener", mend);
        }
        let mut found = Vec::new();
        for name in named.as_ref() {
            let has_it = |it: &&written::Listener| it.address.as_ref() == name.as_ref();
            match self.listeners.iter().find(has_it) {
                Some(listener) if listener.carries() == ListenerProtocol::Https => {
                    let problem = "this listener carries requests, which [[route]] is for";
                    let mend = "give the listener protocol = \"tcp\" or \"tls-passthrough\"";
                    prover.reject(&key, name.span(), problem, mend);
                }
                Some(listener) => found.push(listener),
                None => {
                    let all = self.listeners.iter().map(|it| it.address.as_ref().as_str());
                    let all: Vec<&str> = all.collect();
                    let mend = format!("use some of: {}", all.join(", "));
                    prover.reject(&key, name.span(), "no listener has this address", mend);
                }
            }
        }
        found
    }

    fn host(&self, prover: &mut Prover<'_>) -> Option<NamePattern> {
        let written = &self.route.host;
        let text = written.as_ref().as_str();
        let mend = "write it like \"db.example\", \"*.example\", or \"*\" for any name and none";
        if text == "*" {
            return Some(NamePattern::Any);
        }
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let host = match CanonicalHost::parse(name) {
            Ok(host) => host,
            Err(error) => {
                prover.reject(&self.key("host"), written.span(), error, mend);
                return None;
            }
        };
        let is_address = host.as_str().trim_matches(['[', ']']).parse::<IpAddr>();
        if is_address.is_ok() || name.contains(':') {
            let problem = "is no server name: addresses and ports are never asked for in TLS";
            prover.reject(&self.key("host"), written.span(), problem, mend);
            return None;
        }
        Some(if below {
            NamePattern::Below(host)
        } else {
            NamePattern::Exact(host)
        })
    }

    fn upstream(
        &self,
        prover: &mut Prover<'_>,
        upstreams: &[UpstreamSpec],
        is_passed: bool,
    ) -> Option<String> {
        let written = &self.route.upstream;
        let key = self.key("upstream");
        let find = |it: &&UpstreamSpec| it.name == *written.as_ref();
        let Some(upstream) = upstreams.iter().find(find) else {
            let names: Vec<&str> = upstreams.iter().map(|it| it.name.as_str()).collect();
            let mend = format!("use one of: {}", names.join(", "));
            prover.reject(&key, written.span(), "no upstream has that name", mend);
            return None;
        };
        if upstream.protocol != Protocol::Tcp {
            let problem = "this upstream is spoken to in HTTP";
            let mend =
                "write its URL with tcp:// (or tls://, to encrypt what TLS here has decrypted)";
            prover.reject(&key, written.span(), problem, mend);
            return None;
        }
        if is_passed && upstream.tls.is_some() {
            let problem =
                "the client's TLS goes through, and this upstream would get it in TLS again";
            prover.reject(&key, written.span(), problem, "write its URL with tcp://");
            return None;
        }
        Some(upstream.name.clone())
    }

    fn access(
        &self,
        prover: &mut Prover<'_>,
        host: Option<&NamePattern>,
        listeners: &[&written::Listener],
    ) -> Option<TcpAccess> {
        let sources = self.sources(prover);
        let Some(access) = &self.route.access else {
            let problem = "the route doesn't say who may use it";
            let mend = "add access = \"public\", or \"sources\" with sources = […], or \
                        \"client_certificate\" where TLS ends here";
            prover.reject(&self.key("name"), self.route.name.span(), problem, mend);
            return None;
        };
        let key = self.key("access");
        match (access.as_ref(), sources) {
            (written_tcp::TcpAccess::Token, _) => {
                let problem = "a connection without requests has no place for a token";
                let mend = "use \"public\", \"sources\" or \"client_certificate\"";
                prover.reject(&key, access.span(), problem, mend);
                None
            }
            (written_tcp::TcpAccess::Public, Some(_)) => {
                let problem = "is for everybody, and sources are for some";
                let mend = "write access = \"sources\", or remove sources";
                prover.reject(&key, access.span(), problem, mend);
                None
            }
            (written_tcp::TcpAccess::Public, None) => Some(TcpAccess::Public),
            (written_tcp::TcpAccess::Sources, Some(ranges)) => Some(TcpAccess::Sources(ranges)),
            (written_tcp::TcpAccess::Sources, None) => {
                let mend = "add sources = [\"192.0.2.0/24\"], or write \"public\"";
                prover.reject(&key, access.span(), "names no source", mend);
                None
            }
            (written_tcp::TcpAccess::ClientCertificate, sources) => {
                for listener in listeners {
                    if let Some((problem, mend)) = why_uncertified(listener, host?) {
                        prover.reject(&key, access.span(), problem, mend);
                        return None;
                    }
                }
                Some(TcpAccess::ClientCertificate(sources))
            }
        }
    }

    fn sources(&self, prover: &mut Prover<'_>) -> Option<Vec<IpNet>> {
        let written = self.route.sources.as_ref()?;
        let key = self.key("sources");
        if written.as_ref().is_empty() {
            let mend = "name some, or remove the route";
            prover.reject(&key, written.span(), "names nobody", mend);
        }
        let ranges = written.as_ref().iter();
        Some(
            ranges
                .filter_map(|it| prove_prefix(prover, &key, it))
                .collect(),
        )
    }
}

/// Why a listener doesn't ask each client for a certificate whose name a pattern matches, and how to mend it.
fn why_uncertified(
    listener: &written::Listener,
    pattern: &NamePattern,
) -> Option<(&'static str, &'static str)> {
    if listener.carries() == ListenerProtocol::TlsPassthrough {
        return Some((
            "TLS goes through there: what a client shows is the upstream's to judge",
            "use \"public\" or \"sources\", or end TLS here with protocol = \"tcp\"",
        ));
    }
    let hosts = |rule: &written::ClientCertificates| {
        let hosts = rule.hosts.iter().flat_map(|it| it.as_ref());
        let hosts = hosts.filter_map(|it| CanonicalHost::parse(it.as_ref()).ok());
        hosts.collect::<Vec<_>>()
    };
    let rules = || listener.client_certificates.iter().map(Spanned::as_ref);
    let mut named = rules().filter(|rule| {
        let is_meant = |host: &CanonicalHost| pattern.matches(Some(host));
        rule.hosts.is_some() && hosts(rule).iter().any(is_meant)
    });
    let required = |rule: &written::ClientCertificates| {
        matches!(rule.mode, written::ClientCertificateMode::Required)
    };
    let others = rules().find(|rule| rule.hosts.is_none());
    let others_required = others.is_some_and(required);
    let is_required = match pattern {
        NamePattern::Exact(_) => named.next().map_or(others_required, required),
        NamePattern::Any | NamePattern::Below(_) => others_required && named.all(required),
    };
    (!is_required).then_some((
        "a listener of this route doesn't require a certificate of each client that it is for",
        "add [[listener.client_certificates]] with mode = \"required\" there, for its hosts",
    ))
}
