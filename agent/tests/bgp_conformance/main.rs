//! `isocast-agent speaker` as a peer sees it: bytes in, bytes out, and what the API then shows. One
//! row for each case, with the clause that decides it.
//!
//! Nothing here reads or writes messages by the speaker's own codec, so that both cannot be wrong
//! together.

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
#[path = "../bgp_interop/speaker.rs"]
#[expect(dead_code, reason = "shared with the tests of the driver")]
mod speaker;

mod collisions;
mod headers;
#[path = "../../../bgp/tests/speaker/malformed.rs"]
mod malformed;
mod opens;
mod passing;
mod states;
mod storms;
mod updates;
#[path = "../../../bgp/tests/speaker/vectors.rs"]
#[expect(dead_code, reason = "shared with the tests of the core")]
mod vectors;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::net::{Lab, eventually, run};
use crate::speaker::Speaker;

/// Our own end of every session.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// A peer in AS 65001.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// A peer in our AS.
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// A peer in AS 65001 that we connect to, too.
const SOUGHT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
/// A peer in AS 65003.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
/// Not the usual one: that is ours, on every address of the namespace.
const SOUGHT_PORT: u16 = 1179;

const ACCEPT: &str = "import = { default = 'accept' }\nexport = { default = 'accept' }\n";

/// The speaker with the peers above, all in the namespace of the test.
async fn speaker(lab: &Lab) -> Speaker {
    speaker_with(lab, "").await
}

/// Where the peer that is sought is found.
async fn sought() -> TcpListener {
    run("ip", &["address", "replace", &format!("{SOUGHT}/32"), "dev", "lo"], "").await;
    TcpListener::bind(SocketAddr::new(SOUGHT.into(), SOUGHT_PORT)).await.unwrap()
}

/// `more` is about the peer that is sought.
async fn speaker_with(lab: &Lab, more: &str) -> Speaker {
    let addresses: String = [OWN, OUTSIDE, INSIDE, SOUGHT, ELSEWHERE]
        .iter()
        .map(|address| format!("address replace {address}/32 dev lo\n"))
        .collect();
    run("ip", &["-batch", "-"], &addresses).await;
    let peer = |name: &str, address: Ipv4Addr, asn: u32, more: &str| {
        format!(
            "[[peer]]\nname = '{name}'\naddress = '{address}'\nlocal-address = '{OWN}'\n\
             asn = {asn}\nhold-time-s = 90\n{more}{ACCEPT}"
        )
    };
    let peers = [
        peer("outside", OUTSIDE, 65_001, "passive = true\n"),
        // The loopback has no address of its own that IPv6 routes could go by.
        peer("elsewhere", ELSEWHERE, 65_003, "passive = true\nnext-hop-ipv6 = '2001:db8:9::1'\n"),
        peer("inside", INSIDE, 65_010, "passive = true\n"),
        peer("sought", SOUGHT, 65_001, &format!("port = {SOUGHT_PORT}\n{more}")),
    ];
    let speaker = Speaker::start(lab, &peers.concat()).await;
    eventually("it knows its peers", async || speaker.peer("sought").await.is_some()).await;
    speaker
}
