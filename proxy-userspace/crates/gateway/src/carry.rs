//! Bytes in both directions that nobody looks at, counted, until both ends have finished.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time,
};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both ends said that they have nothing more to say, each in its time: one may go on after the other.
    Whole,
    /// The client's connection broke.
    ByClient,
    /// The upstream's did.
    ByUpstream,
    /// Neither has said anything for too long.
    Silent,
}

/// Carries bytes in both directions. `up` is told how many came from the client, `down` how many went to it.
pub(crate) async fn carry<C, U>(
    client: C,
    upstream: &mut U,
    up: impl Fn(usize) + Unpin,
    down: impl Fn(usize) + Unpin,
    idle: Duration,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let heard = Heard::now();
    let mut client = Tallied {
        inner: client,
        up,
        down,
        heard: heard.clone(),
        has_ended: false,
        has_failed: false,
    };
    let carried = tokio::select! {
        carried = copy_bidirectional(&mut client, upstream) => carried,
        () = heard.silence_of(idle) => return Ended::Silent,
    };
    match carried {
        Ok(_) => Ended::Whole,
        Err(_) if client.has_failed => Ended::ByClient,
        Err(_) => Ended::ByUpstream,
    }
}

/// When either end said something last.
#[derive(Clone)]
struct Heard {
    began: Instant,
    /// Milliseconds after that.
    last: Arc<AtomicU64>,
}

impl Heard {
    fn now() -> Self {
        Self {
            began: Instant::now(),
            last: Arc::default(),
        }
    }

    fn something(&self) {
        let now = self.began.elapsed().as_millis() as u64;
        self.last.store(now, Ordering::Relaxed);
    }

    /// Returns when nothing was heard for so long.
    async fn silence_of(&self, idle: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let end = self.began + last + idle;
            if end <= Instant::now() {
                return;
            }
            time::sleep_until(end.into()).await;
        }
    }
}

/// Counts what is read and written, and knows whether it was this end that broke.
struct Tallied<S, R, W> {
    inner: S,
    up: R,
    down: W,
    heard: Heard,
    /// It has nothing more to say.
    has_ended: bool,
    has_failed: bool,
}

impl<S, R, W> Tallied<S, R, W> {
    fn noted<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.has_failed |= matches!(polled, Poll::Ready(Err(_)));
        polled
    }
}

impl<S: AsyncRead + Unpin, R: Fn(usize) + Unpin, W: Unpin> AsyncRead for Tallied<S, R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        ready!(self.noted(polled))?;
        let read = buffer.filled().len() - before;
        self.has_ended |= read == 0;
        (self.up)(read);
        self.heard.something();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, R: Unpin, W: Fn(usize) + Unpin> AsyncWrite for Tallied<S, R, W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        let written = ready!(self.noted(polled))?;
        (self.down)(written);
        self.heard.something();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(context);
        if self.has_ended {
            // It has had all, and may be gone: whether it hears that this was all doesn't matter.
            return polled.map(|_| Ok(()));
        }
        self.noted(polled)
    }
}
