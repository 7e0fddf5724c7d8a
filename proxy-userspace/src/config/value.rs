//! Single values as proven: durations, numbers in a range, prefixes, files, unique names.

use std::{fs, path::PathBuf, time::Duration};

use ipnet::IpNet;
use toml::Spanned;

use super::mistake::Prover;
use crate::feed::parse_prefix;

pub(super) fn prove_prefix(
    prover: &mut Prover<'_>,
    key: &str,
    entry: &Spanned<String>,
) -> Option<IpNet> {
    parse_prefix(entry.as_ref())
        .map_err(|problem| {
            prover.reject(
                key,
                entry.span(),
                problem,
                "write it like \"192.0.2.7\" or \"2001:db8::/32\"",
            );
        })
        .ok()
}

/// A duration such as `"30s"`, above zero.
pub(super) fn prove_duration(
    prover: &mut Prover<'_>,
    key: &str,
    written: Option<&Spanned<String>>,
    default: Duration,
) -> Duration {
    let Some(written) = written else {
        return default;
    };
    match humantime::parse_duration(written.as_ref()) {
        Ok(duration) if !duration.is_zero() => duration,
        _ => {
            prover.reject(
                key,
                written.span(),
                "is no duration above zero",
                "write it like \"500ms\", \"30s\" or \"5m\"",
            );
            default
        }
    }
}

pub(super) fn in_range<T: Copy + PartialOrd + std::fmt::Display>(
    prover: &mut Prover<'_>,
    key: &str,
    written: Option<&Spanned<T>>,
    default: T,
    (least, most): (T, T),
) -> T {
    let Some(written) = written else {
        return default;
    };
    let value = *written.as_ref();
    if value < least || value > most {
        prover.reject(
            key,
            written.span(),
            "is out of range",
            format!("use {least} to {most}"),
        );
        return default;
    }
    value
}

pub(super) fn read_file(
    prover: &mut Prover<'_>,
    key: &str,
    path: &Spanned<PathBuf>,
) -> Option<Vec<u8>> {
    fs::read(path.as_ref())
        .map_err(|error| {
            prover.reject(
                key,
                path.span(),
                format!("can't be read: {error}"),
                "check the path and its permissions",
            );
        })
        .ok()
}

pub(super) fn reject_repeated<'w>(
    prover: &mut Prover<'_>,
    table: &str,
    values: impl Iterator<Item = &'w Spanned<String>>,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, value) in values.enumerate() {
        if seen.contains(&value.as_ref().as_str()) {
            prover.reject(
                &format!("{table}[{index}]"),
                value.span(),
                format!("another {table} has this already"),
                "names are unique",
            );
        }
        seen.push(value.as_ref());
    }
}
