//! The command line.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::{
    admin::{DEFAULT_SOCKET, LONGEST_TRACE},
    feed::{Format, parse_prefix},
    lists,
};

/// An access proxy whose first gate stands in the network driver.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground
    Run {
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
    },
    /// Prove a configuration without running it
    Check {
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
    },
    /// Take the XDP program off every interface and remove all pins
    Detach {
        /// Configuration file, for kernel.bpffs and kernel.pin_name
        #[arg(long, conflicts_with = "pins")]
        config: Option<PathBuf>,
        /// Pin folder, where there is no configuration
        #[arg(long, default_value = "/sys/fs/bpf/portcullis")]
        pins: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Blocked addresses
    #[command(subcommand)]
    Block(Block),
    /// Trusted addresses, which pass whatever any list says
    #[command(subcommand)]
    Allow(Allow),
    /// What sources may send: the kernel's limits
    #[command(subcommand)]
    Limit(Limit),
    /// Tell what each stage in the kernel decides on a source's packets
    Trace {
        /// Address or CIDR of the source
        #[arg(value_parser = parse_target)]
        source: IpNet,
        /// For how long, at most 10min
        #[arg(long = "for", value_parser = parse_trace_length, default_value = "30s")]
        length: Duration,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// How the daemon is
    Status {
        #[command(flatten)]
        daemon: Daemon,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Block {
    /// Drop everything from these addresses or CIDRs, at once
    Add {
        /// Addresses or CIDRs
        #[arg(required = true, value_parser = parse_prefix)]
        prefixes: Vec<IpNet>,
        /// For how long, such as 90s, 1h or 7days; for good without it
        #[arg(long, value_parser = parse_ttl)]
        ttl: Option<Duration>,
        /// Why, for those who look later
        #[arg(long)]
        reason: Option<String>,
        /// List to put it on
        #[arg(long, default_value = lists::MANUAL)]
        list: String,
        /// One of the CIDRs once more: block it although it covers what keeps this host reachable
        #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
        force: Vec<IpNet>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Take addresses or CIDRs off a list
    Remove {
        /// Addresses or CIDRs, as they were added
        #[arg(required = true, value_parser = parse_prefix)]
        prefixes: Vec<IpNet>,
        /// List to take it off
        #[arg(long, default_value = lists::MANUAL)]
        list: String,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show entries
    List {
        /// Only this list
        #[arg(long)]
        list: Option<String>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Put what a file holds on a list: all of it, or nothing
    Import(Import),
    /// Print lists in a format that others read
    Export {
        /// Only this list; all lists of blocked prefixes without it
        #[arg(long)]
        list: Option<String>,
        /// The format
        #[arg(long, value_enum, default_value_t = Format::Plain)]
        format: Format,
        /// File to write; standard output without it
        #[arg(long)]
        output: Option<PathBuf>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Is an address dropped, and by what?
    Test {
        /// The address
        address: IpAddr,
        #[command(flatten)]
        daemon: Daemon,
    },
}

/// A file, how to read it, and where to put what it holds.
#[derive(Debug, Args)]
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
    /// Change nothing; say how many entries would be added, changed or stay
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// List to put it on
    #[arg(long, default_value = "imported")]
    pub(crate) list: String,
    /// For how long, of entries without a time of their own; for good without it
    #[arg(long, value_parser = parse_ttl)]
    pub(crate) ttl: Option<Duration>,
    /// Why, for those who look later
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Allow {
    /// Trust these addresses or CIDRs
    Add {
        /// Addresses or CIDRs
        #[arg(required = true, value_parser = parse_prefix)]
        prefixes: Vec<IpNet>,
        /// Why, for those who look later
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Trust them no more
    Remove {
        /// Addresses or CIDRs, as they were added
        #[arg(required = true, value_parser = parse_prefix)]
        prefixes: Vec<IpNet>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show entries
    List {
        #[command(flatten)]
        daemon: Daemon,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Limit {
    /// Show the limits in force
    Show {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Set a limit, at once, until the daemon is started again
    Set {
        /// Its name, as `limit show` prints it
        limit: String,
        /// Units (packets, bytes, connections) a second; 0 for no limit
        #[arg(long)]
        rate: u64,
        /// Units at once; as many as in a second without it
        #[arg(long)]
        burst: Option<u64>,
        /// Drop what goes over it, or only count
        #[arg(long, value_parser = ["enforce", "monitor"])]
        mode: Option<String>,
        #[command(flatten)]
        daemon: Daemon,
    },
}

/// Which daemon to ask, and how to print its answer.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// The daemon's admin socket
    #[arg(long, default_value = DEFAULT_SOCKET, env = "PORTCULLIS_SOCKET")]
    pub(crate) socket: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_millis(1) => Ok(ttl),
        Ok(_) => Err("has to be at least 1ms".to_owned()),
        Err(error) => Err(format!("{error}; write it like 90s, 1h or 7days")),
    }
}

fn parse_target(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    text.parse::<IpNet>()
        .map_err(|_| "is neither an address nor a CIDR".to_owned())
}

fn parse_trace_length(text: &str) -> Result<Duration, String> {
    let length = parse_ttl(text)?;
    if length > LONGEST_TRACE {
        return Err("is longer than 10min".to_owned());
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
