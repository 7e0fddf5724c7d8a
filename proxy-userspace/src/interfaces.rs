//! What `portcullis interface` asks.

use std::{error::Error, process::ExitCode};

use crate::{admin::Request, cli::Interface, tell};

pub(crate) fn act(interface: Interface) -> Result<ExitCode, Box<dyn Error>> {
    match interface {
        Interface::List { daemon } => tell(&daemon, &Request::Interfaces),
        Interface::Add { name, daemon } => tell(&daemon, &Request::AddInterface { name }),
        Interface::Remove { name, daemon } => tell(&daemon, &Request::RemoveInterface { name }),
    }
}
