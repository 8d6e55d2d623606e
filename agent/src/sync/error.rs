//! [`LinkError`]: why the agent is not in touch with its controller, in words for the operator.

use std::{io, path::PathBuf};

use isocast_api::agent::{CaFingerprint, CloseCode, FrameError, JoinTokenError};
use quinn::{ConnectionError, ReadError, TransportErrorCode, WriteError};
use thiserror::Error;

use super::identity::IdentityError;

/// Why a connection could not be made or did not last.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The controller does not accept this node's certificate.
    #[error(
        "the controller does not accept this node's certificate: it is of another CA, or expired \
         long ago; to join anew, remove identity.pem from the state folder and give a join token"
    )]
    CertificateRefused,
    /// The controller closed the connection and said why.
    #[error("the controller closed the connection: {0}")]
    Closed(CloseCode),
    /// The transport failed.
    #[error("cannot talk to the controller: {0}")]
    Connection(ConnectionError),
    /// A stream ended in the middle.
    #[error("the controller ended the stream")]
    Ended,
    /// A message is malformed.
    #[error("the controller sent what cannot be read: {0}")]
    Frame(#[from] FrameError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The socket cannot be made.
    #[error("cannot open a socket: {0}")]
    Io(#[from] io::Error),
    /// This node has not joined, and has no token to do so.
    #[error("this node has not joined yet: a join token is needed (isocast node token {node})")]
    NotJoined {
        /// This node.
        node: String,
    },
    /// The controller is vouched for by another CA than the one this node knows.
    #[error(
        "the controller is not the one this node knows: its CA does not have the fingerprint \
         {expected}"
    )]
    OtherCa {
        /// Of the CA that this node knows.
        expected: CaFingerprint,
    },
    /// The controller refused to issue a certificate.
    #[error("the controller refused: {reason}: {message}")]
    Refused {
        /// A word for programs.
        reason: String,
        /// A sentence for people.
        message: String,
    },
    /// The controller's name has no address.
    #[error("cannot resolve {controller}: {source}")]
    Resolve {
        /// The name and port.
        controller: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Some exchange took too long.
    #[error("the controller did not answer in time")]
    Timeout,
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The join token cannot be read.
    #[error("cannot read the join token in {path}: {source}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The join token is malformed.
    #[error("{path}: {source}")]
    TokenText {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: JoinTokenError,
    },
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        if let ConnectionError::ApplicationClosed(close) = &error
            && let Some(code) = CloseCode::from_code(close.error_code.into_inner())
        {
            return Self::Closed(code);
        }
        // RFC 9001 §4.8, RFC 8446 §6: the alert is the low byte of the code.
        let refusals = [ALERT_CERTIFICATE_EXPIRED, ALERT_UNKNOWN_CA, ALERT_DECRYPT_ERROR]
            .map(TransportErrorCode::crypto);
        match error {
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                Self::Closed(CloseCode::Overloaded)
            }
            ConnectionError::ConnectionClosed(close) if refusals.contains(&close.error_code) => {
                Self::CertificateRefused
            }
            error => Self::Connection(error),
        }
    }
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            _ => Self::Ended,
        }
    }
}

impl From<WriteError> for LinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            _ => Self::Ended,
        }
    }
}

const ALERT_CERTIFICATE_EXPIRED: u8 = 45;

const ALERT_UNKNOWN_CA: u8 = 48;

/// Of a certificate that names our controller's CA and is signed by another one.
const ALERT_DECRYPT_ERROR: u8 = 51;
