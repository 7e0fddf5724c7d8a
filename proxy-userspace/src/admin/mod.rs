//! The admin socket: what the command line asks of the daemon.
//!
//! ```text
//! protocol  requests and replies, one JSON line each
//! server    the daemon's end; peers are known by their credentials
//! long      requests of megabytes, apart from those that are served
//! lists     entries of lists, changed and shown
//! feeds     lists with a source
//! why       all that bears on an address
//! interfaces  those that are guarded
//! limits    the kernel's limits, shown and set
//! tokens    those that are taken back
//! trace     what each stage decides, told as it happens
//! client    the command line's end
//! ```

mod client;
mod feeds;
mod interfaces;
mod limits;
mod lists;
mod long;
mod protocol;
mod server;
mod tokens;
mod trace;
mod why;

use std::time::Duration;

use datapath::Standing;
use proxy_common::Mode;

use crate::{lifeline::Cut, lists::Outcome};

pub(crate) use client::{ask, ask_on};
pub(crate) use protocol::{
    BadLineReport, Changed, CutReport, InterfaceStatus, LimitReport, ListSize, Manner,
    ReasonStatus, Reply, Request, Status, Tested,
};
pub(crate) use server::{Admin, AdminError, Order, bind};
pub(crate) use trace::LONGEST as LONGEST_TRACE;
pub(crate) use why::{Covering, CoveringLimit, Why};

/// Where the socket is when the configuration says nothing.
pub(crate) const DEFAULT_SOCKET: &str = "/run/portcullis/admin.sock";

/// Longest line either end reads: a list of a million entries and room to spare.
pub(crate) const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// `enforce` or `monitor`, in replies.
fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Monitor => "monitor",
    }
}

/// What lists say of an address, in replies, and whether its packets are dropped.
fn standing_name(standing: Standing) -> (&'static str, bool) {
    match standing {
        Standing::Unlisted => ("unlisted", false),
        Standing::Trusted => ("trusted", false),
        Standing::Blocked => ("blocked", true),
        Standing::Banned { .. } => ("banned", true),
        Standing::Monitored => ("monitored", false),
    }
}

/// A ban of a century is for good, and its end can still be written down (RFC 3339 ends in 9999).
fn bounded(ms: u64) -> Duration {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
    Duration::from_millis(ms).min(CENTURY)
}

fn confirm(manner: Manner) -> Option<Duration> {
    manner.confirm_ms.map(bounded)
}

/// What a change did, in replies.
fn changed(outcome: Outcome, manner: Manner, cuts: Vec<Cut>) -> Changed {
    let report = |Cut { entry, around }| CutReport {
        entry,
        around: around.prefix,
        what: around.what,
    };
    Changed {
        dry_run: manner.dry_run,
        changed: outcome.touched(),
        unchanged: outcome.unchanged,
        added: outcome.added,
        extended: outcome.changed,
        removed: outcome.removed,
        cut: cuts.into_iter().map(report).collect(),
        pending: outcome.pending,
    }
}
