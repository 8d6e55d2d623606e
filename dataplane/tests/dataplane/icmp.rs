//! What the program makes of ICMP errors about packets of a VIP: verdict, bytes and counters.

use std::net::{IpAddr, TcpListener, TcpStream};

use isocast_dataplane::{
    Action, Outcome, PacketRules, Protocol, Ring, ServiceKey, ServicePolicy, SourceList,
    SourceRule, Tables,
};
use isocast_dataplane_common::{RING_SLOTS_MIN, Slot};

use crate::{
    edge::{expected, tunnel, v4, v6},
    support::{
        node::{Bench, Node, OWN_V4, OWN_V6, accept, address, backend, one_service, ring},
        packet::{
            ACK, Flow, ROUTER_MAC, SYN, Tunnel, encapsulate, ethernet, flow, hops, icmp, reverse,
            tcp, too_big, udp,
        },
    },
};

const VIP_V4: &str = "192.0.2.10";
const VIP_V6: &str = "2001:db8:f::10";

/// A router on the way back to the client.
fn router(flow: Flow) -> IpAddr {
    address(if flow.source.is_ipv4() { "198.51.100.99" } else { "2001:db8:c::99" })
}

/// The error that a packet of the backend to `flow`'s client provokes; the quote ends `len` bytes
/// behind the IP header.
fn error(flow: Flow, answer: &[u8], len: usize) -> Vec<u8> {
    let header = if flow.source.is_ipv4() { 20 } else { 40 };
    too_big(router(flow), flow.destination, 1400, &answer[..header + len])
}

fn tcp_error(flow: Flow) -> Vec<u8> {
    error(flow, &tcp(reverse(flow), ACK, 0), 8)
}

/// Two backends, with the slots in turn.
fn two_backends() -> Tables {
    let mut tables = one_service("10.1.0.2");
    tables.edge.backends.push(backend("b2", "10.1.0.3"));
    let slots = [0, 1].map(Slot::settled).into_iter().cycle().take(RING_SLOTS_MIN);
    tables.edge.rings = vec![Ring::from_positions(slots)];
    tables
}

#[test]
fn error_is_encapsulated_to_the_backend_of_the_flow_that_eight_bytes_quote() {
    for backend_address in ["10.1.0.2", "2001:db8:b::2"] {
        let node = Node::new(if backend_address.contains(':') { "icmp6" } else { "icmp4" });
        node.with_tables(&one_service(backend_address), |bench| {
            for (flow, answer) in [
                (v4(443), tcp(reverse(v4(443)), ACK, 0)),
                (v6(443), tcp(reverse(v6(443)), ACK, 0)),
                (v4(53), udp(reverse(v4(53)), b"answer")),
                (v6(53), udp(reverse(v6(53)), b"answer")),
            ] {
                let error = error(flow, &answer, 8);
                assert_eq!(
                    bench.outcome_of(&error),
                    (Action::Transmit, vec![Outcome::ErrorForwarded])
                );
                let traced = bench.arrive(&error);
                let wanted = expected(bench, &traced.packet, &tunnel(backend_address), &error);
                assert_eq!(traced.packet, wanted, "{flow:?} to {backend_address}");
            }
        });
    }
}

#[test]
fn error_follows_its_flow_to_every_backend() {
    let mut by_address = two_backends();
    for vip in &mut by_address.edge.vips {
        vip.rules.fragments = isocast_dataplane::Fragments::Hash;
    }
    let node = Node::new("icmpring");
    for tables in [two_backends(), by_address] {
        node.with_tables(&tables, |bench| {
            let mut reached = std::collections::BTreeSet::new();
            for host in 1..33 {
                for (template, udp_port) in [(v4(443), 53), (v6(443), 53)] {
                    let client = match template.source {
                        IpAddr::V4(_) => address(&format!("198.51.100.{host}")),
                        IpAddr::V6(_) => address(&format!("2001:db8:c::{host:x}")),
                    };
                    let flow = Flow { source: client, source_port: 40_000 + host, ..template };
                    let query = Flow { port: udp_port, ..flow };
                    for (packet, error) in [
                        (tcp(flow, ACK, 0), tcp_error(flow)),
                        (udp(query, b"q"), error(query, &udp(reverse(query), b"a"), 8)),
                    ] {
                        let (data, error) = (bench.arrive(&packet), bench.arrive(&error));
                        // Destination and source port of the outer header.
                        assert_eq!(data.packet[30..36], error.packet[30..36], "{flow:?}");
                        reached.insert(data.packet[30..34].to_vec());
                    }
                }
            }
            assert_eq!(reached.len(), 2);
        });
    }
}

#[test]
fn all_kinds_of_errors_are_forwarded_and_other_messages_are_not() {
    Node::new("icmpkinds").with_tables(&one_service("10.1.0.2"), |bench| {
        for (flow, errors, others) in [
            (v4(443), &[3, 11, 12][..], &[0, 4, 5, 9, 13, 30][..]),
            (v6(443), &[1, 2, 3, 4], &[0, 5, 129, 133, 134, 135, 136, 137]),
        ] {
            let answer = tcp(reverse(flow), ACK, 0);
            let message = |kind, code| {
                icmp(router(flow), flow.destination, [kind, code], &[&[0; 4], &answer[..]].concat())
            };
            for &kind in errors {
                for code in [0, 1, 4, 15] {
                    let forwarded = (Action::Transmit, vec![Outcome::ErrorForwarded]);
                    assert_eq!(bench.outcome_of(&message(kind, code)), forwarded, "{kind}");
                }
            }
            for &kind in others {
                let dropped = (Action::Drop, vec![Outcome::UnlistedProtocol]);
                assert_eq!(bench.outcome_of(&message(kind, 0)), dropped, "{kind}");
            }
        }
    });
}

#[test]
fn error_that_quotes_nothing_of_the_service_is_a_counted_drop() {
    let mut tables = one_service("10.1.0.2");
    tables.edge.vips.retain(|vip| vip.port != 53);
    Node::new("icmpforeign").with_tables(&tables, |bench| {
        for flow in [v4(443), v6(443)] {
            let answer = tcp(reverse(flow), ACK, 0);
            let header = if flow.source.is_ipv4() { 20 } else { 40 };
            let quoting = |answer: &[u8]| error(flow, answer, answer.len() - header);
            let stranger = Flow { destination: router(flow), ..flow };
            let mut odd = answer.clone();
            if flow.source.is_ipv4() {
                odd[0] = 0x46;
            } else {
                odd[6] = 60;
            }
            let odd_outcome =
                if flow.source.is_ipv4() { Outcome::IpOptions } else { Outcome::ExtensionHeader };
            let mut protocol = answer.clone();
            protocol[if flow.source.is_ipv4() { 9 } else { 6 }] = 47;
            for (what, packet, outcome) in [
                ("another source", quoting(&tcp(reverse(stranger), ACK, 0)), Outcome::ForeignQuote),
                ("not turned round", quoting(&tcp(flow, ACK, 0)), Outcome::ForeignQuote),
                (
                    "a port without listener",
                    quoting(&tcp(reverse(Flow { port: 444, ..flow }), ACK, 0)),
                    Outcome::UnlistedPort,
                ),
                ("UDP", quoting(&udp(reverse(flow), b"a")), Outcome::UnlistedPort),
                ("seven bytes", error(flow, &answer, 7), Outcome::Malformed),
                ("no quote", error(flow, &[0; 60], 0), Outcome::Malformed),
                ("odd header", quoting(&odd), odd_outcome),
                ("another protocol", quoting(&protocol), Outcome::UnlistedProtocol),
            ] {
                let dropped = (Action::Drop, vec![outcome]);
                assert_eq!(bench.outcome_of(&packet), dropped, "{what} {flow:?}");
            }
        }
    });
}

#[test]
fn quoted_first_fragment_tells_its_flow_and_a_later_one_does_not() {
    Node::new("icmpfragment").with_tables(&one_service("10.1.0.2"), |bench| {
        for flow in [v4(53), v6(53)] {
            let answer = udp(reverse(flow), &[7; 32]);
            let piece = |offset: u16| {
                let mut piece = answer.clone();
                if flow.source.is_ipv4() {
                    piece[6..8].copy_from_slice(&(offset | 0x2000).to_be_bytes());
                } else {
                    piece[6] = 44;
                    let header = [&[17, 0][..], &(offset << 3 | 1).to_be_bytes(), &[0; 4]].concat();
                    piece.splice(40..40, header);
                }
                error(flow, &piece, if flow.source.is_ipv4() { 8 } else { 16 })
            };
            let whole = bench.arrive(&error(flow, &answer, 8)).packet;
            let first = bench.arrive(&piece(0));
            assert_eq!((first.action, &first.packet[30..36]), (Action::Transmit, &whole[30..36]));
            let dropped = (Action::Drop, vec![Outcome::Fragment]);
            assert_eq!(bench.outcome_of(&piece(100)), dropped);
        }
    });
}

#[test]
fn error_about_a_connection_in_transition_names_the_hosts_of_the_chain() {
    let mut tables = one_service("10.1.0.2");
    for (key, tunnel_address) in [("b2", "10.1.0.3"), ("b3", "10.1.0.4"), ("b4", "10.1.0.5")] {
        tables.edge.backends.push(backend(key, tunnel_address));
    }
    tables.edge.rings = vec![ring(0, &[1, 2, 3])];
    Node::new("icmphop").with_tables(&tables, |bench| {
        for flow in [v4(443), v6(443)] {
            let error = tcp_error(flow);
            let traced = bench.arrive(&error);
            let tunnel =
                Tunnel { hops: hops(&["10.1.0.3", "10.1.0.4", "10.1.0.5"]), ..tunnel("10.1.0.2") };
            assert_eq!(traced.packet, expected(bench, &traced.packet, &tunnel, &error));
        }
    });
}

#[test]
fn error_is_let_in_with_the_client_whose_flow_it_quotes() {
    let prefixes = ["198.51.100.99/32", "2001:db8:c::99/128"];
    let rule = |text: &str| SourceRule { prefix: text.parse().expect(text), allowed: true };
    let sources = SourceList { rules: prefixes.map(rule).into(), others_allowed: false };
    let policy = ServicePolicy { sources: Some(sources), ..ServicePolicy::default() };
    let mut tables = one_service("10.1.0.2");
    tables.edge.policies.insert(ServiceKey("www".into()), policy);
    Node::new("icmplist").with_tables(&tables, |bench| {
        for flow in [v4(443), v6(443)] {
            // The router that sends it is on the list, the client is not, and the other way round.
            let kept_out = (Action::Drop, vec![Outcome::SourceNotAllowed]);
            assert_eq!(bench.outcome_of(&tcp_error(flow)), kept_out);
            let client = Flow { source: router(flow), ..flow };
            let about_it = tcp(reverse(client), ACK, 0);
            let header = if flow.source.is_ipv4() { 20 } else { 40 };
            let error = too_big(flow.source, flow.destination, 1400, &about_it[..header + 8]);
            let forwarded = (Action::Transmit, vec![Outcome::ErrorForwarded]);
            assert_eq!(bench.outcome_of(&error), forwarded);
        }
    });
}

// Where the tunnel ends.

const EDGE_V4: &str = "10.9.0.1";
const EDGE_V6: &str = "2001:db8:e::1";
const OTHER_V4: &str = "10.9.0.3";
const OTHER_V6: &str = "2001:db8:e::3";

fn backend_tables() -> Tables {
    let mut tables = Tables::default();
    tables.decap.sources = [EDGE_V4, EDGE_V6, OTHER_V4, OTHER_V6].map(address).to_vec();
    for vip in [VIP_V4, VIP_V6] {
        tables.decap.accepts.push(accept(vip, Protocol::Tcp, 443));
        tables.decap.accepts.push(accept(vip, Protocol::Udp, 53));
    }
    assert!(tables.decap.accepts.iter().all(|accept| accept.rules == PacketRules::default()));
    tables
}

/// Tunnels of both families, and further hops for them.
fn tunnels() -> [(Tunnel, IpAddr); 2] {
    [(EDGE_V4, OWN_V4, OTHER_V4), (EDGE_V6, OWN_V6, OTHER_V6)].map(|(from, to, other)| {
        let tunnel = Tunnel {
            source: address(from),
            destination: address(to),
            source_port: 50_000,
            ..tunnel("10.0.0.9")
        };
        (tunnel, address(other))
    })
}

fn assert_delivered(bench: &Bench, tunnel: &Tunnel, inner: &[u8]) {
    let traced = bench.arrive(&encapsulate(tunnel, inner));
    assert_eq!(traced.action, Action::Pass, "{tunnel:?}");
    assert_eq!(traced.packet, ethernet(bench.mac, ROUTER_MAC, inner), "{tunnel:?}");
}

#[test]
fn error_about_what_is_served_is_handed_to_the_host() {
    Node::new("icmpdecap").with_tables(&backend_tables(), |bench| {
        for (tunnel, _) in tunnels() {
            for flow in [v4(443), v6(443)] {
                assert_delivered(bench, &tunnel, &tcp_error(flow));
                let query = Flow { port: 53, ..flow };
                assert_delivered(bench, &tunnel, &error(query, &udp(reverse(query), b"a"), 8));
            }
        }
    });
}

#[test]
fn error_about_anything_else_does_not_leave_the_tunnel() {
    Node::new("icmpunlisted").with_tables(&backend_tables(), |bench| {
        for (tunnel, _) in tunnels() {
            for flow in [v4(443), v6(443)] {
                let answer = tcp(reverse(flow), ACK, 0);
                let stranger = Flow { destination: router(flow), ..flow };
                let other_port = tcp(reverse(Flow { port: 444, ..flow }), ACK, 0);
                let other_tenant = Tunnel { tenant: tunnel.tenant + 1, ..tunnel };
                for (tunnel, inner, outcome) in [
                    (tunnel, error(flow, &other_port, 8), Outcome::UnlistedDestination),
                    (other_tenant, tcp_error(flow), Outcome::UnlistedDestination),
                    (
                        tunnel,
                        error(flow, &tcp(reverse(stranger), ACK, 0), 8),
                        Outcome::ForeignQuote,
                    ),
                    (tunnel, error(flow, &answer, 7), Outcome::Malformed),
                ] {
                    let packet = encapsulate(&tunnel, &inner);
                    assert_eq!(bench.outcome_of(&packet), (Action::Drop, vec![outcome]));
                }
            }
        }
    });
}

#[test]
fn error_about_a_strangers_connection_goes_on_to_the_further_hop() {
    Node::new("icmpfurther").with_tables(&backend_tables(), |bench| {
        for (tunnel, other) in tunnels() {
            let third = address(if other.is_ipv4() { "10.9.0.4" } else { "2001:db8:e::4" });
            let arriving = Tunnel { hops: [Some(other), Some(third), None], ..tunnel };
            for flow in [v4(443), v6(443)] {
                let error_of_tcp = tcp_error(flow);
                let packet = encapsulate(&arriving, &error_of_tcp);
                let passed_on = (Action::Transmit, vec![Outcome::SecondChance]);
                assert_eq!(bench.outcome_of(&packet), passed_on);
                const SECOND_HOP: u8 = 2;
                let leaving = Tunnel {
                    source: arriving.destination,
                    destination: other,
                    flags: SECOND_HOP,
                    hops: [Some(third), None, None],
                    ..arriving
                };
                let mut wanted = bench.leaving(&encapsulate(&leaving, &error_of_tcp));
                if other.is_ipv6() {
                    wanted[16..18].copy_from_slice(&50_000_u16.to_be_bytes());
                }
                assert_eq!(bench.arrive(&packet).packet, wanted);
            }
        }
    });
}

#[test]
fn error_about_an_own_connection_stays_whatever_the_further_hop() {
    Node::new("icmpown").with_tables(&backend_tables(), |bench| {
        for (vip, (tunnel, other)) in [VIP_V4, VIP_V6].into_iter().zip(tunnels()) {
            let listener = TcpListener::bind((vip, 443)).expect("the VIP is on loopback");
            let client = TcpStream::connect((vip, 443)).expect("connect");
            let _server = listener.accept().expect("accept");
            let source = client.local_addr().expect("address");
            let own =
                Flow { source_port: source.port(), source: source.ip(), ..flow(vip, vip, 443) };
            let stranger = Flow { source_port: source.port() ^ 1, ..own };
            let tunnel = Tunnel { hops: [Some(other), None, None], ..tunnel };

            assert_delivered(bench, &tunnel, &tcp_error(own));
            // The handshake's answer may be what is too big for a path.
            let answer = tcp(reverse(own), SYN | ACK, 0);
            assert_delivered(bench, &tunnel, &error(own, &answer, 20));
            let packet = encapsulate(&tunnel, &tcp_error(stranger));
            assert_eq!(bench.outcome_of(&packet), (Action::Transmit, vec![Outcome::SecondChance]));
        }
    });
}
