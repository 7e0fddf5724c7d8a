//! The body of a request as its client sends it, whatever the connection speaks.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

#[cfg(feature = "http3")]
use crate::http3;

/// What comes in of it.
#[derive(Debug)]
pub(crate) enum ClientBody {
    /// Over HTTP/1.1 and HTTP/2.
    Http(Incoming),
    #[cfg(feature = "http3")]
    Http3(Box<http3::RequestBody>),
}

/// Why it broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientBodyError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[cfg(feature = "http3")]
    #[error(transparent)]
    Http3(#[from] http3::BodyError),
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match self.get_mut() {
            Self::Http(body) => {
                let polled = Pin::new(body).poll_frame(context);
                polled.map(|frame| frame.map(|frame| Ok(frame?)))
            }
            #[cfg(feature = "http3")]
            Self::Http3(body) => {
                let polled = Pin::new(&mut **body).poll_frame(context);
                polled.map(|frame| frame.map(|frame| Ok(frame?)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http(body) => body.is_end_stream(),
            #[cfg(feature = "http3")]
            Self::Http3(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            #[cfg(feature = "http3")]
            Self::Http3(body) => body.size_hint(),
        }
    }
}
