//! What the command line prints for people; `--json` prints the reply itself.

mod feeds;
mod tokens;
mod why;

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    admin::{BadLineReport, Changed, CutReport, InterfaceStatus, LimitReport, Status, Tested},
    lists::{Entry, PendingReport},
};

pub(crate) use self::{
    feeds::{feed, feeds, refreshed},
    tokens::revoked,
    why::why,
};

/// A point in time, to the second.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A point in time, given in milliseconds since the epoch.
pub(crate) fn rfc3339_ms(ms: u64) -> String {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .map_or_else(|| "never".to_owned(), rfc3339)
}

fn seconds(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string()
}

pub(crate) fn entries(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let _ = writeln!(text, "{}", entry_line(entry));
    }
    text
}

pub(crate) fn changed(changed: &Changed) -> String {
    let Changed {
        added,
        extended,
        removed,
        unchanged,
        ..
    } = changed;
    if changed.dry_run {
        return format!(
            "nothing was changed; {added} would be added, {extended} changed, {removed} removed, {unchanged} stay as they are\n"
        );
    }
    let text = format!("{} changed, {unchanged} as they were\n", changed.changed);
    text + &reverts(changed.pending)
}

/// Of a change that waits to be confirmed.
pub(crate) fn reverts(pending: Option<u64>) -> String {
    let told =
        |id| format!("it reverts by itself unless `portcullis confirm {id}` comes in time\n");
    pending.map(told).unwrap_or_default()
}

pub(crate) fn pending(pending: &[PendingReport]) -> String {
    let mut text = String::new();
    for change in pending {
        let left = seconds(change.left_ms);
        let _ = writeln!(text, "{}: {}, {left} left", change.id, change.what);
    }
    let _ = writeln!(text, "{} changes wait to be confirmed", pending.len());
    text
}

pub(crate) fn confirmed(confirmed: &[PendingReport]) -> String {
    let mut text = String::new();
    for change in confirmed {
        let _ = writeln!(text, "{}: {} stays", change.id, change.what);
    }
    text
}

fn entry_line(entry: &Entry) -> String {
    let mut line = format!(
        "{:<20} {:<16} since {}",
        entry.prefix.to_string(),
        entry.list,
        rfc3339_ms(entry.added_ms)
    );
    if let (Some(until), Some(left)) = (entry.until_ms, entry.left_ms) {
        let _ = write!(
            line,
            "  until {} ({} left)",
            rfc3339_ms(until),
            seconds(left)
        );
    }
    if let Some(reason) = &entry.reason {
        // An operator's own words, but perhaps pasted from somewhere.
        let _ = write!(line, "  {}", reason.escape_debug());
    }
    line
}

pub(crate) fn bad_lines(lines: &[BadLineReport]) -> String {
    let mut text = each_bad_line(lines);
    let _ = writeln!(
        text,
        "{} bad lines; nothing was changed. Mend or remove them and import again.",
        lines.len()
    );
    text
}

/// Cuts that are told one by one; a list that needs more is a strange one.
const CUTS_TOLD: usize = 20;

pub(crate) fn cuts(cuts: &[CutReport]) -> String {
    let mut text = String::new();
    for CutReport {
        entry,
        around,
        what,
    } in cuts.iter().take(CUTS_TOLD)
    {
        let _ = writeln!(text, "left {around} out of {entry}: {what}");
    }
    if let Some(more) = cuts.len().checked_sub(CUTS_TOLD).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more; the audit trail has them all");
    }
    text
}

/// Of a list that was taken all the same.
pub(crate) fn left_out(lines: &[BadLineReport]) -> String {
    let mut text = each_bad_line(lines);
    let _ = writeln!(text, "{} bad lines were left out", lines.len());
    text
}

fn each_bad_line(lines: &[BadLineReport]) -> String {
    let mut text = String::new();
    for line in lines {
        let content = line.text.escape_debug();
        let _ = writeln!(text, "line {}: {content}: {}", line.number, line.problem);
    }
    text
}

pub(crate) fn tested(tested: &Tested) -> String {
    let verdict = if tested.dropped { "dropped" } else { "passes" };
    let mut text = format!("{} is {}: {verdict}\n", tested.address, tested.standing);
    for entry in &tested.entries {
        let kind = if entry.trusted { "trusted" } else { "blocked" };
        let _ = writeln!(text, "  {kind} by {}", entry_line(entry));
    }
    text
}

pub(crate) fn limits(limits: &[LimitReport]) -> String {
    let mut text = String::new();
    for limit in limits {
        let _ = match limit.rate {
            0 => writeln!(text, "{:<18} off", limit.limit),
            rate => writeln!(
                text,
                "{:<18} {rate:>12} a second, {} at once, {}",
                limit.limit, limit.burst, limit.mode
            ),
        };
    }
    text
}

pub(crate) fn interfaces(interfaces: &[InterfaceStatus]) -> String {
    let mut text = String::new();
    for interface in interfaces {
        let InterfaceStatus {
            interface: name,
            mode,
            program_id,
            ..
        } = interface;
        let _ = match mode.as_str() {
            "none" => writeln!(
                text,
                "NOT GUARDING {name}: its program was taken off; restart portcullis to attach again"
            ),
            "absent" => writeln!(
                text,
                "NOT GUARDING {name}: there is no such interface; it is guarded when it comes"
            ),
            mode => {
                let how = if interface.adopted { ", adopted" } else { "" };
                writeln!(
                    text,
                    "guarding {name} ({mode} XDP, program {program_id}{how})"
                )
            }
        };
        for obstacle in &interface.obstacles {
            let _ = writeln!(text, "  {obstacle}");
        }
    }
    text
}

/// What a reload did.
pub(crate) fn reloaded(changes: &[String]) -> String {
    let lines: String = changes
        .iter()
        .map(|change| format!("  {change}\n"))
        .collect();
    format!("reloaded\n{lines}")
}

pub(crate) fn status(status: &Status) -> String {
    let mut text = format!(
        "portcullis {} (pid {}), up {}{}\n",
        status.version,
        status.pid,
        seconds(status.uptime_ms),
        if status.draining { ", draining" } else { "" }
    );
    for listener in &status.listeners {
        let _ = writeln!(text, "listening on {listener}");
    }
    text.push_str(&interfaces(&status.interfaces));
    if let Some(why) = &status.without_kernel {
        let _ = writeln!(text, "WITHOUT THE KERNEL SIDE: {why}");
    }
    for list in &status.lists {
        let kind = match (list.trusted, list.mode.as_str()) {
            (true, _) => "trusted",
            (false, "monitor") => "watched",
            (false, _) => "blocked",
        };
        let _ = writeln!(
            text,
            "list {:<16} {kind:<8} {:>9} entries",
            list.list, list.entries
        );
    }
    for reason in status.reasons.iter().filter(|reason| reason.packets > 0) {
        let verdict = match (reason.dropped, reason.monitored) {
            (true, _) => "dropped",
            (false, true) => "watched",
            (false, false) => "passed",
        };
        let _ = writeln!(
            text,
            "{verdict} {:<20} {:>12} packets {:>15} bytes",
            reason.reason, reason.packets, reason.bytes
        );
    }
    let health = if status.audit_failing {
        "  FAILING: requests are refused until it can be written again"
    } else {
        ""
    };
    let _ = writeln!(text, "audit trail {}{health}", status.audit_path);
    text
}
