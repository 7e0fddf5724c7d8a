//! The body of a request on its way up.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::{
    body::{ClientBody, ClientBodyError},
    flow::{BodyFault, Flow},
    lateness::Lateness,
    tenure::Tenure,
};

/// Why a body could not be sent on whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenBody {
    #[error(transparent)]
    Client(#[from] ClientBodyError),
    #[error(transparent)]
    Here(#[from] BodyFault),
}

/// The client's body: counted, bounded, and without trailers, which could carry fields that were judged
/// nowhere.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    body: Option<ClientBody>,
    flow: Flow,
    most: u64,
    /// How long the client may owe the next part when nobody waits for the answer any more.
    longest: Duration,
    lateness: Lateness,
    /// What it may go on under.
    tenure: Option<Tenure>,
}

impl UpstreamBody {
    /// At most `most` bytes of `body`, none of its parts later than `longest` after the one before.
    pub(crate) fn new(
        body: Option<ClientBody>,
        flow: Flow,
        most: u64,
        longest: Duration,
        tenure: Option<Tenure>,
    ) -> Self {
        if body.as_ref().is_none_or(Body::is_end_stream) {
            flow.ends();
        }
        Self {
            body,
            flow,
            most,
            longest,
            lateness: Lateness::default(),
            tenure,
        }
    }

    /// Whether the client owed the next part for too long.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        self.flow.owes();
        let end = self.flow.moved() + self.longest;
        self.lateness.is_past(end, context)
    }

    /// No body, whatever was there.
    pub(crate) fn empty(flow: Flow) -> Self {
        Self::new(None, flow, 0, Duration::MAX, None)
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
        match Pin::new(body).poll_frame(context) {
            Poll::Pending if self.is_late(context) => {
                self.flow.break_off(BodyFault::Stalled);
                Poll::Ready(Some(Err(BodyFault::Stalled.into())))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                self.flow.moves();
                let Ok(data) = frame.into_data() else {
                    self.flow.ends();
                    return Poll::Ready(None);
                };
                // Also where nobody waits for the answer, or the client takes none of it.
                if self.tenure.as_mut().is_some_and(|it| it.stands().is_err()) {
                    self.flow.break_off(BodyFault::Over);
                    return Poll::Ready(Some(Err(BodyFault::Over.into())));
                }
                if self.flow.add(data.len()) > self.most {
                    self.flow.break_off(BodyFault::TooLarge);
                    return Poll::Ready(Some(Err(BodyFault::TooLarge.into())));
                }
                if self.is_end_stream() {
                    self.flow.ends();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.flow.break_off(BodyFault::Broken);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.flow.moves();
                self.flow.ends();
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
