//! Tables that are large.

use std::fmt::Write as _;
use std::time::Duration;

use crate::gobgp::GoBgp;
use crate::neighbour::{COMMUNITIES, Neighbour, Setup};
use crate::net::{Lab, within};
use crate::openbgpd::OpenBgpd;
use crate::place::Place;
use crate::speaker::Speaker;
use crate::{ACCEPT, WIDE_ASN, peer};

const ROUTES: u32 = 50_000;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn fifty_thousand_routes_of_openbgpd_reach_gobgp_and_go_away_again() {
    Lab::run(async |lab| {
        let (left, right) = (Place::left(&lab), Place::right(&lab));
        let source = Setup::new(WIDE_ASN);
        let sink = Setup::new(64_602);
        let bgpd = OpenBgpd::start(&left, &source).await;
        let gobgp = GoBgp::start(&right, &sink).await;
        let config = peer("source", &left, &source, ACCEPT) + &peer("sink", &right, &sink, ACCEPT);
        // GoBGP may be deaf for seconds while it takes them.
        let config = config.replace("hold-time-s = 3", "hold-time-s = 90");
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["source", "sink"]).await;

        let mut prefixes = String::new();
        for number in 0..ROUTES {
            let [a, b, c, _] = ((20 << 24) + (number << 8)).to_be_bytes();
            writeln!(prefixes, "{a}.{b}.{c}.0/24").unwrap();
        }

        bgpd.announce_all(&prefixes).await;
        within(PATIENCE, "GoBGP has all", async || gobgp.count().await == u64::from(ROUTES)).await;
        let best = speaker.best("20.1.0.0/24").await.unwrap();
        assert_eq!(best["communities"], serde_json::json!([COMMUNITIES[0]]));

        drop(bgpd);
        within(PATIENCE, "GoBGP has none", async || gobgp.count().await == 0).await;
        assert!(speaker.is_established("sink").await);
    });
}
