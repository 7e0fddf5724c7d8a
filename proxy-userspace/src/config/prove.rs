//! The configuration as proven: everything parsed, loaded and cross-checked that can be without
//! running anything.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use datapath::{Pins, Rules};
use gateway::{
    Introspector, Issuer, ListenerLimits, ListenerSpec, LoginRules, ProofRules, UpstreamSpec,
};
use ipnet::IpNet;
use policy::{RouteTable, TcpRouteTable};
use toml::Spanned;

use crate::{
    api_keys::KeyFile,
    changes,
    feed::{SHORTEST_V4, SHORTEST_V6},
    lists::{ALLOW, CONFIG_TRUSTED, Widest},
    source::{Feed, feed_host, hexadecimal},
};

use super::{
    mistake::{Mistakes, Prover},
    prove_acme::{self, AcmeConfig, Automatic},
    prove_api_keys, prove_clients, prove_feeds, prove_holder, prove_issuers, prove_kernel,
    prove_login, prove_routes, prove_tcp, prove_tls, prove_upstreams,
    value::{in_range, prove_duration, prove_prefix, reject_repeated},
    written::{self, Written},
};
use crate::lifeline::Needed;

/// What serves requests, and may be exchanged while it does.
pub(crate) struct ServiceConfig {
    pub(crate) listeners: Vec<ListenerConfig>,
    pub(crate) acme: Option<AcmeConfig>,
    pub(crate) issuers: Vec<Arc<Issuer>>,
    /// Issuers that are asked about their tokens.
    pub(crate) introspectors: Vec<Arc<Introspector>>,
    /// Files of API keys.
    pub(crate) api_keys: Vec<KeyFile>,
    /// How browsers log in.
    pub(crate) logins: Vec<LoginRules>,
    /// What proofs that a token is in the right hands must satisfy.
    pub(crate) proofs: ProofRules,
    /// Most tokens that are remembered of those that are good once.
    pub(crate) used_tokens: usize,
    pub(crate) upstreams: Vec<UpstreamSpec>,
    /// Hosts that upstreams and keys are on.
    pub(crate) needed: Vec<Needed>,
    pub(crate) routes: RouteTable,
    pub(crate) tcp_routes: TcpRouteTable,
    /// Threads that serve requests.
    pub(crate) workers: NonZeroUsize,
    /// Whether traces that begin here ask to be recorded.
    pub(crate) sampled: bool,
    /// All that may be exchanged, as it is written, by the name of its table.
    pub(crate) exchanged: changes::Written,
    /// All that is read at the start only.
    pub(crate) fixed: changes::Written,
    /// SHA-256 of the file, in hexadecimal.
    pub(crate) digest: String,
}

/// Tables that may change while the daemon runs.
const EXCHANGED: [&str; 12] = [
    "listener",
    "acme",
    "redirect",
    "issuer",
    "api_keys",
    "login",
    "dpop",
    "single_use",
    "upstream",
    "route",
    "tcp_route",
    "traces",
];

/// Folder of the state, where nothing else is said.
pub(super) const STATE_DIRECTORY: &str = "/var/lib/portcullis";

/// A configuration that can be run.
pub(crate) struct Config {
    pub(crate) service: ServiceConfig,
    pub(crate) kernel: Option<KernelConfig>,
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) blocked: Vec<IpNet>,
    /// Of `blocked`, those that are meant although they cover what keeps the host reachable.
    pub(crate) forced: Vec<IpNet>,
    /// Lists with a source.
    pub(crate) feeds: Vec<Feed>,
    /// Names of lists that only watch.
    pub(crate) monitored: Vec<String>,
    pub(crate) widest: Widest,
    pub(crate) admin_socket: PathBuf,
    pub(crate) admin_uids: Vec<u32>,
    pub(crate) audit_path: PathBuf,
    pub(crate) kernel_interval: Duration,
    pub(crate) state_directory: PathBuf,
    pub(crate) drain: Duration,
    /// How long the next process of an upgrade may take until it is ready.
    pub(crate) ready_within: Duration,
    /// Where those who watch ask, and where that is written.
    pub(crate) observe: Option<(SocketAddr, String)>,
}

#[derive(Clone)]
pub(crate) struct ListenerConfig {
    pub(crate) address: SocketAddr,
    /// File, line, key and value, for what can go wrong only when it is bound.
    pub(crate) place: String,
    pub(crate) spec: ListenerSpec,
}

#[derive(Clone)]
pub(crate) struct KernelConfig {
    pub(crate) interfaces: Vec<String>,
    pub(crate) bpffs: PathBuf,
    pub(crate) pins: Pins,
    pub(crate) required: bool,
    pub(crate) rules: Rules,
}

/// Hosts that lists must leave in reach. What is no URL has been rejected elsewhere.
fn needed(written: &Written) -> Vec<Needed> {
    let upstreams = written.upstream.iter().flat_map(|upstream| {
        let what = format!("upstream {:?}", upstream.name.as_ref());
        let urls = upstream.urls().into_iter();
        urls.filter_map(move |(_, url)| Needed::of_url(url.as_ref(), what.clone()))
    });
    let keys = written.issuer.iter().filter_map(|issuer| {
        let what = format!("the keys of issuer {:?}", issuer.issuer.as_ref());
        let discovered = issuer.discovery.as_ref().filter(|it| *it.as_ref());
        let discovered = discovered.map(|_| issuer.issuer.as_ref());
        let url = issuer.jwks_url.as_ref().map(Spanned::as_ref);
        Needed::of_url(url.or(discovered)?, what)
    });
    let feeds = written.feed.iter().filter_map(|feed| {
        let feed = feed.as_ref();
        Needed::of_url(feed.url.as_ref()?, feed_host(&feed.name))
    });
    let acme = written.acme.iter().filter_map(|acme| {
        Needed::of_url(acme.directory.as_ref(), "the ACME directory".to_owned())
    });
    let asked = written.issuer.iter().filter_map(|issuer| {
        let what = format!("what issuer {:?} says of tokens", issuer.issuer.as_ref());
        Needed::of_url(issuer.introspection.as_ref()?.url.as_ref(), what)
    });
    let issuing = keys.chain(asked);
    upstreams.chain(issuing).chain(feeds).chain(acme).collect()
}

/// Proves a configuration; see [`super::load`].
pub(crate) fn prove(file: &Path, text: &str, written: Written) -> Result<Config, Mistakes> {
    let mut prover = Prover::new(file, text);
    if written.listener.is_empty() {
        prover.missing("[[listener]]", "add one with address, certificate and key");
    }
    let mut automatic = Automatic::new(written.acme.as_ref(), written.state.directory.as_deref());
    let listeners = prove_listeners(&mut prover, &written.listener, &mut automatic);
    let vouching = prove_issuers::issuers(&mut prover, &written.issuer);
    let api_keys = prove_api_keys::api_keys(&mut prover, &written.api_keys, &written.issuer);
    prove_clients::names(&mut prover, &written);
    let proofs = prove_holder::proofs(&mut prover, &written.dpop);
    let used_tokens = prove_holder::used_tokens(&mut prover, &written.single_use);
    let upstreams = prove_upstreams::upstreams(&mut prover, &written.upstream);
    let tcp_routes = prove_tcp::routes(&mut prover, &written, &upstreams);
    let routes = prove_routes::routes(&mut prover, &written);
    let logins = prove_login::logins(&mut prover, &written, routes.routes());
    let acme = automatic.finish(&mut prover, &written.listener, routes.routes());
    let acme = match (&written.redirect, &written.acme) {
        (None, _) => acme,
        (Some(redirect), Some(authority)) if authority.http_address.is_some() => {
            let problem = "acme.http_address sends everybody to https as well";
            let mend = "remove one of the two";
            prover.reject("redirect.address", redirect.address.span(), problem, mend);
            acme
        }
        (Some(redirect), _) => {
            let routes = routes.routes();
            let plain = prove_acme::redirect(&mut prover, redirect, &written.listener, routes);
            match acme {
                None => plain,
                Some(acme) => Some(AcmeConfig {
                    plain: plain.and_then(|it| it.plain),
                    ..acme
                }),
            }
        }
    };
    let needed = needed(&written);
    let kernel = written
        .kernel
        .as_ref()
        .map(|kernel| prove_kernel::kernel(&mut prover, kernel));
    let prefixes = |prover: &mut Prover<'_>, key: &str, entries: &[Spanned<String>]| {
        entries
            .iter()
            .filter_map(|entry| prove_prefix(prover, key, entry))
            .collect()
    };
    let tables: changes::Written = toml::from_str(text).unwrap_or_default();
    let (exchanged, fixed) = tables
        .into_iter()
        .partition(|(name, _)| EXCHANGED.contains(&name.as_str()));
    let observe = written.observe.as_ref().and_then(|observe| {
        let address = prove_address(&mut prover, "observe.address", &observe.address)?;
        let place = prover.place("observe.address", observe.address.span());
        Some((address, place))
    });
    let config = Config {
        observe,
        service: ServiceConfig {
            listeners,
            acme,
            issuers: vouching.issuers,
            introspectors: vouching.introspectors,
            api_keys,
            logins,
            proofs,
            used_tokens,
            upstreams,
            needed,
            routes,
            tcp_routes,
            workers: prove_workers(&mut prover, &written.runtime),
            sampled: written.traces.sampled,
            exchanged,
            fixed,
            digest: hexadecimal(digest(&SHA256, text.as_bytes()).as_ref()),
        },
        kernel,
        trusted: prefixes(&mut prover, "lists.trusted", &written.lists.trusted),
        blocked: prefixes(&mut prover, "lists.blocked", &written.lists.blocked),
        forced: prove_forced(&mut prover, &written.lists),
        feeds: prove_feeds::feeds(&mut prover, &written.feed),
        monitored: prove_monitored(&mut prover, &written.lists.monitor),
        widest: Widest {
            v4: in_range(
                &mut prover,
                "lists.widest.ipv4",
                written.lists.widest.ipv4.as_ref(),
                SHORTEST_V4,
                (0, 32),
            ),
            v6: in_range(
                &mut prover,
                "lists.widest.ipv6",
                written.lists.widest.ipv6.as_ref(),
                SHORTEST_V6,
                (0, 128),
            ),
        },
        admin_socket: written
            .admin
            .socket
            .unwrap_or_else(|| crate::admin::DEFAULT_SOCKET.into()),
        admin_uids: written.admin.allowed_uids,
        audit_path: written
            .audit
            .path
            .unwrap_or_else(|| "/var/log/portcullis/audit.jsonl".into()),
        kernel_interval: prove_duration(
            &mut prover,
            "audit.kernel_interval",
            written.audit.kernel_interval.as_ref(),
            Duration::from_secs(10),
        ),
        state_directory: written
            .state
            .directory
            .unwrap_or_else(|| STATE_DIRECTORY.into()),
        drain: prove_duration(
            &mut prover,
            "shutdown.drain",
            written.shutdown.drain.as_ref(),
            Duration::from_secs(30),
        ),
        ready_within: prove_duration(
            &mut prover,
            "upgrade.ready_within",
            written.upgrade.ready_within.as_ref(),
            Duration::from_secs(60),
        ),
    };
    prover.finish(config)
}

/// One for each core that this process may use, where nothing else is said.
fn prove_workers(prover: &mut Prover<'_>, runtime: &written::Runtime) -> NonZeroUsize {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = in_range(
        prover,
        "runtime.workers",
        runtime.workers.as_ref(),
        cores.get(),
        (1, 1024),
    );
    NonZeroUsize::new(workers).unwrap_or(cores)
}

/// What is forced has to be blocked.
fn prove_forced(prover: &mut Prover<'_>, lists: &written::Lists) -> Vec<IpNet> {
    let mut proven = Vec::new();
    for entry in &lists.force {
        if !lists.blocked.iter().any(|it| it.as_ref() == entry.as_ref()) {
            prover.reject(
                "lists.force",
                entry.span(),
                "is not in lists.blocked",
                "write it there as well, in the same words",
            );
        }
        proven.extend(prove_prefix(prover, "lists.force", entry));
    }
    proven
}

/// Lists that can watch: any but those of trusted prefixes.
fn prove_monitored(prover: &mut Prover<'_>, names: &[Spanned<String>]) -> Vec<String> {
    reject_repeated(prover, "lists.monitor", names.iter());
    for name in names {
        if [ALLOW, CONFIG_TRUSTED].contains(&name.as_ref().as_str()) {
            prover.reject(
                "lists.monitor",
                name.span(),
                "is a list of trusted prefixes, which drops nothing",
                "name lists that block",
            );
        }
    }
    names.iter().map(|name| name.as_ref().clone()).collect()
}

fn prove_listeners(
    prover: &mut Prover<'_>,
    written: &[written::Listener],
    automatic: &mut Automatic<'_>,
) -> Vec<ListenerConfig> {
    let mut proven: Vec<ListenerConfig> = Vec::new();
    for (index, listener) in written.iter().enumerate() {
        let key = |name: &str| format!("listener[{index}].{name}");
        let address = prove_address(prover, &key("address"), &listener.address);
        if let Some(address) = address
            && address.port() != 0
            && proven.iter().any(|earlier| earlier.address == address)
        {
            prover.reject(
                &key("address"),
                listener.address.span(),
                "another listener has this address",
                "give each listener its own port",
            );
        }
        let speaks = prove_tcp::speaks(prover, index, listener, automatic);
        let limits = prove_limits(prover, index, listener);
        let mut ranges = |name: &str, written: &[Spanned<String>]| -> Arc<[IpNet]> {
            let prove = |range| prove_prefix(prover, &key(name), range);
            written.iter().filter_map(prove).collect()
        };
        let trusted_hops = ranges("trusted_hops", &listener.trusted_hops);
        let balancers = ranges("proxy_protocol", &listener.proxy_protocol);
        let http3 = prove_tls::http3(prover, index, listener, speaks.as_ref(), &limits);
        if let (Some(address), Some(speaks)) = (address, speaks) {
            proven.push(ListenerConfig {
                address,
                place: prover.place(&key("address"), listener.address.span()),
                spec: ListenerSpec {
                    speaks,
                    limits,
                    trusted_hops,
                    balancers,
                    http3,
                },
            });
        }
    }
    proven
}

pub(super) fn prove_address(
    prover: &mut Prover<'_>,
    key: &str,
    written: &Spanned<String>,
) -> Option<SocketAddr> {
    written
        .as_ref()
        .parse()
        .map_err(|_| {
            prover.reject(
                key,
                written.span(),
                "is no address with a port",
                "write it like \"0.0.0.0:443\" or \"[::]:443\"",
            );
        })
        .ok()
}

fn prove_limits(
    prover: &mut Prover<'_>,
    index: usize,
    listener: &written::Listener,
) -> ListenerLimits {
    let key = |name: &str| format!("listener[{index}].{name}");
    let second = Duration::from_secs(1);
    ListenerLimits {
        max_connections: in_range(
            prover,
            &key("max_connections"),
            listener.max_connections.as_ref(),
            10_000,
            (1, 1_000_000),
        ),
        max_connections_per_source: in_range(
            prover,
            &key("max_connections_per_source"),
            listener.max_connections_per_source.as_ref(),
            1_000,
            (1, 1_000_000),
        ),
        handshake_timeout: prove_duration(
            prover,
            &key("handshake_timeout"),
            listener.handshake_timeout.as_ref(),
            10 * second,
        ),
        header_timeout: prove_duration(
            prover,
            &key("header_timeout"),
            listener.header_timeout.as_ref(),
            30 * second,
        ),
        // hyper needs 8 KiB to work with.
        max_header_bytes: in_range(
            prover,
            &key("max_header_bytes"),
            listener.max_header_bytes.as_ref(),
            16 * 1024,
            (8 * 1024, 1024 * 1024),
        ),
        body_timeout: prove_duration(
            prover,
            &key("body_timeout"),
            listener.body_timeout.as_ref(),
            30 * second,
        ),
        max_streams: in_range(
            prover,
            &key("max_streams"),
            listener.max_streams.as_ref(),
            128,
            (1, 10_000),
        ),
        stall_timeout: prove_duration(
            prover,
            &key("stall_timeout"),
            listener.stall_timeout.as_ref(),
            60 * second,
        ),
    }
}
