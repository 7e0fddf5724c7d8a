//! Certificates that an authority issues, as proven; with those that are kept from earlier.

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc};

use gateway::{Authority, Challenge, Issued, Pending, ServerName, Storage, trust_anchors};
use policy::{CanonicalHost, HostPattern, Route};
use toml::Spanned;

use super::{
    mistake::Prover,
    prove::{STATE_DIRECTORY, prove_address},
    value::read_file,
    written,
    written_acme::{self, Acme},
};

/// Most names of one certificate: Let's Encrypt takes no more.
const MOST_NAMES: usize = 100;

/// An authority, what it is asked for, and what is answered over plain HTTP, with an authority or without.
pub(crate) struct AcmeConfig {
    pub(crate) authority: Option<Authority>,
    pub(crate) issued: Vec<Arc<Issued>>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) plain: Option<PlainConfig>,
}

/// The plain HTTP listener.
#[derive(Clone)]
pub(crate) struct PlainConfig {
    pub(crate) address: SocketAddr,
    /// File, line, key and value, for what can go wrong only when it is bound.
    pub(crate) place: String,
    /// Hosts that requests are sent to over https.
    pub(crate) hosts: Vec<CanonicalHost>,
}

/// Certificates that listeners may share, while a configuration is proven.
pub(super) struct Automatic<'w> {
    written: Option<&'w Acme>,
    storage: Option<Storage>,
    pending: Arc<Pending>,
    issued: Vec<Arc<Issued>>,
    /// Which entry has a name.
    taken: HashMap<String, String>,
}

impl<'w> Automatic<'w> {
    pub(super) fn new(written: Option<&'w Acme>, state: Option<&Path>) -> Self {
        let state = state.unwrap_or_else(|| Path::new(STATE_DIRECTORY));
        let storage = written.map(|acme| {
            let root = acme.storage.clone().unwrap_or_else(|| state.join("acme"));
            Storage::new(&root, acme.directory.as_ref())
        });
        Self {
            written,
            storage,
            pending: Arc::default(),
            issued: Vec::new(),
            taken: HashMap::new(),
        }
    }

    /// What an authority is shown.
    pub(super) fn pending(&self) -> Arc<Pending> {
        Arc::clone(&self.pending)
    }

    /// The certificates of a listener.
    pub(super) fn of_listener(
        &mut self,
        prover: &mut Prover<'_>,
        index: usize,
        listener: &written::Listener,
    ) -> Vec<Arc<Issued>> {
        let mut all = Vec::new();
        for (at, entry) in listener.acme.iter().enumerate() {
            let place = format!("listener[{index}].acme[{at}]");
            let names = prove_names(prover, &format!("{place}.names"), &entry.names);
            let challenge = self.prove_challenge(prover, &place, &entry.challenge);
            let Some(storage) = &self.storage else {
                let mend = "add it, with directory and agree_to_terms";
                let problem = "there is no table [acme]";
                prover.reject(&format!("{place}.names"), entry.names.span(), problem, mend);
                continue;
            };
            let Some(names) = names else { continue };
            let known = |it: &&Arc<Issued>| it.names() == names && it.challenge() == challenge;
            if let Some(known) = self.issued.iter().find(known) {
                // Two listeners may show one certificate, such as those of IPv4 and IPv6.
                all.push(Arc::clone(known));
                continue;
            }
            for name in &names {
                if let Some(other) = self.taken.insert(name.clone(), place.clone()) {
                    prover.reject(
                        &format!("{place}.names"),
                        entry.names.span(),
                        format!("{other} has {name} already"),
                        "give each name to one certificate; listeners that share one write it alike",
                    );
                }
            }
            let issued = Arc::new(Issued::load(names, challenge, storage));
            self.issued.push(Arc::clone(&issued));
            all.push(issued);
        }
        all
    }

    fn prove_challenge(
        &self,
        prover: &mut Prover<'_>,
        place: &str,
        written: &Spanned<written_acme::Challenge>,
    ) -> Challenge {
        let listens = self.written.is_some_and(|acme| acme.http_address.is_some());
        match written.as_ref() {
            written_acme::Challenge::TlsAlpn01 => Challenge::TlsAlpn01,
            written_acme::Challenge::Http01 => {
                if !listens {
                    prover.reject(
                        &format!("{place}.challenge"),
                        written.span(),
                        "nothing listens where the authority will ask",
                        "set acme.http_address, such as \"0.0.0.0:80\", or use \"tls-alpn-01\"",
                    );
                }
                Challenge::Http01
            }
        }
    }

    /// The authority, and all that it is asked for.
    pub(super) fn finish(
        self,
        prover: &mut Prover<'_>,
        listeners: &[written::Listener],
        routes: &[Route],
    ) -> Option<AcmeConfig> {
        let written = self.written?;
        let directory = written.directory.as_ref();
        let is_https = directory.parse().is_ok_and(|uri: http::Uri| {
            uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !is_https {
            prover.reject(
                "acme.directory",
                written.directory.span(),
                "is no https:// URL",
                "give the URL of the authority's directory, such as \
                 \"https://acme-v02.api.letsencrypt.org/directory\"",
            );
        }
        if !written.agree_to_terms.as_ref() {
            prover.reject(
                "acme.agree_to_terms",
                written.agree_to_terms.span(),
                "an authority issues to those alone who agree to its terms",
                "read them (the directory names them), and write true",
            );
        }
        for contact in &written.contacts {
            let address = contact.as_ref().strip_prefix("mailto:");
            if !address.is_some_and(|address| address.contains('@')) {
                prover.reject(
                    "acme.contacts",
                    contact.span(),
                    "is no mailto: URL",
                    "write it like \"mailto:admin@example.org\"",
                );
            }
        }
        let pem = match &written.ca {
            Some(ca) => Some(read_file(prover, "acme.ca", ca)?),
            None => None,
        };
        let tls = trust_anchors(pem.as_deref())
            .map_err(|error| {
                let span = written
                    .ca
                    .as_ref()
                    .map_or(written.directory.span(), Spanned::span);
                prover.reject("acme.ca", span, error, "give a PEM file of certificates");
            })
            .ok()?;
        let hosts = hosts_of(&self.issued, routes);
        let plain = match &written.http_address {
            Some(address) => {
                let key = "acme.http_address";
                Some(prove_plain(prover, key, address, listeners, hosts)?)
            }
            None => None,
        };
        Some(AcmeConfig {
            authority: Some(Authority {
                directory: directory.clone(),
                tls,
                contacts: written
                    .contacts
                    .iter()
                    .map(|it| it.as_ref().clone())
                    .collect(),
                storage: self.storage?,
            }),
            issued: self.issued,
            pending: self.pending,
            plain,
        })
    }
}

/// What redirects over plain HTTP, without an authority.
pub(super) fn redirect(
    prover: &mut Prover<'_>,
    written: &written::Redirect,
    listeners: &[written::Listener],
    routes: &[Route],
) -> Option<AcmeConfig> {
    let hosts = hosts_of(&[], routes);
    let plain = prove_plain(
        prover,
        "redirect.address",
        &written.address,
        listeners,
        hosts,
    )?;
    Some(AcmeConfig {
        authority: None,
        issued: Vec::new(),
        pending: Arc::default(),
        plain: Some(plain),
    })
}

/// Hosts that are named: nobody is sent to another one.
fn hosts_of(issued: &[Arc<Issued>], routes: &[Route]) -> Vec<CanonicalHost> {
    let named = issued.iter().flat_map(|it| it.names());
    let named = named.filter_map(|name| CanonicalHost::parse(name).ok());
    let routed = routes.iter().filter_map(|route| match &route.host {
        HostPattern::Exact(host) => Some(host.clone()),
        HostPattern::Any => None,
    });
    named.chain(routed).collect()
}

fn prove_names(
    prover: &mut Prover<'_>,
    key: &str,
    written: &Spanned<Vec<Spanned<String>>>,
) -> Option<Vec<String>> {
    let names = written.as_ref();
    if names.is_empty() || names.len() > MOST_NAMES {
        let problem = format!("has {} names", names.len());
        let mend = format!("write 1 to {MOST_NAMES}");
        prover.reject(key, written.span(), problem, mend);
        return None;
    }
    let mut proven: Vec<String> = Vec::new();
    for name in names {
        match prove_name(name.as_ref()) {
            Ok(canonical) if proven.contains(&canonical) => {
                prover.reject(key, name.span(), "is there twice", "write it once");
            }
            Ok(canonical) => proven.push(canonical),
            Err((problem, mend)) => prover.reject(key, name.span(), problem, mend),
        }
    }
    (proven.len() == names.len()).then_some(proven)
}

fn prove_name(name: &str) -> Result<String, (&'static str, &'static str)> {
    if name.contains('*') {
        return Err((
            "a wildcard can't be checked by connecting to it",
            "write each name, or give a certificate by certificate and key",
        ));
    }
    let host = CanonicalHost::parse(name).ok();
    let host = host.filter(|_| !name.contains([':', '_']));
    match host.and_then(|host| ServerName::try_from(host.as_str().to_owned()).ok()) {
        Some(ServerName::DnsName(name)) => Ok(name.as_ref().to_owned()),
        Some(_) => Err((
            "is an address",
            "write a DNS name, or give a certificate by certificate and key",
        )),
        None => Err(("is no DNS name", "write it like \"api.example.org\"")),
    }
}

fn prove_plain(
    prover: &mut Prover<'_>,
    key: &str,
    written: &Spanned<String>,
    listeners: &[written::Listener],
    hosts: Vec<CanonicalHost>,
) -> Option<PlainConfig> {
    let address = prove_address(prover, key, written)?;
    let same = |listener: &&written::Listener| listener.address.as_ref().parse() == Ok(address);
    if address.port() != 0 && listeners.iter().any(|listener| same(&listener)) {
        prover.reject(
            key,
            written.span(),
            "a listener has this address",
            "give it a port of its own; an authority asks on port 80",
        );
    }
    Some(PlainConfig {
        address,
        place: prover.place(key, written.span()),
        hosts,
    })
}
