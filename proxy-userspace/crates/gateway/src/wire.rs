//! An HTTP/1.1 connection as the HTTP library sees it: what has more than one reading is held back, and
//! in its place stands a request that the pipeline refuses by name.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use http::request::Parts;
use policy::{Follower, WireBounds, WireFault};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Bytes that are read from a peer at once.
const AT_ONCE: usize = 8 * 1024;

/// Most bytes of a TLS record (RFC 8446, 5.1): more of a body are never there at once.
const RECORD: usize = 16 * 1024;

/// Bytes of a refused peer that are read so that he reads the refusal: closing a socket with unread
/// bytes resets it.
const DRAINED: usize = 256 * 1024;

/// How long what a peer still sends is read after the last answer; it closes at once if it has read that.
const LINGERS: Duration = Duration::from_secs(1);

/// Stands for a head that was refused. No route has this method, so a client that uses it gets no
/// further either.
const REFUSED: &[u8] = b"- / HTTP/1.1\r\nhost: -\r\n\r\n";
const REFUSED_METHOD: &str = "-";

/// What came of the bytes of a connection.
#[derive(Debug, Default)]
pub(crate) struct WireState {
    head: OnceLock<WireFault>,
    body: OnceLock<WireFault>,
    opened: AtomicBool,
}

impl WireState {
    /// Why a request stands for a head that was refused, if it does.
    pub(crate) fn refused_head(&self, parts: &Parts) -> Option<WireFault> {
        let stands_for_one = parts.method.as_str() == REFUSED_METHOD;
        self.head.get().copied().filter(|_| stands_for_one)
    }

    /// Whether something behind this request was refused already.
    pub(crate) fn has_refused(&self) -> bool {
        self.head.get().is_some()
    }

    /// Why the body that is read now was broken off, if it was.
    pub(crate) fn refused_body(&self) -> Option<WireFault> {
        self.body.get().copied()
    }

    /// What comes from now on is no HTTP any more.
    pub(crate) fn open(&self) {
        self.opened.store(true, Ordering::Release);
    }
}

/// A stream whose requests are judged before they are read.
pub(crate) struct Judged<S> {
    stream: S,
    state: Arc<WireState>,
    follower: Follower,
    /// Read and not passed on yet.
    held: BytesMut,
    /// How many of those may be.
    passed: usize,
    at: At,
    /// The end of a connection whose last answer is sent.
    lingering: Option<Pin<Box<Sleep>>>,
}

enum At {
    Following,
    /// Passing on the rest of what stands for a refused head.
    Refusing(&'static [u8]),
    /// Nothing is passed on any more; so many bytes were read and dropped.
    Refused(usize),
}

impl<S> Judged<S> {
    pub(crate) fn new(stream: S, state: Arc<WireState>, bounds: WireBounds) -> Self {
        Self {
            stream,
            state,
            follower: Follower::new(bounds),
            held: BytesMut::new(),
            passed: 0,
            at: At::Following,
            lingering: None,
        }
    }

    /// Judges what is held. An error ends what may be read.
    fn judge(&mut self) -> io::Result<()> {
        let in_head = self.follower.in_head();
        match self.follower.judge(&self.held) {
            Ok(passed) => self.passed = passed,
            Err(fault) if in_head => {
                let _ = self.state.head.set(fault);
                self.held.clear();
                self.at = At::Refusing(REFUSED);
            }
            Err(fault) => {
                let _ = self.state.body.set(fault);
                self.held.clear();
                self.at = At::Refused(0);
                return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Judged<S> {
    /// Reads what may be passed on without a look: the middle of a body, or what is no HTTP.
    fn poll_plain(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: u64,
    ) -> Poll<io::Result<()>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let room = most.min(RECORD).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.follower.skip(read as u64);
        Poll::Ready(Ok(()))
    }

    /// Reads more of what has to be judged; whether there was any.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut room = [MaybeUninit::uninit(); AT_ONCE];
        let mut part = ReadBuf::uninit(&mut room);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
        if polled.is_pending() && self.held.is_empty() {
            // A connection that waits for its next request holds nothing.
            self.held = BytesMut::new();
        }
        ready!(polled)?;
        self.held.extend_from_slice(part.filled());
        Poll::Ready(Ok(!part.filled().is_empty()))
    }

    /// Reads and drops what a refused peer still sends; the answer ends the connection.
    fn drain(&mut self, context: &mut Context<'_>, mut dropped: usize) -> Poll<()> {
        let mut room = [MaybeUninit::uninit(); AT_ONCE];
        while dropped < DRAINED {
            let mut part = ReadBuf::uninit(&mut room);
            match Pin::new(&mut self.stream).poll_read(context, &mut part) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !part.filled().is_empty() => {
                    dropped += part.filled().len();
                    self.at = At::Refused(dropped);
                }
                Poll::Ready(_) => break,
            }
        }
        self.at = At::Refused(DRAINED);
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Judged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.at {
                At::Following => {}
                At::Refusing(rest) => {
                    let here = rest.len().min(buffer.remaining());
                    buffer.put_slice(&rest[..here]);
                    this.at = match &rest[here..] {
                        [] => At::Refused(0),
                        rest => At::Refusing(rest),
                    };
                    return Poll::Ready(Ok(()));
                }
                At::Refused(dropped) => {
                    let _ = this.drain(context, dropped);
                    return Poll::Pending;
                }
            }
            if this.state.opened.load(Ordering::Acquire) {
                this.passed = this.held.len();
            }
            if this.passed > 0 {
                let here = this.passed.min(buffer.remaining());
                buffer.put_slice(&this.held[..here]);
                this.held.advance(here);
                this.passed -= here;
                return Poll::Ready(Ok(()));
            }
            if this.state.opened.load(Ordering::Acquire) {
                return this.poll_plain(context, buffer, u64::MAX);
            }
            let plain = this.follower.plain_left();
            if plain > 0 && this.held.is_empty() {
                return this.poll_plain(context, buffer, plain);
            }
            if !this.held.is_empty() {
                this.judge()?;
                if this.passed > 0 || !matches!(this.at, At::Following) {
                    continue;
                }
            }
            if !ready!(this.poll_more(context))? {
                // Part of a head is no request.
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Judged<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Closing a socket with unread bytes resets it, and takes the last answer with it: what comes is read
    /// for a moment more.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.lingering = Some(Box::pin(sleep(LINGERS)));
        }
        let dropped = match this.at {
            At::Refused(dropped) => dropped,
            At::Following | At::Refusing(_) => 0,
        };
        if this.drain(context, dropped).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match &mut this.lingering {
            Some(lingering) => lingering.as_mut().poll(context).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}
