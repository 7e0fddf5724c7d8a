//! HTTP/2 frames, byte by byte (RFC 9113, 4 and 6): written without a look at whether they are allowed.

/// Frame types (RFC 9113, 6).
pub const DATA: u8 = 0x0;
/// Opens a stream with a field section.
pub const HEADERS: u8 = 0x1;
/// Says what depends on what; deprecated.
pub const PRIORITY: u8 = 0x2;
/// Ends a stream.
pub const RST_STREAM: u8 = 0x3;
/// Says what the sender takes.
pub const SETTINGS: u8 = 0x4;
/// Asks for an answer.
pub const PING: u8 = 0x6;
/// Ends a connection.
pub const GOAWAY: u8 = 0x7;
/// Lets the other side send more.
pub const WINDOW_UPDATE: u8 = 0x8;
/// Goes on with a field section.
pub const CONTINUATION: u8 = 0x9;

/// Of DATA and HEADERS: the last of the message.
pub const END_STREAM: u8 = 0x1;
/// Of SETTINGS and PING: an answer.
pub const ACK: u8 = 0x1;
/// Of HEADERS and CONTINUATION: the field section is whole.
pub const END_HEADERS: u8 = 0x4;
/// Of DATA and HEADERS: padded.
pub const PADDED: u8 = 0x8;

/// Error codes (RFC 9113, 7).
pub const NO_ERROR: u32 = 0x0;
/// The other side broke the protocol.
pub const PROTOCOL_ERROR: u32 = 0x1;
/// The stream was not begun.
pub const REFUSED_STREAM: u32 = 0x7;
/// The other side ends the stream for no fault of anybody.
pub const CANCEL: u32 = 0x8;
/// The other side asks for too much.
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// SETTINGS_INITIAL_WINDOW_SIZE.
pub const INITIAL_WINDOW_SIZE: u16 = 0x4;

/// What a client says first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A whole field section in one frame, and nothing after it.
pub fn headers_only(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// A whole field section in one frame, with a body to follow.
pub fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block)
}

/// A part of a body.
pub fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, bytes)
}

/// The last part of a body.
pub fn last_data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, bytes)
}

/// Ends a stream.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// Lets the proxy send so many bytes more.
pub fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// Settings by their numbers.
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// Asks for an answer.
pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"portcull")
}

/// Answers a PING with its payload.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    frame(PING, ACK, 0, payload)
}

/// One stream depends on none, with this weight.
pub fn priority(stream: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[0, 0, 0, 0, weight])
}
