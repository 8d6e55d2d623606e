//! BGP roles and route leaks (RFC 9234).
//!
//! A role says which way money and routes flow over a session; ONLY_TO_CUSTOMER (OTC) marks a route
//! that may flow down only from here on. [`otc_ingress`] and [`otc_egress`] are the whole of §5, as
//! functions of what the peer is to us.

use crate::types::Asn;

/// What a speaker is to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It sells transit to the peer.
    Provider,
    /// It is a route server, the peer one of its clients.
    RouteServer,
    /// It is a client of the peer, a route server.
    RouteServerClient,
    /// It buys transit from the peer.
    Customer,
    /// Both exchange their customers' routes.
    Peer,
}

/// A route that has flowed where it must not (RFC 9234 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route leak: ONLY_TO_CUSTOMER {otc} and the peer is a {peer_role:?}")]
pub struct Leak {
    /// Who marked the route.
    pub otc: Asn,
    /// What the peer is to us.
    pub peer_role: Role,
}

impl Role {
    /// The value of the capability.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::RouteServer => 1,
            Self::RouteServerClient => 2,
            Self::Customer => 3,
            Self::Peer => 4,
        }
    }

    /// The role of a value, if it has one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Provider,
            1 => Self::RouteServer,
            2 => Self::RouteServerClient,
            3 => Self::Customer,
            4 => Self::Peer,
            _ => return None,
        })
    }

    /// What the peer of a speaker in this role is (RFC 9234 §4.2, table 2).
    #[must_use]
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }
}

/// The OTC that a route from a peer has here.
///
/// # Errors
/// The route is a leak, and not eligible.
pub const fn otc_ingress(
    otc: Option<Asn>,
    peer_role: Role,
    peer_asn: Asn,
) -> Result<Option<Asn>, Leak> {
    match (otc, peer_role) {
        (Some(otc), Role::Customer | Role::RouteServerClient) => Err(Leak { otc, peer_role }),
        (Some(otc), Role::Peer) if otc.0 != peer_asn.0 => Err(Leak { otc, peer_role }),
        (None, Role::Provider | Role::Peer | Role::RouteServer) => Ok(Some(peer_asn)),
        (otc, _) => Ok(otc),
    }
}

/// The OTC that a route to a peer leaves with.
///
/// # Errors
/// The route must not be sent to this peer.
pub const fn otc_egress(
    otc: Option<Asn>,
    peer_role: Role,
    local_asn: Asn,
) -> Result<Option<Asn>, Leak> {
    match (otc, peer_role) {
        (Some(otc), Role::Provider | Role::Peer | Role::RouteServer) => {
            Err(Leak { otc, peer_role })
        }
        (None, Role::Customer | Role::Peer | Role::RouteServerClient) => Ok(Some(local_asn)),
        (otc, _) => Ok(otc),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Role; 5] =
        [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];
    const US: Asn = Asn(65_010);
    const THEM: Asn = Asn(65_020);
    const OTHER: Asn = Asn(65_030);

    #[test]
    fn codes_and_counterparts_go_both_ways() {
        for role in ALL {
            assert_eq!(Role::from_code(role.code()), Some(role));
            assert_eq!(role.counterpart().counterpart(), role);
        }
        assert_eq!(Role::from_code(5), None);
    }

    #[test]
    fn what_comes_from_below_marked_is_a_leak_and_what_comes_from_above_is_marked() {
        for peer in [Role::Customer, Role::RouteServerClient] {
            assert_eq!(otc_ingress(None, peer, THEM), Ok(None));
            assert!(otc_ingress(Some(OTHER), peer, THEM).is_err());
        }
        for peer in [Role::Provider, Role::RouteServer] {
            assert_eq!(otc_ingress(None, peer, THEM), Ok(Some(THEM)));
            assert_eq!(otc_ingress(Some(OTHER), peer, THEM), Ok(Some(OTHER)));
        }
        assert_eq!(otc_ingress(None, Role::Peer, THEM), Ok(Some(THEM)));
        assert_eq!(otc_ingress(Some(THEM), Role::Peer, THEM), Ok(Some(THEM)));
        assert!(otc_ingress(Some(OTHER), Role::Peer, THEM).is_err());
    }

    #[test]
    fn what_is_marked_goes_down_only_and_what_goes_down_is_marked() {
        for peer in [Role::Provider, Role::RouteServer] {
            assert_eq!(otc_egress(None, peer, US), Ok(None));
            assert!(otc_egress(Some(OTHER), peer, US).is_err());
        }
        for peer in [Role::Customer, Role::RouteServerClient] {
            assert_eq!(otc_egress(None, peer, US), Ok(Some(US)));
            assert_eq!(otc_egress(Some(OTHER), peer, US), Ok(Some(OTHER)));
        }
        assert_eq!(otc_egress(None, Role::Peer, US), Ok(Some(US)));
        assert!(otc_egress(Some(OTHER), Role::Peer, US).is_err());
    }

    #[test]
    fn no_chain_of_sessions_carries_a_route_down_and_up_again() {
        // Two speakers that follow the rules, whatever the first learnt it from, and the second's
        // next peer: down or sideways and then up or sideways never passes both.
        for first in ALL {
            for second in ALL {
                let down = !matches!(first, Role::Provider | Role::RouteServer);
                let up = !matches!(second, Role::Customer | Role::RouteServerClient);
                let sent = otc_egress(None, first, US);
                let taken = sent.and_then(|otc| otc_ingress(otc, first.counterpart(), US));
                let passed = taken.and_then(|otc| otc_egress(otc, second, THEM));
                assert_eq!(passed.is_err(), down && up, "to {first:?}, then to {second:?}");
            }
        }
    }
}
