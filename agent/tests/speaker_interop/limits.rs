//! Limits, and tables that are large.

use std::time::Duration;

use crate::net::{self, Lab, eventually};
use crate::raw_peer::{self, RawPeer};
use crate::routers::Router;
use crate::speaker::Speaker;
use crate::{ACCEPT, bird, bird_peer, frr, frr_conf, frr_peer, peer};

/// Set for tests that take minutes.
const LONG_TESTS: &str = "ISOCAST_LONG_TESTS";

#[test]
fn a_peer_is_told_no_more_than_its_limit_and_the_rest_when_there_is_room() {
    Lab::run(async |lab| {
        let frr = frr(&lab, &[], "").await;
        let prefixes = ["198.51.100.0/24", "198.51.101.0/24", "198.51.102.0/24"];
        let bird = bird(&lab, &prefixes, "").await;
        let limited = "export = { default = 'accept', max-prefixes = 2 }\n";
        let config = frr_peer(limited) + &bird_peer(ACCEPT);
        let speaker = Speaker::start(&lab, &config).await;
        eventually("all are learnt", async || {
            speaker.peer("bird").await.is_some_and(|peer| peer["routes_accepted"] == 3)
        })
        .await;

        eventually("FRR has two", async || held(&frr, &prefixes).await == 2).await;
        assert_eq!(speaker.peer("frr").await.unwrap()["routes_sent"], 2);
        for (at, prefix) in prefixes.iter().enumerate() {
            if frr.has_route(prefix).await {
                bird.birdc(&format!("disable s{at}")).await;
                eventually("it is gone", async || !frr.has_route(prefix).await).await;
                break;
            }
        }

        eventually("the third took its place", async || held(&frr, &prefixes).await == 2).await;
        assert!(speaker.is_established("frr").await);
    });
}

async fn held(router: &Router, prefixes: &[&str]) -> usize {
    let mut held = 0;
    for prefix in prefixes {
        held += usize::from(router.has_route(prefix).await);
    }
    held
}

#[test]
fn a_hundred_thousand_routes_go_through_to_both_routers_and_away_again() {
    pass_on(100_000);
}

#[test]
fn a_million_routes_go_through_to_both_routers_and_away_again() {
    if std::env::var_os(LONG_TESTS).is_some() {
        pass_on(1_000_000);
    }
}

/// A peer of the test's own sends that many routes, and goes.
fn pass_on(count: u32) {
    Lab::run(async move |lab| {
        // What the routers' kernels do is not at issue.
        let patient = format!(" neighbor {} timers 30 90\n", net::EDGE_TO_FRR_V4);
        let bgp = format!("bgp no-rib\n{}", frr_conf(&[], &patient, ""));
        let frr = Router::frr_with(&lab, &bgp).await;
        // A router that drops a million routes may be deaf for seconds.
        let bird = bird(&lab, &[], "hold time 90;").await;
        bird.birdc("disable k4").await;
        let raw = peer("raw", net::RAW_V4, raw_peer::ASN, &format!("passive = true\n{ACCEPT}"));
        let config = frr_peer(ACCEPT) + &bird_peer(ACCEPT) + &raw;
        let config = config.replace("hold-time-s = 3", "hold-time-s = 90");
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["frr", "bird"]).await;
        let mut source = RawPeer::connect(&lab).await;
        speaker.established(&["raw"]).await;

        for first in (0..count).step_by(800) {
            let nlri = (first..count.min(first + 800)).flat_map(|number| {
                // 20.0.0.0/24 and on.
                let [a, b, c, _] = ((20 << 24) + (number << 8)).to_be_bytes();
                [24, a, b, c]
            });
            source.update(&raw_peer::GOOD_ATTRIBUTES, &nlri.collect::<Vec<u8>>()).await;
        }

        let frr_count = async || {
            let shown = frr.vtysh("show bgp ipv4 unicast summary json").await;
            let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
            shown["peers"][net::EDGE_TO_FRR_V4.to_string()]["pfxRcd"].as_u64().unwrap_or_default()
        };
        let bird_count = async || {
            let shown = bird.birdc("show route count").await;
            let (_, rest) = shown.split_once('\n').unwrap();
            rest.split(' ').next().unwrap().parse::<u64>().unwrap_or_default()
        };
        patiently("BIRD has all", async || bird_count().await >= u64::from(count)).await;
        patiently("FRR has all", async || frr_count().await == u64::from(count)).await;
        drop(source);
        patiently("FRR has none", async || frr_count().await == 0).await;
        patiently("BIRD has few", async || bird_count().await < 100).await;
        assert!(speaker.is_established("frr").await && speaker.is_established("bird").await);
    });
}

/// For what takes long where the machine is small.
async fn patiently(what: &str, holds: impl AsyncFn() -> bool) {
    net::within(Duration::from_secs(60), what, holds).await;
}
