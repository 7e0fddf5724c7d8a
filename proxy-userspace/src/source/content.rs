//! What a source said, read: its entries, what is wrong with it, and by what it is known again.

use std::{collections::HashSet, fmt::Write as _, io};

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;

use super::{
    Feeds, Kept,
    definition::Feed,
    obtain::ObtainError,
    record::{Identity, Record, SHOWN},
};
use crate::{
    feed::{BadLine, FeedError, UnpackError, read, unpack},
    lifeline::{Cut, cut_around},
    lists::{ListError, Sourced},
};

/// Bad lines that an error tells.
const TOLD: usize = 3;

/// Why a refresh came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error(transparent)]
    Obtain(#[from] ObtainError),
    #[error("it {0}")]
    Unpack(#[from] UnpackError),
    #[error("it is no text (UTF-8): byte {0}")]
    NotText(usize),
    #[error("{0}")]
    Unreadable(#[from] FeedError),
    #[error("{} lines can't be read, and max_bad_lines is {most}: {}", bad.len(), told(bad))]
    BadLines { bad: Vec<BadLine>, most: usize },
    #[error("it holds no entries")]
    Nothing,
    #[error(transparent)]
    List(#[from] ListError),
    #[error("the system gave no thread to read it on: {0}")]
    NoThread(io::Error),
    #[error("reading it was cut off")]
    CutOff,
    #[error("the feed was removed meanwhile; nothing was changed")]
    Removed,
    #[error("what was held back isn't stored any more; nothing was changed: refresh the feed")]
    HeldIsGone,
    #[error(
        "what is held back now is another content, {0}; nothing was changed: look at it again with `portcullis feed show`"
    )]
    HeldIsAnother(String),
}

fn told(bad: &[BadLine]) -> String {
    let mut text = String::new();
    for BadLine {
        number,
        text: line,
        problem,
    } in bad.iter().take(TOLD)
    {
        let _ = write!(text, "line {number} ({}) {problem}; ", line.escape_debug());
    }
    match bad.len().checked_sub(TOLD) {
        Some(more) if more > 0 => text.push_str(&format!("and {more} more")),
        _ => text.truncate(text.len().saturating_sub(2)),
    }
    text
}

impl Feeds {
    /// The entries of a content, cut around what keeps this host reachable.
    pub(super) fn read(
        &self,
        kept: &Kept,
        bytes: &[u8],
    ) -> Result<(Record, Vec<Sourced>), RefreshError> {
        let feed = &kept.feed;
        let text = unpack(bytes, feed.largest)?;
        let text = std::str::from_utf8(&text)
            .map_err(|error| RefreshError::NotText(error.valid_up_to()))?;
        let most = feed.reading.max_bad_lines;
        let mut found = match read(text, &feed.reading) {
            Err(FeedError::BadLines(bad)) => return Err(RefreshError::BadLines { bad, most }),
            found => found?,
        };
        let is_wide = |prefix: &IpNet| self.widest.check([prefix].into_iter()).is_err();
        for entry in found.entries.extract_if(.., |entry| is_wide(&entry.prefix)) {
            found.bad.push(BadLine {
                number: entry.line,
                text: entry.prefix.to_string(),
                problem: "is wider than lists.widest allows".to_owned(),
            });
        }
        if found.bad.len() > most {
            let bad = found.bad;
            return Err(RefreshError::BadLines { bad, most });
        }
        let entries = found.entries.iter();
        let entries = entries.map(|it| (it.prefix, (it.line as u32, it.left)));
        let mut entries: Vec<_> = entries.collect();
        let mut cuts = Vec::new();
        if !feed.definition.trusted {
            (entries, cuts) = cut_around(entries, &self.lifelines.observe(None));
        }
        let mut named = HashSet::with_capacity(entries.len());
        entries.retain(|(prefix, _)| named.insert(*prefix));
        let cut = |Cut { entry, around }: &Cut| format!("{entry} around {around}");
        let record = Record {
            format: Some(found.format.name().to_owned()),
            bad_lines: found.bad.len(),
            bad: found.bad.into_iter().take(SHOWN).collect(),
            below_score: found.below_score,
            cuts: cuts.len(),
            cut: cuts.iter().take(SHOWN).map(cut).collect(),
            paused: kept.record().paused,
            ..Record::default()
        };
        let sourced = entries.into_iter().map(|(prefix, (line, lasts))| Sourced {
            prefix,
            line,
            lasts,
        });
        Ok((record, sourced.collect()))
    }
}

impl Kept {
    /// What a content is known by: its bytes, and what decides which entries come of them.
    pub(super) fn digest(&self, bytes: &[u8]) -> String {
        format!("{}/{}", hex(bytes), self.reading_digest())
    }

    fn reading_digest(&self) -> String {
        let Feed {
            reading,
            definition,
            ..
        } = &self.feed;
        hex(format!("{reading:?} {}", definition.trusted).as_bytes())
    }

    /// A server that is asked by the validators of a content that was read in another way would only
    /// say that it hasn't changed.
    pub(super) fn forget_if_read_otherwise(&self, record: &mut Record) {
        let now = self.reading_digest();
        let is_other = |it: &Identity| !it.digest.ends_with(&now);
        record.content = record.content.take().filter(|it| !is_other(it));
        record.held = record.held.take().filter(|it| !is_other(&it.content));
    }
}

/// The first half of a SHA-256, which nobody finds another content for.
fn hex(bytes: &[u8]) -> String {
    hexadecimal(&digest(&SHA256, bytes).as_ref()[..16])
}

/// Two digits a byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
