//! Is this token current, meant for us, and signed by an issuer we trust?
//!
//! ```text
//! jws        the token taken apart, its header judged
//! json       strictly: one reading or none
//! claims     what it says, and what goes where
//! signature  what is signed how; jwk, by which key
//! keys       an issuer's keys as it publishes them
//! key_source where: a file, a URL, or where its metadata says; key_store keeps them current
//! verified   tokens that were proven already
//! proof      the signature that the holder of a bound token makes for each request
//! nonce      what such a signature has to quote, so that it was made just now
//! id_token   the one that tells of a browser's login
//! examine    the same, told step by step
//! fault      why not
//! ```
//!
//! aws-lc-rs checks signatures; the rest is read here, once: a library that takes a token apart by itself
//! would read it a second time, and in another way.

mod claims;
mod examine;
mod fault;
mod id_token;
mod json;
mod jwk;
mod jws;
mod key_source;
mod key_store;
mod keys;
mod nonce;
mod proof;
#[cfg(test)]
pub(crate) mod proof_cases;
#[cfg(test)]
mod refused_vectors;
mod signature;
#[cfg(test)]
mod smoke;
#[cfg(test)]
mod vectors;
mod verified;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use http::HeaderName;
use policy::Principal;

pub use claims::{ClaimMap, ClaimPath, ClaimValue, RequiredClaim};
pub(crate) use claims::{Claims, Confirmation, issuer};
pub use examine::Passed;
pub(crate) use examine::{Narrator, Silent, examine};
pub use fault::TokenFault;
pub(crate) use id_token::{Asking, IdTokenFault};
pub(crate) use json::{Json, Members, parse_object};
pub(crate) use jws::{Header, Jws, LONGEST_TOKEN};
pub use key_source::{Discovery, KeySource};
pub use key_store::{KeyNews, KeyReport, KeyStore, KeyTimes};
pub use keys::{KeyError, KeySet};
pub(crate) use nonce::{Nonces, Standing};
pub(crate) use proof::{Asked, Proof};
pub use proof::{ProofFault, ProofRules, examine_proof};
pub use signature::Algorithm;
use verified::VerifiedTokens;
#[cfg(test)]
pub(crate) use verified::tests::sample;
pub(crate) use verified::{TokenHash, TokenHasher, Verified, unix_now};

use claims::{judge_audience, judge_required};

/// Where a request carries its token; never in the query, which ends up in logs and in `Referer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenLocation {
    /// `Authorization: Bearer` (RFC 6750, 2.1).
    Authorization,
    /// A field of this name with nothing but the token in it.
    Header(HeaderName),
    /// A cookie of this name.
    Cookie(String),
}

/// What tokens of one issuer must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRules {
    /// Name in configuration, logs and policy.
    pub name: String,
    /// Exact value of `iss`.
    pub issuer: String,
    /// Values of `aud`, one of which the token must carry.
    pub audiences: BTreeSet<String>,
    /// Signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ when `exp`, `nbf` and `iat` are read.
    pub leeway: Duration,
    /// What else the token must carry.
    pub required: Vec<RequiredClaim>,
    /// Which claims say what.
    pub claims: ClaimMap,
    /// Where requests carry them.
    pub location: TokenLocation,
    /// Whether anybody may have its keys: they are for development.
    pub development: bool,
}

/// By what it is known that a token is its issuer's.
pub(crate) struct Vouching {
    /// Value of `iss`.
    pub(crate) issuer: Arc<str>,
    pub(crate) key_id: Option<String>,
    pub(crate) keys: Arc<KeySet>,
}

impl IssuerRules {
    /// Judges what is said of a token, once it is known who says so.
    pub(crate) fn judge(
        &self,
        says: &Members,
        by: Vouching,
        now: u64,
        narrator: &mut impl Narrator,
    ) -> Result<Verified, TokenFault> {
        if issuer(says)? != self.issuer {
            return Err(TokenFault::UnknownIssuer);
        }
        let claims = Claims::of(says)?;
        narrator.passed("claims", || claims.to_string());
        judge_audience(says, &self.audiences)?;
        narrator.passed("audience", || format!("one of {:?}", self.audiences));
        judge_required(says, &self.required)?;
        narrator.passed("required", || {
            format!("{} claims are as they must be", self.required.len())
        });
        let principal = self
            .claims
            .principal(&self.name, says, &claims.confirmation)?;
        narrator.passed("subject", || {
            let Principal {
                subject,
                groups,
                scopes,
                attributes,
                ..
            } = &principal;
            format!("{subject:?}, groups {groups:?}, scopes {scopes:?}, attributes {attributes:?}")
        });
        let leeway = self.leeway.as_secs();
        let from = claims.not_before.max(claims.issued).unwrap_or(0);
        let verified = Verified {
            issuer: by.issuer,
            principal: Arc::new(principal),
            key_id: by.key_id,
            from: from.saturating_sub(leeway),
            until: claims.expires.saturating_add(leeway),
            claims,
            keys: by.keys,
            judged: AtomicU64::new(Verified::UNJUDGED),
        };
        verified.is_current(now)?;
        narrator.passed("time", || {
            let left = verified.until.saturating_sub(now);
            format!("good for {left} s more, {leeway} s of leeway included")
        });
        Ok(verified)
    }
}

/// A trusted issuer with its keys.
#[derive(Debug)]
pub struct Issuer {
    rules: IssuerRules,
    /// Value of `iss`, for each of its tokens.
    value: Arc<str>,
    keys: KeyStore,
    verified: VerifiedTokens,
}

impl Issuer {
    /// An issuer with these rules and keys.
    pub fn new(rules: IssuerRules, keys: KeyStore) -> Self {
        Self {
            value: rules.issuer.as_str().into(),
            rules,
            keys,
            verified: VerifiedTokens::default(),
        }
    }

    /// Its rules.
    pub fn rules(&self) -> &IssuerRules {
        &self.rules
    }

    /// Its keys.
    pub fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// What was proven of a token of this issuer before, and holds.
    pub(crate) fn recognise(&self, hash: TokenHash) -> Result<Option<Arc<Verified>>, TokenFault> {
        self.verified.find(hash, &self.keys)
    }

    /// Proves a token that names this issuer. Where it names a key that isn't there, its keys may have been
    /// exchanged just now: they are fetched, once an interval however many tokens ask for it.
    pub(crate) async fn verify(
        &self,
        token: &Jws<'_>,
        hash: Option<TokenHash>,
    ) -> Result<Arc<Verified>, TokenFault> {
        let header = Header::of(&token.header)?;
        let keys = if self.rules.algorithms.contains(&header.algorithm) {
            self.keys_for(&header).await
        } else {
            self.keys.current()
        };
        let verified = self.judge(token, &header, keys, unix_now(), &mut Silent)?;
        let verified = Arc::new(verified);
        if let Some(hash) = hash {
            self.verified.remember(hash, &verified);
        }
        Ok(verified)
    }

    /// Judges a token that names this issuer, by these keys.
    pub(crate) fn judge(
        &self,
        token: &Jws<'_>,
        header: &Header<'_>,
        keys: Arc<KeySet>,
        now: u64,
        narrator: &mut impl Narrator,
    ) -> Result<Verified, TokenFault> {
        self.judge_by(&self.rules, token, header, keys, now, narrator)
    }

    /// As [`Self::judge`], by other rules.
    fn judge_by(
        &self,
        rules: &IssuerRules,
        token: &Jws<'_>,
        header: &Header<'_>,
        keys: Arc<KeySet>,
        now: u64,
        narrator: &mut impl Narrator,
    ) -> Result<Verified, TokenFault> {
        let algorithm = header.algorithm;
        narrator.passed("header", || {
            let key = header.key_id.map(|id| format!(", key {id:?}"));
            format!("{algorithm}{}", key.unwrap_or_default())
        });
        if !rules.algorithms.contains(&algorithm) {
            return Err(TokenFault::Algorithm);
        }
        narrator.passed("algorithm", || format!("{algorithm} is the issuer's"));
        let Some((key_id, key)) = keys.find(header.key_id, algorithm) else {
            return Err(if self.keys.are_outlived() {
                TokenFault::KeysOutlived
            } else {
                TokenFault::UnknownKey
            });
        };
        narrator.passed("key", || format!("one of {} that are loaded", keys.len()));
        if !key.verify(token.message, &token.signature) {
            return Err(TokenFault::Signature);
        }
        narrator.passed("signature", || "good".to_owned());
        let key_id = key_id.map(str::to_owned);
        let by = Vouching {
            issuer: Arc::clone(&self.value),
            key_id,
            keys,
        };
        rules.judge(&token.claims, by, now, narrator)
    }

    async fn keys_for(&self, header: &Header<'_>) -> Arc<KeySet> {
        // A fetch that had begun before may have ended with what was there before.
        for _ in 0..2 {
            let keys = self.keys.current();
            let known = header.key_id.is_none_or(|id| keys.knows(id));
            if known && !keys.is_empty() || !self.keys.refetch().await {
                break;
            }
        }
        self.keys.current()
    }
}
