//! A list in any of the formats, and what the format could not hold.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use serde_json::json;

use super::format::Format;
use crate::{lists::Entry, render::rfc3339_ms};

/// The longest timeout of an ipset, in seconds.
const LONGEST_IPSET: u64 = 2_147_483;

/// A list as text.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) text: String,
    /// What the format could not hold, a sentence each.
    pub(crate) lost: Vec<String>,
}

/// What all lists together say of a prefix.
struct Held {
    /// A list it is on.
    list: String,
    /// On how many lists it is.
    lists: usize,
    /// Milliseconds until the last list lets go of it; `None` for good.
    left_ms: Option<u64>,
}

/// Writes entries. Formats that don't name lists hold each prefix once, for as long as the list
/// that holds it longest; IPsum's count is the number of lists.
pub(crate) fn write(entries: &[Entry], format: Format) -> Written {
    let held = by_prefix(entries);
    let mut lost = losses(entries, format);
    let mut text = String::new();
    let out = &mut text;
    match format {
        Format::Csv => csv(out, entries),
        Format::Json => json(out, entries),
        Format::Ipset => {
            let cut = ipset(out, &held);
            if cut > 0 {
                lost.push(format!(
                    "{cut} entries end sooner than here: an ipset holds none longer than {LONGEST_IPSET} seconds"
                ));
            }
        }
        Format::Nft => nft(out, &held),
        Format::Plain | Format::Ipsum | Format::Spamhaus | Format::SpamhausJson | Format::Range => {
            for (prefix, held) in &held {
                line(out, format, *prefix, held);
            }
            if format == Format::SpamhausJson {
                let last = json!({ "type": "metadata", "records": held.len() });
                let _ = writeln!(out, "{last}");
            }
        }
    }
    Written { text, lost }
}

fn by_prefix(entries: &[Entry]) -> BTreeMap<IpNet, Held> {
    let mut all: BTreeMap<IpNet, Held> = BTreeMap::new();
    for entry in entries {
        all.entry(entry.prefix)
            .and_modify(|held| {
                held.lists += 1;
                // `None` is for good, and longer than anything.
                held.left_ms = held
                    .left_ms
                    .zip(entry.left_ms)
                    .map(|(one, two)| one.max(two));
            })
            .or_insert_with(|| Held {
                list: entry.list.clone(),
                lists: 1,
                left_ms: entry.left_ms,
            });
    }
    all
}

fn losses(entries: &[Entry], format: Format) -> Vec<String> {
    let count = |has: fn(&&Entry) -> bool| entries.iter().filter(has).count();
    let timed = count(|entry| entry.left_ms.is_some());
    let reasons = count(|entry| entry.reason.is_some());
    let is_record = format.has_fields();
    let mut lost = Vec::new();
    if timed > 0 && !is_record && !matches!(format, Format::Ipset | Format::Nft) {
        lost.push(format!(
            "{timed} entries lose the time of their end, which {format} can't hold"
        ));
    }
    if reasons > 0 && !is_record {
        lost.push(format!(
            "{reasons} entries lose their reason, which {format} doesn't hold"
        ));
    }
    lost
}

fn line(out: &mut String, format: Format, prefix: IpNet, held: &Held) {
    let _ = match format {
        Format::Ipsum => writeln!(out, "{}\t{}", short(prefix), held.lists),
        // There is no record at Spamhaus; the list's name stands in its number's place.
        Format::Spamhaus => writeln!(out, "{prefix} ; {}", tame(&held.list)),
        Format::SpamhausJson => {
            let record = json!({ "cidr": prefix.to_string(), "sblid": held.list });
            writeln!(out, "{record}")
        }
        Format::Range => writeln!(out, "{}-{}", prefix.network(), prefix.broadcast()),
        _ => writeln!(out, "{}", short(prefix)),
    };
}

/// Without the length of a prefix that is one address.
fn short(prefix: IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

/// Fit for one line.
fn tame(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn csv(out: &mut String, entries: &[Entry]) {
    out.push_str("prefix,list,until,reason\n");
    for entry in entries {
        let until = entry.until_ms.map(rfc3339_ms).unwrap_or_default();
        let reason = entry.reason.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "{},{},{until},{}",
            entry.prefix,
            cell(&entry.list),
            cell(reason)
        );
    }
}

/// A cell of CSV, in quotes where it needs them (RFC 4180).
fn cell(text: &str) -> String {
    let text = tame(text);
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

fn json(out: &mut String, entries: &[Entry]) {
    out.push('[');
    for (index, entry) in entries.iter().enumerate() {
        let record = json!({
            "prefix": entry.prefix.to_string(),
            "list": entry.list,
            "until": entry.until_ms.map(rfc3339_ms),
            "reason": entry.reason,
        });
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\n{record}");
    }
    out.push_str("\n]\n");
}

/// For `ipset restore`: a set for each family. Returns how many timeouts were cut short.
fn ipset(out: &mut String, held: &BTreeMap<IpNet, Held>) -> usize {
    let mut cut = 0;
    for (family, version) in [("inet", 4), ("inet6", 6)] {
        let of_family = || held.iter().filter(|(prefix, _)| is_of(prefix, version));
        let room = of_family().count().max(65_536);
        let _ = writeln!(
            out,
            "create portcullis-v{version} hash:net family {family} maxelem {room} timeout 0"
        );
        for (prefix, held) in of_family() {
            let _ = write!(out, "add portcullis-v{version} {}", short(*prefix));
            if let Some(left_ms) = held.left_ms {
                let seconds = left_ms.div_ceil(1_000).max(1);
                cut += usize::from(seconds > LONGEST_IPSET);
                let _ = write!(out, " timeout {}", seconds.min(LONGEST_IPSET));
            }
            out.push('\n');
        }
    }
    cut
}

fn is_of(prefix: &IpNet, version: u8) -> bool {
    matches!(
        (prefix.addr(), version),
        (IpAddr::V4(_), 4) | (IpAddr::V6(_), 6)
    )
}

/// For `nft -f`: sets of what is blocked for good and of what is banned, for each family.
///
/// nft 1.0 merges overlapping elements and gives all of them the time of one, so only what is
/// blocked for good may be merged. Bans within bans go to sets of their own, one for each depth.
fn nft(out: &mut String, held: &BTreeMap<IpNet, Held>) {
    out.push_str("table inet portcullis {\n");
    for version in [4, 6] {
        let of_family = || held.iter().filter(|(prefix, _)| is_of(prefix, version));
        let blocked = of_family().filter(|(_, held)| held.left_ms.is_none());
        let blocked: Vec<_> = blocked.map(|(prefix, _)| short(*prefix)).collect();
        let name = format!("blocked_v{version}");
        nft_set(out, &name, version, "interval\n\t\tauto-merge", &blocked);
        let mut around: Vec<IpNet> = Vec::new();
        let mut depths: Vec<Vec<String>> = vec![Vec::new()];
        // In this order, a prefix comes before those within it.
        for (prefix, held) in of_family() {
            let Some(left_ms) = held.left_ms else {
                continue;
            };
            around.retain(|outer| outer.contains(prefix));
            if depths.len() <= around.len() {
                depths.push(Vec::new());
            }
            if let Some(depth) = depths.get_mut(around.len()) {
                depth.push(format!("{} timeout {}", short(*prefix), nft_time(left_ms)));
            }
            around.push(*prefix);
        }
        for (depth, banned) in depths.iter().enumerate() {
            let name = match depth {
                0 => format!("banned_v{version}"),
                _ => format!("banned_v{version}_within_{depth}"),
            };
            nft_set(out, &name, version, "interval, timeout", banned);
        }
    }
    out.push_str("}\n");
}

fn nft_set(out: &mut String, name: &str, version: u8, flags: &str, elements: &[String]) {
    let _ = writeln!(
        out,
        "\tset {name} {{\n\t\ttype ipv{version}_addr\n\t\tflags {flags}"
    );
    if !elements.is_empty() {
        let _ = writeln!(
            out,
            "\t\telements = {{ {} }}",
            elements.join(",\n\t\t\t     ")
        );
    }
    out.push_str("\t}\n");
}

/// nft refuses 3153600000s and takes 36500d.
fn nft_time(left_ms: u64) -> String {
    let seconds = left_ms.div_ceil(1_000).max(1);
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    match (days, seconds) {
        (0, seconds) => format!("{seconds}s"),
        (days, 0) => format!("{days}d"),
        (days, seconds) => format!("{days}d{seconds}s"),
    }
}
