//! Cookies of sessions and of attempts: by their names no other host and no plain HTTP can set them (RFC 6265bis,
//! 4.1.3.2), and no script can read them.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

use crate::sent::cookie_values;

/// Letters of one cookie's value: browsers drop a cookie whose name, value and attributes exceed 4,096 bytes.
const LETTERS: usize = 3_800;

/// Cookies that one session may take.
const MOST_PIECES: usize = 3;

/// Attempts of one login that a browser may have at a time, such as tabs that are opened together.
pub(crate) const SLOTS: u8 = 4;

/// How cookies begin that are ours.
const SESSION: &str = "__Host-portcullis.";
const ATTEMPT: &str = "__Host-portcullis-login.";

const ATTRIBUTES: &str = "; Path=/; Secure; HttpOnly; SameSite=Lax";

/// Whether a cookie, name and value, is one of ours.
pub(crate) fn is_ours(cookie: &[u8]) -> bool {
    [SESSION, ATTEMPT]
        .iter()
        .any(|it| cookie.starts_with(it.as_bytes()))
}

/// The one of this name; `None` where there is none, or two of which one is somebody else's.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found = cookie_values(headers, name);
    let value = found.next().filter(|_| found.next().is_none())?;
    std::str::from_utf8(value).ok()
}

fn is_there(headers: &HeaderMap, name: &str) -> bool {
    cookie_values(headers, name).next().is_some()
}

fn piece_name(login: &str, piece: usize) -> String {
    match piece {
        0 => format!("{SESSION}{login}"),
        piece => format!("{SESSION}{login}.{piece}"),
    }
}

/// What was sent of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Nothing,
    /// Something that isn't whole.
    Damaged,
    Whole(String),
}

/// A session as it was sent. Its first cookie says how many there are, so that what is left of a longer one is
/// none of it.
pub(crate) fn sent_session(headers: &HeaderMap, login: &str) -> Sent {
    let first = piece_name(login, 0);
    if !is_there(headers, &first) {
        return Sent::Nothing;
    }
    let read = || {
        let (count, first) = only(headers, &first)?.split_at_checked(1)?;
        let count: usize = count.parse().ok()?;
        let mut whole = first.to_owned();
        for piece in 1..count.min(MOST_PIECES) {
            whole.push_str(only(headers, &piece_name(login, piece))?);
        }
        (1..=MOST_PIECES).contains(&count).then_some(whole)
    };
    read().map_or(Sent::Damaged, Sent::Whole)
}

/// The fields that give a browser a session; `None` where it doesn't fit.
pub(crate) fn give_session(login: &str, sealed: &str, seconds: u64) -> Option<Vec<HeaderValue>> {
    let count = sealed.len().div_ceil(LETTERS).max(1);
    if count > MOST_PIECES {
        return None;
    }
    let pieces = (0..count).map(|piece| {
        let begin = piece * LETTERS;
        let end = sealed.len().min(begin + LETTERS);
        let mut field = format!("{}=", piece_name(login, piece));
        if piece == 0 {
            let _ = write!(field, "{count}");
        }
        let letters = sealed.get(begin..end)?;
        let _ = write!(field, "{letters}; Max-Age={seconds}{ATTRIBUTES}");
        HeaderValue::try_from(field).ok()
    });
    pieces.collect()
}

/// The fields that take a session from a browser, and what is left of a longer one.
pub(crate) fn take_session(headers: &HeaderMap, login: &str) -> Vec<HeaderValue> {
    (0..MOST_PIECES)
        .map(|piece| piece_name(login, piece))
        .filter(|name| is_there(headers, name))
        .filter_map(|name| gone(&name))
        .collect()
}

fn gone(name: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("{name}=; Max-Age=0{ATTRIBUTES}")).ok()
}

/// The name of an attempt's cookie. Which one it has is told by its state.
fn attempt_name(login: &str, state: &str) -> String {
    let slot = state.bytes().next().unwrap_or_default() % SLOTS;
    format!("{ATTEMPT}{login}.{slot}")
}

/// An attempt as it was sent.
pub(crate) fn sent_attempt<'h>(
    headers: &'h HeaderMap,
    login: &str,
    state: &str,
) -> Option<&'h str> {
    only(headers, &attempt_name(login, state))
}

/// The field that has a browser keep an attempt.
pub(crate) fn give_attempt(
    login: &str,
    state: &str,
    sealed: &str,
    seconds: u64,
) -> Option<HeaderValue> {
    let name = attempt_name(login, state);
    if sealed.len() > LETTERS {
        return None;
    }
    HeaderValue::try_from(format!("{name}={sealed}; Max-Age={seconds}{ATTRIBUTES}")).ok()
}

/// Whether the browser keeps none already where one of this state would stand.
pub(crate) fn is_free(headers: &HeaderMap, login: &str, state: &str) -> bool {
    !is_there(headers, &attempt_name(login, state))
}

/// The field that takes it back.
pub(crate) fn take_attempt(login: &str, state: &str) -> Option<HeaderValue> {
    gone(&attempt_name(login, state))
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    /// What a browser sends back that was given these.
    fn back(given: &[HeaderValue]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in given {
            let text = field.to_str().expect("letters");
            let cookie = text.split(';').next().unwrap_or_default();
            headers.append(header::COOKIE, cookie.parse().expect("a field"));
        }
        headers
    }

    #[test]
    fn a_session_comes_back_whole_however_long_it_is() {
        for length in [1, LETTERS, LETTERS + 1, 3 * LETTERS] {
            let sealed: String = (0..length)
                .map(|at| char::from(b'a' + (at % 26) as u8))
                .collect();
            let given = give_session("web", &sealed, 60).expect("it fits");
            assert!(given.iter().all(|field| field.len() < 4_096));
            assert_eq!(sent_session(&back(&given), "web"), Sent::Whole(sealed));
        }
        assert_eq!(give_session("web", &"a".repeat(3 * LETTERS + 1), 60), None);
    }

    #[test]
    fn what_is_left_of_a_longer_session_is_none_of_a_shorter_one() {
        let mut given = give_session("web", &"a".repeat(LETTERS + 9), 60).expect("it fits");
        given[0] = give_session("web", "b", 60).expect("it fits").remove(0);
        let headers = back(&given);
        assert_eq!(sent_session(&headers, "web"), Sent::Whole("b".to_owned()));
        assert_eq!(take_session(&headers, "web").len(), 2);
    }

    #[test]
    fn a_session_that_is_not_whole_is_none() {
        let sent = |cookies: &[&str]| {
            let cookies: Vec<_> = cookies
                .iter()
                .map(|it| it.parse().expect("a field"))
                .collect();
            sent_session(&back(&cookies), "web")
        };
        assert_eq!(sent(&[]), Sent::Nothing);
        assert_eq!(sent(&["__Host-portcullis.web2=1a"]), Sent::Nothing);
        assert_eq!(sent(&["__Host-portcullis.web.1=a"]), Sent::Nothing);
        let whole = Sent::Whole("a".to_owned());
        assert_eq!(sent(&["__Host-portcullis.web=1a"]), whole);
        for damaged in [
            &["__Host-portcullis.web=1a", "__Host-portcullis.web=1b"][..],
            &["__Host-portcullis.web=2a"],
            &["__Host-portcullis.web=4a"],
            &["__Host-portcullis.web=0a"],
            &["__Host-portcullis.web=xa"],
            &["__Host-portcullis.web="],
        ] {
            assert_eq!(sent(damaged), Sent::Damaged, "{damaged:?}");
        }
    }
}
