//! `isocast-agent speaker` with implementations of BGP that are not FRR or BIRD, each in a network
//! namespace of its own: GoBGP, ExaBGP and OpenBGPD.

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

mod capabilities;
mod ends;
mod exabgp;
mod exchange;
mod gobgp;
mod neighbour;
mod openbgpd;
mod place;
mod tables;

use crate::neighbour::Setup;
use crate::place::Place;

/// Everything is taken and passed on.
const ACCEPT: &str = "import = { default = 'accept' }\nexport = { default = 'accept' }\n";

/// A number that needs four octets.
const WIDE_ASN: u32 = 4_200_000_001;

/// A peer of the speaker at a place, set up like this.
fn peer(name: &str, place: &Place, setup: &Setup, more: &str) -> String {
    let own = if setup.over_ipv6 { place.own_v6.to_string() } else { place.own_v4.to_string() };
    let asn = setup.asn;
    format!("[[peer]]\nname = '{name}'\naddress = '{own}'\nasn = {asn}\nhold-time-s = 3\n{more}")
}

/// An announcement of our own, marked.
fn announce(prefix: &str) -> String {
    format!("[[announce]]\nprefix = '{prefix}'\ncommunities = ['65010:100', '65010:1:2']\n")
}
