//! The BGP driver against real routers: FRR (IPv4 session) and BIRD (IPv6 session), each in a
//! network namespace of its own, ours in a third. What counts is what their kernels hold.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod net;
mod raw_peer;
mod route_log;
#[expect(dead_code, reason = "shared with other tests")]
mod routers;
mod speaker;
mod standalone;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use isocast_agent::bgp::{
    Advertisement, BgpSpeaker, Communities, ConnectMode, Cursor, PeerConfig, RoutesQuery,
    SpeakerConfig, State, Stop, accept_all,
};
use isocast_bgp::types::Family;
use isocast_bgp::wire::notification::Notification;
use tokio::net::TcpStream;

use crate::net::{Lab, eventually};
use crate::raw_peer::RawPeer;
use crate::route_log::RouteLog;
use crate::routers::Router;

const ASN: u32 = 65_010;
const V4: &str = "203.0.113.10/32";
const V6: &str = "2001:db8:f::10/128";
const OTHER_V4: &str = "203.0.113.11/32";

fn speaker(config: impl FnOnce(&mut SpeakerConfig)) -> BgpSpeaker {
    let mut speaker = SpeakerConfig::new(ASN, Ipv4Addr::new(10, 99, 0, 1));
    config(&mut speaker);
    BgpSpeaker::start(speaker).unwrap()
}

fn frr_peer() -> PeerConfig {
    let mut peer = PeerConfig::new("frr", IpAddr::V4(net::FRR_V4), routers::FRR_ASN);
    peer.hold_time = Duration::from_secs(3);
    peer.graceful_restart = Some(Duration::from_secs(30));
    peer
}

fn bird_peer() -> PeerConfig {
    let mut peer = PeerConfig::new("bird", IpAddr::V6(net::BIRD_V6), routers::BIRD_ASN);
    peer.hold_time = Duration::from_secs(3);
    peer.graceful_restart = Some(Duration::from_secs(30));
    peer.next_hop_ipv4 = Some(net::EDGE_TO_BIRD_V4);
    peer
}

/// A peer that connects to us and whose routes are taken.
fn raw_peer(prefixes_max: u32) -> PeerConfig {
    let mut peer = PeerConfig::new("raw", IpAddr::V4(net::RAW_V4), raw_peer::ASN);
    peer.connect = ConnectMode::Passive;
    peer.import = accept_all(prefixes_max);
    peer
}

/// Routes that peers told the speaker, as of now.
async fn learnt(speaker: &BgpSpeaker) -> Vec<IpNet> {
    let family = Family::Ipv4Unicast;
    let query = RoutesQuery { family, prefix: None, from: Cursor::default() };
    let page = speaker.routes(query).await.unwrap();
    let learnt = page.routes.iter().filter(|route| route.path.peer.is_some());
    learnt.map(|route| route.prefix).collect()
}

fn announce(speaker: &BgpSpeaker, prefixes: &[&str]) {
    let advertisements = prefixes.iter().map(|prefix| Advertisement {
        prefix: prefix.parse().unwrap(),
        next_hop: None,
        communities: Communities::parse(["65010:100", "65010:1:2"]).unwrap(),
    });
    speaker.set_advertisements(advertisements.collect()).unwrap();
}

fn allow_all(speaker: &BgpSpeaker) {
    let prefixes = ["203.0.113.0/24", "2001:db8:f::/48"];
    speaker.set_announceable(prefixes.iter().map(|net| net.parse().unwrap()).collect());
}

fn state_of(speaker: &BgpSpeaker, uid: &str) -> State {
    speaker.status().borrow().get(uid).map(|peer| peer.state).unwrap_or_default()
}

/// A speaker that both routers know, announcing both prefixes.
async fn converged(routers: &[&Router]) -> BgpSpeaker {
    let speaker = speaker(|_| ());
    allow_all(&speaker);
    announce(&speaker, &[V4, V6]);
    speaker.initial_set_complete();
    speaker.set_peers(vec![frr_peer(), bird_peer()]).unwrap();
    for router in routers {
        for prefix in [V4, V6] {
            eventually(&format!("{} installs {prefix}", router.name), async || {
                router.has_route(prefix).await
            })
            .await;
        }
    }
    speaker
}

#[test]
fn routers_see_and_lose_what_is_announced_and_withdrawn() {
    Lab::run(async |lab| {
        let (frr, bird) = (Router::frr(&lab).await, Router::bird(&lab).await);
        let speaker = converged(&[&frr, &bird]).await;

        for prefix in [V4, V6] {
            let shown = frr.show(prefix).await;
            assert!(shown.contains("65010:100") && shown.contains("65010:1:2"), "{shown}");
            let shown = bird.show(prefix).await;
            assert!(shown.contains("(65010,100)") && shown.contains("(65010, 1, 2)"), "{shown}");
        }
        announce(&speaker, &[V4, V6, "198.51.100.1/32"]);
        announce(&speaker, &[V6, "198.51.100.1/32"]);
        for router in [&frr, &bird] {
            eventually("the withdrawn prefix is gone", async || !router.has_route(V4).await).await;
            assert!(router.has_route(V6).await, "{} lost the other prefix", router.name);
            assert!(!router.has_route("198.51.100.1/32").await, "past the export guard");
        }
        let status = speaker.status().borrow().clone();
        assert_eq!(status["frr"].announced.to_vec(), [V6.parse().unwrap()]);
        assert!(status["frr"].withheld.contains_key(&"198.51.100.1/32".parse().unwrap()));
        announce(&speaker, &[]);
        for router in [&frr, &bird] {
            eventually("the last prefix is gone", async || !router.has_route(V6).await).await;
        }
    });
}

#[test]
fn nobody_gets_in_before_it_is_known_who_the_peers_are() {
    Lab::run(async |_lab| {
        let speaker = speaker(|config| config.listen = vec!["0.0.0.0:179".parse().unwrap()]);
        let own = (net::EDGE_TO_FRR_V4, 179);

        let refused = TcpStream::connect(own).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        speaker.set_peers(vec![raw_peer(10)]).unwrap();
        eventually("peers can connect", async || TcpStream::connect(own).await.is_ok()).await;
    });
}

#[test]
fn ipv6_without_a_next_hop_is_withheld_and_the_rest_is_announced() {
    Lab::run(async |lab| {
        let frr = Router::frr(&lab).await;
        lab.edge_loses_ipv6().await;
        let speaker = speaker(|_| ());
        allow_all(&speaker);
        announce(&speaker, &[V4, V6]);
        speaker.set_peers(vec![frr_peer()]).unwrap();

        eventually("FRR installs IPv4", async || frr.has_route(V4).await).await;

        let status = speaker.status().borrow()["frr"].clone();
        assert_eq!(status.announced.to_vec(), [V4.parse().unwrap()]);
        assert!(status.withheld.contains_key(&V6.parse().unwrap()), "{status:?}");
    });
}

#[test]
fn a_route_refresh_is_answered_and_an_unchanged_set_is_not_sent_again() {
    Lab::run(async |lab| {
        let (frr, bird) = (Router::frr(&lab).await, Router::bird(&lab).await);
        let speaker = converged(&[&frr, &bird]).await;
        eventually("End-of-RIB was sent", async || {
            speaker.status().borrow()["frr"].initial_routes_sent
        })
        .await;
        // Two UPDATEs and two End-of-RIB markers.
        eventually("FRR counted the initial routes", async || frr.updates_received().await == 4)
            .await;

        announce(&speaker, &[V6, V4]);
        allow_all(&speaker);
        frr.vtysh("clear bgp ipv4 unicast * soft in").await;
        frr.vtysh("clear bgp ipv6 unicast * soft in").await;

        eventually("FRR got both again", async || frr.updates_received().await >= 6).await;
        assert_eq!(frr.updates_received().await, 6, "only the refreshes were answered");
        assert_eq!(state_of(&speaker, "frr"), State::Established);
    });
}

#[test]
fn a_killed_speaker_that_returns_in_time_causes_no_route_event() {
    Lab::run(async |lab| {
        let (frr, bird) = (Router::frr(&lab).await, Router::bird(&lab).await);
        let routers = [&frr, &bird];
        let killed = converged(&routers).await;
        announce(&killed, &[V4, V6, OTHER_V4]);
        for router in routers {
            eventually("the third prefix is there", async || router.has_route(OTHER_V4).await)
                .await;
        }
        let logs = routers.map(|router| RouteLog::open(&router.namespace));

        drop(killed);
        for router in routers {
            eventually("the router noticed", async || !router.is_established().await).await;
        }
        let reborn = speaker(|config| {
            config.restarting = true;
            config.forwarding_preserved = true;
        });
        allow_all(&reborn);
        announce(&reborn, &[V4, V6, OTHER_V4]);
        reborn.set_peers(vec![frr_peer(), bird_peer()]).unwrap();
        eventually("both sessions are back", async || {
            ["frr", "bird"].iter().all(|uid| state_of(&reborn, uid) == State::Established)
        })
        .await;
        // Without this word End-of-RIB would still wait, and stale routes would stay.
        announce(&reborn, &[V4, V6]);
        reborn.initial_set_complete();

        for (router, log) in routers.into_iter().zip(logs) {
            // Its going proves that End-of-RIB arrived, and that what it did not sweep was resent.
            eventually("the stale prefix is swept", async || !router.has_route(OTHER_V4).await)
                .await;
            let events = log.close().await;
            for prefix in [V4, V6] {
                let address = prefix.parse::<IpNet>().unwrap().addr();
                let touched = events.iter().filter(|event| event.concerns(address));
                let kinds: Vec<_> = touched.map(|event| event.kind).collect();
                assert!(kinds.is_empty(), "{} touched {prefix}: {kinds:?}", router.name);
            }
            let swept = OTHER_V4.parse::<IpNet>().unwrap().addr();
            assert!(events.iter().any(|event| event.concerns(swept)), "the log works");
            assert!(router.has_route(V4).await && router.has_route(V6).await);
        }
    });
}

#[test]
fn a_drain_takes_routes_away_at_once_though_graceful_restart_was_agreed() {
    Lab::run(async |lab| {
        let (frr, bird) = (Router::frr(&lab).await, Router::bird(&lab).await);
        let speaker = converged(&[&frr, &bird]).await;

        speaker.shutdown(Stop::Drain { text: "host maintenance".into() }).await;

        for router in [&frr, &bird] {
            eventually("routes are gone", async || {
                !router.has_route(V4).await && !router.has_route(V6).await
            })
            .await;
        }
        let shown = frr.show_neighbor().await;
        assert!(shown.contains("Notification received (Cease/Administrative Shutdown)"), "{shown}");
    });
}

#[test]
fn a_change_that_needs_no_reset_does_not_flap() {
    Lab::run(async |lab| {
        let (frr, bird) = (Router::frr(&lab).await, Router::bird(&lab).await);
        let speaker = converged(&[&frr, &bird]).await;
        let since = speaker.status().borrow()["bird"].since;

        let mut changed = bird_peer();
        changed.name = "border".into();
        changed.graceful_restart = Some(Duration::from_secs(60));
        changed.hold_time = Duration::from_secs(6);
        speaker.set_peers(vec![frr_peer(), changed]).unwrap();
        speaker
            .set_peers(vec![{
                let mut changed = bird_peer();
                changed.name = "border".into();
                changed
            }])
            .unwrap();

        eventually("FRR was told and lost its routes", async || !frr.has_route(V4).await).await;
        assert!(!speaker.status().borrow().contains_key("frr"));
        assert_eq!(speaker.status().borrow()["bird"].since, since);
        assert_eq!(speaker.status().borrow()["bird"].name, "border");
        assert!(bird.has_route(V4).await);
    });
}

#[test]
fn a_malformed_update_costs_its_route_or_its_session_and_no_other() {
    Lab::run(async |lab| {
        let (frr, bird) = (Router::frr(&lab).await, Router::bird(&lab).await);
        let speaker = speaker(|config| config.listen = vec!["0.0.0.0:179".parse().unwrap()]);
        allow_all(&speaker);
        announce(&speaker, &[V4, V6]);
        speaker.set_peers(vec![frr_peer(), bird_peer(), raw_peer(10)]).unwrap();
        for router in [&frr, &bird] {
            eventually("routes are there", async || router.has_route(V4).await).await;
        }
        let since = speaker.status().borrow()["frr"].since;

        let mut raw = RawPeer::connect(&lab).await;
        raw.update(&raw_peer::GOOD_ATTRIBUTES, &[32, 192, 0, 2, 77]).await;
        let prefix = "192.0.2.77/32".parse().unwrap();
        eventually("it is learnt", async || learnt(&speaker).await == [prefix]).await;

        // ORIGIN of two octets: treat-as-withdraw (RFC 7606 §7.1); the session goes on.
        raw.update(&raw_peer::BAD_ORIGIN_ATTRIBUTES, &[32, 192, 0, 2, 77]).await;
        eventually("it is withdrawn", async || learnt(&speaker).await.is_empty()).await;
        assert_eq!(state_of(&speaker, "raw"), State::Established);

        // A prefix of 33 bits: nothing after it can be read, the session ends (RFC 7606 §5.3).
        raw.update(&raw_peer::GOOD_ATTRIBUTES, &[33, 192, 0, 2, 77, 0]).await;
        assert_eq!(raw.notification().await, Notification::new(3, 10));
        eventually("the session ended", async || state_of(&speaker, "raw") != State::Established)
            .await;

        assert_eq!(state_of(&speaker, "frr"), State::Established);
        assert_eq!(speaker.status().borrow()["frr"].since, since);
        assert!(frr.has_route(V4).await && bird.has_route(V6).await);
    });
}
