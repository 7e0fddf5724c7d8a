//! A request's body while it travels: how much of it, who is waited for, and why it was broken off.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Why the body of a request didn't come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    /// More than its route takes.
    #[error("request_body_too_large")]
    TooLarge,
    /// The client fell silent in the middle of it, while the answer went on.
    #[error("request_body_timeout")]
    Stalled,
    /// The client broke it off, or it isn't what its length or its framing says.
    #[error("request_body_broken")]
    Broken,
    /// What let the request in is good no more, and the client still sends.
    #[error("request_basis_ended")]
    Over,
}

/// Shared by the body, what waits for the answer, and the record.
#[derive(Clone, Debug)]
pub(crate) struct Flow(Arc<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    bytes: AtomicU64,
    /// Microseconds after `began` at which it moved last.
    moved: AtomicU64,
    /// The client owes its next part.
    owed: AtomicBool,
    ended: AtomicBool,
    fault: OnceLock<BodyFault>,
}

impl Flow {
    pub(crate) fn begin(began: Instant) -> Self {
        Self(Arc::new(State {
            began,
            bytes: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            owed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            fault: OnceLock::new(),
        }))
    }

    /// When the request's head was there.
    pub(crate) fn began(&self) -> Instant {
        self.0.began
    }

    /// So many bytes came from the client; returns how many did so far.
    pub(crate) fn add(&self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// A part went up, or the last one has.
    pub(crate) fn moves(&self) {
        let now = self.0.began.elapsed().as_micros() as u64;
        self.0.moved.store(now, Ordering::Relaxed);
        self.0.owed.store(false, Ordering::Relaxed);
    }

    /// The client is asked for its next part and has not sent it.
    pub(crate) fn owes(&self) {
        if !self.0.owed.swap(true, Ordering::Relaxed) {
            let now = self.0.began.elapsed().as_micros() as u64;
            self.0.moved.store(now, Ordering::Relaxed);
        }
    }

    /// Whether it is the client that is waited for.
    pub(crate) fn is_owed(&self) -> bool {
        self.0.owed.load(Ordering::Relaxed)
    }

    /// When it moved last.
    pub(crate) fn moved(&self) -> Instant {
        self.0.began + Duration::from_micros(self.0.moved.load(Ordering::Relaxed))
    }

    /// All of it is on its way, or there is none.
    pub(crate) fn ends(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.0.fault.get().is_some()
    }

    pub(crate) fn break_off(&self, fault: BodyFault) {
        let _ = self.0.fault.set(fault);
    }

    pub(crate) fn fault(&self) -> Option<BodyFault> {
        self.0.fault.get().copied()
    }
}
