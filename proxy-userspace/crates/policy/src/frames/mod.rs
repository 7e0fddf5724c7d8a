//! HTTP/2 as it goes over the wire (RFC 9113), followed from frame to frame beside the HTTP library. The
//! library reads each frame rightly and bounds some of what costs it much; what it doesn't bound is frames
//! that cost little each and never end, and a client that lets it finish nothing. Only frame headers and
//! a few short payloads are looked at: field sections and bodies pass unread.
//!
//! ```text
//! follow   where each frame ends
//! budget   so many at once, so many a second
//! window   what a client lets the proxy send, and for how long it lets nothing
//! judge    what a connection may cost and whom it keeps waiting
//! ```

mod budget;
mod follow;
mod judge;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

pub use judge::{FrameJudge, Standing};

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct FrameBounds {
    /// Longest wait for the client's preface and for the rest of a field section that has begun, and
    /// between two requests.
    pub header_timeout: Duration,
    /// Longest time for which a client may take next to nothing of an answer.
    pub stall_timeout: Duration,
}

/// Why a connection is ended. Its text is the name in logs, metrics and audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// PING, SETTINGS, PRIORITY and frames of unknown types far beyond what requests account for
    /// (CVE-2019-9512, CVE-2019-9515).
    #[error("http2_control_flood")]
    Control,
    /// WINDOW_UPDATE far beyond what was sent.
    #[error("http2_window_flood")]
    Window,
    /// Requests taken back far faster than they are answered (CVE-2023-44487), or sent so that the proxy
    /// has to take them back (CVE-2025-8671).
    #[error("http2_reset_flood")]
    Reset,
    /// Answers of which next to nothing is taken.
    #[error("http2_stalled")]
    Stalled,
    /// A preface or field section that doesn't come to its end, or no request at all.
    #[error("http_timeout")]
    Timeout,
    /// Over a bound of the HTTP library's own: it said ENHANCE_YOUR_CALM.
    #[error("http2_excess")]
    Excess,
    /// What the HTTP library can't read.
    #[error("http_malformed")]
    Malformed,
}

/// Why the HTTP library ended one stream, which is all that is known of a request it hasn't handed over. Its
/// text is the name in logs, metrics and audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// Answered by the library itself with 431.
    #[error("head_too_long")]
    HeadTooLong,
    /// Ended with this error code (RFC 9113, 7).
    #[error("http_malformed")]
    Malformed(u32),
}

/// Error codes (RFC 9113, 7).
mod code {
    pub(super) const NO_ERROR: u32 = 0x0;
    pub(super) const INTERNAL_ERROR: u32 = 0x2;
    pub(super) const REFUSED_STREAM: u32 = 0x7;
    pub(super) const CANCEL: u32 = 0x8;
    pub(super) const ENHANCE_YOUR_CALM: u32 = 0xb;
}

/// Frame types (RFC 9113, 6).
mod kind {
    pub(super) const DATA: u8 = 0x0;
    pub(super) const HEADERS: u8 = 0x1;
    pub(super) const RST_STREAM: u8 = 0x3;
    pub(super) const SETTINGS: u8 = 0x4;
    pub(super) const GOAWAY: u8 = 0x7;
    pub(super) const WINDOW_UPDATE: u8 = 0x8;
    pub(super) const CONTINUATION: u8 = 0x9;
}

/// Flags of several frame types.
mod flag {
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const ACK: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
}
