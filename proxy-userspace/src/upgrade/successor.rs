//! The next process, as the one before sees it.

use std::{
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{self, Instant};

use super::{
    Handle, Program, UpgradeError,
    channel::{Channel, Message, Talk},
    predecessor::VARIABLE,
};
use crate::{passed::VARIABLES, watch::Recorded};

/// How long a process that is killed may take to end.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process that is to take over. It has to be ended, or to be ready.
#[derive(Debug)]
pub(crate) struct Successor {
    path: PathBuf,
    child: Child,
    talk: Talk,
    within: Duration,
    deadline: Instant,
}

impl Successor {
    /// Starts it, and gives it the sockets.
    pub(crate) async fn start(
        program: &Program,
        handles: Vec<Handle>,
        within: Duration,
    ) -> Result<Self, UpgradeError> {
        let deadline = Instant::now() + within;
        let refused = |what| move |source| UpgradeError::System { what, source };
        let (channel, theirs) = Channel::pair().map_err(refused("a pair of sockets"))?;
        let mut command = Command::new(&program.path);
        command
            .args(&program.words)
            .env(VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(theirs));
        // Of another process's sockets.
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command.arg0(&program.path);
        let started = command.spawn();
        // Their end must be theirs alone, so that its end is noticed.
        drop(command);
        let child = started.map_err(|source| UpgradeError::CantStart {
            path: program.path.clone(),
            source,
        })?;
        let sent = tokio::task::spawn_blocking(move || {
            // One that is gone already is noticed by what it doesn't say.
            let _ = give(&channel, &handles);
            channel
        });
        let channel = sent.await.map_err(io::Error::other);
        let talk = channel
            .and_then(Channel::for_tasks)
            .map_err(refused("a pair of sockets"))?;
        Ok(Self {
            path: program.path.clone(),
            child,
            talk,
            within,
            deadline,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it could take over.
    pub(crate) async fn proven(&mut self) -> Result<(), UpgradeError> {
        match self.next().await? {
            Message::Proven => Ok(()),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Has it take over, and waits until it has. Whether it answers on the same admin socket.
    pub(crate) async fn ready(
        &mut self,
        torn: bool,
        recorded: Vec<Recorded>,
    ) -> Result<bool, UpgradeError> {
        // One that is gone is noticed by what it doesn't say.
        let _ = self.talk.send(&Message::HandedOver { torn, recorded });
        match self.next().await? {
            Message::Ready {
                answers_on_same_socket,
            } => Ok(answers_on_same_socket),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Tells it that all is its own now.
    pub(crate) fn let_go(self, reload: bool) {
        if let Err(error) = self.talk.send(&Message::Over { reload }) {
            tracing::error!(%error, "the process that took over is gone");
        }
    }

    /// Ends it; what it held is free then.
    pub(crate) async fn end(mut self) {
        // One that has ended already can't be killed.
        let _ = self.child.kill();
        if self.status_within(LAST_MOMENTS).await.is_none() {
            tracing::error!(
                pid = self.pid(),
                "the process that was to take over doesn't end"
            );
        }
    }

    async fn next(&mut self) -> Result<Message, UpgradeError> {
        let received = time::timeout_at(self.deadline, self.talk.receive()).await;
        match received {
            Err(_) => Err(UpgradeError::Late {
                path: self.path.clone(),
                within: self.within,
            }),
            Ok(Ok(Some(Message::Failed { why }))) => Err(UpgradeError::Refused {
                path: self.path.clone(),
                why,
            }),
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(self.ended().await),
            Ok(Err(source)) => Err(UpgradeError::System {
                what: "a message of the next process",
                source,
            }),
        }
    }

    async fn ended(&mut self) -> UpgradeError {
        // It has closed its end, and is about to go.
        match self.status_within(LAST_MOMENTS).await {
            Some(status) => UpgradeError::Ended {
                path: self.path.clone(),
                status,
            },
            None => UpgradeError::Refused {
                path: self.path.clone(),
                why: "it says nothing any more".to_owned(),
            },
        }
    }

    async fn status_within(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let ended = async {
            loop {
                match self.child.try_wait() {
                    Ok(None) => time::sleep(LOOK_AGAIN).await,
                    Ok(Some(status)) => return Some(status),
                    Err(_) => return None,
                }
            }
        };
        time::timeout(patience, ended).await.ok().flatten()
    }

    fn nonsense(&self, message: &Message) -> UpgradeError {
        UpgradeError::Refused {
            path: self.path.clone(),
            why: format!("it says {message:?}, which is not its turn to say"),
        }
    }
}

fn give(channel: &Channel, handles: &[Handle]) -> io::Result<()> {
    for Handle { label, socket } in handles {
        let message = Message::Socket {
            label: label.clone(),
        };
        channel.send(&message, Some(socket.as_fd()))?;
    }
    channel.send(&Message::Sockets, None)
}
