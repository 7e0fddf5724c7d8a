//! The PROXY protocol (version 2, "The PROXY protocol", HAProxy, 2010 to 2020): in front of all other bytes,
//! a load balancer says whose connection it passes on, and this proxy says so to an upstream.

use std::{io, net::SocketAddr};

use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::error::Elapsed,
};

/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Longest line of version 1, its end included (section 2.1).
const LONGEST_V1: usize = 107;

/// Longest part of version 2 behind its first 16 bytes: addresses, and what else is said beside them. More
/// than any balancer says.
const LONGEST_V2: usize = 4096;

/// Why what came in front is no header. The text is the name in the audit trail.
#[derive(Debug, thiserror::Error)]
pub enum ProxiedFault {
    /// From an address that nobody is trusted at.
    #[error("proxy_protocol_untrusted")]
    Untrusted,
    /// No header.
    #[error("proxy_protocol_malformed")]
    Malformed,
    /// It didn't come in time.
    #[error("proxy_protocol_timeout")]
    Timeout,
    /// The connection ended before it.
    #[error("proxy_protocol_broken")]
    Broken(#[from] io::Error),
}

impl From<Elapsed> for ProxiedFault {
    fn from(_: Elapsed) -> Self {
        Self::Timeout
    }
}

/// Reads a header, and not one byte more. `None` where the balancer speaks for itself, as in its health
/// checks.
///
/// # Errors
/// See [`ProxiedFault`].
pub async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxiedFault> {
    // The shortest line of version 1 is longer than this.
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        header.extend_from_slice(&fixed);
        let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if length > LONGEST_V2 {
            return Err(ProxiedFault::Malformed);
        }
        let start = header.len();
        header.resize(start + length, 0);
        stream.read_exact(&mut header[start..]).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LONGEST_V1 {
                return Err(ProxiedFault::Malformed);
            }
            header.push(stream.read_u8().await?);
        }
        if !is_plain(&header) {
            return Err(ProxiedFault::Malformed);
        }
    } else {
        return Err(ProxiedFault::Malformed);
    }
    let (parsed, read) =
        ProxyHeader::parse(&header, ParseConfig::default()).map_err(|_| ProxiedFault::Malformed)?;
    if read != header.len() {
        return Err(ProxiedFault::Malformed);
    }
    Ok(parsed.proxied_address().map(|address| address.source))
}

/// Whether a line of version 1 names one of three protocols, and ports without zeros in front (section 2.1):
/// the library takes whatever begins with UNKNOWN for it, and `0443` for a port. What follows UNKNOWN is for
/// nobody, and text all the same.
fn is_plain(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    if !line
        .iter()
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    {
        return false;
    }
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let is_port = |word: &[u8]| !word.starts_with(b"0") || word == b"0";
    match words.next() {
        Some(b"UNKNOWN") => true,
        Some(b"TCP4" | b"TCP6") => words.skip(2).all(is_port),
        _ => false,
    }
}

/// The header of version 2 for a connection of `client` to `here`; without a client, one in which this proxy
/// speaks for itself.
pub(crate) fn header_for(client: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let header = match client {
        None => ProxyHeader::with_local(),
        Some((client, here)) => {
            let (client, here) = alike(client, here);
            ProxyHeader::with_address(ProxiedAddress::stream(client, here))
        }
    };
    let mut bytes = Vec::new();
    // Addresses alone always fit.
    let _ = header.encode_v2(&mut bytes);
    bytes
}

/// Both as IPv4, or both as IPv6: a header has room for one family.
fn alike(client: SocketAddr, here: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let (client, here) = (plain(client), plain(here));
    if client.is_ipv4() == here.is_ipv4() {
        return (client, here);
    }
    let mapped = |at: SocketAddr| match at {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        v6 @ SocketAddr::V6(_) => v6,
    };
    (mapped(client), mapped(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<(Option<String>, usize), String> {
        let mut rest = bytes;
        let source = read_header(&mut rest).await;
        let source = source.map_err(|fault| fault.to_string())?;
        Ok((source.map(|it| it.to_string()), rest.len()))
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((addresses.len() as u16).to_be_bytes());
        bytes.extend(addresses);
        bytes
    }

    #[tokio::test]
    async fn both_versions_are_read_and_not_one_byte_more() {
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 1024 443\r\nrest";
        assert_eq!(read(v1).await, Ok((Some("192.0.2.7:1024".to_owned()), 4)));
        let v1 = b"PROXY TCP6 2001:db8::7 2001:db8::1 1024 443\r\nrest";
        let source = Some("[2001:db8::7]:1024".to_owned());
        assert_eq!(read(v1).await, Ok((source, 4)));
        assert_eq!(read(b"PROXY UNKNOWN\r\nrest").await, Ok((None, 4)));
        let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 4, 0, 1, 187];
        let with_more = [&addresses[..], &[0x04, 0, 1, 0]].concat();
        for said in [&addresses[..], &with_more] {
            let bytes = [v2(1, 0x11, said), b"rest".to_vec()].concat();
            let source = Some("192.0.2.7:1024".to_owned());
            assert_eq!(read(&bytes).await, Ok((source, 4)));
        }
        assert_eq!(read(&v2(0, 0, &[])).await, Ok((None, 0)));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let malformed = Err("proxy_protocol_malformed".to_owned());
        let too_long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        let cut = v2(1, 0x11, &[192, 0, 2, 7]);
        let mut endless = v2(1, 0x11, &[]);
        endless[14..16].copy_from_slice(&[0xff, 0xff]);
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.7 198.51.100.1 70000 443\r\n",
            b"PROXY TCP4 192.0.2.700 198.51.100.1 1024 443\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 1024 443\r\n",
            b"PROXY UNKNOWNTCP4 192.0.2.7 198.51.100.1 1024 443\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 01024 443\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1024 0443\r\n",
            b"PROXY UNKNOWN \x82\t\r\n",
            b"PROXY SCTP 192.0.2.7 198.51.100.1 1024 443\r\n",
            &too_long,
            &cut,
            &endless,
            &v2(2, 0x11, &[0; 12]),
            &v2(1, 0x55, &[0; 12]),
        ] {
            assert_eq!(read(bytes).await, malformed, "{bytes:?}");
        }
        let broken = Err("proxy_protocol_broken".to_owned());
        let whole = v2(1, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 4, 0, 1, 187]);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]).await, broken, "{end}");
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (client, here, read_as) in [
            ("192.0.2.7:1", "198.51.100.1:443", "192.0.2.7:1"),
            ("[2001:db8::7]:1", "[2001:db8::1]:443", "[2001:db8::7]:1"),
            ("[::ffff:192.0.2.7]:1", "198.51.100.1:443", "192.0.2.7:1"),
            ("192.0.2.7:1", "[2001:db8::1]:443", "[::ffff:192.0.2.7]:1"),
        ] {
            let bytes = header_for(Some((at(client), at(here))));
            assert_eq!(read(&bytes).await, Ok((Some(read_as.to_owned()), 0)));
        }
        assert_eq!(read(&header_for(None)).await, Ok((None, 0)));
    }

    /// Headers with bytes changed, cut and put in: each is read or refused, and nothing behind one is taken.
    #[tokio::test]
    async fn mutated_headers_are_read_or_refused() {
        let seeds = [
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1024 443\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::7 2001:db8::1 1024 443\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            v2(
                1,
                0x11,
                &[192, 0, 2, 7, 198, 51, 100, 1, 4, 0, 1, 187, 4, 0, 1, 0],
            ),
            v2(1, 0x21, &[7; 36]),
            v2(1, 0x31, &[b'/'; 216]),
            v2(0, 0, &[]),
        ];
        // xorshift64 (Marsaglia, 2003): the same mutations in each run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let (mut good, mut refused) = (0, 0);
        for _ in 0..50_000 {
            let mut bytes = seeds[draw(seeds.len())].clone();
            for _ in 0..=draw(3) {
                let at = draw(bytes.len());
                match draw(3) {
                    0 => bytes[at] = draw(256) as u8,
                    1 => bytes.insert(at, draw(256) as u8),
                    _ => {
                        bytes.remove(at);
                    }
                }
            }
            bytes.extend([0; 8]);
            match read(&bytes).await {
                Ok((_, left)) => {
                    good += 1;
                    assert!(left < bytes.len(), "{bytes:?}");
                }
                Err(_) => refused += 1,
            }
        }
        assert!(
            good > 1_000 && refused > 1_000,
            "{good} read, {refused} refused"
        );
    }
}
