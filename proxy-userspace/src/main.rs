//! The `portcullis` binary.
//!
//! ```text
//! cli, render   what people type and read
//! config        the configuration, as written and as proven
//! api_keys      API keys: the file that they are in, and new ones for it
//! admin         the socket between command line and daemon
//! feed          the formats of lists
//! lists, state  the lists at run time, and what of them is on disk
//! source        lists with a source, kept current
//! drops         what was dropped lately
//! lifeline      what no list may cut off
//! run, daemon   the daemon: composition and start; what is asked of it, and its end
//! upgrade       one process hands over to the next
//! passed        sockets that the daemon was started with
//! signals, notify  what signals ask; telling the service manager
//! jobs          the standing jobs, begun and ended
//! service, bound  what serves requests, and may be exchanged
//! changes       what a reload has changed
//! guard         its kernel side
//! observe       what those who watch may see
//! watch         the daemon's standing jobs
//! bulk          long work behind requests
//! progress      what long work is at, on a terminal
//! block, feeds, interfaces, transfer  what the commands about lists ask; files
//! task          one that ends with whoever began it
//! tokens        why one is accepted or refused, and ones for development
//! trail         telling the audit trail
//! ```

mod admin;
mod api_keys;
mod automatic;
mod block;
mod bound;
mod bulk;
mod changes;
mod cli;
mod config;
mod current;
mod daemon;
mod drops;
mod feed;
mod feeds;
mod follow;
mod guard;
mod interfaces;
mod jobs;
mod lifeline;
mod lists;
mod notify;
mod observe;
mod passed;
mod progress;
mod render;
mod revocations;
mod run;
mod service;
mod signals;
mod source;
mod state;
mod task;
mod tokens;
mod trail;
mod transfer;
mod upgrade;
mod watch;

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use datapath::{Pins, detach};
use ipnet::IpNet;
use serde_json::json;

use crate::{
    admin::{Reply, Request, ask, ask_on},
    cli::{Cli, Command, Daemon, Limit, Output},
    progress::Progress,
};

/// glibc's allocator keeps blocks of up to a kilobyte at hand; what a request is served in is larger, and cost
/// a sixth of an HTTP/2 request there (docs/proxy-cost.md). Its heaps are shared by threads as well, so that
/// requests waited while a list grew in one of them; here each thread has its own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
                proven.service.listeners.len(),
                proven.service.routes.routes().len()
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
        Command::Block(block) => block::block(block),
        Command::Allow(allow) => block::allow(allow),
        Command::Feed(feed) => feeds::act(feed),
        Command::Why { address, daemon } => tell(&daemon, &Request::Why { address }),
        Command::Trace {
            source,
            length,
            daemon,
        } => trace(&daemon, source, length),
        Command::Confirm {
            change,
            list,
            daemon,
        } => block::confirm(&daemon, change, list),
        Command::Interface(interface) => interfaces::act(interface),
        Command::Limit(limit) => act_on_limit(limit),
        Command::Upgrade { daemon } => tell(&daemon, &Request::Upgrade),
        Command::Reload { daemon } => tell(&daemon, &Request::Reload),
        Command::Token(token) => tokens::act(token),
        Command::Apikey(order) => api_keys::act(order),
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

fn act_on_limit(limit: Limit) -> Result<ExitCode, Box<dyn Error>> {
    match limit {
        Limit::Show { daemon } => tell(&daemon, &Request::Limits),
        Limit::Set {
            limit,
            rate,
            burst,
            mode,
            confirm,
            daemon,
        } => {
            let request = Request::SetLimit {
                limit,
                rate,
                burst,
                mode,
                confirm_ms: confirm.map(millis),
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Asks the daemon and prints its answer; a refusal is a failure.
fn tell(daemon: &Daemon, request: &Request) -> Result<ExitCode, Box<dyn Error>> {
    let progress = Progress::begin("waiting for the daemon");
    let reply = ask(&daemon.socket, request)?;
    drop(progress);
    show(daemon.output, reply)
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
        Reply::Changed(changed) => {
            print(&render::changed(&changed))?;
            eprint!("{}", render::cuts(&changed.cut));
        }
        Reply::Pending { pending } => print(&render::pending(&pending))?,
        Reply::Confirmed { confirmed } => print(&render::confirmed(&confirmed))?,
        Reply::BadLines { lines } => eprint!("{}", render::bad_lines(&lines)),
        Reply::Entries { entries, .. } => print(&render::entries(&entries))?,
        Reply::Tested(tested) => print(&render::tested(&tested))?,
        Reply::Why(why) => print(&render::why(&why))?,
        Reply::Interfaces { interfaces } => print(&render::interfaces(&interfaces))?,
        Reply::Feeds { feeds } => print(&render::feeds(&feeds))?,
        Reply::Feed(feed) => print(&render::feed(&feed))?,
        Reply::Refreshed {
            name,
            state,
            why,
            changes,
        } => print(&render::refreshed(&name, &state, why.as_deref(), &changes))?,
        Reply::TraceLine { line } => print(&format!("{}\n", line.escape_debug()))?,
        Reply::TraceEnd { lines, lost: 0 } => print(&format!("{lines} lines\n"))?,
        Reply::TraceEnd { lines, lost } => {
            print(&format!("{lines} lines, {lost} of them lost on the way\n"))?;
        }
        Reply::Limits { limits, pending } => {
            print(&(render::limits(&limits) + &render::reverts(pending)))?;
        }
        Reply::Reloaded { changes, .. } => print(&render::reloaded(&changes))?,
        Reply::Revoked { revoked } => print(&render::revoked(&revoked))?,
        Reply::Revocations { revocations, .. } => {
            print(&render::revoked(&revocations.unwrap_or_default()))?;
        }
        Reply::Upgraded { pid } => print(&format!("process {pid} serves\n"))?,
        Reply::Status(status) => print(&render::status(&status))?,
        Reply::Error { message } => eprintln!("portcullis: {message}"),
    }
    Ok(code)
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}
