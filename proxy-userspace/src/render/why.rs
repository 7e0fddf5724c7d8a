//! All that bears on an address.

use std::fmt::Write as _;

use super::{entry_line, rfc3339_ms};
use crate::admin::{Covering, CoveringLimit, Why};

pub(crate) fn why(why: &Why) -> String {
    let mut text = format!("{}: {}\n", why.address, why.verdict);
    for covering in &why.entries {
        let _ = writeln!(text, "  {}", covering_line(covering));
    }
    for CoveringLimit { limit, counted_as } in &why.limits {
        let _ = writeln!(
            text,
            "  limit {} {} a second, {} at once, {}, counted as {counted_as}",
            limit.limit, limit.rate, limit.burst, limit.mode
        );
    }
    if !why.interfaces.is_empty() {
        let since = rfc3339_ms(why.since_ms);
        let _ = match (why.drops.packets, why.drops.samples) {
            (0, _) => writeln!(text, "  no drop of it was sampled since {since}"),
            (packets, samples) => writeln!(
                text,
                "  about {packets} packets against a list or limit since {since}, from {samples} samples"
            ),
        };
    }
    for sample in &why.drops.last {
        let what = if sample.monitored {
            "watched"
        } else {
            "dropped"
        };
        let _ = writeln!(
            text,
            "    {} {what} {}, {} bytes, on {}",
            rfc3339_ms(sample.at_ms),
            sample.reason,
            sample.bytes,
            sample.interface
        );
    }
    text
}

fn covering_line(covering: &Covering) -> String {
    let Covering {
        entry,
        mode,
        wins,
        source,
        line,
    } = covering;
    let kind = match (entry.trusted, mode.as_str()) {
        (true, _) => "trusted",
        (false, "monitor") => "watched",
        (false, _) => "blocked",
    };
    let mark = if *wins { "wins:" } else { "     " };
    let mut text = format!("{mark} {kind} by {}", entry_line(entry));
    match (source, line) {
        (Some(source), Some(line)) => {
            let _ = write!(text, "  line {line} of {}", source.escape_debug());
        }
        (Some(source), None) => {
            let _ = write!(text, "  from {}", source.escape_debug());
        }
        (None, _) => {}
    }
    text
}
