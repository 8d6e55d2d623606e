//! Malformed UPDATEs (RFC 7606 and the RFCs of each attribute): the rows of the core's own test, as
//! a peer of the running speaker sees what they cost.

use std::net::Ipv4Addr;

use isocast_bgp::types::PeerKind;

use crate::malformed::{Cost, OWN, attribute_faults, framing_faults};
use crate::net::{Lab, eventually};
use crate::speaker::Speaker;
use crate::vectors::{NEXT_HOP_V6, NLRI, NLRI_V6, attribute, attributes, body, mp_reach};
use crate::wire::{UPDATE, Wire, message, ordinary};
use crate::{INSIDE, OUTSIDE, speaker};

/// What the rows announce.
const PREFIX: &str = "192.0.2.1/32";

/// A peer with a session, and how it is called.
struct Peer {
    name: &'static str,
    address: Ipv4Addr,
    kind: PeerKind,
    wire: Wire,
    fences: u8,
}

impl Peer {
    async fn outside() -> Self {
        Self::connect("outside", OUTSIDE, PeerKind::External).await
    }

    async fn inside() -> Self {
        Self::connect("inside", INSIDE, PeerKind::Internal).await
    }

    async fn connect(name: &'static str, address: Ipv4Addr, kind: PeerKind) -> Self {
        let asn = if kind == PeerKind::External { 65_001 } else { 65_010 };
        let wire = Wire::established(address, &ordinary(asn, [10, 0, 0, 9])).await;
        Self { name, address, kind, wire, fences: 0 }
    }

    /// The attributes of a good route.
    fn good(&self) -> Vec<u8> {
        let preference = attribute(0x40, 5, &[0, 0, 0, 100]);
        let more = if self.kind == PeerKind::Internal { vec![preference] } else { vec![] };
        attributes(&[], &more)
    }

    async fn update(&mut self, body: &[u8]) {
        self.wire.send(&message(UPDATE, body)).await;
    }

    /// Waits until all that was sent has been taken: a route sent after it has arrived.
    async fn fence(&mut self, speaker: &Speaker) {
        self.fences = self.fences.wrapping_add(1);
        let nlri = [32, 198, 18, self.fences, u8::from(self.kind == PeerKind::Internal)];
        let fence = format!("198.18.{}.{}/32", nlri[3], nlri[4]);
        self.update(&body(&nlri, &[], &[])).await;
        let good = self.good();
        self.update(&body(&[], &good, &nlri)).await;
        eventually("the speaker took it all", async || self.has(speaker, &fence).await).await;
    }

    async fn has(&self, speaker: &Speaker, prefix: &str) -> bool {
        let family = if prefix.contains(':') { "ipv6-unicast" } else { "ipv4-unicast" };
        let (peer, query) = (self.name, format!("family={family}&prefix={prefix}"));
        let routes = speaker.get(&format!("/v1/routes?{query}&peer={peer}")).await;
        !routes.as_array().unwrap().is_empty()
    }
}

/// A counter of a peer.
async fn counter(speaker: &Speaker, peer: &str, name: &str) -> u64 {
    let metrics = speaker.request("GET", "/metrics", "").await.body;
    let line = format!("isocast_bgp_{name}_total{{peer=\"{peer}\"}} ");
    let value = metrics.lines().find_map(|found| found.strip_prefix(&line)).unwrap();
    value.parse().unwrap()
}

#[test]
fn a_malformed_attribute_costs_what_the_rfcs_say() {
    assert_eq!(OWN, crate::OWN, "a row is about our own address");
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut peers = [Peer::outside().await, Peer::inside().await];
        for (clause, name, change, outside, inside) in attribute_faults() {
            for (peer, expected) in peers.iter_mut().zip([outside, inside]) {
                let row = format!("RFC {clause}: {name}, from {}", peer.name);
                peer.update(&body(&[], &peer.good(), &NLRI)).await;
                peer.fence(&speaker).await;
                assert!(peer.has(&speaker, PREFIX).await, "{row}: a good one before it");
                let before = counter(&speaker, peer.name, "faults_discard").await;

                peer.update(&change.body(peer.kind)).await;
                peer.fence(&speaker).await;

                let discarded = counter(&speaker, peer.name, "faults_discard").await > before;
                let cost = match (peer.has(&speaker, PREFIX).await, discarded) {
                    (true, false) => Cost::None,
                    (true, true) => Cost::Attribute,
                    (false, _) => Cost::Route,
                };
                assert_eq!(cost, expected, "{row}");
            }
        }
    });
}

#[test]
fn what_cannot_be_framed_costs_the_session_and_nobody_elses() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut other = Peer::inside().await;
        speaker.established(&["inside"]).await;
        let since = speaker.peer("inside").await.unwrap()["since"].clone();
        for (clause, name, faulty, subcode) in framing_faults() {
            let peer = Peer::outside().await;
            let told = peer.wire.told_after(&message(UPDATE, &faulty)).await;
            let cost = match told {
                Some((3, subcode, _)) => Some(Cost::Session(subcode)),
                // Too short for an UPDATE at all is a fault of the header (RFC 4271 §6.1).
                Some((1, 2, _)) if faulty.len() < 4 => Some(Cost::Session(subcode)),
                _ => None,
            };
            assert_eq!(cost, Some(Cost::Session(subcode)), "RFC {clause}: {name}");
        }
        other.fence(&speaker).await;
        assert_eq!(speaker.peer("inside").await.unwrap()["since"], since);
    });
}

#[test]
fn an_attribute_that_ends_the_session_is_returned_whole() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        let peer = Peer::outside().await;
        let reach = mp_reach(&[1; 15], &NLRI_V6);
        let faulty = body(&[], &attributes(&[3], std::slice::from_ref(&reach)), &[]);

        let told = peer.wire.told_after(&message(UPDATE, &faulty)).await;

        assert_eq!(told, Some((3, 9, reach)), "RFC 4271 6.3");
    });
}

#[test]
fn a_malformed_ipv6_route_is_withdrawn_and_its_neighbours_stay() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut peer = Peer::outside().await;
        let announce = |bad: &[Vec<u8>], without: &[u8], nlri: &[u8]| {
            let reach = mp_reach(&NEXT_HOP_V6, nlri);
            body(&[], &attributes(&[&[3], without].concat(), &[&[reach], bad].concat()), &[])
        };
        let neighbour = [32, 0x20, 1, 0xd, 0xb9];
        for nlri in [&NLRI_V6[..], &neighbour] {
            peer.update(&announce(&[], &[], nlri)).await;
        }
        peer.fence(&speaker).await;
        assert!(peer.has(&speaker, "2001:db8::/32").await);

        peer.update(&announce(&[attribute(0x40, 1, &[7])], &[1], &NLRI_V6)).await;
        peer.fence(&speaker).await;

        assert!(!peer.has(&speaker, "2001:db8::/32").await, "RFC 7606 7.1");
        assert!(peer.has(&speaker, "2001:db9::/32").await);
        assert_eq!(peer.address, OUTSIDE);
    });
}
