//! Requests and replies of the admin socket, one JSON line each.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::why::Why;
use crate::{
    lists::{Entry, Filter, PendingReport, Place},
    revocations::{Revoked, Which},
    source::{Definition, FeedReport},
};

/// A request or reply as a line of its own.
pub(super) fn json_line(said: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    Ok(line)
}

/// What the command line asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Put prefixes on a list.
    Add {
        list: String,
        trusted: bool,
        prefixes: Vec<IpNet>,
        ttl_ms: Option<u64>,
        /// At least twice as long as the last time, of prefixes that were banned before.
        #[serde(default)]
        escalate: bool,
        reason: Option<String>,
        /// Those to block although they are very wide, or cover what keeps the host reachable.
        #[serde(default)]
        force: Vec<IpNet>,
        /// Where the operator's own session comes from.
        #[serde(default)]
        operator: Option<IpAddr>,
        #[serde(flatten)]
        manner: Manner,
    },
    /// Take prefixes off a list.
    Remove {
        list: String,
        prefixes: Vec<IpNet>,
        #[serde(flatten)]
        manner: Manner,
    },
    /// Put what a file holds on a list: all of it or nothing.
    Import {
        list: String,
        trusted: bool,
        /// For as long as `ttl_ms` says.
        prefixes: Vec<IpNet>,
        /// With the milliseconds that the file gives each of them.
        timed: Vec<(IpNet, u64)>,
        ttl_ms: Option<u64>,
        reason: Option<String>,
        /// Where the operator's own session comes from.
        #[serde(default)]
        operator: Option<IpAddr>,
        #[serde(flatten)]
        manner: Manner,
    },
    /// Let a change stay that waits to be confirmed, or all of them.
    Confirm { id: Option<u64> },
    /// Show changes that wait to be confirmed.
    Pending,
    /// Show entries; answered page by page.
    List {
        #[serde(flatten)]
        filter: Filter,
        after: Option<Place>,
        /// Most entries.
        limit: Option<usize>,
    },
    /// What is known of an address.
    Test { address: IpAddr },
    /// All that bears on an address.
    Why { address: IpAddr },
    /// How all lists with a source are.
    Feeds,
    /// How one of them is.
    Feed { name: String },
    /// Ask its source now, or take a content instead.
    RefreshFeed {
        name: String,
        input: Option<String>,
        #[serde(flatten)]
        manner: Manner,
    },
    /// Let in what was held back; only the content whose digest begins so, where one is given.
    AcceptFeed {
        name: String,
        digest: Option<String>,
        #[serde(flatten)]
        manner: Manner,
    },
    /// Stop asking its source, or begin again.
    PauseFeed { name: String, paused: bool },
    /// Begin a list with a source.
    AddFeed { definition: Box<Definition> },
    /// End a list that was begun so.
    RemoveFeed { name: String },
    /// How the daemon is.
    Status,
    /// Read the configuration again.
    Reload,
    /// Hand over to the binary that lies in the daemon's place.
    Upgrade,
    /// The guarded interfaces.
    Interfaces,
    /// Guard one more.
    AddInterface { name: String },
    /// Guard one no more that was added so.
    RemoveInterface { name: String },
    /// The kernel's limits.
    Limits,
    /// Set one of them, until the daemon is started again.
    SetLimit {
        limit: String,
        rate: u64,
        burst: Option<u64>,
        mode: Option<String>,
        /// It reverts by itself when nobody confirms it for so long.
        #[serde(default)]
        confirm_ms: Option<u64>,
    },
    /// Take tokens back: of each of these, all that is given holds.
    RevokeTokens {
        which: Vec<Which>,
        /// Milliseconds since the epoch; for good without it.
        until_ms: Option<u64>,
        reason: Option<String>,
    },
    /// Give tokens back that were revoked by mistake.
    UnrevokeTokens { ids: Vec<u64> },
    /// Show what is revoked about what is given; nothing if that is `known`.
    Revocations {
        about: Which,
        #[serde(default)]
        known: Option<u64>,
    },
    /// Tell what each stage decides on packets from these addresses; answered line by line.
    Trace { target: IpNet, for_ms: u64 },
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// A change was made, is in the kernel and on the disk; or would be made.
    Changed(Changed),
    /// A file was refused; nothing was changed.
    BadLines { lines: Vec<BadLineReport> },
    /// Entries. Where `more` is set, further replies follow.
    Entries {
        entries: Vec<Entry>,
        more: bool,
        /// Behind which entry those begin that were left out because of a limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rest: Option<Place>,
    },
    /// Changes that wait to be confirmed.
    Pending { pending: Vec<PendingReport> },
    /// Changes that stay.
    Confirmed { confirmed: Vec<PendingReport> },
    /// About an address.
    Tested(Tested),
    /// All about an address.
    Why(Box<Why>),
    /// Lists with a source.
    Feeds { feeds: Vec<FeedReport> },
    /// One of them.
    Feed(Box<FeedReport>),
    /// What came of a refresh: `refreshed`, `unchanged` or `held`, and then why.
    Refreshed {
        name: String,
        state: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        #[serde(flatten)]
        changes: Changed,
    },
    /// How the daemon is.
    Status(Box<Status>),
    /// The configuration was read again and is in force.
    Reloaded {
        /// What is other than before, in a few words each.
        changes: Vec<String>,
        /// SHA-256 of the file, in hexadecimal.
        digest: String,
    },
    /// Another process has taken over.
    Upgraded { pid: u32 },
    /// The guarded interfaces.
    Interfaces { interfaces: Vec<InterfaceStatus> },
    /// The kernel's limits in force.
    Limits {
        limits: Vec<LimitReport>,
        /// Under which a change of one waits to be confirmed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pending: Option<u64>,
    },
    /// Tokens that are taken back, or given back.
    Revoked { revoked: Vec<Revoked> },
    /// What is revoked.
    Revocations {
        /// Another number after each change.
        version: u64,
        /// `None` where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revocations: Option<Vec<Revoked>>,
    },
    /// What a stage decided; more replies follow.
    TraceLine { line: String },
    /// A trace is over: lines that were told, and how many of them were lost on the way.
    TraceEnd { lines: u64, lost: u64 },
    /// The request was refused.
    Error { message: String },
}

/// How a change is made.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manner {
    /// Only say what would come of it.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// It reverts by itself when nobody confirms it for so long.
    #[serde(default)]
    pub(crate) confirm_ms: Option<u64>,
}

/// What a change did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// Nothing was done; this is what would be.
    pub(crate) dry_run: bool,
    /// Entries that came out different: added, changed or removed.
    pub(crate) changed: usize,
    pub(crate) unchanged: usize,
    pub(crate) added: usize,
    pub(crate) extended: usize,
    pub(crate) removed: usize,
    /// What was left out of an imported file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cut: Vec<CutReport>,
    /// Under which it waits to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<u64>,
}

/// An entry of an imported file that was cut around what keeps the host reachable.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CutReport {
    pub(crate) entry: IpNet,
    pub(crate) around: IpNet,
    /// What that is.
    pub(crate) what: String,
}

/// A line of an imported file that could not be read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BadLineReport {
    pub(crate) number: usize,
    pub(crate) text: String,
    pub(crate) problem: String,
}

/// What is known of an address.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tested {
    pub(crate) address: IpAddr,
    /// `unlisted`, `trusted`, `blocked`, `banned` or `monitored`.
    pub(crate) standing: String,
    /// Whether its packets are dropped.
    pub(crate) dropped: bool,
    /// Every entry that covers it, shortest prefix first.
    pub(crate) entries: Vec<Entry>,
}

/// How the daemon is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) draining: bool,
    pub(crate) listeners: Vec<String>,
    /// Empty when the proxy works without the kernel side.
    pub(crate) interfaces: Vec<InterfaceStatus>,
    /// Why there is no kernel side, where there is none.
    pub(crate) without_kernel: Option<String>,
    pub(crate) lists: Vec<ListSize>,
    /// Counted since the kernel's tables were made, over restarts.
    pub(crate) reasons: Vec<ReasonStatus>,
    pub(crate) audit_path: String,
    pub(crate) audit_failing: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InterfaceStatus {
    pub(crate) interface: String,
    /// `native` or `generic`; `none` when the program has been taken off since, `absent` while there is
    /// no such interface.
    pub(crate) mode: String,
    pub(crate) program_id: u32,
    /// Whether an earlier run's attachment was taken over.
    pub(crate) adopted: bool,
    /// Whether it is in the configuration, or was added at run time.
    pub(crate) configured: bool,
    /// What keeps it from being guarded well, and the command that mends it.
    pub(crate) obstacles: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListSize {
    pub(crate) list: String,
    pub(crate) trusted: bool,
    /// `enforce` or `monitor`.
    pub(crate) mode: String,
    pub(crate) entries: usize,
}

/// A limit of the kernel's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LimitReport {
    pub(crate) limit: String,
    /// Units a second; 0 for no limit.
    pub(crate) rate: u64,
    /// Units at once.
    pub(crate) burst: u64,
    /// `enforce` or `monitor`.
    pub(crate) mode: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReasonStatus {
    pub(crate) reason: String,
    pub(crate) dropped: bool,
    /// Would have been dropped, had its list or limit been enforced.
    pub(crate) monitored: bool,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}
