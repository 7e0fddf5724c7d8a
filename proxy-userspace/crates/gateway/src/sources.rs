//! How many connections each source has, so that none takes all of a listener's.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::{IpNet, Ipv6Net};

/// Bits by which IPv6 sources are told apart: one host has a whole /64 to draw addresses from (RFC 7421).
const IPV6_BITS: u8 = 64;

/// Connections of sources at a time. It holds a source for as long as that has a connection, so it is no
/// larger than what it counts.
#[derive(Debug)]
pub(crate) struct Sources {
    most: usize,
    counts: Mutex<HashMap<IpNet, usize>>,
}

/// A source's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    sources: Arc<Sources>,
    source: IpNet,
}

impl Sources {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            counts: Mutex::default(),
        })
    }

    /// A place for one more connection of a source, if it may have one.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let source = told_apart(address);
        let mut counts = self.counts();
        let count = counts.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place {
            sources: Arc::clone(self),
            source,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpNet, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.sources.counts();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

fn told_apart(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address).into(),
        IpAddr::V6(address) => Ipv6Net::new_assert(address, IPV6_BITS).trunc().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(sources: &Arc<Sources>, address: &str) -> Option<Place> {
        sources.enter(address.parse().expect("an address"))
    }

    #[test]
    fn a_source_has_as_many_places_as_it_may_and_gets_them_back() {
        let sources = Sources::new(2);
        let first = enter(&sources, "192.0.2.1");
        let second = enter(&sources, "192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(enter(&sources, "192.0.2.1").is_none());
        assert!(enter(&sources, "192.0.2.2").is_some());
        drop(first);
        assert!(enter(&sources, "192.0.2.1").is_some());
        drop(second);
        assert!(sources.counts().is_empty());
    }

    #[test]
    fn addresses_that_one_host_may_draw_from_are_one_source() {
        let sources = Sources::new(1);
        let _place = enter(&sources, "2001:db8:0:1::1");
        assert!(enter(&sources, "2001:db8:0:1:ffff::2").is_none());
        assert!(enter(&sources, "2001:db8:0:2::1").is_some());
        let _mapped = enter(&sources, "::ffff:192.0.2.1");
        assert!(enter(&sources, "192.0.2.1").is_none());
        assert!(enter(&sources, "192.0.2.2").is_some());
    }
}
