//! What a connection may cost, and whom it keeps waiting.

use std::{collections::BTreeMap, time::Duration};

use super::{
    FrameBounds, FrameFault, StreamFault,
    budget::Budget,
    code, flag,
    follow::{Frames, Head, KEPT, Step, number},
    kind,
    window::Window,
};

/// Length of what a client says first (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// RFC 9113, 6.9.2.
const DEFAULT_WINDOW: i64 = 65_535;
/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];

/// Control frames: clients greet with a handful, say one or two with a request, and ping a few times a
/// second while they measure the line.
const CONTROL: Budget = Budget::new(200, 20);
/// A finished answer accounts for as many.
const CONTROL_AN_ANSWER: u64 = 4;
/// DATA from this length on accounts for one: some clients measure the line with each.
const WORTH_A_PING: u32 = 256;

/// WINDOW_UPDATE: the busiest clients say two for each read of a few hundred bytes.
const WINDOW: Budget = Budget::new(1_000, 100);
const BYTES_A_WINDOW_UPDATE: u32 = 256;
const WINDOW_UPDATES_AN_ANSWER: u64 = 2;

/// Streams that come to nothing. A browser that leaves a page takes back all it asked for at once.
const RESET: Budget = Budget::new(200, 10);
/// What no client does by chance counts as several.
const RESETS_AN_ERROR: u64 = 4;

/// Bytes of an answer's head that the library makes itself: a status and nothing else. An answer of the
/// gateway carries a decision id, which alone is longer.
const LONGEST_BARE_HEAD: u32 = 16;

/// An open stream.
#[derive(Clone, Copy, Debug)]
struct Stream {
    window: Window,
    /// The head of its answer was said.
    answered: bool,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may go on.
    Good,
    /// No request for longer than the bound, and none that is being answered.
    Idle,
    /// It has to end.
    Fault(FrameFault),
}

/// Follows both directions of one connection. Time is since the connection's beginning.
#[derive(Debug)]
pub struct FrameJudge {
    bounds: FrameBounds,
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    heard: Frames,
    said: Frames,
    /// Said, but only part of a header.
    said_part: Vec<u8>,
    control: Budget,
    window: Budget,
    reset: Budget,
    /// Each from its head until its answer's end.
    streams: BTreeMap<u32, Stream>,
    connection: Window,
    initial_window: i64,
    last_stream: u32,
    /// The highest stream that is still answered after GOAWAY.
    last_taken: u32,
    /// The stream of a field section that isn't whole, and since when.
    section: Option<(u32, Duration)>,
    /// Since when there has been nothing to answer.
    idle: Option<Duration>,
    asked: bool,
    fault: Option<FrameFault>,
    /// The frame that was heard last was the fault, and nothing of it passed.
    cut: bool,
}

impl FrameJudge {
    /// For a new connection.
    pub fn new(bounds: FrameBounds) -> Self {
        Self {
            bounds,
            preface_left: PREFACE,
            heard: Frames::new(|head| {
                matches!(head.kind, kind::SETTINGS | kind::WINDOW_UPDATE) && !head.has(flag::ACK)
            }),
            said: Frames::new(|head| matches!(head.kind, kind::RST_STREAM | kind::GOAWAY)),
            said_part: Vec::new(),
            control: CONTROL,
            window: WINDOW,
            reset: RESET,
            streams: BTreeMap::new(),
            connection: Window::new(DEFAULT_WINDOW, Duration::ZERO),
            initial_window: DEFAULT_WINDOW,
            last_stream: 0,
            last_taken: u32::MAX,
            section: None,
            idle: Some(Duration::ZERO),
            asked: false,
            fault: None,
            cut: false,
        }
    }

    /// Why the connection has to end, once it has to.
    pub fn fault(&self) -> Option<FrameFault> {
        self.fault
    }

    /// The stream whose field section isn't whole: nothing but the rest of it may come.
    pub fn open_section(&self) -> Option<u32> {
        self.section.map(|(stream, _)| stream)
    }

    /// Whether requests are to be answered.
    pub fn is_asked(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether what was passed on so far ends with a whole frame.
    pub fn is_between_frames(&self) -> bool {
        self.preface_left == 0 && (self.cut || !self.heard.is_within())
    }

    /// Takes what the client said. How many of these bytes may be passed on: all but part of a frame's
    /// header, which has to be shown again with the rest, and but what follows a fault.
    pub fn hear(&mut self, bytes: &[u8], now: Duration) -> usize {
        let mut passed = self.preface_left.min(bytes.len());
        self.preface_left -= passed;
        while self.fault.is_none()
            && let Some((taken, step)) = self.heard.step(&bytes[passed..])
        {
            match step {
                Step::Begins(head) => self.hear_head(head, now),
                Step::Whole(head) => self.hear_payload(head, now),
                Step::Passed => {}
            }
            self.cut = self.fault.is_some();
            if !self.cut {
                passed += taken;
            }
        }
        passed
    }

    /// Takes what the proxy said; tells of each stream that the library ended for the client's fault.
    pub fn say(&mut self, bytes: &[u8], now: Duration, mut ended: impl FnMut(u32, StreamFault)) {
        let mut joined = std::mem::take(&mut self.said_part);
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let mut at = 0;
        while let Some((taken, step)) = self.said.step(&bytes[at..]) {
            at += taken;
            match step {
                Step::Begins(head) => {
                    if self.is_bare(head) {
                        ended(head.stream, StreamFault::HeadTooLong);
                    }
                    self.say_head(head, now);
                }
                Step::Whole(head) => {
                    let first = number(self.said.kept(), 0).unwrap_or_default();
                    let second = number(self.said.kept(), 4).unwrap_or_default();
                    if head.kind == kind::GOAWAY {
                        self.say_goaway(first, second);
                    } else if self.say_reset(first, now) {
                        ended(head.stream, StreamFault::Malformed(first));
                    }
                }
                Step::Passed => {}
            }
        }
        self.said_part = bytes[at..].to_vec();
    }

    /// How the connection stands when nothing is said. To be asked every now and then.
    pub fn standing(&mut self, now: Duration) -> Standing {
        let waits = self.bounds.header_timeout;
        let since = |then: Duration| now.saturating_sub(then);
        let longest = self.bounds.stall_timeout;
        let unfinished = self.section.is_some_and(|(_, begun)| since(begun) >= waits);
        let idle = self.section.is_none() && self.idle.is_some_and(|begun| since(begun) >= waits);
        if unfinished || (idle && !self.asked) {
            self.fault.get_or_insert(FrameFault::Timeout);
        } else if !self.streams.is_empty() {
            // A client may hold one answer back, as a player does that is paused, while others go on.
            let mut stalled = 0;
            for stream in self.streams.values_mut() {
                stalled += usize::from(stream.window.is_stalled(longest, now));
            }
            if stalled == self.streams.len() || self.connection.is_stalled(longest, now) {
                self.fault.get_or_insert(FrameFault::Stalled);
            }
        }
        match self.fault {
            Some(fault) => Standing::Fault(fault),
            None if idle => Standing::Idle,
            None => Standing::Good,
        }
    }

    fn hear_head(&mut self, head: Head, now: Duration) {
        match head.kind {
            // What a body costs is for the library's own bounds and those of requests.
            kind::DATA => {}
            kind::HEADERS | kind::CONTINUATION => {
                self.section = match self.section {
                    _ if head.has(flag::END_HEADERS) => None,
                    None => Some((head.stream, now)),
                    begun => begun,
                };
                if head.kind == kind::HEADERS {
                    self.hear_stream(head.stream, now);
                }
            }
            kind::WINDOW_UPDATE => {
                self.charge(|judge| &mut judge.window, 1, FrameFault::Window, now)
            }
            kind::RST_STREAM if self.streams.contains_key(&head.stream) => {
                self.charge(|judge| &mut judge.reset, 1, FrameFault::Reset, now);
                self.finish(head.stream, now);
            }
            kind::SETTINGS if head.length as usize > KEPT => {
                self.fault.get_or_insert(FrameFault::Control);
            }
            _ => self.charge(|judge| &mut judge.control, 1, FrameFault::Control, now),
        }
    }

    fn hear_stream(&mut self, stream: u32, now: Duration) {
        let is_new = stream > self.last_stream;
        if is_new && stream <= self.last_taken {
            self.last_stream = stream;
            self.asked = true;
            self.idle = None;
            let opened = Stream {
                window: Window::new(self.initial_window, now),
                answered: false,
            };
            self.streams.insert(stream, opened);
        }
    }

    fn hear_payload(&mut self, head: Head, now: Duration) {
        let payload = self.heard.kept();
        if head.kind == kind::WINDOW_UPDATE {
            let more = i64::from(number(payload, 0).unwrap_or_default() & 0x7fff_ffff);
            match head.stream {
                0 => self.connection.change(more, now),
                stream => {
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        stream.window.change(more, now);
                    }
                }
            }
            return;
        }
        let settings = payload.chunks_exact(6);
        let initial = settings
            .filter(|setting| setting.starts_with(&INITIAL_WINDOW_SIZE))
            .filter_map(|setting| number(setting, 2))
            .next_back();
        if let Some(initial) = initial.map(i64::from) {
            let by = initial - self.initial_window;
            self.initial_window = initial;
            for stream in self.streams.values_mut() {
                stream.window.change(by, now);
            }
        }
    }

    /// Whether this is an answer of the library's own.
    fn is_bare(&mut self, head: Head) -> bool {
        if head.kind != kind::HEADERS {
            return false;
        }
        let stream = self.streams.get_mut(&head.stream);
        let is_first = stream.is_some_and(|it| !std::mem::replace(&mut it.answered, true));
        is_first && head.has(flag::END_STREAM) && head.length <= LONGEST_BARE_HEAD
    }

    fn say_head(&mut self, head: Head, now: Duration) {
        if head.kind == kind::DATA {
            self.connection.send(head.length, now);
            if let Some(stream) = self.streams.get_mut(&head.stream) {
                stream.window.send(head.length, now);
            }
            self.window
                .earn(u64::from(head.length / BYTES_A_WINDOW_UPDATE));
            self.control.earn(u64::from(head.length >= WORTH_A_PING));
        }
        let is_message = matches!(head.kind, kind::DATA | kind::HEADERS);
        if is_message && head.has(flag::END_STREAM) && self.finish(head.stream, now) {
            self.control.earn(CONTROL_AN_ANSWER);
            self.window.earn(WINDOW_UPDATES_AN_ANSWER);
            self.reset.earn(1);
        } else if head.kind == kind::RST_STREAM {
            self.finish(head.stream, now);
        }
    }

    /// Whether the stream was ended for the client's fault.
    fn say_reset(&mut self, reason: u32, now: Duration) -> bool {
        let (tokens, at_fault) = match reason {
            code::NO_ERROR | code::INTERNAL_ERROR | code::CANCEL => return false,
            code::REFUSED_STREAM => (1, false),
            _ => (RESETS_AN_ERROR, true),
        };
        self.charge(|judge| &mut judge.reset, tokens, FrameFault::Reset, now);
        at_fault
    }

    fn say_goaway(&mut self, last_stream: u32, reason: u32) {
        self.last_taken = last_stream;
        match reason {
            code::NO_ERROR | code::INTERNAL_ERROR => {}
            code::ENHANCE_YOUR_CALM => {
                self.fault.get_or_insert(FrameFault::Excess);
            }
            _ => {
                self.fault.get_or_insert(FrameFault::Malformed);
            }
        }
    }

    /// Whether the stream was open.
    fn finish(&mut self, stream: u32, now: Duration) -> bool {
        let was_open = self.streams.remove(&stream).is_some();
        if self.streams.is_empty() && self.idle.is_none() {
            self.idle = Some(now);
        }
        was_open
    }

    fn charge(
        &mut self,
        budget: fn(&mut Self) -> &mut Budget,
        tokens: u64,
        fault: FrameFault,
        now: Duration,
    ) {
        if !budget(self).spend(tokens, now) {
            self.fault.get_or_insert(fault);
        }
    }
}
