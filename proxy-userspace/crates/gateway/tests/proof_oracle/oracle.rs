//! Any bytes as a proof, and as what the holder of a key signs.
//!
//! The fuzz target `proof` and the replay of its corpus both ask it. What is let in, serde_json has to read in
//! the same way; nothing may panic.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::{ProofFault, ProofRules, examine_proof};
use http::{Request, Version};
use policy::CanonicalRequest;
use serde_json::Value;

const SEED: [u8; 32] = [7; 32];
const TOKEN: &str = "a.b.c";
const NOW: u64 = 1_800_000_000;

/// Somebody with a key, and the request that he proves it for.
pub(crate) struct Oracle {
    key: Ed25519KeyPair,
    request: CanonicalRequest,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let builder = Request::builder().version(Version::HTTP_2);
        let message = builder.uri("https://api.example/orders/1?x=1").body(());
        let (parts, ()) = message.expect("a legal message").into_parts();
        Self {
            key: Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a key"),
            request: CanonicalRequest::from_parts(&parts).expect("one reading"),
        }
    }

    fn judge(&self, proof: &str) -> Result<[u8; 32], ProofFault> {
        examine_proof(proof, TOKEN, &self.request, &ProofRules::default(), NOW)
    }

    /// Whether the input, a header and claims with a zero byte between, is let in once it is signed.
    pub(crate) fn check(&self, input: &[u8]) -> bool {
        let proof = String::from_utf8_lossy(input);
        assert!(self.judge(&proof).is_err(), "nobody signed it");

        let mut parts = input.splitn(2, |byte| *byte == 0);
        let (header, claims) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(message.as_bytes());
        let Ok(thumbprint) = self.judge(&format!("{message}.{}", part(signature.as_ref()))) else {
            return false;
        };
        let read = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
        let (header, claims) = (read(header), read(claims));
        assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519");
        let x = part(self.key.public_key().as_ref());
        assert_eq!(header["jwk"]["x"].as_str(), Some(x.as_str()));
        let own = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        assert_eq!(digest(&SHA256, own.as_bytes()).as_ref(), thumbprint);
        for refused in ["crit", "b64", "jku", "x5u", "x5c", "enc", "zip"] {
            assert!(header.get(refused).is_none(), "{refused}");
        }
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(header["jwk"].get(private).is_none(), "{private}");
        }
        assert_eq!(claims["htm"], "GET");
        let url = claims["htu"].as_str().unwrap_or_default();
        let begin = url.get(..8).unwrap_or_default();
        assert!(begin.eq_ignore_ascii_case("https://"), "{url}");
        let host = url.get(8..19).unwrap_or_default();
        assert!(
            host.eq_ignore_ascii_case("api.example") || !url.is_ascii(),
            "{url}"
        );
        assert_eq!(
            claims["ath"],
            part(digest(&SHA256, TOKEN.as_bytes()).as_ref())
        );
        assert!(
            claims["iat"]
                .as_u64()
                .is_some_and(|iat| (NOW - 60..=NOW + 5).contains(&iat))
        );
        assert!(claims["jti"].as_str().is_some_and(|id| !id.is_empty()));
        true
    }
}
