//! A WebSocket (RFC 6455): asked for in a request like any other, judged like any other, and then bytes in
//! both directions that nobody looks at.

use std::{future, time::Duration};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header,
    request::Parts,
};
use hyper::{
    ext::Protocol,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use policy::Route;

use crate::{
    carry::{Ended, carry},
    ledger::Ledger,
    tenure::Tenure,
    upstream::Hold,
};

/// The only version there is (RFC 6455, 4.1).
const VERSION: &[u8] = b"13";

/// Letters of a key: 16 bytes in base64.
const KEY_LETTERS: usize = 24;

/// What a server adds to a key before it hashes it (RFC 6455, 1.3).
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request over HTTP/2 that would be a WebSocket's (RFC 8441, 4). It is judged as the GET that it is over
/// HTTP/1.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extended(());

/// A request that asks for a WebSocket and may have one.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// With a handshake that client and upstream do with each other, and that is watched.
    Http1 {
        /// What the upstream has to make of the client's key.
        accept: String,
    },
    /// Without one: the upstream's is done here.
    Http2 {
        key: HeaderValue,
        /// What the upstream has to make of it.
        accept: String,
    },
}

/// Why a WebSocket can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebSocketFault {
    /// Not what RFC 6455, 4.2.1 or RFC 8441, 5 ask of an opening handshake.
    #[error("websocket_handshake_invalid")]
    Handshake,
    /// Asked for over HTTP/2 on a route that has none.
    #[error("websocket_not_routed")]
    NotRouted,
}

/// Reads a CONNECT that names the protocol as what it means. Any other CONNECT stays one, and is refused.
pub(crate) fn extended(parts: &mut Parts) -> Option<Extended> {
    let is_one = parts.method == Method::CONNECT
        && parts.version == Version::HTTP_2
        && parts
            .extensions
            .get::<Protocol>()
            .is_some_and(|protocol| protocol.as_str() == "websocket");
    is_one.then(|| {
        parts.method = Method::GET;
        Extended(())
    })
}

/// Whether a request asks for a WebSocket on a route that has them. Where it hasn't, a request over HTTP/1.1
/// is one like any other: the field that asks for it doesn't travel.
///
/// # Errors
/// When it asks in a way that the upstream might take otherwise, or can't be a request like any other.
pub(crate) fn asked(
    parts: &Parts,
    extended: Option<Extended>,
    route: &Route,
) -> Result<Option<Asked>, WebSocketFault> {
    let fields = &parts.headers;
    let has_version = || {
        let version = only(fields, header::SEC_WEBSOCKET_VERSION);
        version.is_some_and(|version| version == VERSION)
    };
    if extended.is_some() {
        if !route.websocket {
            return Err(WebSocketFault::NotRouted);
        }
        let asked = has_version().then(ask_upstream).flatten();
        return asked.map(Some).ok_or(WebSocketFault::Handshake);
    }
    let mut upgrades = fields.get_all(header::UPGRADE).iter();
    if !route.websocket || !upgrades.any(names_websocket) {
        return Ok(None);
    }
    let key = only(fields, header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
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
        && has_version()
        && is_key(key)
        && !fields.contains_key(header::CONTENT_LENGTH)
        && !fields.contains_key(header::TRANSFER_ENCODING);
    is_one
        .then(|| {
            let accept = accept_of(key);
            Some(Asked::Http1 { accept })
        })
        .ok_or(WebSocketFault::Handshake)
}

/// A handshake of our own; none where the system has no randomness.
fn ask_upstream() -> Option<Asked> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).ok()?;
    let key = STANDARD.encode(nonce);
    Some(Asked::Http2 {
        accept: accept_of(key.as_bytes()),
        key: HeaderValue::try_from(key).ok()?,
    })
}

/// What a server that knows the protocol makes of a key (RFC 6455, 4.2.2).
fn accept_of(key: &[u8]) -> String {
    let hashed = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, SUFFIX].concat());
    STANDARD.encode(hashed)
}

impl Asked {
    /// Asks the upstream for a WebSocket.
    pub(crate) fn say_upgrade(&self, fields: &mut HeaderMap) {
        say_upgrade(fields);
        if let Self::Http2 { key, .. } = self {
            fields.insert(header::SEC_WEBSOCKET_KEY, key.clone());
        }
    }

    /// Whether an upstream's 101 is about that.
    pub(crate) fn is_answered_by(&self, fields: &HeaderMap) -> bool {
        let accepted = only(fields, header::SEC_WEBSOCKET_ACCEPT);
        let (Self::Http1 { accept } | Self::Http2 { accept, .. }) = self;
        let accepted = accepted.is_some_and(|accepted| accepted == accept);
        accepted
            && only(fields, header::UPGRADE).is_some_and(names_websocket)
            && connection_names_upgrade(fields)
    }

    /// Tells the client that there is one, in its own version's words.
    pub(crate) fn tell_upgrade<B>(&self, response: &mut Response<B>) {
        match self {
            Self::Http1 { .. } => say_upgrade(response.headers_mut()),
            Self::Http2 { .. } => {
                *response.status_mut() = StatusCode::OK;
                response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
            }
        }
    }
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

fn say_upgrade(fields: &mut HeaderMap) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Both ends of a WebSocket, and its record.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: Upgraded,
    pub(crate) hold: Hold,
    pub(crate) ledger: Ledger,
    /// How long both ends may be silent.
    pub(crate) idle: Duration,
    /// What it may go on under.
    pub(crate) tenure: Option<Tenure>,
}

impl Tunnel {
    /// Carries bytes in both directions until both ends have finished, one has broken off, or neither has
    /// said anything for too long, or what let it in is good no more.
    pub(crate) async fn carry(self) {
        let Self {
            client,
            upstream,
            hold: _hold,
            mut ledger,
            idle,
            mut tenure,
        } = self;
        // A client that is gone by now has an incomplete record.
        let Ok(client) = client.await else { return };
        let (read, written) = (ledger.flow().clone(), ledger.tunnels());
        let up = |bytes| {
            read.add(bytes);
        };
        let down = |bytes| written.add(bytes);
        let mut upstream = TokioIo::new(upstream);
        let over = async {
            match &mut tenure {
                Some(tenure) => tenure.over().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            ended = carry(TokioIo::new(client), &mut upstream, up, down, idle) => {
                ledger.carried(ended == Ended::Whole);
            }
            fault = over => ledger.over(&fault),
        }
    }
}
