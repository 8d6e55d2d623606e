//! Malformed UPDATEs: each with the clause that decides it and what it costs.

use std::net::Ipv4Addr;

use isocast_bgp::types::PeerKind;

use crate::vectors::*;

/// What became of 192.0.2.1/32 and the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Nothing: no fault.
    None,
    /// An attribute.
    Attribute,
    /// The route.
    Route,
    /// The session, with this subcode.
    Session(u8),
}

/// How a message differs from a good announcement of 192.0.2.1/32.
pub(crate) enum Change {
    /// Not at all.
    Nothing,
    /// An attribute (flags, code, value) instead of the good one.
    Replaced(u8, u8, Vec<u8>),
    /// One more attribute.
    Added(u8, u8, Vec<u8>),
    /// One attribute less.
    Missing(u8),
    /// Other bytes after the attributes, within their list.
    Tail(Vec<u8>),
    /// Only these bytes in the list.
    Only(Vec<u8>),
}

/// Our own address.
pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// An announcement of 192.0.2.1/32 with some attributes left out and others added.
pub(crate) fn announcement(without: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    body(&[], &attributes(without, others), &NLRI)
}

impl Change {
    pub(crate) fn body(&self, kind: PeerKind) -> Vec<u8> {
        let local_pref = attribute(WELL_KNOWN, 5, &[0, 0, 0, 100]);
        let mut others = if kind == PeerKind::Internal { vec![local_pref] } else { vec![] };
        let mut without = vec![];
        match self {
            Self::Nothing => {}
            Self::Replaced(flags, code, value) => {
                others.retain(|other| other[1] != *code);
                others.push(attribute(*flags, *code, value));
                without.push(*code);
            }
            Self::Added(flags, code, value) => others.push(attribute(*flags, *code, value)),
            Self::Missing(code) => {
                others.retain(|other| other[1] != *code);
                without.push(*code);
            }
            Self::Tail(bytes) => others.push(bytes.clone()),
            Self::Only(bytes) => return body(&[], bytes, &NLRI),
        }
        announcement(&without, &others)
    }
}

/// What each fault of an attribute costs, from a peer in another AS and from one in our own.
#[rustfmt::skip]
pub(crate) fn attribute_faults() -> Vec<(&'static str, &'static str, Change, Cost, Cost)> {
    use Cost::{Attribute, None, Route};
    let replaced = |flags, code, value: &[u8]| Change::Replaced(flags, code, value.to_vec());
    let added = |flags, code, value: &[u8]| Change::Added(flags, code, value.to_vec());
    let hops = |kind: u8, hops: &[u32]| {
        let mut value = vec![kind, u8::try_from(hops.len()).unwrap()];
        value.extend(hops.iter().flat_map(|hop| hop.to_be_bytes()));
        value
    };
    let confederation = [hops(3, &[65_001]), hops(2, &[65_001])].concat();
    let long = [hops(2, &[65_001; 255]), hops(2, &[65_001])].concat();
    vec![
        ("4271 4.3", "nothing wrong", Change::Nothing, None, None),
        ("7606 7.1", "ORIGIN 3", replaced(WELL_KNOWN, 1, &[3]), Route, Route),
        ("7606 7.1", "ORIGIN 255", replaced(WELL_KNOWN, 1, &[255]), Route, Route),
        ("7606 7.1", "ORIGIN of two octets", replaced(WELL_KNOWN, 1, &[0, 0]), Route, Route),
        ("7606 7.1", "ORIGIN empty", replaced(WELL_KNOWN, 1, &[]), Route, Route),
        ("7606 3 c", "ORIGIN optional", replaced(OPTIONAL, 1, &[0]), Route, Route),
        ("7606 3 c", "ORIGIN optional transitive", replaced(TRANSITIVE, 1, &[0]), Route, Route),
        ("7606 3 c", "ORIGIN neither", replaced(0, 1, &[0]), Route, Route),
        ("4271 5", "ORIGIN partial", replaced(0x60, 1, &[0]), Route, Route),
        ("4271 4.3", "ORIGIN with unused flags", replaced(0x4f, 1, &[0]), None, None),
        ("4271 4.3", "ORIGIN with a long length", replaced(0x50, 1, &[0]), None, None),
        ("7606 3 d", "ORIGIN missing", Change::Missing(1), Route, Route),
        ("7606 7.2", "AS_PATH overrun", replaced(WELL_KNOWN, 2, &[2, 9, 0, 0, 0, 1]), Route, Route),
        ("7606 7.2", "AS_PATH underrun", replaced(WELL_KNOWN, 2, &[2, 1, 0, 0, 0xfd, 0xe9, 0]), Route, Route),
        ("7606 7.2", "AS_PATH segment of no hops", replaced(WELL_KNOWN, 2, &[2, 0]), Route, Route),
        ("7606 7.2", "AS_PATH segment type 0", replaced(WELL_KNOWN, 2, &hops(0, &[65_001])), Route, Route),
        ("7606 7.2", "AS_PATH segment type 9", replaced(WELL_KNOWN, 2, &hops(9, &[65_001])), Route, Route),
        ("7606 7.2", "AS_PATH with a lone octet", replaced(WELL_KNOWN, 2, &[2]), Route, Route),
        ("7606 7.2", "AS_PATH of two-octet numbers", replaced(WELL_KNOWN, 2, &[2, 1, 0xfd, 0xe9]), Route, Route),
        ("7607 2", "AS_PATH with AS 0", replaced(WELL_KNOWN, 2, &hops(2, &[65_001, 0])), Route, Route),
        ("9774 3", "AS_PATH with a set", replaced(WELL_KNOWN, 2, &[hops(2, &[65_001]), hops(1, &[7])].concat()), Route, Route),
        ("5065 5", "AS_PATH of a confederation", replaced(WELL_KNOWN, 2, &confederation), Route, Route),
        ("9774 3", "AS_PATH with a confederation's set", replaced(WELL_KNOWN, 2, &hops(4, &[65_001])), Route, Route),
        ("4271 5.1.2", "AS_PATH empty", replaced(WELL_KNOWN, 2, &[]), Route, None),
        ("4271 6.3", "AS_PATH begins with another AS", replaced(WELL_KNOWN, 2, &hops(2, &[65_002, 65_001])), Route, None),
        ("limits", "AS_PATH of 256 hops", replaced(0x50, 2, &long), Route, Route),
        ("7606 3 d", "AS_PATH missing", Change::Missing(2), Route, Route),
        ("7606 3 c", "AS_PATH optional", replaced(OPTIONAL, 2, &hops(2, &[65_001])), Route, Route),
        ("4271 5", "AS_PATH partial", replaced(0x60, 2, &hops(2, &[65_001])), Route, Route),
        ("7606 7.3", "NEXT_HOP of three octets", replaced(WELL_KNOWN, 3, &[10, 0, 0]), Route, Route),
        ("7606 7.3", "NEXT_HOP of five octets", replaced(WELL_KNOWN, 3, &[10, 0, 0, 1, 0]), Route, Route),
        ("7606 7.3", "NEXT_HOP empty", replaced(WELL_KNOWN, 3, &[]), Route, Route),
        ("7606 7.3", "NEXT_HOP of sixteen octets", replaced(WELL_KNOWN, 3, &NEXT_HOP_V6), Route, Route),
        ("7606 3 d", "NEXT_HOP missing", Change::Missing(3), Route, Route),
        ("7606 3 c", "NEXT_HOP optional", replaced(TRANSITIVE, 3, &[10, 0, 0, 1]), Route, Route),
        ("4271 6.3", "NEXT_HOP 0.0.0.0", replaced(WELL_KNOWN, 3, &[0, 0, 0, 0]), Route, Route),
        ("4271 6.3", "NEXT_HOP loopback", replaced(WELL_KNOWN, 3, &[127, 0, 0, 1]), Route, Route),
        ("4271 6.3", "NEXT_HOP multicast", replaced(WELL_KNOWN, 3, &[224, 0, 0, 1]), Route, Route),
        ("4271 6.3", "NEXT_HOP of class E", replaced(WELL_KNOWN, 3, &[240, 0, 0, 1]), Route, Route),
        ("4271 6.3", "NEXT_HOP broadcast", replaced(WELL_KNOWN, 3, &[255; 4]), Route, Route),
        ("4271 6.3", "NEXT_HOP ourselves", replaced(WELL_KNOWN, 3, &OWN.octets()), Route, Route),
        ("7606 7.4", "MED of three octets", added(OPTIONAL, 4, &[0, 0, 1]), Route, Route),
        ("7606 7.4", "MED of five octets", added(OPTIONAL, 4, &[0; 5]), Route, Route),
        ("7606 7.4", "MED empty", added(OPTIONAL, 4, &[]), Route, Route),
        ("7606 3 c", "MED transitive", added(TRANSITIVE, 4, &[0, 0, 0, 1]), Route, Route),
        ("4271 5", "MED partial", added(0xa0, 4, &[0, 0, 0, 1]), Route, Route),
        ("7606 7.5", "LOCAL_PREF", replaced(WELL_KNOWN, 5, &[0, 0, 0, 100]), Attribute, None),
        ("7606 7.5", "LOCAL_PREF of three octets", replaced(WELL_KNOWN, 5, &[0, 0, 1]), Attribute, Route),
        ("7606 7.5", "LOCAL_PREF of five octets", replaced(WELL_KNOWN, 5, &[0; 5]), Attribute, Route),
        ("7606 7.5", "LOCAL_PREF empty", replaced(WELL_KNOWN, 5, &[]), Attribute, Route),
        ("7606 7.5", "LOCAL_PREF optional", replaced(OPTIONAL, 5, &[0, 0, 0, 1]), Attribute, Route),
        ("4271 5.1.5", "LOCAL_PREF missing", Change::Missing(5), None, Route),
        ("7606 7.6", "ATOMIC_AGGREGATE of one octet", added(WELL_KNOWN, 6, &[1]), Attribute, Attribute),
        ("7606 3 c", "ATOMIC_AGGREGATE optional", added(OPTIONAL, 6, &[]), Route, Route),
        ("7606 7.7", "AGGREGATOR of three octets", added(TRANSITIVE, 7, &[0, 0, 1]), Attribute, Attribute),
        ("7606 7.7", "AGGREGATOR empty", added(TRANSITIVE, 7, &[]), Attribute, Attribute),
        ("7606 7.7", "AGGREGATOR of the old size", added(TRANSITIVE, 7, &[0, 1, 10, 0, 0, 1]), Attribute, Attribute),
        ("7606 7.7", "AGGREGATOR of nine octets", added(TRANSITIVE, 7, &[0; 9]), Attribute, Attribute),
        ("7607 2", "AGGREGATOR AS 0", added(TRANSITIVE, 7, &[0, 0, 0, 0, 10, 0, 0, 1]), Attribute, Attribute),
        ("7606 7.8", "COMMUNITIES empty", added(TRANSITIVE, 8, &[]), Route, Route),
        ("7606 7.8", "COMMUNITIES of three octets", added(TRANSITIVE, 8, &[0, 1, 0]), Route, Route),
        ("7606 7.8", "COMMUNITIES of five octets", added(TRANSITIVE, 8, &[0, 1, 0, 1, 0]), Route, Route),
        ("7606 3 c", "COMMUNITIES not transitive", added(OPTIONAL, 8, &[0, 1, 0, 1]), Route, Route),
        ("7606 3 c", "COMMUNITIES well-known", added(WELL_KNOWN, 8, &[0, 1, 0, 1]), Route, Route),
        ("4271 5", "COMMUNITIES partial", added(0xe0, 8, &[0, 1, 0, 1]), None, None),
        ("7606 7.9", "ORIGINATOR_ID", added(OPTIONAL, 9, &[10, 0, 0, 9]), Attribute, None),
        ("7606 7.9", "ORIGINATOR_ID of three octets", added(OPTIONAL, 9, &[10, 0, 0]), Attribute, Route),
        ("7606 7.9", "ORIGINATOR_ID of five octets", added(OPTIONAL, 9, &[0; 5]), Attribute, Route),
        ("7606 7.9", "ORIGINATOR_ID transitive", added(TRANSITIVE, 9, &[10, 0, 0, 9]), Attribute, Route),
        ("7606 7.10", "CLUSTER_LIST", added(OPTIONAL, 10, &[0, 0, 0, 1]), Attribute, None),
        ("7606 7.10", "CLUSTER_LIST empty", added(OPTIONAL, 10, &[]), Attribute, Route),
        ("7606 7.10", "CLUSTER_LIST of five octets", added(OPTIONAL, 10, &[0; 5]), Attribute, Route),
        ("7606 7.14", "EXTENDED COMMUNITIES of seven", added(TRANSITIVE, 16, &[0; 7]), Route, Route),
        ("7606 7.14", "EXTENDED COMMUNITIES of nine", added(TRANSITIVE, 16, &[0; 9]), Route, Route),
        ("7606 7.14", "EXTENDED COMMUNITIES empty", added(TRANSITIVE, 16, &[]), Route, Route),
        ("7606 7.14", "EXTENDED COMMUNITIES of a type nobody knows", added(TRANSITIVE, 16, &[0x7f; 8]), None, None),
        ("6793 4.1", "AS4_PATH among new speakers", added(TRANSITIVE, 17, &hops(2, &[65_001])), Attribute, Attribute),
        ("6793 6", "AS4_PATH malformed", added(TRANSITIVE, 17, &[2, 3, 0, 0]), Attribute, Attribute),
        ("6793 6", "AS4_AGGREGATOR short", added(TRANSITIVE, 18, &[0, 0]), Attribute, Attribute),
        ("8092 6", "LARGE_COMMUNITY of eleven", added(TRANSITIVE, 32, &[0; 11]), Route, Route),
        ("8092 6", "LARGE_COMMUNITY of thirteen", added(TRANSITIVE, 32, &[0; 13]), Route, Route),
        ("8092 6", "LARGE_COMMUNITY empty", added(TRANSITIVE, 32, &[]), Route, Route),
        ("7606 3 c", "LARGE_COMMUNITY not transitive", added(OPTIONAL, 32, &[0; 12]), Route, Route),
        ("9234 5", "ONLY_TO_CUSTOMER", added(TRANSITIVE, 35, &[0, 0, 0xfd, 0xe9]), None, None),
        ("9234 5", "ONLY_TO_CUSTOMER of three octets", added(TRANSITIVE, 35, &[0, 0, 1]), Route, Route),
        ("9234 5", "ONLY_TO_CUSTOMER empty", added(TRANSITIVE, 35, &[]), Route, Route),
        ("9234 5", "ONLY_TO_CUSTOMER of 1024 octets", added(TRANSITIVE | 0x10, 35, &[0; 1024]), Route, Route),
        ("4271 6.3", "unknown well-known", added(WELL_KNOWN, 99, &[1]), Route, Route),
        ("4271 5", "unknown transitive", added(TRANSITIVE, 254, &[1; 40]), None, None),
        ("4271 5", "unknown transitive, as large as can be", added(TRANSITIVE | 0x10, 254, &[1; 3900]), None, None),
        ("4271 5", "unknown transitive, empty", added(TRANSITIVE, 254, &[]), None, None),
        ("4271 5", "unknown transitive, partial", added(0xe0, 254, &[1]), None, None),
        ("4271 5", "unknown not transitive", added(OPTIONAL, 99, &[1]), None, None),
        ("4271 5", "attribute 0", added(TRANSITIVE, 0, &[]), None, None),
        ("9012 2", "tunnel encapsulation, corrupt", added(TRANSITIVE, 23, &[0, 1, 0, 99, 1]), None, None),
        ("8669 6", "prefix SID, TLV overrun", added(TRANSITIVE, 40, &[1, 0, 200, 1]), None, None),
        ("9252 7", "prefix SID, short SRv6 service", added(TRANSITIVE, 40, &[5, 0, 1, 0]), None, None),
        ("7311 3", "AIGP of one octet", added(OPTIONAL, 26, &[1]), None, None),
        ("5701 2", "IPv6 extended communities of seven", added(TRANSITIVE, 25, &[0; 7]), None, None),
        ("7606 3 g", "ORIGIN twice", added(WELL_KNOWN, 1, &[2]), Attribute, Attribute),
        ("7606 3 g", "ORIGIN twice, the second malformed", added(WELL_KNOWN, 1, &[9, 9]), Attribute, Attribute),
        ("7606 3 g", "an unknown one twice", Change::Tail(attribute(TRANSITIVE, 254, &[1]).repeat(2)), Attribute, Attribute),
        ("7606 3 h", "a mild fault and a graver one", Change::Tail([attribute(WELL_KNOWN, 6, &[1]), attribute(OPTIONAL, 4, &[1])].concat()), Route, Route),
        ("7606 3 d", "no attributes at all", Change::Only(vec![]), Route, Route),
        ("7606 3 d", "an unknown one alone", Change::Only(attribute(TRANSITIVE, 254, &[1])), Route, Route),
        ("7606 3 d", "MP_UNREACH beside NLRI, and nothing mandatory", Change::Only(attribute(OPTIONAL, 15, &[0, 2, 1])), Route, Route),
        ("7606 4", "an attribute that overruns the list", Change::Tail(vec![0x40, 6, 9]), Route, Route),
        ("7606 4", "a long attribute that overruns the list", Change::Tail(vec![0xd0, 8, 0xff, 0xff, 0]), Route, Route),
        ("7606 4", "an attribute of one octet", Change::Tail(vec![0x40]), Route, Route),
        ("7606 4", "an attribute of two octets", Change::Tail(vec![0x40, 6]), Route, Route),
        ("7606 4", "a long attribute of three octets", Change::Tail(vec![0xd0, 8, 0]), Route, Route),
    ]
}

/// UPDATEs without a boundary that could be trusted, and the subcode that the session ends with.
#[rustfmt::skip]
pub(crate) fn framing_faults() -> Vec<(&'static str, &'static str, Vec<u8>, u8)> {
    let good = attributes(&[], &[]);
    let overrun = [good.as_slice(), &[0x40, 6, 9]].concat();
    let v6 = |next_hop: &[u8], nlri: &[u8]| attributes(&[3], &[mp_reach(next_hop, nlri)]);
    let cut = |value: &[u8]| attributes(&[3], &[attribute(OPTIONAL, 14, value)]);
    let unreach = |value: &[u8]| body(&[], &attribute(OPTIONAL, 15, value), &[]);
    let twice = attribute(OPTIONAL, 15, &[0, 2, 1]).repeat(2);
    let reach = mp_reach(&NEXT_HOP_V6, &NLRI_V6);
    // 7 octets in all, yet the lengths add up modulo 65536.
    let mut wrapping = vec![0xff, 0xff, 0, 0, 0, 0, 0];
    wrapping.resize(36, 0);
    vec![
        ("4271 6.3", "empty", vec![], 1),
        ("4271 6.3", "withdrawn length cut", vec![0], 1),
        ("4271 6.3", "withdrawn overrun", vec![0, 9, 0, 0], 1),
        ("4271 6.3", "no attribute length", vec![0, 0, 0], 1),
        ("4271 6.3", "attribute overrun", vec![0, 0, 0, 9, 0], 1),
        ("4271 6.3", "both overrun", vec![0, 2, 0, 0, 0xff, 0xff], 1),
        ("4271 6.3", "lengths that wrap", wrapping, 1),
        ("7606 3 i", "withdrawn prefix of 33 bits", body(&[33, 1, 2, 3, 4, 5], &[], &[]), 10),
        ("7606 3 i", "withdrawn prefix of 255 bits", body(&[255; 40], &[], &[]), 10),
        ("7606 3 i", "withdrawn prefix cut", body(&[24, 1], &[], &[]), 10),
        ("7606 3 j", "prefix of 33 bits", body(&[], &good, &[33, 1, 2, 3, 4, 5]), 10),
        ("7606 3 j", "prefix of 255 bits", body(&[], &good, &[255; 40]), 10),
        ("7606 3 j", "prefix cut", body(&[], &good, &[24, 1]), 10),
        ("7606 3 j", "a good prefix, then one cut", body(&[], &good, &[32, 192, 0, 2, 1, 24]), 10),
        ("7606 3 j", "prefix cut, beside a bad ORIGIN", body(&[], &attribute(WELL_KNOWN, 1, &[7]), &[24, 1]), 10),
        ("7606 5.2", "overrun and no prefixes", body(&[], &overrun, &[]), 1),
        ("7606 5.2", "End-of-RIB with a bad ORIGIN", body(&[], &attribute(WELL_KNOWN, 1, &[7]), &[]), 6),
        ("7606 5.2", "withdrawn routes with a bad MED", body(&NLRI, &attribute(OPTIONAL, 4, &[7]), &[]), 5),
        ("7606 7.11", "IPv6 next hop of no octets", body(&[], &v6(&[], &NLRI_V6), &[]), 9),
        ("7606 7.11", "IPv6 next hop of four octets", body(&[], &v6(&[0; 4], &NLRI_V6), &[]), 9),
        ("7606 7.11", "IPv6 next hop of fifteen octets", body(&[], &v6(&[1; 15], &NLRI_V6), &[]), 9),
        ("7606 7.11", "IPv6 next hop of seventeen octets", body(&[], &v6(&[1; 17], &NLRI_V6), &[]), 9),
        ("7606 7.11", "IPv6 next hop of 255 octets", body(&[], &cut(&[0, 2, 1, 255, 0]), &[]), 9),
        ("7606 7.11", "IPv4 prefixes by an IPv6 next hop, not agreed on", body(&[], &cut(&[&[0, 1, 1, 16], &NEXT_HOP_V6[..], &[0, 24, 192, 0, 2]].concat()), &[]), 9),
        ("7606 5.3", "IPv6 prefix of 129 bits", body(&[], &v6(&NEXT_HOP_V6, &[129; 18]), &[]), 9),
        ("7606 5.3", "IPv6 prefix of 200 bits", body(&[], &v6(&NEXT_HOP_V6, &[200, 1]), &[]), 9),
        ("7606 5.3", "IPv6 prefix cut", body(&[], &v6(&NEXT_HOP_V6, &[64, 0x20]), &[]), 9),
        ("7606 7.11", "MP_REACH empty", body(&[], &cut(&[]), &[]), 9),
        ("7606 7.11", "MP_REACH of four octets", body(&[], &cut(&[0, 2, 1, 16]), &[]), 9),
        ("7606 7.11", "MP_REACH without its reserved octet", body(&[], &cut(&[&[0, 2, 1, 16], &NEXT_HOP_V6[..]].concat()), &[]), 9),
        ("7606 7.12", "MP_UNREACH empty", unreach(&[]), 9),
        ("7606 7.12", "MP_UNREACH of two octets", unreach(&[0, 2]), 9),
        ("7606 5.3", "MP_UNREACH, prefix of 129 bits", unreach(&[0, 2, 1, 129, 1]), 9),
        ("7606 5.3", "MP_UNREACH, prefix cut", unreach(&[0, 2, 1, 64, 1]), 9),
        ("7606 3 g", "two MP_UNREACH", body(&[], &twice, &[]), 1),
        ("7606 3 g", "two MP_REACH", body(&[], &attributes(&[3], &[reach.clone(), reach]), &[]), 1),
    ]
}
