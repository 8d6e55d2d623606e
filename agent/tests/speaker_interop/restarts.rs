//! Routers that die, return, or will not rest.

use std::time::{Duration, Instant};

use crate::net::{self, Lab, eventually};
use crate::route_log::RouteLog;
use crate::routers::Router;
use crate::speaker::Speaker;
use crate::{ACCEPT, BIRD_ASN, bird, bird_peer, frr, frr_conf, frr_peer};

const KEPT: &str = "192.0.2.0/24";
const LOST: &str = "192.0.3.0/24";

/// FRR that asks its neighbours to keep its routes while it is away.
async fn restarting_frr(lab: &Lab, prefixes: &[&str]) -> Router {
    let graceful = " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n";
    Router::frr_with(lab, &frr_conf(prefixes, graceful, "")).await
}

#[test]
fn routes_of_a_killed_router_stay_and_only_what_it_no_longer_has_goes_when_it_is_back() {
    Lab::run(async |lab| {
        let frr = restarting_frr(&lab, &[KEPT, LOST]).await;
        let bird = bird(&lab, &[], "").await;
        let graceful = format!("graceful-restart = {{ time-s = 30 }}\n{ACCEPT}");
        let speaker = Speaker::start(&lab, &(frr_peer(&graceful) + &bird_peer(ACCEPT))).await;
        for prefix in [KEPT, LOST] {
            eventually("BIRD has FRR's", async || bird.has_route(prefix).await).await;
        }
        let log = RouteLog::open(&bird.namespace);

        drop(frr);
        eventually("the routes are stale", async || {
            let best = speaker.best(KEPT).await;
            best.is_some_and(|best| best["stale"] == true)
        })
        .await;
        assert!(bird.has_route(KEPT).await && bird.has_route(LOST).await);
        let frr = restarting_frr(&lab, &[KEPT]).await;

        eventually("what is no more is swept", async || !bird.has_route(LOST).await).await;
        eventually("the other is fresh", async || {
            speaker.best(KEPT).await.is_some_and(|best| best["stale"] == false)
        })
        .await;
        let kept = "192.0.2.0".parse().unwrap();
        let events = log.close().await;
        assert!(!events.iter().any(|event| event.concerns(kept)), "BIRD's kernel was touched");
        assert!(frr.is_established().await);
    });
}

/// The configuration of BIRD that asks its neighbours to keep its routes so long while it is away.
fn restarting_bird(prefixes: &[&str], time_s: u32) -> String {
    let (own, edge) = (net::BIRD_V4, net::EDGE_TO_BIRD_V4);
    let routes: String =
        prefixes.iter().map(|prefix| format!(" route {prefix} unreachable;")).collect();
    format!(
        "graceful restart wait 5;\nprotocol static {{ ipv4; {routes} }}\n\
         protocol bgp edge {{ local {own} as {BIRD_ASN}; neighbor {edge} as 65010;\n\
         hold time 3; keepalive time 1; connect delay time 1; connect retry time 1;\n\
         error wait time 1,1; graceful restart on; graceful restart time {time_s};\n\
         ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n"
    )
}

const GRACEFUL: &str = "graceful-restart = { time-s = 30 }\n";

#[test]
fn routes_of_a_killed_bird_stay_until_it_is_back_and_has_said_them_again() {
    Lab::run(async |lab| {
        let bird = Router::bird_with(&lab, &restarting_bird(&[KEPT, LOST], 30)).await;
        let frr = frr(&lab, &[], "").await;
        let graceful = format!("{GRACEFUL}{ACCEPT}");
        let speaker = Speaker::start(&lab, &(bird_peer(&graceful) + &frr_peer(ACCEPT))).await;
        for prefix in [KEPT, LOST] {
            eventually("FRR has BIRD's", async || frr.has_route(prefix).await).await;
        }
        let log = RouteLog::open(&frr.namespace);

        // By SIGKILL.
        drop(bird);
        eventually("the routes are stale", async || is_stale(&speaker, KEPT).await == Some(true))
            .await;
        assert!(frr.has_route(KEPT).await && frr.has_route(LOST).await);
        let bird = Router::bird_recovering(&lab, &restarting_bird(&[KEPT], 30)).await;

        eventually("what is no more is swept", async || !frr.has_route(LOST).await).await;
        eventually("the other is fresh", async || is_stale(&speaker, KEPT).await == Some(false))
            .await;
        let kept = "192.0.2.0".parse().unwrap();
        let events = log.close().await;
        assert!(!events.iter().any(|event| event.concerns(kept)), "FRR's kernel was touched");
        assert!(bird.is_established().await);
    });
}

#[test]
fn routes_of_a_killed_bird_that_does_not_come_back_go_when_its_time_is_up() {
    const TIME_S: u32 = 3;
    Lab::run(async |lab| {
        let bird = Router::bird_with(&lab, &restarting_bird(&[KEPT], TIME_S)).await;
        let frr = frr(&lab, &[], "").await;
        let graceful = format!("{GRACEFUL}{ACCEPT}");
        let speaker = Speaker::start(&lab, &(bird_peer(&graceful) + &frr_peer(ACCEPT))).await;
        eventually("FRR has BIRD's", async || frr.has_route(KEPT).await).await;

        let killed = Instant::now();
        drop(bird);
        eventually("the route is stale", async || is_stale(&speaker, KEPT).await == Some(true))
            .await;
        assert!(frr.has_route(KEPT).await);

        eventually("it is purged", async || speaker.best(KEPT).await.is_none()).await;
        let after = killed.elapsed();
        eventually("FRR lost it", async || !frr.has_route(KEPT).await).await;
        assert!(after >= Duration::from_secs(TIME_S.into()), "after {after:?}");
        assert_eq!(speaker.peer("bird").await.unwrap()["routes_stale"], 0);
    });
}

async fn is_stale(speaker: &Speaker, prefix: &str) -> Option<bool> {
    speaker.best(prefix).await?["stale"].as_bool()
}

#[test]
fn a_router_that_will_not_rest_disturbs_no_other_and_is_taken_back() {
    Lab::run(async |lab| {
        let frr = frr(&lab, &[KEPT], "").await;
        let bird = bird(&lab, &["198.51.100.0/24"], "").await;
        let speaker = Speaker::start(&lab, &(frr_peer(ACCEPT) + &bird_peer(ACCEPT))).await;
        speaker.established(&["frr", "bird"]).await;
        let since = speaker.peer("frr").await.unwrap()["since"].clone();

        for _ in 0..20 {
            bird.birdc("restart edge").await;
            // BIRD answers when it has begun: the next one may come in any state of the session.
            assert!(speaker.is_established("frr").await);
        }

        speaker.established(&["bird"]).await;
        eventually("FRR has BIRD's", async || frr.has_route("198.51.100.0/24").await).await;
        eventually("BIRD has FRR's", async || bird.has_route(KEPT).await).await;
        assert_eq!(speaker.peer("frr").await.unwrap()["since"], since);
    });
}
