//! The body of an answer: what is sent is counted, what is silent for too long is broken off, and its end is
//! the end of the request's record.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::{
    body::ClientBody,
    flow::Flow,
    lateness::Lateness,
    ledger::Ledger,
    tenure::{Over, Tenure},
    upstream::Hold,
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Why an answer was broken off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerFault {
    #[error(transparent)]
    Upstream(#[from] hyper::Error),
    #[error("the upstream was silent for too long")]
    Silent,
    /// What let the request in is good no more.
    #[error(transparent)]
    Over(#[from] Over),
}

/// Body of an answer.
// Fields drop in their order: what came of the body is known before the record is written.
pub(crate) struct AnswerBody {
    source: Source,
    ledger: Option<Ledger>,
}

enum Source {
    Nothing,
    Own(Full<Bytes>, Option<Rest>),
    Upstream(Relayed),
}

/// Bytes of a refused request's body that are read and dropped, and for how long: a client that is still
/// sending sees a stream reset before it sees the answer.
const DRAINED: usize = 256 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What a client still sends of a body that nobody wants.
pub(crate) struct Rest {
    body: ClientBody,
    left: usize,
    timer: Pin<Box<Sleep>>,
}

impl Rest {
    /// Of this body, if there is more of it.
    pub(crate) fn of(body: ClientBody) -> Option<Self> {
        (!body.is_end_stream()).then(|| Self {
            body,
            left: DRAINED,
            timer: Box::pin(sleep(DRAIN_TIMEOUT)),
        })
    }

    fn poll_drained(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.left > 0 {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let read = frame.data_ref().map_or(0, Bytes::len);
                    self.left = self.left.saturating_sub(read);
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.timer.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

/// An upstream's answer.
// Dropped in this order, a connection whose answer was not read whole is known to be of no more use.
struct Relayed {
    body: Incoming,
    pace: Pace,
    _hold: Hold,
}

/// How long an answer may be silent, and take.
pub(crate) struct Pace {
    pub(crate) idle: Duration,
    pub(crate) until: Option<Instant>,
    /// The request's body: while that moves, an answer may wait.
    pub(crate) flow: Flow,
    /// What it may go on under.
    pub(crate) tenure: Option<Tenure>,
    waiting: Option<Instant>,
    lateness: Lateness,
}

impl Pace {
    pub(crate) fn new(
        idle: Duration,
        until: Option<Instant>,
        flow: Flow,
        tenure: Option<Tenure>,
    ) -> Self {
        Self {
            idle,
            until,
            flow,
            tenure,
            waiting: None,
            lateness: Lateness::default(),
        }
    }

    /// Whether the upstream was waited for in vain, or for something that may go on no more.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<AnswerFault> {
        loop {
            let since = *self.waiting.get_or_insert_with(Instant::now);
            let end = since.max(self.flow.moved()) + self.idle;
            let end = self.until.map_or(end, |until| until.min(end));
            let wakes = match &mut self.tenure {
                None => end,
                Some(tenure) => {
                    if let Err(fault) = tenure.look(context) {
                        return Poll::Ready(fault.into());
                    }
                    tenure.wakes().min(end)
                }
            };
            if !self.lateness.is_past(wakes, context) {
                return Poll::Pending;
            }
            if wakes == end {
                return Poll::Ready(AnswerFault::Silent);
            }
        }
    }
}

impl AnswerBody {
    /// None: the record ends elsewhere.
    pub(crate) fn nothing() -> Self {
        Self {
            source: Source::Nothing,
            ledger: None,
        }
    }

    /// Ours; it ends when the rest of the request has been read.
    pub(crate) fn own(body: Full<Bytes>, rest: Option<Rest>, ledger: Ledger) -> Self {
        Self {
            source: Source::Own(body, rest),
            ledger: Some(ledger),
        }
    }

    /// An upstream's.
    pub(crate) fn relayed(body: Incoming, pace: Pace, hold: Hold, ledger: Ledger) -> Self {
        let relayed = Relayed {
            body,
            pace,
            _hold: hold,
        };
        Self {
            source: Source::Upstream(relayed),
            ledger: Some(ledger),
        }
    }
}

impl Relayed {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerFault>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => self.pace.poll_over(context).map(|fault| Some(Err(fault))),
            Poll::Ready(polled) => {
                self.pace.waiting = None;
                // What has come to its end is whole, whatever becomes of its token.
                if let (Some(Ok(_)), Some(tenure)) = (&polled, &mut self.pace.tenure)
                    && let Err(fault) = tenure.stands()
                {
                    return Poll::Ready(Some(Err(fault.into())));
                }
                Poll::Ready(polled.map(|frame| frame.map_err(AnswerFault::from)))
            }
        }
    }
}

/// What a service says of a gRPC call, at the end of its answer or in place of one.
pub(crate) fn grpc_status(fields: &HeaderMap) -> Option<u32> {
    fields.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerFault>>> {
        let this = &mut *self;
        let polled = match &mut this.source {
            Source::Nothing => Poll::Ready(None),
            Source::Own(body, rest) if body.is_end_stream() => {
                let drained = rest
                    .as_mut()
                    .map_or(Poll::Ready(()), |rest| rest.poll_drained(context));
                drained.map(|()| {
                    *rest = None;
                    None
                })
            }
            Source::Own(body, _) => Pin::new(body)
                .poll_frame(context)
                .map(|polled| polled.map(|frame| frame.map_err(|never| match never {}))),
            Source::Upstream(relayed) => relayed.poll(context),
        };
        let ended = this.is_end_stream();
        let Some(ledger) = &mut this.ledger else {
            return polled;
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                ledger.sends(frame.data_ref().map_or(0, Bytes::len), ended);
                if let Some(status) = frame.trailers_ref().and_then(grpc_status) {
                    ledger.grpc_status(status);
                }
            }
            Poll::Ready(None) => ledger.sends(0, true),
            Poll::Ready(Some(Err(AnswerFault::Silent))) => ledger.silent(),
            Poll::Ready(Some(Err(AnswerFault::Over(fault)))) => ledger.over(fault),
            // An upstream can't go on with a request whose body is broken off.
            Poll::Ready(Some(Err(_))) => ledger.broken_off(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Nothing => true,
            Source::Own(body, rest) => body.is_end_stream() && rest.is_none(),
            Source::Upstream(relayed) => relayed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Nothing => SizeHint::with_exact(0),
            Source::Own(body, _) => body.size_hint(),
            Source::Upstream(relayed) => relayed.body.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // Nobody polls a body that has nothing to send.
        let ended = self.is_end_stream();
        if let Some(ledger) = &mut self.ledger {
            ledger.had_nothing_to_send(ended);
        }
    }
}
