//! The admin socket: what the command line asks of the daemon.
//!
//! ```text
//! protocol  requests and replies, one JSON line each
//! server    the daemon's end; peers are known by their credentials
//! client    the command line's end
//! ```

mod client;
mod protocol;
mod server;

pub(crate) use client::ask;
pub(crate) use protocol::{
    BadLineReport, InterfaceStatus, ListSize, ReasonStatus, Reply, Request, Status, Tested,
};
pub(crate) use server::{Admin, AdminError, bind};

/// Where the socket is when the configuration says nothing.
pub(crate) const DEFAULT_SOCKET: &str = "/run/portcullis/admin.sock";

/// Longest line either end reads: a list of a million entries and room to spare.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;
