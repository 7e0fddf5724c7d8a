//! What `portcullis feed` asks.

use std::{error::Error, process::ExitCode};

use crate::{admin::Request, block::manner, cli::Feed, tell, transfer::read_text};

pub(crate) fn act(feed: Feed) -> Result<ExitCode, Box<dyn Error>> {
    let (daemon, request) = match feed {
        Feed::List { daemon } => (daemon, Request::Feeds),
        Feed::Show { name, daemon } => (daemon, Request::Feed { name }),
        Feed::Refresh {
            name,
            input,
            manner: how,
            daemon,
        } => {
            let input = input.map(|file| read_text(&file)).transpose()?;
            let manner = manner(how);
            let request = Request::RefreshFeed {
                name,
                input,
                manner,
            };
            (daemon, request)
        }
        Feed::Accept {
            name,
            digest,
            manner: how,
            daemon,
        } => {
            let request = Request::AcceptFeed {
                name,
                digest,
                manner: manner(how),
            };
            (daemon, request)
        }
        Feed::Pause { name, daemon } => {
            let paused = true;
            (daemon, Request::PauseFeed { name, paused })
        }
        Feed::Resume { name, daemon } => {
            let paused = false;
            (daemon, Request::PauseFeed { name, paused })
        }
        Feed::Add(add) => {
            let definition = Box::new(add.definition());
            (add.daemon, Request::AddFeed { definition })
        }
        Feed::Remove { name, daemon } => (daemon, Request::RemoveFeed { name }),
    };
    tell(&daemon, &request)
}
