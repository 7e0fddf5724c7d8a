//! A whole list as one value: what a list of a million entries is kept as, in a few bytes each.
//!
//! Entries are ordered and told by their distance from the one before; what they have in common is
//! told once. The last four bytes are a CRC-32 of the rest.

use std::collections::HashMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::Stored;

/// First byte of a content; another one is another way to write it.
const VERSION: u8 = 1;

/// An entry of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) prefix: IpNet,
    /// Place in the content's notes.
    pub(crate) note: u32,
    /// Line of the source, counted from 1; 0 where there is none.
    pub(crate) line: u32,
}

/// A whole list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// What is known of entries, each told once.
    pub(crate) notes: Vec<Stored>,
    /// IPv4 before IPv6, by address and length.
    pub(crate) items: Vec<Item>,
}

/// Why a content can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it is of version {0}, which this program doesn't know")]
    Version(u8),
    #[error("it breaks off or holds nonsense: {0}")]
    Encoding(#[from] postcard::Error),
    #[error("what is known of an entry can't be read: {0}")]
    Note(#[from] serde_json::Error),
    #[error("it holds a prefix that is none, or refers to what it doesn't hold")]
    Nonsense,
}

/// Address as the distance from the one before, length, note, line.
type Written<A> = Vec<(A, u8, u32, u32)>;

/// As bytes, by postcard, in which small numbers are short.
#[derive(Default, Serialize, Deserialize)]
struct Packed {
    /// JSON, so that they can gain members.
    notes: Vec<String>,
    v4: Written<u32>,
    v6: Written<u128>,
}

impl Content {
    /// Collects entries that are in order.
    pub(crate) fn collect<'a>(entries: impl IntoIterator<Item = (IpNet, &'a Stored, u32)>) -> Self {
        let mut content = Self::default();
        let mut places: HashMap<&Stored, u32> = HashMap::new();
        for (prefix, stored, line) in entries {
            let fresh = content.notes.len() as u32;
            let note = *places.entry(stored).or_insert_with(|| {
                content.notes.push(stored.clone());
                fresh
            });
            content.items.push(Item { prefix, note, line });
        }
        content
    }

    /// Entries with what is known of them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (IpNet, &Stored, u32)> {
        self.items
            .iter()
            .filter_map(|item| Some((item.prefix, self.notes.get(item.note as usize)?, item.line)))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut packed = Packed {
            notes: self
                .notes
                .iter()
                .map(|note| serde_json::to_string(note).unwrap_or_default())
                .collect(),
            ..Packed::default()
        };
        let (mut last_v4, mut last_v6) = (0, 0);
        for Item { prefix, note, line } in &self.items {
            match prefix {
                IpNet::V4(net) => {
                    let address = u32::from(net.network());
                    let distance = address.wrapping_sub(last_v4);
                    packed.v4.push((distance, net.prefix_len(), *note, *line));
                    last_v4 = address;
                }
                IpNet::V6(net) => {
                    let address = u128::from(net.network());
                    let distance = address.wrapping_sub(last_v6);
                    packed.v6.push((distance, net.prefix_len(), *note, *line));
                    last_v6 = address;
                }
            }
        }
        // Fails only for values that refuse to be serialised, of which there are none in it.
        let mut bytes = postcard::to_extend(&packed, vec![VERSION]).unwrap_or_default();
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ContentError> {
        let (rest, checksum) = bytes.split_last_chunk().ok_or(ContentError::Checksum)?;
        if crc32fast::hash(rest) != u32::from_le_bytes(*checksum) {
            return Err(ContentError::Checksum);
        }
        let packed: Packed = match rest.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest)?,
            Some((other, _)) => return Err(ContentError::Version(*other)),
            None => return Err(ContentError::Checksum),
        };
        let notes = packed
            .notes
            .iter()
            .map(|note| serde_json::from_str(note))
            .collect::<Result<Vec<Stored>, _>>()?;
        let mut items = Vec::with_capacity(packed.v4.len() + packed.v6.len());
        let mut push = |net: Option<IpNet>, note: u32, line| match net {
            Some(prefix) if (note as usize) < notes.len() => {
                items.push(Item { prefix, note, line });
                Ok(())
            }
            _ => Err(ContentError::Nonsense),
        };
        let mut address = 0_u32;
        for (distance, length, note, line) in packed.v4 {
            address = address.wrapping_add(distance);
            let net = Ipv4Net::new(address.into(), length).ok();
            push(net.map(IpNet::from), note, line)?;
        }
        let mut address = 0_u128;
        for (distance, length, note, line) in packed.v6 {
            address = address.wrapping_add(distance);
            let net = Ipv6Net::new(address.into(), length).ok();
            push(net.map(IpNet::from), note, line)?;
        }
        Ok(Self { notes, items })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(reason: &str) -> Stored {
        Stored {
            trusted: false,
            added_ms: 1_000,
            ending: None,
            reason: Some(reason.to_owned()),
            forced: false,
        }
    }

    fn sample() -> Content {
        let (one, other) = (stored("feed"), stored("flood"));
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        Content::collect([
            (net("10.0.0.0/8"), &one, 3),
            (net("10.0.0.0/24"), &other, 1),
            (net("255.255.255.255/32"), &one, 0),
            (net("2001:db8::/32"), &one, 2),
            (net("2001:db8::1/128"), &other, u32::MAX),
        ])
    }

    #[test]
    fn a_content_comes_out_as_it_went_in() {
        let content = sample();
        assert_eq!(content.notes.len(), 2);
        let again = Content::decode(&content.encode()).expect("a content");
        assert_eq!(again, content);
    }

    #[test]
    fn a_content_with_any_byte_changed_or_missing_is_refused() {
        let bytes = sample().encode();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            assert!(Content::decode(&damaged).is_err(), "byte {place}");
            assert!(Content::decode(&bytes[..place]).is_err(), "{place} bytes");
        }
    }

    #[test]
    fn a_host_takes_few_bytes() {
        let note = stored("feed");
        let hosts = (0..10_000_u32).map(|n| {
            let address = std::net::Ipv4Addr::from(n * 429_496);
            (IpNet::from(std::net::IpAddr::from(address)), &note, 0)
        });
        let bytes = Content::collect(hosts).encode();
        assert!(bytes.len() < 65_000, "{} bytes", bytes.len());
    }
}
