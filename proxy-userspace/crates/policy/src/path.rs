//! The path of a request, in one canonical form.
//!
//! Proxies and applications disagree about dot segments, repeated and encoded slashes,
//! backslashes and double encoding; each disagreement has been a bypass somewhere
//! (CVE-2021-29492, CVE-2026-48020 and many more). So what has more than one reading is refused
//! by name, and what is left is written in one way (RFC 3986, 6.2.2).

use std::fmt;

use crate::reading::{Relaxation, Relaxations};

/// Longest path in bytes.
pub(crate) const LONGEST_PATH: usize = 8 * 1024;

/// Layers of encoding under the first that are looked through; more are refused on any route.
const MOST_LAYERS: usize = 3;

/// A path that can be read in one way only: absolute, no dot or empty segments, characters that may stand
/// plainly not encoded, hexadecimal digits of the rest in upper case. What a route may let in beside
/// that is noted as what the path needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestPath {
    text: String,
    needs: Relaxations,
}

/// Why a path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Doesn't begin with a slash (CVE-2026-33186).
    #[error("path_not_absolute")]
    NotAbsolute,
    /// Longer than 8 KiB.
    #[error("path_too_long")]
    TooLong,
    /// A character that RFC 3986 doesn't allow in a path.
    #[error("path_illegal_character")]
    IllegalCharacter,
    /// A backslash, plain or, where it isn't allowed, encoded; some servers take it for a slash.
    #[error("path_backslash")]
    Backslash,
    /// `;`, plain or encoded: servlet containers cut `/admin;x` down to `/admin`, others don't.
    #[error("path_parameter")]
    Parameter,
    /// `%` without two hexadecimal digits.
    #[error("path_broken_encoding")]
    BrokenEncoding,
    /// `%2F`, where it isn't allowed.
    #[error("path_encoded_slash")]
    EncodedSlash,
    /// An encoded control character, `%00` above all.
    #[error("path_encoded_control")]
    EncodedControl,
    /// Decoding once leaves something that decodes again.
    #[error("path_double_encoding")]
    DoubleEncoding,
    /// The decoded bytes aren't UTF-8; overlong forms are among them.
    #[error("path_invalid_utf8")]
    InvalidUtf8,
    /// `.` or `..` as a segment to anybody: plain, encoded, behind `%2F`, before `;`.
    #[error("path_dot_segment")]
    DotSegment,
    /// `//`.
    #[error("path_empty_segment")]
    EmptySegment,
    /// A relaxed rule gives it another reading, and that one leads to another route.
    #[error("path_ambiguous")]
    Ambiguous,
}

impl RequestPath {
    /// Parses the path of a request target, without query, under every strict rule.
    ///
    /// # Errors
    /// See [`PathFault`].
    pub fn parse(path: &str) -> Result<Self, PathFault> {
        let path = Self::read(path)?;
        match path.needs.first_beyond(Relaxations::default()) {
            Some(needed) => Err(needed.fault()),
            None => Ok(path),
        }
    }

    /// Parses the path of a request target, and notes what a route has to allow.
    ///
    /// # Errors
    /// [`PathFault`] for what no route can allow.
    pub fn read(path: &str) -> Result<Self, PathFault> {
        if !path.starts_with('/') {
            return Err(PathFault::NotAbsolute);
        }
        if path.len() > LONGEST_PATH {
            return Err(PathFault::TooLong);
        }
        let mut needs = Relaxations::default();
        let (text, decoded) = decode_once(path.as_bytes(), &mut needs)?;
        let decoded = String::from_utf8(decoded).map_err(|_| PathFault::InvalidUtf8)?;
        check_segments(&decoded, &mut needs)?;
        let mut deeper = decoded.into_bytes();
        let mut layers = 0;
        while let Some(again) = decode_again(&deeper) {
            // Each layer is read whole: thousands of them would cost time that grows with their square.
            layers += 1;
            if layers > MOST_LAYERS {
                return Err(PathFault::DoubleEncoding);
            }
            needs.insert(Relaxation::DoubleEncoding);
            for (byte, relaxed) in [
                (b'\\', Relaxation::EncodedBackslash),
                (b';', Relaxation::PathParameters),
            ] {
                if again.contains(&byte) {
                    needs.insert(relaxed);
                }
            }
            if again.iter().any(u8::is_ascii_control) {
                return Err(PathFault::EncodedControl);
            }
            let text = std::str::from_utf8(&again).map_err(|_| PathFault::InvalidUtf8)?;
            check_segments(text, &mut needs)?;
            deeper = again;
        }
        Ok(Self { text, needs })
    }

    /// The same path without a slash at its end; `/` stays.
    pub(crate) fn without_trailing_slash(self) -> Self {
        match self.text.strip_suffix('/') {
            Some(shorter) if !shorter.is_empty() => Self {
                text: shorter.to_owned(),
                needs: self.needs,
            },
            _ => self,
        }
    }

    /// The canonical text; begins with a slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What a route has to allow for this path.
    pub fn needs(&self) -> Relaxations {
        self.needs
    }
}

impl fmt::Display for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The canonical text and the bytes it stands for.
fn decode_once(path: &[u8], needs: &mut Relaxations) -> Result<(String, Vec<u8>), PathFault> {
    let mut canonical = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        let plain = match byte {
            b'%' => {
                let byte = hex_pair(rest.next(), rest.next()).ok_or(PathFault::BrokenEncoding)?;
                let stays = match byte {
                    0..=0x1f | 0x7f => return Err(PathFault::EncodedControl),
                    b'/' => Some(Relaxation::EncodedSlash),
                    b'\\' => Some(Relaxation::EncodedBackslash),
                    b';' => Some(Relaxation::PathParameters),
                    _ => None,
                };
                if let Some(relaxed) = stays {
                    needs.insert(relaxed);
                }
                // Every other character that may stand plainly does: `%3A` and `:` are one path to
                // the upstream, so they are one path here.
                if stays.is_some() || !is_path_character(byte) {
                    decoded.push(byte);
                    canonical.push_str(&format!("%{byte:02X}"));
                    continue;
                }
                byte
            }
            b'\\' => return Err(PathFault::Backslash),
            b';' => {
                needs.insert(Relaxation::PathParameters);
                byte
            }
            byte if is_path_character(byte) => byte,
            _ => return Err(PathFault::IllegalCharacter),
        };
        decoded.push(plain);
        canonical.push(char::from(plain));
    }
    Ok((canonical, decoded))
}

/// What is left after decoding once more, if that changes anything.
fn decode_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = (*byte == b'%')
            .then(|| hex_pair(bytes.get(at + 1).copied(), bytes.get(at + 2).copied()))
            .flatten();
        decoded.push(pair.unwrap_or(*byte));
        at += if pair.is_some() { 3 } else { 1 };
    }
    (decoded.len() < bytes.len()).then_some(decoded)
}

/// A canonical path as those read it who decode until nothing is left to decode, in canonical text.
pub(crate) fn decoded_whole(path: &str) -> String {
    let mut bytes = path.as_bytes().to_vec();
    while let Some(again) = decode_again(&bytes) {
        bytes = again;
    }
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if is_path_character(byte) || byte == b';' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// RFC 3986, 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986, 3.3: `pchar` and the slash, without the `;` that is refused.
fn is_path_character(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}

/// Segments as anybody might tell them apart.
fn check_segments(decoded: &str, needs: &mut Relaxations) -> Result<(), PathFault> {
    let mut segments = decoded[1..].split(['/', '\\']).peekable();
    let mut is_first = true;
    while let Some(segment) = segments.next() {
        let name = segment.split(';').next().unwrap_or_default();
        // `//x/admin` is the path `/admin` of a host `x` to whoever reads it as a URL reference
        // (RFC 3986, 4.2).
        if is_first && name.is_empty() && segments.peek().is_some() {
            return Err(PathFault::EmptySegment);
        }
        is_first = false;
        if name == "." || name == ".." {
            return Err(PathFault::DotSegment);
        }
        // A single trailing slash is part of the name of a collection.
        if name.is_empty() && segments.peek().is_some() {
            needs.insert(Relaxation::EmptySegments);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(path: &str) -> Result<String, PathFault> {
        RequestPath::parse(path).map(|path| path.text)
    }

    #[test]
    fn plain_paths_are_their_own_canonical_form() {
        for path in [
            "/",
            "/api",
            "/api/",
            "/a/b.c/~d",
            "/v1/items:batch",
            "/100%25",
        ] {
            assert_eq!(canonical(path).as_deref(), Ok(path));
        }
    }

    #[test]
    fn encodings_come_to_one_form() {
        assert_eq!(canonical("/%61%2d%7e").as_deref(), Ok("/a-~"));
        assert_eq!(canonical("/b%c3%bccher").as_deref(), Ok("/b%C3%BCcher"));
        assert_eq!(canonical("/a%20b").as_deref(), Ok("/a%20b"));
        assert_eq!(
            canonical("/v1/items%3Apurge").as_deref(),
            Ok("/v1/items:purge")
        );
        // An ordinary name, only spelled oddly: what is decided is what the upstream gets.
        assert_eq!(canonical("/api%2e%2e/").as_deref(), Ok("/api../"));
    }

    #[test]
    fn refuses_by_name_what_has_more_than_one_reading() {
        for (path, fault) in [
            ("", PathFault::NotAbsolute),
            ("admin", PathFault::NotAbsolute),
            ("*", PathFault::NotAbsolute),
            ("//admin", PathFault::EmptySegment),
            ("/a//b", PathFault::EmptySegment),
            ("/a//", PathFault::EmptySegment),
            ("/;/admin", PathFault::EmptySegment),
            ("/a%2fb", PathFault::EncodedSlash),
            ("/a%2Fb", PathFault::EncodedSlash),
            ("/a%5cb", PathFault::Backslash),
            ("/a\\b", PathFault::Backslash),
            ("/public/../admin", PathFault::DotSegment),
            ("/public/..%2fadmin", PathFault::DotSegment),
            ("/%2e%2e/", PathFault::DotSegment),
            ("/a/%2E", PathFault::DotSegment),
            ("/..;/admin", PathFault::DotSegment),
            ("/admin;x/users", PathFault::Parameter),
            ("/admin%3bx", PathFault::Parameter),
            ("/a%00b", PathFault::EncodedControl),
            ("/a%0ab", PathFault::EncodedControl),
            ("/%c0%af", PathFault::InvalidUtf8),
            ("/%ff", PathFault::InvalidUtf8),
            ("/%252e%252e/", PathFault::DotSegment),
            ("/%252e%25%32e/", PathFault::DotSegment),
            ("/a%252500", PathFault::EncodedControl),
            ("/%25c0%25af", PathFault::InvalidUtf8),
            ("/a%2541", PathFault::DoubleEncoding),
            ("/%25%32%66", PathFault::EmptySegment),
            ("/a%", PathFault::BrokenEncoding),
            ("/a%4", PathFault::BrokenEncoding),
            ("/a%g0", PathFault::BrokenEncoding),
            ("/a b", PathFault::IllegalCharacter),
            ("/a#b", PathFault::IllegalCharacter),
            ("/a?b", PathFault::IllegalCharacter),
            ("/ü", PathFault::IllegalCharacter),
        ] {
            assert_eq!(canonical(path), Err(fault), "{path}");
        }
    }

    #[test]
    fn a_path_of_thousands_of_layers_is_refused_on_any_route() {
        let layers = format!("/%{}", "25".repeat(4_000));
        assert_eq!(RequestPath::read(&layers), Err(PathFault::DoubleEncoding));
        assert!(RequestPath::read("/%25252541").is_ok());
        assert_eq!(
            RequestPath::read("/%2525252541"),
            Err(PathFault::DoubleEncoding)
        );
    }

    #[test]
    fn what_a_url_reference_takes_for_a_host_is_refused_on_any_route() {
        for path in [
            "//x/admin",
            "/%2Fx/admin",
            "/%5Cx/admin",
            "/;a/x/admin",
            "/%252Fx/admin",
        ] {
            assert_eq!(
                RequestPath::read(path),
                Err(PathFault::EmptySegment),
                "{path}"
            );
        }
    }

    #[test]
    fn refuses_a_path_beyond_the_bound() {
        let longest = format!("/{}", "a".repeat(LONGEST_PATH - 1));
        assert!(canonical(&longest).is_ok());
        assert_eq!(canonical(&(longest + "a")), Err(PathFault::TooLong));
    }

    proptest! {
        #[test]
        fn canonicalising_twice_changes_nothing(path in "/[a-z%0-9A-F/.;:~ü\\\\]{0,40}") {
            if let Ok(once) = RequestPath::read(&path) {
                prop_assert_eq!(RequestPath::read(once.as_str()), Ok(once.clone()));
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(path in ".{0,80}") {
            if let Ok(path) = RequestPath::read(&path) {
                for reading in path.other_readings() {
                    prop_assert!(reading.starts_with('/'));
                }
            }
        }
    }
}
