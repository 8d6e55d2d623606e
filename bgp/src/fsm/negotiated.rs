//! What two OPENs agree on.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::config::{RestartState, SessionConfig};
use super::end::OpenRefusal;
use crate::limits::HOLD_TIME_MIN;
use crate::types::{PeerKind, PerFamily};
use crate::wire::as_path::AsnWidth;
use crate::wire::capability::{Capability, Forwarding, GracefulRestart};
use crate::wire::open::Open;
use crate::wire::update::Codec;

/// The terms of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// How UPDATEs are read and written.
    pub codec: Codec,
    /// Silence that ends the session; zero: none does.
    pub hold_time: Duration,
    /// The peer's BGP identifier.
    pub peer_router_id: Ipv4Addr,
    /// What the peer says about its restarts.
    pub peer_restart: Option<GracefulRestart>,
}

/// The OPEN that a configuration makes.
#[must_use]
pub(super) fn offer(config: &SessionConfig, restart: RestartState) -> Open {
    let mut capabilities: Vec<_> = Capability::multiprotocol(config.families).collect();
    capabilities.push(Capability::RouteRefresh);
    capabilities.push(Capability::FourOctetAsn(config.local_asn));
    if let Some(restart_time) = config.restart_time {
        let forwarding =
            if restart.forwarding_preserved { Forwarding::Preserved } else { Forwarding::Lost };
        let mut families = PerFamily::default();
        for family in config.families.iter() {
            *families.get_mut(family) = Some(forwarding);
        }
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarted: restart.restarting,
            notification: false,
            restart_time,
            families,
        }));
    }
    Open {
        asn: config.local_asn,
        hold_time_s: u16::try_from(config.hold_time.as_secs()).unwrap_or(u16::MAX),
        router_id: config.router_id,
        capabilities,
    }
}

/// Accepts the peer's OPEN, or says why not.
///
/// # Errors
/// See [`OpenRefusal`].
pub(super) fn accept(config: &SessionConfig, open: &Open) -> Result<Negotiated, OpenRefusal> {
    if open.asn != config.peer_asn {
        return Err(OpenRefusal::PeerAs(open.asn.0));
    }
    let same_id = open.router_id == config.router_id;
    if open.router_id.is_unspecified() || (same_id && config.peer_kind() == PeerKind::Internal) {
        return Err(OpenRefusal::Identifier);
    }
    let proposed = Duration::from_secs(u64::from(open.hold_time_s));
    if !proposed.is_zero() && proposed < HOLD_TIME_MIN {
        return Err(OpenRefusal::HoldTime(open.hold_time_s));
    }
    let families = config.families.intersection(open.families());
    if families.is_empty() {
        return Err(OpenRefusal::Families);
    }
    let mut asn_width = AsnWidth::Two;
    let mut peer_restart = None;
    for capability in &open.capabilities {
        match capability {
            Capability::FourOctetAsn(_) => asn_width = AsnWidth::Four,
            Capability::GracefulRestart(restart) => peer_restart = Some(*restart),
            _ => {}
        }
    }
    Ok(Negotiated {
        codec: Codec { asn_width, families, peer_kind: config.peer_kind() },
        hold_time: proposed.min(config.hold_time),
        peer_router_id: open.router_id,
        peer_restart,
    })
}
