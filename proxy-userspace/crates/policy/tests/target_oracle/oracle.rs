//! Any bytes as the host and the target of a request.
//!
//! The fuzz target `target` and the replay of its corpus both ask it. What has a canonical form has it once:
//! read again it is the same, it means what was sent, and the `url` crate, which reads as browsers do, finds
//! the same host, path and query in it.

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use policy::{CanonicalHost, CanonicalRequest, Relaxations, RequestPath};
use url::Url;

/// Whether the input, a host and a target with a line's end between, is a request.
pub(crate) fn check(input: &[u8]) -> bool {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (host, target) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let Some(request) = read(host, target) else {
        return false;
    };
    let path = request.path();
    let text = path.as_str();
    assert_eq!(RequestPath::read(text).as_ref(), Ok(path), "{text:?}");
    assert!(text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!text.contains(['\\', '#', '?']), "{text:?}");

    let sent = target.split(|byte| *byte == b'?').next();
    let sent = path_of(sent.unwrap_or_default());
    assert_eq!(decoded(text.as_bytes()), decoded(sent), "{text:?}");
    let query = target.iter().position(|byte| *byte == b'?');
    let query = query.map(|at| &target[at + 1..]);
    assert_eq!(request.query().map(str::as_bytes), query);

    let host = request.host();
    assert_eq!(CanonicalHost::parse(host.as_str()).as_ref(), Ok(host));
    let url = format!("https://{host}{}", request.origin_form());
    let url = Url::parse(&url).expect("others can read it");
    assert_eq!(url.host_str(), Some(host.as_str()));
    if path.needs() == Relaxations::default() {
        assert_eq!(url.path(), text);
    }
    true
}

/// As the HTTP library reads the two, and then as we do.
fn read(host: &[u8], target: &[u8]) -> Option<CanonicalRequest> {
    // Refused on the wire: the library leaves a fragment out without a word.
    if target.contains(&b'#') {
        return None;
    }
    let mut fields = HeaderMap::new();
    fields.insert(header::HOST, HeaderValue::from_bytes(host).ok()?);
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    *request.headers_mut() = fields;
    CanonicalRequest::from_parts(&request.into_parts().0).ok()
}

/// The path of a target without query, which may be a whole URL (RFC 9112, 3.2.2).
fn path_of(target: &[u8]) -> &[u8] {
    if target.starts_with(b"/") {
        return target;
    }
    let begin = target.windows(3).position(|three| three == b"://");
    let behind = &target[begin.map_or(target.len(), |at| at + 3)..];
    match behind.iter().position(|byte| *byte == b'/') {
        Some(at) => &behind[at..],
        None => b"/",
    }
}

/// Percent-decoding, once (RFC 3986, 2.1).
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        let digits = behind
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => bytes.push(*first),
        }
    }
    bytes
}
