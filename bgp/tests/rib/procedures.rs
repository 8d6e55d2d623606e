//! Rules beyond choosing and passing on: restarts, roles, well-known communities, next hops of
//! another family, attributes nobody knows.

use std::net::Ipv4Addr;
use std::time::Duration;

use isocast_bgp::fsm::{HelperConfig, Role};
use isocast_bgp::speaker::{NextHopMode, PeerConfig, Reason, Verdict, Withheld};
use isocast_bgp::types::{Asn, Family, PerFamily};
use isocast_bgp::wire::as_path::AsPath;
use isocast_bgp::wire::attribute::{OpaqueAttribute, PathAttributes};
use isocast_bgp::wire::capability::{
    Capability, Forwarding, GracefulRestart, LongLived, LongLivedFamily,
};
use isocast_bgp::wire::community::Communities;
use isocast_bgp::wire::encode;
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::refresh::{Refresh, RouteRefresh};

use crate::net::net;
use crate::script::{LOCAL_ASN, Persona, Script, address, config, id};

const PREFIX: &str = "192.0.2.0/24";

fn hop(peer: usize) -> NextHop {
    NextHop::new(address(peer).into()).unwrap()
}

fn path(asns: &[u32], communities: &[&str]) -> PathAttributes {
    PathAttributes {
        as_path: AsPath(asns.iter().copied().map(Asn).collect()),
        communities: Communities::parse(communities.iter().copied()).unwrap(),
        ..PathAttributes::default()
    }
}

fn personas() -> [Persona; 3] {
    [65_001, 65_002, 65_003].map(Persona::new)
}

fn configs() -> Vec<PeerConfig> {
    personas().iter().enumerate().map(|(at, persona)| config(at, persona.asn)).collect()
}

/// Peer 0 restarts gracefully, and we help; for a second, then for an hour as a last resort.
fn restarting() -> Script {
    let mut configs = configs();
    configs[0].session.helper =
        Some(HelperConfig { long_lived_max: Duration::from_secs(3600), ..HelperConfig::default() });
    configs[0].session.restart_time = Some(Duration::from_secs(30));
    let restart = Capability::GracefulRestart(GracefulRestart {
        restart_time: Duration::from_secs(1),
        families: PerFamily { ipv4: Some(Forwarding::Preserved), ipv6: None },
        ..GracefulRestart::default()
    });
    let family =
        LongLivedFamily { forwarding: Forwarding::Preserved, stale_time: Duration::from_secs(3) };
    let long_lived =
        Capability::LongLived(LongLived { families: PerFamily { ipv4: Some(family), ipv6: None } });
    // Peer 2 knows what a last resort is, peer 1 does not.
    let offers = [vec![restart.clone(), long_lived.clone()], Vec::new(), vec![restart, long_lived]];
    Script::offering(&personas(), configs, &offers)
}

#[test]
fn routes_of_a_restarting_peer_stay_until_it_has_said_them_again() {
    let mut script = restarting();
    let prefixes = [net(PREFIX), net("198.51.100.0/24")];
    script.announce(0, &prefixes, hop(0), &path(&[65_001], &[]));
    script.settle();
    let said = script.peers[1].messages;

    script.lose(0);
    script.settle();
    let route = script.speaker.route(&net(PREFIX)).unwrap();
    assert!(route.paths[0].stale && route.paths[0].best);
    assert_eq!(script.peers[1].messages, said, "nothing changed for others");

    script.connect(0);
    script.announce(0, &prefixes[..1], hop(0), &path(&[65_001], &[]));
    script.settle();
    assert_eq!(script.peers[1].held.len(), 2);
    let mut end = Vec::new();
    encode::end_of_rib(Family::Ipv4Unicast, &mut end);
    script.say(0, &end);
    script.settle();

    assert_eq!(script.peers[1].held.keys().copied().collect::<Vec<_>>(), [net(PREFIX)]);
    assert!(!script.speaker.route(&net(PREFIX)).unwrap().paths[0].stale);
}

#[test]
fn any_other_path_is_better_than_a_stale_one() {
    let mut script = restarting();
    script.announce(0, &[net(PREFIX)], hop(0), &path(&[65_001], &[]));
    script.announce(1, &[net(PREFIX)], hop(1), &path(&[65_002, 7, 7, 7], &[]));
    script.settle();

    script.lose(0);
    script.settle();

    let route = script.speaker.route(&net(PREFIX)).unwrap();
    assert_eq!(route.paths[0].peer, Some(id(1)));
    assert_eq!(route.reason, Some(Reason::Fresh));
    assert_eq!(script.peers[2].held[&net(PREFIX)].1.as_path.0.len(), 5);
}

#[test]
fn a_last_resort_goes_only_to_those_who_know_what_it_is() {
    let mut script = restarting();
    let kept = net(PREFIX);
    let refused = net("198.51.100.0/24");
    script.announce(0, &[kept], hop(0), &path(&[65_001], &[]));
    let mut no_llgr = path(&[65_001], &[]);
    no_llgr.communities.standard.insert(isocast_bgp::wire::community::Community(0xffff_0007));
    script.announce(0, &[refused], hop(0), &no_llgr);
    script.settle();
    script.lose(0);
    script.settle();

    script.now += Duration::from_secs(2);
    let mut actions = Vec::new();
    script.speaker.tick(script.now, &mut actions);
    script.settle();

    assert!(script.peers[1].held.is_empty());
    let sent = script.speaker.sent_prefix(id(1), &kept).unwrap();
    assert_eq!(sent.outcome, Err(Withheld::LongLivedStale));
    assert_eq!(script.peers[2].held.keys().copied().collect::<Vec<_>>(), [kept]);
    let standard = &script.peers[2].held[&kept].1.communities.standard;
    assert!(standard.iter().any(|community| community.0 == 0xffff_0006));

    script.now += Duration::from_secs(4);
    script.speaker.tick(script.now, &mut actions);
    script.settle();
    assert!(script.peers[2].held.is_empty());
}

#[test]
fn what_a_refresh_does_not_repeat_goes_at_its_end() {
    let mut script =
        Script::offering(&personas(), configs(), &[vec![Capability::EnhancedRouteRefresh]]);
    let prefixes = [net(PREFIX), net("198.51.100.0/24")];
    script.announce(0, &prefixes, hop(0), &path(&[65_001], &[]));
    script.settle();
    let said = script.peers[1].messages;
    let mark = |script: &mut Script, refresh| {
        let mut bytes = Vec::new();
        RouteRefresh::new(refresh, Family::Ipv4Unicast).encode(&mut bytes);
        script.say(0, &bytes);
        script.settle();
    };

    mark(&mut script, Refresh::Begin);
    script.announce(0, &prefixes[..1], hop(0), &path(&[65_001], &[]));
    script.settle();
    assert_eq!(script.peers[1].messages, said);

    mark(&mut script, Refresh::End);
    assert_eq!(script.peers[1].held.keys().copied().collect::<Vec<_>>(), [net(PREFIX)]);
}

#[test]
fn what_came_from_a_provider_flows_to_customers_only() {
    let mut configs = configs();
    configs[0].session.role = Some(Role::Customer);
    configs[1].session.role = Some(Role::Peer);
    configs[2].session.role = Some(Role::Provider);
    let mut script = Script::with(&personas(), configs);

    script.announce(0, &[net(PREFIX)], hop(0), &path(&[65_001], &[]));
    script.settle();

    assert!(script.peers[1].held.is_empty());
    let sent = script.speaker.sent_prefix(id(1), &net(PREFIX)).unwrap();
    assert_eq!(sent.outcome, Err(Withheld::Leak));
    assert_eq!(script.peers[2].held[&net(PREFIX)].1.only_to_customer, Some(Asn(65_001)));

    // A customer that sends back what was for customers only leaks it.
    let mut leak = path(&[65_003, 65_001], &[]);
    leak.only_to_customer = Some(Asn(65_001));
    script.announce(2, &[net("198.51.100.0/24")], hop(2), &leak);
    let route = script.speaker.route(&net("198.51.100.0/24")).unwrap();
    assert_eq!(route.paths[0].verdict, Verdict::Leak);
    assert_eq!(route.reason, None);
}

#[test]
fn blackhole_means_something_only_from_those_who_may_say_it() {
    let mut configs = configs();
    configs[1].import.blackhole = true;
    let mut script = Script::with(&personas(), configs);
    let (asked, ignored) = (net("192.0.2.1/32"), net("192.0.2.2/32"));

    script.announce(0, &[ignored], hop(0), &path(&[65_001], &["blackhole"]));
    script.announce(1, &[asked], hop(1), &path(&[65_002], &["blackhole"]));
    script.settle();

    assert!(script.peers[2].held.contains_key(&ignored));
    assert!(!script.peers[2].held.contains_key(&asked));
    let sent = script.speaker.sent_prefix(id(2), &asked).unwrap();
    assert_eq!(sent.outcome, Err(Withheld::NoExport));
}

#[test]
fn ipv4_goes_by_an_ipv6_next_hop_where_that_was_agreed_on() {
    let mut configs = configs();
    let global = NextHop::new("2001:db8::fe".parse().unwrap());
    configs[1].session.extended_next_hop = true;
    configs[1].session.next_hops = PerFamily { ipv4: global, ipv6: global };
    let offers = [Vec::new(), vec![Capability::ExtendedNextHop(vec![(1, 1, 2)])]];
    let mut script = Script::offering(&personas(), configs, &offers);

    script.announce(0, &[net(PREFIX)], hop(0), &path(&[65_001], &[]));
    script.settle();

    assert_eq!(Some(script.peers[1].held[&net(PREFIX)].0), global);
    assert_eq!(script.peers[2].held[&net(PREFIX)].0.to_string(), "10.0.0.254");
}

#[test]
fn an_unknown_attribute_that_is_transitive_goes_along_marked_as_partial() {
    let mut script = Script::new(&personas());
    let mut attributes = path(&[65_001], &[]);
    attributes.opaque = vec![OpaqueAttribute { flags: 0xc0, code: 99, value: vec![1, 2, 3] }];

    script.announce(0, &[net(PREFIX)], hop(0), &attributes);
    script.settle();

    let passed = &script.peers[1].held[&net(PREFIX)].1.opaque;
    assert_eq!(*passed, [OpaqueAttribute { flags: 0xe0, code: 99, value: vec![1, 2, 3] }]);
}

#[test]
fn a_third_party_next_hop_is_passed_on_where_configured_but_never_to_itself() {
    let mut configs = configs();
    for config in &mut configs[1..] {
        config.export.next_hop = Some(NextHopMode::Unchanged);
    }
    let mut script = Script::with(&personas(), configs);

    script.announce(0, &[net(PREFIX)], hop(1), &path(&[65_001], &[]));
    script.settle();

    assert_eq!(script.peers[2].held[&net(PREFIX)].0, hop(1));
    assert_eq!(script.peers[1].held[&net(PREFIX)].0.to_string(), "10.0.0.254");
}

#[test]
fn paths_that_tie_share_traffic_up_to_the_limit() {
    let personas = [65_001; 6].map(Persona::new);
    let mut script = Script::new(&personas);
    for peer in 0..6 {
        script.announce(peer, &[net(PREFIX)], hop(peer), &path(&[65_001], &[]));
    }
    script.announce(5, &[net(PREFIX)], hop(5), &path(&[65_001, 7], &[]));

    let route = script.speaker.route(&net(PREFIX)).unwrap();

    assert_eq!(route.paths.len(), 6);
    assert_eq!(route.paths.iter().filter(|path| path.multipath).count(), 4);
    assert_eq!((route.paths[0].peer, route.reason), (Some(id(0)), Some(Reason::RouterId)));
}

#[test]
fn a_policy_that_opens_asks_the_peer_again() {
    let mut shut = configs();
    shut[0].import.policy = isocast_bgp::policy::Policy::reject_all();
    let mut script = Script::with(&personas(), shut);
    script.settle();
    let refreshes = |script: &Script| script.peers[0].refreshes;
    assert_eq!(refreshes(&script), 0);

    script.configure(0, configs().remove(0));
    script.settle();

    assert_eq!(refreshes(&script), 2, "one for each family");
}

#[test]
fn what_a_reflector_sends_back_to_its_originator_is_a_loop() {
    let mut script = Script::new(&[Persona::new(LOCAL_ASN.0)]);
    let reflected = |originator: Ipv4Addr| PathAttributes {
        local_pref: Some(100),
        opaque: vec![OpaqueAttribute { flags: 0x80, code: 9, value: originator.octets().to_vec() }],
        ..PathAttributes::default()
    };

    script.announce(0, &[net(PREFIX)], hop(0), &reflected(Ipv4Addr::new(10, 0, 0, 254)));
    let view = script.speaker.route(&net(PREFIX)).unwrap();
    assert_eq!((view.paths[0].best, view.paths[0].verdict), (false, Verdict::Loop));

    script.announce(0, &[net(PREFIX)], hop(0), &reflected(Ipv4Addr::new(10, 0, 0, 253)));
    let view = script.speaker.route(&net(PREFIX)).unwrap();
    assert_eq!((view.paths[0].best, view.paths[0].verdict), (true, Verdict::Accepted));
}
