//! BFD with real routers: FRR (IPv4) and BIRD (IPv6), and the agent as a process that is killed.
//! What counts is what the routers say of their sessions, and what their kernels hold.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why"
)]

mod agent;
#[expect(dead_code, reason = "addresses and links of other tests")]
#[path = "../bgp_interop/net.rs"]
mod net;
#[path = "../bgp_interop/route_log.rs"]
mod route_log;
#[expect(dead_code, reason = "shared with the tests of the driver")]
#[path = "../bgp_interop/routers.rs"]
mod routers;
mod watched;

use std::time::Duration;

use ipnet::IpNet;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::net::{Lab, eventually};
use crate::route_log::RouteLog;
use crate::watched::Watched;

const PREFIX_V4: &str = "203.0.113.10/32";
const PREFIX_V6: &str = "2001:db8:f::10/128";
const INTERVAL_MS: u32 = 50;

/// Both routers and a running agent, at peace: routes are there, and the program answers.
async fn at_peace(lab: &Lab) -> ([Watched; 2], Agent) {
    let mut agent = Agent::new(lab, INTERVAL_MS).await;
    let frr = Watched::frr(lab, PREFIX_V4, INTERVAL_MS).await;
    let bird = Watched::bird(lab, PREFIX_V6, INTERVAL_MS).await;
    agent.start();
    let routers = [frr, bird];
    for router in &routers {
        let what = format!("{} has the route and a session of BFD", router.name);
        eventually(&what, async || router.has_route().await && router.session().await.is_up).await;
    }
    agent.is_reflected().await;
    (routers, agent)
}

#[test]
fn a_killed_agent_loses_no_session_and_no_route_and_its_successor_adopts_both() {
    Lab::run(async |lab| {
        let (routers, mut agent) = at_peace(&lab).await;
        let mut before = Vec::new();
        for router in &routers {
            before.push((RouteLog::open(&router.namespace), router.session().await));
        }

        agent.kill().await;
        for router in &routers {
            eventually("the router noticed", async || !router.is_established().await).await;
        }
        // Ten times the detection time without an agent.
        sleep(Duration::from_millis(u64::from(INTERVAL_MS) * 30)).await;
        for (router, (_, session)) in routers.iter().zip(&before) {
            assert_eq!(router.session().await, *session, "{}", router.name);
        }
        agent.start();
        for router in &routers {
            eventually("BGP is back", async || router.is_established().await).await;
        }
        agent.is_reflected().await;

        for (router, (log, session)) in routers.iter().zip(before) {
            assert_eq!(router.session().await, session, "{}", router.name);
            assert!(session.is_up && router.has_route().await, "{}", router.name);
            let address = router.prefix.parse::<IpNet>().unwrap().addr();
            let events = log.close().await;
            let kinds: Vec<_> =
                events.iter().filter(|e| e.concerns(address)).map(|e| e.kind).collect();
            assert!(kinds.is_empty(), "{} touched its route: {kinds:?}", router.name);
        }
    });
}

#[test]
fn a_cut_link_is_noticed_by_both_ends_and_costs_the_route() {
    Lab::run(async |lab| {
        let (routers, agent) = at_peace(&lab).await;

        for router in &routers {
            router.cut().await;
            let cut = Instant::now();
            eventually("the route is gone", async || !router.has_route().await).await;
            // By the hold time it would take longer than that.
            assert!(cut.elapsed() < Duration::from_secs(2), "{}: {:?}", router.name, cut.elapsed());
            eprintln!("{}: route gone {:?} after the cut", router.name, cut.elapsed());
        }
        eventually("the agent lost both", async || {
            // On a busy machine either may have been lost before, too.
            let failures = agent.values("isocast_agent_bfd_failures_total").await;
            failures.len() == 2 && failures.iter().all(|count| *count > 0)
        })
        .await;
        for peer in ["frr", "bird"] {
            // The last end counts: a router that starts may refuse a first attempt.
            let ended = agent.log_lines().into_iter().rev().find(|line| {
                let fields = &line["fields"];
                fields["message"] == "BGP session ended" && fields["peer"] == peer
            });
            assert_eq!(ended.unwrap()["fields"]["reason"], "BFD down", "{peer}");
        }

        for router in &routers {
            router.restore().await;
            eventually("the route is back", async || {
                router.has_route().await && router.session().await.is_up
            })
            .await;
        }
        agent.is_reflected().await;
    });
}

#[test]
fn a_link_that_is_cut_while_no_agent_lives_costs_the_session_and_the_successor_begins_anew() {
    Lab::run(async |lab| {
        let (routers, mut agent) = at_peace(&lab).await;

        agent.kill().await;
        for router in &routers {
            router.cut().await;
            eventually("BFD is down", async || !router.session().await.is_up).await;
            router.restore().await;
        }
        agent.start();

        for router in &routers {
            eventually("BFD and the route are back", async || {
                router.session().await.is_up && router.has_route().await
            })
            .await;
        }
        agent.is_reflected().await;
    });
}
