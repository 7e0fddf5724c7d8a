//! The admin socket: what the command line asks of the daemon.
//!
//! ```text
//! protocol  requests and replies, one JSON line each
//! server    the daemon's end; peers are known by their credentials
//! lists     entries of lists, changed and shown
//! limits    the kernel's limits, shown and set
//! trace     what each stage decides, told as it happens
//! client    the command line's end
//! ```

mod client;
mod limits;
mod lists;
mod protocol;
mod server;
mod trace;

use proxy_common::Mode;

pub(crate) use client::{ask, ask_on};
pub(crate) use protocol::{
    BadLineReport, Changed, CutReport, InterfaceStatus, LimitReport, ListSize, Manner,
    ReasonStatus, Reply, Request, Status, Tested,
};
pub(crate) use server::{Admin, AdminError, bind};
pub(crate) use trace::LONGEST as LONGEST_TRACE;

/// Where the socket is when the configuration says nothing.
pub(crate) const DEFAULT_SOCKET: &str = "/run/portcullis/admin.sock";

/// Longest line either end reads: a list of a million entries and room to spare.
pub(crate) const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// `enforce` or `monitor`, in replies.
fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Monitor => "monitor",
    }
}
