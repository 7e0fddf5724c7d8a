//! One process hands over to the next, from the binary that lies in its place now, without a connection
//! refused or a request lost.
//!
//! ```text
//! program      what is started
//! channel      what the two say to each other, and the sockets that go with it
//! hand_over    the order of it, as the one before follows it
//! successor    the next process, as the one before sees it
//! predecessor  the process before, as the next one sees it
//! ```
//!
//! In this order, so that each thing that only one process may have has exactly one owner, and the one before
//! can take all of it back until the next one serves:
//!
//! 1. The next process gets every listening socket, proves its configuration, binds what is new, fetches its
//!    keys, says `Proven`, and waits. It has opened nothing that the one before has.
//! 2. The one before ends its standing jobs, closes the state and lets go of the kernel's tables, and says
//!    `HandedOver`. It goes on accepting and serving; lists are asked as they are in its memory. What is asked
//!    on the admin socket waits in the socket's queue.
//! 3. The next one opens the state, takes the kernel side over, serves, and says `Ready`. Both accept now, from
//!    the same queues.
//! 4. The one before says `Over`, accepts no more, and ends when its connections have. The next one begins its
//!    standing jobs and answers on the admin socket.
//!
//! Whatever goes wrong before `Ready` ends the next process, and the one before takes back what it let go of.

mod channel;
mod hand_over;
mod predecessor;
mod program;
mod successor;

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

pub(crate) use self::{
    channel::{Handle, Label},
    predecessor::{Predecessor, Waiting},
    program::Program,
    successor::Successor,
};

/// Why the next process did not take over. The one before goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error("an upgrade is under way already; its outcome is in the log and the audit trail")]
    UnderWay,
    #[error("somebody traces; wait for that to end (`portcullis trace`), and upgrade then")]
    Tracing,
    #[error("{} can't be started: {source}; put the binary there, and upgrade again", path.display())]
    CantStart { path: PathBuf, source: io::Error },
    #[error("{} does not take over: {why}", path.display())]
    Refused { path: PathBuf, why: String },
    #[error("{} ended before it was ready ({status}); is it a portcullis that can take over?", path.display())]
    Ended { path: PathBuf, status: ExitStatus },
    #[error(
        "{} was not ready within {within:?}, and was ended; see its log, or raise upgrade.ready_within",
        path.display()
    )]
    Late { path: PathBuf, within: Duration },
    #[error("{signal} came before it was ready")]
    Stopped { signal: &'static str },
    #[error("the system refused {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

/// Why this process can't take over from the one before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    #[error("{signal} came before it took over")]
    Stopped { signal: &'static str },
    #[error("the process before it has ended, or given it up")]
    Alone,
    #[error("what the process before it says can't be understood: {0}")]
    Channel(io::Error),
}
