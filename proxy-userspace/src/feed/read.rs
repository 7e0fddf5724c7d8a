//! Reading a whole list, and how much of it has to be good.

use std::time::Duration;

use ipnet::IpNet;

use super::{columns, detect, format::Format, ipset, json, lines, nft, prefix::PrefixProblem};

/// How much of a bad line is shown.
const SHOWN: usize = 80;

/// Most entries of a list, four times what the tables are made for. A line of a hostile list may be
/// a range of two hundred CIDRs.
const MOST_ENTRIES: usize = 4_000_000;

/// Most bad lines that are kept; whoever has more has another format.
const MOST_BAD_LINES: usize = 100_000;

/// How to read a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// Found from the content where it is `None`.
    pub(crate) format: Option<Format>,
    /// Column of CSV or member of JSON objects that holds the address.
    pub(crate) field: Option<String>,
    /// Entries below it are left out; so are entries without a score in a format that has scores.
    pub(crate) min_score: Option<u64>,
    /// Bad lines up to this many are left out; one more, and the list is refused.
    pub(crate) max_bad_lines: usize,
}

/// A list that was read.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) format: Format,
    /// In the order of the text; the same prefix may be there twice.
    pub(crate) entries: Vec<FeedEntry>,
    /// What was left out because it could not be read.
    pub(crate) bad: Vec<BadLine>,
    /// Entries that `min_score` left out.
    pub(crate) below_score: usize,
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeedEntry {
    pub(crate) prefix: IpNet,
    /// Higher is worse.
    pub(crate) score: Option<u64>,
    /// How long the entry has still to live, where the list says it.
    pub(crate) left: Option<Duration>,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct BadLine {
    /// Counted from 1.
    pub(crate) number: usize,
    /// Its first 80 characters.
    pub(crate) text: String,
    pub(crate) problem: String,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineProblem {
    #[error(transparent)]
    Prefix(#[from] PrefixProblem),
    #[error("is a range, which this format doesn't have; write CIDRs, or use --format range")]
    Range,
    #[error("ends before it begins")]
    RangeReversed,
    #[error("goes from one family to another")]
    RangeOfTwoFamilies,
    #[error("has more on it than an address or CIDR")]
    MoreThanAddress,
    #[error("has more on it than an address and a count")]
    MoreThanCount,
    #[error("is no JSON object: {0}")]
    NoObject(String),
    #[error("is neither a string nor an object")]
    NeitherStringNorObject,
    #[error("has no {0:?} that is a string")]
    NoMember(String),
    #[error("has no column {0}")]
    NoColumn(usize),
    #[error("is no `add SET ENTRY`")]
    NoAdd,
    #[error("is an exception (nomatch), which a list can't hold")]
    Exception,
    #[error("holds more than an address; only sets of addresses and networks can be read")]
    Compound,
    #[error("has a timeout that can't be read: {0:?}")]
    Timeout(String),
}

/// Why a list was refused whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error(
        "the lines are of no known format; name one with --format: {}",
        Format::names()
    )]
    Unknown,
    #[error("some lines look like {0}, others like {1}; name the format with --format: {all}", all = Format::names())]
    Ambiguous(Format, Format),
    #[error("{0} has no fields, so --field says nothing")]
    FieldUnused(Format),
    #[error("which field of the {format} holds the address? Name one with --field: {there}")]
    FieldNeeded { format: Format, there: String },
    #[error("the {format} has no field {field:?}; there are: {there}")]
    NoSuchField {
        format: Format,
        field: String,
        there: String,
    },
    #[error("line {line}: {problem}")]
    Broken { line: usize, problem: String },
    #[error("holds more than {MOST_ENTRIES} entries; import it in parts")]
    TooManyEntries,
    #[error("more than {MOST_BAD_LINES} lines can't be read as {0}; name another format with --format: {all}", all = Format::names())]
    TooManyBadLines(Format),
    #[error("{} bad lines", .0.len())]
    BadLines(Vec<BadLine>),
}

/// What a format's reader has found so far.
#[derive(Default)]
pub(super) struct Found {
    entries: Vec<FeedEntry>,
    bad: Vec<BadLine>,
}

/// What stands on one line.
#[derive(Default)]
pub(super) struct Item {
    pub(super) prefixes: Vec<IpNet>,
    pub(super) score: Option<u64>,
    pub(super) left: Option<Duration>,
}

impl From<IpNet> for Item {
    fn from(prefix: IpNet) -> Self {
        vec![prefix].into()
    }
}

impl From<Vec<IpNet>> for Item {
    fn from(prefixes: Vec<IpNet>) -> Self {
        Self {
            prefixes,
            ..Self::default()
        }
    }
}

impl Found {
    /// Takes what line `line`, which reads `text`, came to.
    pub(super) fn take(
        &mut self,
        line: usize,
        text: &str,
        item: Result<impl Into<Item>, LineProblem>,
    ) {
        if self.entries.len() > MOST_ENTRIES || self.bad.len() > MOST_BAD_LINES {
            return;
        }
        match item {
            Ok(item) => {
                let Item {
                    prefixes,
                    score,
                    left,
                } = item.into();
                let entries = prefixes.into_iter().map(|prefix| FeedEntry {
                    prefix,
                    score,
                    left,
                    line,
                });
                self.entries.extend(entries);
            }
            Err(problem) => self.bad.push(BadLine {
                number: line,
                text: text.trim_end().chars().take(SHOWN).collect(),
                problem: problem.to_string(),
            }),
        }
    }
}

/// The lines of a text, counted from 1; `\r\n` ends one as well.
pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

/// Reads a whole list.
///
/// # Errors
/// When the format is unknown, when the text breaks off or breaks its format's frame, and when
/// there are more bad lines than may be: then none of the list is of use.
pub(crate) fn read(text: &str, reading: &Reading) -> Result<Feed, FeedError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let format = match reading.format {
        Some(format) => format,
        None => detect::detect(text)?,
    };
    let field = reading.field.as_deref();
    if field.is_some() && !format.has_fields() {
        return Err(FeedError::FieldUnused(format));
    }
    let mut found = Found::default();
    match format {
        Format::Plain => lines::plain(text, &mut found),
        Format::Ipsum => lines::ipsum(text, &mut found),
        Format::Spamhaus => lines::spamhaus(text, &mut found),
        Format::Range => lines::range(text, &mut found),
        Format::SpamhausJson => json::spamhaus(text, &mut found),
        Format::Json => json::json(text, field, &mut found)?,
        Format::Csv => columns::csv(text, field, &mut found)?,
        Format::Ipset => ipset::ipset(text, &mut found),
        Format::Nft => nft::nft(text, &mut found)?,
    }
    let Found { mut entries, bad } = found;
    if bad.len() > MOST_BAD_LINES {
        return Err(FeedError::TooManyBadLines(format));
    }
    if entries.len() > MOST_ENTRIES {
        return Err(FeedError::TooManyEntries);
    }
    if bad.len() > reading.max_bad_lines {
        return Err(FeedError::BadLines(bad));
    }
    let before = entries.len();
    if let Some(least) = reading.min_score.filter(|_| format.has_scores()) {
        entries.retain(|entry| entry.score.is_some_and(|score| score >= least));
    }
    Ok(Feed {
        format,
        below_score: before - entries.len(),
        entries,
        bad,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPSUM: &str = "# IPsum\n192.0.2.1\t10\n192.0.2.2\t3\n192.0.2.3\n";

    fn kept(text: &str, reading: &Reading) -> Vec<usize> {
        let feed = read(text, reading).expect("a good list");
        feed.entries.iter().map(|entry| entry.line).collect()
    }

    #[test]
    fn a_least_score_leaves_out_lower_scores_and_none() {
        let reading = Reading {
            min_score: Some(3),
            ..Reading::default()
        };
        assert_eq!(kept(IPSUM, &reading), [2, 3]);
        let feed = read(IPSUM, &reading).expect("a good list");
        assert_eq!(feed.below_score, 1);
        assert_eq!(feed.entries[0].score, Some(10));
    }

    #[test]
    fn a_format_without_scores_keeps_its_entries_whatever_the_least_score() {
        let reading = Reading {
            min_score: Some(3),
            ..Reading::default()
        };
        assert_eq!(kept("192.0.2.1\n192.0.2.2\n", &reading), [1, 2]);
    }

    #[test]
    fn bad_lines_up_to_the_bound_are_left_out_and_told() {
        let text = "192.0.2.1\r\nnonsense \r\n192.0.2.2\r\n300.1.1.1\r\n";
        let with = |max_bad_lines| {
            let reading = Reading {
                max_bad_lines,
                ..Reading::default()
            };
            read(text, &reading)
        };
        let feed = with(2).expect("two bad lines may be");
        assert_eq!(feed.entries.len(), 2);
        assert_eq!(feed.bad[0].text, "nonsense");
        assert_eq!(feed.bad[1].number, 4);
        let refused = with(1).expect_err("one bad line may be");
        assert_eq!(refused.to_string(), "2 bad lines");
    }

    #[test]
    fn a_field_for_a_format_without_fields_is_refused() {
        let reading = Reading {
            field: Some("ip".to_owned()),
            ..Reading::default()
        };
        let refused = read("192.0.2.1\n", &reading).expect_err("a refusal");
        assert_eq!(
            refused.to_string(),
            "plain has no fields, so --field says nothing"
        );
    }

    #[test]
    fn a_list_that_swells_or_is_bad_throughout_is_refused_in_bounded_memory() {
        let plain = Reading {
            format: Some(Format::Plain),
            max_bad_lines: usize::MAX,
            ..Reading::default()
        };
        let refused = read(&"x\n".repeat(200_000), &plain).expect_err("a refusal");
        assert!(
            refused
                .to_string()
                .starts_with("more than 100000 lines can't be read as plain; name another format"),
            "{refused}"
        );
        // 224 CIDRs a line.
        let range = "2001:db8::1-2001:db8:ffff:ffff:ffff:ffff:ffff:fffe\n".repeat(50_000);
        let refused = read(&range, &Reading::default()).expect_err("a refusal");
        assert_eq!(
            refused.to_string(),
            "holds more than 4000000 entries; import it in parts"
        );
    }

    #[test]
    fn eighty_characters_of_a_bad_line_are_shown() {
        let refused = read(
            &"é".repeat(500),
            &Reading {
                format: Some(Format::Plain),
                ..Reading::default()
            },
        );
        let Err(FeedError::BadLines(bad)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(bad[0].text, "é".repeat(80));
    }
}
