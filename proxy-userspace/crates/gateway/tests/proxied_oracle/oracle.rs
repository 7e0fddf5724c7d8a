//! Any bytes as what stands in front of a connection that a load balancer passes on.
//!
//! The fuzz target `proxied` and the replay of its corpus both ask it. Whatever is read, the `ppp` crate reads
//! too: the same client, and a header of the same length.

use std::net::SocketAddr;

use gateway::read_proxy_header;
use ppp::{v1, v2};
use tokio::runtime::{Builder, Runtime};

pub(crate) struct Oracle(Runtime);

impl Oracle {
    pub(crate) fn new() -> Self {
        Self(Builder::new_current_thread().build().expect("a runtime"))
    }

    /// Whether the input begins with a header.
    pub(crate) fn check(&self, input: &[u8]) -> bool {
        let mut rest = input;
        let Ok(client) = self.0.block_on(read_proxy_header(&mut rest)) else {
            return false;
        };
        let header = &input[..input.len() - rest.len()];
        assert_eq!(read_otherwise(header), Some(client), "{header:?}");
        // It doesn't matter what comes behind it, and nothing that is cut is one.
        let mut alone = header;
        let again = self.0.block_on(read_proxy_header(&mut alone));
        assert!(again.is_ok_and(|again| again == client) && alone.is_empty());
        let mut cut = &header[..header.len() - 1];
        assert!(self.0.block_on(read_proxy_header(&mut cut)).is_err());
        true
    }
}

/// Whose connection it is, if it is anybody's.
fn read_otherwise(header: &[u8]) -> Option<Option<SocketAddr>> {
    if header.starts_with(b"PROXY") {
        let read = v1::Header::try_from(header).ok()?;
        assert_eq!(read.header.len(), header.len());
        return Some(match read.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(said) => Some((said.source_address, said.source_port).into()),
            v1::Addresses::Tcp6(said) => Some((said.source_address, said.source_port).into()),
        });
    }
    let read = v2::Header::try_from(header).ok()?;
    assert_eq!(read.len(), header.len());
    if read.command == v2::Command::Local {
        return Some(None);
    }
    Some(match read.addresses {
        v2::Addresses::IPv4(said) => Some((said.source_address, said.source_port).into()),
        v2::Addresses::IPv6(said) => Some((said.source_address, said.source_port).into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    })
}
