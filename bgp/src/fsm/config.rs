//! What a session is told about itself and its peer.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::limits::{HOLD_TIME_MIN, RESTART_TIME_MAX};
use crate::types::{Asn, FamilySet, PeerKind, PerFamily};
use crate::wire::next_hop::NextHop;

/// Who opens the TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectMode {
    /// We do; the peer's attempts are refused.
    #[default]
    Active,
    /// The peer does.
    Passive,
    /// Whoever is first (RFC 4271 §6.8 resolves collisions).
    Both,
}

/// Configuration of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our AS.
    pub local_asn: Asn,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// The peer's AS.
    pub peer_asn: Asn,
    /// Who connects.
    pub connect: ConnectMode,
    /// Families to offer.
    pub families: FamilySet,
    /// Hold time to propose; zero turns keepalives off.
    pub hold_time: Duration,
    /// How long the peer shall keep routes while we restart; nothing: not offered.
    pub restart_time: Option<Duration>,
    /// Next hops to announce; where there is none, the session's own address serves.
    pub next_hops: PerFamily<Option<NextHop>>,
}

/// A configuration that no session can run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// RFC 7607.
    #[error("AS 0 is not an autonomous system")]
    AsZero,
    /// RFC 6286 §2.1.
    #[error("router id 0.0.0.0")]
    RouterId,
    /// RFC 4271 §4.2: zero, or three seconds and more.
    #[error("hold time {0:?} is neither 0 nor within 3 s to 65535 s")]
    HoldTime(Duration),
    /// The field has 12 bits.
    #[error("restart time {0:?} exceeds {RESTART_TIME_MAX:?}")]
    RestartTime(Duration),
    /// Nothing to talk about.
    #[error("no address family")]
    NoFamily,
    /// A next hop of the other family, or one that no host has.
    #[error("{0} cannot be a next hop of its family")]
    NextHop(NextHop),
}

/// What a restart means for the routes that the peer still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestartState {
    /// This process took over from one that died: the R bit, until End-of-RIB is sent.
    pub restarting: bool,
    /// The data plane kept forwarding: the F bit of every family.
    pub forwarding_preserved: bool,
}

impl SessionConfig {
    /// Checks what no peer needs to be asked about.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.local_asn == Asn(0) || self.peer_asn == Asn(0) {
            return Err(ConfigError::AsZero);
        }
        if self.router_id.is_unspecified() {
            return Err(ConfigError::RouterId);
        }
        let hold_max = Duration::from_secs(u64::from(u16::MAX));
        if !self.hold_time.is_zero() && !(HOLD_TIME_MIN..=hold_max).contains(&self.hold_time) {
            return Err(ConfigError::HoldTime(self.hold_time));
        }
        if let Some(time) = self.restart_time.filter(|time| *time > RESTART_TIME_MAX) {
            return Err(ConfigError::RestartTime(time));
        }
        if self.families.is_empty() {
            return Err(ConfigError::NoFamily);
        }
        for family in crate::types::Family::ALL {
            match self.next_hops.get(family) {
                Some(hop) if hop.family() != family || !hop.is_usable() => {
                    return Err(ConfigError::NextHop(*hop));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the peer is in our AS.
    #[must_use]
    pub fn peer_kind(&self) -> PeerKind {
        if self.local_asn == self.peer_asn { PeerKind::Internal } else { PeerKind::External }
    }

    /// Whether going from `self` to `new` takes a new session. Everything else takes effect at
    /// once, or with the next OPEN: it is not worth a flap.
    #[must_use]
    pub fn needs_reset(&self, new: &Self) -> bool {
        self.local_asn != new.local_asn
            || self.router_id != new.router_id
            || self.peer_asn != new.peer_asn
            || self.families != new.families
    }
}
