//! What a target says, read without the proxy's own code: a second opinion on what it may turn a path into.

use super::Http;

/// Path and query of a target as a client sent it: without scheme and host of the absolute form, and without
/// the fragment, which doesn't travel over HTTP/2 and is refused over HTTP/1.1.
pub(super) fn parts(target: &[u8], http: Http) -> (&[u8], Option<&[u8]>) {
    let travels = match (http, find(target, b"#")) {
        (Http::Two, Some(fragment)) => &target[..fragment],
        _ => target,
    };
    let origin = match find(travels, b"://") {
        Some(scheme) if !travels.starts_with(b"/") => {
            let rest = &travels[scheme + 3..];
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
            &rest[end.unwrap_or(rest.len())..]
        }
        _ => travels,
    };
    cut(origin)
}

/// What stands before the first question mark, and what behind.
pub(super) fn cut(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match find(target, b"?") {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// Whether two paths stand for the same characters, and the same of them divide: an encoded slash, backslash or
/// semicolon is another thing than a plain one.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    meaning(one).eq(meaning(other))
}

/// Whether a path is spelled in the one way that the proxy has: hexadecimal digits in upper case, and nothing
/// encoded that may stand plainly (RFC 3986, 3.3) but the semicolon.
pub(super) fn is_canonical(path: &[u8]) -> bool {
    let mut spelled = Vec::with_capacity(path.len());
    for (byte, encoded) in meaning(path) {
        if encoded {
            spelled.extend(format!("%{byte:02X}").into_bytes());
        } else if may_stand(byte) || matches!(byte, b'/' | b';') {
            spelled.push(byte);
        } else {
            return false;
        }
    }
    spelled == path
}

/// Characters, and whether each is encoded where that makes a difference; decoded once.
fn meaning(path: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        rest = after;
        let pair = (*first == b'%')
            .then(|| after.split_at_checked(2))
            .flatten();
        let decoded = pair.and_then(|(pair, after)| {
            let digits = std::str::from_utf8(pair).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        let Some((byte, after)) = decoded else {
            return Some((*first, false));
        };
        rest = after;
        Some((byte, !may_stand(byte)))
    })
}

/// RFC 3986, 3.3: `pchar` without the semicolon.
fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|some| some == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_taken_apart_as_it_travels() {
        let none = None::<&[u8]>;
        for (target, http, path, query) in [
            ("/a?b?c", Http::One, "/a", Some(&b"b?c"[..])),
            ("/a#b?c", Http::Two, "/a", none),
            ("/a?b#c", Http::Two, "/a", Some(b"b")),
            ("https://h:1/a?b", Http::One, "/a", Some(b"b")),
            ("https://h", Http::One, "", none),
            ("/a://b/c", Http::One, "/a://b/c", none),
        ] {
            let told = parts(target.as_bytes(), http);
            assert_eq!(told, (path.as_bytes(), query), "{target}");
        }
    }

    #[test]
    fn spellings_of_one_path_are_the_same_and_those_of_two_are_not() {
        for (one, other) in [("/%61%7e", "/a~"), ("/%c3%bc", "/%C3%BC"), ("/%3a", "/:")] {
            assert!(is_same(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
        for (one, other) in [
            ("/a%2fb", "/a/b"),
            ("/a%3bb", "/a;b"),
            ("/%2561", "/a"),
            ("/a", "/A"),
            ("/a", "/a/"),
        ] {
            assert!(!is_same(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn one_spelling_is_canonical() {
        for path in ["/a%2Fb", "/%C3%BC;x%3By", "/%25-", "/a:b@c"] {
            assert!(is_canonical(path.as_bytes()), "{path}");
        }
        for path in ["/a%2fb", "/%61", "/%3A", "/\u{fc}", "/a b", "/a\"b", "/%"] {
            assert!(!is_canonical(path.as_bytes()), "{path}");
        }
    }
}
