//! Which endpoint a request goes to.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderName, Request, header};

use super::endpoint::Endpoint;

/// How requests are spread over the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Of two endpoints drawn at random, the one with fewer requests (Mitzenmacher, "The power of two
    /// choices in randomized load balancing", 2001).
    #[default]
    LeastLoaded,
    /// One after the other.
    RoundRobin,
    /// By the client's address.
    HashSource,
    /// By the value of a field; requests without it go by load.
    HashHeader(HeaderName),
    /// By the value of a cookie; requests without it go by load.
    HashCookie(String),
}

impl Balance {
    /// What keeps a source's connections with their endpoint, where something does.
    pub(crate) fn key_of_source(&self, source: IpAddr) -> Option<u64> {
        let hashed = || fnv(source.to_canonical().to_string().as_bytes());
        (*self == Self::HashSource).then(hashed)
    }

    /// What keeps a request with its endpoint, where something does.
    pub(crate) fn key_of<B>(&self, request: &Request<B>, source: IpAddr) -> Option<u64> {
        match self {
            Self::LeastLoaded | Self::RoundRobin => None,
            Self::HashSource => self.key_of_source(source),
            Self::HashHeader(name) => request
                .headers()
                .get(name)
                .map(|value| fnv(value.as_bytes())),
            Self::HashCookie(name) => request
                .headers()
                .get_all(header::COOKIE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(';'))
                .filter_map(|pair| pair.trim().split_once('='))
                .find(|(own, _)| own == name)
                .map(|(_, value)| fnv(value.as_bytes())),
        }
    }
}

/// Draws endpoints.
#[derive(Debug, Default)]
pub(super) struct Draw {
    turn: AtomicU64,
}

impl Draw {
    /// One of those that may have the request. `tried` are the ones that failed it already: they get it
    /// again where there is no other.
    pub(super) fn choose(
        &self,
        endpoints: &[Arc<Endpoint>],
        balance: &Balance,
        key: Option<u64>,
        tried: &[Arc<Endpoint>],
    ) -> Option<Arc<Endpoint>> {
        // Where all that are well were set aside for failing requests, they are better than nobody.
        let all_aside = !endpoints.iter().any(|endpoint| endpoint.may_serve());
        let untried = |endpoint: &&Arc<Endpoint>| {
            (endpoint.may_serve() || all_aside && endpoint.is_healthy())
                && !tried.iter().any(|other| Arc::ptr_eq(other, endpoint))
        };
        let able = endpoints.iter().filter(untried).count();
        if able == 0 {
            return tried.last().filter(|last| last.is_healthy()).cloned();
        }
        let nth = |n: usize| endpoints.iter().filter(untried).nth(n);
        if let Some(key) = key {
            // Rendezvous hashing (Thaler and Ravishankar, 1998): an endpoint that goes moves only what it had.
            let rank = |endpoint: &&Arc<Endpoint>| mix(key ^ endpoint.identity);
            return endpoints.iter().filter(untried).max_by_key(rank).cloned();
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if able == 1 {
            return nth(0).cloned();
        }
        if *balance == Balance::RoundRobin {
            let next = nth(remainder(turn, able))?;
            // One that has just come gets its share of turns only.
            let draws = mix(turn) as f64 / u64::MAX as f64;
            if draws <= next.warmth() {
                return Some(Arc::clone(next));
            }
            return nth(remainder(turn + 1, able)).cloned();
        }
        let drawn = mix(turn);
        let first = remainder(drawn & 0xffff_ffff, able);
        // One of the others.
        let second = (first + 1 + remainder(drawn >> 32, able - 1)) % able;
        let (first, second) = (nth(first)?, nth(second)?);
        let lighter = if first.load() <= second.load() {
            first
        } else {
            second
        };
        Some(Arc::clone(lighter))
    }
}

fn remainder(number: u64, of: usize) -> usize {
    (number % of as u64) as usize
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a, 64 bits. The same in every process, so that several proxies choose alike; a client that
/// learns how to choose its endpoint has won nothing that its cookie didn't give it.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
