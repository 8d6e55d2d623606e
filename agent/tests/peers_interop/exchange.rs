//! What every pair of implementations must do: routes of both families, both ways, with all that is
//! said about them, until they are withdrawn.

use serde_json::json;

use crate::exabgp::ExaBgp;
use crate::gobgp::GoBgp;
use crate::neighbour::{COMMUNITIES, Neighbour, Route, Setup};
use crate::net::{Lab, eventually};
use crate::openbgpd::OpenBgpd;
use crate::place::Place;
use crate::speaker::Speaker;
use crate::{ACCEPT, WIDE_ASN, announce, peer};

const OWN_V4: &str = "203.0.113.10/32";
const OWN_V6: &str = "2001:db8:f::10/128";
const THEIRS_V4: &str = "198.51.100.0/24";
const THEIRS_V6: &str = "2001:db8:c::/48";

/// What `neighbour` has of a prefix, once it has it.
async fn learnt(neighbour: &impl Neighbour, prefix: &str) -> Route {
    let mut found = None;
    eventually(&format!("it has {prefix}"), async || {
        found = neighbour.learnt(prefix).await;
        found.is_some()
    })
    .await;
    found.unwrap()
}

fn go_both_ways<N: Neighbour + 'static>() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN);
        let neighbour = N::start(&place, &setup).await;
        let config = peer("it", &place, &setup, ACCEPT) + &announce(OWN_V4) + &announce(OWN_V6);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it"]).await;

        let edge = [(OWN_V4, place.edge_v4.to_string()), (OWN_V6, place.edge_v6.to_string())];
        for (prefix, next_hop) in edge {
            let route = learnt(&neighbour, prefix).await;
            assert_eq!((route.next_hop, route.as_path), (next_hop, vec![65_010]), "{prefix}");
            assert_eq!(route.communities, ["65010:100", "65010:1:2"], "{prefix}");
        }
        let own = [(THEIRS_V4, place.own_v4.to_string()), (THEIRS_V6, place.own_v6.to_string())];
        for (prefix, next_hop) in own {
            neighbour.announce(prefix).await;
            eventually("it is learnt", async || speaker.best(prefix).await.is_some()).await;
            let best = speaker.best(prefix).await.unwrap();
            assert_eq!(best["as_path"], json!([WIDE_ASN]));
            assert_eq!(best["next_hop"], next_hop);
            assert_eq!(best["communities"], json!(COMMUNITIES));
        }

        for prefix in [THEIRS_V4, THEIRS_V6] {
            neighbour.withdraw(prefix).await;
            eventually("it is gone", async || speaker.best(prefix).await.is_none()).await;
        }
        speaker.reload(&config.replace(&announce(OWN_V4), ""));
        eventually("ours is gone", async || neighbour.learnt(OWN_V4).await.is_none()).await;
        assert!(neighbour.learnt(OWN_V6).await.is_some());
        assert_eq!(speaker.peer("it").await.unwrap()["faults"], 0);
    });
}

#[test]
fn routes_go_both_ways_with_gobgp() {
    go_both_ways::<GoBgp>();
}

#[test]
fn routes_go_both_ways_with_exabgp() {
    go_both_ways::<ExaBgp>();
}

#[test]
fn routes_go_both_ways_with_openbgpd() {
    go_both_ways::<OpenBgpd>();
}

/// `A` and `B` with us between them.
fn pass_through<A: Neighbour + 'static, B: Neighbour + 'static>() {
    Lab::run(async |lab| {
        let (left, right) = (Place::left(&lab), Place::right(&lab));
        let (wide, narrow) = (Setup::new(WIDE_ASN), Setup::new(64_602));
        let (a, b) = (A::start(&left, &wide).await, B::start(&right, &narrow).await);
        let config = peer("a", &left, &wide, ACCEPT) + &peer("b", &right, &narrow, ACCEPT);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["a", "b"]).await;

        for prefix in [THEIRS_V4, THEIRS_V6] {
            a.announce(prefix).await;
            let route = learnt(&b, prefix).await;
            assert_eq!(route.as_path, [65_010, WIDE_ASN]);
            assert_eq!(route.communities, COMMUNITIES);
            b.announce("192.0.2.0/24").await;
            assert_eq!(learnt(&a, "192.0.2.0/24").await.as_path, [65_010, 64_602]);

            a.withdraw(prefix).await;
            eventually("it is gone", async || b.learnt(prefix).await.is_none()).await;
        }
    });
}

#[test]
fn routes_of_gobgp_reach_openbgpd_and_back() {
    pass_through::<GoBgp, OpenBgpd>();
}

#[test]
fn routes_of_openbgpd_reach_exabgp_and_back() {
    pass_through::<OpenBgpd, ExaBgp>();
}

#[test]
fn routes_of_exabgp_reach_gobgp_and_back() {
    pass_through::<ExaBgp, GoBgp>();
}

/// Inside our AS the preference travels, and the path stays as it is.
fn inside_our_as<N: Neighbour + 'static>() {
    Lab::run(async |lab| {
        let (left, right) = (Place::left(&lab), Place::right(&lab));
        let (inside, outside) = (Setup::new(65_010), Setup::new(WIDE_ASN));
        let neighbour = N::start(&left, &inside).await;
        let exabgp = ExaBgp::start(&right, &outside).await;
        let config = peer("it", &left, &inside, ACCEPT)
            + &peer(
                "exabgp",
                &right,
                &outside,
                "export = { default = 'accept' }\nimport = { default = 'accept', policy = [\n\
                 { name = 'preferred', match = {}, set = { local-pref = 170 }, then = 'Accept' } ] }\n",
            )
            + &announce(OWN_V4);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it", "exabgp"]).await;

        exabgp.announce(THEIRS_V4).await;
        let route = learnt(&neighbour, THEIRS_V4).await;
        assert_eq!(route.as_path, [WIDE_ASN]);
        assert_eq!((route.local_pref, route.next_hop), (Some(170), right.own_v4.to_string()));
        let own = learnt(&neighbour, OWN_V4).await;
        assert_eq!((own.as_path, own.local_pref), (vec![], Some(100)));

        neighbour.announce(THEIRS_V6).await;
        eventually("its own is learnt", async || speaker.best(THEIRS_V6).await.is_some()).await;
        let best = speaker.best(THEIRS_V6).await.unwrap();
        assert_eq!((&best["as_path"], &best["local_pref"]), (&json!([]), &json!(100)));
        assert_eq!(learnt(&exabgp, THEIRS_V6).await.as_path, [65_010]);
    });
}

#[test]
fn gobgp_inside_our_as_sees_preferences_and_bare_paths() {
    inside_our_as::<GoBgp>();
}

#[test]
fn openbgpd_inside_our_as_sees_preferences_and_bare_paths() {
    inside_our_as::<OpenBgpd>();
}

#[test]
fn exabgp_inside_our_as_sees_preferences_and_bare_paths() {
    inside_our_as::<ExaBgp>();
}

/// IPv6 alone below: IPv6 routes go by next hops of the session.
fn go_over_ipv6<N: Neighbour + 'static>() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup { over_ipv6: true, ..Setup::new(WIDE_ASN) };
        let neighbour = N::start(&place, &setup).await;
        let config = peer("it", &place, &setup, ACCEPT) + &announce(OWN_V6);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it"]).await;

        neighbour.announce(THEIRS_V6).await;
        eventually("it is learnt", async || speaker.best(THEIRS_V6).await.is_some()).await;
        let best = speaker.best(THEIRS_V6).await.unwrap();
        assert_eq!(best["next_hop"], place.own_v6.to_string());
        let own = learnt(&neighbour, OWN_V6).await;
        assert_eq!(own.next_hop, place.edge_v6.to_string());
        assert_eq!(speaker.peer("it").await.unwrap()["faults"], 0);
    });
}

#[test]
fn ipv6_alone_carries_a_session_with_gobgp() {
    go_over_ipv6::<GoBgp>();
}

#[test]
fn ipv6_alone_carries_a_session_with_exabgp() {
    go_over_ipv6::<ExaBgp>();
}

#[test]
fn ipv6_alone_carries_a_session_with_openbgpd() {
    go_over_ipv6::<OpenBgpd>();
}
