//! `portcullis trace`: what each stage of the program decides on one source's packets, told as it
//! happens.

use std::{
    io,
    sync::{Arc, TryLockError},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::unix::UCred,
    sync::mpsc,
    time,
};

use super::{Admin, Reply, protocol::json_line};
use crate::trail::note;

/// Longest trace. The traced program is slower, and nobody watches for longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// How long a trace may go on after its watcher has left or the daemon is told to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// How long a watcher may take to read a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lines that wait for a slow watcher; those after them are lost, and counted.
const BACKLOG: usize = 4_096;

impl Admin {
    /// Traces until the time is over or the watcher leaves, and sends each line as it comes.
    pub(super) async fn trace(
        self: Arc<Self>,
        target: IpNet,
        length: Duration,
        peer: UCred,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let (sender, mut replies) = mpsc::channel(BACKLOG);
        let job = tokio::task::spawn_blocking(move || {
            self.run_trace(target, length.min(LONGEST), &peer, &sender);
        });
        let mut nothing = [0];
        loop {
            tokio::select! {
                reply = replies.recv() => {
                    let Some(reply) = reply else { break };
                    let line = json_line(&reply)?;
                    match time::timeout(PATIENCE, writer.write_all(&line)).await {
                        Ok(Ok(())) => {}
                        _ => break,
                    }
                }
                // A watcher has nothing more to say: whatever can be read is its end.
                _ = reader.read(&mut nothing) => break,
            }
        }
        drop(replies);
        Ok(job.await?)
    }

    fn run_trace(
        &self,
        target: IpNet,
        length: Duration,
        peer: &UCred,
        replies: &mpsc::Sender<Reply>,
    ) {
        let refuse = |message: String| {
            // A watcher that has left needs no refusal.
            let _ = replies.blocking_send(Reply::Error { message });
        };
        let only = match self.tracing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return refuse("somebody is tracing already; wait for that to end".to_owned());
            }
        };
        let started = self
            .lists
            .with_kernel(|datapath| datapath.start_trace(target));
        let mut trace = match started {
            None => return refuse("there is no kernel side to trace".to_owned()),
            Some(Err(error)) => return refuse(error.to_string()),
            Some(Ok(trace)) => trace,
        };
        note(
            &self.journal,
            "trace",
            &format!("{target} by uid {}", peer.uid()),
        );
        let begun = Instant::now();
        let (mut told, mut lost) = (0, 0);
        let outcome = loop {
            if begun.elapsed() >= length
                || replies.is_closed()
                || self.draining.borrow().is_ending()
            {
                break Ok(());
            }
            match trace.next_lines(GLANCE.min(length.saturating_sub(begun.elapsed()))) {
                Err(error) => break Err(error),
                Ok(lines) => {
                    for line in lines {
                        told += 1;
                        lost += u64::from(replies.try_send(Reply::TraceLine { line }).is_err());
                    }
                }
            }
        };
        let ended = self.lists.with_kernel(|datapath| datapath.end_trace());
        note(
            &self.journal,
            "trace",
            &format!("{target} ended after {told} lines"),
        );
        if let Err(error) = outcome.and(ended.unwrap_or(Ok(()))) {
            tracing::error!(%error, "the trace did not end as it should");
            return refuse(error.to_string());
        }
        // A watcher that reads no more must not keep others from tracing.
        drop(only);
        let _ = replies.blocking_send(Reply::TraceEnd { lines: told, lost });
    }
}
