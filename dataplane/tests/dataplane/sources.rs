//! Whom services let in: verdicts by family and prefix, and lists that change under traffic.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use proptest::{
    prelude::*,
    test_runner::{Config as ProptestConfig, TestRunner},
};

use isocast_dataplane::{
    Action, Dataplane, Opened, Outcome, Protocol, ServiceKey, ServicePolicy, SourceList,
    SourceRule, Tables,
};
use isocast_dataplane_common::policy::{MAX_SOURCES, MAX_SOURCES_PER_SERVICE};

use crate::support::{
    network::{
        BACKEND, CLIENT, Connection, EDGE, NOBODY, Network, VIPS, backend_tables, edge_tables,
        host_addresses, serve,
    },
    node::{Bench, Node, OWN_V4, one_service, ring, vip},
    packet::{ACK, SYN, flow, tcp, udp},
};

/// Rules as text: `+` lets in, `-` keeps out.
fn list(rules: &[&str], others_allowed: bool) -> ServicePolicy {
    let rule = |text: &&str| {
        let (sign, prefix) = text.split_at(1);
        SourceRule { prefix: prefix.parse().expect(text), allowed: sign == "+" }
    };
    let sources = SourceList { rules: rules.iter().map(rule).collect(), others_allowed };
    ServicePolicy { sources: Some(sources), ..ServicePolicy::default() }
}

fn with_list(mut tables: Tables, policy: ServicePolicy) -> Tables {
    tables.edge.policies.insert(ServiceKey("www".into()), policy);
    tables
}

/// Whether a source is let in, and how the packet was counted.
fn is_let_in(bench: &Bench, source: &str) -> bool {
    let destination = if source.contains(':') { "2001:db8:f::10" } else { "192.0.2.10" };
    let packets = [
        tcp(flow(source, destination, 443), SYN, 0),
        tcp(flow(source, destination, 443), ACK, 0),
        udp(flow(source, destination, 53), b"query"),
    ];
    let verdicts = packets.map(|packet| match bench.outcome_of(&packet) {
        (Action::Transmit, outcomes) if outcomes == [Outcome::Encapsulated] => true,
        (Action::Drop, outcomes) if outcomes == [Outcome::SourceNotAllowed] => false,
        other => panic!("{source}: {other:?}"),
    });
    assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{source}: {verdicts:?}");
    verdicts[0]
}

#[test]
fn longest_prefix_decides_and_who_is_not_named_is_as_the_list_says() {
    let node = Node::new("sources");
    let cases: &[(ServicePolicy, &[&str], &[&str])] = &[
        (
            list(&["+198.51.100.0/24", "-198.51.100.64/26", "+198.51.100.65/32"], false),
            &["198.51.100.63", "198.51.100.65", "198.51.100.128"],
            &["198.51.100.64", "198.51.100.127", "198.51.101.1", "2001:db8:c::7"],
        ),
        (
            list(&["-10.0.0.0/8", "-2001:db8:bad::/48"], true),
            &["11.0.0.1", "2001:db8:c::7"],
            &["10.255.0.1", "2001:db8:bad:1::1"],
        ),
        (list(&["+2001:db8:c::/48"], false), &["2001:db8:c:ffff::1"], &["198.51.100.7", "2001::1"]),
        (list(&["+0.0.0.0/0"], false), &["198.51.100.7", "1.1.1.1"], &["2001:db8:c::7"]),
        (list(&["+::/0"], false), &["2001:db8:c::7"], &["198.51.100.7"]),
        (list(&[], false), &[], &["198.51.100.7", "2001:db8:c::7"]),
        (list(&[], true), &["198.51.100.7", "2001:db8:c::7"], &[]),
    ];
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        for (policy, within, without) in cases {
            let tables = with_list(one_service("10.1.0.2"), policy.clone());
            bench.dataplane.apply(&tables).expect("tables");
            for source in *within {
                assert!(is_let_in(bench, source), "{source} is let in by {policy:?}");
            }
            for source in *without {
                assert!(!is_let_in(bench, source), "{source} is kept out by {policy:?}");
            }
        }
        bench.dataplane.apply(&one_service("10.1.0.2")).expect("no list");
        assert!(is_let_in(bench, "10.255.0.1"));
    });
}

/// The rule that decides by its definition: of those that cover the source, the longest.
fn expected(policy: &ServicePolicy, source: IpAddr) -> bool {
    let Some(list) = &policy.sources else { return true };
    let covering = list.rules.iter().filter(|rule| rule.prefix.contains(&source));
    let longest = covering.max_by_key(|rule| rule.prefix.prefix_len());
    longest.map_or(list.others_allowed, |rule| rule.allowed)
}

#[test]
fn any_list_decides_about_any_source_as_its_definition_does() {
    let node = Node::new("any-sources");
    // Few bits differ, so that rules cover each other and sources.
    let address = || {
        (any::<bool>(), 0_u8..16, 0_u8..4).prop_map(|(is_v6, high, low)| -> IpAddr {
            if is_v6 {
                [0x20, high << 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, low].into()
            } else {
                [0x20, high << 4, 0, low].into()
            }
        })
    };
    let prefix = (address(), 0_u8..=32).prop_map(|(address, len)| {
        // Around the bits that differ.
        let len = if address.is_ipv6() && len > 20 { 96 + len } else { len };
        ipnet::IpNet::new(address, len).expect("a length").trunc()
    });
    let lists = (
        prop::collection::btree_map(prefix, any::<bool>(), 0..12),
        any::<bool>(),
        prop::collection::vec(address(), 1..12),
    );
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let bench = std::cell::RefCell::new(bench);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(48));
        let result = runner.run(&lists, |(rules, others_allowed, sources)| {
            let rules = rules.into_iter().map(|(prefix, allowed)| SourceRule { prefix, allowed });
            let list = SourceList { rules: rules.collect(), others_allowed };
            let policy = ServicePolicy { sources: Some(list), ..ServicePolicy::default() };
            let tables = with_list(one_service("10.1.0.2"), policy.clone());
            bench.borrow_mut().dataplane.apply(&tables).expect("tables");
            for source in sources {
                let is_in = is_let_in(&bench.borrow(), &source.to_string());
                prop_assert_eq!(is_in, expected(&policy, source), "{} by {:?}", source, policy);
            }
            Ok(())
        });
        result.expect("kernel and definition agree");
    });
}

#[test]
fn what_a_service_keeps_out_is_counted_for_it_alone() {
    let node = Node::new("refused-sources");
    let mut tables = with_list(one_service("10.1.0.2"), list(&["+198.51.100.0/24"], false));
    let mut open = vip("192.0.2.11", Protocol::Tcp, 443);
    open.service = ServiceKey("open".into());
    open.ring = 1;
    tables.edge.vips.push(open);
    tables.edge.rings.push(ring(0, NOBODY));
    node.with_tables(&tables, |bench| {
        let stranger = flow("203.0.113.7", "192.0.2.10", 443);
        for _ in 0..3 {
            bench.arrive(&tcp(stranger, SYN, 0));
        }
        let elsewhere = flow("203.0.113.7", "192.0.2.11", 443);
        assert_eq!(bench.arrive(&tcp(elsewhere, SYN, 0)).action, Action::Transmit);

        let counters = bench.counters();
        let (www, open) = (ServiceKey("www".into()), ServiceKey("open".into()));
        assert_eq!(counters.services[&www].packets, 3);
        assert_eq!(counters.refused[&www].sources, 3);
        assert_eq!(counters.refused[&open], isocast_dataplane::Refused::default());
    });
}

#[test]
fn backend_on_this_node_is_no_way_around_the_list() {
    let node = Node::new("local-sources");
    let tables = with_list(one_service(OWN_V4), list(&["+198.51.100.0/24"], false));
    node.with_tables(&tables, |bench| {
        let stranger = tcp(flow("203.0.113.7", "192.0.2.10", 443), SYN, 0);
        assert_eq!(bench.outcome_of(&stranger), (Action::Drop, vec![Outcome::SourceNotAllowed]));
    });
}

#[test]
fn list_is_in_force_for_whoever_adopts_it_and_full_ones_are_replaced_again_and_again() {
    let node = Node::new("adopted-sources");
    let full = |round: u32| {
        let mut tables = one_service("10.1.0.2");
        for service in 0..u32::try_from(MAX_SOURCES / MAX_SOURCES_PER_SERVICE).expect("small") {
            let first = round << 28 | service << 16;
            let rules = (0..u32::try_from(MAX_SOURCES_PER_SERVICE).expect("small")).map(|n| {
                let address = IpAddr::V4((first | n).into());
                SourceRule { prefix: address.into(), allowed: true }
            });
            let sources = SourceList { rules: rules.collect(), others_allowed: false };
            let policy = ServicePolicy { sources: Some(sources), ..ServicePolicy::default() };
            let key =
                ServiceKey(if service == 0 { "www".into() } else { format!("{service}").into() });
            tables.edge.policies.insert(key, policy);
        }
        tables
    };
    node.with_tables(&full(1), |bench| {
        bench.dataplane.apply(&full(2)).expect("the former lists make room");
        bench.dataplane.apply(&full(3)).expect("and again");
        assert!(is_let_in(bench, "48.0.0.5") && !is_let_in(bench, "32.0.0.5"));
    });
    node.namespace.enter(|| {
        let (mut bench, opened) = Bench::open(node.config());
        assert!(matches!(opened, Opened::Adopted { .. }));
        assert!(is_let_in(&bench, "48.0.0.5") && !is_let_in(&bench, "32.0.0.5"));
        bench.dataplane.apply(&full(3)).expect("the same");
        bench.dataplane.apply(&full(4)).expect("others");
        bench.dataplane.apply(&full(5)).expect("and others");
        assert!(is_let_in(&bench, "80.0.0.5") && !is_let_in(&bench, "48.0.0.5"));
    });
}

#[test]
fn no_packet_of_an_allowed_source_is_lost_while_its_list_changes() {
    let network = Network::new("live", 3);
    let open = |host: usize| {
        network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
    };
    let (mut edge, mut backend) = (open(EDGE), open(BACKEND));
    backend.apply(&backend_tables(&host_addresses(EDGE))).expect("backend");
    serve(&network.hosts[BACKEND], "one");
    let client = host_addresses(CLIENT);
    let tables = |n: usize| {
        // The clients' prefixes are there in every version, among ever others.
        let mut rules =
            vec![format!("+{}/{}", client[0], 24 + n % 9), format!("+{}/64", client[1])];
        rules.extend((0..200).map(|m| format!("+203.{}.{m}.0/24", n % 256)));
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        let rules: Vec<_> = rules
            .iter()
            .map(|text| SourceRule {
                prefix: text[1..].parse::<ipnet::IpNet>().expect("prefix").trunc(),
                allowed: true,
            })
            .collect();
        let sources = SourceList { rules: rules.into(), others_allowed: false };
        let policy = ServicePolicy { sources: Some(sources), ..ServicePolicy::default() };
        with_list(edge_tables(&[host_addresses(BACKEND)[0].clone()], 0, NOBODY), policy)
    };
    edge.apply(&tables(0)).expect("edge");
    let mut connections: Vec<_> = VIPS
        .iter()
        .map(|vip| Connection::open(&network.hosts[CLIENT], vip).expect("connect"))
        .collect();

    let is_over = AtomicBool::new(false);
    let asked: usize = thread::scope(|scope| {
        let users: Vec<_> = connections
            .iter_mut()
            .map(|connection| {
                scope.spawn(|| {
                    let mut asked = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        assert_eq!(connection.ask().expect("answer"), "one");
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for n in 1..60 {
            edge.apply(&tables(n)).expect("edge");
        }
        is_over.store(true, Ordering::Relaxed);
        users.into_iter().map(|user| user.join().expect("user")).sum()
    });

    assert!(asked > 60, "{asked} exchanges went on meanwhile");
    assert_eq!(edge.counters().expect("counters").outcomes[&Outcome::SourceNotAllowed], 0);
}
