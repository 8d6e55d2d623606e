//! What the program makes of packets out of tunnels: verdict, bytes and counters.

use std::net::{TcpListener, TcpStream};

use crate::support::{
    node::{Bench, Node, OTHER_KEY_TAG, TENANT, accept, address, bare, tunnel_from},
    packet::{
        ACK, Flow, ROUTER_MAC, SECOND_HOP, SYN, Tunnel, echo, encapsulate, ethernet, flow, hops,
        ip, tcp, udp,
    },
};
use isocast_dataplane::{Action, Config, Outcome, Protocol, Tables};

const EDGE_V4: &str = "10.9.0.1";
const EDGE_V6: &str = "2001:db8:e::1";
const OTHER_BACKEND_V4: &str = "10.9.0.3";
const OTHER_BACKEND_V6: &str = "2001:db8:e::3";
const VIP_V4: &str = "192.0.2.10";
const VIP_V6: &str = "2001:db8:f::10";

fn tables() -> Tables {
    let mut tables = bare();
    tables.decap.sources =
        [EDGE_V4, EDGE_V6, OTHER_BACKEND_V4, OTHER_BACKEND_V6].map(address).to_vec();
    for vip in [VIP_V4, VIP_V6] {
        tables.decap.accepts.push(accept(vip, Protocol::Tcp, 443));
        tables.decap.accepts.push(accept(vip, Protocol::Udp, 53));
    }
    tables
}

fn from(edge: &str) -> Tunnel {
    tunnel_from(edge, &[])
}

fn v4(port: u16) -> Flow {
    flow("198.51.100.7", VIP_V4, port)
}

fn v6(port: u16) -> Flow {
    flow("2001:db8:c::7", VIP_V6, port)
}

/// The host gets `inner`, from whoever sent the outer frame.
fn assert_delivered(bench: &Bench, tunnel: &Tunnel, inner: &[u8], delivered: &[u8]) {
    let traced = bench.arrive(&encapsulate(tunnel, inner));
    assert_eq!(traced.action, Action::Pass, "{tunnel:?}");
    assert_eq!(traced.packet, ethernet(bench.mac, ROUTER_MAC, delivered), "{tunnel:?}");
}

#[test]
fn listed_traffic_is_handed_to_the_host() {
    Node::new("decap").with_tables(&tables(), |bench| {
        for edge in [EDGE_V4, EDGE_V6] {
            for inner in
                [tcp(v4(443), SYN, 0), tcp(v6(443), ACK, 0), udp(v4(53), b"q"), udp(v6(53), b"q")]
            {
                assert_delivered(bench, &from(edge), &inner, &inner);
            }
        }
        assert_eq!(bench.counters().outcomes[&Outcome::Decapsulated], 8);
    });
}

#[test]
fn the_next_key_is_believed_too() {
    Node::new("key").with_tables(&tables(), |bench| {
        let inner = tcp(v4(443), SYN, 0);
        let tunnel = Tunnel { key_tag: OTHER_KEY_TAG, ..from(EDGE_V4) };
        assert_delivered(bench, &tunnel, &inner, &inner);
    });
}

#[test]
fn what_is_not_listed_is_a_counted_drop() {
    let inner = tcp(v4(443), SYN, 0);
    let good = encapsulate(&from(EDGE_V4), &inner);
    let with = |tunnel: Tunnel| encapsulate(&tunnel, &inner);
    let of = |inner: Vec<u8>| encapsulate(&from(EDGE_V4), &inner);
    let changed = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    let mut fragment = inner.clone();
    fragment[6] = 0x20;
    let mut options = inner.clone();
    options[0] = 0x46;
    let mut too_long = inner.clone();
    too_long[2] = 0x10;
    let cases = [
        (
            "unlisted source",
            with(Tunnel { source: address("10.9.0.9"), ..from(EDGE_V4) }),
            Outcome::UnlistedSource,
        ),
        ("wrong key", with(Tunnel { key_tag: [1, 2, 3, 4], ..from(EDGE_V4) }), Outcome::WrongKey),
        (
            "other tenant",
            with(Tunnel { tenant: TENANT + 1, ..from(EDGE_V4) }),
            Outcome::UnlistedDestination,
        ),
        (
            "other address",
            of(tcp(flow("198.51.100.7", "192.0.2.11", 443), SYN, 0)),
            Outcome::UnlistedDestination,
        ),
        ("other port", of(tcp(v4(444), SYN, 0)), Outcome::UnlistedDestination),
        ("other protocol", of(udp(v4(443), b"q")), Outcome::UnlistedDestination),
        ("echo", of(echo(v4(0), false)), Outcome::UnlistedProtocol),
        (
            "tunnel in the tunnel",
            of(ip(v4(0).source, v4(0).destination, 4, 0, &inner)),
            Outcome::UnlistedProtocol,
        ),
        ("inner fragment", of(fragment), Outcome::Fragment),
        ("inner options", of(options), Outcome::IpOptions),
        ("inner length beyond the outer", of(too_long), Outcome::Malformed),
        ("another GUE version", changed(28, 0x42), Outcome::UnknownEncap),
        ("GUE control message", changed(28, 0x22), Outcome::UnknownEncap),
        ("longer GUE header", changed(28, 6), Outcome::UnknownEncap),
        ("GUE flags", changed(31, 1), Outcome::UnknownEncap),
        ("inner is Ethernet", changed(29, 143), Outcome::UnknownEncap),
        (
            "cut off in the tunnel header",
            {
                let mut packet = good[..36].to_vec();
                packet[2..4].copy_from_slice(&[0, 36]);
                packet
            },
            Outcome::Malformed,
        ),
        (
            "cut off in the inner header",
            {
                let mut packet = good[..50].to_vec();
                packet[2..4].copy_from_slice(&[0, 50]);
                packet
            },
            Outcome::Malformed,
        ),
        (
            "congestion that cannot be told",
            with(Tunnel { class: 3, ..from(EDGE_V4) }),
            Outcome::CongestionUnmarkable,
        ),
    ];
    Node::new("unlisted").with_tables(&tables(), |bench| {
        assert_eq!(bench.outcome_of(&good), (Action::Pass, vec![Outcome::Decapsulated]));
        for (what, packet, outcome) in cases {
            assert_eq!(bench.outcome_of(&packet), (Action::Drop, vec![outcome]), "{what}");
        }
    });
}

#[test]
fn congestion_on_the_way_is_told_to_the_flow() {
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    Node::new("ecn").with_tables(&tables(), |bench| {
        for edge in [EDGE_V4, EDGE_V6] {
            for flow in [v4(443), v6(443)] {
                let tunnel = Tunnel { class: CE, ..from(edge) };
                let marked = tcp(flow, ACK, 0xb8 | CE);
                assert_delivered(bench, &tunnel, &tcp(flow, ACK, 0xb8 | ECT0), &marked);
                assert_delivered(bench, &tunnel, &marked, &marked);
                let unmarked = tcp(flow, ACK, ECT0);
                assert_delivered(bench, &from(edge), &unmarked, &unmarked);
            }
        }
    });
}

#[test]
fn stranger_within_a_connection_goes_on_to_the_further_hop() {
    Node::new("further").with_tables(&tables(), |bench| {
        for (edge, other) in [(EDGE_V4, OTHER_BACKEND_V4), (EDGE_V6, OTHER_BACKEND_V6)] {
            for flow in [v4(443), v6(443)] {
                let inner = tcp(flow, ACK, 0);
                let arriving = tunnel_from(edge, &[other]);
                let leaving = Tunnel {
                    source: arriving.destination,
                    destination: address(other),
                    flags: SECOND_HOP,
                    hops: hops(&[]),
                    ..arriving
                };
                bench.assert_leaves(&arriving, &inner, &leaving);

                let opening = tcp(flow, SYN, 0);
                assert_delivered(bench, &arriving, &opening, &opening);
            }
        }
        assert_eq!(bench.counters().outcomes[&Outcome::SecondChance], 4);
    });
}

#[test]
fn a_stranger_takes_the_rest_of_the_further_hops_with_it() {
    let rest_v4: [&[&str]; 2] = [&["10.9.0.9"], &["10.9.0.9", "10.9.0.8"]];
    let rest_v6: [&[&str]; 2] = [&["2001:db8:9::9"], &["2001:db8:9::9", "2001:db8:9::8"]];
    Node::new("chain").with_tables(&tables(), |bench| {
        for (edge, other, rests) in
            [(EDGE_V4, OTHER_BACKEND_V4, rest_v4), (EDGE_V6, OTHER_BACKEND_V6, rest_v6)]
        {
            for (rest, flow) in rests.into_iter().zip([v4(443), v6(443)]) {
                let all: Vec<_> = [other].into_iter().chain(rest.iter().copied()).collect();
                let arriving = tunnel_from(edge, &all);
                let leaving = Tunnel {
                    source: arriving.destination,
                    destination: address(other),
                    flags: SECOND_HOP,
                    hops: hops(rest),
                    ..arriving
                };
                bench.assert_leaves(&arriving, &tcp(flow, ACK, 0), &leaving);
            }
        }
    });
}

#[test]
fn strangers_beyond_the_limit_are_counted_drops() {
    let node = Node::new("many");
    node.namespace.enter(|| {
        let (mut bench, _) = Bench::open(Config { pass_on_per_second: 1, ..node.config() });
        bench.dataplane.apply(&tables()).expect("tables");
        let tunnel = tunnel_from(EDGE_V4, &[OTHER_BACKEND_V4]);
        let packet = encapsulate(&tunnel, &tcp(v4(443), ACK, 0));
        let counted = |outcome| bench.counters().outcomes[&outcome];

        // Unless the window ends between them, the second one is too many.
        let is_limited = (0..1000).any(|_| {
            bench.arrive(&packet);
            counted(Outcome::SecondChanceLimited) > 0
        });

        assert!(is_limited, "a thousand times a window ended");
        assert!(counted(Outcome::SecondChance) > 0);
    });
}

#[test]
fn further_hop_that_is_not_listed_is_a_counted_drop() {
    Node::new("unhop").with_tables(&tables(), |bench| {
        let tunnel = tunnel_from(EDGE_V4, &["10.9.0.9"]);
        let packet = encapsulate(&tunnel, &tcp(v4(443), ACK, 0));
        assert_eq!(bench.outcome_of(&packet), (Action::Drop, vec![Outcome::UnlistedHop]));
    });
}

#[test]
fn own_connections_stay_whatever_the_further_hop() {
    Node::new("own").with_tables(&tables(), |bench| {
        for (vip, outer, other) in
            [(VIP_V4, EDGE_V4, OTHER_BACKEND_V4), (VIP_V6, EDGE_V6, OTHER_BACKEND_V6)]
        {
            // On loopback the address is, so the connection needs no network.
            let listener = TcpListener::bind((vip, 443)).expect("the VIP is on loopback");
            let client = TcpStream::connect((vip, 443)).expect("connect");
            let _server = listener.accept().expect("accept");
            let source = client.local_addr().expect("address");
            let own =
                Flow { source_port: source.port(), source: source.ip(), ..flow(vip, vip, 443) };
            let stranger = Flow { source_port: source.port() ^ 1, ..own };
            let tunnel = tunnel_from(outer, &[other]);

            let inner = tcp(own, ACK, 0);
            assert_delivered(bench, &tunnel, &inner, &inner);
            let packet = encapsulate(&tunnel, &tcp(stranger, ACK, 0));
            assert_eq!(bench.outcome_of(&packet), (Action::Transmit, vec![Outcome::SecondChance]));
        }
    });
}

#[test]
fn tunnel_packets_pass_where_no_tunnel_ends() {
    let node = Node::new("norole");
    node.namespace.enter(|| {
        let mut config = node.config();
        config.roles.backend = false;
        let (mut bench, _) = Bench::open(config);
        bench.dataplane.apply(&tables()).expect("tables");
        let packet = encapsulate(&from(EDGE_V4), &tcp(v4(443), SYN, 0));
        assert_eq!(bench.outcome_of(&packet), (Action::Pass, vec![]));
    });
}
