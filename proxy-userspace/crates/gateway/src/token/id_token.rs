//! A token that tells a client who has logged in at the issuer (OpenID Connect Core 1.0, 3.1.3.7): it is signed as
//! every other, and meant for one client, one login and one access token.

use std::collections::BTreeSet;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{self, SHA256, SHA384, SHA512},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Header, Issuer, IssuerRules, Jws, Verified,
    claims::Confirmation,
    examine::Silent,
    fault::TokenFault,
    json::{Json, Members},
    signature::Algorithm,
    unix_now,
};

/// Why a token doesn't tell of this login.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdTokenFault {
    /// It is no good token of the issuer for this client.
    #[error("{0}")]
    Token(#[from] TokenFault),
    /// It has no time at which it was issued.
    #[error("token_issued_missing")]
    NotIssued,
    /// It is of another login (`nonce`).
    #[error("token_nonce_wrong")]
    Nonce,
    /// It was issued to another client (`azp`), or to one of several without saying to which.
    #[error("token_party_wrong")]
    Party,
    /// It came with another access token (`at_hash`).
    #[error("token_access_hash_wrong")]
    AccessHash,
}

/// What an ID token has to be about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) nonce: &'a str,
    /// Whether it is the first of a login: later ones need not repeat the nonce (12.2).
    pub(crate) first: bool,
    pub(crate) access_token: &'a str,
}

impl Issuer {
    /// Who has logged in, as an ID token says.
    ///
    /// # Errors
    /// See [`IdTokenFault`].
    pub(crate) async fn verify_id_token(
        &self,
        token: &str,
        asking: &Asking<'_>,
    ) -> Result<Verified, IdTokenFault> {
        let parsed = Jws::parse(token)?;
        let header = Header::of(&parsed.header)?;
        let keys = self.keys_for(&header).await;
        let rules = IssuerRules {
            audiences: BTreeSet::from([asking.client_id.to_owned()]),
            ..self.rules.clone()
        };
        let verified = self.judge_by(&rules, &parsed, &header, keys, unix_now(), &mut Silent)?;
        if verified.claims.issued.is_none() {
            return Err(IdTokenFault::NotIssued);
        }
        // A browser can't prove to hold anything.
        if verified.claims.confirmation != Confirmation::default() {
            return Err(TokenFault::Binding.into());
        }
        judge_nonce(&parsed.claims, asking)?;
        judge_party(&parsed.claims, asking.client_id)?;
        judge_access_hash(&parsed.claims, header.algorithm, asking.access_token)?;
        Ok(verified)
    }
}

fn judge_nonce(claims: &Members, asking: &Asking<'_>) -> Result<(), IdTokenFault> {
    let nonce = match claims.get("nonce") {
        None if !asking.first => return Ok(()),
        Some(Json::Text(nonce)) => nonce,
        _ => return Err(IdTokenFault::Nonce),
    };
    verify_slices_are_equal(nonce.as_bytes(), asking.nonce.as_bytes())
        .map_err(|_| IdTokenFault::Nonce)
}

fn judge_party(claims: &Members, client_id: &str) -> Result<(), IdTokenFault> {
    let audiences = claims.get("aud").and_then(Json::texts);
    let several = audiences.is_none_or(|audiences| audiences.len() > 1);
    match claims.get("azp") {
        Some(Json::Text(party)) if party == client_id => Ok(()),
        None if !several => Ok(()),
        _ => Err(IdTokenFault::Party),
    }
}

/// 3.1.3.6: the first half of the hash that the signature is made with. It may be left out.
fn judge_access_hash(
    claims: &Members,
    algorithm: Algorithm,
    access_token: &str,
) -> Result<(), IdTokenFault> {
    let stated = match claims.get("at_hash") {
        None => return Ok(()),
        Some(stated) => stated.text().ok_or(IdTokenFault::AccessHash)?,
    };
    use Algorithm::{ES256, ES384, EdDSA, HS256, PS256, PS384, PS512, RS256, RS384, RS512};
    let hash = match algorithm {
        HS256 | RS256 | PS256 | ES256 => &SHA256,
        RS384 | PS384 | ES384 => &SHA384,
        // Ed25519 signs with SHA-512 (RFC 8032, 5.1).
        RS512 | PS512 | EdDSA => &SHA512,
    };
    let hash = digest::digest(hash, access_token.as_bytes());
    let half = hash.as_ref().len() / 2;
    let own = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..half]);
    if own == stated {
        return Ok(());
    }
    Err(IdTokenFault::AccessHash)
}

#[cfg(test)]
mod tests {
    use super::{super::json::parse_object, *};

    fn claims(text: &str) -> Members {
        parse_object(text.as_bytes()).expect("an object")
    }

    #[test]
    fn an_access_token_is_told_by_half_its_hash() {
        // The example of OpenID Connect Core 1.0, A.3.
        let access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        let stated = r#"{"at_hash":"77QmUPtjPfzWtF2AnpK9RQ"}"#;
        let judge = |text: &str, algorithm, access_token| {
            judge_access_hash(&claims(text), algorithm, access_token)
        };
        let wrong = Err(IdTokenFault::AccessHash);
        let own = Algorithm::RS256;
        assert_eq!(judge(stated, own, access_token), Ok(()));
        assert_eq!(judge(stated, own, "another"), wrong);
        assert_eq!(judge(stated, Algorithm::ES384, access_token), wrong);
        assert_eq!(judge(r#"{"at_hash":7}"#, own, access_token), wrong);
        assert_eq!(judge("{}", own, access_token), Ok(()));
    }

    #[test]
    fn of_several_audiences_one_is_the_party() {
        for (text, good) in [
            (r#"{"aud":"web"}"#, true),
            (r#"{"aud":["web"]}"#, true),
            (r#"{"aud":["web","b"]}"#, false),
            (r#"{"aud":["web","b"],"azp":"web"}"#, true),
            (r#"{"aud":["web","b"],"azp":"b"}"#, false),
            (r#"{"aud":"web","azp":"b"}"#, false),
            (r#"{"aud":"web","azp":7}"#, false),
        ] {
            let told = judge_party(&claims(text), "web");
            let wanted = if good {
                Ok(())
            } else {
                Err(IdTokenFault::Party)
            };
            assert_eq!(told, wanted, "{text}");
        }
    }

    #[test]
    fn the_first_token_of_a_login_has_its_nonce_and_a_later_one_no_other() {
        let asking = |first| Asking {
            client_id: "web",
            nonce: "n",
            first,
            access_token: "",
        };
        for (text, at_first, later) in [
            (r#"{"nonce":"n"}"#, true, true),
            (r#"{"nonce":"m"}"#, false, false),
            (r#"{"nonce":null}"#, false, false),
            ("{}", false, true),
        ] {
            let claims = claims(text);
            assert_eq!(
                judge_nonce(&claims, &asking(true)).is_ok(),
                at_first,
                "{text}"
            );
            assert_eq!(
                judge_nonce(&claims, &asking(false)).is_ok(),
                later,
                "{text}"
            );
        }
    }
}
