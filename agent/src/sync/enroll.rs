//! Enrolment: one request on a connection of its own, one response, a certificate.

use std::net::SocketAddr;

use isocast_api::agent::{
    CaFingerprint, ENROLL_BYTES_MAX, EnrollRequest, EnrollResponse, FrameDecoder, JoinToken, frame,
};
use rustls_pki_types::CertificateDer;

use super::{
    dial::dial,
    error::LinkError,
    identity::{Identity, PendingKey},
    state_dir::StateDir,
    tls::Purpose,
};

/// What entitles a node to a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Credential<'a> {
    /// A one-time token, for the first one.
    Join(&'a JoinToken),
    /// The current certificate, or one that has expired not long ago, for the next one.
    Renew(&'a Identity),
}

/// Gets a certificate for `node` from the controller at `address`, and saves it.
pub(super) async fn enroll(
    address: SocketAddr,
    dir: &StateDir,
    node: &str,
    credential: Credential<'_>,
) -> Result<Identity, LinkError> {
    let key = PendingKey::load_or_generate(dir)?;
    let (purpose, join_token) = match credential {
        Credential::Join(token) => (Purpose::Join(token.ca), token.to_string()),
        Credential::Renew(identity) => (Purpose::Renew(identity), String::new()),
    };
    let request = EnrollRequest { node: node.to_owned(), join_token, csr_der: key.request(node)? };
    let response = exchange(address, purpose, &request).await?;
    if !response.error_reason.is_empty() {
        let EnrollResponse { error_reason, error_message, .. } = response;
        return Err(LinkError::Refused { reason: error_reason, message: error_message });
    }

    let ca = match credential {
        Credential::Join(token) => token.ca,
        Credential::Renew(identity) => identity.ca(),
    };
    let identity = open(response, &key, ca)?;
    identity.save(dir)?;
    PendingKey::forget(dir)?;
    Ok(identity)
}

async fn exchange(
    address: SocketAddr,
    purpose: Purpose<'_>,
    request: &EnrollRequest,
) -> Result<EnrollResponse, LinkError> {
    let dialed = dial(address, purpose).await?;
    let (mut send, mut receive) = dialed.connection.open_bi().await?;
    send.write_all(&frame(request)).await?;
    let mut decoder = FrameDecoder::new(ENROLL_BYTES_MAX);
    let response = loop {
        if let Some(response) = decoder.take()? {
            break response;
        }
        let Some(chunk) = receive.read_chunk(ENROLL_BYTES_MAX, true).await? else {
            return Err(LinkError::Ended);
        };
        decoder.push(&chunk.bytes);
    };
    dialed.close().await;
    Ok(response)
}

fn open(
    response: EnrollResponse,
    key: &PendingKey,
    expected: CaFingerprint,
) -> Result<Identity, LinkError> {
    let ca = CertificateDer::from(response.ca_der);
    if CaFingerprint::of(&ca) != expected {
        return Err(LinkError::OtherCa { expected });
    }
    let certificate = response.chain_der.into_iter().next().ok_or(LinkError::Ended)?;
    Ok(Identity::new(key.to_pkcs8(), CertificateDer::from(certificate), ca)?)
}
