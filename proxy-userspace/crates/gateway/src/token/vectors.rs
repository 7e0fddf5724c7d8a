//! The examples of the standards that are accepted: signatures of RFC 7515 (A.1 to A.3), 7520 (4.1, 4.2, 4.4) and
//! 8037 (A.4), keys of RFC 7517 (3, A.1, A.3, B), the thumbprints of RFC 7638 (3.1) and 8037 (A.3), the claims of
//! RFC 7519 (3.1) and 9449 (6.1).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Algorithm, ClaimMap, Claims, Header, Jws, KeySet, TokenFault,
    claims::{Confirmation, judge_audience},
    issuer,
    json::{Members, parse_object},
    jwk::Jwk,
};

pub(super) const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const QUOTE: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";

const A1_KEY: &str = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
const A2_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
const A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ED_KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const BILBO_KEY: &str = r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw","e":"AQAB"}"#;
pub(super) const THUMBED_KEY: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;

const SECRET_KEY: &str = r#"{"kty":"oct","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037","use":"sig","alg":"HS256","k":"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}"#;
/// With the certificate that it is in.
const CERTIFIED_KEY: &str = r#"{"kty":"RSA","use":"sig","kid":"1b94c","n":"vrjOfz9Ccdgx5nQudyhdoR17V-IubWMeOZCwX_jj0hgAsz2J_pqYW08PLbK_PdiVGKPrqzmDIsLI7sA25VEnHU1uCLNwBuUiCO11_-7dYbsr4iJmG0Qu2j8DsVyT1azpJC_NG84Ty5KKthuCaPod7iI7w0LK9orSMhBEwwZDCxTWq4aYWAchc8t-emd9qOvWtVMDC2BXksRngh6X5bUYLy6AyHKvj-nUy1wgzjYQDwHMTplCoLtU-o-8SNnZ1tmRoGE9uJkBLdh5gFENabWnU5m1ZqZPdwS-qo-meMvVfJb6jJVWRpl2SUtCnYG2C32qvbWbjZ_jBPD5eunqsIo1vQ","e":"AQAB","x5c":["MIIDQjCCAiqgAwIBAgIGATz/FuLiMA0GCSqGSIb3DQEBBQUAMGIxCzAJBgNVBAYTAlVTMQswCQYDVQQIEwJDTzEPMA0GA1UEBxMGRGVudmVyMRwwGgYDVQQKExNQaW5nIElkZW50aXR5IENvcnAuMRcwFQYDVQQDEw5CcmlhbiBDYW1wYmVsbDAeFw0xMzAyMjEyMzI5MTVaFw0xODA4MTQyMjI5MTVaMGIxCzAJBgNVBAYTAlVTMQswCQYDVQQIEwJDTzEPMA0GA1UEBxMGRGVudmVyMRwwGgYDVQQKExNQaW5nIElkZW50aXR5IENvcnAuMRcwFQYDVQQDEw5CcmlhbiBDYW1wYmVsbDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAL64zn8/QnHYMeZ0LncoXaEde1fiLm1jHjmQsF/449IYALM9if6amFtPDy2yvz3YlRij66s5gyLCyO7ANuVRJx1NbgizcAblIgjtdf/u3WG7K+IiZhtELto/A7Fck9Ws6SQvzRvOE8uSirYbgmj6He4iO8NCyvaK0jIQRMMGQwsU1quGmFgHIXPLfnpnfajr1rVTAwtgV5LEZ4Iel+W1GC8ugMhyr4/p1MtcIM42EA8BzE6ZQqC7VPqPvEjZ2dbZkaBhPbiZAS3YeYBRDWm1p1OZtWamT3cEvqqPpnjL1XyW+oyVVkaZdklLQp2Btgt9qr21m42f4wTw+Xrp6rCKNb0CAwEAATANBgkqhkiG9w0BAQUFAAOCAQEAh8zGlfSlcI0o3rYDPBB07aXNswb4ECNIKG0CETTUxmXl9KUL+9gGlqCz5iWLOgWsnrcKcY0vXPG9J1r9AqBNTqNgHq2G03X09266X5CpOe1zFo+Owb1zxtp3PehFdfQJ610CDLEaS9V9Rqp17hCyybEpOGVwe8fnk+fbEL2Bo3UPGrpsHzUoaGpDftmWssZkhpBJKVMJyf/RuP2SmmaIzmnw9JiSlYhzo4tpzd5rFXhjRbg4zW9C+2qok+2+qDM1iJ684gPHMIY8aLWrdgQTxkumGmTqgawR+N5MDtdPTEQ0XfIBc2cJEUyMTY5MPvACWpkA6SdS4xSvdXK3IVfOWA=="]}"#;

/// Key, algorithm, header, payload, signature.
const SIGNED: [(&str, Algorithm, &str, &str, &str); 7] = [
    (
        A1_KEY,
        Algorithm::HS256,
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        CLAIMS,
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    (
        A2_KEY,
        Algorithm::RS256,
        "eyJhbGciOiJSUzI1NiJ9",
        CLAIMS,
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    (
        A3_KEY,
        Algorithm::ES256,
        "eyJhbGciOiJFUzI1NiJ9",
        CLAIMS,
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
    (
        ED_KEY,
        Algorithm::EdDSA,
        "eyJhbGciOiJFZERTQSJ9",
        "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    ),
    (
        BILBO_KEY,
        Algorithm::RS256,
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        QUOTE,
        "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
    ),
    (
        BILBO_KEY,
        Algorithm::PS384,
        "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        QUOTE,
        "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
    ),
    (
        SECRET_KEY,
        Algorithm::HS256,
        "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
        QUOTE,
        "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
    ),
];

pub(super) fn members(text: &str) -> Members {
    parse_object(text.as_bytes()).expect("an object")
}

#[test]
fn signatures_of_the_examples_are_good_and_of_anything_else_bad() {
    for (key, algorithm, header, payload, signature) in SIGNED {
        let key = Jwk::parse(&members(key), &[algorithm]).expect("a key");
        let (_, verifier) = key.verifiers.first().expect("a verifier");
        let good = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let message = format!("{header}.{payload}");
        assert!(verifier.verify(message.as_bytes(), &good), "{algorithm}");
        let other = format!("{header}.{payload}A");
        assert!(!verifier.verify(other.as_bytes(), &good), "{algorithm}");
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(!verifier.verify(message.as_bytes(), &bad), "{algorithm}");
        }
        for bad in [&[][..], &good[1..], &good[..good.len() - 1]] {
            assert!(!verifier.verify(message.as_bytes(), bad), "{algorithm}");
        }
        let zeros = vec![0; good.len()];
        let ones = vec![0xff; good.len()];
        assert!(!verifier.verify(message.as_bytes(), &zeros), "{algorithm}");
        assert!(!verifier.verify(message.as_bytes(), &ones), "{algorithm}");
    }
}

/// RFC 7515, 3.3: the example ends its lines with CR and LF and is to be taken as it is.
#[test]
fn the_example_of_a_token_is_read() {
    let (_, algorithm, header, payload, signature) = SIGNED[0];
    let token = format!("{header}.{payload}.{signature}");
    let token = Jws::parse(&token).expect("three parts");
    let header = Header::of(&token.header).expect("a header");
    assert_eq!((header.algorithm, header.key_id), (algorithm, None));
    assert_eq!(issuer(&token.claims), Ok("joe"));
    let claims = Claims::of(&token.claims).expect("claims");
    assert_eq!(claims.expires, 1_300_819_380);
    // It has no subject: nobody is let in with it.
    assert_eq!(
        ClaimMap::default().principal("main", &token.claims, &Confirmation::default()),
        Err(TokenFault::NoSubject("sub".into()))
    );
}

/// RFC 9449, 6.1: its holder is known, and whom it is for isn't.
#[test]
fn the_example_of_a_token_that_is_bound_to_a_key_is_read() {
    let key = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let text = r#"{"sub":"someone@example.com","iss":"https://server.example.com","nbf":1562262611,"exp":1562266216,"cnf":{"jkt":"KEY"}}"#;
    let read = members(&text.replace("KEY", key));
    let claims = Claims::of(&read).expect("claims");
    assert_eq!(claims.not_before, Some(1_562_262_611));
    let bound = claims.confirmation.key.expect("a key");
    assert_eq!(URL_SAFE_NO_PAD.encode(bound), key);
    let ours = ["https://resource.example.org".to_owned()].into();
    assert_eq!(judge_audience(&read, &ours), Err(TokenFault::NoAudience));
}

/// ECDSA over JWS is two numbers of fixed length, not DER (RFC 7518, 3.4).
#[test]
fn a_signature_in_der_is_refused() {
    let (key, algorithm, header, payload, signature) = SIGNED[2];
    let key = Jwk::parse(&members(key), &[algorithm]).expect("a key");
    let plain = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let number = |bytes: &[u8]| {
        let zero = if bytes[0] & 0x80 == 0 { &[][..] } else { &[0] };
        let length = u8::try_from(zero.len() + bytes.len()).expect("short");
        [&[2, length], zero, bytes].concat()
    };
    let numbers = [number(&plain[..32]), number(&plain[32..])].concat();
    let length = u8::try_from(numbers.len()).expect("short");
    let der = [&[0x30, length], numbers.as_slice()].concat();
    let message = format!("{header}.{payload}");
    assert!(key.verifiers[0].1.verify(message.as_bytes(), &plain));
    assert!(!key.verifiers[0].1.verify(message.as_bytes(), &der));
}

#[test]
fn the_thumbprint_of_the_example_is_its() {
    for (key, algorithm, thumbprint) in [
        (
            THUMBED_KEY,
            Algorithm::RS256,
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
        // RFC 8037, A.3.
        (
            ED_KEY,
            Algorithm::EdDSA,
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
    ] {
        let key = Jwk::parse(&members(key), &[algorithm]).expect("a key");
        assert_eq!(URL_SAFE_NO_PAD.encode(key.thumbprint()), thumbprint);
    }
}

#[test]
fn a_set_is_judged_key_by_key() {
    // RFC 7517, A.1: the first is for encryption, so RS256 alone is left.
    let set = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},KEY]}"#;
    let set = set.replace("KEY", THUMBED_KEY);
    let all = Algorithm::ALL;
    let keys = KeySet::parse(set.as_bytes(), &all).expect("a set");
    assert_eq!(keys.len(), 1);
    assert!(keys.find(Some("2011-04-29"), Algorithm::RS256).is_some());
    // Its own algorithm and no other of its type; no other id.
    assert!(keys.find(Some("2011-04-29"), Algorithm::PS256).is_none());
    assert!(keys.find(Some("1"), Algorithm::ES256).is_none());
    assert!(keys.find(Some(""), Algorithm::RS256).is_none());
    assert!(keys.find(None, Algorithm::RS256).is_some());
}

/// The key of a set that has this id, and whether one of the signatures above is good by it.
fn verifies(set: &str, id: &str, algorithm: Algorithm, signed: usize) -> bool {
    let keys = KeySet::parse(set.as_bytes(), &[algorithm]).expect("a set");
    let (_, key) = keys.find(Some(id), algorithm).expect("the key");
    let (_, _, header, payload, signature) = SIGNED[signed];
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    key.verify(format!("{header}.{payload}").as_bytes(), &signature)
}

#[test]
fn keys_of_the_examples_verify_the_examples() {
    // RFC 7517, 3.
    let id = "Public key used in JWS spec Appendix A.3 example";
    let named = A3_KEY.replacen('{', &format!("{{\"kid\":\"{id}\","), 1);
    let set = format!("{{\"keys\":[{named}]}}");
    assert!(verifies(&set, id, Algorithm::ES256, 2));
    // A.3: the first of the two is for wrapping keys.
    let id = "HMAC key used in JWS spec Appendix A.1 example";
    let named = A1_KEY.replacen('{', &format!("{{\"kid\":\"{id}\","), 1);
    let wrapping = r#"{"kty":"oct","alg":"A128KW","k":"GawgguFyGrWKav7AX4VKUg"}"#;
    let set = format!("{{\"keys\":[{wrapping},{named}]}}");
    assert!(verifies(&set, id, Algorithm::HS256, 0));
    let keys = KeySet::parse(set.as_bytes(), &[Algorithm::HS256]).expect("a set");
    assert_eq!(keys.len(), 1);
}

/// RFC 7517, B: the certificate beside a key is no reason to trust it or not; whoever publishes the set is.
#[test]
fn a_certificate_beside_a_key_changes_nothing() {
    let key = Jwk::parse(&members(CERTIFIED_KEY), &[Algorithm::RS256]).expect("a key");
    assert_eq!(key.id.as_deref(), Some("1b94c"));
    let (alone, _) = CERTIFIED_KEY.split_once(",\"x5c\"").expect("one");
    let alone = Jwk::parse(&members(&format!("{alone}}}")), &[Algorithm::RS256]);
    assert_eq!(key.thumbprint(), alone.expect("a key").thumbprint());
}

#[test]
fn a_key_that_is_none_is_refused_with_the_reason() {
    let all = Algorithm::ALL;
    let refused = |key: &str| Jwk::parse(&members(key), &all).expect_err(key);
    let rsa = |bits: usize| {
        let n = URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]);
        format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#)
    };
    let padded = {
        let mut n = vec![0; 128];
        n.extend([0xff; 128]);
        let n = URL_SAFE_NO_PAD.encode(n);
        format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#)
    };
    for (key, why) in [
        (rsa(1024), "RSA with 1024 bits"),
        (rsa(2040), "RSA with 2040 bits"),
        (rsa(16_384), "8192 are the most"),
        // Zeros before it don't make it longer.
        (padded, "RSA with 1024 bits"),
        (A2_KEY.replace("AQAB", "AQ"), "its exponent"),
        (A2_KEY.replace("AQAB", "AQAA"), "its exponent"),
        (A2_KEY.replace("AQAB", "AQAB="), "its e is no base64url"),
        (
            A2_KEY.replace("\"kty\":\"RSA\"", "\"kty\":\"rsa\""),
            "not a public key",
        ),
        (A3_KEY.replace("f83O", "f83P"), "no good key"),
        (A3_KEY.replace("P-256", "P-384"), "haven't the length"),
        (
            A3_KEY.replace("P-256", "secp256k1"),
            "neither P-256 nor P-384",
        ),
        (
            A3_KEY.replace("\"kty\"", "\"d\":\"AA\",\"kty\""),
            "private part",
        ),
        (
            A3_KEY.replace("\"kty\"", "\"use\":\"enc\",\"kty\""),
            "not for signatures",
        ),
        (
            A3_KEY.replace("\"kty\"", "\"key_ops\":[\"sign\"],\"kty\""),
            "not for verifying",
        ),
        (
            A3_KEY.replace("\"kty\"", "\"alg\":\"ES384\",\"kty\""),
            "ES384",
        ),
        (
            A3_KEY.replace("\"kty\"", "\"alg\":\"HS256\",\"kty\""),
            "HS256",
        ),
        (
            A3_KEY.replace("\"kty\"", "\"kid\":7,\"kty\""),
            "kid is no string",
        ),
        (ED_KEY.replace("Ed25519", "X25519"), "isn't Ed25519"),
        (ED_KEY.replace("11qY", ""), "no good key"),
        (
            r#"{"kty":"oct","k":"AAAA"}"#.to_owned(),
            "a secret of 24 bits",
        ),
        ("{}".to_owned(), "not a public key"),
    ] {
        let said = refused(&key);
        assert!(said.contains(why), "{key}: {said}");
    }
    let twice = format!("{{\"keys\":[{THUMBED_KEY},{THUMBED_KEY}]}}");
    let twice = KeySet::parse(twice.as_bytes(), &all).expect_err("refused");
    assert!(
        twice.to_string().contains("two keys with the id"),
        "{twice}"
    );
}
