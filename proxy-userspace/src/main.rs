//! The `portcullis` binary.
//!
//! ```text
//! cli, render   what people type and read
//! config        the configuration, as written and as proven
//! admin         the socket between command line and daemon
//! feed          the formats of lists
//! lists, entry, state  the lists at run time, one entry, and all of it on disk
//! run           the daemon: composition, start, stop
//! watch         the daemon's standing jobs
//! transfer      lists from and to files
//! trail         telling the audit trail
//! ```

mod admin;
mod cli;
mod config;
mod entry;
mod feed;
mod lifeline;
mod lists;
mod render;
mod run;
mod state;
mod trail;
mod transfer;
mod watch;

use std::{
    error::Error,
    io::{self, Write as _},
    net::IpAddr,
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use datapath::{Pins, detach};
use ipnet::IpNet;
use serde_json::json;

use crate::{
    admin::{Reply, Request, ask, ask_on},
    cli::{Allow, Block, Cli, Command, Daemon, Limit, Output},
};

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(code) => code,
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn act(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Run { config } => {
            run::run(&config)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { config } => {
            let proven = config::load(&config)?;
            print(&format!(
                "{}: good: {} listeners, {} routes\n",
                config.display(),
                proven.listeners.len(),
                proven.routes.routes().len()
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Detach {
            config,
            pins,
            output,
        } => {
            let pins = match config {
                Some(config) => config::load(&config)?
                    .kernel
                    .map(|kernel| kernel.pins)
                    .ok_or("the configuration has no [kernel], so there is nothing to detach")?,
                None => Pins::new(pins),
            };
            detach_all(&pins, output)
        }
        Command::Block(block) => act_on_block(block),
        Command::Allow(allow) => act_on_allow(allow),
        Command::Trace {
            source,
            length,
            daemon,
        } => trace(&daemon, source, length),
        Command::Limit(limit) => act_on_limit(limit),
        Command::Status { daemon } => tell(&daemon, &Request::Status),
    }
}

fn detach_all(pins: &Pins, output: Output) -> Result<ExitCode, Box<dyn Error>> {
    let interfaces = detach(pins)?;
    if output.json {
        print(&format!("{}\n", json!({ "detached": interfaces })))?;
    } else if interfaces.is_empty() {
        let folder = pins.root().display();
        print(&format!("nothing was attached by the pins in {folder}\n"))?;
    } else {
        print(&format!("detached from {}\n", interfaces.join(", ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn act_on_block(block: Block) -> Result<ExitCode, Box<dyn Error>> {
    match block {
        Block::Add {
            prefixes,
            ttl,
            reason,
            list,
            force,
            daemon,
        } => {
            let request = Request::Add {
                list,
                trusted: false,
                prefixes,
                ttl_ms: ttl.map(millis),
                reason,
                force,
                operator: operator(),
            };
            tell(&daemon, &request)
        }
        Block::Remove {
            prefixes,
            list,
            daemon,
        } => tell(&daemon, &Request::Remove { list, prefixes }),
        Block::List { list, daemon } => {
            let trusted = false;
            tell(&daemon, &Request::List { list, trusted })
        }
        Block::Import(wish) => transfer::import(wish),
        Block::Export {
            list,
            format,
            output,
            daemon,
        } => transfer::export(&daemon, list, format, output.as_deref()),
        Block::Test { address, daemon } => tell(&daemon, &Request::Test { address }),
    }
}

fn act_on_allow(allow: Allow) -> Result<ExitCode, Box<dyn Error>> {
    let list = || lists::ALLOW.to_owned();
    match allow {
        Allow::Add {
            prefixes,
            reason,
            daemon,
        } => {
            let request = Request::Add {
                list: list(),
                trusted: true,
                prefixes,
                ttl_ms: None,
                reason,
                force: Vec::new(),
                operator: None,
            };
            tell(&daemon, &request)
        }
        Allow::Remove { prefixes, daemon } => {
            let list = list();
            tell(&daemon, &Request::Remove { list, prefixes })
        }
        Allow::List { daemon } => {
            let request = Request::List {
                list: None,
                trusted: true,
            };
            tell(&daemon, &request)
        }
    }
}

fn act_on_limit(limit: Limit) -> Result<ExitCode, Box<dyn Error>> {
    match limit {
        Limit::Show { daemon } => tell(&daemon, &Request::Limits),
        Limit::Set {
            limit,
            rate,
            burst,
            mode,
            daemon,
        } => {
            let request = Request::SetLimit {
                limit,
                rate,
                burst,
                mode,
            };
            tell(&daemon, &request)
        }
    }
}

/// Prints what comes as it comes.
fn trace(daemon: &Daemon, target: IpNet, length: Duration) -> Result<ExitCode, Box<dyn Error>> {
    let for_ms = millis(length);
    let mut outcome = Ok(ExitCode::SUCCESS);
    ask_on(
        &daemon.socket,
        &Request::Trace { target, for_ms },
        |reply| {
            let goes_on = matches!(reply, Reply::TraceLine { .. });
            match show(daemon.output, reply) {
                Ok(code) if goes_on && code == ExitCode::SUCCESS => true,
                last => {
                    outcome = last;
                    false
                }
            }
        },
    )?;
    outcome
}

/// The peer of the SSH session that this command runs in (`SSH_CONNECTION`, ssh(1)).
fn operator() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    let peer = connection.split(' ').next()?;
    peer.split('%').next()?.parse().ok()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Asks the daemon and prints its answer; a refusal is a failure.
fn tell(daemon: &Daemon, request: &Request) -> Result<ExitCode, Box<dyn Error>> {
    show(daemon.output, ask(&daemon.socket, request)?)
}

fn show(output: Output, reply: Reply) -> Result<ExitCode, Box<dyn Error>> {
    let code = match &reply {
        Reply::Error { .. } | Reply::BadLines { .. } => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    };
    if output.json {
        print(&format!("{}\n", serde_json::to_string(&reply)?))?;
        return Ok(code);
    }
    match reply {
        Reply::Changed {
            changed,
            unchanged,
            cut,
        } => {
            print(&format!("{changed} changed, {unchanged} as they were\n"))?;
            eprint!("{}", render::cuts(&cut));
        }
        Reply::Planned {
            added,
            changed,
            unchanged,
            cut,
        } => {
            print(&format!(
                "nothing was changed; {added} would be added, {changed} changed, {unchanged} stay as they are\n"
            ))?;
            eprint!("{}", render::cuts(&cut));
        }
        Reply::BadLines { lines } => eprint!("{}", render::bad_lines(&lines)),
        Reply::Entries { entries } => print(&render::entries(&entries))?,
        Reply::Tested(tested) => print(&render::tested(&tested))?,
        Reply::TraceLine { line } => print(&format!("{}\n", line.escape_debug()))?,
        Reply::TraceEnd { lines, lost: 0 } => print(&format!("{lines} lines\n"))?,
        Reply::TraceEnd { lines, lost } => {
            print(&format!("{lines} lines, {lost} of them lost on the way\n"))?;
        }
        Reply::Limits { limits } => print(&render::limits(&limits))?,
        Reply::Status(status) => print(&render::status(&status))?,
        Reply::Error { message } => eprintln!("portcullis: {message}"),
    }
    Ok(code)
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}
