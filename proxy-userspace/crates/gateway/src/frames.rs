//! An HTTP/2 connection as the HTTP library sees it: both directions are watched on their way, and once the
//! client has spent its patience, in place of what it says stands what makes the library end the connection.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use policy::{FrameBounds, FrameFault, FrameJudge, Standing, StreamFault};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Instant},
};

/// Longest wait for a client that is told that the connection ends, and how often one is looked at.
const GRACE: Duration = Duration::from_secs(2);
const MOST_OFTEN: Duration = Duration::from_millis(100);

/// Room beside what waits for the rest of a frame's header.
const SMALL: usize = 64;

/// Bytes of a client that are read when the connection ends, so that it reads why: closing a socket with
/// unread bytes resets it.
const DRAINED: usize = 256 * 1024;

/// What a connection costs, shared by its stream and by whoever looks after it.
pub(crate) struct Watch {
    judge: Mutex<FrameJudge>,
    /// The client has said its last.
    heard_out: AtomicBool,
    began: Instant,
    often: Duration,
}

impl Watch {
    pub(crate) fn begin(bounds: FrameBounds) -> Arc<Self> {
        let shortest = bounds.header_timeout.min(bounds.stall_timeout);
        Arc::new(Self {
            judge: Mutex::new(FrameJudge::new(bounds)),
            heard_out: AtomicBool::new(false),
            began: Instant::now(),
            often: (shortest / 4).max(MOST_OFTEN),
        })
    }

    /// Why the connection has to end, once it has to.
    pub(crate) fn fault(&self) -> Option<FrameFault> {
        self.judge().fault()
    }

    /// Whether a connection that has ended well was left with requests unanswered, and not by the client: the
    /// library ends it without a word on a CONNECT with a length, which it hands over to nobody.
    pub(crate) fn was_left(&self) -> bool {
        !self.heard_out.load(Ordering::Relaxed) && self.judge().is_asked()
    }

    /// A stream that is watched. `malformed` is told of each HTTP/2 stream that the library ends for the
    /// client's fault: the pipeline may never have seen it.
    pub(crate) fn follow<S, T: Fn(StreamFault, String)>(
        self: &Arc<Self>,
        stream: S,
        max_header_bytes: usize,
        malformed: T,
    ) -> Watched<S, T> {
        Watched {
            stream,
            watch: Arc::clone(self),
            malformed,
            part: Vec::new(),
            ready: BytesMut::new(),
            over: ending(max_header_bytes),
            ended: false,
        }
    }

    fn standing(&self) -> Standing {
        self.judge().standing(self.began.elapsed())
    }

    fn judge(&self) -> MutexGuard<'_, FrameJudge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a connection to its end; `None` when it had to be broken off. `close` lets it end gracefully.
pub(crate) async fn attend<C: Future>(
    watch: &Watch,
    mut connection: Pin<&mut C>,
    close: impl Fn(Pin<&mut C>),
    draining: impl Future<Output = ()>,
) -> Option<C::Output> {
    let mut looks = time::interval(watch.often);
    let mut open = true;
    tokio::pin!(draining);
    loop {
        tokio::select! {
            ended = connection.as_mut() => return Some(ended),
            () = &mut draining, if open => {
                open = false;
                close(connection.as_mut());
            }
            _ = looks.tick() => match watch.standing() {
                Standing::Idle if open => {
                    open = false;
                    close(connection.as_mut());
                }
                Standing::Good | Standing::Idle => {}
                Standing::Fault(_) => return time::timeout(GRACE, connection).await.ok(),
            },
        }
    }
}

/// An error with what is behind it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Parts of a field section without end: HEADERS and more CONTINUATION than the library takes, which it
/// answers with GOAWAY and ENHANCE_YOUR_CALM. It takes a quarter more than a section of full frames has,
/// and no fewer than five.
fn ending(max_header_bytes: usize) -> Vec<u8> {
    const HEADERS: u8 = 0x1;
    const CONTINUATION: u8 = 0x9;
    const FULL: usize = 16 * 1024;
    let full = max_header_bytes / FULL;
    let frame = |kind| [0, 0, 0, kind, 0, 0, 0, 0, 1];
    let mut frames = frame(HEADERS).to_vec();
    frames.extend(frame(CONTINUATION).repeat(full + full / 4 + 6));
    frames
}

/// See [`Watch::follow`].
pub(crate) struct Watched<S, T> {
    stream: S,
    watch: Arc<Watch>,
    malformed: T,
    /// Part of a frame's header.
    part: Vec<u8>,
    /// To be passed on.
    ready: BytesMut,
    over: Vec<u8>,
    /// What ends the connection has been passed on, or is ready.
    ended: bool,
}

impl<S: AsyncRead + Unpin, T> Watched<S, T> {
    /// Whether the connection ends here. An error where it can't end with a word.
    fn ends(&mut self) -> io::Result<bool> {
        let judge = self.watch.judge();
        let Some(fault) = judge.fault() else {
            return Ok(false);
        };
        if !self.ended {
            self.ended = true;
            if !judge.is_between_frames() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
            }
            let begun = judge.open_section();
            let over = match begun {
                Some(_) => &self.over[9..],
                None => &self.over[..],
            };
            self.ready.extend_from_slice(over);
            for frame in self.ready.chunks_exact_mut(9) {
                frame[5..].copy_from_slice(&begun.unwrap_or(1).to_be_bytes());
            }
        }
        Ok(true)
    }

    /// Reads behind `part` into `buffer`, and has it judged; `None` at the end of the stream.
    fn poll_more(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        let start = buffer.filled().len();
        buffer.put_slice(&self.part);
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() > before;
        if !matches!(polled, Poll::Ready(Ok(()))) || !read {
            buffer.set_filled(start);
            let polled = ready!(polled);
            self.watch.heard_out.store(true, Ordering::Relaxed);
            return Poll::Ready(polled.map(|()| None));
        }
        let now = self.watch.began.elapsed();
        let bytes = &buffer.filled()[start..];
        let passed = self.watch.judge().hear(bytes, now);
        self.part.clear();
        if self.watch.judge().fault().is_none() {
            self.part.extend_from_slice(&bytes[passed..]);
        }
        buffer.set_filled(start + passed);
        Poll::Ready(Ok(Some(passed)))
    }
}

impl<S: AsyncRead + Unpin, T: Unpin> AsyncRead for Watched<S, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                let here = this.ready.len().min(buffer.remaining());
                buffer.put_slice(&this.ready[..here]);
                this.ready.advance(here);
                return Poll::Ready(Ok(()));
            }
            let had_ended = this.ended;
            if this.ends()? {
                if had_ended {
                    return Poll::Pending;
                }
                continue;
            }
            let passed = if buffer.remaining() > this.part.len() {
                ready!(this.poll_more(context, buffer))?
            } else {
                let mut room = [0; SMALL];
                let mut small = ReadBuf::new(&mut room);
                let passed = ready!(this.poll_more(context, &mut small))?;
                this.ready.extend_from_slice(small.filled());
                passed.map(|_| 0)
            };
            if passed != Some(0) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin, T: Fn(StreamFault, String)> Watched<S, T> {
    fn said<'b>(&self, parts: impl Iterator<Item = &'b [u8]>, written: usize) {
        let now = self.watch.began.elapsed();
        let mut left = written;
        for part in parts {
            let here = left.min(part.len());
            left -= here;
            let tell = |stream, fault| {
                let what = match fault {
                    StreamFault::HeadTooLong => "was answered with 431".to_owned(),
                    StreamFault::Malformed(code) => format!("was ended with error code {code}"),
                };
                (self.malformed)(fault, format!("stream {stream} {what}"));
            };
            self.watch.judge().say(&part[..here], now, tell);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, T: Fn(StreamFault, String) + Unpin> AsyncWrite
    for Watched<S, T>
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.said(std::iter::once(bytes), written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        self.said(parts.iter().map(|part| &**part), written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.fault().is_some() {
            let mut room = [0; 8 * 1024];
            let mut dropped = 0;
            while dropped < DRAINED {
                let mut part = ReadBuf::new(&mut room);
                let polled = Pin::new(&mut this.stream).poll_read(context, &mut part);
                if !matches!(polled, Poll::Ready(Ok(()))) || part.filled().is_empty() {
                    break;
                }
                dropped += part.filled().len();
            }
        }
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0portcull";

    fn watch() -> Arc<Watch> {
        Watch::begin(FrameBounds {
            header_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
        })
    }

    /// What is read through a watched stream, so many bytes at a time, until its end.
    async fn read(bytes: &[u8], at_once: usize) -> (Vec<u8>, Option<FrameFault>) {
        let (mut client, server) = duplex(7);
        let watch = watch();
        let mut watched = watch.follow(server, 16 * 1024, |_, _| {});
        let bytes = bytes.to_vec();
        let says = tokio::spawn(async move { client.write_all(&bytes).await });
        let mut all = Vec::new();
        let mut piece = vec![0; at_once];
        while let Ok(Ok(length @ 1..)) =
            time::timeout(Duration::from_millis(200), watched.read(&mut piece)).await
        {
            all.extend_from_slice(&piece[..length]);
        }
        says.abort();
        (all, watch.fault())
    }

    #[tokio::test]
    async fn all_that_is_good_passes_unchanged_in_whatever_pieces() {
        let bytes = [PREFACE, &PING.repeat(150)].concat();
        for at_once in [1, 8, 9, 10, 64, 10_000] {
            let (passed, fault) = read(&bytes, at_once).await;
            assert_eq!(fault, None, "{at_once}");
            assert!(passed == bytes, "{at_once}");
        }
    }

    #[tokio::test]
    async fn what_is_one_too_many_is_replaced_by_what_ends_the_connection() {
        let bytes = [PREFACE, &PING.repeat(1_000)].concat();
        for at_once in [1, 9, 10_000] {
            let (passed, fault) = read(&bytes, at_once).await;
            assert_eq!(fault, Some(FrameFault::Control), "{at_once}");
            let over = ending(16 * 1024);
            let (good, end) = passed.split_at(passed.len() - over.len());
            assert_eq!(end, over, "{at_once}");
            assert!(bytes.starts_with(good), "{at_once}");
            // The time that this takes lets a few more pass.
            let pings = (good.len() - PREFACE.len()) as f64 / PING.len() as f64;
            assert!(
                (200.0..300.0).contains(&pings) && pings.fract() == 0.0,
                "{pings}"
            );
        }
    }
}
