//! What a peer cannot do: make us remember, wait, or say more than we want to.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use isocast_bgp::fsm::{Action, EndReason, Input};
use isocast_bgp::policy::Policy;
use isocast_bgp::speaker::{OverLimit, PrefixLimit, Withheld};
use isocast_bgp::types::{Asn, Family};
use isocast_bgp::wire::as_path::AsPath;
use isocast_bgp::wire::attribute::PathAttributes;
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::refresh::{Refresh, RouteRefresh};

use crate::net::net;
use crate::script::{Persona, Script, address, config, id};

fn prefixes(count: u32) -> Vec<IpNet> {
    let host = |n: u32| Ipv4Addr::from(0x0a00_0000_u32 | n << 8);
    (0..count).map(|n| Ipv4Net::new(host(n), 24).unwrap().into()).collect()
}

fn hop(peer: usize) -> NextHop {
    NextHop::new(address(peer).into()).unwrap()
}

fn path(asns: &[u32]) -> PathAttributes {
    let as_path = AsPath(asns.iter().copied().map(Asn).collect());
    PathAttributes { as_path, ..PathAttributes::default() }
}

fn two() -> [Persona; 2] {
    [Persona::new(65_001), Persona::new(65_002)]
}

#[test]
fn a_peer_that_does_not_read_hears_the_last_word_when_it_does() {
    let mut script = Script::new(&two());
    let prefixes = prefixes(500);
    for round in 0..20 {
        script.announce(0, &prefixes, hop(0), &path(&[65_001, 100 + round]));
        script.settle_but(&[1]);
    }
    let waiting = script.speaker.peer(id(1)).unwrap().counts.ipv4.waiting;
    assert_eq!(waiting, 500, "a prefix waits once, however often it changed");

    script.settle();

    assert_eq!(script.peers[1].held.len(), 500);
    let all_last = script.peers[1]
        .held
        .values()
        .all(|(_, attributes)| attributes.as_path.0.last() == Some(&Asn(119)));
    assert!(all_last);
    assert!(script.peers[1].messages <= 3, "{} messages", script.peers[1].messages);
}

#[test]
fn what_came_and_went_while_a_peer_did_not_read_is_never_said() {
    let mut script = Script::new(&two());
    script.settle();
    let (said, prefixes) = (script.peers[1].messages, prefixes(500));

    script.announce(0, &prefixes, hop(0), &path(&[65_001]));
    script.withdraw(0, &prefixes);
    script.settle();

    assert_eq!(script.peers[1].messages, said);
    assert_eq!(script.speaker.prefixes(Family::Ipv4Unicast), 0);
}

#[test]
fn a_host_route_overtakes_a_backlog() {
    let mut script = Script::new(&two());
    script.announce(0, &prefixes(50_000), hop(0), &path(&[65_001]));
    script.announce(0, &[net("192.0.2.1/32")], hop(0), &path(&[65_001]));

    script.hear(1);

    assert!(script.peers[1].held.contains_key(&net("192.0.2.1/32")));
    assert!(script.peers[1].held.len() < 50_000);
}

#[test]
fn withdrawals_overtake_announcements() {
    let mut script = Script::new(&two());
    let gone = prefixes(10);
    script.announce(0, &gone, hop(0), &path(&[65_001]));
    script.settle();
    script.announce(0, &prefixes(50_000)[10..], hop(0), &path(&[65_001, 7]));
    script.withdraw(0, &gone);

    script.hear(1);

    assert!(gone.iter().all(|prefix| !script.peers[1].held.contains_key(prefix)));
}

#[test]
fn one_prefix_more_than_the_limit_ends_the_session() {
    let mut limited = config(0, Asn(65_001));
    limited.import.limit = PrefixLimit { prefixes_max: 100, over: OverLimit::EndSession };
    let mut script = Script::with(&two(), vec![limited, config(1, Asn(65_002))]);
    script.announce(0, &prefixes(100), hop(0), &path(&[65_001]));
    script.announce(0, &prefixes(100), hop(0), &path(&[65_001, 7]));
    assert!(script.is_up(0));

    script.announce(0, &prefixes(101), hop(0), &path(&[65_001]));

    assert!(!script.is_up(0));
    let ended = script.actions.iter().any(|(_, action)| {
        matches!(action, Action::Ended { reason: EndReason::PrefixLimit(_), .. })
    });
    assert!(ended);
    script.settle();
    assert!(script.peers[1].held.is_empty());
}

#[test]
fn a_limit_that_only_warns_keeps_what_fits() {
    let mut limited = config(0, Asn(65_001));
    limited.import.limit = PrefixLimit { prefixes_max: 100, over: OverLimit::Ignore };
    let mut script = Script::with(&two(), vec![limited, config(1, Asn(65_002))]);

    script.announce(0, &prefixes(101), hop(0), &path(&[65_001]));
    script.settle();

    assert_eq!(script.peers[1].held.len(), 100);
    let view = script.speaker.peer(id(0)).unwrap();
    assert!(view.counts.ipv4.over_limit_in);
    assert_eq!(view.counters.rejected_limit, 1);
}

#[test]
fn no_more_than_the_export_limit_is_told_until_there_is_room() {
    let mut limited = config(1, Asn(65_002));
    limited.export.prefixes_max = Some(100);
    let mut script = Script::with(&two(), vec![config(0, Asn(65_001)), limited]);
    let prefixes = prefixes(150);

    script.announce(0, &prefixes, hop(0), &path(&[65_001]));
    script.settle();
    assert_eq!(script.peers[1].held.len(), 100);
    assert!(script.speaker.peer(id(1)).unwrap().counts.ipv4.over_limit_out);
    let refused =
        prefixes.iter().find(|prefix| !script.peers[1].held.contains_key(prefix)).unwrap();
    let sent = script.speaker.sent_prefix(id(1), refused).unwrap();
    assert_eq!(sent.outcome, Err(Withheld::OverLimit));

    let told: Vec<_> = script.peers[1].held.keys().take(30).copied().collect();
    script.withdraw(0, &told);
    script.settle();
    assert_eq!(script.peers[1].held.len(), 100);
}

#[test]
fn a_refresh_tells_everything_again_and_nothing_twice() {
    let mut script = Script::new(&two());
    script.announce(0, &prefixes(3000), hop(0), &path(&[65_001]));
    script.settle();
    script.peers[1].held.clear();
    let before = script.speaker.peer(id(1)).unwrap().counters.announced_out;

    let mut bytes = Vec::new();
    RouteRefresh::new(Refresh::Request, Family::Ipv4Unicast).encode(&mut bytes);
    script.say(1, &bytes);
    script.settle();

    assert_eq!(script.peers[1].held.len(), 3000);
    let after = script.speaker.peer(id(1)).unwrap().counters.announced_out;
    assert_eq!(after - before, 3000);
}

#[test]
fn nothing_passes_without_a_policy() {
    let mut shut = config(0, Asn(65_001));
    shut.import.policy = Policy::reject_all();
    let mut script = Script::with(&two(), vec![shut, config(1, Asn(65_002))]);

    script.announce(0, &prefixes(10), hop(0), &path(&[65_001]));
    script.settle();

    assert!(script.peers[1].held.is_empty());
    assert_eq!(script.speaker.prefixes(Family::Ipv4Unicast), 0);
    assert_eq!(script.speaker.attribute_sets(), 0);
}

#[test]
fn removing_a_peer_takes_its_routes_with_it() {
    let mut script = Script::new(&two());
    script.announce(0, &prefixes(10), hop(0), &path(&[65_001]));
    script.settle();

    let mut actions = Vec::new();
    let stop = isocast_bgp::fsm::Stop::Deconfigure;
    script.speaker.remove_peer(script.now, id(0), stop, &mut actions);
    script.settle();

    assert!(script.peers[1].held.is_empty());
    assert!(script.speaker.peer(id(0)).is_none());
    let gone = script.speaker.peers().count();
    assert_eq!(gone, 1);
    let mut ignored = Vec::new();
    script.speaker.handle(script.now, id(0), Input::Start, &mut ignored);
    assert!(ignored.is_empty());
}
