//! The speaker on its own between real routers: what it passes on, whom it lets in, and what its
//! file and its API make it do.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::net::{self, Lab, eventually};
use crate::raw_peer::{self, RawPeer};
use crate::routers::{BIRD_ASN, FRR_ASN, Router};
use crate::speaker::Speaker;

const ACCEPT: &str = "import = { default = 'accept' }\nexport = { default = 'accept' }\n";
const OF_BIRD: &str = "198.51.100.0/24";
const OF_FRR: &str = "192.0.2.0/24";
const OWN: &str = "203.0.113.10/32";

fn frr_peer(more: &str) -> String {
    let address = net::FRR_V4;
    format!(
        "[[peer]]\nname = 'frr'\naddress = '{address}'\nasn = {FRR_ASN}\nhold-time-s = 3\n{more}"
    )
}

fn bird_peer(more: &str) -> String {
    let address = net::BIRD_V4;
    format!(
        "[[peer]]\nname = 'bird'\naddress = '{address}'\nasn = {BIRD_ASN}\nhold-time-s = 3\n{more}"
    )
}

/// FRR that announces a prefix; `more` is about the neighbour.
async fn frr(lab: &Lab, more: &str) -> Router {
    let edge = net::EDGE_TO_FRR_V4;
    let bgp = format!(
        "router bgp {FRR_ASN}\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n neighbor {edge} remote-as 65010\n \
         neighbor {edge} timers 1 3\n neighbor {edge} timers connect 1\n {more}\n \
         address-family ipv4 unicast\n  network {OF_FRR}\n exit-address-family\n"
    );
    Router::frr_with(lab, &bgp).await
}

/// BIRD that announces prefixes over an IPv4 session; `more` is about the session.
async fn bird(lab: &Lab, prefixes: &[&str], more: &str) -> Router {
    let (own, edge) = (net::BIRD_V4, net::EDGE_TO_BIRD_V4);
    let routes: String =
        prefixes.iter().map(|prefix| format!(" route {prefix} unreachable;")).collect();
    Router::bird_with(
        lab,
        &format!(
            "protocol static {{ ipv4; {routes} }}\n\
             protocol bgp edge {{ local {own} as {BIRD_ASN}; neighbor {edge} as 65010;\n\
             hold time 3; keepalive time 1; connect delay time 1; connect retry time 1;\n\
             error wait time 1,1; {more}\n\
             ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n"
        ),
    )
    .await
}

/// A counter of the kernel's TCP in the edge's namespace, where the test runs.
fn kernel_counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let value = lines.chunks_exact(2).find_map(|pair| {
        let at = pair[0].iter().position(|known| *known == name)?;
        pair[1][at].parse().ok()
    });
    value.unwrap_or_else(|| panic!("the kernel does not count {name}"))
}

#[test]
fn a_route_of_one_router_reaches_the_other_with_our_as_in_front() {
    Lab::run(async |lab| {
        let frr = frr(&lab, "").await;
        let bird = bird(&lab, &[OF_BIRD], "").await;
        let speaker = Speaker::start(&lab, &(frr_peer(ACCEPT) + &bird_peer(ACCEPT))).await;

        eventually("FRR has BIRD's", async || frr.has_route(OF_BIRD).await).await;
        eventually("BIRD has FRR's", async || bird.has_route(OF_FRR).await).await;

        let shown = frr.show(OF_BIRD).await;
        assert!(shown.contains(&format!("65010 {BIRD_ASN}")), "{shown}");
        let best = speaker.best(OF_BIRD).await.unwrap();
        assert_eq!(best["peer"], "bird");
        assert_eq!(best["as_path"], json!([BIRD_ASN]));
        assert_eq!(best["next_hop"], net::BIRD_V4.to_string());
        assert_eq!((&best["origin"], &best["stale"]), (&json!("igp"), &json!(false)));
        let peer = speaker.peer("bird").await.unwrap();
        assert_eq!((&peer["routes_received"], &peer["routes_sent"]), (&json!(1), &json!(1)));
    });
}

#[test]
fn without_policies_nothing_is_taken_and_only_our_own_is_told() {
    Lab::run(async |lab| {
        let frr = frr(&lab, "").await;
        let bird = bird(&lab, &[OF_BIRD], "").await;
        let own = format!("[[announce]]\nprefix = '{OWN}'\n");
        let speaker =
            Speaker::start(&lab, &(frr_peer("") + &bird_peer(ACCEPT) + own.as_str())).await;
        speaker.established(&["frr", "bird"]).await;

        eventually("FRR has our own", async || frr.has_route(OWN).await).await;
        eventually("BIRD has our own", async || bird.has_route(OWN).await).await;

        assert!(!frr.has_route(OF_BIRD).await && !bird.has_route(OF_FRR).await);
        assert!(speaker.best(OF_FRR).await.is_none());
    });
}

#[test]
fn the_api_announces_and_withdraws_and_says_what_is_wrong() {
    Lab::run(async |lab| {
        let frr = frr(&lab, "").await;
        let of_file = "203.0.113.1/32";
        let file = frr_peer("") + &format!("[[announce]]\nprefix = '{of_file}'\n");
        let speaker = Speaker::start(&lab, &file).await;
        speaker.established(&["frr"]).await;
        let body = json!({
            "prefix": OWN, "next-hop": "self", "communities": ["65010:100", "65010:1:2"],
        });

        assert_eq!(speaker.announce(body.clone()).await.status, 201);
        assert_eq!(speaker.announce(body.clone()).await.status, 200);
        eventually("FRR has it", async || frr.has_route(OWN).await).await;
        let shown = frr.show(OWN).await;
        assert!(shown.contains("65010:100") && shown.contains("65010:1:2"), "{shown}");
        let listed = speaker.get("/v1/announcements").await;
        assert!(listed.as_array().unwrap().contains(&body), "{listed}");

        assert_eq!(speaker.withdraw(OWN).await.status, 200);
        assert_eq!(speaker.withdraw(OWN).await.status, 404);
        eventually("FRR lost it", async || !frr.has_route(OWN).await).await;

        for (method, body, status) in [
            ("POST", r#"{"prefix": "203.0.113.10/32""#, 400),
            ("POST", r#"{"prefix": "203.0.113.10/24"}"#, 422),
            ("POST", r#"{"prefix": "203.0.113.10/32", "color": 1}"#, 422),
            ("POST", r#"{"prefix": "2001:db8::/64", "next-hop": "192.0.2.1"}"#, 422),
            ("DELETE", r#"{"prefix": "203.0.113.1/32"}"#, 409),
            ("PUT", "", 405),
        ] {
            let answer = speaker.request(method, "/v1/announcements", body).await;
            assert_eq!(answer.status, status, "{method} {body}: {}", answer.body);
            assert!(answer.body.contains("\"error\""), "{}", answer.body);
        }
        let large = speaker.request("POST", "/v1/announcements", &" ".repeat(70_000)).await;
        assert_eq!(large.status, 413);
        assert_eq!(speaker.request("GET", "/v1/routes?family=ipv4", "").await.status, 400);
        assert!(
            speaker
                .request("GET", "/metrics", "")
                .await
                .body
                .contains("session_up{peer=\"frr\"} 1")
        );
        assert!(frr.has_route(of_file).await);
    });
}

#[test]
fn md5_signatures_that_differ_keep_peers_apart_and_a_reload_mends_it() {
    Lab::run(async |lab| {
        let edge = net::EDGE_TO_FRR_V4;
        let _frr = frr(&lab, &format!("neighbor {edge} password right")).await;
        let password = |text: &str| {
            let path = lab.dir.path().join(format!("{text}.md5"));
            std::fs::write(&path, format!("{text}\n")).unwrap();
            frr_peer(&format!("md5-password-file = '{}'\n", path.display()))
        };

        let speaker = Speaker::start(&lab, &password("wrong")).await;
        eventually("the kernel refuses FRR's segments", async || {
            kernel_counter("TCPMD5Failure") > 0
        })
        .await;
        assert!(!speaker.is_established("frr").await);

        speaker.reload(&password("right"));
        speaker.established(&["frr"]).await;
    });
}

#[test]
fn ttl_security_keeps_out_a_peer_that_may_be_far_away() {
    Lab::run(async |lab| {
        let bird = bird(&lab, &[], "ttl security off;").await;
        let speaker = Speaker::start(&lab, &bird_peer("ttl-security = true\n")).await;
        eventually("the kernel refuses BIRD's segments", async || {
            kernel_counter("TCPMinTTLDrop") > 0
        })
        .await;
        assert!(!speaker.is_established("bird").await);

        speaker.reload(&bird_peer("ttl-security = false\n"));
        speaker.established(&["bird"]).await;
        assert!(bird.is_established().await);
    });
}

#[test]
fn whoever_connects_from_a_prefix_becomes_a_peer_and_is_forgotten_when_it_leaves() {
    Lab::run(async |lab| {
        let clients = format!(
            "[[peer]]\nname = 'clients'\nprefix = '10.99.1.0/24'\nasn = 'external'\nmax-peers = 1\n\
             {ACCEPT}[[announce]]\nprefix = '{OWN}'\n"
        );
        let speaker = Speaker::start(&lab, &clients).await;
        assert!(speaker.get("/v1/peers").await.as_array().unwrap().is_empty());
        let frr = frr(&lab, "").await;

        speaker.established(&["clients-10.99.1.2"]).await;

        eventually("FRR has our own", async || frr.has_route(OWN).await).await;
        assert_eq!(speaker.peer("clients-10.99.1.2").await.unwrap()["asn"], FRR_ASN);
        drop(frr);
        eventually("it is forgotten", async || speaker.peer("clients-10.99.1.2").await.is_none())
            .await;
    });
}

#[test]
fn an_ipv4_route_over_ipv6_alone_has_an_ipv6_next_hop() {
    Lab::run(async |lab| {
        let edge = net::EDGE_TO_FRR_V6;
        let bgp = format!(
            "router bgp {FRR_ASN}\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n \
             no bgp default ipv4-unicast\n neighbor {edge} remote-as 65010\n \
             neighbor {edge} timers 1 3\n neighbor {edge} timers connect 1\n \
             neighbor {edge} capability extended-nexthop\n \
             address-family ipv4 unicast\n  neighbor {edge} activate\n exit-address-family\n"
        );
        let frr = Router::frr_with(&lab, &bgp).await;
        let peer = format!(
            "[[peer]]\nname = 'frr'\naddress = '{}'\nasn = {FRR_ASN}\nhold-time-s = 3\n\
             families = ['ipv4-unicast']\n[[announce]]\nprefix = '{OWN}'\n",
            net::FRR_V6
        );
        let _speaker = Speaker::start(&lab, &peer).await;

        eventually("FRR installs it", async || frr.has_route(OWN).await).await;

        let shown = net::run("ip", &["-n", &frr.namespace, "route", "show", OWN], "").await;
        assert!(
            shown.contains(&format!("via inet6 {edge}")) || shown.contains("inet6 fe80"),
            "{shown}"
        );
    });
}

#[test]
fn one_prefix_too_many_ends_the_session_and_the_peer_is_told_why() {
    Lab::run(async |lab| {
        let bird = bird(&lab, &[OF_BIRD, "198.51.101.0/24", "198.51.102.0/24"], "").await;
        let limit = "import = { default = 'accept', max-prefixes = 2 }\n";
        let speaker = Speaker::start(&lab, &bird_peer(limit)).await;

        eventually("BIRD was told", async || {
            bird.birdc("show protocols all edge")
                .await
                .contains("Maximum number of prefixes reached")
        })
        .await;
        let peer = speaker.peer("bird").await.unwrap();
        assert!(peer["last_error"].as_str().unwrap().contains("more than 2 prefixes"), "{peer}");

        let enough = "import = { default = 'accept', max-prefixes = 3 }\n";
        speaker.reload(&bird_peer(enough));
        speaker.established(&["bird"]).await;
    });
}

#[test]
fn a_peer_that_stops_reading_holds_up_nobody_else() {
    Lab::run(async |lab| {
        let bird = bird(&lab, &[OF_BIRD], "").await;
        let raw = format!(
            "[[peer]]\nname = 'raw'\naddress = '{}'\nasn = {}\npassive = true\n{ACCEPT}",
            net::RAW_V4,
            raw_peer::ASN
        );
        let speaker = Speaker::start(&lab, &(bird_peer(ACCEPT) + &raw)).await;
        speaker.established(&["bird"]).await;
        let mut reader = RawPeer::connect(&lab).await;
        speaker.established(&["raw"]).await;

        // It never reads what it is told, and what it says goes to BIRD all the same.
        for round in 0..=255_u8 {
            let nlri: Vec<u8> = (0..200).flat_map(|n| [32, 192, 0, round, n]).collect();
            reader.update(&raw_peer::GOOD_ATTRIBUTES, &nlri).await;
        }

        eventually("BIRD has the last of them", async || bird.has_route("192.0.255.199").await)
            .await;
        assert!(speaker.is_established("raw").await);
    });
}

#[test]
fn a_reload_flaps_nothing_that_needs_no_reset_and_a_stop_says_goodbye() {
    Lab::run(async |lab| {
        let frr = frr(&lab, "").await;
        let own = format!("[[announce]]\nprefix = '{OWN}'\n");
        let speaker = Speaker::start(&lab, &frr_peer(ACCEPT)).await;
        speaker.established(&["frr"]).await;
        let since = speaker.peer("frr").await.unwrap()["since"].clone();
        eventually("its route is there", async || speaker.best(OF_FRR).await.is_some()).await;

        let live = "hold-time-s = 6\ngraceful-restart = { time-s = 60 }\n";
        let changed = frr_peer(live).replace("hold-time-s = 3\n", "");
        speaker.reload(&(changed + own.as_str()));

        eventually("FRR has our own", async || frr.has_route(OWN).await).await;
        eventually("its route is no longer taken", async || speaker.best(OF_FRR).await.is_none())
            .await;
        assert_eq!(speaker.peer("frr").await.unwrap()["since"], since);

        speaker.signal(Signal::SIGTERM);
        assert!(speaker.end().await);
        let shown = frr.show_neighbor().await;
        assert!(shown.contains("Notification received (Cease/Administrative Shutdown)"), "{shown}");
    });
}
