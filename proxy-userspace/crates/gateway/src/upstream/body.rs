//! The body of a request on its way up.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::flow::{BodyFault, Flow};

/// Why a body could not be sent on whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenBody {
    #[error(transparent)]
    Client(#[from] hyper::Error),
    #[error(transparent)]
    Here(#[from] BodyFault),
}

/// The client's body: counted, bounded, and without trailers, which could carry fields that were judged
/// nowhere.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    body: Option<Incoming>,
    flow: Flow,
    most: u64,
}

impl UpstreamBody {
    /// At most `most` bytes of `body`.
    pub(crate) fn new(body: Option<Incoming>, flow: Flow, most: u64) -> Self {
        Self { body, flow, most }
    }

    /// No body, whatever was there.
    pub(crate) fn empty(flow: Flow) -> Self {
        Self::new(None, flow, 0)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        match polled {
            Poll::Pending => {
                self.flow.owes();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.flow.moves();
                let Ok(data) = frame.into_data() else {
                    return Poll::Ready(None);
                };
                if self.flow.add(data.len()) > self.most {
                    let fault = BodyFault::TooLarge;
                    self.flow.break_off(fault);
                    return Poll::Ready(Some(Err(fault.into())));
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                self.flow.moves();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
