//! From a BGPPeer's words to those of the agent protocol. What its kind of connection implies is
//! said in full, so that every agent understands the same.

use isocast_api::{
    agent as wire,
    network::{Bfd, BgpPeer, Connection, Family, GracefulRestartMode, PeerRole},
    text::Duration,
};

use super::{
    World,
    entries::{millis, text},
};

pub(super) fn bgp_peer(world: &World, peer: &BgpPeer) -> wire::BgpPeer {
    let spec = &peer.spec;
    let restart = &spec.graceful_restart;
    wire::BgpPeer {
        uid: peer.metadata.uid.clone(),
        name: peer.name().to_owned(),
        generation: peer.metadata.generation,
        address: text(spec.address),
        prefix: text(spec.prefix),
        peer_asn: spec.peer_asn,
        local_address: text(spec.local_address),
        next_hop_ipv4: text(spec.next_hop_ipv4),
        next_hop_ipv6: text(spec.next_hop_ipv6),
        families: spec.families.iter().map(|it| family(*it).into()).collect(),
        hold_time_s: seconds(spec.hold_time),
        graceful_restart_s: match restart.mode {
            GracefulRestartMode::Disabled => 0,
            GracefulRestartMode::Enabled => seconds(restart.restart_time),
        },
        bfd: spec.bfd.as_ref().map(|it| bfd(it, spec.multihop.is_some())),
        role: spec.role().map_or(wire::PeerRole::Unspecified, role).into(),
        ttl_security: spec.ttl_security,
        multihop: spec.multihop.unwrap_or_default().into(),
        passive: spec.passive || spec.prefix.is_some(),
        password_file: text(spec.password.as_ref().map(|password| &password.file)),
        max_prefixes_inbound: spec.max_prefixes_inbound().unwrap_or_default(),
        max_prefixes_outbound: spec.max_prefixes_outbound().unwrap_or_default(),
        extended_next_hop: spec.extended_next_hop,
        enforce_first_as: spec.enforces_first_as(),
        connection: connection(spec.connection).into(),
        import_policy: spec.import_policy.as_ref().map(|name| policy(world, name.as_str())),
        export_policy: spec.export_policy.as_ref().map(|name| policy(world, name.as_str())),
    }
}

/// The policy of that name; one that does not exist lets nothing pass (RFC 8212).
fn policy(world: &World, name: &str) -> wire::BgpPolicy {
    let found = world.policies.get(name);
    let terms = found.map(|policy| policy.spec.terms.as_slice()).unwrap_or_default();
    wire::BgpPolicy {
        uid: found.map(|policy| policy.metadata.uid.clone()).unwrap_or_default(),
        name: name.to_owned(),
        generation: found.map(|policy| policy.metadata.generation).unwrap_or_default(),
        // Terms are plain data: text, numbers and lists.
        terms: serde_json::to_string(terms).unwrap_or_default(),
    }
}

fn bfd(bfd: &Bfd, peer_is_multihop: bool) -> wire::Bfd {
    wire::Bfd {
        interval_ms: millis(bfd.interval),
        multiplier: bfd.multiplier.into(),
        multihop: bfd.multihop.unwrap_or(peer_is_multihop),
    }
}

fn connection(connection: Connection) -> wire::Connection {
    match connection {
        Connection::Fabric => wire::Connection::Fabric,
        Connection::IXP => wire::Connection::Ixp,
        Connection::PNI => wire::Connection::Pni,
        Connection::RouteServer => wire::Connection::RouteServer,
        Connection::Transit => wire::Connection::Transit,
    }
}

fn family(family: Family) -> wire::AddressFamily {
    match family {
        Family::IPv4 => wire::AddressFamily::Ipv4Unicast,
        Family::IPv6 => wire::AddressFamily::Ipv6Unicast,
    }
}

fn role(role: PeerRole) -> wire::PeerRole {
    match role {
        PeerRole::Customer => wire::PeerRole::Customer,
        PeerRole::Peer => wire::PeerRole::Peer,
        PeerRole::Provider => wire::PeerRole::Provider,
        PeerRole::RouteServer => wire::PeerRole::RouteServer,
        PeerRole::RouteServerClient => wire::PeerRole::RouteServerClient,
    }
}

fn seconds(duration: Duration) -> u32 {
    millis(duration) / 1000
}
