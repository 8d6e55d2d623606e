//! What two OPENs agree on.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::config::{RestartState, SessionConfig};
use super::end::OpenRefusal;
use super::role::Role;
use crate::limits::{EXTENDED_MESSAGE_BYTES_MAX, HOLD_TIME_MIN, MESSAGE_BYTES_MAX};
use crate::types::{Asn, PeerKind, PerFamily};
use crate::wire::as_path::AsnWidth;
use crate::wire::capability::{Capability, Forwarding, GracefulRestart, LongLived};
use crate::wire::open::Open;
use crate::wire::update::Codec;

/// The terms of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// How UPDATEs are read and written.
    pub codec: Codec,
    /// Silence that ends the session; zero: none does.
    pub hold_time: Duration,
    /// The peer's AS.
    pub peer_asn: Asn,
    /// The peer's BGP identifier.
    pub peer_router_id: Ipv4Addr,
    /// What the peer says about its restarts.
    pub peer_restart: Option<GracefulRestart>,
    /// What the peer says about restarts that take too long (RFC 9494). Routes with LLGR_STALE go
    /// to no peer without this.
    pub peer_long_lived: Option<LongLived>,
    /// Both sides set the N bit (RFC 8538): a NOTIFICATION is a restart unless it is a hard reset.
    pub notification_restarts: bool,
    /// The peer answers ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// Both sides mark where a refresh begins and ends (RFC 7313).
    pub enhanced_refresh: bool,
    /// What we are to the peer, if configured (RFC 9234).
    pub local_role: Option<Role>,
    /// What the peer is to us: it follows from our role, whether the peer said so or not.
    pub peer_role: Option<Role>,
}

/// AFI and SAFI of IPv4 unicast, AFI of IPv6 next hops (RFC 8950 §4).
const IPV4_OVER_IPV6: (u16, u16, u16) = (1, 1, 2);

/// What a peer's capabilities say, each once.
#[derive(Debug, Default)]
struct Offered {
    four_octet_asn: bool,
    restart: Option<GracefulRestart>,
    long_lived: Option<LongLived>,
    route_refresh: bool,
    enhanced_refresh: bool,
    extended_message: bool,
    extended_next_hop: bool,
    roles: Vec<u8>,
}

/// The OPEN that a configuration makes.
#[must_use]
pub(super) fn offer(config: &SessionConfig, restart: RestartState) -> Open {
    let mut capabilities: Vec<_> = Capability::multiprotocol(config.families).collect();
    capabilities.push(Capability::RouteRefresh);
    if config.extended_next_hop && config.families.ipv4 {
        capabilities.push(Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6]));
    }
    if config.extended_messages {
        capabilities.push(Capability::ExtendedMessage);
    }
    capabilities.extend(config.role.map(|role| Capability::Role(role.code())));
    capabilities.extend(graceful_restart(config, restart).map(Capability::GracefulRestart));
    capabilities.push(Capability::FourOctetAsn(config.local_asn));
    capabilities.push(Capability::EnhancedRouteRefresh);
    if config.helper.is_some_and(|helper| !helper.long_lived_max.is_zero()) {
        // RFC 9494 §3.1: no family of our own, for our own routes are never long-lived.
        capabilities.push(Capability::LongLived(LongLived::default()));
    }
    Open {
        asn: config.local_asn,
        hold_time_s: u16::try_from(config.hold_time.as_secs()).unwrap_or(u16::MAX),
        router_id: config.router_id,
        capabilities,
    }
}

/// RFC 4724 §4: a speaker that only helps others lists no family.
fn graceful_restart(config: &SessionConfig, restart: RestartState) -> Option<GracefulRestart> {
    let notification = config.helper.is_some_and(|helper| helper.notification);
    let Some(restart_time) = config.restart_time else {
        let helping = GracefulRestart { notification, ..GracefulRestart::default() };
        return config.helper.map(|_| helping);
    };
    let forwarding =
        if restart.forwarding_preserved { Forwarding::Preserved } else { Forwarding::Lost };
    let mut families = PerFamily::default();
    for family in config.families.iter() {
        *families.get_mut(family) = Some(forwarding);
    }
    Some(GracefulRestart { restarted: restart.restarting, notification, restart_time, families })
}

/// Accepts the peer's OPEN, or says why not.
///
/// # Errors
/// See [`OpenRefusal`].
pub(super) fn accept(config: &SessionConfig, open: &Open) -> Result<Negotiated, OpenRefusal> {
    if !config.peer_as.admits(open.asn, config.local_asn) {
        return Err(OpenRefusal::PeerAs(open.asn.0));
    }
    let peer_kind = config.peer_kind();
    let same_id = open.router_id == config.router_id;
    if open.router_id.is_unspecified() || (same_id && peer_kind == PeerKind::Internal) {
        return Err(OpenRefusal::Identifier);
    }
    let proposed = Duration::from_secs(u64::from(open.hold_time_s));
    if !proposed.is_zero() && proposed < HOLD_TIME_MIN {
        return Err(OpenRefusal::HoldTime(open.hold_time_s));
    }
    let families = config.families.intersection(open.families());
    if families.is_empty() {
        return Err(OpenRefusal::Families { wanted: config.families });
    }
    let offered = Offered::new(open);
    check_role(config, &offered.roles)?;
    let extended_messages = config.extended_messages && offered.extended_message;
    let we_say_n = config.helper.is_some_and(|helper| helper.notification);
    Ok(Negotiated {
        codec: Codec {
            asn_width: if offered.four_octet_asn { AsnWidth::Four } else { AsnWidth::Two },
            families,
            peer_kind,
            extended_next_hop: config.extended_next_hop && offered.extended_next_hop,
            message_bytes_max: if extended_messages {
                EXTENDED_MESSAGE_BYTES_MAX
            } else {
                MESSAGE_BYTES_MAX
            },
            first_as: (config.enforce_first_as && peer_kind == PeerKind::External)
                .then_some(open.asn),
            local_address: None,
        },
        hold_time: proposed.min(config.hold_time),
        peer_asn: open.asn,
        peer_router_id: open.router_id,
        peer_restart: offered.restart,
        // RFC 9494 §4.1: it means nothing without graceful restart.
        peer_long_lived: offered.restart.and(offered.long_lived),
        notification_restarts: we_say_n && offered.restart.is_some_and(|r| r.notification),
        route_refresh: offered.route_refresh,
        enhanced_refresh: offered.enhanced_refresh,
        local_role: config.role,
        peer_role: config.role.map(Role::counterpart),
    })
}

/// RFC 9234 §4.2.
fn check_role(config: &SessionConfig, theirs: &[u8]) -> Result<(), OpenRefusal> {
    let Some(ours) = config.role else { return Ok(()) };
    match theirs.split_first() {
        None if config.strict_role => Err(OpenRefusal::Role),
        None => Ok(()),
        Some((first, others)) => {
            let agreed = *first == ours.counterpart().code() && others.iter().all(|o| o == first);
            if agreed { Ok(()) } else { Err(OpenRefusal::Role) }
        }
    }
}

impl Offered {
    fn new(open: &Open) -> Self {
        let mut offered = Self::default();
        for capability in &open.capabilities {
            match capability {
                Capability::FourOctetAsn(_) => offered.four_octet_asn = true,
                Capability::GracefulRestart(restart) => offered.restart = Some(*restart),
                Capability::LongLived(long_lived) => offered.long_lived = Some(*long_lived),
                Capability::RouteRefresh => offered.route_refresh = true,
                Capability::EnhancedRouteRefresh => offered.enhanced_refresh = true,
                Capability::ExtendedMessage => offered.extended_message = true,
                Capability::ExtendedNextHop(triples) => {
                    offered.extended_next_hop |= triples.contains(&IPV4_OVER_IPV6);
                }
                Capability::Role(role) => offered.roles.push(*role),
                Capability::Multiprotocol { .. } | Capability::Unknown { .. } => {}
            }
        }
        offered
    }
}
