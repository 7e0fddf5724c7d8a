//! Another configuration in the place of the one in force, while requests go on.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use gateway::{Logins, SourceGate, Upstream};

use super::{
    Identity, Service, Serving, certificates_of, compose, keep_api_keys, keep_certificates,
    keep_introspector, keep_issuer, keep_upstream, proofs,
};
use crate::{
    bound::{Bound, ServiceError},
    changes::{self, Routes, Written, note_change, note_logins, note_tables},
    config::{self, Config, ListenerConfig, Mistakes},
    lifeline::Needed,
    passed::Passed,
    trail::note,
};

/// Why another configuration was not put in force. The one before serves on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("{0}")]
    Config(#[from] Mistakes),
    #[error(
        "what has changed in {} is read at the start only; restart the daemon for that, or take it back and \
         reload", .0.join(", ")
    )]
    NeedsRestart(Vec<String>),
    #[error(
        "the keys of issuer {issuer:?}, which are elsewhere now, can't be had: {why}; mend that, and reload"
    )]
    Keys { issuer: String, why: String },
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// What a reload did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// In a few words each.
    pub(crate) changes: Vec<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub(crate) digest: String,
}

impl Service {
    /// Reads the configuration again and puts it in force, whole or not at all. Requests that have begun
    /// end under the one that they began with.
    pub(crate) async fn reload(&mut self, path: &Path) -> Result<Reloaded, ReloadError> {
        let outcome = match config::load(path) {
            Ok(config) => self.exchange(config).await,
            Err(mistakes) => Err(mistakes.into()),
        };
        match &outcome {
            Ok(done) => note(
                &self.journal,
                "reload",
                &format!("sha256:{}: {}", done.digest, done.changes.join("; ")),
            ),
            Err(error) => note(&self.journal, "reload_refused", &error.to_string()),
        }
        outcome
    }

    async fn exchange(&mut self, config: Config) -> Result<Reloaded, ReloadError> {
        let config = config.service;
        self.refuse_what_is_fixed(&config.fixed)?;
        // All that can fail comes before anything that is seen.
        let mut changes = Vec::new();
        let is_written_so = |name: &str, now: &Written| {
            let written = |all| changes::table(all, "issuer", "name", |it| it == name).cloned();
            written(&self.exchanged) == written(now)
        };
        let mut issuers = Vec::new();
        for issuer in config.issuers {
            let name = issuer.rules().name.clone();
            let before = self.issuers.get(&name).map(|(issuer, _)| issuer);
            let taken_over = before.is_some_and(|it| issuer.keys().take_over(it.keys()));
            if !taken_over {
                let loaded = issuer.keys().refresh().await;
                loaded.map_err(|error| ReloadError::Keys {
                    issuer: name.clone(),
                    why: error.to_string(),
                })?;
            }
            let same = taken_over && is_written_so(&name, &config.exchanged);
            let known = before.is_some() || self.introspectors.contains_key(&name);
            note_change(&mut changes, "issuer", &name, known, same);
            issuers.push(issuer);
        }
        let is_new = |listener: &ListenerConfig| {
            !self
                .listeners
                .iter()
                .any(|it| it.configured == listener.address)
        };
        let (fresh, kept): (Vec<_>, Vec<_>) = config.listeners.into_iter().partition(is_new);
        for listener in &fresh {
            note_change(&mut changes, "listener", &listener.address, false, false);
        }
        let mut passed = Passed::default();
        let bound = Bound::all(fresh, self.count, &mut passed).await?;
        let gate = Arc::clone(&self.lists) as Arc<dyn SourceGate>;
        // What is remembered is remembered for as long as these rules need.
        let proofs = if *self.proofs.rules() == config.proofs {
            Arc::clone(&self.proofs)
        } else {
            proofs(config.proofs)?
        };
        let known = (&self.login_memory, &self.revocations);
        let logins = Logins::new(&config.logins, &issuers, known);
        let logins = logins.map_err(ServiceError::from)?;
        let bind = self.automatic.bind(config.acme.as_ref(), gate, &mut passed);
        let plain = bind.await?;

        let issuers: BTreeMap<_, _> = issuers
            .into_iter()
            .map(|issuer| keep_issuer(issuer, &self.journal))
            .collect();
        let mut introspectors = BTreeMap::new();
        for introspector in config.introspectors {
            let name = &introspector.rules().name;
            let same = is_written_so(name, &config.exchanged);
            let known = self.issuers.contains_key(name) || self.introspectors.contains_key(name);
            note_change(&mut changes, "issuer", name, known, same);
            let (name, kept) = keep_introspector(introspector, &self.journal);
            introspectors.insert(name, kept);
        }
        let mut api_keys = BTreeMap::new();
        let mut read = Vec::new();
        for file in config.api_keys {
            let before = self.api_keys.get(file.name()).map(|(file, _)| file);
            let same = before.is_some_and(|before| before.is_as(&file));
            let name = file.name();
            note_change(&mut changes, "api_keys", &name, before.is_some(), same);
            let in_place = before.and_then(|before| file.in_place_of(before));
            let keys = Arc::clone(&file.keys);
            let (name, kept) = keep_api_keys(in_place.unwrap_or(file), &self.journal);
            read.push((Arc::clone(&kept.0.keys), keys));
            api_keys.insert(name, kept);
        }
        let mut upstreams = BTreeMap::new();
        let mut before = std::mem::take(&mut self.upstreams);
        for spec in config.upstreams {
            let earlier = before.remove(&spec.name);
            let known = earlier.is_some();
            let same = earlier.filter(|(upstream, _)| *upstream.spec() == spec);
            note_change(&mut changes, "upstream", &spec.name, known, same.is_some());
            let (name, kept) = match same {
                Some(same) => (spec.name, same),
                None => keep_upstream(Arc::new(Upstream::new(spec, self.count)), &self.journal),
            };
            upstreams.insert(name, kept);
        }
        let gone = |what: &str, names: Vec<&String>, changes: &mut Vec<String>| {
            changes.extend(names.iter().map(|name| format!("{what} {name} is gone")));
        };
        gone("upstream", before.keys().collect(), &mut changes);
        let is_gone =
            |name: &&String| !issuers.contains_key(*name) && !introspectors.contains_key(*name);
        let of_old = self.issuers.keys().chain(self.introspectors.keys());
        let of_old = of_old.filter(is_gone);
        gone("issuer", of_old.collect(), &mut changes);
        let of_old = self
            .api_keys
            .keys()
            .filter(|name| !api_keys.contains_key(*name));
        gone("api_keys", of_old.collect(), &mut changes);
        let routes = Routes::of(&config.routes, &config.tcp_routes);
        routes.note(&self.routes, &mut changes);
        note_logins((&self.logins, &config.logins), &mut changes);
        note_tables(&mut changes, &self.exchanged, &config.exchanged);

        let shared = (&self.lists, &self.journal, &self.metrics);
        let tables = (config.routes, config.tcp_routes);
        let identity = Identity {
            issuers: &issuers,
            introspectors: &introspectors,
            api_keys: &api_keys,
            proofs: &proofs,
            revocations: &self.revocations,
            uses: &self.uses,
        };
        let gateway = compose(tables, &identity, &upstreams, shared)?;
        let gateway = gateway.sampling(config.sampled);
        self.live.exchange(gateway.logging_in(logins));
        self.logins = config.logins;
        self.proofs = proofs;
        for (place, read) in read {
            if !Arc::ptr_eq(&place, &read) {
                place.take_over(&read);
            }
        }
        for (name, (before, _)) in &self.api_keys {
            let after = api_keys.get(name).map(|(file, _)| &file.keys);
            if after.is_none_or(|after| !Arc::ptr_eq(after, &before.keys)) {
                before.keys.close();
            }
        }
        (self.introspectors, self.api_keys) = (introspectors, api_keys);
        self.uses.bound(config.used_tokens);
        (self.issuers, self.upstreams, self.routes) = (issuers, upstreams, routes);
        let exchanged = config.exchanged;
        let mut listeners = Vec::new();
        for serving in std::mem::take(&mut self.listeners) {
            let fits = |it: &&ListenerConfig| it.address == serving.configured;
            match kept.iter().find(fits) {
                Some(config) => {
                    let written = |all| {
                        let is_it = |it: &str| it.parse() == Ok(serving.configured);
                        changes::table(all, "listener", "address", is_it).cloned()
                    };
                    let same = written(&self.exchanged) == written(&exchanged);
                    note_change(&mut changes, "listener", &serving.configured, true, same);
                    serving.listener.exchange(config.spec.clone());
                    listeners.push(Serving {
                        certificates: certificates_of(config),
                        _kept: keep_certificates(config, &self.journal),
                        ..serving
                    });
                }
                None => {
                    serving.listener.close();
                    changes.push(format!("listener {} is gone", serving.configured));
                }
            }
        }
        self.listeners = listeners;
        self.serve(bound);
        self.automatic.exchange(config.acme, plain, &self.stop);
        self.order();
        self.need(config.needed);
        self.exchanged = exchanged;
        if changes.is_empty() {
            changes.push("nothing has changed".to_owned());
        }
        Ok(Reloaded {
            changes,
            digest: config.digest,
        })
    }

    fn refuse_what_is_fixed(&self, fixed: &Written) -> Result<(), ReloadError> {
        let names = self.fixed.keys().chain(fixed.keys());
        let mut changed: Vec<String> = names
            .filter(|name| self.fixed.get(*name) != fixed.get(*name))
            .map(|name| format!("[{name}]"))
            .collect();
        changed.sort();
        changed.dedup();
        if changed.is_empty() {
            return Ok(());
        }
        Err(ReloadError::NeedsRestart(changed))
    }

    /// Hosts that lists must leave in reach from now on.
    fn need(&mut self, needed: Vec<Needed>) {
        let of = |all: &[Needed], what: &str| -> Vec<Needed> {
            all.iter().filter(|it| it.what == what).cloned().collect()
        };
        let mut subjects: Vec<&str> = self.needed.iter().map(|it| it.what.as_str()).collect();
        subjects.extend(needed.iter().map(|it| it.what.as_str()));
        subjects.sort_unstable();
        subjects.dedup();
        for what in subjects {
            let fresh = of(&needed, what);
            if of(&self.needed, what) != fresh {
                self.lifelines.let_go(what);
                fresh.into_iter().for_each(|it| self.lifelines.need(it));
            }
        }
        self.needed = needed;
    }
}
