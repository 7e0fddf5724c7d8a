//! A signed token taken apart (RFC 7515, 7.1), strictly and before anything in it is believed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    fault::{Detail, TokenFault},
    json::{Json, Members, parse_object},
    signature::Algorithm,
};

/// Longest token in bytes; longer ones are refused before they are decoded.
pub(crate) const LONGEST_TOKEN: usize = 8 * 1024;

/// Header members that would say where a key is or what it is, or change what is signed. They are never
/// followed; a token that has one is refused, for its maker expects something else of us. A JWE has `enc`.
const REFUSED: [(&str, &str); 8] = [
    ("crit", "it asks for extensions (crit)"),
    ("b64", "it changes what is signed (b64)"),
    ("jku", "it points at keys (jku)"),
    ("jwk", "it brings its own key (jwk)"),
    ("x5u", "it points at a certificate (x5u)"),
    ("x5c", "it brings its own certificate (x5c)"),
    ("enc", "it is encrypted (enc)"),
    ("zip", "it is compressed (zip)"),
];

/// Values of `typ` that tokens for access have (RFC 7519, 5.1; RFC 9068, 2.1); the other kinds of tokens
/// that an issuer signs are not for access (RFC 8725, 3.11).
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];

/// The three parts.
#[derive(Debug)]
pub(crate) struct Jws<'t> {
    pub(crate) header: Members,
    pub(crate) claims: Members,
    /// What is signed.
    pub(crate) message: &'t [u8],
    pub(crate) signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenFault::TooLong`], [`TokenFault::Malformed`], [`TokenFault::Header`], [`TokenFault::Claims`].
    pub(crate) fn parse(token: &'t str) -> Result<Self, TokenFault> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenFault::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Malformed);
        };
        let claims = parse_part(claims).map_err(TokenFault::Claims)?;
        let header = parse_part(header).map_err(TokenFault::Header)?;
        let message = token.len() - signature.len() - 1;
        Ok(Self {
            header,
            claims,
            message: token.as_bytes().get(..message).unwrap_or_default(),
            // Neither padding nor bits that say nothing: the same token has one spelling.
            signature: URL_SAFE_NO_PAD
                .decode(signature)
                .map_err(|_| TokenFault::Malformed)?,
        })
    }
}

fn parse_part(part: &str) -> Result<Members, Detail> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| format!("no base64url: {error}"))?;
    let members = parse_object(&bytes);
    members.map_err(|error| format!("no JSON with one reading: {error}").into())
}

/// What is used of the header of a token for access (RFC 7515, 4).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header<'h> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<&'h str>,
}

impl<'h> Header<'h> {
    /// The header, if it asks for nothing that is never done.
    ///
    /// # Errors
    /// [`TokenFault::Header`].
    pub(crate) fn of(header: &'h Members) -> Result<Self, TokenFault> {
        for (name, why) in REFUSED {
            if header.contains_key(name) {
                return Err(TokenFault::Header(why.into()));
            }
        }
        if let Some(kind) = header.get("typ") {
            let known = |kind: &str| TYPES.iter().any(|it| kind.eq_ignore_ascii_case(it));
            if !kind.text().is_some_and(known) {
                return Err(TokenFault::Header("its typ is no token for access".into()));
            }
        }
        let algorithm = header
            .get("alg")
            .and_then(Json::text)
            .and_then(Algorithm::named)
            .ok_or_else(|| TokenFault::Header("its alg is none that is known".into()))?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Json::Text(id)) => Some(id.as_str()),
            Some(_) => return Err(TokenFault::Header("its kid is no string".into())),
        };
        Ok(Self { algorithm, key_id })
    }
}
