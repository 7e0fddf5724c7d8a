//! A request's body: what its DATA frames hold, no more and no less than its length says.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use h3::{error::StreamError, server::RequestStream};
use http::{HeaderMap, Method, header, request::Parts};
use http_body::{Body, Frame, SizeHint};

use super::watched;

/// The receiving half of a request's stream.
pub(super) type Receiver = RequestStream<watched::Receiver, Bytes>;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client reset it, or went away.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// More or less came than `Content-Length` says (RFC 9114, 4.1.2).
    #[error("the body isn't as long as its Content-Length says")]
    Length,
}

/// What comes of it.
pub(crate) struct RequestBody {
    stream: Receiver,
    /// What came while it was looked whether there is any.
    first: Option<Bytes>,
    /// By `Content-Length`, what is still to come.
    left: Option<u64>,
    ended: bool,
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody")
            .field("left", &self.left)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl RequestBody {
    /// Of a request with this head. A method that has no body as a rule (RFC 9110, 9.3) is looked at until its
    /// stream ends, or one begins: nothing in the head says whether there is any.
    ///
    /// # Errors
    /// When the stream breaks off.
    pub(super) async fn of(parts: &Parts, stream: Receiver) -> Result<Self, BodyError> {
        let mut body = Self {
            stream,
            first: None,
            left: length(&parts.headers),
            ended: false,
        };
        let bare = [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS];
        if body.left.is_none() && bare.contains(&parts.method) || body.left == Some(0) {
            body.first = std::future::poll_fn(|context| body.poll_data(context)).await?;
        }
        Ok(body)
    }

    /// The next part; none at the end.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let Poll::Ready(polled) = self.stream.poll_recv_data(context) else {
            return Poll::Pending;
        };
        let part = polled?.map(|mut part| part.copy_to_bytes(part.remaining()));
        let Some(part) = part else {
            self.ended = true;
            return Poll::Ready(match self.left {
                None | Some(0) => Ok(None),
                Some(_) => Err(BodyError::Length),
            });
        };
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(part.len() as u64)
                .ok_or(BodyError::Length)?;
        }
        Poll::Ready(Ok(Some(part)))
    }
}

/// What one plain `Content-Length` says; any other is refused with the head.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let polled = self.poll_data(context);
        polled.map(|part| part.map(|part| part.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        match self.left {
            Some(left) => SizeHint::with_exact(left + first),
            None if self.ended => SizeHint::with_exact(first),
            None => SizeHint::default(),
        }
    }
}
