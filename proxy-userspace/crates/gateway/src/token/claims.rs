//! What a token says (RFC 7519, 4), and what of it goes where: to the subject, its groups, its scopes, and
//! attributes for the policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use policy::{Binding, Principal, ProvenBy};

use super::{
    fault::TokenFault,
    json::{Json, Members},
};

/// The last second of the year 9999 (RFC 3339): what ends later never ends, and clocks overflow beyond.
const LATEST: u64 = 253_402_300_799;

/// Where in a token a claim stands: names of members from the outside in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Names with dots between, such as `realm_access.roles`; or, for names with dots in them, a JSON
    /// Pointer (RFC 6901), such as `/https:~1~1example.com~1roles`. `None` where a name is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let names: Vec<String> = match text.strip_prefix('/') {
            None => text.split('.').map(str::to_owned).collect(),
            Some(pointer) => {
                let unescape = |name: &str| name.replace("~1", "/").replace("~0", "~");
                pointer.split('/').map(unescape).collect()
            }
        };
        names
            .iter()
            .all(|name| !name.is_empty())
            .then_some(Self(names))
    }

    fn find<'c>(&self, claims: &'c Members) -> Option<&'c Json> {
        let (last, outer) = self.0.split_last()?;
        let mut members = claims;
        for name in outer {
            members = members.get(name)?.members()?;
        }
        members.get(last).filter(|value| **value != Json::Null)
    }
}

/// Which claims say what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMap {
    /// Who the holder is.
    pub subject: ClaimPath,
    /// The holder's groups or roles.
    pub groups: Option<ClaimPath>,
    /// Scopes: a list in one string (RFC 8693, 4.2) or a list; without it, `scope`, else `scp`.
    pub scopes: Option<ClaimPath>,
    /// Whatever else the policy is to know, by its name there.
    pub attributes: BTreeMap<String, ClaimPath>,
}

impl Default for ClaimMap {
    fn default() -> Self {
        Self {
            subject: ClaimPath(vec!["sub".to_owned()]),
            groups: None,
            scopes: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// A claim that a token must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    /// Where.
    pub path: ClaimPath,
    /// With which value; without one, any.
    pub value: Option<ClaimValue>,
}

/// A value of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// A string, or a list in which it is.
    Text(String),
    /// A whole number.
    Whole(u64),
    /// True or false.
    Bool(bool),
}

impl RequiredClaim {
    fn is_met(&self, claims: &Members) -> bool {
        match (self.path.find(claims), &self.value) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(found), Some(ClaimValue::Text(wanted))) => found
                .texts()
                .is_some_and(|texts| texts.contains(&wanted.as_str())),
            (Some(found), Some(ClaimValue::Whole(wanted))) => *found == Json::Whole(*wanted),
            (Some(found), Some(ClaimValue::Bool(wanted))) => *found == Json::Bool(*wanted),
        }
    }
}

/// To what a token is bound besides being sent (RFC 7800): nobody else can use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmation {
    /// SHA-256 thumbprint of the holder's key (`jkt`; RFC 9449, 6.1).
    pub(crate) key: Option<[u8; 32]>,
    /// SHA-256 of the holder's certificate (`x5t#S256`; RFC 8705, 3.1).
    pub(crate) certificate: Option<[u8; 32]>,
}

impl Confirmation {
    fn binding(&self) -> Binding {
        Binding {
            key: self.key.is_some(),
            certificate: self.certificate.is_some(),
        }
    }
}

/// The claims that Portcullis itself goes by, with their types proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// `jti`.
    pub(crate) token_id: Option<String>,
    /// `iat`, `exp` and `nbf`, in seconds since the epoch.
    pub(crate) issued: Option<u64>,
    pub(crate) expires: u64,
    pub(crate) not_before: Option<u64>,
    /// `cnf`.
    pub(crate) confirmation: Confirmation,
}

impl Claims {
    /// # Errors
    /// [`TokenFault::Claims`].
    pub(crate) fn of(claims: &Members) -> Result<Self, TokenFault> {
        let token_id = match claims.get("jti") {
            None => None,
            Some(Json::Text(id)) if !id.is_empty() => Some(id.clone()),
            Some(_) => return Err(TokenFault::Claims("its jti is no string")),
        };
        Ok(Self {
            token_id,
            issued: time(claims, "iat", "its iat is no time in whole seconds")?,
            expires: time(claims, "exp", "its exp is no time in whole seconds")?
                .ok_or(TokenFault::Claims("it has no exp"))?,
            not_before: time(claims, "nbf", "its nbf is no time in whole seconds")?,
            confirmation: confirmation(claims)?,
        })
    }
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exp {}", self.expires)?;
        for (name, time) in [("nbf", self.not_before), ("iat", self.issued)] {
            if let Some(time) = time {
                write!(f, ", {name} {time}")?;
            }
        }
        if let Some(id) = &self.token_id {
            write!(f, ", jti {id:?}")?;
        }
        let bound = &self.confirmation;
        if let Some(key) = bound.key {
            let key = URL_SAFE_NO_PAD.encode(key);
            write!(f, ", good only with a DPoP proof by key {key}")?;
        }
        if let Some(certificate) = bound.certificate {
            let certificate = URL_SAFE_NO_PAD.encode(certificate);
            write!(f, ", good only with certificate {certificate}")?;
        }
        Ok(())
    }
}

fn time(claims: &Members, name: &str, wrong: &'static str) -> Result<Option<u64>, TokenFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => seconds(value).map(Some).ok_or(TokenFault::Claims(wrong)),
    }
}

/// A time in whole seconds since the epoch.
pub(crate) fn seconds(value: &Json) -> Option<u64> {
    match value {
        Json::Whole(seconds) if *seconds <= LATEST => Some(*seconds),
        _ => None,
    }
}

/// RFC 7800, 3.1 lets ways of binding that aren't known be ignored. Whoever issued such a token means it to be
/// good for nobody but its holder, and that can't be seen here.
fn confirmation(claims: &Members) -> Result<Confirmation, TokenFault> {
    let wrong = TokenFault::Claims("its cnf holds no thumbprint of SHA-256");
    let members = match claims.get("cnf") {
        None => return Ok(Confirmation::default()),
        Some(Json::Members(members)) => members,
        Some(_) => return Err(wrong),
    };
    let is_known = |name: &String| ["jkt", "x5t#S256"].contains(&name.as_str());
    if members.is_empty() || !members.keys().all(is_known) {
        return Err(TokenFault::Binding);
    }
    let thumbprint = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(Json::Text(text)) => URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .map(Some)
            .ok_or(wrong),
        Some(_) => Err(wrong),
    };
    Ok(Confirmation {
        key: thumbprint("jkt")?,
        certificate: thumbprint("x5t#S256")?,
    })
}

/// The `iss` that a token claims.
///
/// # Errors
/// [`TokenFault::Claims`].
pub(crate) fn issuer(claims: &Members) -> Result<&str, TokenFault> {
    let issuer = claims.get("iss").and_then(Json::text);
    issuer.ok_or(TokenFault::Claims("its iss is no string"))
}

/// Whether one of the audiences of a token is one of `ours`: the same to the last byte.
///
/// # Errors
/// [`TokenFault::Claims`] where there is none, [`TokenFault::Audience`] where it is for others.
pub(crate) fn judge_audience(claims: &Members, ours: &BTreeSet<String>) -> Result<(), TokenFault> {
    let audiences = claims.get("aud").and_then(Json::texts);
    let audiences = audiences.ok_or(TokenFault::Claims("its aud is no string or list of them"))?;
    if audiences.into_iter().any(|it| ours.contains(it)) {
        return Ok(());
    }
    Err(TokenFault::Audience)
}

/// # Errors
/// [`TokenFault::Required`].
pub(crate) fn judge_required(
    claims: &Members,
    required: &[RequiredClaim],
) -> Result<(), TokenFault> {
    if required.iter().all(|it| it.is_met(claims)) {
        return Ok(());
    }
    Err(TokenFault::Required)
}

impl ClaimMap {
    /// Whom a token is about.
    ///
    /// # Errors
    /// [`TokenFault::Claims`] where there is no subject, or a claim that is used is of another type.
    pub(crate) fn principal(
        &self,
        issuer: &str,
        claims: &Members,
        bound: &Confirmation,
    ) -> Result<Principal, TokenFault> {
        let subject = self.subject.find(claims).and_then(Json::text);
        let subject = subject
            .filter(|subject| !subject.is_empty())
            .ok_or(TokenFault::Claims("its subject is no string"))?;
        let mut attributes = BTreeMap::new();
        for (name, path) in &self.attributes {
            if let Some(values) = values(path, claims)? {
                attributes.insert(name.clone(), values);
            }
        }
        let groups = match &self.groups {
            Some(path) => values(path, claims)?.unwrap_or_default(),
            None => BTreeSet::new(),
        };
        Ok(Principal {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            scopes: self.scopes(claims)?,
            groups,
            attributes,
            proven_by: ProvenBy::Token(bound.binding()),
        })
    }

    fn scopes(&self, claims: &Members) -> Result<BTreeSet<String>, TokenFault> {
        let found = match &self.scopes {
            Some(path) => path.find(claims),
            None => match (claims.get("scope"), claims.get("scp")) {
                // Two lists can disagree; neither is believed.
                (Some(_), Some(_)) => {
                    return Err(TokenFault::Claims("it has both scope and scp"));
                }
                (one, other) => one.or(other),
            },
        };
        match found {
            None => Ok(BTreeSet::new()),
            Some(Json::Text(scopes)) => {
                let scopes = scopes.split(' ').filter(|scope| !scope.is_empty());
                Ok(scopes.map(str::to_owned).collect())
            }
            Some(other) => strings(other),
        }
    }
}

fn values(path: &ClaimPath, claims: &Members) -> Result<Option<BTreeSet<String>>, TokenFault> {
    path.find(claims).map(strings).transpose()
}

fn strings(value: &Json) -> Result<BTreeSet<String>, TokenFault> {
    let texts = value.texts();
    let texts = texts.ok_or(TokenFault::Claims(
        "a claim that is used is no string or list of them",
    ))?;
    Ok(texts.into_iter().map(str::to_owned).collect())
}
