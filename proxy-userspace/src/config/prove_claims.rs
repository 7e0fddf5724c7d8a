//! What an issuer's tokens are read for, as proven.

use std::collections::BTreeMap;

use gateway::{ClaimMap, ClaimPath, ClaimValue, RequiredClaim};
use toml::{Spanned, Value};

use super::mistake::Prover;

/// How a claim is named.
const PATH: &str = "name it like \"sub\", \"realm_access.roles\", or, with dots in names, \"/https:~1~1example.com~1roles\"";

pub(super) fn claim_map(
    prover: &mut Prover<'_>,
    key: &str,
    written: &BTreeMap<String, Spanned<String>>,
) -> ClaimMap {
    let mut map = ClaimMap::default();
    for (name, path) in written {
        let Some(claim) = ClaimPath::parse(path.as_ref()) else {
            let key = format!("{key}.{name}");
            prover.reject(&key, path.span(), "names no claim", PATH);
            continue;
        };
        match name.as_str() {
            "subject" => map.subject = claim,
            "groups" => map.groups = Some(claim),
            "scopes" => map.scopes = Some(claim),
            _ => {
                map.attributes.insert(name.clone(), claim);
            }
        }
    }
    map
}

pub(super) fn required(
    prover: &mut Prover<'_>,
    key: &str,
    written: Option<&Spanned<Value>>,
) -> Vec<RequiredClaim> {
    let Some(written) = written else {
        return Vec::new();
    };
    let mut reject = |problem: String, mend: &str| {
        prover.reject(key, written.span(), problem, mend);
    };
    let claims: Vec<(&str, Option<&Value>)> = match written.as_ref() {
        Value::Array(names) => {
            let names: Option<Vec<_>> = names.iter().map(Value::as_str).collect();
            let Some(names) = names else {
                reject("a name is no string".to_owned(), PATH);
                return Vec::new();
            };
            names.into_iter().map(|name| (name, None)).collect()
        }
        Value::Table(table) => table
            .iter()
            .map(|(name, value)| (name.as_str(), Some(value)))
            .collect(),
        _ => {
            reject(
                "is neither a list nor a table".to_owned(),
                "write [\"jti\"], or with values { tenant = \"a\" }",
            );
            return Vec::new();
        }
    };
    let mut proven = Vec::new();
    for (name, value) in claims {
        let Some(path) = ClaimPath::parse(name) else {
            reject(format!("{name:?} names no claim"), PATH);
            continue;
        };
        let value = match value {
            None => None,
            Some(Value::String(text)) => Some(ClaimValue::Text(text.clone())),
            Some(Value::Boolean(value)) => Some(ClaimValue::Bool(*value)),
            Some(Value::Integer(number)) if *number >= 0 => {
                Some(ClaimValue::Whole(number.unsigned_abs()))
            }
            Some(_) => {
                let mend = "use a string, a whole number from zero on, true or false";
                reject(
                    format!("{name:?} has a value that no claim is compared with"),
                    mend,
                );
                continue;
            }
        };
        proven.push(RequiredClaim { path, value });
    }
    proven
}
