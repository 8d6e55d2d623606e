//! Two and three speakers: what one announces, the others get, as they should.

use std::sync::Arc;
use std::time::Duration;

use isocast_bgp::guard::ExportGuard;
use isocast_bgp::speaker::{LearntRoutes, Withheld};
use isocast_bgp::types::Asn;

use crate::net::{Net, net, peer, transit};

/// 0 — 1 — 2.
fn chain() -> Net {
    let mut chain = Net::new(3);
    chain.join(transit(0, 1), transit(1, 0));
    chain.join(transit(1, 2), transit(2, 1));
    assert!(chain.is_up(0, 1) && chain.is_up(2, 1));
    chain
}

#[test]
fn an_announcement_goes_through_and_so_does_its_end() {
    let mut chain = chain();

    chain.announce(0, ["192.0.2.1/32", "2001:db8:1::/48"]);

    let best = chain.best(2);
    let route = &best[&net("192.0.2.1/32")];
    assert_eq!(route.attributes.as_path.0, [Asn(65_001), Asn(65_000)]);
    assert_eq!(route.next_hop.unwrap().to_string(), "10.0.0.2");
    assert_eq!(best[&net("2001:db8:1::/48")].next_hop.unwrap().to_string(), "2001:db8::2");

    chain.announce(0, []);
    assert!(chain.best(2).is_empty() && chain.best(1).is_empty());
    assert_eq!(chain.speakers[1].attribute_sets(), 0);
}

#[test]
fn withdrawals_are_counted_by_whoever_made_them_and_a_lost_session_is_none() {
    let mut chain = chain();
    chain.announce(0, ["192.0.2.1/32", "192.0.2.2/32"]);
    chain.announce(2, ["192.0.2.1/32"]);
    let count =
        |chain: &Net, from| chain.speakers[1].peer(peer(from)).unwrap().counters.withdrawn_in;

    chain.announce(0, []);
    assert_eq!((count(&chain, 0), count(&chain, 2)), (2, 0));

    chain.set_link(1, 2, false);
    assert!(chain.best(1).is_empty());
    assert_eq!((count(&chain, 0), count(&chain, 2)), (2, 0));
}

#[test]
fn what_a_session_brought_goes_with_it_and_comes_back() {
    let mut chain = chain();
    chain.announce(0, ["192.0.2.1/32"]);

    chain.set_link(0, 1, false);
    assert!(chain.best(2).is_empty());

    chain.set_link(0, 1, true);
    chain.pass(Duration::from_secs(30));
    assert_eq!(chain.prefixes(2), ["192.0.2.1/32"]);
}

#[test]
fn the_guard_holds_for_our_own_and_for_nobody_elses() {
    let mut chain = chain();
    chain.announce(0, ["192.0.2.1/32"]);
    chain.announce(1, ["198.51.100.1/32"]);

    chain.speakers[1].set_guard(Arc::new(ExportGuard::default()));
    chain.settle();

    assert_eq!(chain.prefixes(2), ["192.0.2.1/32"]);
    let sent = chain.speakers[1].sent_prefix(peer(2), &net("198.51.100.1/32")).unwrap();
    assert_eq!((sent.told, sent.outcome), (false, Err(Withheld::NotAnnounceable)));
}

#[test]
fn routes_of_others_stay_here_unless_the_peers_export_says_otherwise() {
    let mut chain = Net::new(3);
    chain.join(transit(0, 1), transit(1, 0));
    let mut stub = transit(1, 2);
    stub.export.learnt = LearntRoutes::Withhold;
    chain.join(stub, transit(2, 1));
    chain.announce(0, ["192.0.2.1/32"]);
    chain.announce(1, ["198.51.100.1/32"]);

    assert_eq!(chain.prefixes(2), ["198.51.100.1/32"]);

    chain.set(1, 2, transit(1, 2));
    chain.settle();
    assert_eq!(chain.prefixes(2), ["192.0.2.1/32", "198.51.100.1/32"]);
}
