//! `portcullis feed`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Daemon, Manner};
use crate::{feed::Format, source::Definition};

#[derive(Debug, Subcommand)]
pub(crate) enum Feed {
    /// Show all lists with a source, and how they are
    List {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show all that is known of one
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Ask its source now
    Refresh {
        /// Its name
        name: String,
        /// Take this file's content instead of the source's; - for standard input
        #[arg(long, value_name = "FILE")]
        input: Option<PathBuf>,
        #[command(flatten)]
        manner: Manner,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Let in what was held back because it is empty, or shrank or grew too much
    Accept {
        /// Its name
        name: String,
        /// Only the content that was looked at: what `feed show` prints
        #[arg(long, value_parser = digest)]
        digest: Option<String>,
        #[command(flatten)]
        manner: Manner,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Stop asking its source; its entries stay
    Pause {
        /// Its name
        name: String,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Begin to ask its source again
    Resume {
        /// Its name
        name: String,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Begin a list with a source; it stays over restarts
    Add(Box<Add>),
    /// End a list that `feed add` began, and take its entries off
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        daemon: Daemon,
    },
}

/// A new list with a source; docs/configuration.md explains each of them under `[[feed]]`.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Add {
    /// Name of the list
    name: String,
    /// A file, watched
    #[arg(long, required_unless_present_any = ["url", "stdin"], conflicts_with_all = ["url", "stdin"])]
    file: Option<PathBuf>,
    /// An https URL
    #[arg(long, conflicts_with = "stdin")]
    url: Option<String>,
    /// What `feed refresh NAME --input FILE` hands over
    #[arg(long)]
    stdin: bool,
    /// PEM file with the certificates to trust for the URL
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Range that the URL may lead to although it isn't public
    #[arg(long, value_name = "CIDR")]
    allow_address: Vec<String>,
    /// Its format; found from the content without it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Column of csv, by name or number from 1, or member of json that holds the address
    #[arg(long)]
    field: Option<String>,
    /// Leave out entries with a lower score or none
    #[arg(long)]
    min_score: Option<u64>,
    /// Leave out up to this many bad lines; one more, and the last good content stays
    #[arg(long, default_value_t = 0)]
    max_bad_lines: usize,
    /// How often its source is asked, such as 1h
    #[arg(long, value_name = "TIME")]
    refresh: Option<String>,
    /// How long its source is left alone at least
    #[arg(long, value_name = "TIME")]
    min_interval: Option<String>,
    /// How long an entry stays after its source named it last
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// Only count what it would drop
    #[arg(long)]
    monitor: bool,
    /// Its prefixes are trusted, and not blocked
    #[arg(long)]
    trusted: bool,
    /// Share of its entries that may go at once, such as 0.5
    #[arg(long, value_name = "SHARE")]
    max_shrink: Option<f64>,
    /// Share of its entries that may come at once, such as 1.0
    #[arg(long, value_name = "SHARE")]
    max_growth: Option<f64>,
    /// Most bytes
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
    /// Longest fetch
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

impl Add {
    /// As it would be written in the configuration.
    pub(crate) fn definition(&self) -> Definition {
        Definition {
            name: self.name.clone(),
            // The daemon stands in another folder.
            file: self
                .file
                .as_ref()
                .map(|file| std::path::absolute(file).unwrap_or(file.clone())),
            url: self.url.clone(),
            input: self.stdin,
            ca: self.ca.clone(),
            allow_addresses: self.allow_address.clone(),
            format: self.format.map(|format| format.to_string()),
            field: self.field.clone(),
            min_score: self.min_score,
            max_bad_lines: self.max_bad_lines,
            refresh: self.refresh.clone(),
            min_interval: self.min_interval.clone(),
            ttl: self.ttl.clone(),
            mode: self.monitor.then(|| "monitor".to_owned()),
            trusted: self.trusted,
            max_shrink: self.max_shrink,
            max_growth: self.max_growth,
            max_bytes: self.max_bytes,
            deadline: self.deadline.clone(),
        }
    }
}

/// A content's digest as `feed show` prints it, or with more of it as `--json` does.
fn digest(text: &str) -> Result<String, String> {
    let is_digest = |byte: u8| byte.is_ascii_hexdigit() || byte == b'/';
    if !text.bytes().all(is_digest) || text.len() < 16 {
        return Err("16 hexadecimal digits are wanted, as `feed show` prints them".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}
