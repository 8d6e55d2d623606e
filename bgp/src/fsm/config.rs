//! What a session is told about itself and its peer.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::role::Role;
use crate::limits::{
    CONNECT_RETRY_LEAST, CONNECT_RETRY_MAX, CONNECT_RETRY_MOST, HOLD_TIME_MIN, LONG_LIVED_TIME_MAX,
    RESTART_TIME_MAX, STALE_TIME,
};
use crate::types::{Asn, Family, FamilySet, PeerKind, PerFamily};
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

/// Which AS a peer may say it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAs {
    /// This one.
    Number(Asn),
    /// Any but ours.
    External,
    /// Ours.
    Internal,
}

/// Configuration of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our AS.
    pub local_asn: Asn,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// The peer's AS.
    pub peer_as: PeerAs,
    /// Who connects.
    pub connect: ConnectMode,
    /// Families to offer.
    pub families: FamilySet,
    /// Hold time to propose; zero turns keepalives off.
    pub hold_time: Duration,
    /// Longest wait between attempts to connect. The first is short, each further one twice as long.
    pub connect_retry_max: Duration,
    /// How long the peer shall keep routes while we restart; nothing: not offered.
    pub restart_time: Option<Duration>,
    /// What is kept of the peer while it restarts; nothing: its routes go with its session.
    pub helper: Option<HelperConfig>,
    /// Next hops to announce; where there is none, the session's own address serves.
    pub next_hops: PerFamily<Option<NextHop>>,
    /// Whether to offer IPv6 next hops for IPv4 (RFC 8950).
    pub extended_next_hop: bool,
    /// Whether to offer messages of up to 65,535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Whether a path must begin with the AS of a peer in another AS (RFC 4271 §6.3). Route servers
    /// do not prepend theirs (RFC 7947 §2.2.2).
    pub enforce_first_as: bool,
    /// What we are to a peer in another AS (RFC 9234); nothing: not said.
    pub role: Option<Role>,
    /// Whether a peer must say its role, too.
    pub strict_role: bool,
}

/// What a helper does for a peer that restarts (RFC 4724 §4.2, RFC 8538, RFC 9494).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelperConfig {
    /// Longest wait for the peer's return, whatever it asks for.
    pub restart_time_max: Duration,
    /// Longest wait for End-of-RIB after the peer's return.
    pub stale_time_max: Duration,
    /// Whether to say, and to honour if the peer says it too, that a NOTIFICATION or an expired
    /// hold timer is a restart like any other (the N bit).
    pub notification: bool,
    /// Longest time for which routes stay as a last resort when the peer does not return, whatever
    /// it asks for; zero: none do.
    pub long_lived_max: Duration,
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
    /// Too short to be kind to a peer, or too long to be of use.
    #[error("connect retry {0:?} is not within {CONNECT_RETRY_LEAST:?} to {CONNECT_RETRY_MOST:?}")]
    ConnectRetry(Duration),
    /// The field has 12 bits.
    #[error("restart time {0:?} exceeds {RESTART_TIME_MAX:?}")]
    RestartTime(Duration),
    /// The field has 24 bits.
    #[error("long-lived stale time {0:?} exceeds {LONG_LIVED_TIME_MAX:?}")]
    LongLivedTime(Duration),
    /// Nothing to talk about.
    #[error("no address family")]
    NoFamily,
    /// A next hop that cannot serve its family, or one that no host has.
    #[error("{0} cannot be a next hop of its family")]
    NextHop(NextHop),
    /// RFC 9234 §4.1: roles are for sessions between autonomous systems.
    #[error("a role needs a peer in another AS")]
    InternalRole,
}

/// What a restart means for the routes that the peer still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestartState {
    /// This process took over from one that died: the R bit, until End-of-RIB is sent.
    pub restarting: bool,
    /// The data plane kept forwarding: the F bit of every family.
    pub forwarding_preserved: bool,
}

impl Default for HelperConfig {
    fn default() -> Self {
        Self {
            restart_time_max: RESTART_TIME_MAX,
            stale_time_max: STALE_TIME,
            notification: false,
            long_lived_max: Duration::ZERO,
        }
    }
}

impl SessionConfig {
    /// A session that we open, for both families, with a hold time of 9 s and nothing optional.
    #[must_use]
    pub fn new(local_asn: Asn, router_id: Ipv4Addr, peer_as: PeerAs) -> Self {
        Self {
            local_asn,
            router_id,
            peer_as,
            connect: ConnectMode::Active,
            families: FamilySet::BOTH,
            hold_time: Duration::from_secs(9),
            connect_retry_max: CONNECT_RETRY_MAX,
            restart_time: None,
            helper: None,
            next_hops: PerFamily::default(),
            extended_next_hop: false,
            extended_messages: false,
            enforce_first_as: true,
            role: None,
            strict_role: false,
        }
    }

    /// Checks what no peer needs to be asked about.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.local_asn == Asn(0) || self.peer_as == PeerAs::Number(Asn(0)) {
            return Err(ConfigError::AsZero);
        }
        if self.router_id.is_unspecified() {
            return Err(ConfigError::RouterId);
        }
        let hold_max = Duration::from_secs(u64::from(u16::MAX));
        if !self.hold_time.is_zero() && !(HOLD_TIME_MIN..=hold_max).contains(&self.hold_time) {
            return Err(ConfigError::HoldTime(self.hold_time));
        }
        if !(CONNECT_RETRY_LEAST..=CONNECT_RETRY_MOST).contains(&self.connect_retry_max) {
            return Err(ConfigError::ConnectRetry(self.connect_retry_max));
        }
        if let Some(time) = self.restart_time.filter(|time| *time > RESTART_TIME_MAX) {
            return Err(ConfigError::RestartTime(time));
        }
        let long_lived = self.helper.map(|helper| helper.long_lived_max).unwrap_or_default();
        if long_lived > LONG_LIVED_TIME_MAX {
            return Err(ConfigError::LongLivedTime(long_lived));
        }
        if self.families.is_empty() {
            return Err(ConfigError::NoFamily);
        }
        if self.role.is_some() && self.peer_kind() == PeerKind::Internal {
            return Err(ConfigError::InternalRole);
        }
        for family in Family::ALL {
            match self.next_hops.get(family) {
                Some(hop) if !self.may_serve(*hop, family) => {
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
        match self.peer_as {
            PeerAs::Internal => PeerKind::Internal,
            PeerAs::Number(asn) if asn == self.local_asn => PeerKind::Internal,
            PeerAs::Number(_) | PeerAs::External => PeerKind::External,
        }
    }

    /// Whether going from `self` to `new` takes a new session. Everything else takes effect at
    /// once, or with the next OPEN: it is not worth a flap.
    #[must_use]
    pub fn needs_reset(&self, new: &Self) -> bool {
        self.local_asn != new.local_asn
            || self.router_id != new.router_id
            || self.peer_as != new.peer_as
            || self.families != new.families
            || self.extended_next_hop != new.extended_next_hop
            || self.extended_messages != new.extended_messages
            || self.enforce_first_as != new.enforce_first_as
            || self.role != new.role
            || (!self.strict_role && new.strict_role)
    }

    fn may_serve(&self, hop: NextHop, family: Family) -> bool {
        let extended = self.extended_next_hop && family == Family::Ipv4Unicast;
        hop.is_usable() && (hop.family() == family || extended)
    }
}

impl PeerAs {
    /// Whether a peer may be in `asn`, seen from `local`.
    #[must_use]
    pub fn admits(self, asn: Asn, local: Asn) -> bool {
        // RFC 7607 §2; and AS_TRANS is nobody (RFC 6793 §9).
        let real = asn != Asn(0) && asn != Asn::TRANS;
        real && match self {
            Self::Number(number) => asn == number,
            Self::External => asn != local,
            Self::Internal => asn == local,
        }
    }
}
