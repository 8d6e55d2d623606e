//! Every way a session, or the attempt at one, ends. The reason decides what the peer is told, and
//! what becomes of its routes: with graceful restart, a NOTIFICATION and a silent close are two
//! different promises.

use crate::types::{Family, FamilySet};
use crate::wire::capability::Capability;
use crate::wire::fault::Fault;
use crate::wire::header::{HeaderFault, MessageType};
use crate::wire::notification::{Notification, cease, code, open, refresh};
use crate::wire::open::OpenFault;
use crate::wire::update;

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
    /// The peer closed TCP.
    #[error("connection closed by the peer")]
    ConnectionLost,
    /// TCP broke.
    #[error("connection broken: {0}")]
    ConnectionBroken(String),
    /// Nothing was heard for the hold time.
    #[error("hold timer expired")]
    HoldTimerExpired,
    /// BFD lost the peer (RFC 9384).
    #[error("BFD down")]
    BfdDown {
        /// The peer's BFD outlives its BGP speaker: packets are lost, and nothing restarts.
        control_plane_independent: bool,
    },
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
    #[error("UPDATE: {fault}")]
    Update {
        /// What is wrong with it.
        #[source]
        fault: Fault,
        /// The attribute at fault as received, header and all, if it is one.
        attribute: Vec<u8>,
    },
    /// A ROUTE-REFRESH of the wrong length (RFC 7313 §5).
    #[error("ROUTE-REFRESH of {} octets", message.len())]
    RouteRefresh {
        /// The message, as received.
        message: Vec<u8>,
    },
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
    #[error("administrative shutdown{}", colon(text))]
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
    /// Not an AS that the configuration allows.
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
    Families {
        /// The ones that we want.
        wanted: FamilySet,
    },
    /// Its role does not go with ours, or it has none and must (RFC 9234 §4.2).
    #[error("role mismatch")]
    Role,
}

/// More prefixes than a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {prefixes_max} prefixes of {family}")]
pub struct PrefixLimit {
    /// The family it is about.
    pub family: Family,
    /// The limit.
    pub prefixes_max: usize,
}

impl EndReason {
    /// The end that a fault in an UPDATE with this body leads to.
    pub(crate) fn update(fault: Fault, body: &[u8]) -> Self {
        let attribute = fault.attribute.and_then(|code| update::raw_attribute(body, code));
        Self::Update { fault, attribute: attribute.unwrap_or_default().to_vec() }
    }

    /// A short name that stays: for metrics and programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ConnectFailed(_) => "ConnectFailed",
            Self::ConnectTimeout => "ConnectTimeout",
            Self::ConnectionLost => "ConnectionLost",
            Self::ConnectionBroken(_) => "ConnectionBroken",
            Self::HoldTimerExpired => "HoldTimerExpired",
            Self::BfdDown { .. } => "BfdDown",
            Self::SendHoldTimerExpired => "SendHoldTimerExpired",
            Self::Header(_) => "MessageHeaderError",
            Self::Open(_) => "OpenMessageError",
            Self::OpenRefused(OpenRefusal::PeerAs(_)) => "BadPeerAs",
            Self::OpenRefused(OpenRefusal::Identifier) => "BadIdentifier",
            Self::OpenRefused(OpenRefusal::HoldTime(_)) => "UnacceptableHoldTime",
            Self::OpenRefused(OpenRefusal::Families { .. }) => "NoCommonFamily",
            Self::OpenRefused(OpenRefusal::Role) => "RoleMismatch",
            Self::Update { .. } => "UpdateMessageError",
            Self::RouteRefresh { .. } => "RouteRefreshMessageError",
            Self::Unexpected { .. } => "FiniteStateMachineError",
            Self::PeerNotification(told) if told.is_hard_reset() => "HardResetReceived",
            Self::PeerNotification(_) => "NotificationReceived",
            Self::PeerRestarted => "PeerRestarted",
            Self::Collision => "ConnectionCollision",
            Self::PrefixLimit(_) => "PrefixLimitReached",
            Self::Drained { .. } => "AdministrativeShutdown",
            Self::Deconfigured => "PeerDeconfigured",
            Self::Reconfigured => "ConfigurationChanged",
            Self::Preserved => "StoppedForRestart",
        }
    }

    /// What the peer is told, if anything.
    #[must_use]
    pub fn notification(&self) -> Option<Notification> {
        let notification = match self {
            Self::ConnectFailed(_)
            | Self::ConnectTimeout
            | Self::ConnectionLost
            | Self::ConnectionBroken(_)
            | Self::PeerNotification(_)
            | Self::PeerRestarted
            | Self::Preserved => return None,
            Self::HoldTimerExpired => Notification::new(code::HOLD_TIMER, 0),
            Self::BfdDown { .. } => Notification::cease(cease::BFD_DOWN, ""),
            Self::SendHoldTimerExpired => Notification::new(code::SEND_HOLD_TIMER, 0),
            Self::Header(fault) => fault.notification(),
            Self::Open(fault) => fault.notification(),
            Self::OpenRefused(refusal) => refusal.notification(),
            Self::Update { fault, attribute } => fault.notification(attribute),
            Self::RouteRefresh { message } => {
                Notification::with_data(code::ROUTE_REFRESH, refresh::BAD_LENGTH, message)
            }
            // RFC 6608 §4: the type of the message goes along.
            Self::Unexpected { state, message } => {
                Notification::with_data(code::FSM, state.error_subcode(), &[message.code()])
            }
            Self::Collision => Notification::cease(cease::COLLISION, ""),
            Self::PrefixLimit(limit) => limit.notification(),
            Self::Drained { text } => Notification::cease(cease::SHUTDOWN, text),
            Self::Deconfigured => Notification::cease(cease::DECONFIGURED, ""),
            Self::Reconfigured => Notification::cease(cease::CONFIGURATION, ""),
        };
        Some(notification)
    }

    /// Whether the peer may be taken to restart, so that its routes stay for a while (RFC 4724
    /// §4.2). `notification_restarts`: both sides set the N bit (RFC 8538 §4).
    pub(super) const fn is_restart(&self, notification_restarts: bool) -> bool {
        match self {
            Self::ConnectionLost | Self::ConnectionBroken(_) | Self::PeerRestarted => true,
            // RFC 5882 §4.3.2.
            Self::BfdDown { control_plane_independent } => !*control_plane_independent,
            Self::PeerNotification(told) => notification_restarts && !told.is_hard_reset(),
            Self::HoldTimerExpired
            | Self::SendHoldTimerExpired
            | Self::Header(_)
            | Self::Update { .. }
            | Self::RouteRefresh { .. }
            | Self::Unexpected { .. }
            | Self::Reconfigured => notification_restarts,
            Self::ConnectFailed(_)
            | Self::ConnectTimeout
            | Self::Open(_)
            | Self::OpenRefused(_)
            | Self::Collision
            | Self::PrefixLimit(_)
            | Self::Drained { .. }
            | Self::Deconfigured
            | Self::Preserved => false,
        }
    }

    /// What a peer is told with whom NOTIFICATIONs are restarts: what must remove routes is a hard
    /// reset (RFC 8538 §3).
    pub(super) fn hard_notification(&self) -> Option<Notification> {
        let told = self.notification()?;
        Some(if self.is_restart(true) { told } else { told.into_hard_reset() })
    }
}

impl OpenRefusal {
    fn notification(self) -> Notification {
        let subcode = match self {
            Self::PeerAs(_) => open::PEER_AS,
            Self::Identifier => open::IDENTIFIER,
            Self::HoldTime(_) => open::HOLD_TIME,
            Self::Families { wanted } => return capabilities_missing(wanted),
            Self::Role => open::ROLE,
        };
        Notification::new(code::OPEN, subcode)
    }
}

/// RFC 5492 §5: the capabilities that would have been needed, as in an OPEN.
fn capabilities_missing(wanted: FamilySet) -> Notification {
    let mut data = Vec::new();
    for capability in Capability::multiprotocol(wanted) {
        capability.encode(&mut data);
    }
    Notification::with_data(code::OPEN, open::CAPABILITY, &data)
}

impl PrefixLimit {
    /// RFC 4486 §4: family and limit may come along.
    fn notification(self) -> Notification {
        let (afi, safi) = self.family.codes();
        let limit = u32::try_from(self.prefixes_max).unwrap_or(u32::MAX);
        let [a, b] = afi.to_be_bytes();
        let [c, d, e, f] = limit.to_be_bytes();
        Notification::with_data(code::CEASE, cease::PREFIX_LIMIT, &[a, b, safi, c, d, e, f])
    }
}

fn colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
