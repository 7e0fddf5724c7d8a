//! What a token says (RFC 7519, 4), and what of it goes where: to the subject, its groups, its scopes, and
//! attributes for the policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use policy::{Binding, Principal, ProvenBy};

use super::{
    fault::{Detail, TokenFault},
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

    /// Of one name.
    fn of(name: &str) -> Self {
        Self(vec![name.to_owned()])
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

/// As [`ClaimPath::parse`] reads it.
impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().any(|name| name.contains(['.', '/'])) {
            let escape = |name: &String| name.replace('~', "~0").replace('/', "~1");
            return self
                .0
                .iter()
                .try_for_each(|name| write!(f, "/{}", escape(name)));
        }
        f.write_str(&self.0.join("."))
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
            subject: ClaimPath::of("sub"),
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
    /// [`TokenFault::ClaimType`], [`TokenFault::Time`], [`TokenFault::NoExpiry`], [`TokenFault::Binding`].
    pub(crate) fn of(claims: &Members) -> Result<Self, TokenFault> {
        let token_id = match claims.get("jti") {
            None => None,
            Some(Json::Text(id)) if !id.is_empty() => Some(id.clone()),
            Some(_) => return Err(TokenFault::ClaimType("jti is no string".into())),
        };
        Ok(Self {
            token_id,
            issued: time(claims, "iat")?,
            expires: time(claims, "exp")?.ok_or(TokenFault::NoExpiry)?,
            not_before: time(claims, "nbf")?,
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

fn time(claims: &Members, name: &'static str) -> Result<Option<u64>, TokenFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match seconds(value) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(TokenFault::Time(name.into())),
        },
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
    let wrong = || TokenFault::ClaimType("cnf holds no thumbprint of SHA-256".into());
    let members = match claims.get("cnf") {
        None => return Ok(Confirmation::default()),
        Some(Json::Members(members)) => members,
        Some(_) => return Err(wrong()),
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
            .ok_or_else(wrong),
        Some(_) => Err(wrong()),
    };
    Ok(Confirmation {
        key: thumbprint("jkt")?,
        certificate: thumbprint("x5t#S256")?,
    })
}

/// The `iss` that a token claims.
///
/// # Errors
/// [`TokenFault::NoIssuer`], [`TokenFault::ClaimType`].
pub(crate) fn issuer(claims: &Members) -> Result<&str, TokenFault> {
    let issuer = claims.get("iss").ok_or(TokenFault::NoIssuer)?;
    let issuer = issuer.text();
    issuer.ok_or_else(|| TokenFault::ClaimType("iss is no string".into()))
}

/// Whether one of the audiences of a token is one of `ours`: the same to the last byte.
///
/// # Errors
/// [`TokenFault::NoAudience`], [`TokenFault::ClaimType`], and [`TokenFault::Audience`] where it is for others.
pub(crate) fn judge_audience(claims: &Members, ours: &BTreeSet<String>) -> Result<(), TokenFault> {
    let audiences = claims.get("aud").ok_or(TokenFault::NoAudience)?;
    let audiences = audiences.texts();
    let audiences = audiences.ok_or_else(|| TokenFault::ClaimType(no_strings(&"aud")))?;
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
    match required.iter().find(|it| !it.is_met(claims)) {
        None => Ok(()),
        Some(unmet) => Err(TokenFault::Required(unmet.path.to_string().into())),
    }
}

impl ClaimMap {
    /// Whom a token is about.
    ///
    /// # Errors
    /// [`TokenFault::NoSubject`], [`TokenFault::Scopes`], or [`TokenFault::ClaimType`] of a claim that is used.
    pub(crate) fn principal(
        &self,
        issuer: &str,
        claims: &Members,
        bound: &Confirmation,
    ) -> Result<Principal, TokenFault> {
        let subject = match self.subject.find(claims) {
            Some(Json::Text(subject)) if !subject.is_empty() => subject,
            None | Some(Json::Text(_)) => {
                return Err(TokenFault::NoSubject(self.subject.to_string().into()));
            }
            Some(_) => {
                let what = format!("{} is no string", self.subject);
                return Err(TokenFault::ClaimType(what.into()));
            }
        };
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
            subject: subject.clone(),
            scopes: self.scopes(claims)?,
            groups,
            attributes,
            proven_by: ProvenBy::Token(bound.binding()),
        })
    }

    fn scopes(&self, claims: &Members) -> Result<BTreeSet<String>, TokenFault> {
        let (claim, found): (&dyn fmt::Display, _) = match &self.scopes {
            Some(path) => (path, path.find(claims)),
            None => match (claims.get("scope"), claims.get("scp")) {
                // Two lists can disagree.
                (Some(_), Some(_)) => return Err(TokenFault::Scopes),
                (None, Some(scopes)) => (&"scp", Some(scopes)),
                (scopes, None) => (&"scope", scopes),
            },
        };
        match found {
            None => Ok(BTreeSet::new()),
            Some(Json::Text(scopes)) => {
                let scopes = scopes.split(' ').filter(|scope| !scope.is_empty());
                Ok(scopes.map(str::to_owned).collect())
            }
            Some(other) => strings(other, claim),
        }
    }
}

fn values(path: &ClaimPath, claims: &Members) -> Result<Option<BTreeSet<String>>, TokenFault> {
    let strings = |value| strings(value, path);
    path.find(claims).map(strings).transpose()
}

fn strings(value: &Json, claim: &dyn fmt::Display) -> Result<BTreeSet<String>, TokenFault> {
    let texts = value.texts();
    let texts = texts.ok_or_else(|| TokenFault::ClaimType(no_strings(claim)))?;
    Ok(texts.into_iter().map(str::to_owned).collect())
}

fn no_strings(claim: &dyn fmt::Display) -> Detail {
    format!("{claim} is no string or list of strings").into()
}
