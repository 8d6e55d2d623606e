//! The private key of a client as SEC 1 has it (RFC 5915): `EC PRIVATE KEY`.
//!
//! Some clients of Kubernetes (fabric8's, in Java) tell what a key is by the label of its PEM, and take
//! what PKCS#8 labels `PRIVATE KEY` for RSA. All of them read this.

use pem::{EncodeConfig, LineEnding, Pem, encode_config};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

/// `pair` in PEM; as PKCS#8 if it is of another kind.
pub(super) fn serialize(pair: &KeyPair) -> String {
    let is_p256 = *pair.algorithm() == PKCS_ECDSA_P256_SHA256;
    let der = if is_p256 { of_pkcs8(pair.serialized_der()) } else { None };
    der.map_or_else(
        || pair.serialize_pem(),
        |der| {
            let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
            encode_config(&Pem::new("EC PRIVATE KEY", der), lines)
        },
    )
}

/// PKCS#8 ends with the same structure, but leaves out the curve, which it names itself.
fn of_pkcs8(der: &[u8]) -> Option<Vec<u8>> {
    let (_, inner) = der.split_at_checked(der.len().checked_sub(INNER_LEN)?)?;
    let rest = inner.strip_prefix(&INNER_BEGIN)?;
    let (private, public) = rest.split_at_checked(PRIVATE_LEN)?;
    Some([&BEGIN[..], private, &CURVE, public].concat())
}

/// A sequence of so many bytes, version 1, an octet string of 32 bytes.
const INNER_BEGIN: [u8; 7] = [0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20];
const BEGIN: [u8; 7] = [0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
const PRIVATE_LEN: usize = 32;
/// With the public key, tagged: a bit string of 65 bytes.
const INNER_LEN: usize = INNER_BEGIN.len() + PRIVATE_LEN + 70;
/// secp256r1, tagged.
const CURVE: [u8; 12] = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

#[cfg(test)]
mod tests {
    use rustls_pki_types::{PrivateKeyDer, pem::PemObject};

    use super::*;

    #[test]
    fn the_key_is_the_same_in_either_form() {
        let pair = KeyPair::generate().expect("a key");

        let text = serialize(&pair);

        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).expect("PEM");
        assert!(matches!(key, PrivateKeyDer::Sec1(_)), "{key:?}");
        let signer = rustls::crypto::ring::sign::any_ecdsa_type(&key).expect("a key of this kind");
        let public = signer.public_key().expect("a public key");
        assert_eq!(public.as_ref(), rcgen::PublicKeyData::subject_public_key_info(&pair));
    }
}
