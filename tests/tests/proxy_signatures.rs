//! Whose signature a token has: the issuer's over what it says, and no other.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use portcullis_tests::{
    front::Front,
    pki::{TokenIssuer, sign_with_secret, unsigned},
    run::{RigError, Rigged},
    tokens::{GOOD_HEADER, assert_nothing_heard, assert_refused, assert_served, claims, sign_with},
};
use serde_json::json;

/// Case 46.
#[test]
fn a_token_that_nobody_signed_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let payload = claims(&front).to_string();
    for algorithm in ["none", "None", "NoNe", "NONE", ""] {
        let header = json!({"alg": algorithm, "kid": "key-1"}).to_string();
        let body = unsigned(&header, &payload);
        assert_refused(
            &front,
            algorithm,
            &format!("{body}."),
            "token_header_refused",
        )?;
        assert_refused(
            &front,
            algorithm,
            &format!("{body}.AAAA"),
            "token_header_refused",
        )?;
    }
    let body = unsigned(GOOD_HEADER, &payload);
    assert_refused(
        &front,
        "empty signature",
        &format!("{body}."),
        "token_signature_invalid",
    )?;
    assert_refused(&front, "no signature", &body, "token_malformed")?;
    let zeros = format!("{body}.{}", "A".repeat(86));
    assert_refused(
        &front,
        "r and s zero (CVE-2022-21449)",
        &zeros,
        "token_signature_invalid",
    )?;
    assert_nothing_heard(&front)
}

/// Case 47.
#[test]
fn a_public_key_is_no_shared_secret() -> Rigged<()> {
    let front = Front::open()?;
    let payload = claims(&front).to_string();
    let header = r#"{"alg":"HS256","typ":"JWT","kid":"key-1"}"#;
    let key = front.ground.issuer.public_key();
    let set = front.ground.issuer.jwks();
    let pem = front.ground.issuer.public_key_pem();
    for secret in [key.as_str(), set.as_str(), pem, pem.trim_end(), ""] {
        let token = sign_with_secret(header, &payload, secret.as_bytes())?;
        assert_refused(&front, secret, &token, "token_algorithm_refused")?;
        // And with the header of the algorithm that is allowed.
        let token = sign_with_secret(GOOD_HEADER, &payload, secret.as_bytes())?;
        assert_refused(&front, secret, &token, "token_signature_invalid")?;
    }
    for algorithm in [Algorithm::ES384, Algorithm::RS256, Algorithm::EdDSA] {
        let header = json!({"alg": algorithm, "kid": "key-1"}).to_string();
        let token = front.ground.issuer.sign_text(&header, &payload)?;
        assert_refused(&front, "not pinned", &token, "token_algorithm_refused")?;
    }
    assert_nothing_heard(&front)
}

#[test]
fn a_token_that_was_changed_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let token = sign_with(&front, json!({"scope": "nothing"}))?;
    let signature = token.rsplit('.').next().unwrap_or_default();
    let more = unsigned(GOOD_HEADER, &claims(&front).to_string());
    assert_refused(
        &front,
        "other claims",
        &format!("{more}.{signature}"),
        "token_signature_invalid",
    )?;
    let good = front.token("orders:read")?;
    let cut = &good[..good.len() - 2];
    assert_refused(
        &front,
        "a shorter signature",
        cut,
        "token_signature_invalid",
    )?;
    for ending in ["=", "==", " x", "\tx", "=x", ".", "%3D", "+", "/"] {
        let padded = format!("{good}{ending}");
        assert_refused(&front, ending, &padded, "token_malformed")?;
    }
    // 64 bytes leave four bits of the last letter that say nothing: with others than zeros it is another
    // spelling of the same signature.
    let (begin, last) = good.split_at(good.len() - 1);
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = letters.find(last).unwrap_or_default();
    let spelled = format!("{begin}{}", &letters[at + 1..at + 2]);
    assert_refused(&front, "bits that say nothing", &spelled, "token_malformed")?;
    let stranger = TokenIssuer::new("https://issuer.example", "key-1")?;
    let token = stranger.token("alice", "orders:read")?;
    assert_refused(&front, "another's key", &token, "token_signature_invalid")?;
    assert_nothing_heard(&front)
}

/// The order of the group of P-256 (SEC 2, 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The order less a number below it.
fn order_less(number: &[u8]) -> [u8; 32] {
    let mut left = ORDER;
    let mut borrowed = false;
    for (digit, taken) in left.iter_mut().zip(number).rev() {
        let (once, under) = digit.overflowing_sub(*taken);
        let (twice, again) = once.overflowing_sub(u8::from(borrowed));
        *digit = twice;
        borrowed = under || again;
    }
    left
}

/// Case 53.
#[test]
fn a_signature_of_numbers_that_are_out_of_range_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let good = front.token("orders:read")?;
    let (message, signature) = good.rsplit_once('.').unwrap_or_default();
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|error| RigError(error.to_string()))?;
    let (r, s) = signature.split_at(32);
    let token = |r: &[u8], s: &[u8]| {
        let signature = URL_SAFE_NO_PAD.encode([r, s].concat());
        format!("{message}.{signature}")
    };
    let mut more = ORDER;
    more[31] += 1;
    let (zero, most) = ([0; 32], [0xff; 32]);
    let mut one = zero;
    one[31] = 1;
    for (bad, what) in [
        (token(&zero, &zero), "zeros (CVE-2022-21449)"),
        (token(&zero, s), "r is zero"),
        (token(r, &zero), "s is zero"),
        (token(&ORDER, &ORDER), "both the order"),
        (token(&ORDER, s), "r is the order"),
        (token(r, &ORDER), "s is the order"),
        (token(&more, s), "r is above the order"),
        (token(r, &more), "s is above the order"),
        (token(&most, &most), "as high as can be"),
        (token(&one, &one), "ones"),
        (token(s, r), "exchanged"),
        (token(&order_less(r), s), "the order less r"),
    ] {
        assert_refused(&front, what, &bad, "token_signature_invalid")?;
    }
    assert_nothing_heard(&front)?;
    assert_served(&front, "as it was", &good)?;
    // Of each signature there is a second one that anybody can make (SEC 1, 4.1.4): by RFC 7518 it is as good.
    // What must be known again, such as a token that is good once, is known by what it says.
    let other = token(r, &order_less(s));
    assert_served(&front, "the order less s", &other)
}
