//! One request, and its answer.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use h3::{
    error::{Code, StreamError},
    server::{RequestResolver, RequestStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time;

use super::{body::RequestBody, watched::Watched};
use crate::{
    answer::AnswerBody, body::ClientBody, connection::Connection, door::Door, pipeline::handle,
};

type Sender = RequestStream<h3_quinn::SendStream<Bytes>, Bytes>;

/// Fields about one connection, which have no place here (RFC 9114, 4.2). The library lets them in.
const REFUSED: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What came of a stream.
pub(super) enum Came {
    /// A request, however that was answered.
    Request,
    /// None.
    Malformed,
}

/// Reads a request, has it served, and sends the answer.
pub(super) async fn exchange(
    resolver: RequestResolver<Watched, Bytes>,
    door: Arc<Door>,
    connection: Arc<Connection>,
) -> Came {
    let limits = door.shared().limits;
    let refused = |reason, why| door.record(reason, Some(why));
    let Ok(resolved) = time::timeout(limits.header_timeout, resolver.resolve_request()).await
    else {
        refused("http_timeout", "no whole head came in time".to_owned());
        return Came::Malformed;
    };
    let (request, stream) = match resolved {
        Ok(resolved) => resolved,
        Err(error) => {
            match error {
                // What a peer breaks off is not worth a record; what it says wrongly is.
                StreamError::RemoteTerminate { .. } | StreamError::ConnectionError { .. } => {}
                StreamError::HeaderTooBig { .. } => refused("head_too_long", error.to_string()),
                _ => refused("http_malformed", error.to_string()),
            }
            return Came::Malformed;
        }
    };
    let (mut send, mut receive) = stream.split();
    let (parts, ()) = request.into_parts();
    if let Some(name) = misplaced(&parts.headers) {
        refused("http_malformed", format!("a field {name} over HTTP/3"));
        send.stop_stream(Code::H3_MESSAGE_ERROR);
        receive.stop_sending(Code::H3_MESSAGE_ERROR);
        return Came::Malformed;
    }
    let body = RequestBody::of(&parts, receive);
    let body = match time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => body,
        ended => {
            let why = match ended {
                Ok(Err(error)) => error.to_string(),
                _ => "its stream neither ends nor goes on".to_owned(),
            };
            refused("http_malformed", why);
            send.stop_stream(Code::H3_MESSAGE_ERROR);
            return Came::Malformed;
        }
    };
    let request = Request::from_parts(parts, ClientBody::Http3(Box::new(body)));
    let gateway = door.live().current();
    let answer = handle(&gateway, &connection, request).await;
    if tell(&mut send, answer, limits.stall_timeout).await.is_err() {
        send.stop_stream(Code::H3_REQUEST_CANCELLED);
    }
    Came::Request
}

fn misplaced(headers: &HeaderMap) -> Option<HeaderName> {
    let te = headers.get_all(header::TE).iter();
    let is_odd = |value: &HeaderValue| value.as_bytes() != b"trailers";
    if te.into_iter().any(is_odd) {
        return Some(header::TE);
    }
    REFUSED.into_iter().find(|name| headers.contains_key(name))
}

/// Why an answer wasn't taken to its end.
enum Untold {
    /// The client took nothing of it for too long.
    Stalled,
    /// The client or the upstream broke it off.
    Broken,
}

async fn tell(
    send: &mut Sender,
    answer: Response<AnswerBody>,
    stall_timeout: Duration,
) -> Result<(), Untold> {
    let (mut head, body) = answer.into_parts();
    for name in REFUSED {
        head.headers.remove(name);
    }
    taken(
        stall_timeout,
        send.send_response(Response::from_parts(head, ())),
    )
    .await?;
    let mut body = pin!(body);
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(|_| Untold::Broken)?;
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => taken(stall_timeout, send.send_data(data)).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    taken(stall_timeout, send.send_trailers(trailers)).await?;
                }
            }
        }
    }
    taken(stall_timeout, send.finish()).await
}

async fn taken(
    stall_timeout: Duration,
    sending: impl Future<Output = Result<(), StreamError>>,
) -> Result<(), Untold> {
    match time::timeout(stall_timeout, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Untold::Broken),
        Err(_) => Err(Untold::Stalled),
    }
}
