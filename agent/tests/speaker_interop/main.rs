//! `isocast-agent speaker` between real routers, FRR and BIRD, in network namespaces: what it
//! installs in the kernel, and the finer points of what it takes, keeps and passes on.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../bgp_interop/net.rs"]
#[expect(dead_code, reason = "shared with the tests of the driver")]
mod net;
#[path = "../bgp_interop/raw_peer.rs"]
#[expect(dead_code, reason = "shared with the tests of the driver")]
mod raw_peer;
#[path = "../bgp_interop/route_log.rs"]
mod route_log;
#[path = "../bgp_interop/routers.rs"]
#[expect(dead_code, reason = "shared with the tests of the driver")]
mod routers;
#[path = "../bgp_interop/speaker.rs"]
#[expect(dead_code, reason = "shared with the tests of the driver")]
mod speaker;

mod kernel;
mod leaks;
mod limits;
mod liveness;
mod marks;
mod neighbours;
mod restarts;

use crate::net::Lab;
use crate::routers::{BIRD_ASN, FRR_ASN, Router};

/// Everything is taken and passed on.
const ACCEPT: &str = "import = { default = 'accept' }\nexport = { default = 'accept' }\n";
const OWN: &str = "203.0.113.10/32";

/// A peer of the speaker.
fn peer(name: &str, address: impl std::fmt::Display, asn: u32, more: &str) -> String {
    format!(
        "[[peer]]\nname = '{name}'\naddress = '{address}'\nasn = {asn}\nhold-time-s = 3\n{more}"
    )
}

fn frr_peer(more: &str) -> String {
    peer("frr", net::FRR_V4, FRR_ASN, more)
}

fn bird_peer(more: &str) -> String {
    peer("bird", net::BIRD_V4, BIRD_ASN, more)
}

/// FRR's side of a session with the speaker; `more` is about the neighbour, `family` within the
/// address family.
fn frr_conf(prefixes: &[&str], more: &str, family: &str) -> String {
    let edge = net::EDGE_TO_FRR_V4;
    let networks: String = prefixes.iter().map(|prefix| format!("  network {prefix}\n")).collect();
    format!(
        "router bgp {FRR_ASN}\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n neighbor {edge} remote-as 65010\n \
         neighbor {edge} timers 1 3\n neighbor {edge} timers connect 1\n{more} \
         address-family ipv4 unicast\n{networks}{family} exit-address-family\n"
    )
}

async fn frr(lab: &Lab, prefixes: &[&str], more: &str) -> Router {
    Router::frr_with(lab, &frr_conf(prefixes, more, "")).await
}

/// BIRD with a session of its own AS number; `more` is about the session.
async fn bird_of(lab: &Lab, asn: u32, prefixes: &[&str], more: &str) -> Router {
    let (own, edge) = (net::BIRD_V4, net::EDGE_TO_BIRD_V4);
    // One protocol a prefix, so that each can be withdrawn alone.
    let routes: String = prefixes
        .iter()
        .enumerate()
        .map(|(at, prefix)| {
            format!("protocol static s{at} {{ ipv4; route {prefix} unreachable; }}\n")
        })
        .collect();
    Router::bird_with(
        lab,
        &format!(
            "{routes}protocol bgp edge {{ local {own} as {asn}; neighbor {edge} as 65010;\n\
             hold time 3; keepalive time 1; connect delay time 1; connect retry time 1;\n\
             error wait time 1,1; {more}\n\
             ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n"
        ),
    )
    .await
}

async fn bird(lab: &Lab, prefixes: &[&str], more: &str) -> Router {
    bird_of(lab, BIRD_ASN, prefixes, more).await
}
