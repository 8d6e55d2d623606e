//! Routers that die, return, or will not rest.

use crate::net::{Lab, eventually};
use crate::route_log::RouteLog;
use crate::routers::Router;
use crate::speaker::Speaker;
use crate::{ACCEPT, bird, bird_peer, frr, frr_conf, frr_peer};

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
