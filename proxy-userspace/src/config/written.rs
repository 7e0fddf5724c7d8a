//! The configuration as written: its shape in TOML, every key documented, unknown keys refused.
//!
//! docs/configuration.md is the operator's account of the same keys.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{
    written_acme::{Acme, Automatic},
    written_api_keys::ApiKeys,
    written_holder::{CertificateSubject, Dpop, Holder, SingleUse},
    written_issuer::Issuer,
    written_login::Login,
    written_tcp::{ListenerProtocol, TcpRoute},
    written_upstream::Upstream,
};
use crate::source::Definition;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// Where to listen. At least one.
    #[serde(default)]
    pub(crate) listener: Vec<Listener>,
    /// Who issues certificates by itself.
    pub(crate) acme: Option<Acme>,
    /// Who may issue tokens.
    #[serde(default)]
    pub(crate) issuer: Vec<Issuer>,
    /// Keys that were made for somebody.
    #[serde(default)]
    pub(crate) api_keys: Vec<ApiKeys>,
    /// How browsers log in.
    #[serde(default)]
    pub(crate) login: Vec<Login>,
    /// Proofs that tokens are in the right hands.
    #[serde(default)]
    pub(crate) dpop: Dpop,
    /// Tokens that are good once.
    #[serde(default)]
    pub(crate) single_use: SingleUse,
    /// Where requests go.
    #[serde(default)]
    pub(crate) upstream: Vec<Upstream>,
    /// Which requests go there.
    #[serde(default)]
    pub(crate) route: Vec<Route>,
    /// Which connections without requests go there.
    #[serde(default)]
    pub(crate) tcp_route: Vec<TcpRoute>,
    /// Traces that begin here.
    #[serde(default)]
    pub(crate) traces: Traces,
    /// The kernel side; without it the proxy works alone and says so.
    pub(crate) kernel: Option<Kernel>,
    /// Entries that are always there.
    #[serde(default)]
    pub(crate) lists: Lists,
    /// Lists with a source.
    #[serde(default)]
    pub(crate) feed: Vec<Spanned<Definition>>,
    /// The socket for `portcullis block`, `status` and the like.
    #[serde(default)]
    pub(crate) admin: Admin,
    /// The audit trail.
    #[serde(default)]
    pub(crate) audit: Audit,
    /// What must survive a restart.
    #[serde(default)]
    pub(crate) state: State,
    /// Stopping.
    #[serde(default)]
    pub(crate) shutdown: Shutdown,
    #[serde(default)]
    pub(crate) upgrade: Upgrade,
    /// Threads.
    #[serde(default)]
    pub(crate) runtime: Runtime,
    /// A listener that sends everybody to https.
    pub(crate) redirect: Option<Redirect>,
    /// A listener for those who watch.
    pub(crate) observe: Option<Observe>,
}

/// `[[listener]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// Address and port, such as `"0.0.0.0:443"` or `"[::]:443"`.
    pub(crate) address: Spanned<String>,
    /// `"https"` (default), `"tcp"` or `"tls-passthrough"`.
    protocol: Option<ListenerProtocol>,
    /// PEM file with the certificate and its chain. Not needed where `acme` has any.
    pub(crate) certificate: Option<Spanned<PathBuf>>,
    /// PEM file with the certificate's private key.
    pub(crate) key: Option<Spanned<PathBuf>>,
    /// DER file with the OCSP response that is stapled to the certificate.
    pub(crate) ocsp: Option<Spanned<PathBuf>>,
    /// Certificates that an authority issues by itself.
    #[serde(default)]
    pub(crate) acme: Vec<Automatic>,
    /// Certificates for other names, each with its key.
    #[serde(default)]
    pub(crate) certificates: Vec<Certificate>,
    /// What is asked of clients.
    #[serde(default)]
    pub(crate) client_certificates: Vec<Spanned<ClientCertificates>>,
    /// Most connections at a time.
    pub(crate) max_connections: Option<Spanned<usize>>,
    /// Most connections of one source at a time.
    pub(crate) max_connections_per_source: Option<Spanned<usize>>,
    /// Longest TLS handshake.
    pub(crate) handshake_timeout: Option<Spanned<String>>,
    /// Longest wait for a whole request head.
    pub(crate) header_timeout: Option<Spanned<String>>,
    /// Most bytes of a request head.
    pub(crate) max_header_bytes: Option<Spanned<usize>>,
    /// Longest wait for the next part of a body, in either direction.
    pub(crate) body_timeout: Option<Spanned<String>>,
    /// Most streams of one HTTP/2 connection.
    pub(crate) max_streams: Option<Spanned<u32>>,
    /// Ranges of load balancers that begin each connection with the PROXY protocol.
    #[serde(default)]
    pub(crate) proxy_protocol: Vec<Spanned<String>>,
    /// Ranges of proxies that are believed about where a request comes from.
    #[serde(default)]
    pub(crate) trusted_hops: Vec<Spanned<String>>,
    /// Longest time for which an HTTP/2 client may take next to nothing of an answer.
    pub(crate) stall_timeout: Option<Spanned<String>>,
    /// Whether HTTP/3 is served on the UDP port of the same number.
    pub(crate) http3: Option<Spanned<bool>>,
}

impl Listener {
    /// What its connections carry.
    pub(crate) fn carries(&self) -> ListenerProtocol {
        self.protocol.unwrap_or_default()
    }
}

/// `[[listener.certificates]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// PEM file with the certificate and its chain.
    pub(crate) certificate: Spanned<PathBuf>,
    /// PEM file with the certificate's private key.
    pub(crate) key: Spanned<PathBuf>,
    /// DER file with the OCSP response that is stapled to it.
    pub(crate) ocsp: Option<Spanned<PathBuf>>,
}

/// `[[listener.client_certificates]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientCertificates {
    /// `"required"` or `"optional"`.
    pub(crate) mode: ClientCertificateMode,
    /// PEM file with the certificates that theirs have to be issued by.
    pub(crate) ca: Spanned<PathBuf>,
    /// PEM files with revocation lists.
    #[serde(default)]
    pub(crate) crls: Vec<Spanned<PathBuf>>,
    /// Hosts that it is about; all others without it.
    pub(crate) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// Name by which routes accept those who show one; nobody is anybody by one without it.
    pub(crate) issuer: Option<Spanned<String>>,
    /// What of it is the subject: `"spiffe"`, `"dns"`, `"email"` or `"dn"`.
    pub(crate) subject: Option<Spanned<CertificateSubject>>,
}

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientCertificateMode {
    Required,
    Optional,
}

/// `[[route]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// Name in logs and audit records.
    pub(crate) name: Spanned<String>,
    /// Host, or `"*"` for any.
    pub(crate) host: Spanned<String>,
    /// Path.
    pub(crate) path: Spanned<String>,
    /// `"prefix"` (default: the path and what lies below it) or `"exact"`.
    #[serde(rename = "match")]
    pub(crate) path_match: Option<PathMatch>,
    /// Methods, such as `["GET", "HEAD"]`.
    pub(crate) methods: Spanned<Vec<String>>,
    /// Name of the upstream.
    pub(crate) upstream: Option<Spanned<String>>,
    /// `"token"` (default), `"client_certificate"`, `"api_key"`, a list of some, or `"public"`.
    pub(crate) access: Option<Spanned<toml::Value>>,
    /// Names of the issuers whose tokens, certificates or API keys are accepted.
    pub(crate) issuers: Option<Spanned<Vec<String>>>,
    /// Scopes a token must carry, all of them.
    pub(crate) scopes: Option<Spanned<Vec<String>>>,
    /// What a token has to be bound to: `"optional"` (default), `"dpop"`, `"certificate"` or `"any"` of both.
    pub(crate) holder: Option<Spanned<Holder>>,
    /// Whether a token is good for one request only.
    pub(crate) single_use: Option<Spanned<bool>>,
    /// Name of the login that browsers are sent to.
    pub(crate) login: Option<Spanned<String>>,
    /// Most bytes of a request's body.
    pub(crate) max_body_bytes: Option<Spanned<u64>>,
    /// Let requests become WebSockets.
    #[serde(default)]
    pub(crate) websocket: bool,
    /// Let `%2F` in.
    #[serde(default)]
    pub(crate) allow_encoded_slash: bool,
    /// Let `%5C` in.
    #[serde(default)]
    pub(crate) allow_encoded_backslash: bool,
    /// Let `;` in, plain and encoded.
    #[serde(default)]
    pub(crate) allow_path_parameters: bool,
    /// Let `//` in.
    #[serde(default)]
    pub(crate) allow_empty_segments: bool,
    /// Let in what decodes twice.
    #[serde(default)]
    pub(crate) allow_double_encoding: bool,
}

/// How a route's path is meant.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PathMatch {
    #[default]
    Prefix,
    Exact,
}

/// `[traces]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Traces {
    /// Ask everybody behind the proxy to record those that begin here.
    #[serde(default)]
    pub(crate) sampled: bool,
}

/// `[kernel]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kernel {
    /// Interfaces to guard.
    pub(crate) interfaces: Spanned<Vec<Spanned<String>>>,
    /// Where a BPF filesystem is mounted.
    pub(crate) bpffs: Option<PathBuf>,
    /// Name of the folder in it; two Portcullis on one host need two.
    pub(crate) pin_name: Option<Spanned<String>>,
    /// Whether to refuse to start when the kernel side can't.
    pub(crate) required: Option<bool>,
    /// `"all"` (default) or `"new-inbound-only"`.
    pub(crate) scope: Option<Scope>,
    /// What sources and aggregates of sources may send.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// How long the daemon may be gone before everything passes; for ever without it.
    pub(crate) fail_open_after: Option<Spanned<String>>,
    /// Drop samples a second and CPU.
    pub(crate) sample_rate: Option<Spanned<u64>>,
}

/// Which packets the lists judge.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scope {
    #[default]
    All,
    NewInboundOnly,
}

/// `[kernel.limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// First bits of an address by which sources are told apart.
    pub(crate) source_prefix: Option<KeyPrefix>,
    /// First bits by which aggregates are.
    pub(crate) aggregate_prefix: Option<KeyPrefix>,
    /// Packets a second of a source.
    pub(crate) source_packets: Option<Limit>,
    /// Bytes a second of a source.
    pub(crate) source_bytes: Option<Limit>,
    /// New TCP connections a second of a source.
    pub(crate) source_syn: Option<Limit>,
    /// UDP datagrams a second of a source.
    pub(crate) source_udp: Option<Limit>,
    /// ICMP messages a second of a source.
    pub(crate) source_icmp: Option<Limit>,
    /// Packets a second of an aggregate.
    pub(crate) aggregate_packets: Option<Limit>,
    /// Bytes a second of an aggregate.
    pub(crate) aggregate_bytes: Option<Limit>,
    /// New TCP connections a second of an aggregate.
    pub(crate) aggregate_syn: Option<Limit>,
    /// UDP datagrams a second of an aggregate.
    pub(crate) aggregate_udp: Option<Limit>,
    /// ICMP messages a second of an aggregate.
    pub(crate) aggregate_icmp: Option<Limit>,
}

/// `{ ipv4 = 32, ipv6 = 64 }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPrefix {
    pub(crate) ipv4: Option<Spanned<u32>>,
    pub(crate) ipv6: Option<Spanned<u32>>,
}

/// `{ rate = 100, burst = 200, mode = "enforce" }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// Units a second; 0 for no limit.
    pub(crate) rate: Spanned<u64>,
    /// Units at once; as many as in a second without it.
    pub(crate) burst: Option<Spanned<u64>>,
    /// `"enforce"` (default) or `"monitor"`.
    pub(crate) mode: Option<Mode>,
}

/// What becomes of what goes over a limit.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    Enforce,
    Monitor,
}

/// `[lists]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lists {
    /// Prefixes that pass, whatever any list says.
    #[serde(default)]
    pub(crate) trusted: Vec<Spanned<String>>,
    /// Prefixes that are dropped.
    #[serde(default)]
    pub(crate) blocked: Vec<Spanned<String>>,
    /// Of `blocked`, those that count although they cover what keeps the host reachable.
    #[serde(default)]
    pub(crate) force: Vec<Spanned<String>>,
    /// Names of lists that only watch: what they would drop is counted and passes.
    #[serde(default)]
    pub(crate) monitor: Vec<Spanned<String>>,
    /// Shortest prefixes that `block add` and `allow add` take without `--force`.
    #[serde(default)]
    pub(crate) widest: Widest,
}

/// `{ ipv4 = 8, ipv6 = 16 }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Widest {
    pub(crate) ipv4: Option<Spanned<u8>>,
    pub(crate) ipv6: Option<Spanned<u8>>,
}

/// `[admin]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// Path of the Unix socket.
    pub(crate) socket: Option<PathBuf>,
    /// User ids that may use it besides root.
    #[serde(default)]
    pub(crate) allowed_uids: Vec<u32>,
}

/// `[audit]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Audit {
    /// File of the trail.
    pub(crate) path: Option<PathBuf>,
    /// How often the kernel's counters are recorded.
    pub(crate) kernel_interval: Option<Spanned<String>>,
}

/// `[state]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Folder of the state.
    pub(crate) directory: Option<PathBuf>,
}

/// `[shutdown]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shutdown {
    /// How long requests may go on after SIGTERM.
    pub(crate) drain: Option<Spanned<String>>,
}

/// `[upgrade]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upgrade {
    /// How long the next process may take until it is ready.
    pub(crate) ready_within: Option<Spanned<String>>,
}

/// `[runtime]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Runtime {
    /// Threads that serve requests; one for each core without it.
    pub(crate) workers: Option<Spanned<usize>>,
}

/// `[observe]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Observe {
    /// Where `/healthz`, `/readyz` and `/metrics` are, over plain HTTP.
    pub(crate) address: Spanned<String>,
}

/// `[redirect]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redirect {
    /// Where plain HTTP is answered, such as `"0.0.0.0:80"`.
    pub(crate) address: Spanned<String>,
}
