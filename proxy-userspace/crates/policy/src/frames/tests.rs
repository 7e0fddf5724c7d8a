use std::time::Duration;

use super::{kind::*, *};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PING: u8 = 0x6;
const PRIORITY: u8 = 0x2;
const END: u8 = flag::END_STREAM;
const WHOLE: u8 = flag::END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn asking(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE | END, stream, b"fields")
}

fn number(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn initial_window(size: u32) -> Vec<u8> {
    let payload = [&[0, 4][..], &number(size)].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A connection whose preface has come.
struct Line(FrameJudge);

impl Line {
    fn new() -> Self {
        let mut judge = FrameJudge::new(FrameBounds {
            header_timeout: seconds(30),
            stall_timeout: seconds(60),
        });
        assert_eq!(judge.hear(PREFACE, Duration::ZERO), PREFACE.len());
        Self(judge)
    }

    fn hear(&mut self, bytes: &[u8], now: Duration) -> Option<FrameFault> {
        let passed = self.0.hear(bytes, now);
        let fault = self.0.fault();
        assert!(fault.is_some() || passed == bytes.len(), "{passed}");
        fault
    }

    fn say(&mut self, bytes: &[u8], now: Duration) -> Vec<(u32, StreamFault)> {
        let mut ended = Vec::new();
        self.0
            .say(bytes, now, |stream, fault| ended.push((stream, fault)));
        ended
    }

    /// How many of these frames pass, one after another, up to 100,000.
    fn pass(&mut self, mut piece: impl FnMut(u32) -> Vec<u8>) -> u32 {
        let mut passed = |line: &mut Self, time| line.hear(&piece(time), Duration::ZERO).is_none();
        (0..100_000)
            .find(|time| !passed(self, *time))
            .unwrap_or(100_000)
    }
}

#[test]
fn control_frames_are_bounded_whatever_their_kind() {
    for flood in [
        frame(PING, 0, 0, b"12345678"),
        frame(PING, flag::ACK, 0, b"12345678"),
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, flag::ACK, 0, &[]),
        frame(PRIORITY, 0, 1, &[0; 5]),
        frame(0xee, 0, 0, b"unknown"),
        // On a stream that is no more.
        frame(RST_STREAM, 0, 1, &number(8)),
    ] {
        let mut line = Line::new();
        assert_eq!(line.pass(|_| flood.clone()), 200, "{flood:?}");
        assert_eq!(line.0.fault(), Some(FrameFault::Control), "{flood:?}");
    }
}

#[test]
fn a_ping_a_second_goes_on_for_ever() {
    let mut line = Line::new();
    for second in 0..100_000 {
        let ping = frame(PING, 0, 0, b"12345678");
        assert_eq!(line.hear(&ping, seconds(second)), None);
    }
}

#[test]
fn answers_account_for_what_goes_with_them() {
    let mut line = Line::new();
    for stream in (1..20_000).step_by(2) {
        let bytes = [
            asking(stream),
            frame(PRIORITY, 0, stream, &[0; 5]),
            frame(PING, 0, 0, b"12345678"),
            frame(WINDOW_UPDATE, 0, 0, &number(1_000)),
        ]
        .concat();
        assert_eq!(line.hear(&bytes, Duration::ZERO), None, "{stream}");
        line.say(&frame(DATA, END, stream, &[0; 1_000]), Duration::ZERO);
    }
}

#[test]
fn window_updates_are_bounded_by_what_was_sent() {
    let drop = frame(WINDOW_UPDATE, 0, 0, &number(1));
    let mut line = Line::new();
    assert_eq!(line.pass(|_| drop.clone()), 1_000);
    assert_eq!(line.0.fault(), Some(FrameFault::Window));

    // Two for each 1,000 bytes is what a busy client says.
    let mut line = Line::new();
    line.hear(&asking(1), Duration::ZERO);
    for _ in 0..10_000 {
        line.say(&frame(DATA, 0, 1, &[0; 1_000]), Duration::ZERO);
        let more = [
            frame(WINDOW_UPDATE, 0, 0, &number(1_000)),
            frame(WINDOW_UPDATE, 0, 1, &number(1_000)),
        ]
        .concat();
        assert_eq!(line.hear(&more, Duration::ZERO), None);
    }
}

#[test]
fn requests_taken_back_are_bounded_and_a_page_of_them_is_not() {
    let taken_back = |time: u32| {
        let stream = time * 2 + 1;
        [asking(stream), frame(RST_STREAM, 0, stream, &number(8))].concat()
    };
    let mut line = Line::new();
    assert_eq!(line.pass(taken_back), 200);
    assert_eq!(line.0.fault(), Some(FrameFault::Reset));

    let mut line = Line::new();
    for page in 0..1_000_u32 {
        let now = seconds(u64::from(page) * 20);
        for time in page * 150..(page + 1) * 150 {
            assert_eq!(line.hear(&taken_back(time), now), None, "{time}");
        }
    }
}

#[test]
fn streams_that_the_proxy_has_to_end_are_told_and_bounded() {
    let mut line = Line::new();
    let ended = |stream| frame(RST_STREAM, 0, stream, &number(1));
    for stream in (1..101).step_by(2) {
        assert_eq!(line.hear(&asking(stream), Duration::ZERO), None);
        let told = line.say(&ended(stream), Duration::ZERO);
        assert_eq!(told, [(stream, StreamFault::Malformed(1))]);
    }
    line.say(&ended(101), Duration::ZERO);
    assert_eq!(line.0.fault(), Some(FrameFault::Reset));
}

#[test]
fn streams_that_end_for_no_fault_of_the_client_are_not_told() {
    let mut line = Line::new();
    for code in [
        code::NO_ERROR,
        code::INTERNAL_ERROR,
        code::CANCEL,
        code::REFUSED_STREAM,
    ] {
        let told = line.say(&frame(RST_STREAM, 0, 1, &number(code)), Duration::ZERO);
        assert_eq!(told, []);
    }
}

#[test]
fn an_answer_that_is_a_status_and_no_more_is_the_librarys_own() {
    let mut line = Line::new();
    for stream in [1, 3, 5] {
        line.hear(&asking(stream), Duration::ZERO);
    }
    let status = [0x48, 0x03, b'4', b'3', b'1'];
    let told = line.say(&frame(HEADERS, WHOLE | END, 1, &status), Duration::ZERO);
    assert_eq!(told, [(1, StreamFault::HeadTooLong)]);
    // An answer with a decision id, and short trailers.
    let told = line.say(&frame(HEADERS, WHOLE | END, 3, &[0; 40]), Duration::ZERO);
    assert_eq!(told, []);
    line.say(&frame(HEADERS, WHOLE, 5, &[0; 40]), Duration::ZERO);
    let told = line.say(&frame(HEADERS, WHOLE | END, 5, &[0xbe]), Duration::ZERO);
    assert_eq!(told, []);
}

#[test]
fn what_is_said_may_come_in_any_pieces() {
    let mut line = Line::new();
    line.hear(&asking(1), Duration::ZERO);
    let mut told = Vec::new();
    for byte in frame(RST_STREAM, 0, 1, &number(1)) {
        told.extend(line.say(&[byte], Duration::ZERO));
    }
    assert_eq!(told, [(1, StreamFault::Malformed(1))]);
    let goaway = [number(1), number(1)].concat();
    for byte in frame(GOAWAY, 0, 0, &goaway) {
        line.say(&[byte], Duration::ZERO);
    }
    assert_eq!(line.0.fault(), Some(FrameFault::Malformed));
}

#[test]
fn part_of_a_header_waits_for_the_rest() {
    let mut judge = Line::new().0;
    let bytes = [asking(1), frame(PING, 0, 0, b"12345678")].concat();
    for end in 0..bytes.len() {
        let passed = judge.hear(&bytes[..end], Duration::ZERO);
        assert!(passed <= end && end - passed < 9, "{passed} of {end}");
        judge = Line::new().0;
    }
}

#[test]
fn nothing_of_a_frame_passes_that_is_one_too_many() {
    let mut line = Line::new();
    let ping = frame(PING, 0, 0, b"12345678");
    let passed = line.0.hear(&ping.repeat(300), Duration::ZERO);
    assert_eq!(passed, 200 * ping.len());
    assert_eq!(line.0.hear(&ping, Duration::ZERO), 0);
}

#[test]
fn an_answer_of_which_only_drops_are_taken_is_stalled() {
    let mut line = Line::new();
    line.hear(&initial_window(0), Duration::ZERO);
    line.hear(&asking(1), Duration::ZERO);
    for second in 1..60 {
        assert_eq!(line.0.standing(seconds(second)), Standing::Good, "{second}");
        line.hear(&frame(WINDOW_UPDATE, 0, 1, &number(1)), seconds(second));
        line.say(&frame(DATA, 0, 1, b"a"), seconds(second));
    }
    let fault = Standing::Fault(FrameFault::Stalled);
    assert_eq!(line.0.standing(seconds(60)), fault);
}

#[test]
fn an_answer_that_is_held_back_while_others_go_on_is_not_stalled() {
    let mut line = Line::new();
    line.hear(&asking(1), Duration::ZERO);
    line.hear(&initial_window(0), Duration::ZERO);
    line.hear(&asking(3), Duration::ZERO);
    for second in 1..200 {
        // The second one is read as it comes.
        line.hear(&frame(WINDOW_UPDATE, 0, 3, &number(200)), seconds(second));
        line.say(&frame(DATA, 0, 3, &[0; 100]), seconds(second));
        assert_eq!(line.0.standing(seconds(second)), Standing::Good, "{second}");
    }
}

#[test]
fn a_connection_window_that_stays_shut_is_stalled() {
    let mut line = Line::new();
    line.hear(&initial_window(1_000_000), Duration::ZERO);
    line.hear(&asking(1), Duration::ZERO);
    line.say(&frame(DATA, 0, 1, &[0; 65_535]), Duration::ZERO);
    assert_eq!(line.0.standing(seconds(59)), Standing::Good);
    let fault = Standing::Fault(FrameFault::Stalled);
    assert_eq!(line.0.standing(seconds(60)), fault);
}

#[test]
fn a_slow_reader_and_a_slow_upstream_are_not_stalled() {
    let mut line = Line::new();
    line.hear(&asking(1), Duration::ZERO);
    // Takes a hundred bytes a second.
    line.say(&frame(DATA, 0, 1, &[0; 65_535]), Duration::ZERO);
    for second in 1..600 {
        let more = [
            frame(WINDOW_UPDATE, 0, 0, &number(100)),
            frame(WINDOW_UPDATE, 0, 1, &number(100)),
        ]
        .concat();
        line.hear(&more, seconds(second));
        line.say(&frame(DATA, 0, 1, &[0; 100]), seconds(second));
        assert_eq!(line.0.standing(seconds(second)), Standing::Good, "{second}");
    }
    // Opened at last, with nothing more to send.
    let more = [
        frame(WINDOW_UPDATE, 0, 0, &number(9)),
        frame(WINDOW_UPDATE, 0, 1, &number(9)),
    ]
    .concat();
    line.hear(&more, seconds(600));
    for second in 601..1_000 {
        assert_eq!(line.0.standing(seconds(second)), Standing::Good, "{second}");
    }
}

#[test]
fn a_connection_that_asks_for_nothing_ends_as_idle_or_as_silent() {
    let mut line = Line::new();
    assert_eq!(line.0.standing(seconds(29)), Standing::Good);
    let silent = Standing::Fault(FrameFault::Timeout);
    assert_eq!(line.0.standing(seconds(30)), silent);

    let mut line = Line::new();
    line.hear(&asking(1), seconds(29));
    assert_eq!(line.0.standing(seconds(500)), Standing::Good);
    line.say(&frame(HEADERS, WHOLE | END, 1, b"fields"), seconds(500));
    assert_eq!(line.0.standing(seconds(529)), Standing::Good);
    assert_eq!(line.0.standing(seconds(530)), Standing::Idle);
}

#[test]
fn a_field_section_that_does_not_end_is_noticed_however_much_of_it_comes() {
    let mut line = Line::new();
    line.hear(&frame(HEADERS, END, 1, b"fie"), Duration::ZERO);
    for second in 1..30 {
        line.hear(&frame(CONTINUATION, 0, 1, b"l"), seconds(second));
        assert_eq!(line.0.standing(seconds(second)), Standing::Good);
    }
    assert_eq!(line.0.open_section(), Some(1));
    let fault = Standing::Fault(FrameFault::Timeout);
    assert_eq!(line.0.standing(seconds(30)), fault);
}

#[test]
fn what_the_library_ends_has_a_name() {
    for (code, fault) in [
        (code::NO_ERROR, None),
        (0x1, Some(FrameFault::Malformed)),
        (0x9, Some(FrameFault::Malformed)),
        (code::ENHANCE_YOUR_CALM, Some(FrameFault::Excess)),
    ] {
        let mut line = Line::new();
        let payload = [&number(0)[..], &number(code), b"why"].concat();
        line.say(&frame(GOAWAY, 0, 0, &payload), Duration::ZERO);
        assert_eq!(line.0.fault(), fault, "{code}");
    }
}
