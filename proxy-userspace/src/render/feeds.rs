//! Lists with a source.

use std::fmt::Write as _;

use super::{changed, rfc3339_ms, seconds};
use crate::{admin::Changed, source::FeedReport};

pub(crate) fn feeds(feeds: &[FeedReport]) -> String {
    let mut text = String::new();
    for feed in feeds {
        let _ = writeln!(
            text,
            "{:<16} {:<8} {:>9} entries  changed {:<20}  {}",
            feed.name,
            feed.state,
            feed.entries,
            when(feed.record.changed_ms),
            feed.source.escape_debug()
        );
        if let Some(why) = trouble(feed) {
            let _ = writeln!(text, "  {why}");
        }
    }
    let _ = writeln!(text, "{} feeds", feeds.len());
    text
}

/// What is wrong, and what may be done about it.
fn trouble(feed: &FeedReport) -> Option<String> {
    let name = &feed.name;
    if let Some(held) = &feed.record.held {
        return Some(format!(
            "HELD BACK since {}: {}, {} entries; {}",
            rfc3339_ms(held.since_ms),
            held.why,
            held.entries,
            held.remedy(name)
        ));
    }
    let problem = feed.record.problem.as_ref()?;
    let times = match feed.record.failures {
        0 | 1 => String::new(),
        failures => format!(" {failures} times"),
    };
    // A server's own words may be in it.
    Some(format!("FAILED{times}: {}", problem.escape_debug()))
}

fn when(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), rfc3339_ms)
}

pub(crate) fn feed(feed: &FeedReport) -> String {
    let FeedReport { record, .. } = feed;
    let kind = if feed.trusted { "trusted" } else { "blocked" };
    let mut text = format!("{} ({}): {}\n", feed.name, feed.defined_in, feed.state);
    let mut tell = |what: &str, value: String| {
        let _ = writeln!(text, "  {what:<16} {value}");
    };
    tell("source", feed.source.escape_debug().to_string());
    tell("entries", format!("{} {kind}, {}", feed.entries, feed.mode));
    if let Some(format) = &record.format {
        tell("format", format.clone());
    }
    tell("asked every", seconds(feed.refresh_ms));
    if let Some(ttl_ms) = feed.ttl_ms {
        tell("entries stay", seconds(ttl_ms));
    }
    tell("last good answer", when(record.good_ms));
    tell("last asked", when(record.tried_ms));
    tell("last change", when(record.changed_ms));
    if let Some(next_ms) = feed.next_ms {
        tell("asked next", rfc3339_ms(next_ms));
    }
    if let Some(least) = feed.min_score {
        let below = record.below_score;
        tell("least score", format!("{least}; {below} entries left out"));
    }
    if let Some(why) = trouble(feed) {
        tell("trouble", why);
    }
    if record.bad_lines > 0 {
        tell("bad lines", record.bad_lines.to_string());
        for bad in &record.bad {
            let line = bad.text.escape_debug();
            tell("", format!("line {}: {line}: {}", bad.number, bad.problem));
        }
    }
    if record.cuts > 0 {
        tell("cut around", format!("{} lifelines", record.cuts));
        for cut in &record.cut {
            tell("", cut.clone());
        }
    }
    text
}

pub(crate) fn refreshed(name: &str, state: &str, why: Option<&str>, changes: &Changed) -> String {
    match (state, why) {
        ("unchanged", _) => format!("{name}: its source says what it said before\n"),
        (_, Some(why)) => {
            format!("{name}: HELD BACK: {why}; look at it with `portcullis feed show {name}`\n")
        }
        _ => format!("{name}: {}", changed(changes)),
    }
}
