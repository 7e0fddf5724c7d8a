use proptest::prelude::*;

use super::*;

const BOUNDS: WireBounds = WireBounds { head_bytes: 1_024 };

/// What of a connection's bytes is passed on, when they come in parts of this size.
fn followed(bytes: &[u8], part: usize) -> (Vec<u8>, Option<WireFault>) {
    let mut follower = Follower::new(BOUNDS);
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for part in bytes.chunks(part) {
        held.extend_from_slice(part);
        loop {
            match follower.judge(&held) {
                Ok(0) => break,
                Ok(length) => passed.extend(held.drain(..length)),
                Err(fault) => return (passed, Some(fault)),
            }
        }
    }
    (passed, None)
}

/// The same whatever parts the bytes come in.
fn fault_of(text: &str) -> Option<WireFault> {
    let whole = followed(text.as_bytes(), usize::MAX);
    for part in [1, 2, 3, 7] {
        assert_eq!(
            followed(text.as_bytes(), part).1,
            whole.1,
            "{text:?} by {part}"
        );
    }
    whole.1
}

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn requests_are_passed_on_one_after_the_other_byte_for_byte() {
    let all = [
        &get(""),
        &get("Content-Length: 3\r\n"),
        "abc",
        &chunked("3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX-A: 1\r\n\r\n"),
        &get("X-A:\u{fc}\t b \r\nConnection: close\r\n"),
        "GET /old HTTP/1.0\r\n\r\n",
    ]
    .concat();
    for part in [1, 2, 5, 64, 4_096] {
        let (passed, fault) = followed(all.as_bytes(), part);
        assert_eq!(fault, None);
        assert_eq!(String::from_utf8_lossy(&passed), all);
    }
}

#[test]
fn a_head_is_passed_on_whole_or_not_at_all() {
    let head = get("X-A: 1\r\n");
    for end in 0..head.len() {
        assert_eq!(
            followed(&head.as_bytes()[..end], usize::MAX).0,
            b"",
            "{end}"
        );
    }
}

#[test]
fn what_stands_before_a_fault_is_passed_on_and_nothing_behind_it() {
    let (good, bad) = (get(""), get("X : 1\r\n"));
    let (passed, fault) = followed([good.as_str(), &bad, &good].concat().as_bytes(), usize::MAX);
    assert_eq!(
        (passed.len(), fault),
        (good.len(), Some(WireFault::SpaceBeforeColon))
    );
}

#[test]
fn heads_with_more_than_one_reading_are_refused_by_name() {
    use WireFault::*;
    for (head, fault) in [
        (get("X-A: 1\n"), BareLf),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), BareLf),
        ("\n".to_owned(), BareLf),
        (get("X-A: 1\rX-B: 2\r\n"), BareCr),
        (get("X-A: 1\r\r\n"), BareCr),
        ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), BareCr),
        (format!("\r\n{}", get("")), EmptyLine),
        (get("X-A : 1\r\n"), SpaceBeforeColon),
        (get("X-A\t: 1\r\n"), SpaceBeforeColon),
        (get("X-A: 1\r\n b\r\n"), Folded),
        (get("X-A: 1\r\n\tb\r\n"), Folded),
        (get("X-A\r\n"), FieldName),
        (get(": 1\r\n"), FieldName),
        (get("X(A): 1\r\n"), FieldName),
        (get("X\0A: 1\r\n"), FieldName),
        (get("X-A: \0\r\n"), Control),
        (get("X-A: \x0bchunked\r\n"), Control),
        (get("X-A: \x7f\r\n"), Control),
        (
            get("Content-Length: 1\r\nContent-Length: 1\r\n"),
            ContentLength,
        ),
        (get("Content-Length: 1, 1\r\n"), ContentLength),
        (get("Content-Length:\r\n"), ContentLength),
        (get("Content-Length: +1\r\n"), ContentLength),
        (get("Content-Length: -1\r\n"), ContentLength),
        (get("Content-Length: 0x1\r\n"), ContentLength),
        (get("Content-Length: 010\r\n"), ContentLength),
        (get("Content-Length: 1_0\r\n"), ContentLength),
        (
            get("Content-Length: 9223372036854775808\r\n"),
            ContentLength,
        ),
        (get("Transfer-Encoding: xchunked\r\n"), TransferEncoding),
        (get("Transfer-Encoding: ,chunked\r\n"), TransferEncoding),
        (
            get("Transfer-Encoding: chunked, gzip\r\n"),
            TransferEncoding,
        ),
        (
            get("Transfer-Encoding: gzip, chunked\r\n"),
            TransferEncoding,
        ),
        (
            get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            TransferEncoding,
        ),
        (get("Transfer-Encoding:\r\n"), TransferEncoding),
        (
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            TransferEncoding,
        ),
        (
            get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            LengthAndTransferEncoding,
        ),
        ("GET  / HTTP/1.1\r\n\r\n".to_owned(), RequestLine),
        ("GET /\tx HTTP/1.1\r\n\r\n".to_owned(), RequestLine),
        ("GET / HTTP/1.1 \r\n\r\n".to_owned(), RequestLine),
        (" GET / HTTP/1.1\r\n\r\n".to_owned(), RequestLine),
        ("GET /\r\n\r\n".to_owned(), RequestLine),
        ("G(T / HTTP/1.1\r\n\r\n".to_owned(), RequestLine),
        ("GET /\u{fc} HTTP/1.1\r\n\r\n".to_owned(), RequestLine),
        (
            format!("{} / HTTP/1.1\r\n\r\n", "A".repeat(33)),
            RequestLine,
        ),
        ("GET / HTTP/1.2\r\n\r\n".to_owned(), Version),
        ("GET / http/1.1\r\n\r\n".to_owned(), Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), Version),
        (get(&format!("X-A: {}\r\n", "a".repeat(1_024))), HeadTooLong),
        (get(&"a:\r\n".repeat(100)), TooManyFields),
    ] {
        assert_eq!(fault_of(&head), Some(fault), "{head:?}");
    }
}

#[test]
fn chunks_with_more_than_one_reading_are_refused_by_name() {
    use WireFault::*;
    for (body, fault) in [
        ("\r\n".to_owned(), ChunkSize),
        (";a\r\n".to_owned(), ChunkSize),
        ("0x5\r\n".to_owned(), ChunkSize),
        ("+5\r\n".to_owned(), ChunkSize),
        ("-5\r\n".to_owned(), ChunkSize),
        (" 5\r\n".to_owned(), ChunkSize),
        ("5 \r\n".to_owned(), ChunkSize),
        ("5_\r\n".to_owned(), ChunkSize),
        ("1000000000000000\r\n".to_owned(), ChunkSize),
        ("5\nhello\r\n".to_owned(), BareLf),
        ("5;a\nhello\r\n".to_owned(), BareLf),
        ("5\rhello\r\n".to_owned(), BareCr),
        ("5\r\nhello0\r\n\r\n".to_owned(), ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n".to_owned(), ChunkEnd),
        ("5\r\nhello\rx".to_owned(), ChunkEnd),
        ("5;\0\r\n".to_owned(), ChunkExtension),
        (format!("5;{}\r\n", "a".repeat(5_000)), ChunkExtension),
        ("1;aaaa\r\nx\r\n".repeat(1_200), ChunkExtension),
        ("0\r\nX-A: 1\n".to_owned(), BareLf),
        ("0\r\n\n".to_owned(), BareLf),
        ("0\r\n\rx".to_owned(), BareCr),
        ("0\r\nX A: 1\r\n".to_owned(), Trailer),
        ("0\r\n: 1\r\n".to_owned(), Trailer),
        ("0\r\n X: 1\r\n".to_owned(), Trailer),
        ("0\r\nX\r\n".to_owned(), Trailer),
        ("0\r\nX: \0\r\n".to_owned(), Trailer),
        (format!("0\r\n{}", "X: 1\r\n".repeat(3_000)), Trailer),
    ] {
        let shown = &body[..body.len().min(40)];
        assert_eq!(fault_of(&chunked(&body)), Some(fault), "{shown:?}");
    }
}

#[test]
fn bytes_of_a_body_may_be_skipped_without_being_looked_at() {
    let mut follower = Follower::new(BOUNDS);
    let head = get("Content-Length: 10\r\n");
    assert_eq!(follower.judge(head.as_bytes()), Ok(head.len()));
    assert_eq!(follower.plain_left(), 10);
    follower.skip(4);
    assert_eq!(follower.judge(b"456789GET"), Ok(6));
    assert!(follower.in_head());
    let head = chunked("4\r\n");
    assert_eq!(follower.judge(head.as_bytes()), Ok(head.len() - 3));
    assert_eq!(follower.judge(b"4\r\n"), Ok(3));
    assert_eq!(follower.plain_left(), 4);
    follower.skip(4);
    assert_eq!(follower.judge(b"\r\n0\r\n\r\nG"), Ok(7));
    assert!(follower.in_head());
}

proptest! {
    #[test]
    fn parts_change_nothing(
        text in "(GET|POST) /[a-z]{0,3} HTTP/1\\.[01]\r\n((Host|Content-Length|Transfer-Encoding|X): (1|a|chunked)?\r?\n){0,3}\r?\n([0-9a-f]{0,2}\r?\n?){0,4}",
        part in 1_usize..9,
    ) {
        let (whole, parts) = (followed(text.as_bytes(), usize::MAX), followed(text.as_bytes(), part));
        prop_assert_eq!(parts.1, whole.1);
        // In parts, what of a body stands before its fault is passed on.
        prop_assert!(parts.0.starts_with(&whole.0));
    }

    /// The library that reads after us, asked about what we let through.
    #[test]
    fn a_head_that_is_passed_on_is_the_same_head_to_the_library(
        head in "(GET|P\\*T|get) (/|\\*|/[!-~]{0,5}|http://a/) HTTP/1\\.[01]\r\n\
            ((Host|X-A|Content-Length|Transfer-Encoding|[!-~]{1,4}):[ \t]{0,2}[ -~\t]{0,4}\r\n){0,4}\r\n",
        place in any::<proptest::sample::Index>(),
        change in proptest::option::of(any::<u8>()),
    ) {
        let mut bytes = head.into_bytes();
        if let Some(byte) = change {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let mut follower = Follower::new(BOUNDS);
        if let Ok(length @ 1..) = follower.judge(&bytes) {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut request = httparse::Request::new(&mut fields);
            let parsed = request.parse(&bytes);
            prop_assert_eq!(parsed, Ok(httparse::Status::Complete(length)));
            let told = |name: &str| {
                let is = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
                request.headers.iter().filter(is).map(|field| field.value).collect::<Vec<_>>()
            };
            let chunked = told("transfer-encoding");
            let lengths = told("content-length");
            prop_assert!(chunked.len() + lengths.len() <= 1);
            if let [length] = lengths[..] {
                let length = std::str::from_utf8(length).expect("digits");
                prop_assert_eq!(follower.plain_left(), length.trim().parse().expect("a number"));
            }
        }
    }

    #[test]
    fn any_bytes_are_followed_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        part in 1_usize..50,
    ) {
        let (passed, _) = followed(&bytes, part);
        prop_assert!(bytes.starts_with(&passed));
    }
}
