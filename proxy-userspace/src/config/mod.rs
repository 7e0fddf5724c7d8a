//! The configuration file: as written, then as proven.
//!
//! ```text
//! written, written_acme, written_api_keys, written_holder, written_issuer, written_login, written_tcp, written_upstream   the TOML shape; unknown keys are refused
//! prove     and prove_access, prove_acme, prove_api_keys, prove_claims, prove_feeds, prove_health, prove_holder, prove_introspection, prove_issuers, prove_kernel, prove_login, prove_routes, prove_tcp, prove_tls, prove_upstreams, value: everything checked and loaded that can be, without running anything
//! mistake   an error that names file, line, key, value and mend
//! ```

mod mistake;
mod prove;
mod prove_access;
mod prove_acme;
mod prove_api_keys;
mod prove_claims;
mod prove_clients;
mod prove_feeds;
mod prove_health;
mod prove_holder;
mod prove_introspection;
mod prove_issuers;
mod prove_kernel;
mod prove_login;
mod prove_routes;
mod prove_tcp;
mod prove_tls;
mod prove_upstream_tls;
mod prove_upstreams;
mod value;
mod written;
mod written_acme;
mod written_api_keys;
mod written_holder;
mod written_issuer;
mod written_login;
mod written_tcp;
mod written_upstream;

use std::{fs, path::Path};

pub(crate) use mistake::{Mistake, Mistakes};
pub(crate) use prove::{Config, KernelConfig, ListenerConfig, ServiceConfig};
pub(crate) use prove_acme::{AcmeConfig, PlainConfig};
pub(crate) use prove_kernel::limit_setting;

/// Reads and proves a configuration file.
///
/// # Errors
/// Every mistake found, in the order of the file.
pub(crate) fn load(path: &Path) -> Result<Config, Mistakes> {
    let text = fs::read_to_string(path)
        .map_err(|error| Mistakes::one(Mistake::unreadable(path, &error)))?;
    let written = toml::from_str(&text)
        .map_err(|error| Mistakes::one(Mistake::syntax(path, &text, &error)))?;
    prove::prove(path, &text, written)
}
