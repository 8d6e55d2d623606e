//! What a forwarding table is told.

use std::net::IpAddr;

use ipnet::IpNet;
use isocast_bgp::fsm::Stop;
use isocast_bgp::speaker::ForwardingRoute;
use isocast_bgp::types::{Asn, Family};
use isocast_bgp::wire::as_path::AsPath;
use isocast_bgp::wire::attribute::PathAttributes;
use isocast_bgp::wire::next_hop::NextHop;

use crate::net::{announcements, net};
use crate::script::{Persona, Script, address, id};

const PREFIX: &str = "192.0.2.0/24";
const OTHER: &str = "2001:db8:f::/48";

/// Three routers of one neighbouring AS.
fn neighbours() -> Script {
    Script::new(&[65_001; 3].map(Persona::new))
}

fn hop(peer: usize) -> NextHop {
    NextHop::new(address(peer).into()).unwrap()
}

fn path(hops: usize) -> PathAttributes {
    PathAttributes { as_path: AsPath(vec![Asn(65_001); hops]), ..PathAttributes::default() }
}

fn told(script: &mut Script) -> Vec<(IpNet, Vec<IpAddr>)> {
    let mut told = Vec::new();
    while script.speaker.has_forwarding() {
        script.speaker.take_forwarding(2, 1, &mut told);
    }
    told.into_iter().map(|ForwardingRoute { prefix, next_hops }| (prefix, next_hops)).collect()
}

fn route(peers: &[usize]) -> Vec<(IpNet, Vec<IpAddr>)> {
    vec![(net(PREFIX), peers.iter().map(|peer| address(*peer).into()).collect())]
}

#[test]
fn paths_that_tie_share_the_traffic_up_to_the_limit_and_each_change_is_told_once() {
    let mut script = neighbours();
    script.speaker.watch_forwarding();
    assert!(!script.speaker.has_forwarding());

    for peer in [2, 0, 1] {
        script.announce(peer, &[net(PREFIX)], hop(peer), &path(1));
    }
    assert_eq!(told(&mut script), route(&[0, 1]));

    script.announce(1, &[net(PREFIX)], hop(1), &path(2));
    assert_eq!(told(&mut script), route(&[0, 2]));

    script.withdraw(0, &[net(PREFIX)]);
    assert_eq!(told(&mut script), route(&[2]));

    script.withdraw(2, &[net(PREFIX)]);
    script.withdraw(1, &[net(PREFIX)]);
    assert_eq!(told(&mut script), route(&[]));
    script.settle();
    assert_eq!(script.speaker.prefixes(Family::Ipv4Unicast), 0);
}

#[test]
fn who_begins_to_watch_is_told_all_there_is() {
    let mut script = neighbours();
    script.announce(0, &[net(PREFIX)], hop(0), &path(1));
    let six = NextHop::new("2001:db8::1".parse().unwrap()).unwrap();
    script.announce(1, &[net(OTHER)], six, &path(1));

    script.speaker.watch_forwarding();

    let both = [route(&[0]), vec![(net(OTHER), vec!["2001:db8::1".parse().unwrap()])]].concat();
    assert_eq!(told(&mut script), both);
}

#[test]
fn a_lost_session_takes_its_next_hops_along_and_our_own_prefix_has_none() {
    let mut script = neighbours();
    script.speaker.watch_forwarding();
    for peer in [0, 1] {
        script.announce(peer, &[net(PREFIX)], hop(peer), &path(1));
    }
    told(&mut script);

    script.lose(0);
    script.settle();
    assert_eq!(told(&mut script), route(&[1]));

    script.speaker.set_local(announcements([PREFIX]));
    script.settle();
    assert_eq!(told(&mut script), route(&[]));

    script.speaker.set_local(announcements([]));
    script.settle();
    assert_eq!(told(&mut script), route(&[1]));

    let mut actions = Vec::new();
    script.speaker.remove_peer(script.now, id(1), Stop::Deconfigure, &mut actions);
    script.settle();
    assert_eq!(told(&mut script), route(&[]));
}
