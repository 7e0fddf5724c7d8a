//! What a client lets the proxy send (RFC 9113, 5.2), and for how long it lets nothing.

use std::time::Duration;

/// Bytes that a client which is out of window has to take within the bound. A kilobyte a minute keeps a
/// whole answer in memory, and its upstream waiting, for a day.
const LEAST: u64 = 4 * 1024;

/// The window of one stream, or of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    left: i64,
    /// Since when the client has been out of window but for drops.
    shut: Option<Duration>,
    /// Bytes sent after that.
    sent: u64,
}

impl Window {
    pub(super) fn new(left: i64, now: Duration) -> Self {
        let mut window = Self {
            left,
            shut: None,
            sent: 0,
        };
        window.look(now);
        window
    }

    pub(super) fn send(&mut self, bytes: u32, now: Duration) {
        self.left -= i64::from(bytes);
        self.sent += u64::from(bytes);
        self.look(now);
    }

    /// More, or with new settings less (RFC 9113, 6.9.2).
    pub(super) fn change(&mut self, by: i64, now: Duration) {
        self.left = self.left.saturating_add(by);
        self.look(now);
    }

    fn look(&mut self, now: Duration) {
        if self.left <= 0 && self.shut.is_none() {
            self.shut = Some(now);
            self.sent = 0;
        }
    }

    /// Whether next to nothing was taken for `longest`. A window that is open when it is asked has been
    /// opened for more than was there to send, so nobody waits for this client.
    pub(super) fn is_stalled(&mut self, longest: Duration, now: Duration) -> bool {
        let Some(shut) = self.shut else {
            return false;
        };
        if self.left > 0 {
            self.shut = None;
            return false;
        }
        if now.saturating_sub(shut) < longest {
            return false;
        }
        if self.sent >= LEAST {
            self.shut = Some(now);
            self.sent = 0;
            return false;
        }
        true
    }
}
