//! Who is calling? The bearer token of the request, if its route asks for one.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, header};
use policy::{Access, Route};

use crate::token::{Issuer, Jws, TokenFault, TokenHash, Verified, issuer};

/// The trusted issuers by their configured names.
#[derive(Clone, Debug, Default)]
pub struct Issuers(BTreeMap<String, Arc<Issuer>>);

impl FromIterator<Arc<Issuer>> for Issuers {
    fn from_iter<I: IntoIterator<Item = Arc<Issuer>>>(issuers: I) -> Self {
        Self(
            issuers
                .into_iter()
                .map(|issuer| (issuer.rules().name.clone(), issuer))
                .collect(),
        )
    }
}

impl Issuers {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.0.values()
    }
}

/// What was proven of the caller; `None` where the route is public, or asks for a token and none was sent:
/// the policy says what that means.
pub(crate) fn authenticate(
    route: &Route,
    headers: &HeaderMap,
    issuers: &Issuers,
) -> Result<Option<Arc<Verified>>, TokenFault> {
    let Access::Token {
        issuers: accepted, ..
    } = &route.access
    else {
        return Ok(None);
    };
    let Some(token) = bearer_token(headers)? else {
        return Ok(None);
    };
    let hash = TokenHash::of(token);
    let accepted = || accepted.iter().filter_map(|name| issuers.0.get(name));
    // What an issuer proved is known to it alone: no route takes another's word.
    for issuer in accepted() {
        if let Some(verified) = issuer.recognise(hash)? {
            return Ok(Some(verified));
        }
    }
    let parsed = Jws::parse(token)?;
    // Believed only after its signature.
    let claimed = issuer(&parsed.claims)?;
    let issuer = accepted()
        .find(|issuer| issuer.rules().issuer == claimed)
        .ok_or(TokenFault::UnknownIssuer)?;
    issuer.verify(&parsed, hash).map(Some)
}

/// RFC 6750, 2.1. One Authorization field, and nothing else than a bearer token in it.
fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, TokenFault> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(TokenFault::Repeated);
    }
    let field = field.to_str().map_err(|_| TokenFault::NotBearer)?;
    let (scheme, token) = field.split_once(' ').ok_or(TokenFault::NotBearer)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenFault::NotBearer);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn found(values: &[&'static str]) -> Result<Option<String>, TokenFault> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer_token(&headers).map(|token| token.map(str::to_owned))
    }

    #[test]
    fn one_bearer_token_or_none() {
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&["Bearer abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(found(&["bEARER abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(found(&["Basic abc"]), Err(TokenFault::NotBearer));
        assert_eq!(found(&["Bearer"]), Err(TokenFault::NotBearer));
        assert_eq!(found(&["Bearer a", "Bearer a"]), Err(TokenFault::Repeated));
    }
}
