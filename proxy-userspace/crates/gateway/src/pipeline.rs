//! The story of one request, stage by stage.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use audit::Journal;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Empty, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use policy::{CanonicalHost, CanonicalRequest, RequestFault, RouteTable, WireFault};
use rustls::sign::CertifiedKey;

use crate::{
    authenticate::{Issuers, authenticate},
    certificates::covers,
    forward::{Forwarded, REQUEST_ID, forward},
    ledger::{DecisionId, DecisionIds, Ledger},
    refusal::Refusal,
    upstream::{UpstreamFault, Upstreams},
    websocket::{Tunnel, asked},
    wire::WireState,
};

/// Body of an answer.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// Why a source is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceRefusal {
    /// On a blocklist.
    #[error("source_blocked")]
    Blocked,
    /// Banned for a while.
    #[error("source_banned")]
    Banned,
}

/// The lists, asked again in userspace: losing the kernel side costs speed, not safety.
pub trait SourceGate: Send + Sync {
    /// Whether a source may be served.
    ///
    /// # Errors
    /// Why it may not.
    fn admit(&self, source: IpAddr) -> Result<(), SourceRefusal>;
}

/// Everything a request meets. Built whole, then shared; nothing in it changes but the issuers'
/// keys.
pub struct Gateway {
    /// The routes.
    pub routes: RouteTable,
    /// The trusted issuers.
    pub issuers: Issuers,
    /// The services behind the proxy.
    pub upstreams: Upstreams,
    /// The lists.
    pub gate: Arc<dyn SourceGate>,
    /// The audit trail.
    pub journal: Arc<Journal>,
    ids: DecisionIds,
}

impl Gateway {
    /// A gateway of these parts.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(
        routes: RouteTable,
        issuers: Issuers,
        upstreams: Upstreams,
        gate: Arc<dyn SourceGate>,
        journal: Arc<Journal>,
    ) -> Result<Self, std::io::Error> {
        Ok(Self {
            routes,
            issuers,
            upstreams,
            gate,
            journal,
            ids: DecisionIds::new()?,
        })
    }
}

/// The connection a request came on.
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    pub(crate) tls: &'static str,
    /// What the client was shown.
    pub(crate) certificate: Option<Arc<CertifiedKey>>,
    /// The first host of a request for which it is good: most connections ask for one only.
    pub(crate) covered: OnceLock<CanonicalHost>,
    /// Of HTTP/1.1: what was refused before it was read.
    pub(crate) wire: Option<Arc<WireState>>,
    /// What the connection becomes when its last answer has been sent.
    pub(crate) tunnel: Mutex<Option<Tunnel>>,
}

impl Connection {
    fn refused_head(&self, parts: &Parts) -> Option<WireFault> {
        self.wire.as_ref()?.refused_head(parts)
    }

    /// Whether the certificate that the client was shown is good for a host. A client that takes one
    /// connection for several hosts, or was led here by another's name, is told so (RFC 9110, 15.5.20).
    fn is_for(&self, host: &CanonicalHost) -> bool {
        if self.covered.get() == Some(host) {
            return true;
        }
        let covers = self.certificate.as_ref().is_some_and(|it| covers(it, host));
        if covers {
            // Another one may be there already.
            let _ = self.covered.set(host.clone());
        }
        covers
    }

    fn refused_body(&self) -> Option<WireFault> {
        self.wire.as_ref()?.refused_body()
    }
}

/// Serves one request: every request gets one answer, one decision id and one audit record.
pub(crate) async fn handle(
    gateway: &Gateway,
    connection: &Connection,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let id = gateway.ids.draw();
    let mut request = request;
    let client = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let head_only = parts.method == Method::HEAD;
    let mut ledger = Ledger::begin(
        &gateway.journal,
        id,
        connection.peer,
        connection.tls,
        &parts,
    );
    let served = serve(gateway, connection, id, &mut ledger, parts, body).await;
    // An upstream can't answer a request whose body is broken off.
    let served = served.map_err(|refusal| match connection.refused_body() {
        Some(fault) if matches!(refusal, Refusal::Upstream(_)) => RequestFault::from(fault).into(),
        _ => refusal,
    });
    let served = match served {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            match open_tunnel(connection, client, response, ledger).await {
                Ok(answer) => return named(answer, id),
                Err(back) => {
                    ledger = back;
                    Err(UpstreamFault::UnaskedUpgrade.into())
                }
            }
        }
        served => served,
    };
    let answer = match served {
        Ok(response) => {
            ledger.answered();
            ledger.close_with(response).map(|body| body.boxed_unsync())
        }
        Err(refusal) => {
            ledger.refused(&refusal);
            let response = refusal.response(&id, head_only);
            ledger
                .close_with(response)
                .map(|body| body.map_err(|never| match never {}).boxed_unsync())
        }
    };
    named(answer, id)
}

fn named(mut answer: Response<AnswerBody>, id: DecisionId) -> Response<AnswerBody> {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    answer
}

/// Hands both ends to the connection, which carries bytes between them once the answer has been sent. The
/// ledger comes back where that can't be.
async fn open_tunnel(
    connection: &Connection,
    client: OnUpgrade,
    mut response: Response<Incoming>,
    mut ledger: Ledger,
) -> Result<Response<AnswerBody>, Ledger> {
    let Some(wire) = &connection.wire else {
        return Err(ledger);
    };
    let Ok(upstream) = hyper::upgrade::on(&mut response).await else {
        return Err(ledger);
    };
    // Whoever sends on before he has his answer takes this for something else. Asked with no wait
    // before `open`: while one waits, more is read.
    if wire.has_refused() {
        return Err(ledger);
    }
    wire.open();
    ledger.answered();
    ledger.status(response.status());
    let tunnel = Tunnel {
        client,
        upstream,
        ledger,
    };
    *connection
        .tunnel
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    Ok(response.map(|_| {
        Empty::new()
            .map_err(|never: Infallible| match never {})
            .boxed_unsync()
    }))
}

async fn serve(
    gateway: &Gateway,
    connection: &Connection,
    id: DecisionId,
    ledger: &mut Ledger,
    parts: Parts,
    body: Incoming,
) -> Result<Response<Incoming>, Refusal> {
    let source = connection.peer.ip();
    if gateway.journal.is_failing() {
        return Err(Refusal::AuditUnavailable);
    }
    // The lists may have changed since this connection was accepted.
    gateway.gate.admit(source)?;

    if let Some(fault) = connection.refused_head(&parts) {
        return Err(RequestFault::from(fault).into());
    }
    let request = CanonicalRequest::from_parts(&parts)?;
    ledger.canonical(&request);
    if !connection.is_for(request.host()) {
        return Err(Refusal::Misdirected);
    }

    let found = gateway.routes.find(&request)?;
    ledger.routed(found.route());

    let principal = authenticate(found.route(), &parts.headers, &gateway.issuers)?;
    ledger.authenticated(principal.as_ref());

    let permit = found.authorise(principal.as_ref())?;
    let websocket = asked(&parts, found.route())?;
    ledger.permitted(&permit);

    let forwarded = Forwarded {
        id,
        peer: source,
        bytes: ledger.request_bytes(),
        parts,
        body,
        websocket,
    };
    Ok(forward(permit, &gateway.upstreams, forwarded).await?)
}
