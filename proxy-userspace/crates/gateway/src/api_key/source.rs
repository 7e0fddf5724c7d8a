//! The keys of one place, by their ids; others are put in force while requests go on.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};
use policy::Principal;
use tokio::sync::Notify;

use super::{
    ApiKeyFault,
    secret::{ApiKey, ApiKeyId, KeptHash},
};
use crate::sent::only_field;

/// What the keys of one place have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRules {
    /// Name in configuration, logs and policy: who vouches for their holders.
    pub name: String,
    /// The field that carries one.
    pub header: HeaderName,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// Its id.
    pub id: ApiKeyId,
    /// By what it is told.
    pub hash: KeptHash,
    /// Not good any more from this second since the epoch on.
    pub expires: Option<u64>,
    /// Whom it was made for.
    pub holder: Arc<Principal>,
}

/// The keys of one place.
#[derive(Debug)]
pub struct ApiKeys {
    rules: ApiKeyRules,
    keys: ArcSwap<HashMap<ApiKeyId, KeptKey>>,
    /// Another one with each exchange.
    generation: AtomicU64,
    changed: Arc<Notify>,
    /// What a key with an id that nobody has is held against: it takes as long to refuse as any other.
    nobody: KeptHash,
}

/// A key that is good.
#[derive(Clone, Debug)]
pub(crate) struct HeldKey {
    kept: KeptKey,
    source: Arc<ApiKeys>,
    /// Of the keys that it was one of.
    generation: u64,
}

impl HeldKey {
    pub(crate) fn id(&self) -> ApiKeyId {
        self.kept.id
    }

    pub(crate) fn holder(&self) -> &Principal {
        &self.kept.holder
    }

    /// Whether it is still one of its place's, of the same holder and under the same hash.
    ///
    /// # Errors
    /// [`ApiKeyFault::Unknown`], [`ApiKeyFault::Wrong`], [`ApiKeyFault::Changed`].
    pub(crate) fn stands(&mut self) -> Result<(), ApiKeyFault> {
        let generation = self.source.generation();
        if self.generation == generation {
            return Ok(());
        }
        let keys = self.source.keys.load();
        let kept = keys.get(&self.kept.id).ok_or(ApiKeyFault::Unknown)?;
        if kept.hash != self.kept.hash {
            return Err(ApiKeyFault::Wrong);
        }
        // What was permitted was permitted to somebody else.
        if kept.holder != self.kept.holder {
            return Err(ApiKeyFault::Changed);
        }
        (self.kept.expires, self.generation) = (kept.expires, generation);
        Ok(())
    }

    /// Seconds since the epoch: not good from then on.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.kept.expires
    }

    /// Tells of other keys in its place, whoever waited before.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.source.changed)
    }
}

impl ApiKeys {
    /// These ones.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(rules: ApiKeyRules, keys: Vec<KeptKey>) -> io::Result<Self> {
        Ok(Self {
            rules,
            keys: ArcSwap::from_pointee(by_id(keys)),
            generation: AtomicU64::default(),
            changed: Arc::default(),
            nobody: KeptHash::of_nobody()?,
        })
    }

    /// What they have in common.
    pub fn rules(&self) -> &ApiKeyRules {
        &self.rules
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.keys.load().len()
    }

    /// Whether `other` has the same ones.
    pub fn has_those_of(&self, other: &Self) -> bool {
        *self.keys.load() == *other.keys.load()
    }

    /// Puts these in force in place of those before, for every request that begins from now on.
    pub fn exchange(&self, keys: Vec<KeptKey>) {
        self.put(Arc::new(by_id(keys)));
    }

    /// Puts those of another in force, which was read for this place.
    pub fn take_over(&self, other: &Self) {
        self.put(other.keys.load_full());
    }

    /// Has no keys any more: there is no such place.
    pub fn close(&self) {
        self.put(Arc::default());
    }

    fn put(&self, keys: Arc<HashMap<ApiKeyId, KeptKey>>) {
        self.keys.store(keys);
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

fn by_id(keys: Vec<KeptKey>) -> HashMap<ApiKeyId, KeptKey> {
    keys.into_iter().map(|key| (key.id, key)).collect()
}

/// The key of a request with these fields, proven to be one of these places'. `None` where there is none.
pub(crate) fn held_key<'k>(
    headers: &HeaderMap,
    accepted: impl Iterator<Item = &'k Arc<ApiKeys>> + Clone,
    now: u64,
) -> Result<Option<HeldKey>, ApiKeyFault> {
    let mut sent: Option<(&HeaderName, &str)> = None;
    for source in accepted.clone() {
        let header = &source.rules.header;
        if sent.is_some_and(|(known, _)| known == header) {
            continue;
        }
        let field = only_field(headers, header).map_err(|_| ApiKeyFault::Repeated)?;
        match (field, sent) {
            (None, _) => {}
            (Some(field), None) => {
                let text = field.to_str().map_err(|_| ApiKeyFault::Malformed)?;
                sent = Some((header, text));
            }
            (Some(_), Some(_)) => return Err(ApiKeyFault::TwoPlaces),
        }
    }
    let Some((header, text)) = sent else {
        return Ok(None);
    };
    let key = ApiKey::parse(text).ok_or(ApiKeyFault::Malformed)?;
    let mut nobody = None;
    for source in accepted.filter(|source| source.rules.header == *header) {
        // Before the keys are looked at: what is exchanged meanwhile is looked at again.
        let generation = source.generation();
        if let Some(kept) = source.keys.load().get(&key.id()) {
            kept.judge(&key, now)?;
            return Ok(Some(HeldKey {
                kept: kept.clone(),
                source: Arc::clone(source),
                generation,
            }));
        }
        nobody = Some(&source.nobody);
    }
    let known = nobody.is_some_and(|hash| hash.is_of(&key));
    Err(if known {
        ApiKeyFault::Wrong
    } else {
        ApiKeyFault::Unknown
    })
}

impl KeptKey {
    fn judge(&self, key: &ApiKey, now: u64) -> Result<(), ApiKeyFault> {
        if !self.hash.is_of(key) {
            return Err(ApiKeyFault::Wrong);
        }
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(ApiKeyFault::Expired);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use http::HeaderValue;
    use policy::ProvenBy;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    /// A key of `subject`, and what is kept of it.
    fn made(subject: &str, expires: Option<u64>) -> (ApiKey, KeptKey) {
        let key = ApiKey::draw().expect("randomness");
        let kept = KeptKey {
            id: key.id(),
            hash: key.hash().expect("randomness"),
            expires,
            holder: Arc::new(Principal {
                issuer: "keys".to_owned(),
                subject: subject.to_owned(),
                scopes: BTreeSet::new(),
                groups: BTreeSet::new(),
                attributes: BTreeMap::new(),
                proven_by: ProvenBy::ApiKey,
            }),
        };
        (key, kept)
    }

    fn source(header: &'static str, keys: Vec<KeptKey>) -> Arc<ApiKeys> {
        let rules = ApiKeyRules {
            name: header.to_owned(),
            header: HeaderName::from_static(header),
        };
        Arc::new(ApiKeys::new(rules, keys).expect("randomness"))
    }

    fn told(
        sources: &[Arc<ApiKeys>],
        fields: &[(&'static str, &str)],
    ) -> Result<Option<String>, ApiKeyFault> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a legal value");
            headers.append(*name, value);
        }
        let held = held_key(&headers, sources.iter(), NOW)?;
        Ok(held.map(|held| held.holder().subject.clone()))
    }

    #[test]
    fn a_key_is_its_holder_until_it_ends() {
        let (alice, of_alice) = made("alice", None);
        let (bob, of_bob) = made("bob", Some(NOW + 1));
        let (carol, of_carol) = made("carol", Some(NOW));
        let keys = [source("x-api-key", vec![of_alice, of_bob, of_carol])];
        let sent = |key: &ApiKey| told(&keys, &[("x-api-key", &key.reveal())]);
        assert_eq!(sent(&alice), Ok(Some("alice".to_owned())));
        assert_eq!(sent(&bob), Ok(Some("bob".to_owned())));
        assert_eq!(sent(&carol), Err(ApiKeyFault::Expired));
        assert_eq!(told(&keys, &[]), Ok(None));
        let elsewhere = told(&keys, &[("x-other-key", &alice.reveal())]);
        assert_eq!(elsewhere, Ok(None));
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused_by_name() {
        let (alice, of_alice) = made("alice", None);
        let (stranger, _) = made("stranger", None);
        let keys = [source("x-api-key", vec![of_alice])];
        let sent = |text: &str| told(&keys, &[("x-api-key", text)]);
        assert_eq!(sent(&stranger.reveal()), Err(ApiKeyFault::Unknown));
        // The id of the one, the secret of the other.
        let mixed = format!("{}{}", &alice.reveal()[..21], &stranger.reveal()[21..]);
        assert_eq!(sent(&mixed), Err(ApiKeyFault::Wrong));
        for text in ["", "alice", "Bearer x", "pck_\u{e9}"] {
            assert_eq!(sent(text), Err(ApiKeyFault::Malformed), "{text:?}");
        }
        let text = alice.reveal();
        let twice = [("x-api-key", text.as_str()), ("x-api-key", text.as_str())];
        assert_eq!(told(&keys, &twice), Err(ApiKeyFault::Repeated));
    }

    #[test]
    fn places_are_asked_in_the_field_that_is_theirs() {
        let (alice, of_alice) = made("alice", None);
        let (bob, of_bob) = made("bob", None);
        let (carol, of_carol) = made("carol", None);
        let sources = [
            source("x-api-key", vec![of_alice]),
            source("x-api-key", vec![of_carol]),
            source("x-partner-key", vec![of_bob]),
        ];
        let (of_alice, of_bob) = (alice.reveal(), bob.reveal());
        let sent = |fields: &[(&'static str, &str)]| told(&sources, fields);
        let found = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(sent(&[("x-api-key", &of_alice)]), found("alice"));
        assert_eq!(sent(&[("x-api-key", &carol.reveal())]), found("carol"));
        assert_eq!(sent(&[("x-partner-key", &of_bob)]), found("bob"));
        let elsewhere = sent(&[("x-api-key", &of_bob)]);
        assert_eq!(elsewhere, Err(ApiKeyFault::Unknown));
        let both = sent(&[("x-api-key", &of_alice), ("x-partner-key", &of_bob)]);
        assert_eq!(both, Err(ApiKeyFault::TwoPlaces));
    }

    #[test]
    fn others_are_put_in_force_at_once() {
        let (alice, of_alice) = made("alice", None);
        let (bob, of_bob) = made("bob", None);
        let keys = source("x-api-key", vec![of_alice]);
        let sent = |key: &ApiKey| {
            let sources = [Arc::clone(&keys)];
            told(&sources, &[("x-api-key", &key.reveal())])
        };
        assert_eq!(sent(&bob), Err(ApiKeyFault::Unknown));
        keys.exchange(vec![of_bob]);
        assert_eq!(sent(&bob), Ok(Some("bob".to_owned())));
        assert_eq!(sent(&alice), Err(ApiKeyFault::Unknown));
    }
}
