//! What both ends of the control channel agree on besides the messages: names, limits, and why a
//! connection was closed.

use thiserror::Error;

/// ALPN of a node's session: configuration down, status up. Needs a client certificate.
pub const ALPN_SESSION: &[u8] = b"isocast-agent/1";

/// ALPN of enrolment: one request, one response. A client certificate is needed for renewal only.
pub const ALPN_ENROLL: &[u8] = b"isocast-enroll/1";

/// The name in the controller's certificate, whatever address an agent reaches it by.
pub const CONTROLLER_NAME: &str = "controller.isocast.internal";

/// Largest message from controller to agent: a snapshot of some 100,000 entries.
pub const CONFIGURATION_BYTES_MAX: usize = 32 << 20;

/// Largest message from agent to controller: the status of some 10,000 services.
pub const STATUS_BYTES_MAX: usize = 8 << 20;

/// Largest enrolment message, either way: a certificate request, or a chain.
pub const ENROLL_BYTES_MAX: usize = 16 << 10;

/// Largest question to a node's local API: path, query and body.
pub const LOCAL_REQUEST_BYTES_MAX: usize = super::local::POST_BYTES_MAX + (8 << 10);

/// Largest answer of a node's local API that is passed on.
pub const LOCAL_RESPONSE_BYTES_MAX: usize = 8 << 20;

/// Questions that a node answers at a time.
pub const LOCAL_REQUESTS_MAX: u32 = 4;

/// The URI in a node's certificate is this, then the node's name.
pub const NODE_URI_PREFIX: &str = "spiffe://isocast/node/";

/// A connection on which nothing was heard for so long is over, at either end; the agent keeps it
/// alive well within.
pub const IDLE_MS: u32 = 5_000;

/// Why an end closed a connection: the QUIC application error code.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCode {
    /// The certificate has expired; it can still be renewed for a while.
    #[error("the certificate has expired")]
    CertificateExpired = 1,
    /// A session was opened without a certificate.
    #[error("a client certificate is required")]
    CertificateRequired = 2,
    /// The work of this connection is done.
    #[error("done")]
    Done = 0,
    /// The node's object does not exist.
    #[error("the node is unknown")]
    NodeUnknown = 3,
    /// The server has no room now: come back later than usual.
    #[error("the controller is overloaded")]
    Overloaded = 4,
    /// The peer broke the protocol.
    #[error("protocol violation")]
    Protocol = 5,
    /// The process is about to end.
    #[error("shutting down")]
    ShuttingDown = 6,
    /// Another connection of the same node took over.
    #[error("superseded by another connection of this node")]
    Superseded = 7,
}

impl CloseCode {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The meaning of a code from the wire; unknown ones come from a newer peer.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        let known = [
            Self::CertificateExpired,
            Self::CertificateRequired,
            Self::Done,
            Self::NodeUnknown,
            Self::Overloaded,
            Self::Protocol,
            Self::ShuttingDown,
            Self::Superseded,
        ];
        known.into_iter().find(|known| u64::from(known.code()) == code)
    }
}
