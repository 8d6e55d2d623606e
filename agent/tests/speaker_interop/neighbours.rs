//! Neighbours of other kinds: inside our AS, old, or asking for everything again.

use serde_json::json;

use crate::net::{self, Lab, eventually};
use crate::routers::FRR_ASN;
use crate::speaker::Speaker;
use crate::{ACCEPT, bird, bird_of, bird_peer, frr, frr_peer, peer};

const OF_BIRD: &str = "198.51.100.0/24";
const OF_FRR: &str = "192.0.2.0/24";

#[test]
fn a_neighbour_inside_our_as_learns_what_comes_from_outside_and_the_reverse() {
    Lab::run(async |lab| {
        let frr = frr(&lab, &[OF_FRR], "").await;
        let bird = bird_of(&lab, 65_010, &[OF_BIRD], "").await;
        let inside = peer("bird", net::BIRD_V4, 65_010, ACCEPT);
        let speaker = Speaker::start(&lab, &(frr_peer(ACCEPT) + &inside)).await;

        eventually("FRR has what comes from inside", async || frr.has_route(OF_BIRD).await).await;
        let shown = frr.show(OF_BIRD).await;
        assert!(shown.contains("65010") && !shown.contains("65010 65010"), "{shown}");
        eventually("BIRD has what comes from outside", async || {
            bird.birdc("show route all").await.contains("BGP.local_pref: 100")
        })
        .await;
        let shown = bird.show(OF_FRR).await;
        assert!(shown.contains(&format!("BGP.as_path: {FRR_ASN}\n")), "{shown}");
        assert!(shown.contains(&format!("BGP.next_hop: {}\n", net::FRR_V4)), "{shown}");
        assert_eq!(speaker.best(OF_BIRD).await.unwrap()["as_path"], json!([]));
    });
}

#[test]
fn a_neighbour_without_four_octet_numbers_has_the_whole_path_by_its_shadow() {
    Lab::run(async |lab| {
        let edge = net::EDGE_TO_FRR_V4;
        // A number that needs four octets.
        let frr = crate::routers::Router::frr_with(
            &lab,
            &format!(
                "router bgp 4200000001\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n \
                 no bgp network import-check\n neighbor {edge} remote-as 65010\n \
                 neighbor {edge} timers 1 3\n neighbor {edge} timers connect 1\n \
                 address-family ipv4 unicast\n  network {OF_FRR}\n exit-address-family\n"
            ),
        )
        .await;
        let bird = bird(&lab, &[OF_BIRD], "enable as4 off;").await;
        let wide = peer("frr", net::FRR_V4, 4_200_000_001, ACCEPT);
        let speaker = Speaker::start(&lab, &(wide + &bird_peer(ACCEPT))).await;

        eventually("BIRD has FRR's", async || bird.has_route(OF_FRR).await).await;
        eventually("FRR has BIRD's", async || frr.has_route(OF_BIRD).await).await;

        let shown = bird.show(OF_FRR).await;
        // BIRD put the number back from AS4_PATH (RFC 6793 §4.2.3).
        assert!(shown.contains("BGP.as_path: 65010 4200000001\n"), "{shown}");
        // Ours alone.
        let capabilities = bird.birdc("show protocols all edge").await;
        assert_eq!(capabilities.matches("4-octet AS numbers").count(), 1, "{capabilities}");
        assert_eq!(speaker.best(OF_FRR).await.unwrap()["as_path"], json!([4_200_000_001_u32]));
    });
}

#[test]
fn routes_are_asked_for_again_when_an_import_opens_and_sent_again_when_a_router_asks() {
    Lab::run(async |lab| {
        let frr = frr(&lab, &[OF_FRR], "").await;
        let bird = bird(&lab, &[OF_BIRD], "").await;
        let shut = "export = { default = 'accept' }\n";
        let speaker = Speaker::start(&lab, &(frr_peer(shut) + &bird_peer(shut))).await;
        speaker.established(&["frr", "bird"]).await;
        let since = async |name: &str| speaker.peer(name).await.unwrap()["since"].clone();
        let before = (since("frr").await, since("bird").await);

        speaker.reload(&(frr_peer(ACCEPT) + &bird_peer(ACCEPT)));
        eventually("FRR has BIRD's", async || frr.has_route(OF_BIRD).await).await;
        eventually("BIRD has FRR's", async || bird.has_route(OF_FRR).await).await;

        let sent =
            async |name: &str| speaker.peer(name).await.unwrap()["updates_sent"].as_u64().unwrap();
        let counts = (sent("frr").await, sent("bird").await);
        bird.birdc("reload in edge").await;
        frr.vtysh("clear bgp ipv4 unicast * soft in").await;
        eventually("both are told again", async || {
            sent("frr").await > counts.0 && sent("bird").await > counts.1
        })
        .await;

        assert!(frr.has_route(OF_BIRD).await && bird.has_route(OF_FRR).await);
        assert_eq!((since("frr").await, since("bird").await), before);
    });
}
