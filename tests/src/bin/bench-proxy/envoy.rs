//! Envoy from PyPI, with its cache of verified tokens.

use std::{fs::File, net::SocketAddr, path::PathBuf, process::Stdio};

use portcullis_tests::{
    ground::free_address,
    run::{RigError, Rigged},
    scene::HOST,
};
use serde_json::{Value, json};

use crate::{
    process::{Serving, on_proxy_core},
    stage::Stage,
    subject::{Kind, Records, Subject},
    tokens::{AUDIENCE, COUNT, ISSUER, SCOPE},
};

/// Names the program to the bench.
const BINARY_VARIABLE: &str = "PORTCULLIS_BENCH_ENVOY";
/// Where the token's claims are handed from the one filter to the other.
const CLAIMS: &str = "claims";

pub(crate) fn start(stage: &Stage) -> Rigged<Subject> {
    let address = free_address()?;
    let scratch = &stage.scratch;
    let records = scratch.join("envoy.jsonl");
    let config = scratch.write("envoy.json", config(stage, address, &records).to_string())?;
    let log = scratch.join("envoy.log");
    let mut command = on_proxy_core(binary()?);
    command.arg("-c").arg(config);
    // Records are written when 64 KiB of them are there, and each second.
    command.args(["--file-flush-interval-msec", "1000"]);
    command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"]);
    command.stdout(Stdio::null()).stderr(File::create(&log)?);
    Ok(Subject {
        kind: Kind::Envoy,
        serving: Serving::start(&mut command, address, &log)?,
        address,
        records: Records::new(records),
        made: 0..=0,
    })
}

fn binary() -> Rigged<PathBuf> {
    std::env::var_os(BINARY_VARIABLE)
        .map(PathBuf::from)
        .ok_or_else(|| RigError(format!("{BINARY_VARIABLE} doesn't say where Envoy is")))
}

fn config(stage: &Stage, address: SocketAddr, records: &std::path::Path) -> Value {
    let connections = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "main",
            "codec_type": "AUTO",
            "upgrade_configs": [{ "upgrade_type": "websocket" }],
            "access_log": [named("envoy.access_loggers.file", access_log(records))],
            "http_filters": [
                named("envoy.filters.http.jwt_authn", tokens(stage)),
                named("envoy.filters.http.rbac", scope()),
                named(
                    "envoy.filters.http.router",
                    typed("extensions.filters.http.router.v3.Router", json!({})),
                ),
            ],
            "route_config": {
                "virtual_hosts": [{
                    "name": "api",
                    "domains": [HOST],
                    "routes": [
                        { "match": { "prefix": "/orders" }, "route": { "cluster": "app" } },
                        { "match": { "prefix": "/socket" }, "route": { "cluster": "sockets" } },
                    ],
                }],
            },
        }),
    );
    let tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "tls_certificates": [{
                    "certificate_chain": { "filename": stage.pki.certificate },
                    "private_key": { "filename": stage.pki.key },
                }],
            },
        }),
    );
    json!({
        "static_resources": {
            "listeners": [{
                "name": "main",
                "address": socket(address),
                "filter_chains": [{
                    "transport_socket": named("envoy.transport_sockets.tls", tls),
                    "filters": [
                        named("envoy.filters.network.http_connection_manager", connections),
                    ],
                }],
            }],
            "clusters": [
                cluster("app", stage.upstream.address),
                cluster("sockets", stage.echo.address()),
            ],
        },
    })
}

/// Signature, issuer, audience and time.
fn tokens(stage: &Stage) -> Value {
    typed(
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": {
                "main": {
                    "issuer": ISSUER,
                    "audiences": [AUDIENCE],
                    "local_jwks": { "inline_string": stage.issuer.jwks() },
                    "payload_in_metadata": CLAIMS,
                    // Its default of 100 would forget each of ours before its turn comes again.
                    "jwt_cache_config": { "jwt_cache_size": 2 * COUNT },
                },
            },
            "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "main" } }],
        }),
    )
}

/// The scope, a word of a list.
fn scope() -> Value {
    let word = json!({ "safe_regex": { "regex": format!("(.* )?{SCOPE}( .*)?") } });
    let claim = json!({
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{ "key": CLAIMS }, { "key": "scope" }],
        "value": { "string_match": word },
    });
    typed(
        "extensions.filters.http.rbac.v3.RBAC",
        json!({
            "rules": {
                "action": "ALLOW",
                "policies": {
                    "scope": {
                        "permissions": [{ "any": true }],
                        "principals": [{ "metadata": claim }],
                    },
                },
            },
        }),
    )
}

/// What the others tell, too.
fn access_log(records: &std::path::Path) -> Value {
    typed(
        "extensions.access_loggers.file.v3.FileAccessLog",
        json!({
            "path": records,
            "log_format": {
                "json_format": {
                    "time": "%START_TIME%",
                    "id": "%REQ(X-REQUEST-ID)%",
                    "peer": "%DOWNSTREAM_REMOTE_ADDRESS%",
                    "method": "%REQ(:METHOD)%",
                    "host": "%REQ(:AUTHORITY)%",
                    "path": "%REQ(:PATH)%",
                    "status": "%RESPONSE_CODE%",
                    "subject": format!("%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:{CLAIMS}:sub)%"),
                    "upstream": "%UPSTREAM_HOST%",
                    "bytes": "%BYTES_SENT%",
                    "ms": "%DURATION%",
                },
            },
        }),
    )
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    // Its default of 1,024 is too near to what is held open here.
    let most = 16_384;
    json!({
        "name": name,
        "type": "STATIC",
        "circuit_breakers": { "thresholds": [{
            "max_connections": most, "max_pending_requests": most, "max_requests": most,
        }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(address) } }] }],
        },
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn named(name: &str, config: Value) -> Value {
    json!({ "name": name, "typed_config": config })
}

fn typed(kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.{kind}"));
    config
}
