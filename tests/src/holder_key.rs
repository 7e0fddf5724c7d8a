//! A client that proves to have the key that its token is bound to (DPoP; RFC 9449), well or wrongly.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    front::{Answer, Front},
    pki::{TokenIssuer, unix_now},
    run::{RigError, Rigged},
    scratch::unique_name,
};

/// A key of a client's own.
pub struct HolderKey {
    key: TokenIssuer,
    public: Value,
}

impl HolderKey {
    /// A new one.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new() -> Rigged<Self> {
        let key = TokenIssuer::new("", "")?;
        let whole: Value = serde_json::from_str(&key.public_key())
            .map_err(|error| RigError(format!("a key: {error}")))?;
        let mut public = json!({});
        for name in ["kty", "crv", "x", "y"] {
            public[name] = whole[name].clone();
        }
        Ok(Self { key, public })
    }

    /// Its public part.
    pub fn public(&self) -> &Value {
        &self.public
    }

    /// RFC 7638, 3.
    pub fn thumbprint(&self) -> String {
        let [kty, crv, x, y] = ["kty", "crv", "x", "y"].map(|name| &self.public[name]);
        let text = format!("{{\"crv\":{crv},\"kty\":{kty},\"x\":{x},\"y\":{y}}}");
        URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
    }

    /// The header of a good proof.
    pub fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.public})
    }

    /// The claims of a good proof, made now and for the first time.
    pub fn claims(method: &str, url: &str, token: &str) -> Value {
        json!({
            "jti": unique_name(),
            "htm": method,
            "htu": url,
            "iat": unix_now(),
            "ath": URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())),
        })
    }

    /// A proof of any claims, signed well.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn sign(&self, claims: &Value) -> Rigged<String> {
        self.sign_under(&self.header(), claims)
    }

    /// A proof of any header and claims, signed well.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn sign_under(&self, header: &Value, claims: &Value) -> Rigged<String> {
        self.key.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token of the front's issuer that is bound to this key.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn token(&self, front: &Front, scopes: &str) -> Rigged<String> {
        let mut claims = front.ground.issuer.claims("alice", scopes);
        claims["cnf"] = json!({"jkt": self.thumbprint()});
        front.ground.issuer.sign(&claims)
    }

    /// A nonce that is in force.
    ///
    /// # Errors
    /// When none is handed out.
    pub fn nonce(&self, front: &Front, path: &str, token: &str) -> Rigged<String> {
        let mut claims = Self::claims("GET", &front.url(path), token);
        claims["nonce"] = json!("none");
        let answer = send(front, path, token, &self.sign(&claims)?)?;
        let nonce = answer.field("dpop-nonce").map(str::to_owned);
        nonce.ok_or_else(|| RigError(format!("no nonce: {answer:?}")))
    }
}

/// What proofs are made for.
pub const PATH: &str = "/orders/1";

/// Somebody with a token that is bound to his key, and a nonce to quote.
pub struct Holder {
    /// The key.
    pub key: HolderKey,
    /// The token, good for `/orders`.
    pub token: String,
    /// The nonce.
    pub nonce: String,
}

impl Holder {
    /// Of a front's issuer; the nonce is the front's.
    ///
    /// # Errors
    /// When it can't be made, or none is handed out.
    pub fn of(front: &Front) -> Rigged<Self> {
        let key = HolderKey::new()?;
        let token = key.token(front, "orders:read")?;
        let nonce = key.nonce(front, PATH, &token)?;
        Ok(Self { key, token, nonce })
    }

    /// The claims of a good proof for [`PATH`].
    pub fn claims(&self, front: &Front) -> Value {
        let mut claims = HolderKey::claims("GET", &front.url(PATH), &self.token);
        claims["nonce"] = json!(self.nonce);
        claims
    }

    /// A good proof for [`PATH`].
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn proof(&self, front: &Front) -> Rigged<String> {
        self.key.sign(&self.claims(front))
    }

    /// What comes back for the token with a proof.
    ///
    /// # Errors
    /// When curl can't be run.
    pub fn send(&self, front: &Front, proof: &str) -> Rigged<Answer> {
        send(front, PATH, &self.token, proof)
    }
}

/// The reason that the trail has for an answer.
///
/// # Errors
/// When its record isn't there in time.
pub fn reason(front: &Front, answer: &Answer) -> Rigged<String> {
    let record = front.record_of(answer.field("x-request-id"))?;
    Ok(record["reason"].as_str().unwrap_or_default().to_owned())
}

/// Refused for this reason, and told no more than this code.
///
/// # Panics
/// When it isn't so.
///
/// # Errors
/// When its record isn't there in time.
pub fn assert_refused(front: &Front, answer: &Answer, told: &str, code: &str) -> Rigged<()> {
    assert_eq!(answer.status, 401, "{told}: {answer:?}");
    assert_eq!(reason(front, answer)?, told, "{answer:?}");
    let challenge = answer.field("www-authenticate").unwrap_or_default();
    let wanted = format!("DPoP realm=\"api.example\", error=\"{code}\", algs=\"");
    assert!(challenge.starts_with(&wanted), "{told}: {challenge}");
    assert!(challenge.contains("ES256") && !challenge.contains("HS256"));
    Ok(())
}

/// What comes back for a token with a proof.
///
/// # Errors
/// When curl can't be run.
pub fn send(front: &Front, path: &str, token: &str, proof: &str) -> Rigged<Answer> {
    let authorization = format!("Authorization: DPoP {token}");
    let proof = format!("DPoP: {proof}");
    front.curl(path, &["-H", &authorization, "-H", &proof])
}
