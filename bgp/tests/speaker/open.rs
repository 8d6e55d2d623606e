//! What two OPENs agree on.

use std::time::Duration;

use isocast_bgp::fsm::{ConfigError, HelperConfig, PeerAs, Role, SessionConfig, State};
use isocast_bgp::limits::{EXTENDED_MESSAGE_BYTES_MAX, HEADER_BYTES, MESSAGE_BYTES_MAX};
use isocast_bgp::types::{Asn, PeerKind};
use isocast_bgp::wire::as_path::AsnWidth;
use isocast_bgp::wire::capability::{Capability, LongLived};
use isocast_bgp::wire::header::MessageType;
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::open::Open;
use isocast_bgp::wire::update::Codec;

use crate::probe::{EXTERNAL_PEER, Probe, keepalive, open, probed};

fn with_role(role: Role, strict_role: bool) -> SessionConfig {
    SessionConfig { role: Some(role), strict_role, ..probed(EXTERNAL_PEER) }
}

/// How the session answers an OPEN with further capabilities.
fn answered(config: SessionConfig, asn: u32, further: &[Capability]) -> Probe {
    let mut probe = Probe::connected(config);
    let mut hello = Vec::new();
    open(asn, further).encode(&mut hello);
    probe.hear(&hello);
    probe
}

/// What the session offers.
fn offered(config: SessionConfig) -> Vec<Capability> {
    let mut probe = Probe::connected(config);
    let said = probe.say();
    assert_eq!(said[0].0, MessageType::Open);
    Open::decode(&said[0].1).unwrap().capabilities
}

const ROLES: [Role; 5] =
    [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];

#[test]
fn roles_that_do_not_go_together_are_refused() {
    for ours in ROLES {
        for theirs in ROLES {
            let probe =
                answered(with_role(ours, false), 65_001, &[Capability::Role(theirs.code())]);
            let fits = theirs == ours.counterpart();
            let expected = if fits { None } else { Some((2, 11)) };
            assert_eq!(probe.farewell(), expected, "{ours:?} with {theirs:?}");
        }
    }
}

#[test]
fn a_role_is_said_once_and_is_one_that_exists() {
    let customer = Capability::Role(Role::Customer.code());
    let peer = Capability::Role(Role::Peer.code());
    let cases = [
        (vec![customer.clone(), customer.clone()], None),
        (vec![customer, peer], Some((2, 11))),
        (vec![Capability::Role(200)], Some((2, 11))),
    ];
    for (further, expected) in cases {
        let probe = answered(with_role(Role::Provider, false), 65_001, &further);
        assert_eq!(probe.farewell(), expected, "{further:?}");
    }
}

#[test]
fn a_peer_without_a_role_is_refused_in_strict_mode_only() {
    let strict = answered(with_role(Role::Customer, true), 65_001, &[]);
    assert_eq!(strict.farewell(), Some((2, 11)));
    assert_eq!(strict.ends[0].code(), "RoleMismatch");

    let lenient = Probe::established(with_role(Role::Customer, false), &[]);
    let terms = lenient.session().negotiated().unwrap();
    assert_eq!((terms.local_role, terms.peer_role), (Some(Role::Customer), Some(Role::Provider)));

    // Without a role of ours, theirs is its own business.
    let none = answered(probed(EXTERNAL_PEER), 65_001, &[Capability::Role(77)]);
    assert_eq!(none.session().state(), State::OpenConfirm);
}

#[test]
fn roles_are_for_sessions_between_autonomous_systems() {
    let inside = SessionConfig { role: Some(Role::Peer), ..probed(PeerAs::Internal) };

    assert_eq!(inside.validate(), Err(ConfigError::InternalRole));
}

#[test]
fn a_dynamic_peer_may_be_in_any_as_but_those_it_cannot_be_in() {
    for (peer_as, asn, accepted) in [
        (PeerAs::External, 65_001, true),
        (PeerAs::External, 4_200_000_000, true),
        (PeerAs::External, 65_010, false),
        (PeerAs::External, 23_456, false),
        (PeerAs::External, 0, false),
        (PeerAs::Internal, 65_010, true),
        (PeerAs::Internal, 65_001, false),
        (PeerAs::Number(Asn(65_001)), 65_001, true),
        (PeerAs::Number(Asn(65_001)), 65_002, false),
    ] {
        let probe = answered(probed(peer_as), asn, &[]);
        let expected = if accepted { None } else { Some((2, 2)) };
        assert_eq!(probe.farewell(), expected, "{peer_as:?} and AS {asn}");
    }
}

#[test]
fn inside_an_as_the_codec_knows_it() {
    let probe = Probe::established(probed(PeerAs::Internal), &[]);
    let terms = probe.session().negotiated().unwrap();

    assert_eq!(terms.codec.peer_kind, PeerKind::Internal);
    assert_eq!((terms.codec.first_as, terms.peer_asn), (None, Asn(65_010)));
}

#[test]
fn the_first_as_is_the_peers_unless_it_is_a_route_server() {
    let first = |config| {
        let probe = Probe::established(config, &[]);
        probe.session().negotiated().unwrap().codec.first_as
    };

    assert_eq!(first(probed(PeerAs::External)), Some(Asn(65_001)));
    let route_server = SessionConfig { enforce_first_as: false, ..probed(EXTERNAL_PEER) };
    assert_eq!(first(route_server), None);
}

#[test]
fn what_is_optional_is_offered_when_configured_and_used_when_both_offer_it() {
    let extended_next_hop = Capability::ExtendedNextHop(vec![(1, 1, 2)]);
    let all =
        SessionConfig { extended_next_hop: true, extended_messages: true, ..probed(EXTERNAL_PEER) };
    let said = offered(all.clone());
    assert!(said.contains(&extended_next_hop) && said.contains(&Capability::ExtendedMessage));
    let plain = offered(probed(EXTERNAL_PEER));
    assert!(!plain.contains(&extended_next_hop) && !plain.contains(&Capability::ExtendedMessage));
    assert!(plain.contains(&Capability::EnhancedRouteRefresh));

    let both = [extended_next_hop, Capability::ExtendedMessage];
    let codec = |config: &SessionConfig, further: &[Capability]| -> Codec {
        Probe::established(config.clone(), further).session().negotiated().unwrap().codec
    };
    let agreed = codec(&all, &both);
    assert!(agreed.extended_next_hop);
    assert_eq!(agreed.message_bytes_max, EXTENDED_MESSAGE_BYTES_MAX);
    for (config, further) in [(all, &[][..]), (probed(EXTERNAL_PEER), &both[..])] {
        let one_sided = codec(&config, further);
        assert!(!one_sided.extended_next_hop);
        assert_eq!(one_sided.message_bytes_max, MESSAGE_BYTES_MAX);
    }
}

#[test]
fn an_extended_next_hop_of_other_families_is_not_ours() {
    let config = SessionConfig { extended_next_hop: true, ..probed(EXTERNAL_PEER) };
    let vpn = Capability::ExtendedNextHop(vec![(1, 128, 2), (2, 1, 1)]);

    let probe = Probe::established(config, &[vpn]);

    assert!(!probe.session().negotiated().unwrap().codec.extended_next_hop);
}

#[test]
fn long_lived_restarts_are_offered_by_a_helper_and_mean_nothing_without_restarts() {
    let long_lived_max = Duration::from_secs(60);
    let helper = Some(HelperConfig { long_lived_max, ..HelperConfig::default() });
    let config = SessionConfig { helper, ..probed(EXTERNAL_PEER) };
    let capability = Capability::LongLived(LongLived::default());
    assert!(offered(config.clone()).contains(&capability));

    let alone = Probe::established(config, &[capability]);

    assert_eq!(alone.session().negotiated().unwrap().peer_long_lived, None);
}

#[test]
fn an_old_speaker_gets_two_octet_numbers() {
    let mut probe = Probe::connected(probed(EXTERNAL_PEER));
    let old = Open { capabilities: vec![], ..open(65_001, &[]) };
    let mut hello = Vec::new();
    old.encode(&mut hello);
    probe.hear(&[hello, keepalive()].concat());

    let terms = probe.session().negotiated().unwrap();

    assert_eq!(terms.codec.asn_width, AsnWidth::Two);
    assert!(terms.codec.families.ipv4 && !terms.codec.families.ipv6, "RFC 4760 §8");
    assert!(!terms.route_refresh && !terms.enhanced_refresh);
}

#[test]
fn a_long_open_uses_the_long_form_and_every_open_fits_one_message() {
    for count in [1, 40, 120] {
        let filler = Capability::Unknown { code: 200, value: vec![7; 20] };
        let mut bytes = Vec::new();
        let sent = open(65_001, &vec![filler; count]);
        sent.encode(&mut bytes);

        assert!(bytes.len() <= MESSAGE_BYTES_MAX);
        assert_eq!(bytes[HEADER_BYTES + 9] == 255, count > 1, "{count}");
        assert_eq!(Open::decode(&bytes[HEADER_BYTES..]), Ok(sent));
    }
}

#[test]
fn ipv6_next_hops_for_ipv4_are_configured_only_where_they_are_offered() {
    let hop = NextHop::new("2001:db8::1".parse().unwrap());
    let mut config = probed(EXTERNAL_PEER);
    config.next_hops.ipv4 = hop;
    assert_eq!(config.validate(), Err(ConfigError::NextHop(hop.unwrap())));

    config.extended_next_hop = true;
    assert_eq!(config.validate(), Ok(()));
}
