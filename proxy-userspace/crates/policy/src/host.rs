//! The host a request is for, in one canonical form.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Longest host name in octets (RFC 1035, 2.3.4, less the root label and its length).
const LONGEST_HOST: usize = 253;

/// A host name or address literal: lower case, IDNA applied, no trailing dot, no port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalHost(String);

/// Why a host was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFault {
    /// Nothing there.
    #[error("empty host")]
    Empty,
    /// Something else than digits after the colon, or above 65535.
    #[error("port that is no number up to 65535")]
    Port,
    /// Neither a DNS name nor an address literal.
    #[error("host that is neither a DNS name nor an address")]
    Name,
    /// Its last label is a number, and it is no address: `127.1`, `0x7f000001` and `017700000001` are this
    /// host to many who look names up (inet_aton(3), and the URL Standard's "ends in a number").
    #[error("host that others read as an address, and that isn't written as one")]
    Number,
}

impl CanonicalHost {
    /// Parses a `Host` or `:authority` value (RFC 9110, 7.2), with or without a port.
    ///
    /// # Errors
    /// See [`HostFault`].
    pub fn parse(value: &str) -> Result<Self, HostFault> {
        Self::parse_authority(value).map(|(host, _)| host)
    }

    /// As [`Self::parse`], with the port where there is one.
    ///
    /// # Errors
    /// See [`HostFault`].
    pub fn parse_authority(value: &str) -> Result<(Self, Option<u16>), HostFault> {
        let (host, port) = split_port(value)?;
        let read = |port: &str| {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let number = port.parse().ok().filter(|_| digits);
            number.ok_or(HostFault::Port)
        };
        let port = port.map(read).transpose()?;
        Self::parse_name(host).map(|host| (host, port))
    }

    fn parse_name(host: &str) -> Result<Self, HostFault> {
        if let Some(literal) = host.strip_prefix('[') {
            let literal = literal.strip_suffix(']').ok_or(HostFault::Name)?;
            let address: Ipv6Addr = literal.parse().map_err(|_| HostFault::Name)?;
            return Ok(Self(format!("[{address}]")));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() {
            return Err(HostFault::Empty);
        }
        let ascii = idna::domain_to_ascii_strict(host).map_err(|_| HostFault::Name)?;
        let only_names = ascii
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if ascii.is_empty() || ascii.len() > LONGEST_HOST || !only_names {
            return Err(HostFault::Name);
        }
        if ends_in_number(&ascii) && ascii.parse::<Ipv4Addr>().is_err() {
            return Err(HostFault::Number);
        }
        Ok(Self(ascii))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CanonicalHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Decimal, octal or hexadecimal.
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let digits = last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits || last.strip_prefix("0x").is_some_and(hexadecimal)
}

fn split_port(value: &str) -> Result<(&str, Option<&str>), HostFault> {
    let after_literal = value.rfind(']').map_or(0, |end| end + 1);
    let (literal, rest) = value.split_at(after_literal);
    match rest.split_once(':') {
        None if literal.is_empty() => Ok((rest, None)),
        None if rest.is_empty() => Ok((literal, None)),
        Some(("", port)) if !literal.is_empty() => Ok((literal, Some(port))),
        Some((host, port)) if literal.is_empty() && !host.starts_with('[') => {
            Ok((host, Some(port)))
        }
        _ => Err(HostFault::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(value: &str) -> Result<String, HostFault> {
        CanonicalHost::parse(value).map(|host| host.0)
    }

    #[test]
    fn port_case_trailing_dot_and_idna_come_to_one_form() {
        for value in [
            "bücher.example",
            "BÜCHER.example.",
            "xn--bcher-kva.example:8443",
            "XN--BCHER-KVA.EXAMPLE",
        ] {
            assert_eq!(
                canonical(value).as_deref(),
                Ok("xn--bcher-kva.example"),
                "{value}"
            );
        }
    }

    #[test]
    fn address_literals_have_one_form() {
        assert_eq!(
            canonical("[2001:DB8:0::1]:443").as_deref(),
            Ok("[2001:db8::1]")
        );
        assert_eq!(canonical("192.0.2.1:80").as_deref(), Ok("192.0.2.1"));
    }

    #[test]
    fn refuses_what_is_no_host() {
        for value in ["", ".", ":80"] {
            assert_eq!(canonical(value), Err(HostFault::Empty), "{value}");
        }
        for value in ["a:", "a:b", "a:65536", "a:+80", "a:80:80"] {
            assert_eq!(canonical(value), Err(HostFault::Port), "{value}");
        }
        for value in [
            "127.1",
            "0x7f.1",
            "0X7F000001",
            "2130706433",
            "127.0.0.01",
            "1.2.3.4.5",
            "a.256",
            "a.0x",
            "192.0.2.256",
        ] {
            assert_eq!(canonical(value), Err(HostFault::Number), "{value}");
        }
        for value in ["192.0.2.1.", "1.example", "0x7f.1a", "a.0xg"] {
            assert!(canonical(value).is_ok(), "{value}");
        }
        let spaced = [
            "a b", "user@a", "a/b", "[::1", "::1]", "[::1]a", "[x]", "a..b", "a?b", "a#b",
        ];
        for value in spaced {
            assert_eq!(canonical(value), Err(HostFault::Name), "{value}");
        }
    }
}
