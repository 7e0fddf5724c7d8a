//! Writing cells into the kernel's tries.

use std::collections::HashMap;

use aya::{
    Pod,
    maps::{
        Map, MapData, MapError,
        lpm_trie::{Key, LpmTrie},
    },
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::Cell;

use crate::{
    error::{DatapathError, While as _},
    trie::additions_first,
    truth::Change,
};

type TrieV4 = LpmTrie<MapData, u32, Cell>;
type TrieV6 = LpmTrie<MapData, [u64; 2], Cell>;

/// The tries `PREFIXES_V4` and `PREFIXES_V6`.
pub struct Tables {
    v4: TrieV4,
    v6: TrieV6,
}

impl Tables {
    pub(crate) fn new(v4: Map, v6: Map) -> Result<Self, MapError> {
        Ok(Self {
            v4: v4.try_into()?,
            v6: v6.try_into()?,
        })
    }

    /// Applies changes in their order.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] at the first write that the kernel refuses; those before it
    /// stand, and [`Self::reconcile`] completes them.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), DatapathError> {
        for change in changes {
            match *change {
                Change::Put(IpNet::V4(prefix), cell) => self.v4.insert(&key_v4(prefix), cell, 0),
                Change::Put(IpNet::V6(prefix), cell) => self.v6.insert(&key_v6(prefix), cell, 0),
                Change::Remove(IpNet::V4(prefix)) => gone(self.v4.remove(&key_v4(prefix))),
                Change::Remove(IpNet::V6(prefix)) => gone(self.v6.remove(&key_v6(prefix))),
            }
            .while_trying_to("write a prefix table")?;
        }
        Ok(())
    }

    /// Makes the tables hold exactly `wanted`, additions first; returns how many writes it took.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when the tables can't be read or written.
    pub fn reconcile(
        &mut self,
        wanted: impl Iterator<Item = (IpNet, Cell)>,
    ) -> Result<usize, DatapathError> {
        let mut present = self.read().while_trying_to("read a prefix table")?;
        let mut changes: Vec<Change> = wanted
            .filter(|(prefix, cell)| present.remove(prefix).as_ref() != Some(cell))
            .map(|(prefix, cell)| Change::Put(prefix, cell))
            .collect();
        changes.extend(present.into_keys().map(Change::Remove));
        additions_first(&mut changes);
        self.apply(&changes)?;
        Ok(changes.len())
    }

    fn read(&self) -> Result<HashMap<IpNet, Cell>, MapError> {
        let mut cells = HashMap::new();
        read_trie(&self.v4, &mut cells, |bits, length| {
            Ipv4Net::new(u32::from_be(bits).into(), length)
                .ok()
                .map(IpNet::from)
        })?;
        read_trie(&self.v6, &mut cells, |[high, low]: [u64; 2], length| {
            let bits = u128::from(u64::from_be(high)) << 64 | u128::from(u64::from_be(low));
            Ipv6Net::new(bits.into(), length).ok().map(IpNet::from)
        })?;
        Ok(cells)
    }
}

fn read_trie<K: Pod>(
    trie: &LpmTrie<MapData, K, Cell>,
    into: &mut HashMap<IpNet, Cell>,
    prefix: impl Fn(K, u8) -> Option<IpNet>,
) -> Result<(), MapError> {
    for entry in trie.iter() {
        let (key, cell) = entry?;
        if let Some(prefix) = u8::try_from(key.prefix_len())
            .ok()
            .and_then(|length| prefix(key.data(), length))
        {
            into.insert(prefix, cell);
        }
    }
    Ok(())
}

/// A prefix that is gone already needs no removal.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}

fn key_v4(prefix: Ipv4Net) -> Key<u32> {
    Key::new(
        u32::from(prefix.prefix_len()),
        u32::from(prefix.network()).to_be(),
    )
}

fn key_v6(prefix: Ipv6Net) -> Key<[u64; 2]> {
    let bits = u128::from(prefix.network());
    let halves = [(bits >> 64) as u64, bits as u64];
    Key::new(u32::from(prefix.prefix_len()), halves.map(u64::to_be))
}
