//! TLS of the channel, agent side: TLS 1.3, one trusted CA known by its fingerprint, one fixed name
//! of the controller, whatever address it is reached by.
//!
//! The same rule holds for joining, where the join token carries the fingerprint, and afterwards,
//! where the identity does: nothing is trusted on first use, and no public CA ever.

use std::{sync::Arc, time::Duration};

use isocast_api::agent::{
    ALPN_ENROLL, ALPN_SESSION, CONTROLLER_NAME, CaFingerprint, IDLE_MS, LOCAL_REQUESTS_MAX,
};
use quinn::{IdleTimeout, TransportConfig, VarInt, crypto::rustls::QuicClientConfig};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::identity::Identity;

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose<'a> {
    /// Getting a first certificate.
    Join(CaFingerprint),
    /// Getting the next certificate.
    Renew(&'a Identity),
    /// Configuration and status.
    Session(&'a Identity),
}

/// The configuration of one connection.
///
/// # Errors
/// The identity's key and certificate do not belong together.
pub(super) fn client_config(purpose: Purpose<'_>) -> Result<quinn::ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let (ca, identity, alpn) = match purpose {
        Purpose::Join(ca) => (ca, None, ALPN_ENROLL),
        Purpose::Renew(identity) => (identity.ca(), Some(identity), ALPN_ENROLL),
        Purpose::Session(identity) => (identity.ca(), Some(identity), ALPN_SESSION),
    };
    let verifier = PinnedCa { ca, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled(); // each connection is verified in full
    let quic = QuicClientConfig::try_from(config).map_err(|error| Error::Other(other(error)))?;
    let mut config = quinn::ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        // The controller asks questions, and opens no other streams.
        .max_concurrent_bidi_streams(VarInt::from_u32(LOCAL_REQUESTS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> rustls::OtherError {
    rustls::OtherError(Arc::new(error))
}

/// Accepts a server whose chain ends in the one CA with the right fingerprint.
#[derive(Debug)]
struct PinnedCa {
    ca: CaFingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|ca| CaFingerprint::of(ca) == self.ca);
        let Some(ca) = pinned else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::Other(other(error)))?;
        let name =
            ServerName::try_from(CONTROLLER_NAME).map_err(|error| Error::Other(other(error)))?;
        verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A controller that is just starting hears the next attempt to greet it soon.
const INITIAL_RTT: Duration = Duration::from_millis(100);
