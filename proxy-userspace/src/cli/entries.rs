//! `portcullis block` and `portcullis allow`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::{Daemon, parse_ttl};
use crate::{
    feed::{Format, parse_any_prefix},
    lists::MANUAL,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Block {
    /// Drop everything from these addresses or CIDRs, at once
    Add {
        #[command(flatten)]
        add: Add,
        /// For how long, such as 90s, 1h or 7days; for good without it. A second ban extends the
        /// first and never shortens it
        #[arg(long, value_parser = parse_ttl)]
        ttl: Option<Duration>,
        /// Twice as long as the last ban, where that is longer
        #[arg(long, requires = "ttl")]
        escalate: bool,
        /// List to put it on
        #[arg(long, default_value = MANUAL)]
        list: String,
    },
    /// Take addresses or CIDRs off a list
    Remove {
        #[command(flatten)]
        remove: Remove,
        /// List to take it off
        #[arg(long, default_value = MANUAL)]
        list: String,
    },
    /// Show entries
    List(List),
    /// Put what a file holds on a list: all of it, or nothing
    Import {
        #[command(flatten)]
        import: Import,
        /// List to put it on
        #[arg(long, default_value = "imported")]
        list: String,
        /// For how long, of entries without a time of their own; for good without it
        #[arg(long, value_parser = parse_ttl)]
        ttl: Option<Duration>,
    },
    /// Print lists in a format that others read
    Export(Export),
    /// Is an address dropped, and by what?
    Test {
        /// The address
        address: IpAddr,
        #[command(flatten)]
        daemon: Daemon,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Allow {
    /// Trust these addresses or CIDRs
    Add(Add),
    /// Trust them no more
    Remove(Remove),
    /// Show entries
    List(List),
    /// Trust what a file holds: all of it, or nothing
    Import(Import),
    /// Print trusted prefixes in a format that others read
    Export(Export),
    /// Is an address trusted, and by what?
    Test {
        /// The address
        address: IpAddr,
        #[command(flatten)]
        daemon: Daemon,
    },
}

/// What to put on a list.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Add {
    /// Addresses or CIDRs
    #[arg(required = true, value_parser = parse_any_prefix)]
    pub(crate) prefixes: Vec<IpNet>,
    /// Why, for those who look later
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// One of the CIDRs once more: add it although it is very wide, or covers what keeps this host
    /// reachable
    #[arg(long, value_name = "PREFIX", value_parser = parse_any_prefix)]
    pub(crate) force: Vec<IpNet>,
    #[command(flatten)]
    pub(crate) manner: Manner,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// What to take off a list.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Remove {
    /// Addresses or CIDRs, as they were added
    #[arg(required = true, value_parser = parse_any_prefix)]
    pub(crate) prefixes: Vec<IpNet>,
    #[command(flatten)]
    pub(crate) manner: Manner,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// How a change is made.
#[derive(Clone, Copy, Debug, Args)]
#[group(skip)]
pub(crate) struct Manner {
    /// Change nothing; say what would be changed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take the change back after this long, such as 60s, unless `portcullis confirm` comes
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub(crate) confirm: Option<Duration>,
}

/// Which entries to show.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct List {
    /// Only this list
    #[arg(long)]
    pub(crate) list: Option<String>,
    /// Only entries that lie in this CIDR
    #[arg(long, value_name = "CIDR")]
    pub(crate) within: Option<IpNet>,
    /// Only entries that end
    #[arg(long, conflicts_with = "for_good")]
    pub(crate) timed: bool,
    /// Only entries that don't
    #[arg(long)]
    pub(crate) for_good: bool,
    /// Only entries whose reason has this text in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// At most so many
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Behind this entry, as the end of the page before tells it: LIST,PREFIX
    #[arg(long, value_name = "LIST,PREFIX", value_parser = parse_place)]
    pub(crate) after: Option<(String, IpNet)>,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// A file, and how to read it.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Import {
    /// The file, gzip or not; - for standard input
    pub(crate) file: PathBuf,
    /// Its format; found from the content without it
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Column of csv, by name or number from 1, or member of json that holds the address
    #[arg(long)]
    pub(crate) field: Option<String>,
    /// Leave out entries with a lower score or none; formats without scores keep all
    #[arg(long)]
    pub(crate) min_score: Option<u64>,
    /// Leave out up to this many bad lines; one more, and nothing is changed
    #[arg(long, default_value_t = 0)]
    pub(crate) max_bad_lines: usize,
    /// Why, for those who look later
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) manner: Manner,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// Which entries to write, how, and where to.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Export {
    /// Only this list; all lists of the kind without it
    #[arg(long)]
    pub(crate) list: Option<String>,
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Plain)]
    pub(crate) format: Format,
    /// File to write; standard output without it
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

fn parse_place(text: &str) -> Result<(String, IpNet), String> {
    let (list, prefix) = text
        .rsplit_once(',')
        .ok_or_else(|| "is no list and prefix with a comma between them".to_owned())?;
    let prefix = parse_any_prefix(prefix).map_err(|problem| problem.to_string())?;
    Ok((list.to_owned(), prefix))
}
