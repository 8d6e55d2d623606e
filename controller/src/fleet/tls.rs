//! TLS of the channel, controller side: TLS 1.3, client certificates of our own authority only.
//!
//! A certificate that has expired, but not long ago, passes the handshake: what its bearer may do
//! with it, which is to renew it and nothing else, is decided by [`Peer`]. A client without any
//! certificate passes too, and may join.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use isocast_api::agent::{ALPN_ENROLL, ALPN_SESSION, CONTROLLER_NAME, IDLE_MS};
use quinn::{Connection, IdleTimeout, TransportConfig, VarInt, crypto::rustls as quinn_tls};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::ring,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error as ThisError;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{limits::RENEWAL_GRACE, tokens::NodeRef};
use crate::{
    authz::Identity,
    pki::{self, Pki, PkiError},
};

/// Why the channel's TLS cannot be set up.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum TlsError {
    /// The server's certificate cannot be issued.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS refuses its configuration.
    #[error("TLS: {0}")]
    Tls(#[from] Error),
}

/// Who is at the other end of a connection, and what for.
#[derive(Debug)]
pub(super) enum Peer {
    /// It wants a certificate; if it has one, or had one until recently, it is of this node.
    Enroll(Option<NodeRef>),
    /// It wants configuration, and its certificate holds until then.
    Session(NodeRef, SystemTime),
}

/// Why a peer may not even speak.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PeerError {
    /// Its certificate is over; it may be renewed.
    Expired,
    /// Its certificate is of no node.
    NotANode,
    /// It has no certificate.
    Missing,
}

/// The configuration of the listening side.
pub(super) fn server_config(pki: &Pki, now: SystemTime) -> Result<quinn::ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(pki.roots());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(other)?;
    let credential = pki.issue_server(&[CONTROLLER_NAME.to_owned()], now)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(WithGrace(verifier)))
        .with_single_cert(credential.chain, credential.key)?;
    config.alpn_protocols = vec![ALPN_SESSION.to_vec(), ALPN_ENROLL.to_vec()];
    config.send_tls13_tickets = 0; // each connection is verified in full
    let quic = quinn_tls::QuicServerConfig::try_from(config).map_err(other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(quic));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        // Configuration or enrolment, and status.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .datagram_receive_buffer_size(None);
    transport
}

impl Peer {
    /// Reads the handshake of an established connection.
    pub(super) fn of(connection: &Connection, now: SystemTime) -> Result<Self, PeerError> {
        let protocol = connection
            .handshake_data()
            .and_then(|data| data.downcast::<quinn_tls::HandshakeData>().ok())
            .and_then(|data| data.protocol);
        let chain = connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        let bearer = leaf.map(|leaf| bearer(leaf).ok_or(PeerError::NotANode)).transpose()?;
        if protocol.as_deref() == Some(ALPN_ENROLL) {
            return Ok(Self::Enroll(bearer.map(|(node, _)| node)));
        }
        match bearer {
            None => Err(PeerError::Missing),
            Some((_, not_after)) if not_after < now => Err(PeerError::Expired),
            Some((node, not_after)) => Ok(Self::Session(node, not_after)),
        }
    }
}

/// The node that a certificate names, and its last moment.
fn bearer(certificate: &CertificateDer<'_>) -> Option<(NodeRef, SystemTime)> {
    let Some(Identity::Node { name }) = pki::identity(certificate) else { return None };
    let uid = pki::object_uid(certificate)?;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Some((NodeRef { name: name.to_string(), uid }, not_after))
}

/// Verifies as of its last moment a certificate that expired within the grace.
#[derive(Debug)]
struct WithGrace(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for WithGrace {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refusal = match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(refusal) => refusal,
            verified => return verified,
        };
        let not_after = match &refusal {
            Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
                *not_after
            }
            _ => return Err(refusal),
        };
        if now.as_secs().saturating_sub(not_after.as_secs()) > RENEWAL_GRACE.as_secs() {
            return Err(refusal);
        }
        self.0.verify_client_cert(end_entity, intermediates, not_after)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(rustls::OtherError(Arc::new(error)))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Bench {
        pki: Pki,
        verifier: WithGrace,
        now: SystemTime,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let now = SystemTime::now();
            let pki = Pki::open(folder.path(), now - 2 * RENEWAL_GRACE).unwrap();
            let provider = Arc::new(ring::default_provider());
            let roots = Arc::new(pki.roots());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            Self { pki, verifier: WithGrace(verifier), now, _folder: folder }
        }

        /// Verifies a certificate that ended so long ago.
        fn verify(&self, ended_ago: Duration) -> Result<ClientCertVerified, Error> {
            let key = KeyPair::generate().unwrap();
            let request = CertificateParams::default().serialize_request(&key).unwrap();
            let life = Duration::from_secs(3600);
            let issued = self.now - ended_ago - life;
            let chain = self.pki.issue_node(request.der(), "a", "uid", life, issued).unwrap();
            let now = UnixTime::since_unix_epoch(
                self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap(),
            );
            self.verifier.verify_client_cert(&chain[0], &chain[1..], now)
        }
    }

    #[test]
    fn a_certificate_that_expired_within_the_grace_passes_the_handshake() {
        let bench = Bench::new();

        assert!(bench.verify(Duration::from_secs(60)).is_ok());
        assert!(bench.verify(RENEWAL_GRACE - Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn a_certificate_that_expired_before_the_grace_does_not() {
        let bench = Bench::new();

        let refusal = bench.verify(RENEWAL_GRACE + Duration::from_secs(60)).unwrap_err();

        assert!(refusal.to_string().contains("expired"), "{refusal}");
    }
}
