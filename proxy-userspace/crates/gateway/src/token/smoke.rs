//! The reader of tokens against what it was not written for: a good token, changed in any way, is never good
//! again, stops nothing, and costs next to nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Algorithm, ClaimMap, Issuer, IssuerRules, KeySource, KeyStore, KeyTimes, Passed, TokenFault,
    TokenLocation, examine,
};

/// What no input may take; twenty times that where nothing is optimised.
const LONGEST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 20 } else { 1 });

struct Rig {
    key: EcdsaKeyPair,
    issuers: Vec<Arc<Issuer>>,
}

impl Rig {
    async fn set(name: &str) -> Self {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng);
        let pkcs8 = pkcs8.expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref());
        let key = key.expect("a key");
        let point = key.public_key().as_ref();
        let (x, y) = (
            URL_SAFE_NO_PAD.encode(&point[1..33]),
            URL_SAFE_NO_PAD.encode(&point[33..]),
        );
        let jwks =
            format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#);
        let name = format!("portcullis-smoke-{}-{name}", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, jwks).expect("a file");
        let hour = Duration::from_secs(3_600);
        let times = KeyTimes {
            refresh: hour,
            refetch: hour,
            outlive: hour,
        };
        let algorithms = vec![Algorithm::ES256];
        let keys = KeyStore::new(KeySource::File(file.clone()), algorithms.clone(), times);
        keys.refresh().await.expect("keys");
        let _ = std::fs::remove_file(file);
        let rules = IssuerRules {
            name: "main".to_owned(),
            issuer: "https://issuer.example".to_owned(),
            audiences: ["api".to_owned()].into(),
            algorithms,
            leeway: Duration::ZERO,
            required: Vec::new(),
            claims: ClaimMap::default(),
            location: TokenLocation::Authorization,
            development: false,
        };
        Self {
            key,
            issuers: vec![Arc::new(Issuer::new(rules, keys))],
        }
    }

    fn sign(&self, header: &[u8], claims: &[u8]) -> String {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        format!(
            "{message}.{}",
            part(signature.expect("a signature").as_ref())
        )
    }

    /// Judges, and sees how long that takes: at best, for the machine has other things to do.
    fn judge(&self, token: &str) -> Result<(), TokenFault> {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            let outcome = examine(token, &self.issuers, &mut Passed::default());
            best = best.min(began.elapsed());
            if best <= LONGEST {
                return outcome.map(|_| ());
            }
        }
        panic!("{best:?} for {token}");
    }
}

const HEADER: &[u8] = br#"{"alg":"ES256","typ":"JWT","kid":"k"}"#;
const CLAIMS: &[u8] = br#"{"iss":"https://issuer.example","aud":["a","api"],"sub":"alice","exp":4102444800,"nbf":1,"iat":2,"jti":"7","scope":"a b","cnf":{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}"#;

/// xorshift64: the same inputs at each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).unwrap_or(0)
    }

    /// What breaks readers of JSON and base64url.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        const PIECES: [&[u8]; 16] = [
            b"\"",
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b".",
            b"=",
            b"\\u0000",
            b"\xff",
            b"-1",
            b"1e9",
            b"null",
            b"\"alg\":\"none\",",
        ];
        let at = self.below(bytes.len() + 1);
        match self.below(4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            2 => {
                let end = (at + self.below(24)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let piece = PIECES[self.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_was_changed_is_never_good_again() {
    let rig = Rig::set("changed").await;
    let good = rig.sign(HEADER, CLAIMS);
    assert_eq!(rig.judge(&good), Ok(()));
    let mut chance = Chance(0x5eed);
    for _ in 0..20_000 {
        let mut changed = good.clone().into_bytes();
        for _ in 0..=chance.below(3) {
            chance.change(&mut changed);
        }
        let changed = String::from_utf8_lossy(&changed).into_owned();
        if changed != good {
            assert!(rig.judge(&changed).is_err(), "{changed}");
        }
    }
}

/// The issuer itself may sign what can be read in two ways; whatever is let in says the same to serde_json.
#[tokio::test]
async fn what_is_signed_and_accepted_is_read_as_others_read_it() {
    let rig = Rig::set("signed").await;
    let mut chance = Chance(0xca5e);
    let mut accepted = 0;
    for _ in 0..6_000 {
        let (mut header, mut claims) = (HEADER.to_vec(), CLAIMS.to_vec());
        for _ in 0..=chance.below(2) {
            let part = if chance.below(4) == 0 {
                &mut header
            } else {
                &mut claims
            };
            chance.change(part);
        }
        if rig.judge(&rig.sign(&header, &claims)).is_ok() {
            accepted += 1;
            let read = |bytes: &[u8]| -> serde_json::Value {
                serde_json::from_slice(bytes).expect("whoever reads it can")
            };
            let (header, claims) = (read(&header), read(&claims));
            assert_eq!(header["alg"], "ES256");
            assert_eq!(claims["iss"], "https://issuer.example");
            assert!(claims["exp"].as_u64().is_some_and(|exp| exp > 4_000_000));
            assert!(claims["sub"].as_str().is_some_and(|sub| !sub.is_empty()));
        }
    }
    assert!(
        accepted > 100,
        "changes that mean nothing are among them: {accepted}"
    );
}

#[tokio::test]
async fn the_worst_that_fits_takes_no_time() {
    let rig = Rig::set("worst").await;
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = String::from_utf8_lossy(HEADER).into_owned();
    let many: Vec<String> = (0..600).map(|n| format!("\"{n:04}\":0")).collect();
    let lists = format!("{{\"a\":[{}0]}}", "[],".repeat(1_900));
    let escapes = format!("{{\"a\":\"{}\"}}", "\\u0041".repeat(1_000));
    let number = format!("{{\"exp\":{}}}", "9".repeat(6_000));
    let exponent = "{\"exp\":1e-999999999999999999999}".to_owned();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(3_000), "]".repeat(3_000));
    for claims in [
        format!("{{{}}}", many.join(",")),
        lists,
        escapes,
        number,
        exponent,
        deep,
        "\"".repeat(6_000),
        "{".repeat(6_000),
    ] {
        let token = format!("{}.{}.AAAA", part(&header), part(&claims));
        assert!(token.len() <= 8 * 1024, "{}", token.len());
        assert!(rig.judge(&token).is_err());
    }
    for token in [
        ".".repeat(8 * 1024),
        "A".repeat(8 * 1024),
        "e".repeat(1 << 20),
        String::new(),
    ] {
        assert!(rig.judge(&token).is_err());
    }
}
