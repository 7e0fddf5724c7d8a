//! A QUIC connection as the library of HTTP/3 takes it, with the frames of each request looked at first.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf},
};

use super::frames::Frames;

/// The connection.
pub(super) struct Watched(h3_quinn::Connection);

impl Watched {
    pub(super) fn new(quic: quinn::Connection) -> Self {
        Self(h3_quinn::Connection::new(quic))
    }
}

/// Opens streams of the proxy's own.
pub(super) struct Opener(h3_quinn::OpenStreams);

/// What comes from a client of a request, looked at first.
pub(super) struct Looked<S> {
    stream: S,
    watch: Watch,
}

/// A request's stream.
type Stream = Looked<h3_quinn::BidiStream<Bytes>>;

/// Its receiving half.
pub(super) type Receiver = Looked<h3_quinn::RecvStream>;

/// What came and wasn't passed on yet, and where that is.
#[derive(Default)]
struct Watch {
    frames: Frames,
    came: Bytes,
}

impl Watch {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut receive: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let fault = |fault| StreamErrorIncoming::Unknown(Box::new(fault));
        loop {
            if let Some(piece) = self.frames.next(&mut self.came).map_err(fault)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            match ready!(receive(context))? {
                Some(came) => self.came = came,
                None => return Poll::Ready(self.frames.end().map(|()| None).map_err(fault)),
            }
        }
    }
}

impl From<h3_quinn::BidiStream<Bytes>> for Stream {
    fn from(stream: h3_quinn::BidiStream<Bytes>) -> Self {
        let watch = Watch::default();
        Self { stream, watch }
    }
}

impl quic::Connection<Bytes> for Watched {
    type RecvStream = h3_quinn::RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        quic::Connection::<Bytes>::poll_accept_recv(&mut self.0, context)
    }

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionErrorIncoming>> {
        let accepted = self.0.poll_accept_bidi(context);
        accepted.map(|stream| stream.map(Stream::from))
    }

    fn opener(&self) -> Opener {
        Opener(quic::Connection::<Bytes>::opener(&self.0))
    }
}

macro_rules! opens_streams {
    ($($name:ty),*) => {$(
        impl quic::OpenStreams<Bytes> for $name {
            type BidiStream = Stream;
            type SendStream = h3_quinn::SendStream<Bytes>;

            fn poll_open_bidi(
                &mut self,
                context: &mut Context<'_>,
            ) -> Poll<Result<Stream, StreamErrorIncoming>> {
                let opened = quic::OpenStreams::<Bytes>::poll_open_bidi(&mut self.0, context);
                opened.map(|stream| stream.map(Stream::from))
            }

            fn poll_open_send(
                &mut self,
                context: &mut Context<'_>,
            ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
                quic::OpenStreams::<Bytes>::poll_open_send(&mut self.0, context)
            }

            fn close(&mut self, code: Code, reason: &[u8]) {
                quic::OpenStreams::<Bytes>::close(&mut self.0, code, reason);
            }
        }
    )*};
}

opens_streams!(Watched, Opener);

impl<S: quic::RecvStream<Buf = Bytes>> quic::RecvStream for Looked<S> {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let stream = &mut self.stream;
        self.watch
            .poll(context, |context| stream.poll_data(context))
    }

    fn stop_sending(&mut self, code: u64) {
        self.stream.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.stream.recv_id()
    }
}

impl quic::SendStream<Bytes> for Stream {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.stream.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_finish(context)
    }

    fn reset(&mut self, code: u64) {
        self.stream.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.stream.send_id()
    }
}

impl quic::BidiStream<Bytes> for Stream {
    type SendStream = h3_quinn::SendStream<Bytes>;
    type RecvStream = Receiver;

    fn split(self) -> (Self::SendStream, Receiver) {
        let (send, stream) = self.stream.split();
        let watch = self.watch;
        (send, Receiver { stream, watch })
    }
}
