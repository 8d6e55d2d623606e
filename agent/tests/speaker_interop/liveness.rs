//! A router farther than the link, watched by BFD.

use std::time::{Duration, Instant};

use crate::net::{self, Lab, eventually};
use crate::routers::Router;
use crate::speaker::Speaker;
use crate::{ACCEPT, BIRD_ASN, OWN, bird_peer};

/// BIRD that takes the edge for up to two hops away.
async fn watching_bird(lab: &Lab) -> Router {
    let (own, edge) = (net::BIRD_V4, net::EDGE_TO_BIRD_V4);
    Router::bird_with(
        lab,
        &format!(
            "protocol bfd {{ multihop {{ interval 50 ms; multiplier 3; }}; }}\n\
             protocol bgp edge {{ local {own} as {BIRD_ASN}; neighbor {edge} as 65010; multihop 2;\n\
             hold time 90; keepalive time 30; connect delay time 1; connect retry time 1;\n\
             error wait time 1,1; bfd on;\n\
             ipv4 {{ import all; export none; }}; }}\n"
        ),
    )
    .await
}

#[test]
fn multihop_bfd_with_bird_comes_up_and_loses_it_long_before_the_hold_time() {
    Lab::run(async |lab| {
        let bird = watching_bird(&lab).await;
        let watched =
            format!("multihop = 2\nbfd = {{ interval-ms = 50, multiplier = 3 }}\n{ACCEPT}");
        let peer = bird_peer(&watched).replace("hold-time-s = 3", "hold-time-s = 90");
        let own = format!("[[announce]]\nprefix = '{OWN}'\n");
        let speaker = Speaker::start(&lab, &(peer + &own)).await;
        speaker.established(&["bird"]).await;
        let edge = net::EDGE_TO_BIRD_V4.to_string();
        let is_up = async || {
            let shown = bird.birdc("show bfd sessions").await;
            let line = shown.lines().find(|line| line.contains(&edge)).unwrap_or_default();
            line.split_whitespace().nth(2) == Some("Up")
        };
        eventually("BFD is up", is_up).await;
        eventually("BIRD has our own", async || bird.has_route(OWN).await).await;

        bird.cut().await;
        let cut = Instant::now();

        eventually("BIRD lost our route", async || !bird.has_route(OWN).await).await;
        eventually("we lost BIRD", async || !speaker.is_established("bird").await).await;
        assert!(cut.elapsed() < Duration::from_secs(30), "by the hold time");
        let ended = speaker.peer("bird").await.unwrap()["last_error"].clone();
        assert!(ended.as_str().unwrap_or_default().contains("BFD"), "{ended}");
    });
}
