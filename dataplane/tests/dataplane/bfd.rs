//! BFD packets that the program answers, and those that it leaves to the agent.

use std::time::Duration;

use crate::support::{
    node::{Bench, Node, OWN_V4, OWN_V6, UPLINK, address, bare},
    packet::{Flow, ROUTER_MAC, ethernet, flow, udp},
};
use isocast_dataplane::{
    Action, Outcome,
    bfd::{Reflection, Reflector},
};

const OURS: u32 = 0x0102_0304;
const THEIRS: u32 = 0x0a0b_0c0d;
const ROUTER_V4: &str = "10.0.0.254";
const ROUTER_V6: &str = "2001:db8:a::fe";

fn control(flags: u8, my: u32, your: u32) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..4].copy_from_slice(&[0x20, flags, 3, 24]);
    for (at, word) in [(4, my), (8, your), (12, 50_000), (16, 50_000)] {
        bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Up.
fn expected() -> [u8; 24] {
    control(0xc0, THEIRS, OURS)
}

/// Up, control plane independent.
fn answer() -> [u8; 24] {
    control(0xc8, OURS, THEIRS)
}

fn reflection(local: &str, peer: &str) -> Reflection {
    Reflection {
        peer: address(peer),
        local: address(local),
        interface: nix::net::if_::if_nametoindex(UPLINK).expect("uplink"),
        source_port: 50_001,
        expected: expected(),
        answer: answer(),
        gap: Duration::ZERO,
    }
}

/// As the router sends it: hop limit 255.
fn request(flow: Flow, payload: &[u8]) -> Vec<u8> {
    over_one_hop(udp(Flow { source_port: 49_152, ..flow }, payload), 0xc0)
}

fn over_one_hop(mut packet: Vec<u8>, class: u8) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] = 255;
        packet[0] |= class >> 4;
        packet[1] |= class << 4;
        return packet;
    }
    let old = u16::from_be_bytes([packet[8], packet[9]]);
    let old_class = u16::from_be_bytes([packet[0], packet[1]]);
    packet[8] = 255;
    packet[1] = class;
    let sum = u16::from_be_bytes([packet[10], packet[11]]);
    let mut new = u32::from(!sum);
    for (old, at) in [(old, 8), (old_class, 0)] {
        new += u32::from(!old) + u32::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    }
    while new >> 16 != 0 {
        new = (new & 0xffff) + (new >> 16);
    }
    let [_, _, high, low] = (!new).to_be_bytes();
    packet[10..12].copy_from_slice(&[high, low]);
    packet
}

fn flows() -> [Flow; 2] {
    [flow(ROUTER_V4, OWN_V4, 3784), flow(ROUTER_V6, OWN_V6, 3784)]
}

/// A node that answers the router's sessions of both families, in turn.
fn with_reflector(part: &str, body: impl Fn(&mut Bench, &mut Reflector, Flow) + Send + Sync) {
    let node = Node::new(part);
    node.with_tables(&bare(), |bench| {
        let mut reflector = Reflector::open(&node.pin_dir).expect("maps");
        for flow in flows() {
            let (local, peer) = (flow.destination.to_string(), flow.source.to_string());
            reflector.put(&reflection(&local, &peer)).expect("entry");
            body(bench, &mut reflector, flow);
            reflector.remove(OURS).expect("gone");
        }
    });
}

#[test]
fn packet_that_the_agent_approved_is_answered_bit_for_bit() {
    with_reflector("bfd-answer", |bench, reflector, flow| {
        assert_eq!(reflector.heard(OURS).expect("read"), None);

        let traced = bench.arrive(&request(flow, &expected()));

        assert_eq!(traced.action, Action::Transmit);
        let back = Flow {
            source: flow.destination,
            destination: flow.source,
            source_port: 50_001,
            port: 3784,
        };
        let wanted = over_one_hop(udp(back, &answer()), 0xc0);
        assert_eq!(traced.packet, ethernet(ROUTER_MAC, bench.mac, &wanted));
        let heard = reflector.heard(OURS).expect("read").expect("heard");
        let outcome = bench.outcome_of(&request(flow, &expected()));
        assert_eq!(outcome, (Action::Transmit, vec![Outcome::BfdAnswered]));
        let later = reflector.heard(OURS).expect("read").expect("heard");
        assert_eq!((heard.answered, later.answered), (1, 2));
        assert!(later.at > heard.at);
    });
}

#[test]
fn everything_else_passes_to_the_agent_as_it_came() {
    with_reflector("bfd-pass", |bench, reflector, flow| {
        let with = |flags, my, your| request(flow, &control(flags, my, your));
        let mut authenticated = control(0xc4, THEIRS, OURS).to_vec();
        authenticated[3] = 28;
        authenticated.extend([0; 4]);
        let other_parameters = {
            let mut bytes = expected();
            bytes[15] = 0;
            bytes
        };
        let stranger = match flow.source {
            source if source.is_ipv4() => address("10.0.0.253"),
            _ => address("2001:db8:a::fd"),
        };
        let passed = [
            ("poll", with(0xe0, THEIRS, OURS)),
            ("final", with(0xd0, THEIRS, OURS)),
            ("down", with(0x40, THEIRS, OURS)),
            ("admin down", with(0x00, THEIRS, OURS)),
            ("demand", with(0xc2, THEIRS, OURS)),
            ("authentication", request(flow, &authenticated)),
            ("wrong discriminator", with(0xc0, THEIRS, OURS + 1)),
            ("another system", with(0xc0, THEIRS + 1, OURS)),
            ("no discriminator", with(0x40, THEIRS, 0)),
            ("other parameters", request(flow, &other_parameters)),
            ("short", request(flow, &expected()[..23])),
            ("long", request(flow, &[&expected()[..], &[0]].concat())),
            ("empty", request(flow, &[])),
            ("more than one hop", udp(flow, &expected())),
            ("multihop port", request(Flow { port: 4784, ..flow }, &expected())),
            ("echo port", request(Flow { port: 3785, ..flow }, &expected())),
            ("another peer", request(Flow { source: stranger, ..flow }, &expected())),
        ];
        for (name, packet) in passed {
            let traced = bench.arrive(&packet);

            assert_eq!(traced.action, Action::Pass, "{name}");
            assert_eq!(traced.packet, ethernet(bench.mac, ROUTER_MAC, &packet), "{name}");
        }
        assert_eq!(reflector.heard(OURS).expect("read"), None);
    });
}

#[test]
fn packet_cut_short_anywhere_passes() {
    with_reflector("bfd-cut", |bench, _, flow| {
        let whole = request(flow, &expected());
        for len in 20..whole.len() {
            assert_eq!(bench.arrive(&whole[..len]).action, Action::Pass, "{len} bytes");
        }
    });
}

#[test]
fn session_of_another_interface_is_not_answered() {
    with_reflector("bfd-iface", |bench, reflector, flow| {
        let (local, peer) = (flow.destination.to_string(), flow.source.to_string());
        let elsewhere = Reflection { interface: 1, ..reflection(&local, &peer) };
        reflector.put(&elsewhere).expect("entry");

        assert_eq!(bench.arrive(&request(flow, &expected())).action, Action::Pass);
    });
}

#[test]
fn two_programs_cannot_answer_each_other_for_ever() {
    with_reflector("bfd-gap", |bench, reflector, flow| {
        let (local, peer) = (flow.destination.to_string(), flow.source.to_string());
        let paced = Reflection { gap: Duration::from_secs(3600), ..reflection(&local, &peer) };
        reflector.put(&paced).expect("entry");

        assert_eq!(bench.arrive(&request(flow, &expected())).action, Action::Transmit);
        assert_eq!(bench.arrive(&request(flow, &expected())).action, Action::Pass);
    });
}

#[test]
fn removed_session_is_not_answered_and_removing_is_repeatable() {
    with_reflector("bfd-remove", |bench, reflector, flow| {
        reflector.remove(OURS).expect("once");
        reflector.remove(OURS).expect("twice");

        assert_eq!(bench.arrive(&request(flow, &expected())).action, Action::Pass);
        assert_eq!(reflector.all().expect("read"), []);
    });
}

#[test]
fn successor_finds_the_sessions_even_when_the_tables_have_another_layout() {
    let node = Node::new("bfd-adopt");
    node.with_tables(&bare(), |_| {
        let mut reflector = Reflector::open(&node.pin_dir).expect("maps");
        reflector.put(&reflection(OWN_V4, ROUTER_V4)).expect("entry");
    });
    node.change_layout();

    node.with_tables(&bare(), |bench| {
        let reflector = Reflector::open(&node.pin_dir).expect("maps");

        assert_eq!(reflector.all().expect("read"), [reflection(OWN_V4, ROUTER_V4)]);
        let answered = bench.arrive(&request(flows()[0], &expected())).action;
        assert_eq!(answered, Action::Transmit);
    });
}
