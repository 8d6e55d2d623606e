//! [`Identity`]: who this node is to the controller, and until when.
//!
//! One file holds the key, the certificate and the CA, so that no crash leaves a key without its
//! certificate. The key never leaves the node: the controller sees a certificate request only.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use isocast_api::agent::{CaFingerprint, NODE_URI_PREFIX};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
    pem::{self, PemObject},
};
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::state_dir::{StateDir, StateDirError};

/// A node's key, its certificate, and the CA that vouches for the controller.
pub struct Identity {
    node: String,
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
    ca: CertificateDer<'static>,
    validity: Validity,
}

/// When a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: SystemTime,
    /// Last moment.
    pub not_after: SystemTime,
}

/// Why an identity cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A part of the file is missing or malformed.
    #[error("the identity is malformed: {0}")]
    Malformed(String),
    /// The folder belongs to another node.
    #[error("the state folder holds the identity of node {found:?}, not of {expected:?}")]
    OtherNode {
        /// The node it belongs to.
        found: String,
        /// The node that this agent is to be.
        expected: String,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    State(#[from] StateDirError),
}

impl Identity {
    /// Reads the identity of `node`, if it has joined.
    ///
    /// # Errors
    /// The file cannot be read, is malformed, or belongs to another node.
    pub fn load(dir: &StateDir, node: &str) -> Result<Option<Self>, IdentityError> {
        let Some(content) = dir.read(FILE, BYTES_MAX)? else { return Ok(None) };
        let malformed = |error: pem::Error| IdentityError::Malformed(error.to_string());
        let key = PrivatePkcs8KeyDer::from_pem_slice(&content).map_err(malformed)?;
        let mut certificates = CertificateDer::pem_slice_iter(&content);
        let mut next = || certificates.next().transpose().map_err(malformed);
        let (Some(certificate), Some(ca)) = (next()?, next()?) else {
            return Err(IdentityError::Malformed("a certificate is missing".into()));
        };
        let identity = Self::new(key, certificate, ca)?;
        if identity.node != node {
            let expected = node.to_owned();
            return Err(IdentityError::OtherNode { found: identity.node, expected });
        }
        Ok(Some(identity))
    }

    /// Writes the identity, replacing an earlier one.
    ///
    /// # Errors
    /// The file cannot be written; the earlier identity is as it was.
    pub fn save(&self, dir: &StateDir) -> Result<(), IdentityError> {
        let blocks = [
            ("PRIVATE KEY", self.key.secret_pkcs8_der()),
            ("CERTIFICATE", self.certificate.as_ref()),
            ("CERTIFICATE", self.ca.as_ref()),
        ];
        let content: String = blocks
            .into_iter()
            .map(|(label, der)| ::pem::encode(&::pem::Pem::new(label, der)))
            .collect();
        Ok(dir.replace(FILE, content.as_bytes())?)
    }

    /// Puts together what enrolment brought.
    ///
    /// # Errors
    /// The certificate is malformed or names no node.
    pub fn new(
        key: PrivatePkcs8KeyDer<'static>,
        certificate: CertificateDer<'static>,
        ca: CertificateDer<'static>,
    ) -> Result<Self, IdentityError> {
        let (node, validity) = inspect(&certificate).map_err(IdentityError::Malformed)?;
        Ok(Self { node, key, certificate, ca, validity })
    }

    /// The node's name, as the certificate states it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Fingerprint of the CA that vouches for the controller.
    #[must_use]
    pub fn ca(&self) -> CaFingerprint {
        CaFingerprint::of(&self.ca)
    }

    /// When the certificate holds.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The certificate chain to present.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("node", &self.node)
            .field("ca", &self.ca())
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl Validity {
    /// When to renew: at two thirds of the certificate's life, so that a third is left for a
    /// controller that is away.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life / 3 * 2
    }

    /// Whether the certificate no longer holds.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }
}

/// The key of a certificate request that may not have been answered yet.
///
/// It is kept from before the first attempt until the certificate is there: the controller honours
/// a join token twice for the same key, so a response that is lost on the way costs nothing.
#[derive(Debug)]
pub(super) struct PendingKey(KeyPair);

impl PendingKey {
    /// The key of an earlier attempt, or a new one.
    ///
    /// # Errors
    /// The key cannot be made, read or written.
    pub(super) fn load_or_generate(dir: &StateDir) -> Result<Self, IdentityError> {
        let earlier = dir
            .read(FILE_PENDING, BYTES_MAX)?
            .and_then(|content| String::from_utf8(content).ok())
            .and_then(|text| KeyPair::from_pem(&text).ok());
        if let Some(key) = earlier {
            return Ok(Self(key));
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
        dir.replace(FILE_PENDING, key.serialize_pem().as_bytes())?;
        Ok(Self(key))
    }

    /// A certificate request in DER. The controller takes the public key from it, nothing else.
    ///
    /// # Errors
    /// The request cannot be signed.
    pub(super) fn request(&self, node: &str) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, node);
        Ok(params.serialize_request(&self.0).map_err(crypto)?.der().to_vec())
    }

    /// The key, to go with its certificate.
    #[must_use]
    pub(super) fn to_pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der())
    }

    /// Forgets the key: its certificate has been saved with it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn forget(dir: &StateDir) -> Result<(), IdentityError> {
        Ok(dir.remove(FILE_PENDING)?)
    }
}

fn inspect(certificate: &[u8]) -> Result<(String, Validity), String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let uris = names.iter().flat_map(|names| &names.value.general_names);
    let mut nodes = uris.filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(NODE_URI_PREFIX),
        _ => None,
    });
    let node = nodes.next().ok_or("the certificate names no node")?.to_owned();
    let moment = |time: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    };
    let not_before = moment(parsed.validity().not_before);
    let not_after = moment(parsed.validity().not_after);
    Ok((node, Validity { not_before, not_after }))
}

fn crypto(error: rcgen::Error) -> IdentityError {
    IdentityError::Malformed(error.to_string())
}

const FILE: &str = "identity.pem";

const FILE_PENDING: &str = "identity-pending.pem";

const BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use rcgen::SanType;

    use super::*;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        (folder, state)
    }

    fn identity(uri: &str) -> Result<Identity, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let pkcs8 = PrivatePkcs8KeyDer::from(key.serialize_der());
        Identity::new(pkcs8, certificate.clone(), certificate)
    }

    #[test]
    fn an_identity_survives_the_disk() {
        let (_folder, dir) = dir();
        let saved = identity("spiffe://isocast/node/edge-1").unwrap();
        assert!(Identity::load(&dir, "edge-1").unwrap().is_none());

        saved.save(&dir).unwrap();

        let loaded = Identity::load(&dir, "edge-1").unwrap().unwrap();
        assert_eq!((loaded.node(), loaded.ca()), ("edge-1", saved.ca()));
        assert_eq!(loaded.key(), saved.key());
        assert_eq!(loaded.validity(), saved.validity());
    }

    #[test]
    fn the_folder_of_another_node_is_refused() {
        let (_folder, dir) = dir();
        identity("spiffe://isocast/node/edge-1").unwrap().save(&dir).unwrap();

        let refused = Identity::load(&dir, "edge-2").unwrap_err();

        assert!(refused.to_string().contains("identity of node \"edge-1\""), "{refused}");
    }

    #[test]
    fn a_certificate_that_names_no_node_is_refused() {
        assert!(identity("spiffe://isocast/user/root").is_err());
    }

    #[test]
    fn a_torn_file_is_an_error_and_not_a_new_node() {
        let (_folder, dir) = dir();
        identity("spiffe://isocast/node/edge-1").unwrap().save(&dir).unwrap();
        let whole = dir.read(FILE, BYTES_MAX).unwrap().unwrap();

        dir.replace(FILE, &whole[..whole.len() / 2]).unwrap();

        assert!(matches!(Identity::load(&dir, "edge-1"), Err(IdentityError::Malformed(_))));
    }

    #[test]
    fn renewal_is_due_at_two_thirds_of_the_life() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let validity = Validity { not_before: at(1000), not_after: at(4000) };

        assert_eq!(validity.renew_at(), at(3000));
        assert!(!validity.is_expired(at(4000)));
        assert!(validity.is_expired(at(4001)));
    }

    #[test]
    fn an_unanswered_request_keeps_its_key_until_it_is_forgotten() {
        let (_folder, dir) = dir();
        let first = PendingKey::load_or_generate(&dir).unwrap();
        let again = PendingKey::load_or_generate(&dir).unwrap();
        assert_eq!(first.to_pkcs8(), again.to_pkcs8());

        PendingKey::forget(&dir).unwrap();

        let next = PendingKey::load_or_generate(&dir).unwrap();
        assert_ne!(first.to_pkcs8(), next.to_pkcs8());
    }
}
