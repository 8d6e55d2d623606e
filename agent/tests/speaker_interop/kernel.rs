//! Learnt routes in a table of the kernel.

use std::net::{IpAddr, Ipv4Addr};

use isocast_agent::bgp::{BgpSpeaker, KernelConfig, PeerConfig, SpeakerConfig, Stop, accept_all};
use nix::sys::signal::Signal;

use crate::net::{self, Lab, eventually, run};
use crate::route_log::RouteLog;
use crate::routers::{BIRD_ASN, FRR_ASN, Router};
use crate::speaker::Speaker;
use crate::{ACCEPT, bird, bird_peer, frr, frr_peer, peer};

const SHARED: &str = "192.0.2.0/24";
const SHARED_V6: &str = "2001:db8:5::/48";
const KERNEL: &str = "[kernel]\ninstall = true\ntable = 100\n";

/// `RTM_DELROUTE`
const REMOVED: u16 = 25;

/// Table 100 of the edge, as `ip` shows it.
async fn table(lab: &Lab) -> String {
    table_of(lab, "-4").await
}

async fn table_of(lab: &Lab, family: &str) -> String {
    // Without a first route there is no table, which `ip` takes for an error.
    let shown = tokio::process::Command::new("ip")
        .args(["-n", &lab.edge, family, "route", "show", "table", "100", "proto", "bgp"])
        .output();
    String::from_utf8(shown.await.unwrap().stdout).unwrap()
}

async fn edge(lab: &Lab, command: &str) {
    let arguments: Vec<_> = ["-n", &lab.edge].into_iter().chain(command.split(' ')).collect();
    run("ip", &arguments, "").await;
}

/// FRR that announces a prefix of each family.
async fn sharing_frr(lab: &Lab, namespace: &str, own: Ipv4Addr, edge: Ipv4Addr) -> Router {
    let bgp = format!(
        "router bgp {FRR_ASN}\n bgp router-id {own}\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n neighbor {edge} remote-as 65010\n \
         neighbor {edge} timers 1 3\n neighbor {edge} timers connect 1\n \
         address-family ipv4 unicast\n  network {SHARED}\n exit-address-family\n \
         address-family ipv6 unicast\n  network {SHARED_V6}\n  neighbor {edge} activate\n \
         exit-address-family\n"
    );
    Router::frr_in(lab, namespace, &bgp).await
}

fn metric_of(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("isocast_bgp_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

#[test]
fn two_routers_share_the_traffic_and_one_takes_it_over_without_a_gap() {
    Lab::run(async |lab| {
        let _frr = sharing_frr(&lab, &lab.frr, net::FRR_V4, net::EDGE_TO_FRR_V4).await;
        let other = sharing_frr(&lab, &lab.bird, net::BIRD_V4, net::EDGE_TO_BIRD_V4).await;
        let peers = frr_peer(ACCEPT) + &peer("other", net::BIRD_V4, FRR_ASN, ACCEPT);
        let _speaker = Speaker::start(&lab, &(KERNEL.to_owned() + &peers)).await;
        let via = |address: IpAddr| format!("via {address} ");
        let routers = [
            ("-4", [net::FRR_V4.into(), net::BIRD_V4.into()].map(via)),
            ("-6", [net::FRR_V6.into(), net::BIRD_V6.into()].map(via)),
        ];
        for (family, both) in &routers {
            eventually("both routers share the traffic", async || {
                let shown = table_of(&lab, family).await;
                both.iter().all(|via| shown.contains(via))
            })
            .await;
        }
        let log = RouteLog::open(&lab.edge);

        drop(other);

        for (family, both) in &routers {
            eventually("one has it alone", async || {
                let shown = table_of(&lab, family).await;
                shown.contains(&both[0]) && !shown.contains(&both[1])
            })
            .await;
        }
        let events = log.close().await;
        for address in ["192.0.2.0", "2001:db8:5::"] {
            let concerned = events.iter().filter(|event| event.concerns(address.parse().unwrap()));
            let kinds: Vec<_> = concerned.map(|event| event.kind).collect();
            assert!(!kinds.is_empty() && !kinds.contains(&REMOVED), "{address}: {kinds:?}");
        }
    });
}

#[test]
fn a_killed_speaker_leaves_its_routes_and_the_next_adopts_them_and_drops_strays() {
    Lab::run(async |lab| {
        let frr = frr(&lab, &[SHARED, "198.51.100.0/24"], "").await;
        // Without graceful restart FRR sends no End-of-RIB, and strays would stay for two minutes.
        let graceful = format!("graceful-restart = {{ time-s = 30 }}\n{ACCEPT}");
        let config = KERNEL.to_owned() + &frr_peer(&graceful);
        let killed = Speaker::start(&lab, &config).await;
        eventually("both routes are installed", async || {
            let shown = table(&lab).await;
            shown.contains("192.0.2.0/24 via") && shown.contains("198.51.100.0/24 via")
        })
        .await;

        killed.signal(Signal::SIGKILL);
        assert!(!killed.end().await);
        frr.vtysh("clear bgp *").await;
        let stray = "198.51.100.77 via 10.99.1.2 metric 20 table 100 proto bgp";
        edge(&lab, &format!("route add {stray}")).await;
        // Neither by protocol nor by metric ours.
        edge(&lab, "route add 198.51.100.78 via 10.99.1.2 metric 20 table 100 proto static").await;
        edge(&lab, "route add 198.51.100.79 via 10.99.1.2 metric 21 table 100 proto bgp").await;
        let log = RouteLog::open(&lab.edge);
        let reborn = Speaker::start(&lab, &config).await;

        eventually("the stray is gone", async || !table(&lab).await.contains("198.51.100.77"))
            .await;
        let events = log.close().await;
        for (address, touched) in [("198.51.100.77", 1), ("192.0.2.0", 0), ("198.51.100.0", 0)] {
            let address = address.parse().unwrap();
            let count = events.iter().filter(|event| event.concerns(address)).count();
            assert_eq!(count, touched, "{address}");
        }

        reborn.signal(Signal::SIGTERM);
        assert!(reborn.end().await);
        let shown = run("ip", &["-n", &lab.edge, "route", "show", "table", "100"], "").await;
        assert!(!shown.contains("192.0.2.0"), "{shown}");
        assert!(shown.contains("198.51.100.78") && shown.contains("198.51.100.79"), "{shown}");
    });
}

#[test]
fn routes_beyond_the_limit_wait_until_there_is_room_and_taken_ones_come_back() {
    Lab::run(async |lab| {
        let prefixes = ["198.51.100.0/24", "198.51.101.0/24", "198.51.102.0/24"];
        let bird = bird(&lab, &prefixes, "").await;
        let config = KERNEL.to_owned() + "routes-max = 2\n" + &bird_peer(ACCEPT);
        let speaker = Speaker::start(&lab, &config).await;
        let installed = async || table(&lab).await.lines().count();
        let has = async |prefix: &str| table(&lab).await.contains(prefix);
        eventually("there are two", async || installed().await == 2).await;
        eventually("the third is left out", async || {
            let metrics = speaker.request("GET", "/metrics", "").await.body;
            metric_of(&metrics, "kernel_over_limit") == 1
                && metric_of(&metrics, "kernel_beyond_limit_total") == 1
                && metric_of(&metrics, "kernel_routes_installed") == 2
        })
        .await;

        let mut left_out = 0;
        for (at, prefix) in prefixes.iter().enumerate() {
            if !has(prefix).await {
                left_out = at;
            }
        }
        let other = (left_out + 1) % prefixes.len();
        bird.birdc(&format!("disable s{other}")).await;
        eventually("it has room now", async || has(prefixes[left_out]).await).await;
        assert_eq!(installed().await, 2);

        // Addresses change: the table is looked at, and what somebody took away is put back.
        let stolen = prefixes[left_out];
        edge(&lab, &format!("route del {stolen} table 100 proto bgp")).await;
        edge(&lab, "address add 10.99.9.1/32 dev lo").await;
        eventually("it is back", async || has(stolen).await).await;
    });
}

#[test]
fn a_next_hop_behind_no_link_is_refused_once_and_installed_when_the_link_is_there() {
    Lab::run(async |lab| {
        let bird = bird(&lab, &["198.51.100.0/24"], "").await;
        // In the table, but nobody is there.
        let import = "import = { default = 'accept', policy = [\
                      { name = 'far', set = { next-hop = '10.99.77.2' }, then = 'Accept' }] }\n";
        let config = KERNEL.to_owned() + &bird_peer(import);
        let speaker = Speaker::start(&lab, &config).await;
        let metric =
            async |name: &str| metric_of(&speaker.request("GET", "/metrics", "").await.body, name);
        eventually("it is refused", async || metric("kernel_routes_refused").await == 1).await;
        assert!(bird.is_established().await);

        edge(&lab, "address add 10.99.77.1/24 dev tobird").await;

        eventually("it is installed", async || table(&lab).await.contains("via 10.99.77.2")).await;
        assert_eq!(metric("kernel_routes_refused").await, 0);
        assert_eq!(metric("kernel_refusals_total").await, 1);
    });
}

#[test]
fn an_ipv4_route_may_lead_to_an_ipv6_next_hop() {
    Lab::run(async |lab| {
        let (own, edge) = (net::BIRD_V6, "2001:db8:92::1");
        let _bird = Router::bird_with(
            &lab,
            &format!(
                "protocol static {{ ipv4; route {SHARED} unreachable; }}\n\
                 protocol bgp edge {{ local {own} as {BIRD_ASN}; neighbor {edge} as 65010;\n\
                 hold time 3; connect delay time 1; connect retry time 1;\n\
                 ipv4 {{ import all; export where source = RTS_STATIC; extended next hop on; }}; }}\n"
            ),
        )
        .await;
        let config = KERNEL.to_owned() + &peer("bird", own, BIRD_ASN, ACCEPT);
        let _speaker = Speaker::start(&lab, &config).await;

        eventually("it is installed", async || {
            table(&lab).await.contains(&format!("{SHARED} via inet6 {own} "))
        })
        .await;
    });
}

#[test]
fn a_speaker_that_means_to_return_leaves_its_routes() {
    Lab::run(async |lab| {
        let _frr = frr(&lab, &[SHARED], "").await;
        let mut config = SpeakerConfig::new(65_010, Ipv4Addr::new(10, 99, 0, 1));
        config.kernel = Some(KernelConfig {
            table: 100,
            metric: 20,
            protocol: 186,
            multipath_max: 8,
            routes_max: 10,
        });
        let mut peer = PeerConfig::new("frr", IpAddr::V4(net::FRR_V4), FRR_ASN);
        peer.import = accept_all(10);
        let speaker = BgpSpeaker::start(config).unwrap();
        speaker.set_peers(vec![peer]).unwrap();
        eventually("it is installed", async || table(&lab).await.contains(SHARED)).await;
        eventually("that is known", async || {
            speaker.kernel().is_some_and(|kernel| kernel.installed == 1)
        })
        .await;
        let log = RouteLog::open(&lab.edge);

        speaker.shutdown(Stop::Preserve).await;

        let events = log.close().await;
        assert!(!events.iter().any(|event| event.concerns("192.0.2.0".parse().unwrap())));
        assert!(table(&lab).await.contains(SHARED));
    });
}
