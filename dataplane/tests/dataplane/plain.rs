//! Backends without an agent: IP in IP, in all four combinations of families.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
};

use isocast_dataplane::{
    Action, Backend, Ceilings, Dataplane, Encap, Outcome, Probe, Question, Ring, ServiceKey,
    ServicePolicy, Tables, Track, Transport,
};
use isocast_dataplane_common::{RING_SLOTS_MIN, Slot};
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};

use crate::{
    probe::ask_with_mark,
    support::{
        Namespace,
        network::{
            BACKEND, CLIENT, Connection, EDGE, NOBODY, Network, VIPS, backend_tables, edge_tables,
            host_addresses, serve,
        },
        node::{Bench, Node, OWN_V4, OWN_V6, TENANT, address, backend, one_service, ring},
        packet::{ACK, Flow, SYN, flow, ip, tcp, udp},
    },
};

const BACKENDS: [&str; 2] = ["10.1.0.2", "2001:db8:b::2"];

fn plain(key: &str, tunnel_address: &str) -> Backend {
    Backend { encap: Encap::Ip, ..backend(key, tunnel_address) }
}

/// One service at one host without an agent.
fn tables(backend_address: &str) -> Tables {
    let mut tables = one_service(backend_address);
    tables.edge.backends = vec![plain("b1", backend_address)];
    tables
}

fn v4(port: u16) -> Flow {
    flow("198.51.100.7", "192.0.2.10", port)
}

fn v6(port: u16) -> Flow {
    flow("2001:db8:c::7", "2001:db8:f::10", port)
}

/// The packet with an IP header before it, and the flow label that it left with.
fn within_ip(bench: &Bench, left: &[u8], to: &str, class: u8, inner: &[u8]) -> Vec<u8> {
    let to = address(to);
    let own = address(if to.is_ipv4() { OWN_V4 } else { OWN_V6 });
    let protocol = if inner[0] >> 4 == 4 { 4 } else { 41 };
    let mut wanted = bench.leaving(&ip(own, to, protocol, class, inner));
    if to.is_ipv6() {
        wanted[15] |= left[15] & 0x0f;
        wanted[16..18].copy_from_slice(&left[16..18]);
    }
    wanted
}

fn assert_within_ip(bench: &Bench, to: &str, class: u8, inner: &[u8]) {
    let traced = bench.arrive(inner);
    let wanted = within_ip(bench, &traced.packet, to, class, inner);
    assert_eq!((traced.action, traced.packet), (Action::Transmit, wanted), "{to}");
}

#[test]
fn outer_header_is_nothing_but_ip_whatever_the_families() {
    let node = Node::new("plain");
    for to in BACKENDS {
        node.with_tables(&tables(to), |bench| {
            // DSCP and ECN as well.
            for class in [0, 0xb9] {
                for flow in [v4(443), v6(443)] {
                    assert_within_ip(bench, to, class, &tcp(flow, SYN, class));
                    assert_within_ip(bench, to, class, &tcp(flow, ACK, class));
                }
            }
            for flow in [v4(53), v6(53)] {
                assert_within_ip(bench, to, 0, &udp(flow, b"query"));
            }
            assert_eq!(bench.counters().outcomes[&Outcome::Encapsulated] % 10, 0);
        });
    }
}

#[test]
fn flows_are_spread_by_the_flow_label() {
    Node::new("plainlabel").with_tables(&tables(BACKENDS[1]), |bench| {
        let label = |source_port| {
            let inner = tcp(Flow { source_port, ..v4(443) }, SYN, 0);
            bench.arrive(&inner).packet[15..18].to_vec()
        };
        assert_eq!(label(1), label(1));
        assert!((2..10).any(|port| label(port) != label(1)));
    });
}

#[test]
fn packet_has_the_room_that_one_ip_header_leaves() {
    let node = Node::new("plainroom");
    for (to, header) in BACKENDS.into_iter().zip([20, 40]) {
        node.with_tables(&tables(to), |bench| {
            // The uplink's MTU, less IPv4 and UDP.
            let payload = vec![0; 1600 - header - 28];
            let outcome = |payload: &[u8]| bench.outcome_of(&udp(v4(53), payload));
            assert_eq!(outcome(&payload), (Action::Transmit, vec![Outcome::Encapsulated]));
            let one_more = [&payload[..], &[0]].concat();
            assert_eq!(outcome(&one_more), (Action::Transmit, vec![Outcome::TooBigAnswered]));
        });
    }
}

#[test]
fn host_without_an_agent_is_asked_for_no_flow_and_asks_nobody() {
    let node = Node::new("plainchain");
    let with = |current: Backend, others: Vec<Backend>| {
        let mut tables = one_service(&current.tunnel_address.to_string());
        let chain: Vec<_> = (1..).take(others.len()).collect();
        tables.edge.backends = [vec![current], others].concat();
        tables.edge.rings = vec![ring(0, &chain)];
        tables
    };
    let others = || vec![plain("b2", "10.1.0.3"), backend("b3", "10.1.0.4")];
    let packets = [tcp(v4(443), ACK, 0), udp(v4(53), b"query")];

    node.with_tables(&with(plain("b1", "10.1.0.2"), others()), |bench| {
        for inner in &packets {
            assert_within_ip(bench, "10.1.0.2", 0, inner);
        }
    });
    node.with_tables(&with(backend("b1", "10.1.0.2"), others()), |bench| {
        for inner in &packets {
            let packet = bench.arrive(inner).packet;
            // Hlen says one hop, and that is the host with an agent.
            assert_eq!((packet[42], &packet[54..58]), (3, &[10, 1, 0, 4][..]));
        }
    });
    node.with_tables(&with(backend("b1", OWN_V4), vec![plain("b2", "10.1.0.3")]), |bench| {
        for inner in &packets {
            let delivered = (Action::Pass, vec![Outcome::DeliveredHere]);
            assert_eq!(bench.outcome_of(inner), delivered);
        }
    });
}

#[test]
fn connections_beyond_the_ceiling_are_dropped_where_nobody_would_answer_by_a_cookie() {
    let node = Node::new("plaincookie");
    let mut tables = tables(BACKENDS[0]);
    let ceilings = Ceilings { packets_per_second: None, new_flows_per_second: Some(1) };
    let policy = ServicePolicy { ceilings, syn_cookies: true, ..ServicePolicy::default() };
    tables.edge.policies.insert(ServiceKey("www".into()), policy);
    node.with_tables(&tables, |bench| {
        let all: Vec<_> = (0..100).map(|_| bench.outcome_of(&tcp(v4(443), SYN, 0))).collect();

        let dropped = (Action::Drop, vec![Outcome::OverFlowRate]);
        let sent = (Action::Transmit, vec![Outcome::Encapsulated]);
        assert!(all.iter().all(|it| *it == dropped || *it == sent), "{all:?}");
        assert!(all.iter().filter(|it| **it == dropped).count() > 50);
        let Flow { source, destination, source_port, port } = v4(443);
        let opens = Transport::Tcp { source_port, port, syn: true };
        let question = Question::new(source, destination, opens).expect("a packet");
        for _ in 0..100 {
            let inspection = bench.dataplane.inspect(&question).expect("test run");
            assert_eq!(inspection.differences, [], "{inspection:?}");
        }
    });
}

#[test]
fn successor_keeps_what_its_predecessor_sent_in_nothing_but_ip() {
    let node = Node::new("plainadopt");
    let inner = tcp(v4(443), ACK, 0);
    node.with_tables(&tables(BACKENDS[0]), |bench| {
        assert_within_ip(bench, BACKENDS[0], 0, &inner);
    });
    node.namespace.enter(|| {
        let (mut bench, _) = Bench::open(node.config());
        assert_within_ip(&bench, BACKENDS[0], 0, &inner);
        bench.dataplane.apply(&tables(BACKENDS[0])).expect("tables");
        bench.settle(&tables(BACKENDS[0]));
        assert_within_ip(&bench, BACKENDS[0], 0, &inner);
        // The same host gets an agent.
        bench.dataplane.apply(&one_service(BACKENDS[0])).expect("tables");
        bench.settle(&one_service(BACKENDS[0]));
        assert_eq!(bench.arrive(&inner).packet[23], 17);
    });
}

/// Takes packets out of IP headers, as the kernel's own tunnels do where it has them, and hands them
/// to the host.
fn decapsulate(host: &Namespace) {
    for outer in [Domain::IPV4, Domain::IPV6] {
        for (protocol, inner) in [(4, Domain::IPV4), (41, Domain::IPV6)] {
            let raw = |domain, protocol| {
                Socket::new(domain, Type::RAW, Some(IpProtocol::from(protocol))).expect("raw")
            };
            const ANYTHING: i32 = 255;
            let (mut arriving, leaving) =
                host.enter(|| (raw(outer, protocol), raw(inner, ANYTHING)));
            match inner {
                Domain::IPV4 => leaving.set_header_included_v4(true).expect("v4"),
                _ => leaving.set_header_included_v6(true).expect("v6"),
            }
            thread::spawn(move || {
                let mut packet = vec![0; 2048];
                while let Ok(len) = arriving.read(&mut packet) {
                    // Only the older family shows its header.
                    let at = if outer == Domain::IPV4 { 20 } else { 0 };
                    let packet = &packet[at..len];
                    let to = match inner {
                        Domain::IPV4 => {
                            IpAddr::from(Ipv4Addr::from(*packet[16..].first_chunk().expect("v4")))
                        }
                        _ => IpAddr::from(Ipv6Addr::from(*packet[24..].first_chunk().expect("v6"))),
                    };
                    leaving.send_to(packet, &SocketAddr::new(to, 0).into()).expect("delivered");
                }
            });
        }
    }
}

#[test]
fn clients_and_probes_reach_a_host_that_knows_nothing_but_ip() {
    const MARK: u32 = 0x1001;
    let network = Network::new("plain", 3);
    let host = &network.hosts[BACKEND];
    for (vip, nodad) in VIPS.into_iter().zip(["", " nodad"]) {
        host.run(&format!("ip addr add {vip} dev lo{nodad}"));
    }
    serve(host, "one");
    decapsulate(host);
    let mut edge =
        network.hosts[EDGE].enter(|| Dataplane::open(network.config(EDGE)).expect("open").0);
    for outer in host_addresses(BACKEND) {
        let mut tables = edge_tables(std::slice::from_ref(&outer), 0, NOBODY);
        tables.edge.backends = vec![plain("b0", &outer)];
        let tunnel_address = address(&outer);
        let probe = Probe { mark: MARK, tenant: TENANT, tunnel_address, encap: Encap::Ip };
        tables.edge.probes.push(probe);
        edge.apply(&tables).expect("edge");

        for vip in VIPS {
            let answer = ask_with_mark(&network.hosts[EDGE], vip, MARK);
            assert_eq!(answer.expect("a probe's answer"), "one", "{vip} over {outer}");
            let mut connection = Connection::open(&network.hosts[CLIENT], vip).expect("connect");
            assert_eq!(connection.ask().expect("answer"), "one", "{vip} over {outer}");
        }
    }
    let outcomes = edge.counters().expect("counters").outcomes;
    assert!(outcomes[&Outcome::ProbeSent] >= 12 && outcomes[&Outcome::Encapsulated] >= 12);
}

/// One service whose slots are all one host's, and another's before.
fn handed_over(hosts: &[Backend], current: u16, former: Option<u16>, era: u32) -> Tables {
    let mut tables = edge_tables(&[], 0, NOBODY);
    tables.edge.backends = hosts.to_vec();
    let (further, between) = (Vec::new(), Vec::new());
    let tracks = former.map(|former| Track { former, further, between, since: era });
    let slot = former.map_or_else(|| Slot::settled(current), |_| Slot::tracked(current, 0));
    tables.edge.rings = vec![Ring::tracked([slot; RING_SLOTS_MIN], &[], tracks.as_slice())];
    tables.edge.era = era;
    tables
}

#[test]
fn connections_live_on_while_slots_come_to_a_host_that_knows_nothing_but_ip_and_leave_it() {
    const NAMES: [&str; 3] = ["one", "two", "three"];
    let network = Network::new("plaindrain", 5);
    let mut hosts = Vec::new();
    let mut opened = Vec::new();
    for (n, name) in NAMES.into_iter().enumerate() {
        let (number, host) = (BACKEND + n, &network.hosts[BACKEND + n]);
        let [outer, _] = host_addresses(number);
        // The last one has an agent.
        if name == "three" {
            let mut data_plane =
                host.enter(|| Dataplane::open(network.config(number)).expect("open").0);
            data_plane.apply(&backend_tables(&host_addresses(EDGE))).expect("backend");
            opened.push(data_plane);
            hosts.push(backend(name, &outer));
        } else {
            for (vip, nodad) in VIPS.into_iter().zip(["", " nodad"]) {
                host.run(&format!("ip addr add {vip} dev lo{nodad}"));
            }
            decapsulate(host);
            hosts.push(plain(name, &outer));
        }
        serve(host, name);
    }
    let mut edge =
        network.hosts[EDGE].enter(|| Dataplane::open(network.config(EDGE)).expect("open").0);
    // Who has the slots, and who had them: to a host without an agent, on to another, away, and back.
    let changes = [(0, None), (1, Some(0)), (2, Some(1)), (0, Some(2)), (2, Some(0))];
    let mut connections: Vec<(&str, Connection)> = Vec::new();
    for (era, (current, former)) in (1..).zip(changes) {
        // Only connections that the last two have live through the next change.
        connections
            .retain(|(name, _)| former.is_none_or(|former| NAMES[usize::from(former)] == *name));
        edge.apply(&handed_over(&hosts, current, former, era)).expect("edge");
        for (name, connection) in &mut connections {
            assert_eq!(connection.ask().expect("no reset"), *name, "{era}");
        }
        for vip in VIPS {
            for _ in 0..8 {
                let mut connection =
                    Connection::open(&network.hosts[CLIENT], vip).expect("connect");
                let name = NAMES[usize::from(current)];
                assert_eq!(connection.ask().expect("answer"), name, "new flows are the slot's own");
                connections.push((name, connection));
            }
        }
        for (name, connection) in &mut connections {
            assert_eq!(connection.ask().expect("no reset"), *name, "{era}");
        }
    }
    for (name, connection) in connections {
        connection.close().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let outcomes = edge.counters().expect("counters").outcomes;
    assert!(outcomes[&Outcome::FlowNoted] >= 64 && outcomes[&Outcome::FlowOfFormer] >= 64);
    assert_eq!(outcomes[&Outcome::FlowNotNoted] + outcomes[&Outcome::FlowForgotten], 0);
}
