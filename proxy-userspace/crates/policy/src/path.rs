//! The path of a request, in one canonical form.
//!
//! Proxies and applications disagree about dot segments, repeated and encoded slashes,
//! backslashes and double encoding; each disagreement has been a bypass somewhere
//! (CVE-2021-29492, CVE-2026-48020 and many more). So what has more than one reading is refused
//! by name, and what is left is written in one way (RFC 3986, 6.2.2).

use std::fmt;

/// Longest path in bytes.
pub(crate) const LONGEST_PATH: usize = 8 * 1024;

/// A path that can be read in one way only: absolute, no dot or empty segments, characters that may stand plainly not encoded, hexadecimal digits of the rest in upper case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestPath(String);

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
    /// A backslash, plain or encoded; some servers take it for a slash.
    #[error("path_backslash")]
    Backslash,
    /// `;`, plain or encoded: servlet containers cut `/admin;x` down to `/admin`, others don't.
    #[error("path_parameter")]
    Parameter,
    /// `%` without two hexadecimal digits.
    #[error("path_broken_encoding")]
    BrokenEncoding,
    /// `%2F`.
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
    /// `.` or `..` as a segment, plain or encoded.
    #[error("path_dot_segment")]
    DotSegment,
    /// `//`.
    #[error("path_empty_segment")]
    EmptySegment,
}

impl RequestPath {
    /// Parses the path of a request target, without query.
    ///
    /// # Errors
    /// See [`PathFault`].
    pub fn parse(path: &str) -> Result<Self, PathFault> {
        if !path.starts_with('/') {
            return Err(PathFault::NotAbsolute);
        }
        if path.len() > LONGEST_PATH {
            return Err(PathFault::TooLong);
        }
        let (canonical, decoded) = decode_once(path.as_bytes())?;
        let decoded = String::from_utf8(decoded).map_err(|_| PathFault::InvalidUtf8)?;
        if decodes_again(decoded.as_bytes()) {
            return Err(PathFault::DoubleEncoding);
        }
        check_segments(&decoded)?;
        Ok(Self(canonical))
    }

    /// The same path without a slash at its end; `/` stays.
    pub(crate) fn without_trailing_slash(self) -> Self {
        match self.0.strip_suffix('/') {
            Some(shorter) if !shorter.is_empty() => Self(shorter.to_owned()),
            _ => self,
        }
    }

    /// The canonical text; begins with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The canonical text and the bytes it stands for.
fn decode_once(path: &[u8]) -> Result<(String, Vec<u8>), PathFault> {
    let mut canonical = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        let plain = match byte {
            b'%' => {
                let byte = hex_pair(rest.next(), rest.next()).ok_or(PathFault::BrokenEncoding)?;
                match byte {
                    b'/' => return Err(PathFault::EncodedSlash),
                    b'\\' => return Err(PathFault::Backslash),
                    0..=0x1f | 0x7f => return Err(PathFault::EncodedControl),
                    _ => {}
                }
                if byte == b';' {
                    return Err(PathFault::Parameter);
                }
                // Every character that may stand plainly does: `%3A` and `:` are one path to
                // the upstream, so they are one path here.
                if !is_path_character(byte) {
                    decoded.push(byte);
                    canonical.push_str(&format!("%{byte:02X}"));
                    continue;
                }
                byte
            }
            b'\\' => return Err(PathFault::Backslash),
            b';' => return Err(PathFault::Parameter),
            byte if is_path_character(byte) => byte,
            _ => return Err(PathFault::IllegalCharacter),
        };
        decoded.push(plain);
        canonical.push(char::from(plain));
    }
    Ok((canonical, decoded))
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

fn decodes_again(decoded: &[u8]) -> bool {
    decoded
        .windows(3)
        .any(|window| window[0] == b'%' && hex_pair(Some(window[1]), Some(window[2])).is_some())
}

fn check_segments(decoded: &str) -> Result<(), PathFault> {
    let mut segments = decoded[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment == "." || segment == ".." {
            return Err(PathFault::DotSegment);
        }
        // A single trailing slash is part of the name of a collection.
        if segment.is_empty() && segments.peek().is_some() {
            return Err(PathFault::EmptySegment);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(path: &str) -> Result<String, PathFault> {
        RequestPath::parse(path).map(|path| path.0)
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
            ("/;/admin", PathFault::Parameter),
            ("/a%2fb", PathFault::EncodedSlash),
            ("/a%2Fb", PathFault::EncodedSlash),
            ("/a%5cb", PathFault::Backslash),
            ("/a\\b", PathFault::Backslash),
            ("/public/../admin", PathFault::DotSegment),
            ("/public/..%2fadmin", PathFault::EncodedSlash),
            ("/%2e%2e/", PathFault::DotSegment),
            ("/a/%2E", PathFault::DotSegment),
            ("/..;/admin", PathFault::Parameter),
            ("/admin;x/users", PathFault::Parameter),
            ("/admin%3bx", PathFault::Parameter),
            ("/a%00b", PathFault::EncodedControl),
            ("/a%0ab", PathFault::EncodedControl),
            ("/%c0%af", PathFault::InvalidUtf8),
            ("/%ff", PathFault::InvalidUtf8),
            ("/%252e%252e/", PathFault::DoubleEncoding),
            ("/%25%32%66", PathFault::DoubleEncoding),
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
    fn refuses_a_path_beyond_the_bound() {
        let longest = format!("/{}", "a".repeat(LONGEST_PATH - 1));
        assert!(canonical(&longest).is_ok());
        assert_eq!(canonical(&(longest + "a")), Err(PathFault::TooLong));
    }

    proptest! {
        #[test]
        fn canonicalising_twice_changes_nothing(path in "/[a-z%0-9A-F/.;:~ü\\\\]{0,40}") {
            if let Ok(once) = RequestPath::parse(&path) {
                prop_assert_eq!(RequestPath::parse(once.as_str()), Ok(once.clone()));
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(path in ".{0,80}") {
            let _ = RequestPath::parse(&path);
        }
    }
}
