//! Slots that come to a host without an agent, or leave it: the flow table says whose a flow is.

use std::net::IpAddr;

use isocast_dataplane::{
    Action, Backend, Encap, Fragments, Note, Outcome, Question, Ring, Tables, Track, Transport,
};
use isocast_dataplane_common::{NO_CHAIN, RING_SLOTS_MIN, Slot, tracking::TRACKED_FLOWS};

use crate::support::{
    node::{Bench, Node, OWN_V4, address, backend, one_service},
    packet::{ACK, Flow, SYN, flow, reverse, tcp, too_big, udp},
};

/// Two hosts without an agent, two with one, and one of the other family.
const HOSTS: [&str; 5] = ["10.1.0.2", "2001:db8:b::2", "10.1.0.3", "10.1.0.4", "2001:db8:b::9"];
const PLAIN: [u16; 2] = [0, 1];
const FIN: u8 = 0x01;
const RST: u8 = 0x04;

fn hosts() -> Vec<Backend> {
    let host = |(n, address): (u16, &&str)| {
        let encap = if PLAIN.contains(&n) { Encap::Ip } else { Encap::Gue };
        Backend { encap, ..backend(&format!("b{n}"), address) }
    };
    (0..).zip(&HOSTS).map(host).collect()
}

fn track(former: u16, since: u32) -> Track {
    Track { former, further: Vec::new(), between: Vec::new(), since }
}

/// All slots are `current`'s, and tracked. Datagrams have a ring of their own, without tracks.
fn tables(current: u16, track: &Track, era: u32) -> Tables {
    let mut tables = one_service(HOSTS[0]);
    tables.edge.backends = hosts();
    tables.edge.rings = vec![tracked(current, track)];
    tables.edge.era = era;
    tables
}

fn tracked(current: u16, track: &Track) -> Ring {
    Ring::tracked([Slot::tracked(current, 0); RING_SLOTS_MIN], &[], std::slice::from_ref(track))
}

fn v4(source_port: u16) -> Flow {
    Flow { source_port, ..flow("198.51.100.7", "192.0.2.10", 443) }
}

fn v6(source_port: u16) -> Flow {
    Flow { source_port, ..flow("2001:db8:c::7", "2001:db8:f::10", 443) }
}

/// The host that a packet went to.
fn went(bench: &Bench, packet: &[u8]) -> u16 {
    let traced = bench.arrive(packet);
    assert_eq!(traced.action, Action::Transmit);
    let outer: IpAddr = match traced.packet[12..14] {
        [0x08, 0x00] => <[u8; 4]>::try_from(&traced.packet[30..34]).expect("four").into(),
        _ => <[u8; 16]>::try_from(&traced.packet[38..54]).expect("sixteen").into(),
    };
    (0..).zip(&HOSTS).find(|(_, host)| address(host) == outer).expect("one of the hosts").0
}

fn segment(bench: &Bench, flow: Flow, flags: u8) -> u16 {
    went(bench, &tcp(flow, flags, 0))
}

fn put(bench: &mut Bench, tables: &Tables) {
    bench.dataplane.apply(tables).expect("tables");
    bench.settle(tables);
}

fn question(flow: Flow, syn: bool) -> Question {
    let Flow { source, destination, source_port, port } = flow;
    let transport = Transport::Tcp { source_port, port, syn };
    Question::new(source, destination, transport).expect("a packet")
}

/// What the tables and the program say of a packet, the same.
fn note(bench: &Bench, flow: Flow, syn: bool) -> Note {
    let inspection = bench.dataplane.inspect(&question(flow, syn)).expect("test run");
    assert_eq!(inspection.differences, [], "{inspection:?}");
    let choice = inspection.explained.choice.expect("a slot");
    choice.tracking.expect("a tracked slot").note
}

#[test]
fn established_flow_stays_with_its_former_backend_and_a_new_one_begins_at_the_slots_own() {
    let node = Node::new("track");
    // Without an agent to with one, the other way round, and between two without.
    for (former, current) in [(0, 2), (2, 0), (0, 1), (1, 0), (3, 1), (1, 4)] {
        node.with_tables(&tables(current, &track(former, 1), 1), |bench| {
            for of in [v4, v6] {
                assert_eq!(segment(bench, of(1), ACK), former, "established before");
                assert_eq!(segment(bench, of(2), SYN), current);
                for flags in [ACK, ACK, ACK | FIN, ACK] {
                    assert_eq!(segment(bench, of(2), flags), current, "to its end");
                }
                assert_eq!(segment(bench, of(1), ACK), former, "still");
                // A new connection between the same ports.
                assert_eq!(segment(bench, of(1), SYN), current);
                assert_eq!(segment(bench, of(1), ACK | RST), current);
            }
            let former_v6 = HOSTS[usize::from(former)].contains(':');
            let packet = bench.arrive(&tcp(v4(9), ACK, 0)).packet;
            assert_eq!(packet[12..14] == [0x86, 0xdd], former_v6, "in the former's own header");
        });
    }
}

#[test]
fn what_is_noted_and_what_is_not_is_counted_and_explained() {
    let node = Node::new("trackcount");
    node.with_tables(&tables(2, &track(0, 1), 1), |bench| {
        let outcome = |flow, flags| bench.outcome_of(&tcp(flow, flags, 0)).1;
        let and = |outcome| vec![Outcome::Encapsulated, outcome];

        assert_eq!(note(bench, v4(1), true), Note::Made);
        assert_eq!(note(bench, v4(1), false), Note::Older, "a test run notes nothing");
        assert_eq!(outcome(v4(1), ACK), and(Outcome::FlowOfFormer));
        assert_eq!(outcome(v4(1), SYN), and(Outcome::FlowNoted));
        assert_eq!(outcome(v4(1), ACK), and(Outcome::FlowFound));
        assert_eq!(bench.dataplane.noted_flows(), 1);
        let Note::Found(member) = note(bench, v4(1), false) else { panic!("not found") };
        assert_eq!(member.address, address(HOSTS[2]));
        assert_eq!(note(bench, v6(1), false), Note::Older);
        // Another service's address, from the same port of the same client.
        let other = Flow { destination: address("192.0.2.11"), ..v4(1) };
        assert_eq!(outcome(other, ACK), []);
    });
}

#[test]
fn flow_keeps_its_backend_through_further_changes_until_the_slot_is_at_rest() {
    let node = Node::new("trackagain");
    let later =
        |former, between: &[u16], since| Track { between: between.into(), ..track(former, since) };
    node.with_tables(&tables(1, &track(0, 1), 1), |bench| {
        assert_eq!(segment(bench, v4(1), SYN), 1);
        assert_eq!(segment(bench, v4(1), ACK), 1);
        put(bench, &tables(2, &later(0, &[1], 1), 2));
        assert_eq!(segment(bench, v4(2), SYN), 2);
        put(bench, &tables(0, &later(0, &[2, 1], 1), 3));
        assert_eq!(segment(bench, v4(3), SYN), 0, "where it was before: that needs no note");
        assert_eq!(note(bench, v4(4), true), Note::NotNeeded);

        for (port, host) in [(1, 1), (2, 2), (3, 0), (4, 0)] {
            assert_eq!(segment(bench, v4(port), ACK), host, "{port}");
        }
        // The first host's time is over: what is not noted is the second's, as is what was noted.
        put(bench, &tables(2, &track(1, 2), 4));
        for (port, host) in [(1, 1), (2, 2), (5, 1)] {
            assert_eq!(segment(bench, v4(port), ACK), host, "{port}");
        }
        let mut rest = one_service(HOSTS[2]);
        rest.edge.era = 4;
        put(bench, &rest);
        assert_eq!(segment(bench, v4(1), ACK), 2);
    });
}

#[test]
fn note_of_an_earlier_time_says_nothing() {
    let node = Node::new("trackpast");
    node.with_tables(&tables(2, &track(0, 1), 1), |bench| {
        assert_eq!(segment(bench, v4(1), SYN), 2);
        assert_eq!(segment(bench, v4(1), ACK), 2);
        // At rest for a while, in which the client connects anew from the same port.
        let mut rest = one_service(HOSTS[0]);
        (rest.edge.backends, rest.edge.era) = (hosts(), 2);
        put(bench, &rest);
        assert_eq!(segment(bench, v4(1), SYN), 0);

        put(bench, &tables(2, &track(0, 3), 3));
        assert_eq!(segment(bench, v4(1), ACK), 0, "not where the earlier one was");
        assert_eq!(note(bench, v4(1), false), Note::Older);
        assert_eq!(bench.dataplane.noted_flows(), 0);
    });
}

#[test]
fn host_that_the_slot_does_not_name_gets_nothing() {
    let node = Node::new("trackgone");
    node.with_tables(&tables(2, &track(0, 1), 1), |bench| {
        assert_eq!(segment(bench, v4(1), SYN), 2);
        assert_eq!(segment(bench, v4(1), ACK), 2);
        // The number that is noted may be somebody else's by now.
        put(bench, &tables(3, &track(0, 1), 2));
        assert_eq!(segment(bench, v4(1), ACK), 0);
        assert_eq!(note(bench, v4(1), false), Note::Older);
    });
}

#[test]
fn former_backend_with_an_agent_passes_on_what_is_not_its_own() {
    let node = Node::new("trackchain");
    let with_chain = Track { further: vec![3, 0, 4], ..track(2, 1) };
    node.with_tables(&tables(0, &with_chain, 1), |bench| {
        let packet = bench.arrive(&tcp(v4(1), ACK, 0)).packet;
        assert_eq!(&packet[30..34], [10, 1, 0, 3]);
        // One further hop: a host without an agent is none, nor is one of the other family.
        assert_eq!((packet[42], &packet[54..58]), (3, &[10, 1, 0, 4][..]));
        assert_eq!(segment(bench, v4(1), SYN), 0);
        assert_eq!(segment(bench, v4(1), ACK), 0);
        assert_eq!(note(bench, v4(2), false), Note::Older);
    });
    let mut here = tables(0, &with_chain, 1);
    here.edge.backends[2] = backend("b2", OWN_V4);
    node.with_tables(&here, |bench| {
        let packet = bench.arrive(&tcp(v4(3), ACK, 0)).packet;
        assert_eq!(&packet[30..34], [10, 1, 0, 4], "this node has no socket for it");
        assert_eq!(note(bench, v4(2), false), Note::Older);
    });
}

#[test]
fn error_goes_where_the_flow_goes_that_it_quotes() {
    let node = Node::new("trackquote");
    node.with_tables(&tables(2, &track(0, 1), 1), |bench| {
        for of in [v4, v6] {
            assert_eq!(segment(bench, of(1), SYN), 2);
            let error = |flow: Flow| {
                let quote = tcp(reverse(flow), ACK, 0);
                too_big(address("203.0.113.9"), flow.destination, 1400, &quote)
            };
            if of(1).source.is_ipv4() {
                assert_eq!((went(bench, &error(of(1))), went(bench, &error(of(2)))), (2, 0));
            }
            // Nobody heard of the client: what opens is no more than that.
            assert_eq!(bench.counters().outcomes[&Outcome::FlowForgotten], 0);
        }
    });
}

#[test]
fn datagrams_and_pieces_are_the_slots_own_backends() {
    let node = Node::new("trackudp");
    let mut tables = tables(2, &track(0, 1), 1);
    for vip in &mut tables.edge.vips {
        vip.rules.fragments = Fragments::Hash;
    }
    node.with_tables(&tables, |bench| {
        let datagram = Flow { port: 53, ..v4(1) };
        assert_eq!(went(bench, &udp(datagram, b"query")), 2);
        // All segments of a client find one slot, and are told apart in it.
        assert_eq!(segment(bench, v4(1), SYN), 2);
        assert_eq!((segment(bench, v4(1), ACK), segment(bench, v4(2), ACK)), (2, 0));
        let mut piece = tcp(v4(1), ACK, 0);
        piece[6] = 0x20;
        assert_eq!(went(bench, &piece), 2);
    });
}

#[test]
fn full_table_forgets_no_connection_that_went_on_and_lets_others_begin_at_the_former_backend() {
    let node = Node::new("trackfull");
    node.with_tables(&tables(2, &track(0, 1), 1), |bench| {
        let nth = |n: u32| {
            let [_, a, b, c] = n.to_be_bytes();
            Flow { source: IpAddr::from([100, 64 + a, b, c]), ..v4(4711) }
        };
        let (established, flood) = (TRACKED_FLOWS / 32, TRACKED_FLOWS / 2);
        let number = |n: usize| u32::try_from(n).expect("few");
        let (established, flood) = (number(established), number(flood));
        for n in 0..established {
            assert_eq!((segment(bench, nth(n), SYN), segment(bench, nth(n), ACK)), (2, 2));
        }
        for n in established..established + flood {
            assert_eq!(segment(bench, nth(n), SYN), 2, "one that opened gives it its place");
        }
        let outcomes = bench.counters().outcomes;
        assert!(outcomes[&Outcome::FlowForgotten] > 0 && outcomes[&Outcome::FlowNotNoted] == 0);
        let all_are_found =
            |bench: &Bench| (0..established).all(|n| segment(bench, nth(n), ACK) == 2);
        assert!(all_are_found(bench));
        // Connections that go on, until a line of the table is full of them.
        let mut further = established + flood..;
        let unnoted = further.find(|n| {
            let began = segment(bench, nth(*n), SYN);
            assert_eq!(segment(bench, nth(*n), ACK), began, "where it began");
            began == 0
        });
        let unnoted = nth(unnoted.expect("a full line"));
        assert_eq!(note(bench, unnoted, true), Note::NoPlace);
        assert_eq!(note(bench, unnoted, false), Note::Older);
        assert_eq!(bench.counters().outcomes[&Outcome::FlowNotNoted], 2, "and once by a test run");
        assert!(all_are_found(bench) && bench.dataplane.noted_flows() <= TRACKED_FLOWS);
    });
}

#[test]
fn successor_remembers_what_was_noted_and_one_that_counts_anew_does_not() {
    let node = Node::new("trackadopt");
    let in_force = tables(2, &track(0, 5), 5);
    node.with_tables(&in_force, |bench| {
        assert_eq!(segment(bench, v4(1), SYN), 2);
        assert_eq!(segment(bench, v4(1), ACK), 2);
    });
    node.namespace.enter(|| {
        let (mut bench, _) = Bench::open(node.config());
        assert_eq!(segment(&bench, v4(1), ACK), 2);
        let Note::Found(_) = note(&bench, v4(1), false) else { panic!("not found") };
        put(&mut bench, &in_force);
        assert_eq!(segment(&bench, v4(1), ACK), 2);
        // Whoever steers has forgotten what was before.
        put(&mut bench, &tables(2, &track(0, 1), 1));
        assert_eq!(segment(&bench, v4(1), ACK), 0);
        assert_eq!(bench.dataplane.noted_flows(), 0);
    });
}

#[test]
fn slot_without_a_track_has_none_of_it() {
    let node = Node::new("trackrest");
    let mut rest = tables(2, &track(0, 1), 1);
    rest.edge.rings =
        vec![Ring::chained([Slot { current: 2, chain: NO_CHAIN }; RING_SLOTS_MIN], &[])];
    node.with_tables(&rest, |bench| {
        for flags in [SYN, ACK] {
            let outcome = bench.outcome_of(&tcp(v4(1), flags, 0));
            assert_eq!(outcome, (Action::Transmit, vec![Outcome::Encapsulated]));
        }
        assert_eq!(bench.dataplane.noted_flows(), 0);
    });
}
