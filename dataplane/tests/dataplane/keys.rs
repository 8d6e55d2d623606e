//! What becomes of packets while keys change: tags that are sent and believed, and flows that an
//! earlier flow key has placed.

use std::net::IpAddr;

use isocast_dataplane::{
    Action, Dataplane, FlowKey, KeyTag, Keyring, Outcome, Protocol, Ring, Tables, TunnelHeader,
};
use isocast_dataplane_common::{RING_SLOTS_MIN, Slot};

use crate::{
    edge::{v4, v6},
    support::{
        network::{
            BACKEND, CLIENT, Connection, EDGE, Network, VIPS, backend_tables, edge_tables,
            host_addresses, serve,
        },
        node::{
            Bench, KEY_TAG, Node, OTHER_KEY_TAG, OWN_V4, accept, address, backend, bare, keys,
            one_service, tunnel_from,
        },
        packet::{ACK, Flow, SYN, Tunnel, encapsulate, flow, reverse, tcp, too_big, udp},
    },
};

const OLD: FlowKey = FlowKey([1; 16]);
const NEW: FlowKey = FlowKey([2; 16]);
const OLDER: FlowKey = FlowKey([3; 16]);

fn placed_by(flow: FlowKey, others: &[FlowKey]) -> Keyring {
    Keyring { flow, other_flows: others.to_vec(), ..keys() }
}

/// Backends with the slots in turn.
fn in_turn(backends: &[&str]) -> Tables {
    let mut tables = one_service("10.1.0.2");
    tables.edge.backends =
        backends.iter().map(|address| backend(&format!("b-{address}"), address)).collect();
    let positions = (0..backends.len()).filter_map(|n| u16::try_from(n).ok());
    let slots = positions.map(Slot::settled).cycle().take(RING_SLOTS_MIN);
    tables.edge.rings = vec![Ring::from_positions(slots.collect::<Vec<_>>())];
    tables
}

fn with(tables: &Tables, keys: Keyring) -> Tables {
    Tables { keys, ..tables.clone() }
}

/// Forty flows of each family.
fn flows(port: u16) -> impl Iterator<Item = Flow> {
    let from =
        move |n: u16| [v4(port), v6(port)].map(|flow| Flow { source_port: 40_000 + n, ..flow });
    (0..40_u16).flat_map(from)
}

/// Where a packet is sent, and who is asked after that; nowhere if it stays here.
fn way(bench: &Bench, packet: &[u8]) -> (Option<IpAddr>, Vec<IpAddr>) {
    let traced = bench.arrive(packet);
    match TunnelHeader::read(&traced.packet).filter(|_| traced.action == Action::Transmit) {
        Some(header) => (Some(header.destination), header.further_hops),
        None => (None, Vec::new()),
    }
}

#[test]
fn tags_are_believed_as_the_keyring_says_from_the_moment_it_is_applied() {
    let mut tables = bare();
    tables.decap.sources = vec![address("10.9.0.1")];
    tables.decap.accepts = vec![accept("192.0.2.10", Protocol::Tcp, 443)];
    let believing =
        |tags: [[u8; 4]; 2]| with(&tables, Keyring { believed: tags.map(KeyTag), ..keys() });
    let inner = tcp(flow("198.51.100.7", "192.0.2.10", 443), SYN, 0);
    let marked = |key_tag| encapsulate(&Tunnel { key_tag, ..tunnel_from("10.9.0.1", &[]) }, &inner);
    const THIRD: [u8; 4] = [9; 4];
    Node::new("tags").with_tables(&believing([KEY_TAG; 2]), |bench| {
        let mut before = bench.dataplane.generation();
        for (believed, others) in [
            (vec![KEY_TAG], vec![OTHER_KEY_TAG, THIRD, [0; 4]]),
            (vec![KEY_TAG, OTHER_KEY_TAG], vec![THIRD, [0; 4]]),
            (vec![OTHER_KEY_TAG], vec![KEY_TAG, THIRD, [0; 4]]),
        ] {
            let (first, last) = (believed[0], believed[believed.len() - 1]);
            let generation = bench.dataplane.apply(&believing([first, last])).expect("tables");
            assert!(believed == [KEY_TAG] || generation != before, "equal but for keys");
            before = generation;
            for tag in believed {
                let delivered = (Action::Pass, vec![Outcome::Decapsulated]);
                assert_eq!(bench.outcome_of(&marked(tag)), delivered);
            }
            for tag in others {
                let refused = (Action::Drop, vec![Outcome::WrongKey]);
                assert_eq!(bench.outcome_of(&marked(tag)), refused, "{tag:?}");
            }
        }
    });
}

#[test]
fn packets_are_marked_with_the_tag_that_is_sent() {
    let tables = one_service("10.1.0.2");
    Node::new("sent").with_tables(&tables, |bench| {
        for tag in [KEY_TAG, OTHER_KEY_TAG, KEY_TAG] {
            let keys = Keyring { sent: KeyTag(tag), ..keys() };
            bench.dataplane.apply(&with(&tables, keys)).expect("tables");
            let left = bench.arrive(&tcp(v4(443), SYN, 0)).packet;
            // Behind Ethernet, IPv4, UDP and two words of GUE.
            assert_eq!(left[14 + 20 + 8 + 8..][..4], tag);
        }
    });
}

#[test]
fn flow_of_a_former_key_is_looked_for_where_that_placed_it() {
    let tables = in_turn(&["10.1.0.2", "10.1.0.3", "10.1.0.4"]);
    Node::new("former").with_tables(&with(&tables, placed_by(OLD, &[])), |bench| {
        let data = |flow| tcp(flow, ACK, 0);
        let before: Vec<_> = flows(443).map(|flow| way(bench, &data(flow))).collect();

        bench.dataplane.apply(&with(&tables, placed_by(NEW, &[]))).expect("tables");
        let alone: Vec<_> = flows(443).map(|flow| bench.arrive(&data(flow)).packet).collect();
        bench.dataplane.apply(&with(&tables, placed_by(NEW, &[OLD]))).expect("tables");

        let mut moved = 0;
        for ((flow, (owner, _)), alone) in flows(443).zip(before).zip(alone) {
            let left = bench.arrive(&data(flow)).packet;
            let (target, further) = way(bench, &data(flow));
            if target == owner {
                assert_eq!(left, alone, "nobody else can have it");
            } else {
                moved += 1;
                assert_eq!(further, Vec::from_iter(owner), "{flow:?}");
                assert_eq!(TunnelHeader::read(&alone).map(|it| it.destination), target);
            }
            // An error about the flow goes the same way.
            let answer = tcp(reverse(flow), ACK, 0);
            let header = if flow.source.is_ipv4() { 20 } else { 40 };
            let error = too_big(flow.source, flow.destination, 1400, &answer[..header + 8]);
            assert_eq!(way(bench, &error), (target, further));
            // New flows, and those that have no socket, go by the key in force alone.
            assert_eq!(way(bench, &tcp(flow, SYN, 0)), (target, Vec::new()));
            let query = udp(Flow { port: 53, ..flow }, b"q");
            assert!(way(bench, &query).1.is_empty());
        }
        assert!(moved > 30, "{moved} of 80 flows have another slot's backend");
    });
}

#[test]
fn flow_survives_two_changes_of_the_key() {
    let backends = ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"];
    let tables = in_turn(&backends);
    Node::new("twice").with_tables(&with(&tables, placed_by(OLDER, &[])), |bench| {
        let data = |flow| tcp(flow, ACK, 0);
        let older: Vec<_> = flows(443).map(|flow| way(bench, &data(flow)).0).collect();
        bench.dataplane.apply(&with(&tables, placed_by(OLD, &[OLDER]))).expect("tables");
        let old: Vec<_> = flows(443).map(|flow| way(bench, &data(flow)).0).collect();

        bench.dataplane.apply(&with(&tables, placed_by(NEW, &[OLD, OLDER]))).expect("tables");

        for ((flow, older), old) in flows(443).zip(older).zip(old) {
            let (target, further) = way(bench, &data(flow));
            let mut asked: Vec<_> = target.into_iter().chain(further.clone()).collect();
            assert!([older, old].into_iter().flatten().all(|owner| asked.contains(&owner)));
            let count = asked.len();
            asked.sort();
            asked.dedup();
            assert_eq!(asked.len(), count, "nobody is asked twice");
        }
    });
}

#[test]
fn chains_of_both_slots_follow_as_far_as_the_header_holds() {
    let mut tables = in_turn(&["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"]);
    // Whoever has the slot, two others may have its flows: the fourth is one of them.
    let slots = [(0, 0), (1, 1)].map(|(current, chain)| Slot { current, chain });
    let slots = slots.into_iter().cycle().take(RING_SLOTS_MIN);
    tables.edge.rings = vec![Ring::chained(slots.collect::<Vec<_>>(), &[vec![2, 3], vec![3, 2]])];
    let hosts = |all: &[&str]| all.iter().map(|it| address(it)).collect::<Vec<_>>();
    let (one, other) = (address("10.1.0.2"), address("10.1.0.3"));
    Node::new("both").with_tables(&with(&tables, placed_by(NEW, &[OLD])), |bench| {
        let mut seen = std::collections::BTreeSet::new();
        for flow in flows(443) {
            let (target, further) = way(bench, &tcp(flow, ACK, 0));
            let target = target.expect("sent");
            seen.insert((target, further));
        }
        let expected = [
            (one, hosts(&["10.1.0.4", "10.1.0.5"])),
            (one, hosts(&["10.1.0.3", "10.1.0.4", "10.1.0.5"])),
            (other, hosts(&["10.1.0.5", "10.1.0.4"])),
            (other, hosts(&["10.1.0.2", "10.1.0.5", "10.1.0.4"])),
        ];
        assert_eq!(seen, expected.into());
    });
}

#[test]
fn flow_that_this_node_has_no_socket_for_goes_on_to_the_backend_of_the_former_key() {
    let tables = in_turn(&[OWN_V4, "10.1.0.3", "2001:db8:b::2"]);
    Node::new("here-former").with_tables(&with(&tables, placed_by(OLD, &[])), |bench| {
        let opening = |flow| tcp(flow, SYN, 0);
        let owners: Vec<_> = flows(443).map(|flow| way(bench, &opening(flow)).0).collect();

        bench.dataplane.apply(&with(&tables, placed_by(NEW, &[OLD]))).expect("tables");

        let mut taken_on = 0;
        for (flow, owner) in flows(443).zip(owners) {
            let (new, _) = way(bench, &opening(flow));
            let (target, further) = way(bench, &tcp(flow, ACK, 0));
            match (new, owner) {
                // From here it is a target of its own, whatever its family.
                (None, owner) => {
                    taken_on += usize::from(owner.is_some());
                    assert_eq!((target, further), (owner, Vec::new()));
                }
                (Some(new), owner) => {
                    let owner = owner.unwrap_or_else(|| address(OWN_V4));
                    let is_asked = owner != new && owner.is_ipv4() == new.is_ipv4();
                    let hops = Vec::from_iter(is_asked.then_some(owner));
                    assert_eq!((target, further), (Some(new), hops), "of one outer family");
                }
            }
        }
        assert!(taken_on > 5, "{taken_on} flows went on from here");
    });
}

#[test]
fn more_keys_than_there_is_room_for_are_refused() {
    let tables = one_service("10.1.0.2");
    Node::new("many-keys").with_tables(&tables, |bench| {
        let before = bench.dataplane.generation();
        let refused = with(&tables, placed_by(NEW, &[OLD, OLDER, FlowKey([4; 16])]));

        bench.dataplane.apply(&refused).expect_err("three others");

        assert_eq!(bench.dataplane.generation(), before);
    });
}

#[test]
fn next_process_goes_on_with_the_keys_in_force() {
    let node = Node::new("adopted-keys");
    let tables = with(&in_turn(&["10.1.0.2", "10.1.0.3"]), placed_by(NEW, &[OLD]));
    node.namespace.enter(|| {
        let (mut bench, _) = Bench::open(node.config());
        bench.dataplane.apply(&tables).expect("tables");
        bench.settle(&tables);
        drop(bench);

        let (bench, _) = Bench::open(node.config());
        bench.settle(&tables);
        for flow in flows(443) {
            let question = isocast_dataplane::Question::new(
                flow.source,
                flow.destination,
                isocast_dataplane::Transport::Tcp {
                    source_port: flow.source_port,
                    port: flow.port,
                    syn: false,
                },
            );
            let inspection = bench.dataplane.inspect(&question.expect("a packet")).expect("run");
            assert!(!inspection.differences.contains(&isocast_dataplane::Difference::Bytes));
        }
    });
}

#[test]
fn real_connections_survive_changes_of_all_keys() {
    let network = Network::new("rekey", 4);
    let backends = [BACKEND, BACKEND + 1].map(|host| host_addresses(host)[0].clone());
    let mut nodes = host_addresses(EDGE).to_vec();
    nodes.extend(backends.clone());
    let open = |host: usize| {
        network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
    };
    let mut planes = [EDGE, BACKEND, BACKEND + 1].map(open);
    let mut edge = edge_tables(&backends, 0, &[]);
    let slots = [0, 1].map(Slot::settled).into_iter().cycle().take(RING_SLOTS_MIN);
    edge.edge.rings = vec![Ring::from_positions(slots.collect::<Vec<_>>())];
    let tables = [edge, backend_tables(&nodes), backend_tables(&nodes)];
    let mut apply = |keys: Keyring| {
        for (plane, tables) in planes.iter_mut().zip(&tables) {
            plane.apply(&with(tables, keys.clone())).expect("tables");
        }
    };
    let ring = |sent, believed: [[u8; 4]; 2], flow, others: &[FlowKey]| Keyring {
        sent: KeyTag(sent),
        believed: believed.map(KeyTag),
        flow,
        other_flows: others.to_vec(),
    };
    const A: [u8; 4] = KEY_TAG;
    const B: [u8; 4] = OTHER_KEY_TAG;
    apply(ring(A, [A, A], OLD, &[]));
    serve(&network.hosts[BACKEND], "first");
    serve(&network.hosts[BACKEND + 1], "second");
    let connect = |vip: &&str| {
        let mut connection = Connection::open(&network.hosts[CLIENT], vip).expect("connect");
        let owner = connection.ask().expect("answer");
        (connection, owner)
    };
    let mut connections: Vec<_> = VIPS.iter().cycle().take(24).map(&connect).collect();

    for step in
        [ring(A, [A, B], OLD, &[NEW]), ring(B, [A, B], NEW, &[OLD]), ring(B, [B, B], NEW, &[OLD])]
    {
        apply(step);
        for (connection, owner) in &mut connections {
            assert_eq!(&connection.ask().expect("still there"), owner);
        }
        connections.extend(VIPS.iter().map(&connect));
    }
    let passed_on: u64 = planes[1..]
        .iter()
        .map(|plane| plane.counters().expect("counters").outcomes[&Outcome::SecondChance])
        .sum();
    assert!(passed_on > 0, "none of them had to be looked for");
}
