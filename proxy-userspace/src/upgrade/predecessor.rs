//! The process before, as the next one sees it.

use std::{
    env,
    fs::File,
    io,
    os::{fd::AsFd as _, unix::process::parent_id},
    time::Duration,
};

use rustix::stdio::dup2_stdin;
use tokio::time;

use super::{
    Handle, TakeOverError,
    channel::{Channel, Message, Talk},
};
use crate::{signals::Signals, watch::Recorded};

/// Process id of the one before, in the environment of the next, whose standard input is the channel.
pub(super) const VARIABLE: &str = "PORTCULLIS_TAKES_OVER_FROM";

/// The one before has this long to say that it is over.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the one before had.
#[derive(Debug)]
pub(crate) struct HandedOver {
    /// Whether the trail's last line was broken off.
    pub(crate) torn: bool,
    /// What of the kernel's counters is in the trail.
    pub(crate) recorded: Vec<Recorded>,
}

/// The process that this one takes over from.
#[derive(Debug)]
pub(crate) struct Predecessor(Channel);

/// The same, once tasks run.
#[derive(Debug)]
pub(crate) struct Waiting {
    talk: Talk,
    pid: u32,
}

impl Predecessor {
    /// The one that started this process to hand over to it, and its sockets; `None` when this process was
    /// started in any other way.
    pub(crate) fn find() -> Result<Option<(Self, Vec<Handle>)>, TakeOverError> {
        // The variable is inherited by whatever else is started with this environment.
        if env::var(VARIABLE) != Ok(parent_id().to_string()) {
            return Ok(None);
        }
        let channel = Self::channel().map_err(TakeOverError::Channel)?;
        let mut handles = Vec::new();
        loop {
            match channel.receive().map_err(TakeOverError::Channel)? {
                Some((Message::Socket { label }, Some(socket))) => {
                    handles.push(Handle { label, socket });
                }
                Some((Message::Sockets, _)) => return Ok(Some((Self(channel), handles))),
                Some((other, _)) => return Err(nonsense(&other)),
                None => return Err(TakeOverError::Alone),
            }
        }
    }

    fn channel() -> io::Result<Channel> {
        let channel = io::stdin().as_fd().try_clone_to_owned()?;
        dup2_stdin(File::open("/dev/null")?)?;
        Channel::over(channel)
    }

    pub(crate) fn wait(self) -> Result<Waiting, TakeOverError> {
        let pid = parent_id();
        let talk = self.0.for_tasks().map_err(TakeOverError::Channel)?;
        Ok(Waiting { talk, pid })
    }

    /// Says why this process doesn't take over.
    pub(crate) fn refuse(&self, why: &str) {
        // One that is gone needs no answer.
        let _ = self.0.send(&Message::failed(why), None);
    }
}

impl Waiting {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Says that nothing stands in the way, and waits until the one before has let go.
    pub(crate) async fn handed_over(
        &self,
        signals: &mut Signals,
    ) -> Result<HandedOver, TakeOverError> {
        self.say(&Message::Proven)?;
        let received = tokio::select! {
            received = self.talk.receive() => received,
            signal = signals.stop() => return Err(TakeOverError::Stopped { signal }),
        };
        match received.map_err(TakeOverError::Channel)? {
            Some(Message::HandedOver { torn, recorded }) => Ok(HandedOver { torn, recorded }),
            Some(other) => Err(nonsense(&other)),
            None => Err(TakeOverError::Alone),
        }
    }

    /// Says that this process serves, and waits until all is its own. Whether somebody asked for a reload
    /// meanwhile.
    pub(crate) async fn ready(
        &self,
        answers_on_same_socket: bool,
        signals: &mut Signals,
    ) -> Result<bool, TakeOverError> {
        // One that came while the lists were read is as good as one that came before.
        if let Ok(signal) = time::timeout(Duration::ZERO, signals.stop()).await {
            return Err(TakeOverError::Stopped { signal });
        }
        // One that is gone has left everything to this process all the same.
        let _ = self.talk.send(&Message::Ready {
            answers_on_same_socket,
        });
        let over = time::timeout(PATIENCE, self.talk.receive()).await;
        Ok(matches!(over, Ok(Ok(Some(Message::Over { reload: true })))))
    }

    /// See [`Predecessor::refuse`].
    pub(crate) fn refuse(&self, why: &str) {
        let _ = self.talk.send(&Message::failed(why));
    }

    fn say(&self, message: &Message) -> Result<(), TakeOverError> {
        self.talk.send(message).map_err(TakeOverError::Channel)
    }
}

fn nonsense(message: &Message) -> TakeOverError {
    let problem = format!("{message:?} is not its turn to say");
    TakeOverError::Channel(io::Error::other(problem))
}
