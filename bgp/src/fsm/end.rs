//! Every way a session, or the attempt at one, ends. The reason decides what the peer is told:
//! with graceful restart, a NOTIFICATION and a silent close are two different promises.

use crate::adj_in::PrefixLimit;
use crate::wire::fault::Fault;
use crate::wire::header::{HeaderFault, MessageType};
use crate::wire::notification::{Notification, cease, code, open};
use crate::wire::open::OpenFault;

use super::State;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// TCP could not be established.
    #[error("cannot connect: {0}")]
    ConnectFailed(String),
    /// TCP was not established in time.
    #[error("connect timed out")]
    ConnectTimeout,
    /// The peer closed or reset TCP.
    #[error("connection closed by the peer")]
    ConnectionLost,
    /// Nothing was heard for the hold time.
    #[error("hold timer expired")]
    HoldTimerExpired,
    /// BFD lost the peer (RFC 9384).
    #[error("BFD down")]
    BfdDown,
    /// The peer read nothing for the send hold time (RFC 9687).
    #[error("send hold timer expired")]
    SendHoldTimerExpired,
    /// A header that no message can follow.
    #[error("message header: {0}")]
    Header(#[source] HeaderFault),
    /// An OPEN that cannot be read.
    #[error("{0}")]
    Open(#[source] OpenFault),
    /// An OPEN that can be read and not accepted.
    #[error("OPEN refused: {0}")]
    OpenRefused(#[source] OpenRefusal),
    /// An UPDATE beyond repair.
    #[error("UPDATE: {0}")]
    Update(#[source] Fault),
    /// A message that has no place in this state.
    #[error("{message:?} received in {state}")]
    Unexpected {
        /// What came.
        message: MessageType,
        /// When.
        state: State,
    },
    /// The peer ended it.
    #[error("peer sent: {0}")]
    PeerNotification(Notification),
    /// The peer has started anew, on another connection.
    #[error("the peer restarted")]
    PeerRestarted,
    /// Another connection to the same peer was kept.
    #[error("connection collision")]
    Collision,
    /// More routes than allowed.
    #[error("{0}")]
    PrefixLimit(#[source] PrefixLimit),
    /// We stop for good, and say so: routes go at once.
    #[error("administrative shutdown")]
    Drained {
        /// Shutdown communication.
        text: String,
    },
    /// The peer was removed from the configuration.
    #[error("peer removed from the configuration")]
    Deconfigured,
    /// A change of configuration takes a new session.
    #[error("configuration changed")]
    Reconfigured,
    /// We stop to come back: silence keeps routes.
    #[error("stopped for a restart")]
    Preserved,
}

/// Why an OPEN is not accepted (RFC 4271 §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenRefusal {
    /// Not the AS that was configured.
    #[error("AS {0} is not the configured one")]
    PeerAs(u32),
    /// 0.0.0.0, or our own inside an AS (RFC 6286 §2.2).
    #[error("bad BGP identifier")]
    Identifier,
    /// 1 or 2 seconds.
    #[error("hold time {0} s")]
    HoldTime(u16),
    /// No family in common.
    #[error("no common address family")]
    Families,
    /// Its role does not go with ours, or it has none and must (RFC 9234 §4.2).
    #[error("role mismatch")]
    Role,
}

impl EndReason {
    /// What the peer is told, if anything.
    #[must_use]
    pub fn notification(&self) -> Option<Notification> {
        let notification = match self {
            Self::ConnectFailed(_)
            | Self::ConnectTimeout
            | Self::ConnectionLost
            | Self::PeerNotification(_)
            | Self::PeerRestarted
            | Self::Preserved => return None,
            Self::HoldTimerExpired => Notification::new(code::HOLD_TIMER, 0),
            Self::BfdDown => Notification::cease(cease::BFD_DOWN, ""),
            Self::SendHoldTimerExpired => Notification::new(code::SEND_HOLD_TIMER, 0),
            Self::Header(fault) => fault.notification(),
            Self::Open(fault) => fault.notification(),
            Self::OpenRefused(refusal) => refusal.notification(),
            Self::Update(fault) => fault.notification(),
            Self::Unexpected { state, .. } => Notification::new(code::FSM, state.error_subcode()),
            Self::Collision => Notification::cease(cease::COLLISION, ""),
            Self::PrefixLimit(_) => Notification::cease(cease::PREFIX_LIMIT, ""),
            Self::Drained { text } => Notification::cease(cease::SHUTDOWN, text),
            Self::Deconfigured => Notification::cease(cease::DECONFIGURED, ""),
            Self::Reconfigured => Notification::cease(cease::CONFIGURATION, ""),
        };
        Some(notification)
    }
}

impl OpenRefusal {
    fn notification(self) -> Notification {
        let subcode = match self {
            Self::PeerAs(_) => open::PEER_AS,
            Self::Identifier => open::IDENTIFIER,
            Self::HoldTime(_) => open::HOLD_TIME,
            Self::Families => open::CAPABILITY,
            Self::Role => open::ROLE,
        };
        Notification::new(code::OPEN, subcode)
    }
}
