//! Handing over, as the process before does it.

use std::{io, sync::Arc};

use gateway::Stage;

use super::{Handle, Label, Successor, UpgradeError};
use crate::{
    admin::Order,
    bulk,
    config::KernelConfig,
    daemon::{Daemon, End},
    guard,
    lists::LetGo,
    notify::{News, notify},
    signals::Asked,
    trail::note,
};

impl Daemon {
    /// Starts the next process and hands over to it. After an error everything is as it was, and somebody who
    /// asked for a reload meanwhile is still to have it: see `reload_asked`.
    pub(crate) async fn upgrade(&mut self) -> Result<End, UpgradeError> {
        let path = self.program.path.display().to_string();
        note(&self.jobs.journal, "upgrade", &path);
        tracing::info!(path, "handing over to another process");
        let outcome = self.hand_over().await;
        if let Err(error) = &outcome {
            note(&self.jobs.journal, "upgrade_failed", &error.to_string());
            tracing::error!(%error, "NOT UPGRADED: this process serves on");
        }
        outcome
    }

    async fn hand_over(&mut self) -> Result<End, UpgradeError> {
        if self.jobs.admin.is_tracing() {
            return Err(UpgradeError::Tracing);
        }
        let handles = self.handles().map_err(|source| UpgradeError::System {
            what: "another descriptor of a socket",
            source,
        })?;
        let mut successor = Successor::start(&self.program, handles, self.ready_within).await?;
        if let Err(error) = self.meanwhile(successor.proven()).await {
            successor.end().await;
            return Err(error);
        }
        let let_go = match self.let_go().await {
            Ok(let_go) => let_go,
            Err(error) => {
                successor.end().await;
                return Err(error);
            }
        };
        let torn = self.jobs.journal.is_torn();
        let recorded = self.jobs.counting.told();
        match self.meanwhile(successor.ready(torn, recorded)).await {
            Ok(answers_on_same_socket) => {
                let pid = successor.pid();
                // Before the next one says that it is ready: whoever isn't the service's process is not heard.
                notify(News::HandedOver { pid });
                self.service.let_go();
                self.told.send_replace(Stage::HandedOver);
                (self.alive, self.seen.observer) = (None, None);
                successor.let_go(self.reload_asked);
                Ok(End::HandedOver {
                    pid,
                    admin_moved: !answers_on_same_socket,
                })
            }
            Err(error) => {
                // What it has opened is free when it is gone.
                successor.end().await;
                self.take_back(let_go).await;
                Err(error)
            }
        }
    }

    /// Every socket that this process listens on.
    fn handles(&self) -> io::Result<Vec<Handle>> {
        let mut handles = self.service.handles()?;
        if let Some((configured, observer)) = &self.seen.observer {
            handles.push(Handle {
                label: Label::Observer {
                    configured: *configured,
                },
                socket: observer.handle()?,
            });
        }
        handles.push(Handle {
            label: Label::Admin {
                path: self.admin_path.clone(),
            },
            socket: self.admin_socket.try_clone()?.into(),
        });
        Ok(handles)
    }

    /// Does a step, unless this process is to end first.
    async fn meanwhile<T>(
        &mut self,
        step: impl Future<Output = Result<T, UpgradeError>>,
    ) -> Result<T, UpgradeError> {
        let asked = async {
            loop {
                tokio::select! {
                    signal = self.signals.next() => match signal {
                        Asked::Stop(signal) => return signal,
                        Asked::Reload => self.reload_asked = true,
                        Asked::Upgrade => tracing::warn!("{}", UpgradeError::UnderWay),
                    },
                    Some(order) = self.asked.recv() => refuse(order),
                }
            }
        };
        tokio::select! {
            outcome = step => outcome,
            signal = asked => Err(UpgradeError::Stopped { signal }),
        }
    }

    /// Lets go of what only one process may have. Returns how the kernel side was.
    async fn let_go(&mut self) -> Result<Option<LetGo>, UpgradeError> {
        self.service.rest();
        self.service.seal();
        let running = self.running.take();
        let counting = Arc::clone(&self.jobs.counting);
        let lists = Arc::clone(&self.jobs.lists);
        let let_go = bulk::run(move || {
            if let Some(running) = running {
                running.end();
            }
            counting.record();
            lists.hand_over()
        });
        let let_go = let_go.await;
        if let_go.is_err() {
            self.begin_again();
        }
        let_go.map_err(|source| UpgradeError::System {
            what: "a thread",
            source,
        })
    }

    /// Takes it back from a process that is gone.
    async fn take_back(&mut self, let_go: Option<LetGo>) {
        let lists = Arc::clone(&self.jobs.lists);
        let journal = Arc::clone(&self.jobs.journal);
        let kernel = self.kernel.clone().zip(let_go);
        let taken = bulk::run(move || {
            if let Err(error) = lists.take_back() {
                tracing::error!(%error, "THE STATE IS NOT TAKEN BACK: the next change of a list tries it again");
                note(&journal, "state_not_taken_back", &error.to_string());
            }
            let Some((kernel, let_go)) = kernel else {
                return;
            };
            let kernel = KernelConfig {
                interfaces: let_go.guarded,
                rules: let_go.rules,
                ..kernel
            };
            if let Err(error) = guard::start(Some(kernel), &let_go.absent, &lists, &journal) {
                tracing::error!(%error, "THE KERNEL SIDE IS NOT TAKEN BACK: it drops by the lists as they are now");
                note(&journal, "without_kernel", &error.to_string());
            }
        });
        if let Err(error) = taken.await {
            tracing::error!(%error, "NOTHING IS TAKEN BACK: lists can't be changed");
        }
        self.begin_again();
    }

    fn begin_again(&mut self) {
        self.service.reopen();
        match self.jobs.begin(&self.admin_socket) {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                tracing::error!(%error, "THE ADMIN SOCKET IS NOT ANSWERED: restart the daemon")
            }
        }
        self.service.order();
    }
}

/// Refuses what can't be done while this process may be about to end.
fn refuse(order: Order) {
    let why = UpgradeError::UnderWay.to_string();
    // Whoever asked may be gone.
    match order {
        Order::Reload(asker) => drop(asker.send(Err(why))),
        Order::Upgrade(asker) => drop(asker.send(Err(why))),
    }
}
