//! What `portcullis block`, `allow` and `confirm` ask.

use std::{error::Error, net::IpAddr, process::ExitCode};

use serde_json::Value;

use crate::{
    admin::{self, Reply, Request, ask_on},
    cli::{self, Add, Allow, Block, Daemon, Remove},
    lists::{ALLOW, Filter, Place},
    millis, print, render, show, tell, transfer,
};

pub(crate) fn block(block: Block) -> Result<ExitCode, Box<dyn Error>> {
    match block {
        Block::Add {
            add,
            ttl,
            escalate,
            list,
        } => {
            let request = Request::Add {
                list,
                trusted: false,
                prefixes: add.prefixes,
                ttl_ms: ttl.map(millis),
                escalate,
                reason: add.reason,
                force: add.force,
                operator: operator(),
                manner: manner(add.manner),
            };
            tell(&add.daemon, &request)
        }
        Block::Remove { remove, list } => take_off(remove, list),
        Block::List(wish) => list(wish, false),
        Block::Import { import, list, ttl } => transfer::import(import, list, ttl, false),
        Block::Export(wish) => transfer::export(&wish, false),
        Block::Test { address, daemon } => tell(&daemon, &Request::Test { address }),
    }
}

pub(crate) fn allow(allow: Allow) -> Result<ExitCode, Box<dyn Error>> {
    let list_of_trust = || ALLOW.to_owned();
    match allow {
        Allow::Add(Add {
            prefixes,
            reason,
            force,
            manner: how,
            daemon,
        }) => {
            let request = Request::Add {
                list: list_of_trust(),
                trusted: true,
                prefixes,
                ttl_ms: None,
                escalate: false,
                reason,
                force,
                operator: None,
                manner: manner(how),
            };
            tell(&daemon, &request)
        }
        Allow::Remove(remove) => take_off(remove, list_of_trust()),
        Allow::List(wish) => list(wish, true),
        Allow::Import(import) => transfer::import(import, list_of_trust(), None, true),
        Allow::Export(wish) => transfer::export(&wish, true),
        Allow::Test { address, daemon } => tell(&daemon, &Request::Test { address }),
    }
}

/// Lets changes stay, or shows those that wait.
pub(crate) fn confirm(
    daemon: &Daemon,
    id: Option<u64>,
    only_show: bool,
) -> Result<ExitCode, Box<dyn Error>> {
    let request = if only_show {
        Request::Pending
    } else {
        Request::Confirm { id }
    };
    tell(daemon, &request)
}

fn take_off(remove: Remove, list: String) -> Result<ExitCode, Box<dyn Error>> {
    let request = Request::Remove {
        list,
        prefixes: remove.prefixes,
        manner: manner(remove.manner),
    };
    tell(&remove.daemon, &request)
}

/// Prints entries as they come, so that a million need no memory here.
fn list(wish: cli::List, trusted: bool) -> Result<ExitCode, Box<dyn Error>> {
    let cli::List {
        list,
        within,
        timed,
        for_good,
        reason,
        limit,
        after,
        daemon,
    } = wish;
    let request = Request::List {
        filter: Filter {
            list,
            trusted: Some(trusted),
            within,
            timed: (timed || for_good).then_some(timed),
            reason,
        },
        after: after.map(|(list, prefix)| Place { list, prefix }),
        limit,
    };
    let json = daemon.output.json;
    let mut printed = Printed::default();
    let mut outcome = Ok(ExitCode::SUCCESS);
    ask_on(&daemon.socket, &request, |reply| match reply {
        Reply::Entries {
            entries,
            more,
            rest,
        } => {
            let said = if json {
                printed.as_json(&entries, more, rest)
            } else {
                printed.as_text(&entries, more, rest)
            };
            match said {
                Ok(()) => more,
                Err(error) => {
                    outcome = Err(error);
                    false
                }
            }
        }
        other => {
            outcome = show(daemon.output, other);
            false
        }
    })?;
    outcome
}

/// How far a list has been printed.
#[derive(Default)]
struct Printed {
    entries: usize,
}

impl Printed {
    fn as_text(
        &mut self,
        entries: &[crate::lists::Entry],
        more: bool,
        rest: Option<Place>,
    ) -> Result<(), Box<dyn Error>> {
        print(&render::entries(entries))?;
        self.entries += entries.len();
        if !more {
            print(&format!("{} entries\n", self.entries))?;
            if let Some(Place { list, prefix }) = rest {
                print(&format!("more behind --after {list},{prefix}\n"))?;
            }
        }
        Ok(())
    }

    /// One object over all pages: what is between them is written here.
    fn as_json(
        &mut self,
        entries: &[crate::lists::Entry],
        more: bool,
        rest: Option<Place>,
    ) -> Result<(), Box<dyn Error>> {
        let mut text = String::new();
        if self.entries == 0 {
            text.push_str("{\"reply\":\"entries\",\"entries\":[");
        }
        for entry in entries {
            if self.entries > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(entry)?);
            self.entries += 1;
        }
        if !more {
            let rest = serde_json::to_value(rest)?;
            let rest = match rest {
                Value::Null => String::new(),
                rest => format!(",\"rest\":{rest}"),
            };
            text.push_str(&format!("]{rest}}}\n"));
        }
        Ok(print(&text)?)
    }
}

pub(crate) fn manner(manner: cli::Manner) -> admin::Manner {
    admin::Manner {
        dry_run: manner.dry_run,
        confirm_ms: manner.confirm.map(millis),
    }
}

/// The peer of the SSH session that this command runs in (`SSH_CONNECTION`, ssh(1)).
pub(crate) fn operator() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    let peer = connection.split(' ').next()?;
    peer.split('%').next()?.parse().ok()
}
