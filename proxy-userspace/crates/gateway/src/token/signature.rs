//! Signatures over tokens (RFC 7518, 3; RFC 8037). A key is parsed once, not at every token.

use std::fmt;

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
        RsaParameters, RsaPublicKeyComponents,
    },
};

/// How a token is signed. There is no `none`, and no name that isn't written exactly so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256: whoever can verify can issue.
    HS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// All that are known.
    pub const ALL: [Self; 10] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
        Self::HS256,
    ];

    /// As `alg` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The one of this very name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::RS256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::RS384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::RS512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::PS256 => &RSA_PSS_2048_8192_SHA256,
            Self::PS384 => &RSA_PSS_2048_8192_SHA384,
            Self::PS512 => &RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key, ready to verify signatures of one algorithm.
#[derive(Debug)]
pub(crate) enum Verifier {
    Public(ParsedPublicKey),
    Shared(Box<hmac::Key>),
}

impl Verifier {
    /// Of an RSA key: modulus and exponent, without leading zeros.
    pub(crate) fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Option<Self> {
        let key = RsaPublicKeyComponents { n, e };
        let key = key.to_parsed_public_key(algorithm.rsa()?).ok()?;
        Some(Self::Public(key))
    }

    /// Of a point on a curve, uncompressed, or of an Ed25519 key. A point that isn't on the curve is none.
    pub(crate) fn point(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        let key = match algorithm {
            Algorithm::ES256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key),
            Algorithm::ES384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key),
            Algorithm::EdDSA => ParsedPublicKey::new(&ED25519, key),
            _ => return None,
        };
        key.ok().map(Self::Public)
    }

    /// Of a shared secret.
    pub(crate) fn shared(secret: &[u8]) -> Self {
        Self::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Whether the signature is this key's over the message.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
            Self::Shared(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}
