//! A feed as somebody defines it, in the configuration or at run time, and as proven.

use std::{fmt, fs, path::PathBuf, time::Duration};

use clap::ValueEnum as _;
use gateway::{AddressRule, FetchBounds, Fetcher, trust_anchors};
use proxy_common::Mode;
use serde::{Deserialize, Serialize};

use super::judge::Ratios;
use crate::{
    feed::{Format, Reading, parse_prefix},
    lists::RESERVED,
};

/// How often a source is asked where nothing is said.
const REFRESH: Duration = Duration::from_secs(3_600);
/// How long a publisher is left alone between two questions where nothing is said.
const LEAST_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes of a source where nothing is said, and the most that may be said.
const LARGEST: u64 = 64 << 20;
const MOST_LARGEST: u64 = 1 << 30;
/// How long a fetch may take where nothing is said, and the most that may be said.
const DEADLINE: Duration = Duration::from_secs(60);
const MOST_DEADLINE: Duration = Duration::from_secs(600);
/// Shares of its entries that a list may lose or gain at once where nothing is said.
const MAX_SHRINK: f64 = 0.5;
const MAX_GROWTH: f64 = 1.0;

/// A list with a source, as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Definition {
    /// Name of the list.
    pub(crate) name: String,
    /// A file, watched. Just one of `file`, `url` and `input`.
    pub(crate) file: Option<PathBuf>,
    /// An https URL.
    pub(crate) url: Option<String>,
    /// Whatever `feed refresh NAME --input FILE` hands over.
    pub(crate) input: bool,
    /// PEM file with the certificates to trust for `url`; the system's without it.
    pub(crate) ca: Option<PathBuf>,
    /// Ranges that `url` may lead to although they aren't public.
    pub(crate) allow_addresses: Vec<String>,
    /// Found from the content without it.
    pub(crate) format: Option<String>,
    /// Column of csv or member of json that holds the address.
    pub(crate) field: Option<String>,
    /// Entries with a lower score or none are left out.
    pub(crate) min_score: Option<u64>,
    /// Bad lines that are left out before the whole source is refused.
    pub(crate) max_bad_lines: usize,
    /// How often the source is asked.
    pub(crate) refresh: Option<String>,
    /// How long it is left alone at least between two questions.
    pub(crate) min_interval: Option<String>,
    /// How long an entry stays after the source named it last; as long as it names it without.
    pub(crate) ttl: Option<String>,
    /// `enforce` or `monitor`.
    pub(crate) mode: Option<String>,
    /// Whether its prefixes are trusted, and not blocked.
    pub(crate) trusted: bool,
    /// Share of its entries that may go at once.
    pub(crate) max_shrink: Option<f64>,
    /// Share of its entries that may come at once.
    pub(crate) max_growth: Option<f64>,
    /// Most bytes, packed or not.
    pub(crate) max_bytes: Option<u64>,
    /// Longest fetch.
    pub(crate) deadline: Option<String>,
}

/// A feed that can be kept.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) definition: Definition,
    pub(crate) source: Source,
    pub(crate) reading: Reading,
    pub(crate) mode: Mode,
    pub(crate) refresh: Duration,
    pub(crate) min_interval: Duration,
    pub(crate) ttl: Option<Duration>,
    pub(crate) ratios: Ratios,
    pub(crate) largest: u64,
}

/// Where a feed's content is.
#[derive(Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Url(Box<Fetcher>),
    /// It is handed over on the command line.
    Input,
}

/// What is wrong with one key of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) key: &'static str,
    pub(crate) problem: String,
    pub(crate) mend: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, problem, mend } = self;
        write!(f, "{key} {problem}; {mend}")
    }
}

/// Gathers flaws.
#[derive(Default)]
struct Flaws(Vec<Flaw>);

impl Flaws {
    fn note(&mut self, key: &'static str, problem: impl ToString, mend: impl ToString) {
        self.0.push(Flaw {
            key,
            problem: problem.to_string(),
            mend: mend.to_string(),
        });
    }

    fn duration(&mut self, key: &'static str, written: Option<&String>) -> Option<Duration> {
        match humantime::parse_duration(written?) {
            Ok(duration) if !duration.is_zero() => Some(duration),
            _ => {
                let mend = "write it like \"30s\", \"1h\" or \"7days\"";
                self.note(key, "is no duration above zero", mend);
                None
            }
        }
    }

    fn share(&mut self, key: &'static str, written: Option<f64>, default: f64, most: f64) -> f64 {
        let share = written.unwrap_or(default);
        if (0.0..=most).contains(&share) {
            return share;
        }
        self.note(key, "is out of range", format!("use 0.0 to {most:.1}"));
        default
    }
}

impl Feed {
    /// Proves a definition; all that is wrong with it is told at once.
    pub(crate) fn prove(definition: Definition) -> Result<Self, Vec<Flaw>> {
        let mut flaws = Flaws::default();
        prove_name(&mut flaws, &definition.name);
        let mode = match definition.mode.as_deref() {
            None | Some("enforce") => Mode::Enforce,
            Some("monitor") if definition.trusted => {
                let problem = "of trusted prefixes can't be \"monitor\": they drop nothing";
                flaws.note("mode", problem, "leave it out");
                Mode::Enforce
            }
            Some("monitor") => Mode::Monitor,
            Some(_) => {
                flaws.note("mode", "is no mode", "use \"enforce\" or \"monitor\"");
                Mode::Enforce
            }
        };
        let reading = prove_reading(&mut flaws, &definition);
        let refresh = flaws.duration("refresh", definition.refresh.as_ref());
        let least = flaws.duration("min_interval", definition.min_interval.as_ref());
        let min_interval = least.unwrap_or(LEAST_INTERVAL);
        if definition.url.is_some() && refresh.is_some_and(|refresh| refresh < min_interval) {
            let least = humantime::format_duration(min_interval);
            let problem = format!("is shorter than min_interval, {least}");
            let mend = "ask less often; where the server is your own, shorten min_interval as well";
            flaws.note("refresh", problem, mend);
        }
        let ttl = flaws.duration("ttl", definition.ttl.as_ref());
        let ratios = Ratios {
            max_shrink: flaws.share("max_shrink", definition.max_shrink, MAX_SHRINK, 1.0),
            max_growth: flaws.share("max_growth", definition.max_growth, MAX_GROWTH, 1e6),
        };
        let largest = definition.max_bytes.unwrap_or(LARGEST);
        if !(1..=MOST_LARGEST).contains(&largest) {
            let mend = format!("use 1 to {MOST_LARGEST}");
            flaws.note("max_bytes", "is out of range", mend);
        }
        let source = prove_source(&mut flaws, &definition, largest);
        match source {
            Some(source) if flaws.0.is_empty() => Ok(Self {
                source,
                reading,
                mode,
                refresh: refresh.unwrap_or(REFRESH.max(min_interval)),
                min_interval,
                ttl,
                ratios,
                largest,
                definition,
            }),
            _ => Err(flaws.0),
        }
    }

    /// Name of its list.
    pub(crate) fn name(&self) -> &str {
        &self.definition.name
    }

    /// Where it comes from, for people.
    pub(crate) fn place(&self) -> String {
        let Definition { file, url, .. } = &self.definition;
        let file = file.as_ref().map(|file| file.display().to_string());
        file.or_else(|| url.clone())
            .unwrap_or_else(|| "standard input".to_owned())
    }
}

fn prove_name(flaws: &mut Flaws, name: &str) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        let mend = "use up to 64 letters, digits, `-`, `_` and `.`";
        flaws.note("name", "is no name of a list", mend);
    } else if RESERVED.contains(&name) {
        let mend = format!("choose another than {}", RESERVED.join(", "));
        flaws.note("name", "is one of Portcullis's own lists", mend);
    }
}

fn prove_reading(flaws: &mut Flaws, definition: &Definition) -> Reading {
    let format = definition.format.as_deref().and_then(|name| {
        Format::from_str(name, false)
            .map_err(|_| {
                let mend = format!("use one of {}", Format::names());
                flaws.note("format", "is no format", mend);
            })
            .ok()
    });
    Reading {
        format,
        field: definition.field.clone(),
        min_score: definition.min_score,
        max_bad_lines: definition.max_bad_lines,
    }
}

fn prove_source(flaws: &mut Flaws, definition: &Definition, largest: u64) -> Option<Source> {
    let Definition {
        file, url, input, ..
    } = definition;
    match (file, url, input) {
        (Some(file), None, false) => {
            if !file.is_absolute() {
                flaws.note("file", "is no absolute path", "begin it with /");
            }
            Some(Source::File(file.clone()))
        }
        (None, Some(url), false) => prove_url(flaws, definition, url, largest),
        (None, None, true) => Some(Source::Input),
        _ => {
            let problem = "has to have its entries from exactly one place";
            flaws.note("name", problem, "give one of file, url and input = true");
            None
        }
    }
}

fn prove_url(
    flaws: &mut Flaws,
    definition: &Definition,
    url: &str,
    largest: u64,
) -> Option<Source> {
    let deadline = flaws.duration("deadline", definition.deadline.as_ref());
    let deadline = deadline.unwrap_or(DEADLINE);
    if deadline > MOST_DEADLINE {
        flaws.note("deadline", "is too long", "use at most \"10m\"");
    }
    let mut rule = AddressRule::default();
    for range in &definition.allow_addresses {
        match parse_prefix(range) {
            Ok(range) => rule.allowed.push(range),
            Err(problem) => {
                let mend = "write ranges like \"10.1.2.0/24\"";
                flaws.note("allow_addresses", format!("{range:?} {problem}"), mend);
            }
        }
    }
    let ca = match &definition.ca {
        None => None,
        Some(path) => match fs::read(path) {
            Ok(pem) => Some(pem),
            Err(error) => {
                let problem = format!("{} can't be read: {error}", path.display());
                flaws.note("ca", problem, "check the path and its permissions");
                return None;
            }
        },
    };
    let tls = trust_anchors(ca.as_deref())
        .map_err(|error| flaws.note("ca", error, "give a PEM file of certificates"))
        .ok()?;
    let bounds = FetchBounds {
        largest: usize::try_from(largest).unwrap_or(usize::MAX),
        deadline,
        redirects: true,
        accept: "text/plain, application/json, */*;q=0.5",
        kept: 0,
    };
    Fetcher::new(url, tls, rule, bounds)
        .map_err(|error| {
            let mend = "give an https:// URL, and in allow_addresses the ranges inside your network it may lead to";
            flaws.note("url", error, mend);
        })
        .ok()
        .map(|fetcher| Source::Url(Box::new(fetcher)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(definition: Definition) -> Vec<String> {
        let flaws = Feed::prove(definition).expect_err("flaws");
        flaws.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_how_to_mend_it() {
        let told = flaws(Definition {
            name: "manual".to_owned(),
            file: Some("lists/drop.txt".into()),
            format: Some("excel".to_owned()),
            refresh: Some("soon".to_owned()),
            mode: Some("loud".to_owned()),
            max_shrink: Some(1.5),
            max_bytes: Some(0),
            ..Definition::default()
        });
        for (told, expected) in told.iter().zip([
            "name is one of Portcullis's own lists; choose another than",
            "mode is no mode; use \"enforce\" or \"monitor\"",
            "format is no format; use one of plain, ipsum",
            "refresh is no duration above zero; write it like",
            "max_shrink is out of range; use 0.0 to 1.0",
            "max_bytes is out of range; use 1 to 1073741824",
            "file is no absolute path; begin it with /",
        ]) {
            assert!(told.starts_with(expected), "{told}");
        }
        assert_eq!(told.len(), 7, "{told:?}");
    }

    #[test]
    fn a_feed_has_just_one_source() {
        let both = Definition {
            name: "drop".to_owned(),
            file: Some("/lists/drop.txt".into()),
            input: true,
            ..Definition::default()
        };
        let none = Definition {
            name: "drop".to_owned(),
            ..Definition::default()
        };
        for definition in [both, none] {
            let told = flaws(definition);
            assert!(told[0].contains("exactly one place"), "{told:?}");
        }
    }

    #[test]
    fn a_publisher_is_asked_no_more_often_than_the_least_interval() {
        let every = |refresh: &str, min_interval: Option<&str>| Definition {
            name: "drop".to_owned(),
            url: Some("https://lists.example/drop.txt".to_owned()),
            refresh: Some(refresh.to_owned()),
            min_interval: min_interval.map(str::to_owned),
            ..Definition::default()
        };
        let told = flaws(every("10s", None));
        assert!(
            told[0].starts_with("refresh is shorter than min_interval, 1m;"),
            "{told:?}"
        );
        assert!(Feed::prove(every("10s", Some("5s"))).is_ok());
        assert!(Feed::prove(every("1m", None)).is_ok());
    }

    #[test]
    fn a_url_inside_the_network_has_to_be_allowed() {
        let inside = |allow_addresses: &[&str]| Definition {
            name: "drop".to_owned(),
            url: Some("https://10.0.0.7/drop.txt".to_owned()),
            allow_addresses: allow_addresses.iter().map(ToString::to_string).collect(),
            ..Definition::default()
        };
        let told = flaws(inside(&[]));
        assert!(
            told[0].starts_with("url 10.0.0.7 is not a public address"),
            "{told:?}"
        );
        assert!(Feed::prove(inside(&["10.0.0.7"])).is_ok());
    }
}
