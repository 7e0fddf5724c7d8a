//! What two processes say to each other while one hands over to the other: one message a packet, over a pair
//! of sockets that nobody else has.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use serde::{Deserialize, Serialize};
use tokio::{io::Interest, net::UnixStream};

use crate::watch::Recorded;

/// Longest message.
const LONGEST: usize = 64 * 1024;
/// Longest reason that travels.
const LONGEST_WHY: usize = 16 * 1024;
/// A process that doesn't take a message for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a socket is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub(crate) enum Label {
    /// Requests; `at` tells listeners apart that are configured alike.
    Listener { at: usize, configured: SocketAddr },
    /// Plain HTTP.
    Plain { configured: SocketAddr },
    /// Those who watch.
    Observer { configured: SocketAddr },
    /// The command line.
    Admin { path: PathBuf },
}

/// A listening socket, for another process.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) label: Label,
    pub(crate) socket: OwnedFd,
}

/// See [`super`] for their order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum Message {
    /// With the socket.
    Socket {
        label: Label,
    },
    /// No further socket comes.
    Sockets,
    Proven,
    HandedOver {
        /// Whether the trail's last line was broken off.
        torn: bool,
        /// What of the kernel's counters is in the trail.
        recorded: Vec<Recorded>,
    },
    Ready {
        /// Whether the admin socket of the one before is used on.
        answers_on_same_socket: bool,
    },
    Over {
        /// Whether somebody asked for a reload meanwhile.
        reload: bool,
    },
    /// The next process does not take over.
    Failed {
        why: String,
    },
}

impl Message {
    pub(super) fn failed(why: &str) -> Self {
        let end = why.floor_char_boundary(LONGEST_WHY);
        Self::Failed {
            why: why[..end].to_owned(),
        }
    }
}

/// One end, on a thread that may wait.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// One end, and the other for the next process.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        // Packets that come in order, and an end that is noticed.
        let kind = SocketType::SEQPACKET;
        let (own, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self::over(own)?, other))
    }

    pub(super) fn over(socket: OwnedFd) -> io::Result<Self> {
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    pub(super) fn send(&self, message: &Message, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
        send(self.0.as_fd(), message, with)
    }

    /// Waits for the next message; `None` when the other process is gone.
    pub(super) fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        receive(self.0.as_fd())
    }

    /// The same for tasks.
    pub(super) fn for_tasks(self) -> io::Result<Talk> {
        let socket = std::os::unix::net::UnixStream::from(self.0);
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket).map(Talk)
    }
}

/// One end, for tasks. It is registered as a stream, and read and written as what it is.
#[derive(Debug)]
pub(super) struct Talk(UnixStream);

impl Talk {
    /// Only for messages that are few: the other end has room for them.
    pub(super) fn send(&self, message: &Message) -> io::Result<()> {
        send(self.0.as_fd(), message, None)
    }

    /// See [`Channel::receive`]. Nothing is lost when this is given up.
    pub(super) async fn receive(&self) -> io::Result<Option<Message>> {
        loop {
            self.0.readable().await?;
            let received = self
                .0
                .try_io(Interest::READABLE, || receive(self.0.as_fd()));
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Ok(received?.map(|(message, _)| message)),
            }
        }
    }
}

fn send(socket: BorrowedFd<'_>, message: &Message, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = with.map(|with| [with]);
    if let Some(descriptors) = &descriptors {
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&text)],
        &mut beside,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut text)];
    let mut hear = || recvmsg(socket, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC);
    let received = match hear() {
        // The other process has ended with something unread, which is told once. What it said before is here.
        Err(Errno::CONNRESET) => hear()?,
        received => received?,
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let descriptors = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.flatten().next();
    let message = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
    Ok(Some((message, descriptor)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_arrives_with_its_label_and_an_end_is_noticed() {
        let (here, there) = Channel::pair().expect("a pair");
        let there = Channel::over(there).expect("a channel");
        let socket = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let address = socket.local_addr().expect("an address");
        let label = Label::Observer {
            configured: address,
        };
        let message = Message::Socket {
            label: label.clone(),
        };
        here.send(&message, Some(socket.as_fd())).expect("sent");
        drop((socket, here));
        let (message, descriptor) = there.receive().expect("received").expect("a message");
        assert!(
            matches!(&message, Message::Socket { label: said } if *said == label),
            "{message:?}"
        );
        let socket = TcpListener::from(descriptor.expect("a socket"));
        assert_eq!(socket.local_addr().expect("an address"), address);
        assert!(there.receive().expect("an end").is_none());
    }

    #[test]
    fn a_reason_without_end_is_cut_where_a_letter_ends() {
        let Message::Failed { why } = Message::failed(&"ß".repeat(LONGEST_WHY)) else {
            unreachable!("it is one");
        };
        assert_eq!(why.len(), LONGEST_WHY);
    }
}
