//! The proof that somebody has the key that a token is bound to: a signature over this one request (DPoP;
//! RFC 9449, 4). It is read as strictly as a token, and once.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use policy::{CanonicalHost, CanonicalRequest, RequestPath};

use super::{
    claims::seconds,
    fault::TokenFault,
    json::{Json, Members},
    jwk::Jwk,
    jws::Jws,
    signature::Algorithm,
};

/// The one `typ` of a proof.
const TYPE: &str = "dpop+jwt";

/// What RFC 9864, 2.2 calls the one EdDSA that there is here.
const ED25519: &str = "Ed25519";

/// Longest `jti` in bytes.
const LONGEST_ID: usize = 256;

/// Header members that would say where a key is, or change what is signed; see `jws`.
const REFUSED: [&str; 7] = ["crit", "b64", "jku", "x5u", "x5c", "enc", "zip"];

/// Members of a key that its owner keeps to himself (RFC 7518, 6; RFC 8037, 2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The port of https.
const HTTPS: u16 = 443;

/// What proofs must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofRules {
    /// Signature algorithms; all of key pairs.
    pub algorithms: Vec<Algorithm>,
    /// How old a proof may be.
    pub window: Duration,
    /// How far a client's clock may be ahead.
    pub leeway: Duration,
    /// Whether each proof has to quote a nonce of ours.
    pub nonces: bool,
    /// Most proofs that are remembered at a time; above, none is good.
    pub remembered: usize,
}

impl ProofRules {
    /// The algorithms as clients are told (RFC 9449, 7.1).
    pub(crate) fn algorithm_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.algorithms.iter().map(|it| it.name()).collect();
        if self.algorithms.contains(&Algorithm::EdDSA) {
            names.push(ED25519);
        }
        names
    }
}

impl Default for ProofRules {
    fn default() -> Self {
        let of_pairs = |it: &Algorithm| *it != Algorithm::HS256;
        Self {
            algorithms: Algorithm::ALL.into_iter().filter(of_pairs).collect(),
            window: Duration::from_secs(60),
            leeway: Duration::from_secs(5),
            nonces: false,
            remembered: 1_000_000,
        }
    }
}

/// Why a proof is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// The token is bound to a key, and there is no proof.
    #[error("dpop_proof_missing")]
    Missing,
    /// The token is bound to a key, and came as one for whoever bears it (RFC 9449, 7.2).
    #[error("dpop_token_as_bearer")]
    AsBearer,
    /// More than one proof.
    #[error("dpop_proof_repeated")]
    Repeated,
    /// No token in three parts that can be read in one way only, or no proof by its header.
    #[error("dpop_proof_malformed")]
    Malformed(&'static str),
    /// An algorithm that isn't accepted of proofs.
    #[error("dpop_algorithm_refused")]
    Algorithm,
    /// Its key is none that can be used, or a private one.
    #[error("dpop_key_refused")]
    Key,
    /// A claim is missing or has the wrong type.
    #[error("dpop_claims_invalid")]
    Claims(&'static str),
    /// It is for another method.
    #[error("dpop_method_wrong")]
    Method,
    /// It is for another URL.
    #[error("dpop_target_wrong")]
    Target,
    /// It is too old, or from the future.
    #[error("dpop_time_wrong")]
    Time,
    /// It is for another token.
    #[error("dpop_token_wrong")]
    Token,
    /// It is by another key than the token is bound to.
    #[error("dpop_key_wrong")]
    KeyWrong,
    /// Its signature isn't its key's.
    #[error("dpop_signature_invalid")]
    Signature,
    /// It quotes no nonce, and has to.
    #[error("dpop_nonce_missing")]
    NonceMissing,
    /// It quotes a nonce that isn't in force.
    #[error("dpop_nonce_wrong")]
    NonceWrong,
    /// It may have been used with the process before this one; with a nonce it can't have been.
    #[error("dpop_proof_too_early")]
    TooEarly,
    /// It was used before.
    #[error("dpop_proof_replayed")]
    Replayed,
    /// So many are remembered that no further one can be.
    #[error("dpop_replay_set_full")]
    Full,
}

impl ProofFault {
    /// What exactly was wrong, where the name says it for several.
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(detail) | Self::Claims(detail) => Some(detail),
            _ => None,
        }
    }

    /// Whether a proof with a nonce that is in force would do (RFC 9449, 9).
    pub(crate) fn asks_for_nonce(self) -> bool {
        matches!(self, Self::NonceMissing | Self::NonceWrong | Self::TooEarly)
    }
}

/// What a proof has to be for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The token that it goes with, as it was sent.
    pub(crate) token: &'a str,
    pub(crate) request: &'a CanonicalRequest,
    /// The thumbprint of the key that the token is bound to (RFC 7638); any, where nothing is said.
    pub(crate) key: Option<[u8; 32]>,
}

/// A proof that is good for what was asked; its nonce and whether it is used for the first time are left to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The thumbprint of its key.
    pub(crate) key: [u8; 32],
    /// `jti`.
    pub(crate) id: String,
    /// `iat`, in seconds since the epoch.
    pub(crate) issued: u64,
    pub(crate) nonce: Option<String>,
}

impl Proof {
    /// The checks of RFC 9449, 4.3 that need nothing but the request. What costs most comes last.
    ///
    /// # Errors
    /// See [`ProofFault`].
    pub(crate) fn judge(
        text: &str,
        asked: &Asked<'_>,
        rules: &ProofRules,
        now: u64,
    ) -> Result<Self, ProofFault> {
        let jws = Jws::parse(text).map_err(malformed)?;
        let (algorithm, key) = key_of(&jws.header, rules)?;
        let claims = Claims::of(&jws.claims)?;
        if claims.method != asked.request.method().as_str() {
            return Err(ProofFault::Method);
        }
        if !is_target(claims.target, asked.request) {
            return Err(ProofFault::Target);
        }
        let oldest = now.saturating_sub(rules.window.as_secs());
        let newest = now.saturating_add(rules.leeway.as_secs());
        if !(oldest..=newest).contains(&claims.issued) {
            return Err(ProofFault::Time);
        }
        if claims.token != hash_of(asked.token) {
            return Err(ProofFault::Token);
        }
        let key = Jwk::parse(key, &[algorithm]).map_err(|_| ProofFault::Key)?;
        if asked.key.is_some_and(|asked| asked != key.thumbprint()) {
            return Err(ProofFault::KeyWrong);
        }
        let mut verifiers = key.verifiers.iter();
        let signed = |(_, verifier): &(_, super::signature::Verifier)| {
            verifier.verify(jws.message, &jws.signature)
        };
        if !verifiers.next().is_some_and(signed) {
            return Err(ProofFault::Signature);
        }
        Ok(Self {
            key: key.thumbprint(),
            id: claims.id.to_owned(),
            issued: claims.issued,
            nonce: claims.nonce.map(str::to_owned),
        })
    }
}

/// The thumbprint of the key of a proof that is good for a request with this token; for nonces, and for what was
/// used before, nobody is asked.
///
/// # Errors
/// See [`ProofFault`].
pub fn examine_proof(
    proof: &str,
    token: &str,
    request: &CanonicalRequest,
    rules: &ProofRules,
    now: u64,
) -> Result<[u8; 32], ProofFault> {
    let asked = Asked {
        token,
        request,
        key: None,
    };
    Proof::judge(proof, &asked, rules, now).map(|proof| proof.key)
}

fn malformed(fault: TokenFault) -> ProofFault {
    ProofFault::Malformed(match fault {
        TokenFault::TooLong => "above 8 KiB",
        TokenFault::Header(_) | TokenFault::Claims(_) => "not JSON with one reading",
        _ => "no three parts in base64url",
    })
}

/// The algorithm, and the key as the proof brings it.
fn key_of<'p>(
    header: &'p Members,
    rules: &ProofRules,
) -> Result<(Algorithm, &'p Members), ProofFault> {
    if REFUSED.iter().any(|name| header.contains_key(*name)) {
        return Err(ProofFault::Malformed(
            "its header asks for what is never done",
        ));
    }
    let kind = header.get("typ").and_then(Json::text);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case(TYPE)) {
        return Err(ProofFault::Malformed("its typ isn't dpop+jwt"));
    }
    let algorithm = header.get("alg").and_then(Json::text);
    let named = |name| match name {
        ED25519 => Some(Algorithm::EdDSA),
        name => Algorithm::named(name),
    };
    let algorithm = algorithm
        .and_then(named)
        .filter(|it| *it != Algorithm::HS256 && rules.algorithms.contains(it))
        .ok_or(ProofFault::Algorithm)?;
    let key = header.get("jwk").and_then(Json::members);
    let key = key.ok_or(ProofFault::Malformed("it brings no key (jwk)"))?;
    if PRIVATE.iter().any(|name| key.contains_key(*name)) {
        return Err(ProofFault::Key);
    }
    Ok((algorithm, key))
}

/// The claims of a proof with their types proven (RFC 9449, 4.2).
struct Claims<'p> {
    id: &'p str,
    method: &'p str,
    target: &'p str,
    issued: u64,
    token: &'p str,
    nonce: Option<&'p str>,
}

impl<'p> Claims<'p> {
    fn of(claims: &'p Members) -> Result<Self, ProofFault> {
        let text = |name: &str, wrong| {
            let text = claims.get(name).and_then(Json::text);
            text.filter(|text| !text.is_empty())
                .ok_or(ProofFault::Claims(wrong))
        };
        let id = text("jti", "its jti is no string")?;
        if id.len() > LONGEST_ID {
            return Err(ProofFault::Claims("its jti is above 256 bytes"));
        }
        let issued = claims.get("iat").and_then(seconds);
        let nonce = match claims.get("nonce") {
            None => None,
            Some(_) => Some(text("nonce", "its nonce is no string")?),
        };
        Ok(Self {
            id,
            method: text("htm", "its htm is no string")?,
            target: text("htu", "its htu is no string")?,
            issued: issued.ok_or(ProofFault::Claims("its iat is no time in whole seconds"))?,
            token: text("ath", "its ath is no string")?,
            nonce,
        })
    }
}

/// `ath` of a token (RFC 9449, 4.2).
pub(super) fn hash_of(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
}

/// Whether a URL is that of a request: both in the one canonical form, without query and fragment, the port that
/// of https where none is named (RFC 9449, 4.3; RFC 3986, 6.2.2 and 6.2.3).
fn is_target(url: &str, request: &CanonicalRequest) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let Ok((host, port)) = CanonicalHost::parse_authority(authority) else {
        return false;
    };
    scheme.eq_ignore_ascii_case("https")
        && host == *request.host()
        && port.unwrap_or(HTTPS) == request.port().unwrap_or(HTTPS)
        && RequestPath::read(path).is_ok_and(|path| path.as_str() == request.path().as_str())
}
