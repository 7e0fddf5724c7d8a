//! Clients over HTTP/2: many requests on one connection at a time.
//!
//! A stream that the proxy has refused to begin, or that lies above the last one it takes, was never read: it is
//! asked again. A field that isn't UTF-8 ends the connection, with whatever else is on it: it travels alone.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Http,
    accounts::{Accounts, Asked},
    targets::Targets,
};
use crate::{
    front::Front,
    h2_peer::{
        Peer, Said,
        frame::{NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, headers_only, pong, window},
        hpack::{self, Head},
    },
    run::{RigError, Rigged},
};

/// Streams at a time: half of what the proxy takes, which counts those that it hasn't quite finished.
const AT_ONCE: usize = 64;
/// What a client lets the proxy send over one connection beyond the 64 KiB that it may from the beginning, as
/// much as there can be (RFC 9113, 6.9.1): refusals have a body of some 50 bytes.
const WINDOW: u32 = (1 << 31) - 1 - 65_535;
/// Requests after which another connection is opened, long before their refusals fill that window.
const MOST_REQUESTS: u32 = 1_000_000;

/// Asks until there is nothing more to ask.
pub(super) fn ask(front: &Front, accounts: &Accounts, targets: &mut Targets) -> Rigged<()> {
    let mut due = VecDeque::new();
    let mut alone = VecDeque::new();
    loop {
        accounts.connected(Http::Two);
        let mut line = Line {
            peer: Peer::greet(front, &[])?,
            accounts,
            next: 1,
            goes_on: true,
            open: BTreeMap::new(),
        };
        line.peer.say(&[&window(0, WINDOW)])?;
        while line.goes_on && line.next < 2 * MOST_REQUESTS {
            if accounts.await_room(Http::Two)? {
                let more = AT_ONCE.saturating_sub(due.len());
                let more = (0..more).map(|_| targets.next());
                let (together, apart): (Vec<_>, Vec<_>) =
                    more.partition(|target| std::str::from_utf8(target).is_ok());
                due.extend(together);
                alone.extend(apart);
            } else if due.is_empty() && alone.is_empty() {
                return Ok(());
            }
            line.converse(&mut due)?;
            if line.goes_on
                && let Some(target) = alone.pop_front()
            {
                let mut one = VecDeque::from([target]);
                line.converse(&mut one)?;
                alone.append(&mut one);
            }
        }
    }
}

/// A stream that isn't over.
struct Stream {
    target: Vec<u8>,
    head: Option<Head>,
}

/// One connection.
struct Line<'a> {
    peer: Peer,
    accounts: &'a Accounts,
    /// Number of the next stream.
    next: u32,
    goes_on: bool,
    open: BTreeMap<u32, Stream>,
}

impl Line<'_> {
    /// Asks for all that is due, and leaves there what was never read.
    fn converse(&mut self, due: &mut VecDeque<Vec<u8>>) -> Rigged<()> {
        let mut frames = Vec::new();
        for target in due.drain(..) {
            frames.extend(headers_only(self.next, &hpack::get(&target)));
            let head = None;
            self.open.insert(self.next, Stream { target, head });
            self.next += 2;
        }
        // Where the proxy takes no more, what it has said says why.
        let said = self.peer.say(&[&frames]);
        while !self.open.is_empty() {
            match self.peer.hear()? {
                Said::Head { stream, head, last } => {
                    if let Some(open) = self.open.get_mut(&stream) {
                        open.head.get_or_insert(head);
                    }
                    self.ended(stream, last)?;
                }
                Said::Data { stream, last, .. } => self.ended(stream, last)?,
                Said::Reset { stream, code } => self.reset(stream, code, due)?,
                Said::GoAway { code, .. } if code != NO_ERROR && self.open.len() == 1 => {
                    self.goes_on = false;
                    self.open.clear();
                    self.accounts.unread(Http::Two);
                }
                Said::GoAway { last, .. } => {
                    self.goes_on = false;
                    let unread = self.open.split_off(&last.saturating_add(1));
                    due.extend(unread.into_values().map(|open| open.target));
                }
                Said::Ping(payload) => self.peer.say(&[&pong(&payload)])?,
                Said::Other(..) => {}
                Said::End => {
                    let open = self.open.values().next();
                    let target = open.map(|open| open.target.escape_ascii().to_string());
                    return Err(RigError(format!(
                        "over HTTP/2, no answer on {} streams, the first for {target:?}; {said:?}",
                        self.open.len()
                    )));
                }
            }
        }
        Ok(())
    }

    fn ended(&mut self, stream: u32, last: bool) -> Rigged<()> {
        let Some(open) = last.then(|| self.open.remove(&stream)).flatten() else {
            return Ok(());
        };
        let head = open.head.unwrap_or_default();
        let id = head.decision.as_deref();
        let id = id.and_then(|id| u128::from_str_radix(id, 16).ok());
        let (Some(id), Some(status)) = (id, head.status) else {
            let target = open.target.escape_ascii();
            return Err(RigError(format!("an odd answer for {target}: {head:?}")));
        };
        let (target, http) = (open.target, Http::Two);
        let asked = Asked {
            target,
            http,
            status,
        };
        self.accounts.asked(id, asked);
        Ok(())
    }

    fn reset(&mut self, stream: u32, code: u32, due: &mut VecDeque<Vec<u8>>) -> Rigged<()> {
        let Some(open) = self.open.remove(&stream) else {
            return Ok(());
        };
        match code {
            PROTOCOL_ERROR => self.accounts.unread(Http::Two),
            REFUSED_STREAM => due.push_back(open.target),
            _ => {
                let target = open.target.escape_ascii();
                return Err(RigError(format!("{target} was reset with {code}")));
            }
        }
        Ok(())
    }
}
