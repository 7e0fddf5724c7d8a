//! The command line.

mod api_keys;
mod entries;
mod feeds;
mod tokens;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

pub(crate) use self::{
    api_keys::{ApiKey, NewApiKey},
    entries::{Add, Allow, Block, Export, Import, List, Manner, Remove},
    feeds::Feed,
    tokens::{About, Mint, Revoke, Token},
};

use crate::admin::{DEFAULT_SOCKET, LONGEST_TRACE};

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
    /// Lists with a source: a file, a URL, or what is handed over
    #[command(subcommand)]
    Feed(Feed),
    /// Why an address is dropped, or why it isn't
    Why {
        /// The address
        address: IpAddr,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Let changes stay that were made with --confirm
    Confirm {
        /// The change's number; all that wait without it
        change: Option<u64>,
        /// Only show what waits
        #[arg(long, conflicts_with = "change")]
        list: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Interfaces that are guarded
    #[command(subcommand)]
    Interface(Interface),
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
    /// Have the daemon read its configuration again, and put it in force whole or not at all
    Reload {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Tokens: why one is accepted or refused, those that are taken back, and ones for development
    #[command(subcommand)]
    Token(Token),
    /// API keys: new ones
    #[command(subcommand)]
    Apikey(ApiKey),
    /// Have the daemon hand over to the binary that lies in its place now, without losing a request
    Upgrade {
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
pub(crate) enum Interface {
    /// Show them, and what keeps them from being guarded well
    List {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Guard one more at once, also after a restart
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Guard one no more that was added so
    Remove {
        /// Its name
        name: String,
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
        /// Take the change back after this long, such as 60s, unless `portcullis confirm` comes
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        confirm: Option<Duration>,
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
