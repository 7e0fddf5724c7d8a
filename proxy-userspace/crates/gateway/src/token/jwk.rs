//! One JSON Web Key (RFC 7517; RFC 7518, 6; RFC 8037): what it is, and what it can verify.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    json::{Json, Members},
    signature::{Algorithm, Verifier},
};

/// Shortest RSA modulus that is accepted, in bytes: 2048 bits (RFC 7518, 3.3).
const SHORTEST_RSA: usize = 256;

/// Longest one: what verifying costs grows with its square.
const LONGEST_RSA: usize = 1024;

/// Longest RSA exponent in bytes; nearly all are 65,537.
const LONGEST_EXPONENT: usize = 4;

/// Shortest shared secret for HS256 (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;

/// A key that can verify.
#[derive(Debug)]
pub(crate) struct Jwk {
    pub(crate) id: Option<String>,
    /// From its own `alg`, else what is allowed for its type.
    pub(crate) verifiers: Vec<(Algorithm, Verifier)>,
    thumbprint: [u8; 32],
}

enum Kind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Point(Algorithm, Vec<u8>),
    Secret(Vec<u8>),
}

impl Jwk {
    /// The key, if it verifies one of the `allowed` algorithms.
    ///
    /// # Errors
    /// Why it doesn't, in words for an operator.
    pub(crate) fn parse(jwk: &Members, allowed: &[Algorithm]) -> Result<Self, String> {
        let id = match jwk.get("kid") {
            None => None,
            Some(Json::Text(id)) => Some(id.clone()),
            Some(_) => return Err("its kid is no string".to_owned()),
        };
        refuse_other_uses(jwk)?;
        let (kind, required) = Kind::parse(jwk)?;
        let own = match jwk.get("alg") {
            None => None,
            Some(Json::Text(own)) => Some(own.as_str()),
            Some(_) => return Err("its alg is no string".to_owned()),
        };
        let mut verifiers = Vec::new();
        for algorithm in allowed {
            if own.is_none_or(|own| own == algorithm.name())
                && let Some(verifier) = kind.verifier(*algorithm)?
            {
                verifiers.push((*algorithm, verifier));
            }
        }
        if verifiers.is_empty() {
            return Err(match own {
                Some(own) => format!(
                    "its algorithm {own} isn't one of the configured, or not one of its type"
                ),
                None => "no configured algorithm fits its type".to_owned(),
            });
        }
        Ok(Self {
            id,
            verifiers,
            thumbprint: thumbprint(jwk, required),
        })
    }

    /// RFC 7638.
    pub(crate) fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }
}

fn refuse_other_uses(jwk: &Members) -> Result<(), String> {
    if !matches!(jwk.get("use"), None | Some(Json::Text(_))) {
        return Err("its use is no string".to_owned());
    }
    if jwk
        .get("use")
        .and_then(Json::text)
        .is_some_and(|it| it != "sig")
    {
        return Err("not for signatures".to_owned());
    }
    match jwk.get("key_ops").map(Json::texts) {
        None => Ok(()),
        Some(Some(ops)) if ops.contains(&"verify") => Ok(()),
        Some(_) => Err("not for verifying".to_owned()),
    }
}

impl Kind {
    /// And the members that make its thumbprint, in the order of their names.
    fn parse(jwk: &Members) -> Result<(Self, &'static [&'static str]), String> {
        let kty = jwk.get("kty").and_then(Json::text).unwrap_or_default();
        if kty != "oct" && jwk.contains_key("d") {
            return Err("it holds its private part, which is private no more".to_owned());
        }
        match kty {
            "RSA" => {
                let (n, e) = (number(jwk, "n")?, number(jwk, "e")?);
                let bits = 8 * n.len();
                // An exponent of 1 makes the message its own signature, and the library takes it.
                let odd = e.last().is_some_and(|last| last % 2 == 1);
                if !odd || e == [1] || e.len() > LONGEST_EXPONENT {
                    return Err("its exponent is none of a key".to_owned());
                }
                if n.len() < SHORTEST_RSA {
                    return Err(format!("RSA with {bits} bits, 2048 are needed"));
                }
                if n.len() > LONGEST_RSA {
                    return Err(format!("RSA with {bits} bits, 8192 are the most"));
                }
                Ok((Self::Rsa { n, e }, &["e", "kty", "n"]))
            }
            "EC" => {
                let (algorithm, length) = match jwk.get("crv").and_then(Json::text) {
                    Some("P-256") => (Algorithm::ES256, 32),
                    Some("P-384") => (Algorithm::ES384, 48),
                    _ => return Err("its curve is neither P-256 nor P-384".to_owned()),
                };
                let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
                if x.len() != length || y.len() != length {
                    return Err("its coordinates haven't the length of its curve".to_owned());
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                Ok((Self::Point(algorithm, point), &["crv", "kty", "x", "y"]))
            }
            "OKP" => {
                if jwk.get("crv").and_then(Json::text) != Some("Ed25519") {
                    return Err("its curve isn't Ed25519".to_owned());
                }
                let x = bytes(jwk, "x")?;
                Ok((Self::Point(Algorithm::EdDSA, x), &["crv", "kty", "x"]))
            }
            "oct" => {
                let secret = bytes(jwk, "k")?;
                if secret.len() < SHORTEST_SECRET {
                    let bits = 8 * secret.len();
                    return Err(format!("a secret of {bits} bits, 256 are needed"));
                }
                Ok((Self::Secret(secret), &["k", "kty"]))
            }
            _ => Err("not a public key".to_owned()),
        }
    }

    /// `None` where the algorithm is for another type of key.
    fn verifier(&self, algorithm: Algorithm) -> Result<Option<Verifier>, String> {
        let bad =
            || "no good key: it isn't on its curve, or its numbers are none of a key".to_owned();
        match (self, algorithm) {
            (Self::Secret(secret), Algorithm::HS256) => Ok(Some(Verifier::shared(secret))),
            (Self::Point(of, point), _) if *of == algorithm => {
                Verifier::point(algorithm, point).ok_or_else(bad).map(Some)
            }
            (
                Self::Rsa { n, e },
                Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512,
            ) => Verifier::rsa(algorithm, n, e).ok_or_else(bad).map(Some),
            _ => Ok(None),
        }
    }
}

fn bytes(jwk: &Members, name: &str) -> Result<Vec<u8>, String> {
    let text = jwk.get(name).and_then(Json::text);
    let text = text.ok_or_else(|| format!("it has no {name}"))?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| format!("its {name} is no base64url: {error}"))
}

/// An unsigned number, without the zeros that some libraries put before it.
fn number(jwk: &Members, name: &str) -> Result<Vec<u8>, String> {
    let mut bytes = bytes(jwk, name)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Ok(bytes)
}

/// The required members, in the order of their names, without whitespace. Their values are base64url and
/// names of curves, where nothing has to be escaped.
fn thumbprint(jwk: &Members, required: &[&str]) -> [u8; 32] {
    let member = |name: &&str| {
        let value = jwk.get(*name).and_then(Json::text).unwrap_or_default();
        format!("\"{name}\":\"{value}\"")
    };
    let members: Vec<String> = required.iter().map(member).collect();
    let text = format!("{{{}}}", members.join(","));
    let mut thumbprint = [0; 32];
    thumbprint.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    thumbprint
}
