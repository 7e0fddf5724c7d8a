//! One request head (RFC 9112, 2 to 6).

use http::{HeaderMap, HeaderValue};

use super::{WireFault, is_field_content, is_token};

/// Most fields of a head; what the HTTP library takes as well.
pub(super) const MOST_FIELDS: usize = 100;

/// Longest method.
const LONGEST_METHOD: usize = 32;

/// How the body behind a head is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunk by chunk.
    Chunked,
}

/// What `Content-Length` and `Transfer-Encoding` fields say together, of a message in a version that
/// knows chunks or doesn't: the length, or `None` for chunks.
///
/// # Errors
/// [`WireFault::ContentLength`], [`WireFault::TransferEncoding`],
/// [`WireFault::LengthAndTransferEncoding`].
pub(crate) fn framing<'a>(
    mut lengths: impl Iterator<Item = &'a [u8]>,
    mut encodings: impl Iterator<Item = &'a [u8]>,
    knows_chunks: bool,
) -> Result<Option<u64>, WireFault> {
    let (length, encoding) = (lengths.next(), encodings.next());
    if length.is_some() && encoding.is_some() {
        return Err(WireFault::LengthAndTransferEncoding);
    }
    if let Some(encoding) = encoding {
        let is_chunked = encoding.eq_ignore_ascii_case(b"chunked");
        if !knows_chunks || !is_chunked || encodings.next().is_some() {
            return Err(WireFault::TransferEncoding);
        }
        return Ok(None);
    }
    let Some(length) = length else {
        return Ok(Some(0));
    };
    // `010` is eight to some.
    let is_octal = length.len() > 1 && length.starts_with(b"0");
    if lengths.next().is_some() || is_octal || !length.iter().all(u8::is_ascii_digit) {
        return Err(WireFault::ContentLength);
    }
    // As a signed number too: some upstreams count with those.
    std::str::from_utf8(length)
        .ok()
        .and_then(|length| length.parse::<i64>().ok())
        .and_then(|length| u64::try_from(length).ok())
        .map(Some)
        .ok_or(WireFault::ContentLength)
}

/// What is judged here of an HTTP/1.1 head, of the fields of an HTTP/2 request: the HTTP library
/// bounds their bytes only, and takes white space that HTTP/1.1 would not let stand.
///
/// # Errors
/// [`WireFault::TooManyFields`], [`WireFault::FieldValue`].
pub(crate) fn check_fields(fields: &HeaderMap) -> Result<(), WireFault> {
    if fields.len() > MOST_FIELDS {
        return Err(WireFault::TooManyFields);
    }
    let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii() == value.as_bytes();
    if !fields.values().all(is_plain) {
        return Err(WireFault::FieldValue);
    }
    Ok(())
}

/// Judges a head, from its first byte to the end of the empty line; all its lines end in CRLF.
pub(super) fn judge(head: &[u8]) -> Result<Body, WireFault> {
    let mut lines = Lines(head);
    let request_line = lines.next().unwrap_or_default();
    let knows_chunks = judge_request_line(request_line)?;
    let (mut lengths, mut encodings) = (Vec::new(), Vec::new());
    let mut fields = 0;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = field(line)?;
        fields += 1;
        if fields > MOST_FIELDS {
            return Err(WireFault::TooManyFields);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths.push(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings.push(value);
        }
    }
    let length = framing(lengths.into_iter(), encodings.into_iter(), knows_chunks)?;
    Ok(length.map_or(Body::Chunked, Body::Length))
}

/// Whether the version knows chunks.
fn judge_request_line(line: &[u8]) -> Result<bool, WireFault> {
    if line.is_empty() {
        return Err(WireFault::EmptyLine);
    }
    no_bare_cr(line)?;
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(WireFault::RequestLine);
    };
    let is_method = (1..=LONGEST_METHOD).contains(&method.len());
    if !is_method || !method.iter().copied().all(is_token) {
        return Err(WireFault::RequestLine);
    }
    // What of it is allowed in a path is asked later; here it only has to be one word.
    // A fragment is for the client alone (RFC 9112, 3.2): the library would leave it out without a word.
    let fits = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    if target.is_empty() || !target.iter().all(fits) {
        return Err(WireFault::RequestLine);
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(WireFault::Version),
    }
}

/// Name and value of a field line, the value without white space around it.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), WireFault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(WireFault::Folded);
    }
    no_bare_cr(line)?;
    let colon = memchr::memchr(b':', line).ok_or(WireFault::FieldName)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(WireFault::SpaceBeforeColon);
    }
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(WireFault::FieldName);
    }
    // The whole of it: a vertical tab counts as white space to some.
    if !line[colon + 1..].iter().copied().all(is_field_content) {
        return Err(WireFault::Control);
    }
    Ok((name, value))
}

fn no_bare_cr(line: &[u8]) -> Result<(), WireFault> {
    match memchr::memchr(b'\r', line) {
        Some(_) => Err(WireFault::BareCr),
        None => Ok(()),
    }
}

/// Lines that end in CRLF, without it.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.0)?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}
