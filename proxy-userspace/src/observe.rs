//! What those who watch may see: whether requests can be served, and what was counted.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use audit::Journal;
use gateway::{ApiKeys, Certificates, Live, Metrics, Stage, Uses, Views};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tokio::sync::watch;

use crate::lists::Lists;

/// Prefix of all names.
const PREFIX: &str = "portcullis";

/// When another configuration was put in force, or refused, last.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) done: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Seconds since the epoch.
    pub(crate) last_done: AtomicU64,
}

impl Reloads {
    pub(crate) fn count(&self, done: bool) {
        if !done {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        self.last_done.store(now, Ordering::Relaxed);
    }
}

/// What is looked at when somebody asks.
pub(crate) struct Watched {
    pub(crate) live: Arc<Live>,
    pub(crate) lists: Arc<Lists>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) reloads: Arc<Reloads>,
    /// What clients are shown.
    pub(crate) shown: Arc<Mutex<Vec<Arc<Certificates>>>>,
    pub(crate) draining: watch::Receiver<Stage>,
}

/// The views.
pub(crate) struct Observed {
    watched: Arc<Watched>,
    registry: Registry,
}

impl Observed {
    pub(crate) fn new(watched: Watched, metrics: &Metrics) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        metrics.register(&mut registry);
        let watched = Arc::new(watched);
        registry.register_collector(Box::new(Seen(Arc::clone(&watched))));
        Self { watched, registry }
    }
}

impl Views for Observed {
    fn ready(&self) -> Result<(), String> {
        if *self.watched.draining.borrow() == Stage::Stopping {
            return Err("stopping".to_owned());
        }
        if self.watched.journal.is_failing() {
            return Err("the audit trail can't be written".to_owned());
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => {
                tracing::error!(%error, "metrics can't be written");
                String::new()
            }
        }
    }
}

/// What isn't counted but is as it is.
#[derive(Clone)]
struct Seen(Arc<Watched>);

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

/// A sample's labels and value.
type Sample = (Vec<(&'static str, String)>, u64);

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let watched = &self.0;
        let one = |value: u64| vec![(Vec::new(), value)];
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        gauge(&mut encoder, "build", "What runs", vec![(version, 1)])?;
        let failing = u64::from(watched.journal.is_failing());
        let about = "Whether the audit trail can't be written: requests are refused";
        gauge(&mut encoder, "audit_failing", about, one(failing))?;

        let reloads = &watched.reloads;
        let of = |outcome: &str, count: &AtomicU64| {
            let labels = vec![("outcome", outcome.to_owned())];
            (labels, count.load(Ordering::Relaxed))
        };
        let counts = vec![of("done", &reloads.done), of("refused", &reloads.refused)];
        counter(
            &mut encoder,
            "reloads",
            "Configurations put in force, or refused",
            counts,
        )?;
        let last = reloads.last_done.load(Ordering::Relaxed);
        let about = "When a configuration was put in force last, in seconds since the epoch";
        gauge(
            &mut encoder,
            "last_reload_timestamp_seconds",
            about,
            one(last),
        )?;

        let shown = watched
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let ends = |of: fn(&Certificates) -> Vec<(String, SystemTime)>| {
            let mut ends: Vec<Sample> = Vec::new();
            for (certificate, end) in shown.iter().flat_map(|all| of(all)) {
                let end = end.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
                let labels = vec![("certificate", certificate)];
                if !ends.iter().any(|(known, _)| *known == labels) {
                    ends.push((labels, end));
                }
            }
            ends
        };
        gauge(
            &mut encoder,
            "certificate_end_timestamp_seconds",
            "When a certificate that clients are shown ends, in seconds since the epoch",
            ends(Certificates::ends),
        )?;
        gauge(
            &mut encoder,
            "ocsp_end_timestamp_seconds",
            "When the OCSP response of a certificate ends, in seconds since the epoch",
            ends(Certificates::staple_ends),
        )?;

        let [mut healthy, mut ejected, mut active] = [const { Vec::<Sample>::new() }; 3];
        let mut waiting = Vec::new();
        for upstream in watched.live.current().upstreams.iter() {
            let name = ("upstream", upstream.name().to_owned());
            waiting.push((vec![name.clone()], upstream.waiting() as u64));
            for endpoint in upstream.endpoints() {
                let labels = vec![name.clone(), ("endpoint", endpoint.address.to_string())];
                healthy.push((labels.clone(), u64::from(endpoint.healthy)));
                ejected.push((labels.clone(), u64::from(endpoint.ejected)));
                active.push((labels, endpoint.active as u64));
            }
        }
        let about = "Whether an endpoint passes its health check";
        gauge(&mut encoder, "endpoint_healthy", about, healthy)?;
        let about = "Whether an endpoint is set aside because its requests failed";
        gauge(&mut encoder, "endpoint_ejected", about, ejected)?;
        let about = "Requests that an endpoint has";
        gauge(&mut encoder, "endpoint_active_requests", about, active)?;
        let about = "Requests that wait for a turn or a connection";
        gauge(&mut encoder, "upstream_waiting_requests", about, waiting)?;

        self.encode_issuers(&mut encoder)?;
        self.encode_introspection(&mut encoder)?;
        self.encode_api_keys(&mut encoder)?;

        if let Some((held, most)) = watched.live.current().issuers.uses().map(Uses::held) {
            let about = "Used tokens that are remembered, of those that are good once";
            gauge(&mut encoder, "used_tokens", about, one(held as u64))?;
            let about = "Used tokens that can be remembered: above, none is good";
            gauge(&mut encoder, "used_tokens_most", about, one(most as u64))?;
        }

        let tasks = watched.live.current().metrics.runtimes.tasks().into_iter();
        let tasks = tasks.map(|(name, count)| (vec![("runtime", name)], count as u64));
        let about = "Tasks that are alive, of a runtime";
        gauge(&mut encoder, "tasks", about, tasks.collect())?;

        let sizes = watched.lists.sizes().into_iter();
        let sizes = sizes.map(|size| {
            let labels = vec![("list", size.list), ("trusted", size.trusted.to_string())];
            (labels, size.entries as u64)
        });
        gauge(
            &mut encoder,
            "list_entries",
            "Prefixes of a list",
            sizes.collect(),
        )?;
        self.encode_kernel(&mut encoder)
    }
}

impl Seen {
    fn encode_introspection(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gateway = self.0.live.current();
        let mut asked = Vec::new();
        for introspector in gateway.issuers.asked() {
            let counts = introspector.counts();
            for (outcome, count) in [
                ("active", counts.active),
                ("inactive", counts.inactive),
                ("failed", counts.failed),
                ("busy", counts.busy),
            ] {
                let issuer = ("issuer", introspector.rules().name.clone());
                asked.push((vec![issuer, ("outcome", outcome.to_owned())], count));
            }
        }
        let about = "Questions to issuers about tokens, since the last reload";
        counter(encoder, "introspections", about, asked)
    }

    fn encode_api_keys(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gateway = self.0.live.current();
        let of = |keys: &Arc<ApiKeys>| {
            let labels = vec![("source", keys.rules().name.clone())];
            (labels, keys.count() as u64)
        };
        let counts = gateway.issuers.api_keys().map(of).collect();
        gauge(encoder, "api_keys", "API keys that are in force", counts)
    }

    fn encode_issuers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let [mut keys, mut good, mut outlived, mut fetches] = [const { Vec::<Sample>::new() }; 4];
        for issuer in self.0.live.current().issuers.iter() {
            let report = issuer.keys().report();
            let name = ("issuer", issuer.rules().name.clone());
            keys.push((vec![name.clone()], report.count as u64));
            outlived.push((vec![name.clone()], u64::from(report.outlived)));
            if let Some(at) = report.good {
                let at = at.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
                good.push((vec![name.clone()], at));
            }
            for (outcome, count) in [("done", report.fetched), ("failed", report.failed)] {
                let labels = vec![name.clone(), ("outcome", outcome.to_owned())];
                fetches.push((labels, count));
            }
        }
        let about = "Keys of an issuer that are in force";
        gauge(encoder, "issuer_keys", about, keys)?;
        let about = "When an issuer's keys could be had last, in seconds since the epoch";
        gauge(encoder, "issuer_keys_good_timestamp_seconds", about, good)?;
        let about =
            "Whether an issuer's keys could not be had for too long: its tokens are refused";
        gauge(encoder, "issuer_keys_outlived", about, outlived)?;
        let about = "Times that an issuer's keys were read or fetched, or could not be";
        counter(encoder, "issuer_key_fetches", about, fetches)
    }

    fn encode_kernel(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counted = self.0.lists.with_kernel(|kernel| kernel.counters().ok());
        let guarded = u64::from(counted.is_some());
        let about = "Whether the kernel side is there";
        gauge(
            encoder,
            "kernel_guarded",
            about,
            vec![(Vec::new(), guarded)],
        )?;
        let (mut packets, mut bytes) = (Vec::<Sample>::new(), Vec::<Sample>::new());
        for count in counted.flatten().unwrap_or_default() {
            let labels = vec![
                ("reason", count.reason.name().to_owned()),
                (
                    "dropped",
                    (count.reason.drops() && !count.monitored).to_string(),
                ),
                ("monitored", count.monitored.to_string()),
            ];
            packets.push((labels.clone(), count.packets));
            bytes.push((labels, count.bytes));
        }
        let about = "Packets that the kernel side judged, by reason";
        counter(encoder, "kernel_packets", about, packets)?;
        counter(encoder, "kernel_bytes", "Their bytes", bytes)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    about: &str,
    samples: Vec<Sample>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, about, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        let value = ConstGauge::<i64>::new(value.try_into().unwrap_or(i64::MAX));
        if labels.is_empty() {
            return value.encode(family);
        }
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    about: &str,
    samples: Vec<Sample>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, about, None, MetricType::Counter)?;
    for (labels, value) in samples {
        ConstCounter::<u64>::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
