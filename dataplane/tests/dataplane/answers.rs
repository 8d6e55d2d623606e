//! Whose a UDP flow is: who answered it.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use isocast_dataplane::{
    Action, Claim, Config, Dataplane, Outcome, Protocol, Question, Tables, Transport, Vip,
};
use isocast_dataplane_common::limits::ANSWERED_FLOWS;

use crate::support::{
    network::{
        BACKEND, CLIENT, EDGE, NOBODY, Network, VIPS, backend_tables, edge_tables, host_addresses,
    },
    node::{
        Bench, Node, OWN_V4, OWN_V6, accept, address, backend, bare, one_service, ring, tunnel_from,
    },
    packet::{Flow, RETURNS, SECOND_HOP, Tunnel, encapsulate, flow, reverse, too_big, udp},
    run,
};

const VIP_V4: &str = "192.0.2.10";
const VIP_V6: &str = "2001:db8:f::10";
const EDGE_V4: &str = "10.9.0.1";
const EDGE_V6: &str = "2001:db8:e::1";
const OTHERS_V4: [&str; 3] = ["10.9.0.3", "10.9.0.9", "10.9.0.8"];
const OTHERS_V6: [&str; 3] = ["2001:db8:e::3", "2001:db8:9::9", "2001:db8:9::8"];

fn tables() -> Tables {
    let mut tables = bare();
    let [first_v4, first_v6] = [OTHERS_V4[0], OTHERS_V6[0]];
    tables.decap.sources = [EDGE_V4, EDGE_V6, first_v4, first_v6].map(address).to_vec();
    for vip in [VIP_V4, VIP_V6] {
        tables.decap.accepts.push(accept(vip, Protocol::Udp, 53));
    }
    tables
}

fn flows() -> [Flow; 2] {
    [flow("198.51.100.7", VIP_V4, 53), flow("2001:db8:c::7", VIP_V6, 53)]
}

/// Sends a datagram from the service's port to the flow's client.
fn answer(flow: Flow) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let socket = loop {
        match UdpSocket::bind((flow.destination, flow.port)) {
            // A program that another test is starting holds on to the last one until it runs.
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::yield_now();
            }
            bound => break bound.expect("the VIP is on loopback"),
        }
    };
    socket.send_to(b"a", (flow.source, flow.source_port)).expect("send");
}

/// Delivered, or passed on.
fn fate(bench: &Bench, tunnel: &Tunnel, inner: &[u8]) -> Outcome {
    match bench.outcome_of(&encapsulate(tunnel, inner)) {
        (Action::Pass, counted) if counted == [Outcome::Decapsulated] => Outcome::Decapsulated,
        (Action::Transmit, counted) if counted == [Outcome::SecondChance] => Outcome::SecondChance,
        other => panic!("{other:?}"),
    }
}

#[test]
fn datagram_that_nobody_answered_goes_round_and_comes_back() {
    Node::new("unanswered").with_tables(&tables(), |bench| {
        for (edge, others) in [(EDGE_V4, OTHERS_V4), (EDGE_V6, OTHERS_V6)] {
            for flow in flows() {
                let inner = udp(flow, b"q");
                let about_an_answer =
                    too_big(flow.source, flow.destination, 1400, &udp(reverse(flow), b"answer"));
                bench.assert_goes_round(edge, others, &[&inner, &about_an_answer]);
                let back = Tunnel { flags: SECOND_HOP | RETURNS, ..tunnel_from(edge, &[]) };
                assert_eq!(fate(bench, &back, &inner), Outcome::Decapsulated);
            }
        }
    });
}

#[test]
fn answered_flow_stays_and_its_neighbours_do_not() {
    Node::new("answered").with_tables(&tables(), |bench| {
        for flow in flows() {
            let neighbours = [
                Flow { source_port: flow.source_port + 1, ..flow },
                Flow {
                    source: address(if flow.source.is_ipv4() {
                        "198.51.100.8"
                    } else {
                        "2001:db8:c::8"
                    }),
                    ..flow
                },
            ];
            answer(flow);
            for (edge, others) in [(EDGE_V4, OTHERS_V4), (EDGE_V6, OTHERS_V6)] {
                let tunnel = tunnel_from(edge, &others[..1]);
                let error = |flow: Flow| {
                    too_big(flow.source, flow.destination, 1400, &udp(reverse(flow), b"answer"))
                };
                assert_eq!(fate(bench, &tunnel, &udp(flow, b"q")), Outcome::Decapsulated);
                assert_eq!(fate(bench, &tunnel, &error(flow)), Outcome::Decapsulated);
                for other in neighbours {
                    assert_eq!(fate(bench, &tunnel, &udp(other, b"q")), Outcome::SecondChance);
                    assert_eq!(fate(bench, &tunnel, &error(other)), Outcome::SecondChance);
                }
            }
        }
    });
}

#[test]
fn busy_flow_is_noted_once_and_what_is_not_served_never() {
    Node::new("noted").with_tables(&tables(), |bench| {
        let noted = || bench.counters().outcomes[&Outcome::AnswerNoted];
        for flow in flows() {
            let before = noted();
            for _ in 0..100 {
                answer(flow);
            }
            assert_eq!(noted(), before + 1);
            answer(Flow { port: 54, ..flow });
            answer(Flow {
                destination: address(if flow.source.is_ipv4() { OWN_V4 } else { OWN_V6 }),
                ..flow
            });
            assert_eq!(noted(), before + 1);
        }
    });
}

#[test]
fn flow_that_cannot_be_passed_on_begins_here_unless_it_comes_from_another_backend() {
    let unlisted = [OTHERS_V4[1]];
    Node::new("nowhere").with_tables(&tables(), |bench| {
        let inner = udp(flows()[0], b"q");
        let own = tunnel_from(EDGE_V4, &unlisted);
        assert_eq!(fate(bench, &own, &inner), Outcome::Decapsulated);
        let former = Tunnel { flags: SECOND_HOP | RETURNS, ..own };
        let outcome = bench.outcome_of(&encapsulate(&former, &inner));
        assert_eq!(outcome, (Action::Drop, vec![Outcome::UnlistedHop]));
    });
}

#[test]
fn strangers_beyond_the_limit_are_delivered_where_flows_begin() {
    let node = Node::new("udpmany");
    node.namespace.enter(|| {
        let (mut bench, _) = Bench::open(Config { pass_on_per_second: 1, ..node.config() });
        bench.dataplane.apply(&tables()).expect("tables");
        bench.settle(&tables());
        let packet = encapsulate(&tunnel_from(EDGE_V4, &OTHERS_V4[..1]), &udp(flows()[0], b"q"));
        let counted = |outcome| bench.counters().outcomes[&outcome];

        // Unless the window ends between them, the second one is too many.
        let is_delivered = (0..1000).any(|_| {
            bench.arrive(&packet);
            counted(Outcome::Decapsulated) > 0
        });

        assert!(is_delivered, "a thousand times a window ended");
        assert!(counted(Outcome::SecondChance) > 0);
        assert_eq!(counted(Outcome::SecondChanceLimited), 0);
    });
}

#[test]
fn flood_of_new_flows_takes_the_place_of_those_that_were_answered_once() {
    Node::new("forgotten").with_tables(&tables(), |bench| {
        let [once, _] = flows();
        let often = Flow { source_port: once.source_port + 1, ..once };
        answer(once);
        answer(often);
        answer(often);

        let socket = UdpSocket::bind((VIP_V4, 53)).expect("the VIP is on loopback");
        let client = |n: usize| {
            let [.., a, b, c] = n.to_be_bytes();
            SocketAddr::from(([100, a, b, c], 40_000))
        };
        let many = 2 * ANSWERED_FLOWS;
        for n in 0..many {
            socket.send_to(b"a", client(n)).expect("send");
        }

        let last = Flow { source: client(many - 1).ip(), ..once };
        let tunnel = tunnel_from(EDGE_V4, &OTHERS_V4[..1]);
        assert_eq!(fate(bench, &tunnel, &udp(last, b"q")), Outcome::Decapsulated);
        assert_eq!(fate(bench, &tunnel, &udp(often, b"q")), Outcome::Decapsulated);
        assert_eq!(fate(bench, &tunnel, &udp(once, b"q")), Outcome::SecondChance);
    });
}

/// Makes everything that is remembered so old.
fn age(node: &Node, span: Duration) {
    let find = format!("find {} -name ANSWERED", node.pin_dir.display());
    let data = MapData::from_pin(run(&find).trim()).expect("pinned");
    let mut map: HashMap<_, [u32; 9], u64> =
        Map::LruHashMap(data).try_into().expect("flows and times");
    let keys: Vec<_> = map.keys().collect::<Result<_, _>>().expect("keys");
    assert!(!keys.is_empty());
    for key in keys {
        let then = map.get(&key, 0).expect("a time");
        let then = then.saturating_sub(u64::try_from(span.as_nanos()).expect("short"));
        map.insert(key, then, 0).expect("write");
    }
}

#[test]
fn answer_is_forgotten_after_its_lifetime_and_remembered_over_a_restart() {
    let node = Node::new("lifetime");
    let [flow, _] = flows();
    let (tunnel, inner) = (tunnel_from(EDGE_V4, &OTHERS_V4[..1]), udp(flow, b"q"));
    node.with_tables(&tables(), |bench| {
        answer(flow);
        age(&node, Duration::from_secs(110));
        assert_eq!(fate(bench, &tunnel, &inner), Outcome::Decapsulated);
    });
    node.namespace.enter(|| {
        let (bench, _) = Bench::open(node.config());
        assert_eq!(fate(&bench, &tunnel, &inner), Outcome::Decapsulated);
        age(&node, Duration::from_secs(11));
        assert_eq!(fate(&bench, &tunnel, &inner), Outcome::SecondChance);
        // It has not ended: the next answer is noted.
        answer(flow);
        assert_eq!(fate(&bench, &tunnel, &inner), Outcome::Decapsulated);
    });
}

#[test]
fn edge_that_is_the_backend_asks_itself_and_then_the_others() {
    let node = Node::new("udpedge");
    let mut tables = one_service(OWN_V4);
    tables.decap.accepts.push(accept(VIP_V4, Protocol::Udp, 53));
    tables.edge.backends.push(backend("b2", "10.1.0.3"));
    tables.edge.backends.push(backend("b3", "10.1.0.4"));
    tables.edge.rings = vec![ring(0, &[1, 2])];
    node.with_tables(&tables, |bench| {
        let [flow, _] = flows();
        let inner = udp(flow, b"q");
        let traced = bench.arrive(&inner);
        let leaving = Tunnel {
            source: address(OWN_V4),
            destination: address("10.1.0.3"),
            source_port: u16::from_be_bytes([traced.packet[34], traced.packet[35]]),
            flags: RETURNS,
            ..tunnel_from(EDGE_V4, &["10.1.0.4", OWN_V4])
        };
        let wanted = bench.leaving(&encapsulate(&leaving, &inner));
        assert_eq!((traced.action, traced.packet), (Action::Transmit, wanted));

        let Flow { source, destination, source_port, port } = flow;
        let datagram = Transport::Udp { source_port, port };
        let question = Question::new(source, destination, datagram).expect("a packet");
        assert_eq!(bench.dataplane.inspect(&question).expect("test run").differences, []);
        answer(flow);
        let delivered = (Action::Pass, vec![Outcome::DeliveredHere]);
        assert_eq!(bench.outcome_of(&inner), delivered);
        let explained = bench.dataplane.explain_arrival(&question.with_claim(Claim::Open));
        assert_eq!(explained.expect("explained").outcome, Some(Outcome::DeliveredHere));
    });
}

const PORT: u16 = 53;

fn with_udp(mut tables: Tables) -> Tables {
    let datagrams = |vip: &Vip| Vip { protocol: Protocol::Udp, port: PORT, ..vip.clone() };
    let vips: Vec<_> = tables.edge.vips.iter().map(datagrams).collect();
    tables.edge.vips.extend(vips);
    if !tables.decap.accepts.is_empty() {
        tables.decap.accepts.extend(VIPS.map(|vip| accept(vip, Protocol::Udp, PORT)));
    }
    tables
}

/// Answers every datagram with `name`.
fn serve(network: &Network, host: usize, name: &'static str) {
    for vip in VIPS {
        let socket = network.hosts[host]
            .enter(|| UdpSocket::bind((vip, PORT)).expect("the VIP is on loopback"));
        thread::spawn(move || {
            while let Ok((_, client)) = socket.recv_from(&mut [0; 64]) {
                let _lost = socket.send_to(name.as_bytes(), client);
            }
        });
    }
}

/// A client's socket, and who answers it.
fn client(network: &Network, vip: &str) -> UdpSocket {
    let any = if vip.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = network.hosts[CLIENT].enter(|| UdpSocket::bind(any).expect("a port"));
    socket.connect((vip, PORT)).expect("a route");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    socket
}

fn ask(socket: &UdpSocket) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut answer = [0; 64];
    loop {
        socket.send(b"who").expect("send");
        if let Ok(len) = socket.recv(&mut answer) {
            return String::from_utf8_lossy(&answer[..len]).into_owned();
        }
        assert!(Instant::now() < deadline, "nobody answers");
    }
}

#[test]
fn live_flow_stays_at_its_backend_when_its_slot_changes_hands_and_a_new_one_goes_to_the_new() {
    let network = Network::new("udp", 5);
    let open = |host: usize| {
        network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
    };
    for outer in [0, 1] {
        let hosts = [BACKEND, BACKEND + 1, BACKEND + 2];
        let addresses = hosts.map(|host| host_addresses(host)[outer].clone());
        let mut nodes = host_addresses(EDGE).to_vec();
        nodes.extend(addresses.clone());
        let mut edge = open(EDGE);
        let mut backends = hosts.map(open);
        for (backend, (host, name)) in
            backends.iter_mut().zip(hosts.into_iter().zip(["first", "second", "third"]))
        {
            backend.apply(&with_udp(backend_tables(&nodes))).expect("backend");
            if outer == 0 {
                serve(&network, host, name);
            }
        }
        let begin = |name: &str| -> Vec<UdpSocket> {
            let sockets = VIPS.map(|vip| client(&network, vip));
            for socket in &sockets {
                assert_eq!(ask(socket), name);
            }
            sockets.into()
        };

        edge.apply(&with_udp(edge_tables(&addresses, 0, NOBODY))).expect("edge");
        let first = begin("first");
        edge.apply(&with_udp(edge_tables(&addresses, 1, &[0]))).expect("edge");
        let second = begin("second");
        edge.apply(&with_udp(edge_tables(&addresses, 2, &[1, 0]))).expect("edge");
        let third = begin("third");

        for (sockets, name) in [(first, "first"), (second, "second"), (third, "third")] {
            for socket in &sockets {
                for _ in 0..3 {
                    assert_eq!(ask(socket), name);
                }
            }
        }
        let chances =
            |it: &Dataplane| it.counters().expect("counters").outcomes[&Outcome::SecondChance];
        assert!(backends.iter().all(|it| chances(it) > 0), "all were asked");
    }
}
