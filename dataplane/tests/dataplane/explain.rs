//! What the tables say and what the program does are the same, to the last byte.

use std::{net::IpAddr, sync::Arc};

use isocast_dataplane::{
    Backend, BackendKey, DecapTables, EdgeTables, Found, PAYLOAD_MAX, Protocol, Question, Ring,
    ServiceKey, Tables, Transport, Vip,
};
use isocast_dataplane_common::{NO_BACKEND, RING_SLOTS, Slot};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config as ProptestConfig, TestRunner},
};

use crate::support::node::{Node, OWN_V4, OWN_V6, address, one_service, ring};

/// This node itself, beyond the router by either family, and a neighbour that nobody is.
const BACKENDS: [&str; 6] = [OWN_V4, OWN_V6, "10.1.0.2", "10.1.0.3", "2001:db8:b::2", "10.0.0.77"];
const VIPS: [&str; 4] = ["192.0.2.10", "192.0.2.11", "2001:db8:f::10", "2001:db8:f::11"];
const PORTS: [u16; 3] = [53, 443, 6080];
const ELSEWHERE: [&str; 4] = [OWN_V4, OWN_V6, "203.0.113.1", "2001:db8:e::1"];

fn vips() -> impl Strategy<Value = Vec<Vip>> {
    let listener = (select(&VIPS), any::<bool>(), select(&PORTS), 0_u32..1 << 24, 0_usize..3);
    let listeners = prop::collection::vec(listener, 1..12);
    listeners.prop_map(|listeners| {
        let mut vips: Vec<Vip> = Vec::new();
        for (text, is_tcp, port, tenant, ring) in listeners {
            let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
            let (address, service) = (address(text), ServiceKey(format!("s{ring}").into()));
            let is_same =
                |it: &Vip| (it.address, it.protocol, it.port) == (address, protocol, port);
            if !vips.iter().any(is_same) {
                vips.push(Vip { address, protocol, port, tenant, ring, service });
            }
        }
        vips
    })
}

/// Slots at rest, in transition, of nobody, in any mixture.
fn any_ring() -> impl Strategy<Value = Ring> {
    let member = prop_oneof![
        5 => 0..u16::try_from(BACKENDS.len()).unwrap_or(0),
        1 => Just(NO_BACKEND),
    ];
    let slots = prop::collection::vec((member.clone(), member), 1..32);
    slots.prop_map(|slots| {
        let slots = slots.iter().map(|&(current, previous)| Slot { current, previous });
        let slots: Vec<_> = slots.collect();
        Ring { slots: slots.into_iter().cycle().take(RING_SLOTS).collect::<Arc<[_]>>() }
    })
}

fn tables() -> impl Strategy<Value = Tables> {
    let rings = prop::collection::vec(any_ring(), 3);
    (vips(), rings, any::<bool>()).prop_map(|(vips, rings, believes)| {
        let backend = |(n, text): (usize, &&str)| Backend {
            key: BackendKey(format!("b{n}").into()),
            tunnel_address: address(text),
        };
        let backends = BACKENDS.iter().enumerate().map(backend).collect();
        let edge = EdgeTables { vips, rings, backends, probes: Vec::new() };
        let sources = if believes { vec![address("198.51.100.7")] } else { Vec::new() };
        Tables { edge, decap: DecapTables { sources, accepts: Vec::new() } }
    })
}

fn question() -> impl Strategy<Value = Question> {
    let destination = prop_oneof![4 => select(&VIPS), 1 => select(&ELSEWHERE)];
    let port = prop_oneof![4 => select(&PORTS), 1 => any::<u16>()];
    let source = prop_oneof![
        1 => Just(address("198.51.100.7")),
        3 => any::<[u8; 4]>().prop_map(IpAddr::from),
        3 => any::<[u8; 16]>().prop_map(IpAddr::from),
    ];
    let rest = (any::<u16>(), 0_u8..5, any::<u8>(), 0..=PAYLOAD_MAX);
    (source, destination, port, rest).prop_filter_map(
        "two families",
        |(source, destination, port, (source_port, kind, class, payload))| {
            let transport = match kind {
                0 => Transport::Echo,
                1 => Transport::Udp { source_port, port },
                kind => Transport::Tcp { source_port, port, syn: kind == 2 },
            };
            let question = Question::new(source, address(destination), transport).ok()?;
            Some(question.with_payload(payload).ok()?.with_traffic_class(class))
        },
    )
}

#[test]
fn any_packet_under_any_tables_is_explained_as_the_program_treats_it() {
    let node = Node::new("explain");
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    let cases = (tables(), prop::collection::vec(question(), 400));
    let outcome = runner.run(&cases, |(tables, questions)| {
        node.with_tables(&tables, |bench| {
            for question in questions {
                let inspection = bench.dataplane.inspect(&question).expect("test run");
                prop_assert!(
                    inspection.differences.is_empty(),
                    "{question:?}: {:?} in\n{:?}\n{:?}",
                    inspection.differences,
                    inspection.explained,
                    inspection.traced
                );
            }
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn explanation_names_service_slot_backends_and_header() {
    let node = Node::new("explained");
    let mut tables = one_service("10.1.0.2");
    tables.edge.backends.push(crate::support::node::backend("b2", "10.1.0.3"));
    tables.edge.rings = vec![ring(0, 1)];
    node.with_tables(&tables, |bench| {
        let tcp = Transport::Tcp { source_port: 4711, port: 443, syn: false };
        let (client, vip) = (address("198.51.100.7"), address("192.0.2.10"));
        let question = Question::new(client, vip, tcp).expect("a packet");

        let explained = bench.dataplane.explain_arrival(&question).expect("explained");

        let Found::Service { service, .. } = &explained.found else { panic!("{explained:?}") };
        assert_eq!(&*service.0, "www");
        let choice = explained.choice.as_ref().expect("a slot");
        let key = |member: &Option<isocast_dataplane::Member>| {
            member.as_ref().and_then(|it| it.key.clone()).map(|key| key.0.to_string())
        };
        assert_eq!(key(&choice.current).as_deref(), Some("b1"));
        assert_eq!(key(&choice.previous).as_deref(), Some("b2"));
        let outer = explained.outer.expect("a header");
        assert_eq!(outer.destination, address("10.1.0.2"));
        assert_eq!(outer.further_hop, Some(address("10.1.0.3")));
        // IPv4, UDP, GUE with its private words, one further hop; then 40 bytes of packet.
        assert_eq!((outer.header_len, outer.packet_len), (44, 84));
    });
}

#[test]
fn program_that_does_otherwise_is_caught() {
    let node = Node::new("disagree");
    let tables = one_service("10.1.0.2");
    node.with_tables(&tables, |bench| {
        let udp = Transport::Udp { source_port: 4711, port: 53 };
        let question = Question::new(address("198.51.100.7"), address("192.0.2.10"), udp);
        let question = question.expect("a packet");
        // A second owner of the same pins puts something else in force.
        let (mut other, _) = isocast_dataplane::Dataplane::open(node.config()).expect("adopted");
        other.apply(&Tables::default()).expect("tables");

        let inspection = bench.dataplane.inspect(&question).expect("test run");

        assert!(!inspection.differences.is_empty(), "{inspection:?}");
        assert_eq!(inspection.traced.action, isocast_dataplane::Action::Pass);
    });
}

#[test]
fn flow_that_moved_between_two_backends_of_this_node_stays_here() {
    let node = Node::new("here-twice");
    let mut tables = one_service(OWN_V4);
    tables.edge.backends.push(crate::support::node::backend("b2", OWN_V6));
    tables.edge.rings = vec![ring(0, 1)];
    node.with_tables(&tables, |bench| {
        let tcp = Transport::Tcp { source_port: 4711, port: 443, syn: false };
        let question = Question::new(address("198.51.100.7"), address("192.0.2.10"), tcp);
        let inspection = bench.dataplane.inspect(&question.expect("a packet")).expect("test run");

        assert_eq!(inspection.traced.action, isocast_dataplane::Action::Pass);
        assert_eq!(inspection.differences, []);
    });
}
