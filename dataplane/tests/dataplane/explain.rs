//! What the tables say and what the program does are the same, to the last byte.

use std::net::{Ipv4Addr, Ipv6Addr};

use isocast_dataplane::{
    Action, Backend, BackendKey, Ceilings, Claim, Dataplane, DecapTables, EdgeTables, Encap,
    FlowKey, Found, Fragments, Inspection, Keyring, Level, Member, Outcome, PAYLOAD_MAX,
    PacketRules, Protocol, Question, Ring, ServiceKey, ServicePolicy, SourceList, SourceRule,
    Tables, Track, Transport, TunnelHeader, Vip,
};
use isocast_dataplane_common::{
    NO_BACKEND, NO_CHAIN, OTHER_FLOW_KEYS, RING_SLOTS_MIN, Slot, encap::FLAG_COOKIE,
};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config as ProptestConfig, TestRunner},
};

use crate::support::node::{
    Bench, Node, OWN_V4, OWN_V6, UPLINK, address, backend, bare, keys, one_service, ring,
};

/// This node itself, beyond the router by either family, and a neighbour that nobody is.
const BACKENDS: [&str; 8] =
    [OWN_V4, OWN_V6, "10.1.0.2", "10.1.0.3", "2001:db8:b::2", "10.0.0.77", PLAIN[0], PLAIN[1]];
/// Those of them without an agent.
const PLAIN: [&str; 2] = ["10.1.0.9", "2001:db8:b::9"];
const VIPS: [&str; 4] = ["192.0.2.10", "192.0.2.11", "2001:db8:f::10", "2001:db8:f::11"];
const PORTS: [u16; 3] = [53, 443, 6080];
const ELSEWHERE: [&str; 4] = [OWN_V4, OWN_V6, "203.0.113.1", "2001:db8:e::1"];

fn rules() -> impl Strategy<Value = PacketRules> {
    let segment_size = prop::option::of(500_u16..1500);
    (select(&[Fragments::Drop, Fragments::Hash]), segment_size)
        .prop_map(|(fragments, segment_size)| PacketRules { fragments, segment_size })
}

fn vips() -> impl Strategy<Value = Vec<Vip>> {
    let listener =
        (select(&VIPS), any::<bool>(), select(&PORTS), 0_u32..1 << 24, 0_usize..3, rules());
    let listeners = prop::collection::vec(listener, 1..12);
    listeners.prop_map(|listeners| {
        let mut vips: Vec<Vip> = Vec::new();
        for (text, is_tcp, port, tenant, ring, rules) in listeners {
            let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
            let (address, service) = (address(text), ServiceKey(format!("s{ring}").into()));
            let is_same =
                |it: &Vip| (it.address, it.protocol, it.port) == (address, protocol, port);
            if !vips.iter().any(is_same) {
                vips.push(Vip { address, protocol, port, tenant, ring, service, rules });
            }
        }
        vips
    })
}

/// Slots at rest, with chains of any hosts, of nobody, tracked, in any mixture and of any size.
fn any_ring() -> impl Strategy<Value = Ring> {
    let backend = || 0..u16::try_from(BACKENDS.len()).unwrap_or(0);
    let some = |most| prop::collection::vec(backend(), 0..most);
    let current = prop_oneof![5 => backend(), 1 => Just(NO_BACKEND)];
    let chain = prop_oneof![2 => Just(NO_CHAIN), 3 => 0_u16..4];
    let track = (backend(), some(5), some(6), 0..=ERA)
        .prop_map(|(former, further, between, since)| Track { former, further, between, since });
    let (chains, tracks) = (prop::collection::vec(some(5), 4), prop::collection::vec(track, 4));
    let slots = prop::collection::vec((current, chain, 0_u16..4, any::<bool>()), 1..32);
    (slots, chains, tracks, 0..5_u32).prop_map(|(slots, chains, tracks, doublings)| {
        let slots = slots.iter().map(|&(current, chain, track, is_tracked)| {
            if is_tracked { Slot::tracked(current, track) } else { Slot { current, chain } }
        });
        let slots: Vec<_> = slots.collect();
        let len = RING_SLOTS_MIN << doublings;
        let slots = slots.into_iter().cycle().take(len).collect::<Vec<_>>();
        Ring::tracked(slots, &chains, &tracks)
    })
}

/// What time it is in the flow table.
const ERA: u32 = 3;

/// Prefixes that cover some of the sources, and each other.
const PREFIXES: [&str; 6] =
    ["0.0.0.0/1", "128.0.0.0/2", "198.51.100.0/24", "198.51.100.7/32", "::/1", "8000::/3"];

fn ceilings() -> impl Strategy<Value = Ceilings> {
    let most = || prop::option::of(select(&[1_u32, 100, 1_000_000_000]));
    (most(), most()).prop_map(|(packets_per_second, new_flows_per_second)| Ceilings {
        packets_per_second,
        new_flows_per_second,
    })
}

fn policy() -> impl Strategy<Value = ServicePolicy> {
    let rules = prop::collection::btree_map(select(&PREFIXES), any::<bool>(), 0..4);
    let sources = (rules, any::<bool>()).prop_map(|(rules, others_allowed)| {
        let rule = |(prefix, allowed): (&str, bool)| SourceRule {
            prefix: prefix.parse().expect(prefix),
            allowed,
        };
        SourceList { rules: rules.into_iter().map(rule).collect(), others_allowed }
    });
    (prop::option::of(sources), ceilings(), any::<bool>()).prop_map(
        |(sources, ceilings, syn_cookies)| ServicePolicy { sources, ceilings, syn_cookies },
    )
}

/// Policies of some services, and ceilings of some of their tenants.
fn guarded(edge: EdgeTables) -> impl Strategy<Value = EdgeTables> {
    let tenants: Vec<_> = edge.vips.iter().map(|vip| vip.tenant).collect();
    let policies = prop::collection::btree_map(0..3_usize, policy(), 0..3);
    let tenants = prop::collection::btree_map(select(tenants), ceilings(), 0..2);
    (policies, tenants).prop_map(move |(policies, tenants)| {
        let key = |(ring, policy)| (ServiceKey(format!("s{ring}").into()), policy);
        EdgeTables { policies: policies.into_iter().map(key).collect(), tenants, ..edge.clone() }
    })
}

fn tables() -> impl Strategy<Value = Tables> {
    let rings = prop::collection::vec(any_ring(), 3);
    let edge = (vips(), rings).prop_flat_map(|(vips, rings)| {
        let backend = |(n, text): (usize, &&str)| Backend {
            key: BackendKey(format!("b{n}").into()),
            tunnel_address: address(text),
            encap: if PLAIN.contains(text) { Encap::Ip } else { Encap::Gue },
        };
        let backends = BACKENDS.iter().enumerate().map(backend).collect();
        guarded(EdgeTables { vips, rings, backends, era: ERA, ..EdgeTables::default() })
    });
    let tables = (edge, any::<bool>()).prop_map(|(edge, believes)| {
        let sources = if believes { vec![address("198.51.100.7")] } else { Vec::new() };
        Tables { edge, decap: DecapTables { sources, accepts: Vec::new() }, ..Tables::default() }
    });
    (tables, keyring()).prop_map(|(tables, keys)| Tables { keys, ..tables })
}

/// Before, in the middle of and after changes of flow keys.
fn keyring() -> impl Strategy<Value = Keyring> {
    let others = prop::collection::vec(any::<[u8; 16]>(), 0..=OTHER_FLOW_KEYS);
    (any::<[u8; 16]>(), others).prop_map(|(flow, others)| Keyring {
        flow: FlowKey(flow),
        other_flows: others.into_iter().map(FlowKey).collect(),
        ..keys()
    })
}

fn question() -> impl Strategy<Value = Question> {
    let destination = prop_oneof![4 => select(&VIPS), 1 => select(&ELSEWHERE)];
    let port = prop_oneof![4 => select(&PORTS), 1 => any::<u16>()];
    let source_v4 = prop_oneof![
        1 => Just(Ipv4Addr::new(198, 51, 100, 7)),
        3 => any::<[u8; 4]>().prop_map(Ipv4Addr::from),
    ];
    let sources = (source_v4, any::<[u8; 16]>().prop_map(Ipv6Addr::from));
    let rest = (any::<u16>(), 0_u8..5, any::<u8>(), 0..=PAYLOAD_MAX);
    (sources, destination, port, rest).prop_map(
        |((v4, v6), destination, port, (source_port, kind, class, payload))| {
            let destination = address(destination);
            let source = if destination.is_ipv4() { v4.into() } else { v6.into() };
            let transport = match kind {
                0 => Transport::Echo,
                1 => Transport::Udp { source_port, port },
                kind => Transport::Tcp { source_port, port, syn: kind == 2 },
            };
            let question = Question::new(source, destination, transport).expect("a packet");
            question.with_payload(payload).expect("it fits").with_traffic_class(class)
        },
    )
}

#[test]
fn any_packet_under_any_tables_is_explained_as_the_program_treats_it() {
    let node = Node::new("explain");
    // Some packets do not fit with a header on.
    node.namespace.run("ip link set up0 mtu 1400");
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let cases = (tables(), prop::collection::vec((question(), any::<bool>()), 400));
    let outcome = runner.run(&cases, |(tables, questions)| {
        node.with_tables(&tables, |bench| {
            for (question, preceded) in questions {
                // What opens a connection may be noted, and found again.
                if preceded {
                    let frame = question.clone().opening().frame();
                    bench.dataplane.trace(&frame, UPLINK, 1).expect("test run");
                }
                let inspection = bench.dataplane.inspect(&question).expect("test run");
                prop_assert!(
                    inspection.differences.is_empty(),
                    "{question:?}: {:?} in\n{:?}\n{:?}",
                    inspection.differences,
                    inspection.explained,
                    inspection.traced
                );
                let Some(outer) = inspection.explained.outer else { continue };
                let header = TunnelHeader::read(&inspection.traced.packet);
                prop_assert_eq!(header.is_some(), outer.source_port.is_some());
                let Some(header) = header else { continue };
                prop_assert_eq!(header.further_hops, outer.further_hops);
                prop_assert_eq!((header.source, header.flags), (outer.source, outer.flags));
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
    for (name, address) in [("b2", "10.1.0.3"), ("b3", "10.1.0.4")] {
        tables.edge.backends.push(backend(name, address));
    }
    tables.edge.rings = vec![ring(0, &[1, 2])];
    node.with_tables(&tables, |bench| {
        let tcp = Transport::Tcp { source_port: 4711, port: 443, syn: false };
        let (client, vip) = (address("198.51.100.7"), address("192.0.2.10"));
        let question = Question::new(client, vip, tcp).expect("a packet");

        let explained = bench.dataplane.explain_arrival(&question).expect("explained");

        let Found::Service { service, .. } = &explained.found else { panic!("{explained:?}") };
        assert_eq!(&*service.0, "www");
        let choice = explained.choice.as_ref().expect("a slot");
        let key = |member: &Member| {
            let key = member.key.as_ref().expect("a backend");
            (key.0.to_string(), member.address.to_string())
        };
        let called = |name: &str, address: &str| (name.to_owned(), address.to_owned());
        assert_eq!(choice.current.as_ref().map(key), Some(called("b1", "10.1.0.2")));
        let further: Vec<_> = choice.further.iter().map(key).collect();
        assert_eq!(further, [called("b2", "10.1.0.3"), called("b3", "10.1.0.4")]);
        assert_eq!(choice.slots as usize, RING_SLOTS_MIN);
        let outer = explained.outer.expect("a header");
        assert_eq!(outer.destination, address("10.1.0.2"));
        assert_eq!(outer.further_hops, ["10.1.0.3", "10.1.0.4"].map(address));
        // IPv4, UDP, GUE with its private words, two further hops; then 40 bytes of packet.
        assert_eq!((outer.header_len, outer.packet_len), (48, 88));
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
        let (mut other, _) = Dataplane::open(node.config()).expect("adopted");
        other.apply(&bare()).expect("tables");

        let inspection = bench.dataplane.inspect(&question).expect("test run");

        assert!(!inspection.differences.is_empty(), "{inspection:?}");
        assert_eq!(inspection.traced.action, Action::Pass);
    });
}

#[test]
fn flow_that_moved_between_two_backends_of_this_node_stays_here() {
    let node = Node::new("here-twice");
    let mut tables = one_service(OWN_V4);
    tables.edge.backends.push(backend("b2", OWN_V6));
    tables.edge.rings = vec![ring(0, &[1])];
    node.with_tables(&tables, |bench| {
        let tcp = Transport::Tcp { source_port: 4711, port: 443, syn: false };
        let question = Question::new(address("198.51.100.7"), address("192.0.2.10"), tcp);
        let inspection = bench.dataplane.inspect(&question.expect("a packet")).expect("test run");

        assert_eq!(inspection.traced.action, Action::Pass);
        assert_eq!(inspection.differences, []);
    });
}

#[test]
fn flow_that_this_node_has_no_socket_for_goes_on_to_the_chain() {
    let node = Node::new("here-chain");
    let mut tables = one_service(OWN_V4);
    for (name, address) in [("b2", OWN_V6), ("b3", "10.1.0.3"), ("b4", "10.1.0.4")] {
        tables.edge.backends.push(backend(name, address));
    }
    tables.edge.rings = vec![ring(0, &[1, 2, 3])];
    node.with_tables(&tables, |bench| {
        let tcp = |syn| Transport::Tcp { source_port: 4711, port: 443, syn };
        let ask = |transport| {
            Question::new(address("198.51.100.7"), address("192.0.2.10"), transport).expect("one")
        };

        let within = bench.dataplane.inspect(&ask(tcp(false))).expect("test run");
        let opens = bench.dataplane.inspect(&ask(tcp(true))).expect("test run");
        let owned = bench.dataplane.explain_arrival(&ask(tcp(false)).with_claim(Claim::Open));

        assert_eq!((&within.differences, &opens.differences), (&Vec::new(), &Vec::new()));
        let outer = within.explained.outer.expect("a header");
        assert_eq!(outer.destination, address("10.1.0.3"));
        assert_eq!(outer.further_hops, [address("10.1.0.4")]);
        let choice = within.explained.choice.expect("a slot");
        let further: Vec<_> = choice.further.iter().map(|it| it.address).collect();
        assert_eq!(further, ["10.1.0.3", "10.1.0.4"].map(address), "without this node");
        assert!(choice.asks_for_socket);
        assert_eq!(opens.explained.outcome, Some(Outcome::DeliveredHere));
        assert_eq!(owned.expect("explained").outcome, Some(Outcome::DeliveredHere));
    });
}

/// One service under a policy, and so many SYNs of a client inspected.
fn inspected(
    bench: &mut Bench,
    policy: ServicePolicy,
    times: usize,
    transport: Transport,
) -> Vec<Inspection> {
    let mut tables = one_service("10.1.0.2");
    tables.edge.policies.insert(ServiceKey("www".into()), policy);
    bench.dataplane.apply(&tables).expect("tables");
    let question = Question::new(address("198.51.100.7"), address("192.0.2.10"), transport);
    let question = question.expect("a packet");
    let inspect = |_| bench.dataplane.inspect(&question).expect("test run");
    let all: Vec<_> = (0..times).map(inspect).collect();
    for inspection in &all {
        assert_eq!(inspection.differences, [], "{inspection:?}");
    }
    all
}

#[test]
fn full_buckets_are_found_and_explained() {
    const SYN: Transport = Transport::Tcp { source_port: 4711, port: 443, syn: true };
    let node = Node::new("explain-full");
    let few = Ceilings { packets_per_second: None, new_flows_per_second: Some(1) };
    let policy =
        |syn_cookies| ServicePolicy { ceilings: few, syn_cookies, ..ServicePolicy::default() };
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let dropped = inspected(bench, policy(false), 100, SYN);
        let challenged = inspected(bench, policy(true), 100, SYN);
        let data = Transport::Tcp { source_port: 4711, port: 443, syn: false };
        let within = inspected(bench, policy(true), 100, data);

        let over = |it: &&Inspection| it.explained.outcome == Some(Outcome::OverFlowRate);
        assert!(dropped.iter().filter(over).count() > 50);
        let level = |it: &Inspection| it.explained.guard.as_ref().map(|guard| guard.level);
        let cookies: Vec<_> =
            challenged.iter().filter(|it| level(it) == Some(Level::Challenged)).collect();
        assert!(cookies.len() > 50, "{}", cookies.len());
        for it in cookies {
            assert_eq!(it.explained.outcome, Some(Outcome::Encapsulated));
            assert_eq!(it.explained.outer.as_ref().map(|outer| outer.flags), Some(FLAG_COOKIE));
        }
        assert!(within.iter().all(|it| level(it) == Some(Level::Within)), "no new flows");
        let ceilings = within[0].explained.guard.as_ref().and_then(|guard| guard.ceilings);
        assert_eq!(ceilings, Some(few));
    });
}

#[test]
fn source_list_is_explained_by_the_rule_that_decides() {
    let node = Node::new("explain-list");
    let rule = |text: &str, allowed| SourceRule { prefix: text.parse().expect(text), allowed };
    let rules = [rule("198.51.0.0/16", true), rule("198.51.100.0/24", false)];
    let list = SourceList { rules: rules.into(), others_allowed: true };
    let policy = ServicePolicy { sources: Some(list), ..ServicePolicy::default() };
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let udp = Transport::Udp { source_port: 4711, port: 53 };
        let all = inspected(bench, policy, 1, udp);

        let explained = &all[0].explained;
        assert_eq!(explained.outcome, Some(Outcome::SourceNotAllowed));
        let source = explained.guard.as_ref().and_then(|it| it.source).expect("a list");
        assert_eq!(source.rule, Some(rules[1].prefix));
        assert_eq!((source.allowed, &explained.choice), (false, &None));
    });
}

#[test]
fn successor_explains_what_its_predecessor_put_in_force() {
    let node = Node::new("explain-adopt");
    let mut tables = one_service("10.1.0.2");
    for (name, address) in [("b2", "10.1.0.3"), ("b3", "10.1.0.4")] {
        tables.edge.backends.push(backend(name, address));
    }
    tables.edge.rings = vec![ring(0, &[1, 2])];
    let rule = SourceRule { prefix: "198.51.100.0/24".parse().expect("a prefix"), allowed: true };
    let policy = ServicePolicy {
        sources: Some(SourceList { rules: [rule].into(), others_allowed: false }),
        ceilings: Ceilings { packets_per_second: Some(1_000_000), ..Ceilings::default() },
        syn_cookies: false,
    };
    tables.edge.policies.insert(ServiceKey("www".into()), policy);
    node.with_tables(&tables, |bench| {
        let tcp = Transport::Tcp { source_port: 4711, port: 443, syn: false };
        let question = Question::new(address("198.51.100.7"), address("192.0.2.10"), tcp);
        let question = question.expect("a packet");
        let before = bench.dataplane.explain_arrival(&question).expect("explained");

        let (successor, _) = Dataplane::open(node.config()).expect("adopted");
        let inspection = successor.inspect(&question).expect("test run");

        assert_eq!(inspection.differences, []);
        let after = inspection.explained;
        assert_eq!((&after.choice, &after.outer), (&before.choice, &before.outer));
        let guard = after.guard.expect("a guard");
        assert_eq!(Some(guard.source), before.guard.map(|guard| guard.source));
        assert_eq!(guard.ceilings, Some(Ceilings::default()), "figures come with its own tables");
    });
}
