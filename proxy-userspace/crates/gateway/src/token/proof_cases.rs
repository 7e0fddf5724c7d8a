//! Proofs: the examples of RFC 9449 and 7638, and each check of RFC 9449, 4.3 met and missed.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Request, Version};
use policy::CanonicalRequest;
use serde_json::{Value, json};

use super::{
    Algorithm, Asked, Jws, Proof, ProofFault, ProofRules, examine_proof, json::Json, jwk::Jwk,
};

/// RFC 9449, 7.1: the token, the proof, and the thumbprint of its key (6.1).
const EXAMPLE_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const EXAMPLE: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
const EXAMPLE_KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
const EXAMPLE_TIME: u64 = 1_562_262_618;
/// The hash of the token, as the proof says it (4.2).
const EXAMPLE_HASH: &str = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";

/// RFC 9449, 4.2 (figure 2): a proof for a token endpoint, which is for no token.
const WITHOUT_TOKEN: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

/// RFC 9449, 5: another one there, of the client that has its token refreshed.
const REFRESHING: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjY1Mjk2fQ.pAqut2IRDm_De6PR93SYmGBPXpwrAk90e8cP2hjiaG5QsGSuKDYW7_X620BxqhvYC8ynrrvZLTk41mSRroapUA";

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const TOKEN: &str = "a.b.c";

pub(crate) fn request(method: Method, url: &str) -> CanonicalRequest {
    let builder = Request::builder().version(Version::HTTP_2);
    let message = builder.method(method).uri(url).body(());
    let (parts, ()) = message.expect("a legal message").into_parts();
    CanonicalRequest::from_parts(&parts).expect("one reading")
}

#[test]
fn the_example_of_the_standard_is_good_for_its_request_and_no_other() {
    let url = "https://resource.example.org/protectedresource";
    let rules = ProofRules::default();
    let judged = |method, url, token, now| {
        let key = examine_proof(EXAMPLE, token, &request(method, url), &rules, now);
        key.map(|key| URL_SAFE_NO_PAD.encode(key))
    };
    let good = judged(Method::GET, url, EXAMPLE_TOKEN, EXAMPLE_TIME);
    assert_eq!(good, Ok(EXAMPLE_KEY.to_owned()));
    assert_eq!(super::proof::hash_of(EXAMPLE_TOKEN), EXAMPLE_HASH);
    let told = judged(Method::POST, url, EXAMPLE_TOKEN, EXAMPLE_TIME);
    assert_eq!(told, Err(ProofFault::Method));
    let other = "https://resource.example.org/protected";
    let told = judged(Method::GET, other, EXAMPLE_TOKEN, EXAMPLE_TIME);
    assert_eq!(told, Err(ProofFault::Target));
    let told = judged(Method::GET, url, "another", EXAMPLE_TIME);
    assert_eq!(told, Err(ProofFault::Token));
    let told = judged(Method::GET, url, EXAMPLE_TOKEN, EXAMPLE_TIME + 61);
    assert_eq!(told, Err(ProofFault::Time));
}

#[test]
fn a_proof_for_no_token_is_good_for_none() {
    let request = request(Method::POST, "https://server.example.com/token");
    let rules = ProofRules::default();
    for (proof, made) in [(WITHOUT_TOKEN, 1_562_262_616), (REFRESHING, 1_562_265_296)] {
        let jws = Jws::parse(proof).expect("three parts");
        let key = jws
            .header
            .get("jwk")
            .and_then(Json::members)
            .expect("a key");
        let key = Jwk::parse(key, &[Algorithm::ES256]).expect("a good key");
        assert_eq!(URL_SAFE_NO_PAD.encode(key.thumbprint()), EXAMPLE_KEY);
        assert!(key.verifiers[0].1.verify(jws.message, &jws.signature));
        let told = examine_proof(proof, EXAMPLE_TOKEN, &request, &rules, made);
        assert_eq!(told, Err(ProofFault::Claims("its ath is no string")));
    }
}

/// Somebody with a key.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    jwk: Value,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng);
        let pkcs8 = pkcs8.expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref());
        let key = key.expect("a key");
        let point = key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|it| URL_SAFE_NO_PAD.encode(it));
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        Self { key, jwk }
    }

    pub(crate) fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk})
    }

    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        let signature = signature.expect("a signature");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// The claims of a good proof for [`TOKEN`].
pub(crate) fn claims() -> Value {
    json!({
        "jti": "1", "htm": "GET", "htu": "https://api.example/orders/1", "iat": NOW,
        "ath": super::proof::hash_of(TOKEN),
    })
}

/// With these members changed, or removed where they are null.
pub(crate) fn with(mut object: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            object.as_object_mut().map(|it| it.remove(name));
        } else {
            object[name] = value.clone();
        }
    }
    object
}

fn judge(proof: &str, rules: &ProofRules) -> Result<Proof, ProofFault> {
    let request = request(Method::GET, "https://api.example/orders/1?x=1");
    let asked = Asked {
        token: TOKEN,
        request: &request,
        key: None,
    };
    Proof::judge(proof, &asked, rules, NOW)
}

#[test]
fn each_claim_is_checked() {
    let signer = Signer::new();
    let told = |changes: Value| {
        let claims = with(claims(), &changes).to_string();
        let proof = signer.sign(&signer.header().to_string(), &claims);
        judge(&proof, &ProofRules::default())
    };
    let good = told(json!({"nonce": "n", "exp": 1})).expect("a good one");
    assert_eq!(good.nonce.as_deref(), Some("n"));
    assert_eq!((good.id.as_str(), good.issued), ("1", NOW));
    for iat in [NOW - 60, NOW + 5] {
        assert!(told(json!({"iat": iat})).is_ok(), "{iat}");
    }
    let claims_fault = |changes: Value| {
        let told = told(changes.clone());
        assert!(
            matches!(told, Err(ProofFault::Claims(_))),
            "{changes}: {told:?}"
        );
    };
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        for wrong in [json!(null), json!(""), json!([1]), json!({}), json!(true)] {
            claims_fault(json!({ name: wrong }));
        }
    }
    for wrong in [
        json!("1800000000"),
        json!(1.8e9),
        json!(-1),
        json!(1e30),
        json!(253_402_300_800_u64),
    ] {
        claims_fault(json!({ "iat": wrong }));
    }
    claims_fault(json!({"jti": "x".repeat(257)}));
    claims_fault(json!({"nonce": 1}));
    claims_fault(json!({"nonce": ""}));
    let other = super::proof::hash_of("a.b.d");
    for (changes, fault) in [
        (json!({"htm": "POST"}), ProofFault::Method),
        (json!({"htm": "get"}), ProofFault::Method),
        (json!({"iat": NOW - 61}), ProofFault::Time),
        (json!({"iat": NOW + 6}), ProofFault::Time),
        (json!({"iat": 0}), ProofFault::Time),
        (json!({"ath": other}), ProofFault::Token),
        (json!({"ath": "a.b.c"}), ProofFault::Token),
        (
            json!({"ath": format!("{}=", super::proof::hash_of(TOKEN))}),
            ProofFault::Token,
        ),
    ] {
        assert_eq!(told(changes.clone()), Err(fault), "{changes}");
    }
}

#[test]
fn the_url_is_compared_in_its_one_form() {
    let signer = Signer::new();
    let told = |url: &str, asked: &str| {
        let claims = with(claims(), &json!({ "htu": url })).to_string();
        let proof = signer.sign(&signer.header().to_string(), &claims);
        let request = request(Method::GET, asked);
        examine_proof(&proof, TOKEN, &request, &ProofRules::default(), NOW).map(drop)
    };
    let own = "https://api.example/orders/1";
    for (url, asked) in [
        (own, "https://api.example/orders/1?x=1"),
        ("https://api.example/orders/1?y#z", own),
        ("https://api.example/orders/1#z?y", own),
        ("HTTPS://API.example.:443/orders/%31", own),
        (own, "https://api.example:443/orders/1"),
        ("https://api.example:8443/a", "https://api.example:8443/a"),
        ("https://api.example", "https://api.example/"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://[2001:DB8::0:1]/", "https://[2001:db8::1]/"),
        ("https://api.example/a%2Fb", "https://api.example/a%2fb"),
    ] {
        assert_eq!(told(url, asked), Ok(()), "{url} {asked}");
    }
    for url in [
        "http://api.example/orders/1",
        "https://api.example:8443/orders/1",
        "https://api.example/orders/1/",
        "https://api.example/orders//1",
        "https://api.example/orders/./1",
        "https://api.example/orders/2/../1",
        "https://api.example/orders%2F1",
        "https://api.example/Orders/1",
        "https://api.example.evil.example/orders/1",
        "https://evil.example/orders/1?https://api.example/orders/1",
        "https://u@api.example/orders/1",
        "https://api.example\\orders/1",
        "https://api.example:0443x/orders/1",
        "https:/api.example/orders/1",
        "//api.example/orders/1",
        "/orders/1",
        "api.example/orders/1",
        " https://api.example/orders/1",
        "https://api.example/orders/1 ",
    ] {
        assert_eq!(told(url, own), Err(ProofFault::Target), "{url}");
    }
}

#[test]
fn the_header_is_that_of_a_proof_and_its_key_is_public() {
    let signer = Signer::new();
    let told = |header: Value| {
        let proof = signer.sign(&header.to_string(), &claims().to_string());
        judge(&proof, &ProofRules::default())
    };
    let changed = |changes: Value| told(with(signer.header(), &changes));
    let key = |changes: Value| changed(json!({"jwk": with(signer.jwk.clone(), &changes)}));
    assert!(changed(json!({"typ": "DPoP+JWT"})).is_ok());
    let named = ProofRules::default().algorithm_names().join(" ");
    let all = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA Ed25519";
    assert_eq!(named, all);
    assert!(key(json!({"use": "sig", "key_ops": ["verify"], "alg": "ES256", "kid": "a"})).is_ok());
    for typ in [
        json!(null),
        json!("JWT"),
        json!("at+jwt"),
        json!("application/dpop+jwt"),
        json!(1),
    ] {
        let told = changed(json!({ "typ": typ }));
        assert!(
            matches!(told, Err(ProofFault::Malformed(_))),
            "{typ}: {told:?}"
        );
    }
    for name in ["crit", "b64", "jku", "x5u", "x5c", "enc", "zip"] {
        let told = changed(json!({ name: "x" }));
        assert!(
            matches!(told, Err(ProofFault::Malformed(_))),
            "{name}: {told:?}"
        );
    }
    for algorithm in ["none", "None", "HS256", "ES512", "es256", ""] {
        let told = changed(json!({ "alg": algorithm }));
        assert_eq!(told, Err(ProofFault::Algorithm), "{algorithm}");
    }
    for jwk in [json!(null), json!("x"), json!([])] {
        let told = changed(json!({ "jwk": jwk }));
        assert!(
            matches!(told, Err(ProofFault::Malformed(_))),
            "{jwk}: {told:?}"
        );
    }
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert_eq!(
            key(json!({ private: "AA" })),
            Err(ProofFault::Key),
            "{private}"
        );
    }
    let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32])});
    assert_eq!(changed(json!({ "jwk": secret })), Err(ProofFault::Key));
    for changes in [
        json!({"kty": "oct"}),
        json!({"crv": "P-384"}),
        json!({"crv": "secp256k1"}),
        json!({"x": signer.jwk["y"]}),
        json!({"y": null}),
        json!({"x": format!("{}=", signer.jwk["x"].as_str().unwrap_or_default())}),
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"alg": "ES384"}),
    ] {
        assert_eq!(key(changes.clone()), Err(ProofFault::Key), "{changes}");
    }
    assert_eq!(changed(json!({"alg": "RS256"})), Err(ProofFault::Key));
    let stranger = Signer::new();
    let told = changed(json!({"jwk": stranger.jwk}));
    assert_eq!(told, Err(ProofFault::Signature));
}

#[test]
fn only_the_key_that_the_token_is_bound_to_will_do() {
    let (holder, stranger) = (Signer::new(), Signer::new());
    let request = request(Method::GET, "https://api.example/orders/1");
    let told = |signer: &Signer, key| {
        let proof = signer.sign(&signer.header().to_string(), &claims().to_string());
        let asked = Asked {
            token: TOKEN,
            request: &request,
            key,
        };
        Proof::judge(&proof, &asked, &ProofRules::default(), NOW).map(|proof| proof.key)
    };
    let key = told(&holder, None).expect("a good one");
    assert_eq!(told(&holder, Some(key)), Ok(key));
    assert_eq!(told(&stranger, Some(key)), Err(ProofFault::KeyWrong));
}

#[test]
fn an_algorithm_that_is_not_configured_is_refused() {
    let signer = Signer::new();
    let proof = signer.sign(&signer.header().to_string(), &claims().to_string());
    let rules = ProofRules {
        algorithms: vec![Algorithm::EdDSA, Algorithm::HS256],
        ..ProofRules::default()
    };
    assert_eq!(judge(&proof, &rules), Err(ProofFault::Algorithm));
}

#[test]
fn what_has_two_readings_or_no_bound_is_refused() {
    let signer = Signer::new();
    let (header, claims) = (signer.header().to_string(), claims().to_string());
    let twice = claims.replacen('{', "{\"jti\":\"2\",", 1);
    let twice_in_key = header.replacen("\"kty\":\"EC\"", "\"kty\":\"EC\",\"kty\":\"EC\"", 1);
    let nested = claims.replacen(
        '{',
        &format!("{{\"x\":{}{},", "[".repeat(20), "]".repeat(20)),
        1,
    );
    let long = claims.replacen('{', &format!("{{\"x\":\"{}\",", "y".repeat(8 * 1024)), 1);
    let good = signer.sign(&header, &claims);
    for proof in [
        signer.sign(&header, &twice),
        signer.sign(&twice_in_key, &claims),
        signer.sign(&header, &nested),
        signer.sign(&header, &long),
        signer.sign(&header, "[]"),
        signer.sign("7", &claims),
        format!("{good}="),
        format!("{good}.x"),
        format!(" {good}"),
        format!("{good},{good}"),
        good.replace('.', ""),
        String::new(),
    ] {
        let told = judge(&proof, &ProofRules::default());
        assert!(
            matches!(told, Err(ProofFault::Malformed(_))),
            "{proof}: {told:?}"
        );
    }
    // A byte of what is signed, or of the signature, changed to another letter.
    let mut changed = good.clone().into_bytes();
    let at = changed.len() - 20;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("letters");
    let told = judge(&changed, &ProofRules::default());
    assert_eq!(told, Err(ProofFault::Signature));
}
