//! How terms work together.

use isocast_bgp::{
    policy::{
        CommunityEdit, Connection, END_OF_POLICY, Match, NextHopEdit, Policy, PrefixRange, Set,
        Source, Then, Verdict,
    },
    types::{Asn, Family},
    wire::community::Community,
};

use super::{context, judged, net, policy, route, term};

const PREFIX: &str = "198.51.100.0/24";

#[test]
fn where_no_term_decides_the_route_is_rejected() {
    let policy = policy(&[term("a", Match::default(), Set::default(), Then::Next)]);
    let verdict = policy.evaluate(
        net(PREFIX),
        &route(&[1], &[]),
        &context(Connection::Fabric, Source::Learned),
    );

    assert_eq!(judged(&verdict), (false, END_OF_POLICY));
}

#[test]
fn the_first_term_that_decides_decides() {
    let here = Match { prefixes: vec![PrefixRange::exactly(net(PREFIX))], ..Match::default() };
    let terms = [
        term("reject-it", here, Set::default(), Then::Reject),
        term("accept-all", Match::default(), Set::default(), Then::Accept),
    ];
    let [first, second] = [policy(&terms), policy(&[terms[1].clone(), terms[0].clone()])];
    let (route, context) = (route(&[1], &[]), context(Connection::Fabric, Source::Learned));

    assert_eq!(judged(&first.evaluate(net(PREFIX), &route, &context)), (false, "reject-it"));
    assert_eq!(judged(&second.evaluate(net(PREFIX), &route, &context)), (true, "accept-all"));
    assert_eq!(judged(&first.evaluate(net("10.0.0.0/8"), &route, &context)), (true, "accept-all"));
}

#[test]
fn later_terms_see_what_earlier_ones_set() {
    let mark = Set {
        communities: CommunityEdit {
            add: vec!["65010:7".parse().unwrap()],
            ..CommunityEdit::default()
        },
        ..Set::default()
    };
    let marked = Match { communities: vec!["65010:7".parse().unwrap()], ..Match::default() };
    let unmark = Set {
        communities: CommunityEdit {
            remove: vec!["65010:*".parse().unwrap()],
            ..CommunityEdit::default()
        },
        med: Some(3),
        ..Set::default()
    };
    let policy = policy(&[
        term("mark", Match::default(), mark, Then::Next),
        term("marked", marked, unmark, Then::Accept),
    ]);
    let before = route(&[1], &["no-export"]);

    let verdict =
        policy.evaluate(net(PREFIX), &before, &context(Connection::Fabric, Source::Learned));

    assert_eq!(judged(&verdict), (true, "marked"));
    let Verdict::Accept { edits, .. } = verdict else { unreachable!() };
    let mut after = before;
    edits.apply(&mut after);
    assert_eq!(after.communities.standard.into_iter().collect::<Vec<_>>(), [Community::NO_EXPORT]);
    assert_eq!(after.med, Some(3));
}

#[test]
fn a_path_is_prepended_up_to_what_a_peer_would_take() {
    let set = Set { prepend: 16, ..Set::default() };
    let policy = policy(&[term("prepend", Match::default(), set, Then::Accept)]);
    for (hops, expected) in [(1, 17), (250, 254), (254, 254), (255, 255)] {
        let mut after = route(&vec![1; hops], &[]);
        let verdict =
            policy.evaluate(net(PREFIX), &after, &context(Connection::Transit, Source::Own));
        let Verdict::Accept { edits, .. } = verdict else { unreachable!() };

        edits.apply(&mut after);

        assert_eq!(after.as_path.0.len(), expected);
        assert_eq!(after.as_path.0.first(), Some(&Asn(if hops < 254 { 65010 } else { 1 })));
    }
}

#[test]
fn a_next_hop_of_the_other_family_changes_nothing() {
    let set = |edit| Set { next_hop: Some(edit), ..Set::default() };
    let address = NextHopEdit::Address("10.0.0.9".parse().unwrap());
    let policy = policy(&[
        term("self", Match::default(), set(NextHopEdit::Itself), Then::Next),
        term("address", Match::default(), set(address), Then::Accept),
    ]);
    let verdict =
        policy.evaluate(net(PREFIX), &route(&[], &[]), &context(Connection::Fabric, Source::Own));

    let Verdict::Accept { edits, .. } = verdict else { unreachable!() };
    assert_eq!(edits.next_hop(Family::Ipv4Unicast), Some(address));
    assert_eq!(edits.next_hop(Family::Ipv6Unicast), Some(NextHopEdit::Itself));
}

#[test]
fn the_constant_policies_are_known_as_such() {
    assert!(Policy::accept_all().constant().unwrap().is_accept());
    assert!(!Policy::reject_all().constant().unwrap().is_accept());
    assert!(
        policy(&[term("a", Match::default(), Set::default(), Then::Accept)]).constant().is_none()
    );
}
