//! `[[upstream]]` as written.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

/// `[[upstream]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    /// Name that routes use.
    pub(crate) name: Spanned<String>,
    /// `http://host:port` or `https://host:port`, without a path; `tcp://` or `tls://` for `[[tcp_route]]`.
    /// Either this or `urls`.
    pub(crate) url: Option<Spanned<String>>,
    /// Several of them, all with the same scheme.
    pub(crate) urls: Option<Spanned<Vec<Spanned<String>>>>,
    /// Version it is spoken to in.
    pub(crate) protocol: Option<Spanned<Protocol>>,
    /// Begin each connection with the PROXY protocol of this version.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// How requests are spread over its endpoints.
    pub(crate) balance: Option<Spanned<Balance>>,
    /// Ranges that its names may lead to although they are this host's, link-local or metadata.
    pub(crate) allow_addresses: Option<Spanned<Vec<String>>>,
    /// PEM file with the certificates to trust when it is https; the system's without it.
    pub(crate) ca: Option<Spanned<PathBuf>>,
    /// What its certificate must be good for; the URL's host without it.
    pub(crate) server_name: Option<Spanned<String>>,
    /// URI that its certificate must name, in place of a host.
    pub(crate) spiffe_id: Option<Spanned<String>>,
    /// PEM file with the certificate that is shown to it.
    pub(crate) certificate: Option<Spanned<PathBuf>>,
    /// PEM file with its private key.
    pub(crate) key: Option<Spanned<PathBuf>>,
    /// Longest wait for a connection.
    pub(crate) connect_timeout: Option<Spanned<String>>,
    /// Longest wait for the head of an answer.
    pub(crate) response_timeout: Option<Spanned<String>>,
    /// Longest silence in the middle of an answer.
    pub(crate) stream_timeout: Option<Spanned<String>>,
    /// Longest time from a request to the end of its answer.
    pub(crate) total_timeout: Option<Spanned<String>>,
    /// How long an unused connection is kept.
    pub(crate) idle_timeout: Option<Spanned<String>>,
    /// Most unused connections that are kept.
    pub(crate) max_idle: Option<Spanned<usize>>,
    /// Most connections to one endpoint.
    pub(crate) max_connections: Option<Spanned<usize>>,
    /// Most streams on one HTTP/2 connection.
    pub(crate) max_streams: Option<Spanned<usize>>,
    /// Most requests at a time.
    pub(crate) max_requests: Option<Spanned<usize>>,
    /// Most requests that wait.
    pub(crate) max_waiting: Option<Spanned<usize>>,
    /// How long each may.
    pub(crate) queue_timeout: Option<Spanned<String>>,
    /// How often what wasn't sent is given to another endpoint.
    pub(crate) retries: Option<Spanned<usize>>,
    /// How long an endpoint that comes gets less than its share.
    pub(crate) slow_start: Option<Spanned<String>>,
    /// How often names are resolved again.
    pub(crate) resolve_interval: Option<Spanned<String>>,
    /// Failed requests in a row after which an endpoint is set aside.
    pub(crate) eject_after: Option<Spanned<u32>>,
    /// For how long, the first time.
    pub(crate) eject_for: Option<Spanned<String>>,
    /// How endpoints are asked whether they are well.
    pub(crate) health: Option<Health>,
}

impl Upstream {
    /// Where it is, and under which key that was written.
    pub(crate) fn urls(&self) -> Vec<(&'static str, &Spanned<String>)> {
        let several = self.urls.iter().flat_map(|urls| urls.as_ref());
        let one = self.url.iter().map(|url| ("url", url));
        one.chain(several.map(|url| ("urls", url))).collect()
    }

    /// Whether its URLs are those of a service without requests.
    pub(crate) fn carries_no_requests(&self) -> bool {
        let schemes = ["tcp://", "tls://"];
        let is_one = |(_, url): &(_, &Spanned<String>)| {
            schemes
                .iter()
                .any(|scheme| url.as_ref().starts_with(scheme))
        };
        self.urls().iter().any(is_one)
    }
}

/// The version an upstream is spoken to in.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) enum Protocol {
    /// What both know best.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "http/1.1")]
    Http1,
    #[serde(rename = "h2")]
    Http2,
}

/// Versions of the PROXY protocol that are written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProxyProtocol {
    V2,
}

/// How requests are spread.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Balance {
    Named(NamedBalance),
    Header { header: String },
    Cookie { cookie: String },
}

/// Those that need nothing else.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NamedBalance {
    LeastLoaded,
    RoundRobin,
    Source,
}

/// `[upstream.health]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    /// Path, and query, that is asked for with GET. None where no requests are carried.
    pub(crate) path: Option<Spanned<String>>,
    /// `Host` of that; the URL's without it.
    pub(crate) host: Option<Spanned<String>>,
    /// How often.
    pub(crate) interval: Option<Spanned<String>>,
    /// Longest wait for the answer.
    pub(crate) timeout: Option<Spanned<String>>,
    /// Good answers in a row after which an endpoint serves again.
    pub(crate) healthy_after: Option<Spanned<u32>>,
    /// Failed ones after which it no longer does.
    pub(crate) unhealthy_after: Option<Spanned<u32>>,
    /// Statuses of a good answer, `[first, last]`.
    pub(crate) statuses: Option<Spanned<[u16; 2]>>,
}
