//! What the program makes of packets that do not fit the path with an outer header on.

use isocast_dataplane::{Action, Outcome};

use crate::{
    edge::{v4, v6},
    support::{
        node::{Bench, Node, address, backend, bare, one_service, ring},
        packet::{ACK, Flow, ip, reverse, tcp, too_big, udp},
    },
};

/// The uplink of a [`Node`] takes 1600 bytes; 40 or 60 of outer headers and three further hops.
const ROOM_V4: usize = 1600 - 52;
const ROOM_V6: usize = 1600 - 108;

/// A datagram of `flow` that is `len` bytes long, IP header included.
fn datagram(flow: Flow, len: usize) -> Vec<u8> {
    let headers = if flow.source.is_ipv4() { 28 } else { 48 };
    udp(flow, &vec![7; len - headers])
}

fn assert_answered(bench: &Bench, flow: Flow, packet: &[u8], room: usize) {
    let traced = bench.arrive(packet);
    let room = u32::try_from(room).expect("small");
    let answer = reverse(flow);
    let mut wanted = too_big(answer.source, answer.destination, room, &packet[..128]);
    if flow.source.is_ipv4() {
        // Answers may be fragmented; the builder of packets says they may not.
        wanted[6] = 0;
        wanted[10] += 0x40;
    }
    assert_eq!(traced.action, Action::Transmit, "{room}");
    assert_eq!(traced.packet, bench.leaving(&wanted), "{room}");
}

#[test]
fn what_fits_is_forwarded_and_one_byte_more_is_answered() {
    for (backend_address, room) in [("10.1.0.2", ROOM_V4), ("2001:db8:b::2", ROOM_V6)] {
        let node = Node::new(if room == ROOM_V6 { "big6" } else { "big4" });
        node.with_tables(&one_service(backend_address), |bench| {
            for flow in [v4(53), v6(53)] {
                let fits = bench.outcome_of(&datagram(flow, room));
                assert_eq!(fits, (Action::Transmit, vec![Outcome::Encapsulated]));
                let packet = datagram(flow, room + 1);
                let answered = (Action::Transmit, vec![Outcome::TooBigAnswered]);
                assert_eq!(bench.outcome_of(&packet), answered);
                assert_answered(bench, flow, &packet, room);
                assert_answered(bench, flow, &datagram(flow, 3000), room);
            }
        });
    }
}

#[test]
fn flow_that_fits_goes_on_to_fit_in_a_slot_in_transition() {
    for (network, room) in [("10.1.0.", ROOM_V4), ("2001:db8:b::", ROOM_V6)] {
        let node = Node::new(if room == ROOM_V6 { "bighop6" } else { "bighop4" });
        let mut tables = one_service(&format!("{network}2"));
        for n in 3..6 {
            tables.edge.backends.push(backend(&format!("b{n}"), &format!("{network}{n}")));
        }
        tables.edge.rings = vec![ring(0, &[1, 2, 3])];
        node.with_tables(&tables, |bench| {
            let mut segment = tcp(v4(443), ACK, 0);
            let payload = segment.split_off(20);
            let payload = [payload, vec![0; room]].concat();
            let flow = v4(443);
            let packet = ip(flow.source, flow.destination, 6, 0, &payload[..room - 20]);
            let traced = bench.arrive(&packet);
            assert_eq!(traced.action, Action::Transmit);
            assert_eq!(traced.packet.len(), 14 + 1600);
        });
    }
}

#[test]
fn routes_own_mtu_counts() {
    let node = Node::new("bigroute");
    node.namespace.run("ip route add 10.1.0.0/24 via 10.0.0.254 mtu 1400");
    node.namespace.run("ip -6 route add 2001:db8:b::/64 via 2001:db8:a::fe mtu 1450");
    for (backend_address, room) in [("10.1.0.2", 1400 - 52), ("2001:db8:b::2", 1450 - 108)] {
        node.with_tables(&one_service(backend_address), |bench| {
            for flow in [v4(53), v6(53)] {
                let fits = bench.outcome_of(&datagram(flow, room));
                assert_eq!(fits, (Action::Transmit, vec![Outcome::Encapsulated]));
                assert_answered(bench, flow, &datagram(flow, room + 1), room);
            }
        });
    }
}

#[test]
fn operators_word_about_an_uplink_counts_where_it_is_less() {
    for (part, told, room) in [("bigword", 1400, 1400 - 52), ("bigwords", 9000, ROOM_V4)] {
        let node = Node::new(part);
        node.namespace.enter(|| {
            let mut config = node.config();
            config.uplinks[0].mtu = Some(told);
            let tables = one_service("10.1.0.2");
            let mut bench = Bench::open(config).0;
            bench.dataplane.apply(&tables).expect("tables");
            bench.settle(&tables);
            assert_answered(&bench, v4(53), &datagram(v4(53), room + 1), room);
        });
    }
}

#[test]
fn changed_mtu_of_the_uplink_comes_into_force() {
    let node = Node::new("bigchange");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let packet = datagram(v4(53), 1500);
        assert_eq!(bench.outcome_of(&packet).1, [Outcome::Encapsulated]);
        node.namespace.run("ip link set up0 mtu 1500");
        let followed = crate::support::wait_for(&mut bench.dataplane.next_hops(), |next_hops| {
            next_hops[&address("10.1.0.2")].is_ok_and(|next_hop| next_hop.mtu == 1500)
        });
        assert!(followed, "the MTU was not followed");
        assert_answered(bench, v4(53), &packet, 1500 - 52);
    });
}

#[test]
fn sender_that_cannot_be_told_loses_the_packet() {
    let dropped = (Action::Drop, vec![Outcome::TooBig]);
    let node = Node::new("bigsilent");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let mut may_be_fragmented = datagram(v4(53), 1590);
        may_be_fragmented[6] = 0;
        assert_eq!(bench.outcome_of(&may_be_fragmented), dropped, "no DF");

        let error = too_big(
            address("198.51.100.99"),
            v4(53).destination,
            1400,
            &datagram(reverse(v4(53)), 1580),
        );
        assert_eq!(bench.outcome_of(&error), dropped, "an error");
    });
    // Nobody believes that a path of IPv6 is narrower than 1280.
    node.namespace.run("ip route add 10.1.0.0/24 via 10.0.0.254 mtu 1300");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        assert_eq!(bench.outcome_of(&datagram(v6(53), 1270)), dropped, "IPv6");
        let answered = (Action::Transmit, vec![Outcome::TooBigAnswered]);
        assert_eq!(bench.outcome_of(&datagram(v4(53), 1270)), answered, "IPv4");
    });
}

#[test]
fn answers_are_limited_and_the_rest_counted() {
    const BURST: u32 = 100;
    Node::new("bigpace").with_tables(&one_service("10.1.0.2"), |bench| {
        let packet = datagram(v4(53), 1590);
        let started = std::time::Instant::now();
        for _ in 0..3 * BURST {
            bench.arrive(&packet);
        }
        // One comes back each millisecond, on each of the CPUs that this thread ran on.
        let elapsed = u64::try_from(started.elapsed().as_millis()).expect("short");
        let cpus = u64::try_from(std::thread::available_parallelism().expect("CPUs").get());
        let at_most = (u64::from(BURST) + elapsed + 1) * cpus.expect("few");
        let outcomes = bench.counters().outcomes;
        let (told, untold) =
            (outcomes[&Outcome::TooBigAnswered], outcomes[&Outcome::AnswerLimited]);
        assert_eq!(told + untold, u64::from(3 * BURST));
        assert!((u64::from(BURST)..=at_most).contains(&told), "{told} told in {elapsed} ms");
    });
}

#[test]
fn further_hop_is_not_sent_what_does_not_fit() {
    use crate::support::{
        node::{accept, tunnel_from},
        packet::encapsulate,
    };
    let mut tables = bare();
    tables.decap.sources = ["10.9.0.1", "10.1.0.3"].map(address).to_vec();
    tables.decap.accepts.push(accept("192.0.2.10", isocast_dataplane::Protocol::Tcp, 443));
    let node = Node::new("bigfurther");
    node.namespace.run("ip route add 10.1.0.0/24 via 10.0.0.254 mtu 80");
    node.with_tables(&tables, |bench| {
        let packet = encapsulate(&tunnel_from("10.9.0.1", &["10.1.0.3"]), &tcp(v4(443), ACK, 0));
        assert_eq!(bench.outcome_of(&packet), (Action::Drop, vec![Outcome::TooBig]));
    });
}
