//! [`JoinToken`]: what an operator carries from the controller to a new node.
//!
//! `isocast1.<id>.<secret>.<ca fingerprint>`, all three in hex. The secret proves the node to the
//! controller; the fingerprint proves the controller to the node, so that joining trusts nothing
//! on first use. The controller keeps only a hash of the secret.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A one-time permission to become a node.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Names the token; not secret.
    pub id: [u8; 8],
    /// Proves possession of the token.
    pub secret: [u8; 32],
    /// Of the CA that the controller must be vouched for by.
    pub ca: CaFingerprint,
}

/// BLAKE3 of a CA certificate in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaFingerprint([u8; 32]);

/// The text is not a join token.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a join token: expected isocast1.<id>.<secret>.<ca fingerprint>")]
pub struct JoinTokenError;

impl JoinToken {
    /// What the controller keeps of the secret. The secret has 256 random bits, so one round of a
    /// fast hash is enough.
    #[must_use]
    pub fn secret_hash(&self) -> blake3::Hash {
        blake3::hash(&self.secret)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.{}.{}.{}", Hex(&self.id), Hex(&self.secret), self.ca)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", Hex(&self.id))
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let &[VERSION, id, secret, ca] = parts.as_slice() else { return Err(JoinTokenError) };
        let parsed = (from_hex(id), from_hex(secret), from_hex(ca));
        let (Some(id), Some(secret), Some(ca)) = parsed else { return Err(JoinTokenError) };
        Ok(Self { id, secret, ca: CaFingerprint(ca) })
    }
}

impl CaFingerprint {
    /// Fingerprint of a certificate.
    #[must_use]
    pub fn of(ca_der: &[u8]) -> Self {
        Self(*blake3::hash(ca_der).as_bytes())
    }
}

impl fmt::Display for CaFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let (pairs, []) = digits.as_deref()?.as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).ok()).collect();
    bytes?.try_into().ok()
}

const VERSION: &str = "isocast1";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken { id: [0xab; 8], secret: [0x01; 32], ca: CaFingerprint::of(b"a certificate") }
    }

    #[test]
    fn a_token_survives_its_text_form_and_stray_white_space() {
        let text = format!("{}\n", token());

        assert_eq!(text.parse(), Ok(token()));
    }

    #[test]
    fn debug_output_hides_the_secret() {
        assert_eq!(format!("{:?}", token()), "JoinToken(abababababababab)");
    }

    #[test]
    fn other_versions_missing_parts_and_bad_digits_are_refused() {
        let good = token().to_string();
        let too_short = good.get(..good.len() - 2).unwrap();
        let bad = ["", "isocast1", "isocast1...", &good.replace("isocast1", "isocast2"), too_short];

        for text in bad.iter().copied().chain([good.replace("ab", "xy").as_str()]) {
            assert_eq!(text.parse::<JoinToken>(), Err(JoinTokenError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _refused = text.parse::<JoinToken>().is_err();
        }
    }
}
