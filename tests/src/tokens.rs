//! Tokens of a front's own issuer with other claims than good ones, and what becomes of them.

use serde_json::Value;

use crate::{
    front::{Answer, Front},
    run::Rigged,
};

/// The header of a good token.
pub const GOOD_HEADER: &str = r#"{"alg":"ES256","typ":"JWT","kid":"key-1"}"#;

/// The claims of a good token.
pub fn claims(front: &Front) -> Value {
    front.ground.issuer.claims("alice", "orders:read")
}

/// The claims of a good token but for these; `null` leaves one out.
pub fn claims_with(front: &Front, changes: Value) -> Value {
    let mut claims = claims(front);
    for (name, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            claims.as_object_mut().map(|claims| claims.remove(name));
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// A token with these claims changed, signed well.
///
/// # Errors
/// When it can't be signed.
pub fn sign_with(front: &Front, changes: Value) -> Rigged<String> {
    front.ground.issuer.sign(&claims_with(front, changes))
}

/// Refused for this reason: told nothing but a challenge, and nobody's in the record.
///
/// # Panics
/// When it isn't so.
///
/// # Errors
/// When its record isn't there in time.
pub fn assert_answer_refused(front: &Front, answer: &Answer, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, 401, "{reason}: {answer:?}");
    let challenge = answer.field("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["verdict"], "deny");
    assert_eq!(record["principal"], Value::Null);
    assert_eq!(record["upstream_us"], Value::Null);
    Ok(())
}

/// A token is refused for this reason.
///
/// # Panics
/// When it isn't so.
///
/// # Errors
/// When curl can't be run, or its record isn't there in time.
pub fn assert_refused(front: &Front, what: &str, token: &str, reason: &str) -> Rigged<()> {
    let answer = front.get("/orders/1", token)?;
    assert_answer_refused(front, &answer, reason).inspect_err(|_| eprintln!("the case is: {what}"))
}

/// A token is served as alice's.
///
/// # Panics
/// When it isn't.
///
/// # Errors
/// When curl can't be run.
pub fn assert_served(front: &Front, what: &str, token: &str) -> Rigged<()> {
    let answer = front.get("/orders/1", token)?;
    assert_eq!(answer.status, 200, "{what}: {answer:?}");
    assert_eq!(answer.told("subject"), "alice", "{what}");
    Ok(())
}

/// The upstream heard of no request.
///
/// # Panics
/// When it did.
///
/// # Errors
/// When the proxy serves no more.
pub fn assert_nothing_heard(front: &Front) -> Rigged<()> {
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}
