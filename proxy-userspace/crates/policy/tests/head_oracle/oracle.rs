//! Any bytes as what a client says over HTTP/1.1.
//!
//! The fuzz target `headers` and the replay of its corpus both ask it. It matters not in which parts they come;
//! and of what is passed on, httparse, on which the HTTP library stands, finds the same requests with the
//! same ends.

use policy::{Follower, WireBounds, WireFault};

const BOUNDS: WireBounds = WireBounds { head_bytes: 4_096 };
/// Fields that a head may have.
const MOST_FIELDS: usize = 100;

/// What is passed on, where heads begin in it, and what was wrong with the rest.
struct Passed {
    bytes: Vec<u8>,
    heads: Vec<usize>,
    fault: Option<WireFault>,
    /// The last request is whole.
    whole: bool,
}

/// Whether the input is passed on whole: requests, and nothing behind the last.
pub(crate) fn check(input: &[u8]) -> bool {
    let passed = follow(input, usize::MAX);
    for part in [1, 7] {
        let parted = follow(input, part);
        assert_eq!(parted.fault, passed.fault, "by {part}");
        // A piece that is found wrong before its end is passed on up to there, or not at all.
        assert!(passed.fault.is_some() || parted.bytes == passed.bytes);
        assert_eq!(parted.heads, passed.heads, "by {part}");
    }
    assert!(input.starts_with(&passed.bytes));
    let mut at = 0;
    for (number, head) in passed.heads.iter().enumerate() {
        assert_eq!(*head, at, "head {number}");
        match end_of(&passed.bytes[at..]) {
            Some(length) => at += length,
            None => assert_eq!(number + 1, passed.heads.len(), "only the last breaks off"),
        }
    }
    passed.fault.is_none() && passed.whole && passed.bytes.len() == input.len()
}

fn follow(input: &[u8], part: usize) -> Passed {
    let mut follower = Follower::new(BOUNDS);
    let mut passed = Passed {
        bytes: Vec::new(),
        heads: Vec::new(),
        fault: None,
        whole: false,
    };
    let mut held = Vec::new();
    'parts: for part in input.chunks(part) {
        held.extend_from_slice(part);
        loop {
            let in_head = follower.in_head();
            match follower.judge(&held) {
                Ok(0) => break,
                Ok(length) => {
                    if in_head {
                        passed.heads.push(passed.bytes.len());
                    }
                    passed.bytes.extend(held.drain(..length));
                }
                Err(fault) => {
                    passed.fault = Some(fault);
                    break 'parts;
                }
            }
        }
    }
    passed.whole = follower.in_head() && !passed.heads.is_empty();
    passed
}

/// Where a request ends for httparse, if all of it is there.
fn end_of(bytes: &[u8]) -> Option<usize> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let head = request.parse(bytes).expect("what is passed on is a head");
    assert!(head.is_complete(), "and a whole one");
    let head = head.unwrap();
    let values = |name: &str| -> Vec<&[u8]> {
        let fields = request.headers.iter();
        let fields = fields.filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value).collect()
    };
    for field in request.headers.iter() {
        let odd = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        assert!(!field.value.iter().any(odd), "{field:?}");
    }
    let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + encodings.len() <= 1, "{request:?}");
    if encodings.is_empty() {
        let length = lengths
            .first()
            .map_or("0", |length| std::str::from_utf8(length).expect("a number"));
        let length: usize = length.parse().expect("a number");
        let end = head.checked_add(length)?;
        return (end <= bytes.len()).then_some(end);
    }
    assert!(encodings[0].eq_ignore_ascii_case(b"chunked"), "{request:?}");
    let mut at = head;
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&bytes[at..])
        else {
            return None;
        };
        at += line;
        if size == 0 {
            break;
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if bytes.len() < at + 2 {
            return None;
        }
        assert_eq!(&bytes[at..at + 2], b"\r\n");
        at += 2;
    }
    let mut trailers = [httparse::EMPTY_HEADER; MOST_FIELDS];
    match httparse::parse_headers(&bytes[at..], &mut trailers) {
        Ok(httparse::Status::Complete((length, _))) => Some(at + length),
        _ => None,
    }
}
