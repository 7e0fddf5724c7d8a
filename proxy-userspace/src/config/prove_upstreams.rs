//! Upstreams as proven.

use std::{net::IpAddr, num::NonZeroUsize, time::Duration};

use gateway::{
    Balance, Ejection, EndpointRule, Protocol, ServerName, Target, UpstreamBounds, UpstreamSpec,
};
use http::{HeaderName, Uri};
use toml::Spanned;

use super::{
    mistake::Prover,
    value::{in_range, prove_duration, reject_repeated},
    written_upstream::{self as written, NamedBalance},
};
use crate::feed::parse_prefix;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn upstreams(
    prover: &mut Prover<'_>,
    written: &[written::Upstream],
) -> Vec<UpstreamSpec> {
    let names = written.iter().map(|upstream| &upstream.name);
    reject_repeated(prover, "upstream", names);
    let numbered = written.iter().enumerate();
    numbered
        .filter_map(|(index, upstream)| Proving { index, upstream }.prove(prover))
        .collect()
}

/// One of them, and where it stands.
pub(super) struct Proving<'w> {
    index: usize,
    pub(super) upstream: &'w written::Upstream,
}

impl Proving<'_> {
    pub(super) fn key(&self, name: &str) -> String {
        format!("upstream[{}].{name}", self.index)
    }

    fn prove(&self, prover: &mut Prover<'_>) -> Option<UpstreamSpec> {
        let written = self.upstream;
        let bounds = self.bounds(prover);
        let balance = self.balance(prover);
        let rule = self.rule(prover);
        let urls = self.urls(prover);
        let scheme = urls
            .as_ref()
            .and_then(|(uris, _)| uris.first()?.scheme_str());
        let encrypted = matches!(scheme, Some("https" | "tls"));
        let protocol = match written.protocol.as_ref().map(|it| *it.as_ref()) {
            _ if matches!(scheme, Some("tcp" | "tls")) => Protocol::Tcp,
            None | Some(written::Protocol::Auto) => Protocol::Negotiated,
            Some(written::Protocol::Http1) => Protocol::Http1,
            Some(written::Protocol::Http2) => Protocol::Http2,
        };
        if protocol == Protocol::Tcp {
            self.reject_http_keys(prover);
        }
        let health = self.health(prover, urls.as_ref().map(|(uris, _)| uris), protocol);
        let (_, targets) = urls?;
        let tls = if encrypted {
            Some(self.tls(prover, protocol)?)
        } else {
            self.reject_tls_keys(prover);
            None
        };
        Some(UpstreamSpec {
            name: written.name.as_ref().clone(),
            targets,
            tls,
            protocol,
            introduces: matches!(written.proxy_protocol, Some(written::ProxyProtocol::V2)),
            balance,
            rule,
            health,
            ejection: Ejection {
                failures: in_range(
                    prover,
                    &self.key("eject_after"),
                    written.eject_after.as_ref(),
                    5,
                    (0, 1_000_000),
                ),
                first: self.duration(prover, "eject_for", &written.eject_for, 10 * SECOND),
            },
            bounds,
        })
    }

    /// Keys about requests have no meaning where none are carried.
    fn reject_http_keys(&self, prover: &mut Prover<'_>) {
        let written = self.upstream;
        let texts = [
            ("response_timeout", &written.response_timeout),
            ("stream_timeout", &written.stream_timeout),
            ("total_timeout", &written.total_timeout),
            ("idle_timeout", &written.idle_timeout),
        ];
        let numbers = [
            ("max_idle", &written.max_idle),
            ("max_streams", &written.max_streams),
        ];
        let of_fields = written.balance.as_ref().filter(|it| {
            let named = matches!(it.as_ref(), written::Balance::Named(_));
            !named
        });
        let others = [
            ("protocol", written.protocol.as_ref().map(Spanned::span)),
            ("balance", of_fields.map(Spanned::span)),
        ];
        let texts = texts.map(|(name, it)| (name, it.as_ref().map(Spanned::span)));
        let numbers = numbers.map(|(name, it)| (name, it.as_ref().map(Spanned::span)));
        for (name, span) in texts.into_iter().chain(numbers).chain(others) {
            if let Some(span) = span {
                let problem = "is about requests, and tcp:// and tls:// carry none";
                let mend = "remove it, or write http:// or https:// in the URL";
                prover.reject(&self.key(name), span, problem, mend);
            }
        }
    }

    fn duration(
        &self,
        prover: &mut Prover<'_>,
        name: &str,
        written: &Option<Spanned<String>>,
        default: Duration,
    ) -> Duration {
        prove_duration(prover, &self.key(name), written.as_ref(), default)
    }

    fn bounds(&self, prover: &mut Prover<'_>) -> UpstreamBounds {
        let written = self.upstream;
        let mut number = |name: &str, written: &Option<Spanned<usize>>, default, range| {
            in_range(prover, &self.key(name), written.as_ref(), default, range)
        };
        let many = 1_000_000;
        let max_idle = number("max_idle", &written.max_idle, 64, (0, 100_000));
        let max_connections = number("max_connections", &written.max_connections, 1024, (1, many));
        let max_streams = number("max_streams", &written.max_streams, 100, (1, 10_000));
        let max_waiting = number("max_waiting", &written.max_waiting, 1024, (0, many));
        let retries = number("retries", &written.retries, 2, (0, 10));
        let max_requests = match &written.max_requests {
            None => None,
            given => NonZeroUsize::new(number("max_requests", given, many, (1, many))),
        };
        UpstreamBounds {
            connect_timeout: self.duration(
                prover,
                "connect_timeout",
                &written.connect_timeout,
                2 * SECOND,
            ),
            response_timeout: self.duration(
                prover,
                "response_timeout",
                &written.response_timeout,
                30 * SECOND,
            ),
            stream_timeout: self.duration(
                prover,
                "stream_timeout",
                &written.stream_timeout,
                300 * SECOND,
            ),
            total_timeout: written.total_timeout.as_ref().map(|given| {
                prove_duration(prover, &self.key("total_timeout"), Some(given), SECOND)
            }),
            idle_timeout: self.duration(prover, "idle_timeout", &written.idle_timeout, 60 * SECOND),
            max_idle,
            max_connections,
            max_streams,
            max_requests,
            max_waiting,
            queue_timeout: self.duration(prover, "queue_timeout", &written.queue_timeout, SECOND),
            retries,
            slow_start: match &written.slow_start {
                None => Duration::ZERO,
                given => self.duration(prover, "slow_start", given, SECOND),
            },
            resolve_interval: self.duration(
                prover,
                "resolve_interval",
                &written.resolve_interval,
                30 * SECOND,
            ),
        }
    }

    fn balance(&self, prover: &mut Prover<'_>) -> Balance {
        let Some(written) = &self.upstream.balance else {
            return Balance::default();
        };
        match written.as_ref() {
            written::Balance::Named(NamedBalance::LeastLoaded) => Balance::LeastLoaded,
            written::Balance::Named(NamedBalance::RoundRobin) => Balance::RoundRobin,
            written::Balance::Named(NamedBalance::Source) => Balance::HashSource,
            written::Balance::Cookie { cookie } => Balance::HashCookie(cookie.clone()),
            written::Balance::Header { header } => match header.parse::<HeaderName>() {
                Ok(name) => Balance::HashHeader(name),
                Err(_) => {
                    prover.reject(
                        &self.key("balance"),
                        written.span(),
                        "names no header field",
                        "write it like { header = \"x-tenant\" }",
                    );
                    Balance::default()
                }
            },
        }
    }

    fn rule(&self, prover: &mut Prover<'_>) -> EndpointRule {
        let mut allowed = Vec::new();
        if let Some(written) = &self.upstream.allow_addresses {
            for entry in written.as_ref() {
                match parse_prefix(entry) {
                    Ok(prefix) => allowed.push(prefix),
                    Err(problem) => prover.reject(
                        &self.key("allow_addresses"),
                        written.span(),
                        problem,
                        "write it like \"127.0.0.1\" or \"169.254.0.0/16\"",
                    ),
                }
            }
        }
        EndpointRule { allowed }
    }

    /// Its URLs, and what they lead to.
    fn urls(&self, prover: &mut Prover<'_>) -> Option<(Vec<Uri>, Vec<Target>)> {
        let written = self.upstream;
        let key = self.key("name");
        if written.url.is_some() == written.urls.is_some() {
            let mend = "write url = \"http://127.0.0.1:8080\", or urls = […] for several endpoints";
            let problem = "needs just one of url and urls";
            prover.reject(&key, written.name.span(), problem, mend);
            return None;
        }
        let mut uris: Vec<Uri> = Vec::new();
        let mut targets = Vec::new();
        for (name, url) in written.urls() {
            let Some((uri, target)) = parse_url(url.as_ref()) else {
                prover.reject(
                    &self.key(name),
                    url.span(),
                    "is no http, https, tcp or tls URL of a server alone",
                    "write it like \"http://127.0.0.1:8080\" (the path comes from the request), or \
                     \"tcp://127.0.0.1:6379\" with its port",
                );
                return None;
            };
            let other = uris
                .first()
                .is_some_and(|first| first.scheme() != uri.scheme());
            if other || targets.contains(&target) {
                prover.reject(
                    &self.key(name),
                    url.span(),
                    if other {
                        "has another scheme than the first"
                    } else {
                        "is there already"
                    },
                    "name different servers, all with the same scheme",
                );
                return None;
            }
            uris.push(uri);
            targets.push(target);
        }
        if targets.is_empty() {
            let problem = "names no URL in urls";
            prover.reject(&key, written.name.span(), problem, "name one at least");
            return None;
        }
        Some((uris, targets))
    }
}

fn parse_url(text: &str) -> Option<(Uri, Target)> {
    let uri = text.parse::<Uri>().ok()?;
    let default = match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        "tcp" | "tls" => None,
        _ => return None,
    };
    let alone = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority()?;
    if !alone || authority.as_str().contains('@') {
        return None;
    }
    let port = authority.port_u16().or(default)?;
    let bare = authority.host().trim_matches(['[', ']']);
    let target = match bare.parse::<IpAddr>() {
        Ok(address) => Target::Address((address, port).into()),
        Err(_) => {
            let name = ServerName::try_from(bare.to_owned()).ok()?;
            Target::Name(bare.to_owned(), port, name)
        }
    };
    Some((uri, target))
}
