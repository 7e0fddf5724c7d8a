//! A client that doesn't read what it asked for is not written to for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::sole::poll_write_parts;

/// What a client that is waited for has to take within the patience there is: at 30 s, some 550 bytes a
/// second. The kernel's own buffers come on top.
const LEAST: usize = 16 * 1024;

/// A stream whose peer has to read.
pub(crate) struct Paced<S> {
    inner: S,
    patience: Duration,
    /// Since something couldn't be written.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Written since then.
    written: usize,
}

impl<S> Paced<S> {
    pub(crate) fn new(inner: S, patience: Duration) -> Self {
        Self {
            inner,
            patience,
            stalled: None,
            written: 0,
        }
    }

    fn note(
        &mut self,
        polled: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(done) = polled {
            if self.stalled.is_some() {
                self.written += done.as_ref().copied().unwrap_or_default();
                if self.written >= LEAST {
                    self.stalled = None;
                }
            }
            return Poll::Ready(done);
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| {
            self.written = 0;
            Box::pin(sleep_until(Instant::now() + patience))
        });
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client doesn't read",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.note(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = poll_write_parts(&mut self.inner, context, parts);
        self.note(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for once all is written.
        self.stalled = None;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
