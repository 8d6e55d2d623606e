//! What the program makes of fragments, by policy.

use std::{net::UdpSocket, thread, time::Duration};

use isocast_dataplane::{
    Action, Ceilings, Dataplane, Fragments, Outcome, Protocol, Ring, ServiceKey, ServicePolicy,
    SourceList, SourceRule, Tables,
};
use isocast_dataplane_common::{RING_SLOTS_MIN, Slot};

use crate::{
    edge::{expected, tunnel, v4, v6},
    support::{
        network::{
            BACKEND, CLIENT, EDGE, NOBODY, Network, VIPS, backend_tables, edge_tables,
            host_addresses,
        },
        node::{Node, accept, address, backend, bare, one_service, tunnel_from, vip},
        packet::{ACK, Flow, SYN, Tunnel, encapsulate, ethernet, ip, tcp, udp},
    },
};

/// Cuts an IP packet: `len` bytes of its payload from `offset` on, and whether more follow.
fn piece(packet: &[u8], offset: usize, len: usize) -> Vec<u8> {
    let v4 = packet[0] >> 4 == 4;
    let header = if v4 { 20 } else { 40 };
    let payload = &packet[header..];
    let end = payload.len().min(offset + len);
    let more = u16::from(end < payload.len());
    let offset_word = u16::try_from(offset).expect("small");
    let mut piece = packet[..header].to_vec();
    if v4 {
        let total = u16::try_from(header + end - offset).expect("small");
        piece[2..4].copy_from_slice(&total.to_be_bytes());
        piece[6..8].copy_from_slice(&(offset_word >> 3 | more << 13).to_be_bytes());
    } else {
        let total = u16::try_from(8 + end - offset).expect("small");
        piece[4..6].copy_from_slice(&total.to_be_bytes());
        piece.extend([packet[6], 0]);
        piece[6] = 44;
        piece.extend((offset_word | more).to_be_bytes());
        piece.extend([0, 0, 0, 9]);
    }
    piece.extend(&payload[offset..end]);
    piece
}

fn tables(fragments: Fragments) -> Tables {
    let mut tables = one_service("10.1.0.2");
    tables.edge.backends.push(backend("b2", "10.1.0.3"));
    let slots = [0, 1].map(Slot::settled).into_iter().cycle().take(RING_SLOTS_MIN);
    tables.edge.rings = vec![Ring::from_positions(slots)];
    for vip in &mut tables.edge.vips {
        vip.rules.fragments = fragments;
    }
    tables
}

#[test]
fn service_that_drops_fragments_drops_them_and_counts() {
    Node::new("fragdrop").with_tables(&tables(Fragments::Drop), |bench| {
        for packet in [udp(v4(53), &[7; 64]), udp(v6(53), &[7; 64]), tcp(v4(443), ACK, 0)] {
            for piece in [piece(&packet, 0, 16), piece(&packet, 16, 48)] {
                let dropped = (Action::Drop, vec![Outcome::Fragment]);
                assert_eq!(bench.outcome_of(&piece), dropped);
            }
        }
    });
}

#[test]
fn all_pieces_of_a_datagram_take_one_way_whatever_their_ports() {
    Node::new("fraghash").with_tables(&tables(Fragments::Hash), |bench| {
        let mut reached = std::collections::BTreeSet::new();
        for host in 1..33 {
            for flow in [
                Flow { source: address(&format!("198.51.100.{host}")), ..v4(53) },
                Flow { source: address(&format!("2001:db8:c::{host:x}")), ..v6(53) },
            ] {
                let way_of = |packet: &[u8], offset| {
                    let piece = piece(packet, offset, 16);
                    let traced = bench.arrive(&piece);
                    assert_eq!(traced.action, Action::Transmit);
                    let to = if traced.packet[33] == 2 { "10.1.0.2" } else { "10.1.0.3" };
                    let wanted = expected(bench, &traced.packet, &tunnel(to), &piece);
                    assert_eq!(traced.packet, wanted);
                    traced.packet[30..36].to_vec()
                };
                let packet = udp(flow, &[7; 64]);
                let first = way_of(&packet, 0);
                assert_eq!(way_of(&packet, 16), first);
                assert_eq!(way_of(&packet, 64), first);
                assert_eq!(way_of(&udp(Flow { source_port: 9, ..flow }, &[7; 64]), 0), first);
                reached.insert(first[..4].to_vec());
            }
        }
        assert_eq!(reached.len(), 2);
    });
}

#[test]
fn whole_segments_go_where_their_fragments_go_and_whole_datagrams_where_their_ports_say() {
    Node::new("fragwhole").with_tables(&tables(Fragments::Hash), |bench| {
        let way_of = |packet: &[u8]| bench.arrive(packet).packet[30..36].to_vec();
        let ways = |packet: &dyn Fn(u16) -> Vec<u8>| -> usize {
            let ways: std::collections::BTreeSet<_> =
                (1000..1032).map(|port| way_of(&packet(port))).collect();
            ways.len()
        };
        assert_eq!(ways(&|source_port| tcp(Flow { source_port, ..v4(443) }, ACK, 0)), 1);
        assert!(ways(&|source_port| udp(Flow { source_port, ..v4(53) }, b"q")) > 28);
        let segment = tcp(v4(443), ACK, 0);
        assert_eq!(way_of(&piece(&segment, 0, 16)), way_of(&segment));
        assert_eq!(way_of(&piece(&segment, 16, 16)), way_of(&segment));
    });
}

#[test]
fn pieces_that_nobody_could_use_are_counted_drops() {
    let mut tables = tables(Fragments::Hash);
    // Another service at the same address, whose fragments would be this one's.
    let mut other = vip("192.0.2.10", Protocol::Udp, 54);
    other.service = ServiceKey("other".into());
    tables.edge.vips.push(other);
    Node::new("fragodd").with_tables(&tables, |bench| {
        let of = |port| udp(v4(port), &[7; 64]);
        let mut options = piece(&of(53), 16, 16);
        options[0] = 0x46;
        let gre = ip(v4(0).source, v4(0).destination, 47, 0, &[7; 64]);
        for (what, packet, outcome) in [
            ("a port without listener", piece(&of(55), 0, 16), Outcome::UnlistedPort),
            ("another service's port", piece(&of(54), 0, 16), Outcome::Fragment),
            ("shorter than its ports", piece(&of(53), 0, 4), Outcome::Malformed),
            ("over the flags", piece(&tcp(v4(443), ACK, 0), 8, 8), Outcome::Malformed),
            ("options", options, Outcome::IpOptions),
            ("GRE", piece(&gre, 0, 16), Outcome::Fragment),
        ] {
            assert_eq!(bench.outcome_of(&packet), (Action::Drop, vec![outcome]), "{what}");
        }
    });
}

#[test]
fn pieces_are_let_in_as_whole_packets_are_and_begin_no_connection() {
    let denied = SourceRule { prefix: "198.51.100.64/26".parse().expect("prefix"), allowed: false };
    let sources = SourceList { rules: vec![denied].into(), others_allowed: true };
    let ceilings = Ceilings { new_flows_per_second: Some(1), ..Ceilings::default() };
    let policy = ServicePolicy { sources: Some(sources), ceilings, ..ServicePolicy::default() };
    let mut tables = tables(Fragments::Hash);
    tables.edge.policies.insert(ServiceKey("www".into()), policy);
    Node::new("fraglist").with_tables(&tables, |bench| {
        let from = |text, flow| Flow { source: address(text), ..flow };
        let kept_out = (Action::Drop, vec![Outcome::SourceNotAllowed]);
        let let_in = (Action::Transmit, vec![Outcome::Encapsulated]);
        for offset in [0, 16] {
            let datagram = |source| piece(&udp(from(source, v4(53)), &[7; 64]), offset, 16);
            assert_eq!(bench.outcome_of(&datagram("198.51.100.65")), kept_out);
            assert_eq!(bench.outcome_of(&datagram("198.51.100.7")), let_in);
        }
        // Later pieces have anything where the flags of a first one would be.
        let bytes = [SYN; 64];
        let later = piece(&ip(v4(0).source, v4(0).destination, 6, 0, &bytes), 16, 32);
        for _ in 0..100 {
            assert_eq!(bench.outcome_of(&later), let_in);
        }
    });
}

#[test]
fn fragments_leave_the_tunnel_only_where_they_are_taken() {
    let mut tables = bare();
    tables.decap.sources = vec![address("10.9.0.1")];
    for text in ["192.0.2.10", "2001:db8:f::10"] {
        let mut taken = accept(text, Protocol::Udp, 53);
        taken.rules.fragments = Fragments::Hash;
        tables.decap.accepts.extend([taken, accept(text, Protocol::Tcp, 443)]);
    }
    Node::new("fragdecap").with_tables(&tables, |bench| {
        let tunnel = tunnel_from("10.9.0.1", &[]);
        for flow in [v4(53), v6(53)] {
            let packet = udp(flow, &[7; 64]);
            for offset in [0, 16, 64] {
                let piece = piece(&packet, offset, 16);
                let traced = bench.arrive(&encapsulate(&tunnel, &piece));
                assert_eq!(traced.action, Action::Pass);
                let from = crate::support::packet::ROUTER_MAC;
                assert_eq!(traced.packet, ethernet(bench.mac, from, &piece));
            }
            let elsewhere = Tunnel { tenant: tunnel.tenant + 1, ..tunnel };
            let segment = tcp(Flow { port: 443, ..flow }, ACK, 0);
            let other_port = udp(Flow { port: 55, ..flow }, &[7; 64]);
            for (tunnel, piece, outcome) in [
                (elsewhere, piece(&packet, 16, 16), Outcome::Fragment),
                (tunnel, piece(&segment, 16, 16), Outcome::Fragment),
                (tunnel, piece(&other_port, 0, 16), Outcome::UnlistedDestination),
            ] {
                let packet = encapsulate(&tunnel, &piece);
                assert_eq!(bench.outcome_of(&packet), (Action::Drop, vec![outcome]));
            }
        }
    });
}

#[test]
fn datagram_in_pieces_reaches_a_server_whole() {
    const LEN: usize = 4000;
    let network = Network::new("pieces", 3);
    // The client cuts at what fits the tunnel, so that no piece is too big for it.
    network.hosts[CLIENT].run("ip route change default via 10.0.0.1 mtu 1500");
    network.hosts[CLIENT].run("ip -6 route change default via 2001:db8:0::1 mtu 1500");
    let open = |host: usize| {
        network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
    };
    let (mut edge, mut backend) = (open(EDGE), open(BACKEND));
    let mut accepted = backend_tables(&host_addresses(EDGE));
    let mut balanced = edge_tables(&[host_addresses(BACKEND)[0].clone()], 0, NOBODY);
    for text in VIPS {
        let (mut taken, mut vip) = (accept(text, Protocol::Udp, 53), vip(text, Protocol::Udp, 53));
        taken.rules.fragments = Fragments::Hash;
        vip.rules.fragments = Fragments::Hash;
        accepted.decap.accepts.push(taken);
        balanced.edge.vips.push(vip);
    }
    backend.apply(&accepted).expect("backend");
    edge.apply(&balanced).expect("edge");

    for text in VIPS {
        let server = network.hosts[BACKEND].enter(|| UdpSocket::bind((text, 53)).expect("bind"));
        server.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let answering = thread::spawn(move || {
            let mut datagram = vec![0; 2 * LEN];
            let (len, client) = server.recv_from(&mut datagram).expect("a datagram");
            server.send_to(&datagram[..len], client).expect("answer");
        });
        let any = if text.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let client = network.hosts[CLIENT].enter(|| UdpSocket::bind(any).expect("bind"));
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let sent: Vec<u8> = (0..=250).cycle().take(LEN).collect();
        client.send_to(&sent, (text, 53)).expect("send");
        let mut answer = vec![0; 2 * LEN];
        let len = client.recv(&mut answer).expect("an answer");
        answering.join().expect("server");
        assert_eq!(answer[..len], sent, "{text}");
    }
    let outcomes = backend.counters().expect("counters").outcomes;
    assert!(outcomes[&Outcome::Decapsulated] >= 6, "in pieces");
}
