//! Whether something that is polled is late, asked again when it may be.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

/// A timer that is made when something is waited for, which nearly nothing is for long.
#[derive(Debug, Default)]
pub(crate) struct Lateness(Option<Pin<Box<Sleep>>>);

impl Lateness {
    /// Whether `end` has passed; if not, the task is woken by then.
    pub(crate) fn is_past(&mut self, end: Instant, context: &mut Context<'_>) -> bool {
        loop {
            if end <= Instant::now() {
                return true;
            }
            let timer = self
                .0
                .get_or_insert_with(|| Box::pin(sleep_until(end.into())));
            match timer.as_mut().poll(context) {
                Poll::Pending => return false,
                // It was set for an earlier end.
                Poll::Ready(()) => timer.as_mut().reset(end.into()),
            }
        }
    }
}
