//! A WebSocket (RFC 6455): asked for in a request like any other, judged like any other, and then bytes in
//! both directions that nobody looks at.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use policy::Route;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use crate::ledger::{ByteCount, Ledger};

/// The only version there is (RFC 6455, 4.1).
const VERSION: &[u8] = b"13";

/// Letters of a key: 16 bytes in base64.
const KEY_LETTERS: usize = 24;

/// A request that asks for a WebSocket and may have one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(());

/// Why a WebSocket can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebSocketFault {
    /// Not what RFC 6455, 4.2.1 asks of an opening handshake.
    #[error("websocket_handshake_invalid")]
    Handshake,
}

/// Whether a request asks for a WebSocket on a route that has them. Where it hasn't, the request is one like
/// any other: the field that asks for it doesn't travel.
///
/// # Errors
/// When it asks in a way that the upstream might take otherwise.
pub(crate) fn asked(parts: &Parts, route: &Route) -> Result<Option<Asked>, WebSocketFault> {
    let fields = &parts.headers;
    let mut upgrades = fields.get_all(header::UPGRADE).iter();
    if !route.websocket || !upgrades.any(names_websocket) {
        return Ok(None);
    }
    let key = only(fields, header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let is_key = |key: &[u8]| {
        key.len() == KEY_LETTERS
            && key.ends_with(b"==")
            && key[..KEY_LETTERS - 2]
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
    };
    let is_one = parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && only(fields, header::UPGRADE).is_some()
        && connection_names_upgrade(fields)
        && only(fields, header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == VERSION)
        && key.is_some_and(is_key)
        && !fields.contains_key(header::CONTENT_LENGTH)
        && !fields.contains_key(header::TRANSFER_ENCODING);
    is_one
        .then_some(Some(Asked(())))
        .ok_or(WebSocketFault::Handshake)
}

/// The value of a field that stands there once.
fn only(fields: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = fields.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn names_websocket(value: &HeaderValue) -> bool {
    let name = value.as_bytes().trim_ascii();
    name.eq_ignore_ascii_case(b"websocket")
}

fn connection_names_upgrade(fields: &HeaderMap) -> bool {
    fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Asks the upstream for one, or tells the client that there is one.
pub(crate) fn say_upgrade(fields: &mut HeaderMap) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether an upstream's 101 is about a WebSocket.
pub(crate) fn is_answer(fields: &HeaderMap) -> bool {
    only(fields, header::UPGRADE).is_some_and(names_websocket)
        && connection_names_upgrade(fields)
        && fields.contains_key(header::SEC_WEBSOCKET_ACCEPT)
}

/// Both ends of a WebSocket, and its record.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: Upgraded,
    pub(crate) ledger: Ledger,
}

impl Tunnel {
    /// Carries bytes in both directions until both ends have finished, or one has broken off.
    pub(crate) async fn carry(self) {
        let Self {
            client,
            upstream,
            mut ledger,
        } = self;
        // A client that is gone by now has an incomplete record.
        let Ok(client) = client.await else { return };
        let mut client = Tallied {
            inner: TokioIo::new(client),
            read: ledger.request_bytes(),
            written: ByteCount::default(),
        };
        let carried = copy_bidirectional(&mut client, &mut TokioIo::new(upstream)).await;
        ledger.carried(client.written.bytes(), carried.is_ok());
    }
}

/// Counts what is read and written.
struct Tallied<S> {
    inner: S,
    read: ByteCount,
    written: ByteCount,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tallied<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.read.add(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tallied<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.written.add(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
