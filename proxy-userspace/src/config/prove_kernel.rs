//! `[kernel]` as proven.

use std::time::Duration;

use datapath::{Pins, Rules};
use proxy_common::{Gcra, KeyLengths, Limit, LimitSetting, Mode, Scope};
use toml::Spanned;

use super::{
    mistake::Prover,
    prove::KernelConfig,
    value::{in_range, prove_duration},
    written,
};

/// The kernel side.
pub(super) fn kernel(prover: &mut Prover<'_>, written: &written::Kernel) -> KernelConfig {
    if written.interfaces.as_ref().is_empty() {
        prover.reject(
            "kernel.interfaces",
            written.interfaces.span(),
            "names no interface",
            "name at least one, or leave out [kernel] to run without XDP",
        );
    }
    let existing = datapath::interface_names();
    for (index, interface) in written.interfaces.as_ref().iter().enumerate() {
        let earlier = written.interfaces.as_ref().iter().take(index);
        if earlier
            .map(Spanned::as_ref)
            .any(|name| name == interface.as_ref())
        {
            prover.reject(
                "kernel.interfaces",
                interface.span(),
                "is named twice",
                "name each interface once",
            );
        }
        if !existing.contains(interface.as_ref()) {
            prover.reject(
                "kernel.interfaces",
                interface.span(),
                "no such network interface",
                format!("this host has: {}", existing.join(", ")),
            );
        }
    }
    let bpffs = written
        .bpffs
        .clone()
        .unwrap_or_else(|| "/sys/fs/bpf".into());
    let pin_name = written
        .pin_name
        .as_ref()
        .map_or("portcullis", |name| name.as_ref().as_str());
    if let Some(name) = &written.pin_name
        && (pin_name.is_empty() || pin_name.contains(['/', '.']))
    {
        prover.reject(
            "kernel.pin_name",
            name.span(),
            "is no plain name",
            "use letters, digits, - and _",
        );
    }
    KernelConfig {
        interfaces: written
            .interfaces
            .as_ref()
            .iter()
            .map(|interface| interface.as_ref().clone())
            .collect(),
        pins: Pins::new(bpffs.join(pin_name)),
        bpffs,
        required: written.required.unwrap_or(true),
        rules: prove_rules(prover, written),
    }
}

fn prove_rules(prover: &mut Prover<'_>, written: &written::Kernel) -> Rules {
    let limits = &written.limits;
    let named = [
        (Limit::SourcePackets, &limits.source_packets),
        (Limit::SourceBytes, &limits.source_bytes),
        (Limit::SourceSyn, &limits.source_syn),
        (Limit::SourceUdp, &limits.source_udp),
        (Limit::SourceIcmp, &limits.source_icmp),
        (Limit::AggregatePackets, &limits.aggregate_packets),
        (Limit::AggregateBytes, &limits.aggregate_bytes),
        (Limit::AggregateSyn, &limits.aggregate_syn),
        (Limit::AggregateUdp, &limits.aggregate_udp),
        (Limit::AggregateIcmp, &limits.aggregate_icmp),
    ];
    let mut rules = Rules::NONE.with(Limit::SourcePackets, default_source_packets());
    for (limit, written) in named {
        if let Some(written) = written {
            rules = rules.with(limit, prove_limit(prover, limit, written));
        }
    }
    rules.scope = match written.scope.unwrap_or_default() {
        written::Scope::All => Scope::All,
        written::Scope::NewInboundOnly => Scope::NewInboundOnly,
    };
    rules.source_key = prove_key(prover, "source_prefix", &limits.source_prefix, (32, 64));
    rules.aggregate_key = prove_key(
        prover,
        "aggregate_prefix",
        &limits.aggregate_prefix,
        (24, 56),
    );
    prove_nesting(prover, limits, &rules);
    let rate = written.sample_rate.as_ref();
    let rate = in_range(prover, "kernel.sample_rate", rate, 20, (0, 100_000));
    rules.sample_rate = Gcra::per_second(rate, rate).unwrap_or(Gcra::UNLIMITED);
    rules.fail_open_after = prove_fail_open(prover, written.fail_open_after.as_ref());
    rules
}

/// A restart must not look like an absence.
const SHORTEST_ABSENCE: Duration = Duration::from_secs(5);

fn prove_fail_open(prover: &mut Prover<'_>, written: Option<&Spanned<String>>) -> Option<Duration> {
    let span = written?.span();
    let key = "kernel.fail_open_after";
    let after = prove_duration(prover, key, written, SHORTEST_ABSENCE);
    if after < SHORTEST_ABSENCE {
        let mend = "use at least \"5s\": a restart must not open the gate";
        prover.reject(key, span, "is too short", mend);
    }
    Some(after)
}

/// An aggregate is made of whole sources.
fn prove_nesting(prover: &mut Prover<'_>, written: &written::Limits, rules: &Rules) {
    let bits = |key: &KeyLengths| {
        let ipv6 = key.mask_v6.map(u64::count_ones);
        [key.mask_v4.count_ones(), ipv6[0] + ipv6[1]]
    };
    let spans = |prefix: &Option<written::KeyPrefix>| {
        prefix.as_ref().map_or([None, None], |prefix| {
            [&prefix.ipv4, &prefix.ipv6].map(|bits| bits.as_ref().map(Spanned::span))
        })
    };
    let (sources, aggregates) = (bits(&rules.source_key), bits(&rules.aggregate_key));
    let written = [&written.aggregate_prefix, &written.source_prefix].map(spans);
    for (at, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
        if aggregates[at] <= sources[at] {
            continue;
        }
        let [aggregate, source] = &written;
        let span = aggregate[at].clone().or_else(|| source[at].clone());
        prover.reject(
            &format!("kernel.limits.aggregate_prefix.{family}"),
            span.unwrap_or_default(),
            format!(
                "is {}, and source_prefix.{family} is {}: a source would be larger than its \
                 aggregate",
                aggregates[at], sources[at]
            ),
            "make the aggregate's prefix the shorter one",
        );
    }
}

/// More than a person's browser sends, and far less than a flood.
fn default_source_packets() -> LimitSetting {
    limit_setting(20_000, 20_000, Mode::Enforce)
}

/// A rate of 0 is how an operator says that there is no limit.
pub(crate) fn limit_setting(rate: u64, burst: u64, mode: Mode) -> LimitSetting {
    Gcra::per_second(rate, burst).map_or(LimitSetting::OFF, |gcra| LimitSetting::new(gcra, mode))
}

fn prove_limit(prover: &mut Prover<'_>, limit: Limit, written: &written::Limit) -> LimitSetting {
    let key = |part: &str| format!("kernel.limits.{}.{part}", limit.name());
    let most = Gcra::FASTEST;
    let rate = in_range(prover, &key("rate"), Some(&written.rate), 0, (0, most));
    let burst = written.burst.as_ref();
    // Where there is no limit, its burst means nothing.
    let least = u64::from(rate > 0);
    let burst = in_range(prover, &key("burst"), burst, rate, (least, most));
    let mode = match written.mode.unwrap_or_default() {
        written::Mode::Enforce => Mode::Enforce,
        written::Mode::Monitor => Mode::Monitor,
    };
    limit_setting(rate, burst, mode)
}

fn prove_key(
    prover: &mut Prover<'_>,
    name: &str,
    written: &Option<written::KeyPrefix>,
    (v4, v6): (u32, u32),
) -> KeyLengths {
    let key = |family: &str| format!("kernel.limits.{name}.{family}");
    let Some(written) = written else {
        return KeyLengths::new(v4, v6);
    };
    KeyLengths::new(
        in_range(prover, &key("ipv4"), written.ipv4.as_ref(), v4, (8, 32)),
        in_range(prover, &key("ipv6"), written.ipv6.as_ref(), v6, (16, 128)),
    )
}
