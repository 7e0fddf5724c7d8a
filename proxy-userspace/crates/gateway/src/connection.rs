//! The connection that requests come on: what is known of it, and whether it is still what its listener would
//! let in.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::request::Parts;
use policy::{CanonicalHost, WireFault};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use crate::{
    certificates::covers,
    client_certificates::{
        ClientCertificateRules, ClientCertificates, ClientRuleFault, RuleIndex, Shown,
    },
    drain::Drain,
    listener::{Shared, Speaks},
    websocket::Tunnel,
    wire::WireState,
};

/// What the requests of one connection have in common.
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    /// The worker that it is on.
    pub(crate) worker: usize,
    pub(crate) tls: &'static str,
    /// What its listener does now: a reload holds for the next request of what is open.
    pub(crate) in_force: Arc<ArcSwap<Shared>>,
    /// How long a client may owe the next part of a body.
    pub(crate) body_timeout: Duration,
    /// The name that was asked for in TLS.
    pub(crate) server_name: Option<String>,
    /// The rules about client certificates that it was made under, and which of them.
    pub(crate) client_rules: Arc<ClientCertificateRules>,
    pub(crate) client_rule: RuleIndex,
    /// What the client showed, and that was good.
    pub(crate) shown: Shown,
    /// SHA-256 of it.
    pub(crate) client_certificate: Option<String>,
    /// What the client was shown.
    pub(crate) certificate: Option<Arc<CertifiedKey>>,
    /// The first host of a request for which it is good: most connections ask for one only.
    pub(crate) covered: OnceLock<CanonicalHost>,
    /// Of HTTP/1.1: what was refused before it was read.
    pub(crate) wire: Option<Arc<WireState>>,
    /// What the connection becomes when its last answer has been sent.
    pub(crate) tunnel: Mutex<Option<Tunnel>>,
    /// Told when it would not be let in any more.
    pub(crate) outdated: Notify,
    /// Held by whatever outlives the connection, so that a stop waits for it.
    pub(crate) drain: Drain,
}

impl Connection {
    pub(crate) fn refused_head(&self, parts: &Parts) -> Option<WireFault> {
        self.wire.as_ref()?.refused_head(parts)
    }

    pub(crate) fn refused_body(&self) -> Option<WireFault> {
        self.wire.as_ref()?.refused_body()
    }

    /// Whether the certificate that the client was shown is good for a host. A client that takes one
    /// connection for several hosts, or was led here by another's name, is told so (RFC 9110, 15.5.20).
    pub(crate) fn is_for(&self, host: &CanonicalHost) -> bool {
        if self.covered.get() == Some(host) {
            return true;
        }
        let covers = self.certificate.as_ref().is_some_and(|it| covers(it, host));
        if covers {
            // Another one may be there already.
            let _ = self.covered.set(host.clone());
        }
        covers
    }

    /// Whether it may carry requests for a host by what is asked of clients now: the host has the rule of the
    /// name that was asked for in TLS, and that takes what the client showed. Returns the rule, where the client
    /// showed a certificate.
    pub(crate) fn meets_rules(
        &self,
        host: &CanonicalHost,
    ) -> Result<Option<Arc<ClientCertificates>>, ClientRuleFault> {
        let in_force = self.in_force.load();
        let Speaks::Http(tls) = &in_force.speaks else {
            // There are no requests any more.
            self.outdated.notify_one();
            return Err(ClientRuleFault::Outdated);
        };
        let rules = &tls.rules;
        let own = if Arc::ptr_eq(rules, &self.client_rules) {
            self.client_rule
        } else {
            rules.of(self.server_name.as_deref())
        };
        if rules.of(Some(host.as_str())) != own {
            return Err(ClientRuleFault::Other);
        }
        let rule = rules.get(own);
        if rule.is_none_or(|rule| rule.takes(&self.shown)) {
            // Where nothing is asked any more, what was shown under other rules proves nothing.
            let shows = self.shown.thumbprint().is_some();
            return Ok(rule.filter(|_| shows).map(Arc::clone));
        }
        // The client comes back over another one, which is asked anew.
        self.outdated.notify_one();
        Err(ClientRuleFault::Outdated)
    }
}
