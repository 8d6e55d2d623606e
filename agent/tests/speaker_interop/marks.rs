//! Communities and attributes that say how far a route may go, and how much it is worth.

use crate::net::{self, Lab, eventually};
use crate::routers::Router;
use crate::speaker::Speaker;
use crate::{ACCEPT, OWN, bird, bird_peer, frr, frr_conf, frr_peer};

const OF_FRR: &str = "192.0.2.0/24";
const ALSO_OF_FRR: &str = "192.0.3.0/24";

/// FRR that marks [`OF_FRR`] and nothing else.
async fn frr_marking(lab: &Lab, community: &str) -> Router {
    let edge = net::EDGE_TO_FRR_V4;
    let family = format!("  neighbor {edge} route-map mark out\n");
    let maps = format!(
        "ip prefix-list marked seq 5 permit {OF_FRR}\nroute-map mark permit 10\n \
         match ip address prefix-list marked\n set community {community}\nroute-map mark permit 20\n"
    );
    Router::frr_with(lab, &(maps + &frr_conf(&[OF_FRR, ALSO_OF_FRR], "", &family))).await
}

#[test]
fn a_route_that_must_not_leave_our_as_stays() {
    Lab::run(async |lab| {
        let _frr = frr_marking(&lab, "no-export").await;
        let bird = bird(&lab, &[], "").await;
        let speaker = Speaker::start(&lab, &(frr_peer(ACCEPT) + &bird_peer(ACCEPT))).await;

        eventually("BIRD has the other", async || bird.has_route(ALSO_OF_FRR).await).await;
        eventually("it is learnt", async || speaker.best(OF_FRR).await.is_some()).await;

        assert_eq!(speaker.peer("bird").await.unwrap()["routes_sent"], 1);
        assert!(!bird.has_route(OF_FRR).await);
    });
}

#[test]
fn a_route_of_a_router_about_to_shut_down_is_the_last_resort() {
    Lab::run(async |lab| {
        let frr = frr_marking(&lab, "graceful-shutdown").await;
        // By its identifier and its address FRR would be preferred.
        let bird = bird(&lab, &[OF_FRR, ALSO_OF_FRR], "").await;
        let speaker = Speaker::start(&lab, &(frr_peer(ACCEPT) + &bird_peer(ACCEPT))).await;

        eventually("FRR's unmarked route is best", async || {
            speaker.best(ALSO_OF_FRR).await.is_some_and(|best| best["peer"] == "frr")
        })
        .await;
        eventually("BIRD's route is best where FRR's is marked", async || {
            speaker.best(OF_FRR).await.is_some_and(|best| best["peer"] == "bird")
        })
        .await;

        bird.birdc("disable s0").await;
        eventually("FRR's is better than none", async || {
            let best = speaker.best(OF_FRR).await;
            best.is_some_and(|best| best["peer"] == "frr" && best["local_pref"] == 0)
        })
        .await;
        assert!(frr.is_established().await);
    });
}

#[test]
fn what_a_provider_told_us_goes_to_customers_and_to_no_other_provider() {
    Lab::run(async |lab| {
        let edge = net::EDGE_TO_FRR_V4;
        let provider = format!(" neighbor {edge} local-role provider\n");
        let frr = frr(&lab, &[OF_FRR], &provider).await;
        let bird = bird(&lab, &["198.51.100.0/24"], "local role provider;").await;
        let own = format!("[[announce]]\nprefix = '{OWN}'\n");
        let customer = format!("role = 'customer'\n{ACCEPT}");
        let both_providers = frr_peer(&customer) + &bird_peer(&customer) + &own;
        let speaker = Speaker::start(&lab, &both_providers).await;
        for router in [&frr, &bird] {
            eventually("our own is everywhere", async || router.has_route(OWN).await).await;
        }
        eventually("FRR's is learnt", async || speaker.best(OF_FRR).await.is_some()).await;
        assert_eq!(speaker.peer("bird").await.unwrap()["routes_sent"], 1);
        assert_eq!(speaker.peer("frr").await.unwrap()["routes_sent"], 1);
        drop(bird);
        eventually("BIRD is gone", async || !speaker.is_established("bird").await).await;

        let bird = crate::bird(&lab, &[], "local role customer;").await;
        let provider = format!("role = 'provider'\n{ACCEPT}");
        speaker.reload(&(frr_peer(&customer) + &bird_peer(&provider) + &own));

        eventually("BIRD, a customer now, has FRR's", async || bird.has_route(OF_FRR).await).await;
        let shown = bird.show(OF_FRR).await;
        assert!(shown.to_lowercase().contains("otc"), "{shown}");
    });
}

#[test]
fn roles_that_do_not_match_end_the_session_before_it_begins() {
    Lab::run(async |lab| {
        let edge = net::EDGE_TO_FRR_V4;
        let provider = format!(" neighbor {edge} local-role provider\n");
        let frr = frr(&lab, &[], &provider).await;
        let bird = bird(&lab, &[], "local role peer;").await;
        let config = |role: &str| {
            let role = format!("role = '{role}'\n{ACCEPT}");
            frr_peer(&role) + &bird_peer(&role)
        };
        let speaker = Speaker::start(&lab, &config("provider")).await;
        for name in ["frr", "bird"] {
            eventually("it is refused", async || {
                let peer = speaker.peer(name).await.unwrap();
                let error = peer["last_error"].as_str().unwrap_or_default().to_lowercase();
                error.contains("role") && peer["state"] != "Established"
            })
            .await;
        }
        assert!(!frr.is_established().await && !bird.is_established().await);

        speaker.reload(&config("customer"));
        speaker.established(&["frr"]).await;
        assert!(!speaker.is_established("bird").await);
    });
}
