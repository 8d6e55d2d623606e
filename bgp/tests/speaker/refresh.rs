//! Route refresh, plain and with marks, both ways.

use std::time::Duration;

use isocast_bgp::fsm::{HelperConfig, Input, SessionConfig};
use isocast_bgp::limits::REFRESH_TIME;
use isocast_bgp::types::{Family, PerFamily};
use isocast_bgp::wire::capability::{Capability, Forwarding, GracefulRestart};
use isocast_bgp::wire::header::MessageType;
use isocast_bgp::wire::refresh::{Refresh, RouteRefresh};

use crate::lone::RouteChange;
use crate::probe::{EXTERNAL_PEER, Probe, keepalive, message, open, probed};
use crate::vectors::{NLRI, WELL_KNOWN, attribute, attributes, body};

const OTHER: [u8; 4] = [24, 198, 51, 100];

fn say(refresh: Refresh) -> Vec<u8> {
    let mut bytes = Vec::new();
    RouteRefresh::new(refresh, Family::Ipv4Unicast).encode(&mut bytes);
    bytes
}

fn announcement(nlri: &[u8]) -> Vec<u8> {
    let path = attribute(WELL_KNOWN, 2, &[2, 1, 0, 0, 0xfd, 0xe9]);
    message(MessageType::Update, &body(&[], &attributes(&[2], &[path]), nlri))
}

fn enhanced() -> Probe {
    let mut probe = Probe::established(probed(EXTERNAL_PEER), &[Capability::EnhancedRouteRefresh]);
    probe.hear(&announcement(&[&NLRI[..], &OTHER].concat()));
    probe.lone.changes.clear();
    probe
}

fn lost(probe: &Probe) -> Vec<String> {
    let lost = probe.lone.changes.iter().map(|change| match change {
        RouteChange::Lost(prefix) => prefix.to_string(),
        other => panic!("{other:?}"),
    });
    lost.collect()
}

#[test]
fn a_refresh_drops_what_the_peer_did_not_send_again() {
    let mut probe = enhanced();

    probe.hear(&say(Refresh::Begin));
    probe.hear(&announcement(&NLRI));
    assert!(probe.lone.changes.is_empty());
    probe.hear(&say(Refresh::End));

    assert_eq!(lost(&probe), ["198.51.100.0/24"]);
}

#[test]
fn an_end_without_a_beginning_means_nothing() {
    let mut probe = enhanced();

    probe.hear(&say(Refresh::End));

    assert!(probe.lone.changes.is_empty());
}

#[test]
fn a_refresh_that_never_ends_is_ended() {
    let mut probe = enhanced();
    probe.hear(&say(Refresh::Begin));
    let deadline = probe.now + REFRESH_TIME;

    while probe.now < deadline {
        assert!(probe.lone.changes.is_empty());
        probe.hear(&keepalive());
        probe.say();
        probe.pass(Duration::from_secs(1));
    }

    assert_eq!(lost(&probe).len(), 2);
    assert!(probe.ends.is_empty());
}

#[test]
fn marks_of_a_peer_that_did_not_offer_them_mean_nothing() {
    let mut probe = Probe::established(probed(EXTERNAL_PEER), &[]);
    probe.hear(&announcement(&NLRI));
    probe.lone.changes.clear();

    probe.hear(&say(Refresh::Begin));
    probe.hear(&say(Refresh::End));

    assert!(probe.lone.changes.is_empty());
}

#[test]
fn marks_before_the_first_end_of_rib_mean_nothing() {
    let restart = GracefulRestart {
        restart_time: Duration::from_secs(30),
        families: PerFamily { ipv4: Some(Forwarding::Preserved), ipv6: None },
        ..GracefulRestart::default()
    };
    let further = [Capability::EnhancedRouteRefresh, Capability::GracefulRestart(restart)];
    let config = SessionConfig { helper: Some(HelperConfig::default()), ..probed(EXTERNAL_PEER) };
    let mut probe = Probe::established(config, &further);
    probe.hear(&announcement(&NLRI));
    probe.lone.changes.clear();

    probe.hear(&say(Refresh::Begin));
    probe.hear(&say(Refresh::End));
    assert!(probe.lone.changes.is_empty(), "RFC 7313 §4.2");

    probe.hear(&message(MessageType::Update, &[0; 4]));
    probe.hear(&say(Refresh::Begin));
    probe.hear(&say(Refresh::End));
    assert_eq!(lost(&probe), ["192.0.2.1/32"]);
}

#[test]
fn what_a_peer_asks_for_goes_out_between_marks_if_it_knows_them() {
    for (further, marks) in [(vec![Capability::EnhancedRouteRefresh], true), (vec![], false)] {
        let mut probe = Probe::established(probed(EXTERNAL_PEER), &further);
        probe.lone.want(probe.now, &["203.0.113.1/32"]);
        probe.say();

        probe.hear(&say(Refresh::Request));

        let said = probe.say();
        let kinds: Vec<_> = said.iter().map(|(kind, body)| (*kind, body.get(2).copied())).collect();
        let (refresh, update) = (MessageType::RouteRefresh, MessageType::Update);
        if marks {
            assert_eq!(kinds.len(), 3, "{kinds:?}");
            assert_eq!(
                (kinds[0], kinds[1].0, kinds[2]),
                ((refresh, Some(1)), update, (refresh, Some(2)))
            );
        } else {
            assert_eq!(kinds.len(), 1, "{kinds:?}");
            assert_eq!(kinds[0].0, update);
        }
        assert_eq!(probe.say(), []);
    }
}

#[test]
fn many_requests_of_a_peer_that_reads_nothing_cost_one_answer() {
    let mut probe = enhanced();
    probe.lone.want(probe.now, &["203.0.113.1/32"]);
    probe.say();

    for _ in 0..1000 {
        probe.hear(&say(Refresh::Request));
    }

    assert_eq!(probe.say().len(), 3);
}

#[test]
fn a_peer_is_asked_for_its_routes_if_it_can_answer() {
    let mut probe = enhanced();
    probe.input(Input::Refresh(Family::Ipv4Unicast));
    assert_eq!(probe.say(), [(MessageType::RouteRefresh, vec![0, 1, 0, 1])]);
    assert_eq!(probe.say(), []);

    let mut deaf = Probe::connected(probed(EXTERNAL_PEER));
    let mut without = open(65_001, &[]);
    without.capabilities.retain(|capability| *capability != Capability::RouteRefresh);
    let mut hello = Vec::new();
    without.encode(&mut hello);
    deaf.hear(&[hello, keepalive()].concat());
    deaf.say();
    deaf.input(Input::Refresh(Family::Ipv4Unicast));
    assert_eq!(deaf.say(), []);
}
