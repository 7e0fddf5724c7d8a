//! What is known of a feed, over restarts.

use gateway::Validators;
use serde::{Deserialize, Serialize};

use crate::feed::BadLine;

/// Bad lines and cuts that are kept in full.
pub(crate) const SHOWN: usize = 20;

/// What came of a feed's refreshes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// Of the content that is in force.
    pub(crate) content: Option<Identity>,
    /// When the source was last asked, in milliseconds since the epoch.
    pub(crate) tried_ms: Option<u64>,
    /// When it last gave a good answer.
    pub(crate) good_ms: Option<u64>,
    /// When the list last changed.
    pub(crate) changed_ms: Option<u64>,
    /// The content's format.
    pub(crate) format: Option<String>,
    /// Lines that were left out, and the first of them.
    pub(crate) bad_lines: usize,
    pub(crate) bad: Vec<BadLine>,
    /// Entries that were left out for their score.
    pub(crate) below_score: usize,
    /// Entries that were cut around what keeps this host reachable, and the first of them.
    pub(crate) cuts: usize,
    pub(crate) cut: Vec<String>,
    /// Refreshes that failed since the last good one, and why the last one did.
    pub(crate) failures: u32,
    pub(crate) problem: Option<String>,
    pub(crate) paused: bool,
    pub(crate) held: Option<Held>,
}

/// By what a content is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The first 128 bits of SHA-256 of the content, a slash, and those of what decides how it is
    /// read; hexadecimal.
    pub(crate) digest: String,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

impl Identity {
    /// By what operators know it: the first 64 bits.
    pub(crate) fn shown(&self) -> &str {
        self.digest.get(..16).unwrap_or_default()
    }

    pub(crate) fn validators(&self) -> Validators {
        Validators {
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
        }
    }
}

/// A content that was held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) content: Identity,
    pub(crate) why: String,
    pub(crate) since_ms: u64,
    pub(crate) entries: usize,
}

impl Held {
    /// How it is let in, and nothing that came later.
    pub(crate) fn remedy(&self, name: &str) -> String {
        let digest = self.content.shown();
        format!("let it in with `portcullis feed accept {name} --digest {digest}`")
    }
}

/// A feed as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeedReport {
    pub(crate) name: String,
    /// A path, a URL or `standard input`.
    pub(crate) source: String,
    /// `configuration` or `command line`.
    pub(crate) defined_in: String,
    pub(crate) trusted: bool,
    /// `enforce` or `monitor`.
    pub(crate) mode: String,
    /// `good`, `waiting`, `failing`, `held`, `reverted` or `paused`.
    pub(crate) state: String,
    /// Entries of its list.
    pub(crate) entries: usize,
    pub(crate) refresh_ms: u64,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) min_score: Option<u64>,
    /// When the source will be asked next, in milliseconds since the epoch.
    pub(crate) next_ms: Option<u64>,
    #[serde(flatten)]
    pub(crate) record: Record,
}

impl Record {
    /// How the feed is, in one word.
    pub(crate) fn state(&self) -> &'static str {
        if self.paused {
            "paused"
        } else if self.held.is_some() {
            "held"
        } else if self.problem.is_some() {
            "failing"
        } else if self.content.is_some() {
            "good"
        } else if self.changed_ms.is_some() {
            "reverted"
        } else {
            "waiting"
        }
    }
}
