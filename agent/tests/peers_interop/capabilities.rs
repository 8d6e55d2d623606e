//! What only some of them can do, or do in a way of their own.

use serde_json::json;

use crate::exabgp::ExaBgp;
use crate::gobgp::GoBgp;
use crate::neighbour::{AsksAgain, Neighbour, Setup};
use crate::net::{Lab, eventually};
use crate::openbgpd::OpenBgpd;
use crate::place::Place;
use crate::speaker::Speaker;
use crate::{ACCEPT, WIDE_ASN, announce, peer};

const OWN: &str = "203.0.113.10/32";
const THEIRS: &str = "198.51.100.0/24";

#[test]
fn gobgp_sends_again_what_a_policy_now_takes() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN);
        let gobgp = GoBgp::start(&place, &setup).await;
        let shut = peer("it", &place, &setup, "export = { default = 'accept' }\n");
        let speaker = Speaker::start(&lab, &shut).await;
        speaker.established(&["it"]).await;
        let since = speaker.peer("it").await.unwrap()["since"].clone();
        gobgp.announce(THEIRS).await;
        eventually("it was heard", async || {
            speaker.peer("it").await.unwrap()["updates_received"] != 0
        })
        .await;
        assert!(speaker.best(THEIRS).await.is_none());

        speaker.reload(&peer("it", &place, &setup, ACCEPT));

        eventually("it is taken", async || speaker.best(THEIRS).await.is_some()).await;
        assert_eq!(speaker.peer("it").await.unwrap()["since"], since);
    });
}

/// It asks for everything again. `session`: whether it wants marks around what it gets.
fn asks_again<N: AsksAgain + 'static>(session: &'static str) {
    Lab::run(async move |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN).session(session);
        let neighbour = N::start(&place, &setup).await;
        let config = peer("it", &place, &setup, ACCEPT) + &announce(OWN);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it"]).await;
        let since = speaker.peer("it").await.unwrap()["since"].clone();
        eventually("it has ours", async || neighbour.learnt(OWN).await.is_some()).await;
        let sent = async || speaker.peer("it").await.unwrap()["updates_sent"].as_u64().unwrap();
        let before = sent().await;

        neighbour.ask_again().await;

        eventually("it is told again", async || sent().await > before).await;
        assert!(neighbour.learnt(OWN).await.is_some());
        assert_eq!(speaker.peer("it").await.unwrap()["since"], since);
    });
}

#[test]
fn openbgpd_gets_again_what_it_asks_for() {
    asks_again::<OpenBgpd>("");
}

#[test]
fn openbgpd_that_wants_marks_gets_again_what_it_asks_for() {
    asks_again::<OpenBgpd>(" announce enhanced refresh yes\n");
}

#[test]
fn exabgp_gets_again_what_it_asks_for_between_two_marks() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN).session("capability { route-refresh enable; }\n");
        let exabgp = ExaBgp::start(&place, &setup).await;
        let config = peer("it", &place, &setup, ACCEPT) + &announce(OWN);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it"]).await;
        eventually("it has ours", async || exabgp.learnt(OWN).await.is_some()).await;
        let before = exabgp.events().len();

        exabgp.ask_again().await;
        let said = |word: &str| {
            let events = exabgp.events();
            events.iter().skip(before).position(|event| event.contains(word))
        };
        eventually("the end is marked", async || said("\"end\"").is_some()).await;

        let (begin, route, end) = (said("\"begin\""), said(OWN), said("\"end\""));
        assert!(begin.is_some() && begin < route && route < end, "{begin:?} {route:?} {end:?}");
    });
}

#[test]
fn ipv4_routes_go_by_ipv6_next_hops_with_exabgp_both_ways() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let session = "capability { nexthop enable; }\nnexthop { ipv4 unicast ipv6; }\n";
        let setup = Setup { over_ipv6: true, ..Setup::new(WIDE_ASN).session(session) };
        let exabgp = ExaBgp::start(&place, &setup).await;
        let config = peer("it", &place, &setup, ACCEPT) + &announce(OWN);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it"]).await;

        eventually("it has ours", async || exabgp.learnt(OWN).await.is_some()).await;
        assert_eq!(exabgp.learnt(OWN).await.unwrap().next_hop, place.edge_v6.to_string());
        exabgp.say(&format!("announce route {THEIRS} next-hop {}", place.own_v6));
        eventually("we have theirs", async || speaker.best(THEIRS).await.is_some()).await;
        assert_eq!(speaker.best(THEIRS).await.unwrap()["next_hop"], place.own_v6.to_string());
    });
}

/// GoBGP offers it on every session over IPv6.
#[test]
fn ipv4_routes_go_by_ipv6_next_hops_with_gobgp_both_ways() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup { over_ipv6: true, ..Setup::new(WIDE_ASN) };
        let gobgp = GoBgp::start(&place, &setup).await;
        let config = peer("it", &place, &setup, ACCEPT) + &announce(OWN);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it"]).await;

        eventually("it has ours", async || gobgp.learnt(OWN).await.is_some()).await;
        assert_eq!(gobgp.learnt(OWN).await.unwrap().next_hop, place.edge_v6.to_string());
        let own = place.own_v6.to_string();
        gobgp.client(&["global", "rib", "add", THEIRS, "nexthop", &own]).await;
        eventually("we have theirs", async || speaker.best(THEIRS).await.is_some()).await;
        assert_eq!(speaker.best(THEIRS).await.unwrap()["next_hop"], own);
    });
}

/// Several paths are offered, which we do not take: routes come as ever, without identifiers.
fn offers_add_path<N: Neighbour + 'static>(session: &'static str) {
    Lab::run(async move |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN).session(session);
        let neighbour = N::start(&place, &setup).await;
        let config = peer("it", &place, &setup, ACCEPT) + &announce(OWN);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it"]).await;

        neighbour.announce(THEIRS).await;
        eventually("we have theirs", async || speaker.best(THEIRS).await.is_some()).await;
        eventually("it has ours", async || neighbour.learnt(OWN).await.is_some()).await;
        neighbour.withdraw(THEIRS).await;
        eventually("it is gone", async || speaker.best(THEIRS).await.is_none()).await;
        assert_eq!(speaker.peer("it").await.unwrap()["faults"], 0);
    });
}

#[test]
fn several_paths_offered_by_gobgp_are_declined() {
    offers_add_path::<GoBgp>("[neighbors.add-paths.config]\nsend-max = 8\nreceive = true\n");
}

#[test]
fn several_paths_offered_by_exabgp_are_declined() {
    offers_add_path::<ExaBgp>(
        "capability { add-path send/receive; }\nadd-path { ipv4 unicast; ipv6 unicast; }\n",
    );
}

#[test]
fn several_paths_offered_by_openbgpd_are_declined() {
    offers_add_path::<OpenBgpd>(" announce add-path recv yes\n announce add-path send all\n");
}

#[test]
fn a_neighbour_without_four_octet_numbers_has_whole_paths_and_gives_whole_paths() {
    Lab::run(async |lab| {
        let (left, right) = (Place::left(&lab), Place::right(&lab));
        let old = Setup::new(64_601).session(" announce as-4byte no\n");
        let wide = Setup::new(WIDE_ASN);
        let bgpd = OpenBgpd::start(&left, &old).await;
        let gobgp = GoBgp::start(&right, &wide).await;
        let config = peer("old", &left, &old, ACCEPT) + &peer("wide", &right, &wide, ACCEPT);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["old", "wide"]).await;

        gobgp.announce(THEIRS).await;
        eventually("it has GoBGP's", async || bgpd.learnt(THEIRS).await.is_some()).await;
        // Put together again from AS_TRANS and AS4_PATH (RFC 6793 §4.2.3).
        assert_eq!(bgpd.learnt(THEIRS).await.unwrap().as_path, [65_010, WIDE_ASN]);
        bgpd.announce("192.0.2.0/24").await;
        eventually("GoBGP has its", async || gobgp.learnt("192.0.2.0/24").await.is_some()).await;
        assert_eq!(gobgp.learnt("192.0.2.0/24").await.unwrap().as_path, [65_010, 64_601]);
    });
}

#[test]
fn an_old_exabgp_sends_wide_numbers_in_a_shadow() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(64_601).session("capability { asn4 disable; }\n");
        let exabgp = ExaBgp::start(&place, &setup).await;
        let speaker = Speaker::start(&lab, &peer("it", &place, &setup, ACCEPT)).await;
        speaker.established(&["it"]).await;

        let hops = format!("as-path [ 64601 {WIDE_ASN} 64700 ]");
        exabgp.say(&format!("announce route {THEIRS} next-hop {} {hops}", place.own_v4));

        eventually("we have it", async || speaker.best(THEIRS).await.is_some()).await;
        let best = speaker.best(THEIRS).await.unwrap();
        assert_eq!(best["as_path"], json!([64_601, WIDE_ASN, 64_700]));
    });
}

#[test]
fn openbgpd_and_we_agree_on_roles_or_have_no_session() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN).session(" announce policy provider enforce\n");
        let _bgpd = OpenBgpd::start(&place, &setup).await;
        let role = |role: &str| peer("it", &place, &setup, &format!("role = '{role}'\n{ACCEPT}"));

        let speaker = Speaker::start(&lab, &role("peer")).await;
        eventually("roles do not match", async || {
            let peer = speaker.peer("it").await.unwrap();
            peer["last_error"].as_str().is_some_and(|error| error.contains("role mismatch"))
        })
        .await;

        speaker.reload(&role("customer"));
        speaker.established(&["it"]).await;
    });
}

#[test]
fn an_ipv4_address_in_ipv6s_clothes_is_no_next_hop_and_costs_the_route_alone() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN);
        let gobgp = GoBgp::start(&place, &setup).await;
        let speaker = Speaker::start(&lab, &peer("it", &place, &setup, ACCEPT)).await;
        speaker.established(&["it"]).await;

        // What GoBGP sends on an IPv4 session unless told otherwise: ::ffff:10.99.1.2.
        gobgp.client(&["global", "rib", "add", "-a", "ipv6", "2001:db8:c::/48"]).await;
        eventually("it is refused", async || {
            speaker.peer("it").await.unwrap()["faults"] == json!(1)
        })
        .await;
        gobgp.announce(THEIRS).await;
        eventually("others are taken", async || speaker.best(THEIRS).await.is_some()).await;
        assert!(speaker.best("2001:db8:c::/48").await.is_none());
    });
}
