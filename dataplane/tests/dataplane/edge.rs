//! What the program makes of packets to services: verdict, bytes and counters.

use std::net::IpAddr;

use proptest::{
    prelude::*,
    test_runner::{Config as ProptestConfig, TestRunner},
};

use crate::support::{
    node::{
        Bench, Node, OWN_V4, OWN_V6, TENANT, UPLINK, address, backend, key_tag, one_service, ring,
        vip,
    },
    packet::{
        ACK, Flow, ROUTER_MAC, SYN, Tunnel, echo, encapsulate, flow, hops, icmp, ip, reverse, tcp,
        tcp_with_options, too_big, udp,
    },
};
use isocast_dataplane::{
    Action, BackendKey, Counter, Fragments, Outcome, PacketRules, Protocol, ServiceKey,
};
use isocast_dataplane_common::NO_BACKEND;

/// What must leave for `inner`, given the packet that left: entropy is taken from there.
pub(crate) fn expected(bench: &Bench, left: &[u8], tunnel: &Tunnel, inner: &[u8]) -> Vec<u8> {
    let udp_at = if tunnel.destination.is_ipv4() { 34 } else { 54 };
    let source_port = u16::from_be_bytes([left[udp_at], left[udp_at + 1]]);
    assert!(source_port >= 49_152, "entropy in the dynamic range, not {source_port}");
    let mut frame = bench.leaving(&encapsulate(&Tunnel { source_port, ..*tunnel }, inner));
    if tunnel.destination.is_ipv6() {
        // The flow label is entropy as well.
        frame[15] |= left[15] & 0x0f;
        frame[16..18].copy_from_slice(&left[16..18]);
    }
    frame
}

pub(crate) fn tunnel(destination: &str) -> Tunnel {
    let destination = address(destination);
    Tunnel {
        source: address(if destination.is_ipv4() { OWN_V4 } else { OWN_V6 }),
        destination,
        source_port: 0,
        tenant: TENANT,
        flags: 0,
        key_tag: key_tag(),
        hops: hops(&[]),
        class: 0,
    }
}

pub(crate) fn v4(port: u16) -> Flow {
    flow("198.51.100.7", "192.0.2.10", port)
}

pub(crate) fn v6(port: u16) -> Flow {
    flow("2001:db8:c::7", "2001:db8:f::10", port)
}

#[test]
fn both_families_and_protocols_are_encapsulated_to_either_family() {
    for backend_address in ["10.1.0.2", "2001:db8:b::2"] {
        let node = Node::new(if backend_address.contains(':') { "encap6" } else { "encap4" });
        node.with_tables(&one_service(backend_address), |bench| {
            for inner in [
                tcp(v4(443), SYN, 0),
                tcp(v6(443), ACK, 0),
                udp(v4(53), b"query"),
                udp(v6(53), b"query"),
            ] {
                let traced = bench.arrive(&inner);

                assert_eq!(traced.action, Action::Transmit);
                let wanted = expected(bench, &traced.packet, &tunnel(backend_address), &inner);
                assert_eq!(traced.packet, wanted, "{backend_address}");
            }
        });
    }
}

#[test]
fn inner_class_is_copied_out() {
    let node = Node::new("class");
    for backend_address in ["10.1.0.2", "2001:db8:b::2"] {
        node.with_tables(&one_service(backend_address), |bench| {
            for inner in [tcp(v4(443), ACK, 0xb9), tcp(v6(443), ACK, 0xb9)] {
                let traced = bench.arrive(&inner);
                let tunnel = Tunnel { class: 0xb9, ..tunnel(backend_address) };
                assert_eq!(traced.packet, expected(bench, &traced.packet, &tunnel, &inner));
            }
        });
    }
}

#[test]
fn slot_in_transition_names_the_others_to_all_but_what_opens_a_connection() {
    let node = Node::new("transition");
    for (vip, current, others) in [
        ("10.1.0.1", "10.1.0.2", ["10.1.0.3", "10.1.0.4", "10.1.0.5"]),
        ("2001:db8:b::1", "2001:db8:b::2", ["2001:db8:b::3", "2001:db8:b::4", "2001:db8:b::5"]),
    ] {
        let mut tables = one_service(current);
        for other in others {
            tables.edge.backends.push(backend(&format!("to {other} beside {vip}"), other));
        }
        for count in 1..=3 {
            let chain: Vec<u16> = (1..=count).collect();
            tables.edge.rings = vec![ring(0, &chain)];
            node.with_tables(&tables, |bench| {
                let all = hops(&others[..usize::from(count)]);
                for (inner, hops) in [
                    (tcp(v4(443), ACK, 0), all),
                    (tcp(v6(443), ACK, 0), all),
                    (tcp(v4(443), SYN, 0), hops(&[])),
                    (udp(v4(53), b"query"), all),
                    (udp(v6(53), b"query"), all),
                ] {
                    let traced = bench.arrive(&inner);
                    let tunnel = Tunnel { hops, ..tunnel(current) };
                    assert_eq!(traced.packet, expected(bench, &traced.packet, &tunnel, &inner));
                }
            });
        }
    }
}

#[test]
fn further_hops_of_the_other_family_are_left_out() {
    let node = Node::new("transition46");
    let mut tables = one_service("2001:db8:b::2");
    tables.edge.backends.push(backend("b2", "10.1.0.3"));
    tables.edge.backends.push(backend("b3", "2001:db8:b::3"));
    for (chain, hop) in [(&[1_u16] as &[u16], None), (&[1, 2, 1], Some("2001:db8:b::3"))] {
        tables.edge.rings = vec![ring(0, chain)];
        node.with_tables(&tables, |bench| {
            let inner = tcp(v4(443), ACK, 0);
            let traced = bench.arrive(&inner);
            let hops = hops(hop.as_slice());
            let tunnel = Tunnel { hops, ..tunnel("2001:db8:b::2") };
            assert_eq!(traced.packet, expected(bench, &traced.packet, &tunnel, &inner));
        });
    }
}

#[test]
fn a_flow_that_this_node_does_not_know_goes_to_the_first_of_the_others() {
    let node = Node::new("unknown");
    let mut tables = one_service(OWN_V4);
    tables.edge.backends.push(backend("b2", "10.1.0.3"));
    tables.edge.backends.push(backend("b3", "10.1.0.4"));
    tables.edge.rings = vec![ring(0, &[1, 2])];
    node.with_tables(&tables, |bench| {
        let inner = tcp(v4(443), ACK, 0);
        let traced = bench.arrive(&inner);
        let tunnel = Tunnel { hops: hops(&["10.1.0.4"]), ..tunnel("10.1.0.3") };
        assert_eq!(traced.packet, expected(bench, &traced.packet, &tunnel, &inner));

        let opening = tcp(v4(443), SYN, 0);
        assert_eq!(bench.outcome_of(&opening), (Action::Pass, vec![Outcome::DeliveredHere]));
    });
}

#[test]
fn same_flow_takes_the_same_way_and_flows_spread() {
    let node = Node::new("entropy");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let port_of = |source_port| {
            let packet = tcp(Flow { source_port, ..v4(443) }, ACK, 0);
            bench.arrive(&packet).packet[34..36].to_vec()
        };
        assert_eq!(port_of(1000), port_of(1000));
        let ports: std::collections::BTreeSet<_> = (1000..1032).map(port_of).collect();
        assert!(ports.len() > 28, "{} of 32 source ports differ", ports.len());
    });
}

#[test]
fn odd_packets_to_a_vip_are_counted_drops() {
    let node = Node::new("odd");
    let mut tables = one_service("10.1.0.2");
    tables
        .edge
        .vips
        .push(isocast_dataplane::Vip { ring: 1, ..vip("192.0.2.11", Protocol::Tcp, 80) });
    tables.edge.rings.push(ring(NO_BACKEND, &[]));
    let mut options = tcp(v4(443), SYN, 0);
    options[0] = 0x46;
    let mut fragment = tcp(v4(443), SYN, 0);
    fragment[6] = 0x20;
    let mut last_fragment = tcp(v4(443), SYN, 0);
    last_fragment[6..8].copy_from_slice(&[0, 0x10]);
    let mut longer_than_it_is = tcp(v4(443), SYN, 0);
    longer_than_it_is[2] = 0x10;
    let inside_v6 = |next_header| {
        let (source, destination): (IpAddr, IpAddr) = (v6(0).source, v6(0).destination);
        ip(source, destination, next_header, 0, &[6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    };
    let cases: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("other TCP port", tcp(v4(444), SYN, 0), Outcome::UnlistedPort),
        ("TCP to a UDP port", tcp(v4(53), SYN, 0), Outcome::UnlistedPort),
        ("other IPv6 port", tcp(v6(444), SYN, 0), Outcome::UnlistedPort),
        ("IPv4 options", options, Outcome::IpOptions),
        ("first fragment", fragment, Outcome::Fragment),
        ("last fragment", last_fragment, Outcome::Fragment),
        ("IPv6 fragment", inside_v6(44), Outcome::Fragment),
        ("hop-by-hop options", inside_v6(0), Outcome::ExtensionHeader),
        ("routing header", inside_v6(43), Outcome::ExtensionHeader),
        ("destination options", inside_v6(60), Outcome::ExtensionHeader),
        ("GRE", ip(v4(0).source, v4(0).destination, 47, 0, &[0; 16]), Outcome::UnlistedProtocol),
        ("length beyond the frame", longer_than_it_is, Outcome::Malformed),
        ("cut off", tcp(v4(443), SYN, 0)[..24].to_vec(), Outcome::Malformed),
        ("echo reply", echo(v4(0), true), Outcome::UnlistedProtocol),
        ("no backend", tcp(flow("198.51.100.7", "192.0.2.11", 80), SYN, 0), Outcome::NoBackend),
    ];
    node.with_tables(&tables, |bench| {
        for (what, packet, outcome) in cases {
            assert_eq!(bench.outcome_of(&packet), (Action::Drop, vec![outcome]), "{what}");
        }
    });
}

#[test]
fn what_is_not_for_a_vip_passes_untouched_and_uncounted() {
    let node = Node::new("foreign");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        for packet in [
            tcp(flow("198.51.100.7", OWN_V4, 179), SYN, 0),
            tcp(flow("2001:db8:c::7", OWN_V6, 22), SYN, 0),
            echo(flow("198.51.100.7", OWN_V4, 0), false),
            ip(address("198.51.100.7"), address("192.0.2.11"), 47, 0, &[0; 16]),
        ] {
            let frame = crate::support::packet::ethernet(bench.mac, [2; 6], &packet);
            let traced = bench.dataplane.trace(&frame, UPLINK, 1).expect("run");
            assert_eq!((traced.action, traced.packet), (Action::Pass, frame));
            assert_eq!(bench.outcome_of(&packet), (Action::Pass, vec![]));
        }
        let arp = [&[0xff; 6][..], &[2; 6], &[0x08, 0x06], &[0; 46]].concat();
        let traced = bench.dataplane.trace(&arp, UPLINK, 1).expect("run");
        assert_eq!(traced.action, Action::Pass);
    });
}

#[test]
fn echo_to_a_vip_is_answered_by_the_default_route() {
    let node = Node::new("echo");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        for flow in [v4(0), v6(0)] {
            let traced = bench.arrive(&echo(flow, false));

            let answer = Flow { source: flow.destination, destination: flow.source, ..flow };
            assert_eq!(traced.action, Action::Transmit);
            assert_eq!(traced.packet, bench.leaving(&echo(answer, true)));
        }
        let answered = bench.counters().outcomes[&Outcome::EchoAnswered];
        assert_eq!(answered, 2);
    });
}

#[test]
fn echo_may_be_as_long_as_a_frame_and_has_no_options() {
    Node::new("echolong").with_tables(&one_service("10.1.0.2"), |bench| {
        for flow in [v4(0), v6(0)] {
            let answer = Flow { source: flow.destination, destination: flow.source, ..flow };
            let message = |flow: Flow, len, v4, v6| {
                let kind = if flow.source.is_ipv4() { v4 } else { v6 };
                icmp(flow.source, flow.destination, [kind, 0], &vec![0xa5; len])
            };
            for len in [4, 5, 1471, 1472, 1573 - 20] {
                let traced = bench.arrive(&message(flow, len, 8, 128));
                assert_eq!(traced.action, Action::Transmit);
                assert_eq!(traced.packet, bench.leaving(&message(answer, len, 0, 129)), "{len}");
            }
        }
        // Record route, as `ping -R` asks for.
        let mut options = echo(v4(0), false);
        options[0] = 0x46;
        options.splice(20..20, [7, 4, 4, 0]);
        let dropped = (Action::Drop, vec![Outcome::IpOptions]);
        assert_eq!(bench.outcome_of(&options), dropped);
    });
}

#[test]
fn services_and_backends_are_counted() {
    let node = Node::new("counters");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let packet = udp(v4(53), &[0; 72]);
        for _ in 0..3 {
            bench.arrive(&packet);
        }
        let counters = bench.counters();
        let three = Counter { packets: 3, bytes: 300 };
        assert_eq!(counters.services[&ServiceKey("www".into())], three);
        assert_eq!(counters.backends[&BackendKey("b1".into())], three);
        assert_eq!(counters.outcomes[&Outcome::Encapsulated], 3);
    });
}

#[test]
fn backend_without_a_next_hop_is_a_counted_drop_and_named() {
    let node = Node::new("unresolved");
    node.namespace.run("ip route add unreachable 10.1.0.0/24");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let outcome = bench.outcome_of(&tcp(v4(443), SYN, 0));
        assert_eq!(outcome, (Action::Drop, vec![Outcome::NextHopUnresolved]));
        let next_hops = bench.dataplane.next_hops();
        let next_hop = next_hops.borrow()[&address("10.1.0.2")];
        assert_eq!(next_hop, Err(isocast_dataplane::Unresolved::NoRoute));
    });
}

#[test]
fn backend_on_this_node_gets_its_packets_without_a_tunnel() {
    let node = Node::new("local");
    node.with_tables(&one_service(OWN_V4), |bench| {
        let packet = tcp(v4(443), SYN, 0);
        assert_eq!(bench.outcome_of(&packet), (Action::Pass, vec![Outcome::DeliveredHere]));
        let frame = crate::support::packet::ethernet(bench.mac, ROUTER_MAC, &packet);
        assert_eq!(bench.arrive(&packet).packet, frame);
    });
}

#[test]
fn backend_behind_another_interface_is_redirected_to() {
    let node = Node::new("redirect");
    for command in [
        "ip link add up1 address 02:00:00:00:00:01 mtu 1600 type veth peer name far1",
        "ip link set far1 up",
        "ip link set up1 up",
        "ip addr add 10.2.0.1/24 dev up1",
        "ip neigh add 10.2.0.2 lladdr 02:00:00:00:00:02 dev up1 nud permanent",
    ] {
        node.namespace.run(command);
    }
    node.with_tables(&one_service("10.2.0.2"), |bench| {
        let traced = bench.arrive(&tcp(v4(443), SYN, 0));
        assert_eq!(traced.action, Action::Redirect);
        assert_eq!(traced.packet[..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    });
}

#[test]
fn no_packet_to_a_vip_ever_reaches_the_stack_however_broken() {
    let node = Node::new("broken");
    let mut tables = one_service("10.1.0.2");
    for vip in &mut tables.edge.vips {
        vip.rules = PacketRules { fragments: Fragments::Hash, segment_size: Some(1400) };
    }
    node.with_tables(&tables, |bench| {
        let error = |flow: Flow| {
            let answer = tcp(reverse(flow), ACK, 0);
            too_big(flow.source, flow.destination, 1400, &answer)
        };
        let mut fragment = udp(v4(53), b"query");
        fragment[6] = 0x20;
        let samples = [
            tcp(v4(443), SYN, 0),
            tcp(v6(443), ACK, 0),
            tcp_with_options(v6(443), SYN, &[1, 1, 1, 1, 2, 4, 0x23, 0x28]),
            udp(v6(53), b"query"),
            udp(v4(53), &[0; 1580]),
            echo(v4(0), false),
            error(v4(443)),
            error(v6(443)),
            fragment,
        ];
        let broken = (
            prop::sample::select(samples.to_vec()),
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            any::<prop::sample::Index>(),
        );
        let mut runner = TestRunner::new(ProptestConfig::with_cases(2_000));
        let result = runner.run(&broken, |(mut packet, changes, len)| {
            let (version, header) = (packet[0] >> 4, if packet[0] >> 4 == 4 { 20 } else { 40 });
            let destination = if version == 4 { 16..20 } else { 24..40 };
            for (at, byte) in changes {
                let at = at.index(packet.len());
                if !destination.contains(&at) {
                    packet[at] = byte;
                }
            }
            // At least the header arrives; whatever follows may be missing.
            packet.truncate(header + len.index(packet.len() - header + 1));
            let frame = ethernet_as(version, bench.mac, &packet);
            let traced = bench.dataplane.trace(&frame, UPLINK, 1).expect("run");
            prop_assert!(matches!(traced.action, Action::Drop | Action::Transmit), "{traced:?}");
            Ok(())
        });
        result.expect("no packet passes");
    });
}

/// An Ethernet frame that says its content is of `version`, whatever the content says.
fn ethernet_as(version: u8, to: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ethertype = if version == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&to[..], &ROUTER_MAC, &ethertype, packet].concat()
}
