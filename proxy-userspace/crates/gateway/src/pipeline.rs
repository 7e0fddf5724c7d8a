//! The story of one request, stage by stage.

mod log_in;

use std::sync::PoisonError;

use audit::DecisionId;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use log_in::{Served, log_in, logs_in};
use policy::{CanonicalRequest, RequestFault};

use crate::{
    answer::{AnswerBody, Rest, grpc_status},
    authenticate::{Caller, authenticate},
    body::ClientBody,
    client::Client,
    connection::Connection,
    flow::BodyFault,
    forward::{Answer, Forwarded, REQUEST_ID, forward, id_field, outgoing},
    gateway::Gateway,
    holder::{NONCE, PROOF, Sender},
    ledger::Ledger,
    login::{self, Logins},
    refusal::{self, Refusal},
    trace::Trace,
    upstream::UpstreamFault,
    websocket::{Extended, Tunnel, asked, extended},
};

/// Serves one request: every request gets one answer, one decision id and one audit record.
pub(crate) async fn handle(
    gateway: &Gateway,
    connection: &Connection,
    request: Request<ClientBody>,
) -> Response<AnswerBody> {
    let id = gateway.ids.draw();
    let mut request = request;
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let extended = extended(&mut parts);
    let form = form_of(&parts.method, parts.version, &parts.headers);
    // Whatever the answer says: nothing more is read.
    let mut is_last = connection.refused_head(&parts).is_some();
    let with_proof = parts.headers.contains_key(PROOF);
    let trace = gateway.traces.of(id, &parts.headers);
    let mut ledger = Ledger::begin(gateway, id, connection, trace, &parts);
    // Reading on would ask a client for what it hasn't sent yet; a refused gRPC call is one head.
    let read_on = !parts.headers.contains_key(header::EXPECT) && form != refusal::Asked::Grpc;
    let arrived = Arrived {
        id,
        trace,
        parts,
        extended,
    };
    let mut left = Left {
        body: Some(body),
        nonce: None,
        cookies: Vec::new(),
        of_session: false,
    };
    let served = serve(gateway, connection, &mut ledger, arrived, &mut left).await;
    let Left {
        body,
        mut nonce,
        cookies,
        of_session,
    } = left;
    // An upstream can't answer a request whose body is broken off.
    let served = served.map_err(|refusal| {
        let of_upstream = matches!(refusal, Refusal::Upstream(_));
        match (connection.refused_body(), ledger.flow().fault()) {
            (Some(fault), _) if of_upstream => RequestFault::from(fault).into(),
            (None, Some(fault)) if of_upstream => fault.into(),
            _ => match refusal {
                Refusal::Upstream(UpstreamFault::Over(over)) => over.into(),
                other => other,
            },
        }
    });
    let opens = extended.is_some().then_some(StatusCode::OK);
    let opens = opens.unwrap_or(StatusCode::SWITCHING_PROTOCOLS);
    let served = match served {
        Ok(Served::Upstream(answer, true)) if answer.response.status() == opens => {
            match open_tunnel(connection, upgrade, answer, ledger).await {
                Ok(response) => return named(response, id, of_session, cookies),
                Err(back) => {
                    ledger = back;
                    Err(UpstreamFault::UnaskedUpgrade.into())
                }
            }
        }
        served => served,
    };
    let mut response = match served {
        Ok(Served::Here(told)) => {
            let response = told.into_response(&id);
            ledger.status(response.status());
            let rest = body.filter(|_| read_on).and_then(Rest::of);
            response.map(|body| AnswerBody::own(body, rest, ledger))
        }
        Ok(Served::Upstream(answer, _)) => {
            ledger.answered();
            ledger.status(answer.response.status());
            if let Some(status) = grpc_status(answer.response.headers()) {
                ledger.grpc_status(status);
            }
            let (head, body) = answer.response.into_parts();
            let body = AnswerBody::relayed(body, answer.pace, answer.hold, ledger);
            Response::from_parts(head, body)
        }
        Err(refusal) => {
            ledger.refused(&refusal);
            if form == refusal::Asked::Grpc {
                ledger.grpc_status(refusal.grpc_status());
            }
            is_last |= connection.wire.is_some() && refusal.is_of_connection();
            let proofs = gateway.issuers.proofs();
            let realm = refusal::Realm {
                host: ledger.host(),
                route: ledger.route().and_then(|name| gateway.routes.named(name)),
                proofs: Some(proofs.rules()),
                with_proof,
            };
            let rules = proofs.rules();
            if refusal.asks_for_nonce() || (rules.nonces && realm.asks_for_proof(&refusal)) {
                nonce = proofs.nonce();
            }
            let response = refusal.response(&id, form, &realm);
            ledger.status(response.status());
            let rest = body.filter(|_| read_on).and_then(Rest::of);
            response.map(|body| AnswerBody::own(body, rest, ledger))
        }
    };
    if is_last {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    if let Some(nonce) = nonce {
        response.headers_mut().insert(NONCE, nonce);
    }
    named(response, id, of_session, cookies)
}

/// What an answer to this request has to look like if it is refused.
fn form_of(method: &Method, version: Version, fields: &HeaderMap) -> refusal::Asked {
    let kind = fields.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_grpc = |kind: &[u8]| {
        let rest = kind.strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    };
    if *method == Method::HEAD {
        refusal::Asked::Head
    } else if version >= Version::HTTP_2 && kind.is_some_and(is_grpc) {
        refusal::Asked::Grpc
    } else {
        refusal::Asked::Whole
    }
}

fn named(
    mut answer: Response<AnswerBody>,
    id: DecisionId,
    of_session: bool,
    cookies: Vec<HeaderValue>,
) -> Response<AnswerBody> {
    let fields = answer.headers_mut();
    fields.insert(REQUEST_ID, id_field(id));
    login::keep_private(fields, of_session, cookies);
    answer
}

/// Hands both ends to the connection, which carries bytes between them once the answer has been sent; over
/// HTTP/2, where other requests go on beside, to a task of their own. The ledger comes back where that can't
/// be.
async fn open_tunnel(
    connection: &Connection,
    client: OnUpgrade,
    answer: Answer,
    mut ledger: Ledger,
) -> Result<Response<AnswerBody>, Ledger> {
    let Answer {
        mut response,
        hold,
        pace,
    } = answer;
    let Ok(upstream) = hyper::upgrade::on(&mut response).await else {
        return Err(ledger);
    };
    // Whoever sends on before he has his answer takes this for something else. Asked with no wait
    // before `open`: while one waits, more is read.
    if let Some(wire) = &connection.wire {
        if wire.has_refused() {
            return Err(ledger);
        }
        wire.open();
    }
    ledger.answered();
    ledger.status(response.status());
    let tunnel = Tunnel {
        client,
        upstream,
        hold,
        ledger,
        idle: pace.idle,
        tenure: pace.tenure,
    };
    if connection.wire.is_some() {
        *connection
            .tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    } else {
        let drain = connection.drain.clone();
        tokio::spawn(async move {
            tunnel.carry().await;
            drop(drain);
        });
    }
    Ok(response.map(|_| AnswerBody::nothing()))
}

/// A request as it arrived.
struct Arrived {
    id: DecisionId,
    trace: Trace,
    parts: http::request::Parts,
    extended: Option<Extended>,
}

/// What is left of a request, and goes with its answer.
struct Left {
    /// Taken by what is sent upstream; it stays where nothing is.
    body: Option<ClientBody>,
    /// What the client's next proof should quote.
    nonce: Option<HeaderValue>,
    /// What a browser is to keep or to forget.
    cookies: Vec<HeaderValue>,
    /// Whether the answer is to somebody with a session.
    of_session: bool,
}

async fn serve(
    gateway: &Gateway,
    connection: &Connection,
    ledger: &mut Ledger,
    arrived: Arrived,
    left: &mut Left,
) -> Result<Served, Refusal> {
    let Left {
        body,
        nonce,
        cookies,
        of_session,
    } = left;
    let Arrived {
        id,
        trace,
        mut parts,
        extended,
    } = arrived;
    let peer = connection.peer.ip();
    if gateway.journal.is_failing() {
        return Err(Refusal::AuditUnavailable);
    }
    let client = Client::of(
        peer,
        &parts.headers,
        &connection.in_force.load().trusted_hops,
    );
    // The lists may have changed since this connection was accepted.
    gateway.gate.admit(peer)?;
    if client.address != peer.to_canonical() {
        ledger.client(client.address);
        gateway.gate.admit(client.address)?;
    }

    if let Some(fault) = connection.refused_head(&parts) {
        return Err(RequestFault::from(fault).into());
    }
    let request = CanonicalRequest::from_parts(&parts)?;
    ledger.canonical(&request);
    if !connection.is_for(request.host()) {
        return Err(Refusal::Misdirected);
    }
    let shown = connection.meets_rules(request.host())?;

    if let Some(step) = gateway.logins.step(&request) {
        let told = step.take(&parts.headers, &request, cookies).await?;
        return Ok(logs_in(ledger, told));
    }

    let found = gateway.routes.find(&request)?;
    ledger.routed(found.route(), gateway.counts.of(found.route()));

    let sender = Sender {
        headers: &parts.headers,
        request: &request,
        certificate: shown.as_ref().and_then(|_| connection.shown.thumbprint()),
        upgrades: extended.is_some() || parts.headers.contains_key(header::UPGRADE),
    };
    let by_certificate = || match &shown {
        Some(rule) => rule.principal(&connection.shown),
        None => Ok(None),
    };
    let (issuers, logins) = (&gateway.issuers, &gateway.logins);
    let caller = authenticate(found.route(), &sender, by_certificate, issuers, logins).await;
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => return log_in(logins, found.route(), &sender, ledger, refusal),
    };
    ledger.authenticated(caller.as_ref());
    *nonce = caller.as_ref().and_then(Caller::nonce).cloned();
    cookies.extend_from_slice(caller.as_ref().map_or(&[], Caller::cookies));
    *of_session = matches!(caller, Some(Caller::Session(_)));

    let permit = match found.authorise(caller.as_ref().map(Caller::principal)) {
        Ok(permit) => permit,
        Err(denial) => return log_in(logins, found.route(), &sender, ledger, denial.into()),
    };
    let websocket = asked(&parts, extended, found.route())?;
    let most = found.route().max_body_bytes;
    if body
        .as_ref()
        .is_some_and(|it| it.size_hint().lower() > most)
    {
        return Err(BodyFault::TooLarge.into());
    }
    // The last that can be refused here: what is refused is not used up.
    gateway.issuers.use_up(found.route(), caller.as_ref())?;
    ledger.permitted(&permit);
    gateway.issuers.withhold(&mut parts.headers);
    Logins::withhold(&mut parts.headers);

    let is_websocket = websocket.is_some();
    let tenure = || caller.as_ref()?.tenure(&gateway.issuers);
    let sends = body.as_ref().is_some_and(|body| !body.is_end_stream());
    let (tenure, body_tenure) = (tenure(), sends.then(tenure).flatten());
    let forwarded = Forwarded {
        id,
        trace,
        client,
        peer: connection.peer,
        worker: connection.worker,
        flow: ledger.flow().clone(),
        parts,
        body: body.take(),
        websocket,
        client_timeout: connection.body_timeout,
        tenure,
        body_tenure,
    };
    let answer = forward(outgoing(&permit, &gateway.upstreams, forwarded)?).await?;
    Ok(Served::Upstream(answer, is_websocket))
}
