//! Routes that flow where they must not (RFC 9234).

use crate::net::{Lab, eventually};
use crate::routers::Router;
use crate::speaker::Speaker;
use crate::{ACCEPT, BIRD_ASN, bird_peer, frr, frr_peer, net};

const LEAKED: &str = "198.51.100.0/24";
const SOUND: &str = "198.51.101.0/24";

/// BIRD without a role of its own: it passes on what it had from a provider, or a peer, of AS 64999.
async fn leaking_bird(lab: &Lab) -> Router {
    let (own, edge) = (net::BIRD_V4, net::EDGE_TO_BIRD_V4);
    Router::bird_with(
        lab,
        &format!(
            "protocol static {{ ipv4; route {LEAKED} unreachable; route {SOUND} unreachable; }}\n\
             protocol bgp edge {{ local {own} as {BIRD_ASN}; neighbor {edge} as 65010;\n\
             hold time 3; keepalive time 1; connect delay time 1; connect retry time 1;\n\
             error wait time 1,1;\n\
             ipv4 {{ import all; export filter {{\n\
             if source != RTS_STATIC then reject;\n\
             if net = {LEAKED} then bgp_otc = 64999;\n\
             accept; }}; }}; }}\n"
        ),
    )
    .await
}

#[test]
fn what_a_customer_or_a_peer_leaks_is_refused_and_its_own_routes_are_taken() {
    // RFC 9234 §5: from a customer, whatever carries OTC; from a peer, what another AS put there.
    for role in ["provider", "peer", "rs"] {
        Lab::run(async move |lab| {
            let _bird = leaking_bird(&lab).await;
            let frr = frr(&lab, &[], "").await;
            let config = bird_peer(&format!("role = '{role}'\n{ACCEPT}")) + &frr_peer(ACCEPT);
            let speaker = Speaker::start(&lab, &config).await;

            eventually("both are received", async || {
                speaker.peer("bird").await.is_some_and(|peer| peer["routes_received"] == 2)
            })
            .await;
            eventually("FRR has the sound one", async || frr.has_route(SOUND).await).await;

            assert!(speaker.best(LEAKED).await.is_none(), "as {role}");
            assert!(speaker.best(SOUND).await.is_some(), "as {role}");
            assert_eq!(speaker.peer("bird").await.unwrap()["routes_accepted"], 1, "as {role}");
            assert!(!frr.has_route(LEAKED).await, "as {role}");
        });
    }
}

#[test]
fn a_provider_may_send_what_is_for_customers_only_and_it_goes_no_further_than_that() {
    Lab::run(async |lab| {
        let _bird = leaking_bird(&lab).await;
        let frr = frr(&lab, &[], "").await;
        let config = bird_peer(&format!("role = 'customer'\n{ACCEPT}"))
            + &frr_peer(&format!("role = 'peer'\n{ACCEPT}"));
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["frr", "bird"]).await;

        for prefix in [LEAKED, SOUND] {
            eventually("it is taken", async || speaker.best(prefix).await.is_some()).await;
        }
        // Ingress marked the second, too (RFC 9234 §5): neither may go to a peer.
        assert_eq!(speaker.peer("frr").await.unwrap()["routes_sent"], 0);
        assert!(!frr.has_route(LEAKED).await && !frr.has_route(SOUND).await);
    });
}
