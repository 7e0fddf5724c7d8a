//! The tokens: a thousand good ones, and one of each kind that must be refused.

use portcullis_tests::{
    pki::{TokenIssuer, unix_now},
    run::Rigged,
};
use serde_json::{Value, json};

/// How many good tokens take turns.
pub(crate) const COUNT: usize = 1_000;
/// Value of `iss`.
pub(crate) const ISSUER: &str = "https://issuer.example";
/// Value of `aud`.
pub(crate) const AUDIENCE: &str = "api";
/// The scope that the route asks for.
pub(crate) const SCOPE: &str = "orders:read";
/// Longer than any run.
const LIFETIME_SECONDS: u64 = 3_600;

/// Tokens that a proxy must refuse, and with what.
pub(crate) struct Bad {
    /// What is wrong with it.
    pub(crate) what: &'static str,
    /// The value of `Authorization`, if there is one.
    pub(crate) authorization: Option<String>,
    /// Any of these will do.
    pub(crate) statuses: &'static [u16],
}

/// All of them, signed.
pub(crate) struct Tokens {
    /// Of as many subjects.
    pub(crate) good: Vec<String>,
    /// One of each kind.
    pub(crate) bad: Vec<Bad>,
}

impl Tokens {
    /// Signs them.
    pub(crate) fn sign(issuer: &TokenIssuer) -> Rigged<Self> {
        let claims = |subject: usize| {
            json!({
                "iss": ISSUER,
                "aud": AUDIENCE,
                "sub": format!("user-{subject:04}@example.com"),
                "scope": format!("openid profile {SCOPE}"),
                "iat": unix_now(),
                "exp": unix_now() + LIFETIME_SECONDS,
                "jti": format!("{subject:08x}-7d3c-4f0e-9c55-2f6d1d7b6a01"),
            })
        };
        let altered = |key: &str, value: Value| {
            let mut claims = claims(0);
            claims[key] = value;
            issuer.sign(&claims)
        };
        let good: Vec<String> = (0..COUNT)
            .map(|subject| issuer.sign(&claims(subject)))
            .collect::<Rigged<_>>()?;
        let bearer = |token: String| Some(format!("Bearer {token}"));
        let bad = |what, authorization, statuses| Bad {
            what,
            authorization,
            statuses,
        };
        let tampered = tampered(&good[0]);
        Ok(Self {
            bad: vec![
                bad("none", None, &[401]),
                bad("a tampered one", bearer(tampered), &[401]),
                bad(
                    "an expired one",
                    bearer(altered("exp", json!(unix_now() - 3_600))?),
                    &[401],
                ),
                bad(
                    "another issuer's",
                    bearer(altered("iss", json!("https://other.example"))?),
                    &[401],
                ),
                // Envoy says that it is known and not allowed.
                bad(
                    "one for another audience",
                    bearer(altered("aud", json!("other"))?),
                    &[401, 403],
                ),
                bad(
                    "one without the scope",
                    bearer(altered("scope", json!("openid orders:reader"))?),
                    &[401, 403],
                ),
            ],
            good,
        })
    }
}

/// The same token with another bit in its signature: one that a cache knows but for that.
fn tampered(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    // The first sextet of a signature: the last one may hold padding bits, which say nothing.
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{message}.{first}{}", signature.get(1..).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tampered_token_differs_in_one_character() {
        assert_eq!(tampered("a.b.Axyz"), "a.b.Bxyz");
        assert_eq!(tampered("a.b.xyz"), "a.b.Ayz");
    }
}
