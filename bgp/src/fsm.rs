//! The finite state machine of a session (RFC 4271 §8), sans-IO.
//!
//! A [speaker](crate::speaker) feeds [`Input`]s with the time they happened and passes on the
//! [`Action`]s that come back; a session yields bytes whenever a connection can take some, and
//! [`Session::next_deadline`] says when to feed a tick though nothing happened.
//!
//! | connection \ input | OPEN | KEEPALIVE | UPDATE, REFRESH | NOTIFICATION, close | deadline |
//! |---|---|---|---|---|---|
//! | Connecting | – | – | – | retry | retry |
//! | OpenSent | OpenConfirm, or refused (2/x), or collision (6/7) | 5/1 | 5/1 | retry | 4/0 |
//! | OpenConfirm | 5/2 | Established | 5/2 | retry | hold 4/0, keepalive |
//! | Established | 5/3 | hold restarts | routes, resend | retry | hold 4/0, keepalive |
//!
//! Between connections a session is Active (waiting to try again, or for the peer) while started,
//! and Idle while stopped.

mod backoff;
mod config;
mod connection;
mod end;
mod helper;
mod negotiated;
mod role;
mod routes;
mod session;

use std::fmt;

use ipnet::IpNet;

pub use self::config::{
    ConfigError, ConnectMode, HelperConfig, PeerAs, RestartState, SessionConfig,
};
pub use self::connection::{ConnectionId, LocalEndpoint};
pub use self::end::{EndReason, OpenRefusal, PrefixLimit};
pub use self::negotiated::Negotiated;
pub use self::role::{Leak, Role, otc_egress, otc_ingress};
pub(crate) use self::routes::{Routes, SessionTerms};
pub use self::session::Session;
use crate::types::Family;
use crate::wire::fault::Fault;

/// States by their RFC names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Stopped.
    #[default]
    Idle,
    /// TCP is being established.
    Connect,
    /// Waiting for the next attempt, or for the peer's.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// OPENs are exchanged.
    OpenConfirm,
    /// Routes flow.
    Established,
}

/// How a session is to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// For good: the peer is told, and drops our routes at once.
    Drain {
        /// Shutdown communication for the peer's operator.
        text: String,
    },
    /// The peer is no longer configured.
    Deconfigure,
    /// To come back: the peer is told nothing, and keeps our routes as graceful restart allows.
    Preserve,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Be up.
    Start,
    /// Be down.
    Stop(Stop),
    /// The connection asked for by [`Action::Connect`] is there.
    Connected {
        /// Which.
        id: ConnectionId,
        /// Our end.
        local: LocalEndpoint,
    },
    /// The connection asked for by [`Action::Connect`] cannot be had.
    ConnectFailed {
        /// Which.
        id: ConnectionId,
        /// Why.
        error: String,
    },
    /// Bytes arrived.
    Received {
        /// Where.
        id: ConnectionId,
        /// In order.
        bytes: &'a [u8],
    },
    /// The peer closed or reset a connection.
    Closed {
        /// Which.
        id: ConnectionId,
    },
    /// A connection broke.
    Broken {
        /// Which.
        id: ConnectionId,
        /// How.
        error: String,
    },
    /// Ask the peer for all routes of a family again, if it can (RFC 2918).
    Refresh(Family),
    /// BFD lost the peer (RFC 5882 §4.1, RFC 9384).
    BfdDown {
        /// Whether the peer's BFD outlives its BGP speaker (the C bit, RFC 5882 §4.3): then packets
        /// are lost, too, and no restart can excuse it.
        control_plane_independent: bool,
    },
    /// BFD sees the peer, again or for the first time.
    BfdUp,
    /// A deadline may have passed.
    Tick,
}

/// What the driver is to do, or may want to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection; answer with `Connected` or `ConnectFailed`.
    Connect(ConnectionId),
    /// Close a connection (or stop opening it), after writing the farewell if there is one.
    Close {
        /// Which.
        id: ConnectionId,
        /// A NOTIFICATION. Without one the peer may take the close for a restart.
        farewell: Option<Vec<u8>>,
    },
    /// The session is up.
    Established,
    /// A session or an attempt at one ended.
    Ended {
        /// How far it had come.
        state: State,
        /// Why.
        reason: EndReason,
    },
    /// The peer has sent all its routes of a family.
    EndOfRib(Family),
    /// An UPDATE had a fault that the session survived.
    Fault(Fault),
    /// The UPDATE that had faults, whether the session survived them or not: for the log
    /// (RFC 7606 §8).
    Malformed {
        /// The prefixes it speaks of, if they can be read.
        prefixes: Vec<IpNet>,
        /// All that follows its header.
        body: Vec<u8>,
    },
}

impl State {
    /// Subcode of a finite state machine error in this state (RFC 6608).
    pub(crate) const fn error_subcode(self) -> u8 {
        match self {
            Self::OpenSent => 1,
            Self::OpenConfirm => 2,
            Self::Established => 3,
            Self::Idle | Self::Connect | Self::Active => 0,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
