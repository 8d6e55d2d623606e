//! What one session is to be.

use std::{net::IpAddr, num::NonZeroU8, sync::Arc, time::Duration};

use isocast_bgp::bfd::{
    Hops, Interval, SessionConfig,
    limits::{INTERVAL_MAX, INTERVAL_MIN},
};

/// One session. The peer's address and the distance are its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSpec {
    /// Uid of the BGP peer.
    pub uid: Arc<str>,
    /// Its name, for people.
    pub name: String,
    /// Where it is.
    pub peer: IpAddr,
    /// Our end, if not the kernel's choice.
    pub local: Option<IpAddr>,
    /// How far away it may be.
    pub hops: Hops,
    /// Wanted between packets, both ways; brought within what BFD can keep.
    pub interval: Duration,
    /// Packets in a row that may be missed.
    pub multiplier: NonZeroU8,
}

impl SessionSpec {
    /// For a session that this process alone keeps up.
    pub(super) fn config(&self) -> Option<SessionConfig> {
        let interval = Interval::new(self.interval.clamp(INTERVAL_MIN, INTERVAL_MAX))?;
        Some(SessionConfig::new(interval, self.multiplier))
    }
}
