//! Any bytes as a token, and as what an issuer signs.
//!
//! The fuzz target `token` and the replay of its corpus both ask it. What is let in, serde_json has to read in
//! the same way; nothing may panic.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::{
    Algorithm, ClaimMap, Issuer, IssuerRules, KeySource, KeyStore, KeyTimes, TokenLocation, examine,
};
use serde_json::Value;

const SECRET: [u8; 32] = [7; 32];

/// An issuer that shares a secret with whoever asks.
pub(crate) struct Oracle {
    issuers: Vec<Arc<Issuer>>,
}

impl Oracle {
    /// Its keys go through a file of this name.
    pub(crate) fn new(name: &str) -> Self {
        let hour = Duration::from_secs(3_600);
        let times = KeyTimes {
            refresh: hour,
            refetch: hour,
            outlive: hour,
        };
        let file = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let k = URL_SAFE_NO_PAD.encode(SECRET);
        let jwks = format!("{{\"keys\":[{{\"kty\":\"oct\",\"kid\":\"k\",\"k\":\"{k}\"}}]}}");
        std::fs::write(&file, jwks).expect("a file");
        let algorithms = vec![Algorithm::HS256];
        let keys = KeyStore::new(KeySource::File(file.clone()), algorithms.clone(), times);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let loaded = runtime.expect("a runtime").block_on(keys.refresh());
        loaded.expect("keys");
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
            issuers: vec![Arc::new(Issuer::new(rules, keys))],
        }
    }

    /// Whether the input, a header and claims with a zero byte between, is let in once it is signed.
    pub(crate) fn check(&self, input: &[u8]) -> bool {
        let token = String::from_utf8_lossy(input);
        assert!(
            examine(&token, &self.issuers, None).outcome.is_err(),
            "nobody signed it"
        );

        let mut parts = input.splitn(2, |byte| *byte == 0);
        let (header, claims) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let message = format!("{}.{}", part(header), part(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
        let signature = hmac::sign(&key, message.as_bytes());
        let token = format!("{message}.{}", part(signature.as_ref()));
        let Ok(holder) = examine(&token, &self.issuers, None).outcome else {
            return false;
        };
        let read = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
        let (header, claims) = (read(header), read(claims));
        assert_eq!(header["alg"], "HS256");
        for refused in ["crit", "b64", "jku", "jwk", "x5u", "x5c", "enc", "zip"] {
            assert!(header.get(refused).is_none(), "{refused}");
        }
        assert_eq!(claims["iss"], "https://issuer.example");
        assert_eq!(claims["sub"].as_str(), Some(holder.subject.as_str()));
        assert!(claims["exp"].is_u64());
        let is_ours = |audience: &Value| audience == "api";
        let audiences = claims["aud"].as_array();
        assert!(is_ours(&claims["aud"]) || audiences.is_some_and(|it| it.iter().any(is_ours)));
        true
    }
}
