//! What becomes of packets that find only what is left of a closed connection: a user's port came
//! round, and anycast took the user to another host in between.

use std::{
    io::Read as _,
    net::{Shutdown, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::support::{
    network::{
        BACKEND, CLIENT, Connection, EDGE, NOBODY, Network, VIPS, backend_tables, edge_tables,
        host_addresses, serve,
    },
    node::{
        KEY_TAG, Node, OWN_V4, TENANT, accept, address, backend, bare, one_service, ring,
        tunnel_from,
    },
    packet::{ACK, Flow, RETURNS, Tunnel, encapsulate, flow, hops, reverse, tcp, too_big},
};
use isocast_dataplane::{Action, Claim, Dataplane, Outcome, Protocol, Question, Transport};

/// The client's port of every connection of it.
const CLIENT_PORT: u16 = 20_001;

/// A connection to `vip` that its server closed first: the flow, and the client's end of it.
fn closed_connection(vip: &str) -> Flow {
    // On loopback the address is, so the connection needs no network.
    let listener = TcpListener::bind((vip, 443)).expect("the VIP is on loopback");
    let mut client = TcpStream::connect((vip, 443)).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    let source = client.local_addr().expect("address");
    drop(server);
    assert_eq!(client.read(&mut [0; 1]).expect("the server's FIN"), 0);
    client.shutdown(Shutdown::Both).expect("the client's FIN");
    Flow { source_port: source.port(), source: source.ip(), ..flow(vip, vip, 443) }
}

#[test]
fn others_are_asked_first_and_the_packet_comes_back() {
    let cases = [
        ("192.0.2.10", "10.9.0.1", ["10.9.0.3", "10.9.0.9", "10.9.0.8"]),
        ("2001:db8:f::10", "2001:db8:e::1", ["2001:db8:e::3", "2001:db8:9::9", "2001:db8:9::8"]),
    ];
    let mut tables = bare();
    for (vip, edge, [other, ..]) in cases {
        tables.decap.sources.extend([edge, other].map(address));
        tables.decap.accepts.push(accept(vip, Protocol::Tcp, 443));
    }
    Node::new("closed").with_tables(&tables, |bench| {
        for (vip, edge, others) in cases {
            let flow = closed_connection(vip);
            let inner = tcp(flow, ACK, 0);
            let about_an_answer =
                too_big(address(edge), flow.destination, 1400, &tcp(reverse(flow), ACK, 0));
            bench.assert_goes_round(edge, others, &[&inner, &about_an_answer]);
        }
    });
}

#[test]
fn the_last_host_and_one_that_can_ask_nobody_keep_the_packet() {
    let (vip, edge) = ("192.0.2.10", "10.9.0.1");
    let mut tables = bare();
    tables.decap.sources = vec![address(edge)];
    tables.decap.accepts.push(accept(vip, Protocol::Tcp, 443));
    Node::new("closedlast").with_tables(&tables, |bench| {
        let inner = tcp(closed_connection(vip), ACK, 0);
        let unlisted = "10.9.0.9";
        for (flags, hops) in [(0, hops(&[])), (RETURNS, hops(&[])), (0, hops(&[unlisted]))] {
            let tunnel = Tunnel { flags, hops, ..tunnel_from(edge, &[]) };
            let outcome = bench.outcome_of(&encapsulate(&tunnel, &inner));
            assert_eq!(outcome, (Action::Pass, vec![Outcome::Decapsulated]), "{tunnel:?}");
        }
    });
}

#[test]
fn an_edge_that_is_the_backend_asks_others_first() {
    let node = Node::new("closededge");
    let mut tables = one_service(OWN_V4);
    tables.decap.accepts.push(accept("192.0.2.10", Protocol::Tcp, 443));
    tables.edge.backends.push(backend("b2", "10.1.0.3"));
    tables.edge.backends.push(backend("b3", "10.1.0.4"));
    for (chain, rest) in
        [(&[1_u16] as &[u16], &[OWN_V4] as &[&str]), (&[1, 2], &["10.1.0.4", OWN_V4])]
    {
        tables.edge.rings = vec![ring(0, chain)];
        node.with_tables(&tables, |bench| {
            let closed = closed_connection("192.0.2.10");
            let inner = tcp(closed, ACK, 0);
            let traced = bench.arrive(&inner);
            let leaving = Tunnel {
                source: address(OWN_V4),
                destination: address("10.1.0.3"),
                source_port: u16::from_be_bytes([traced.packet[34], traced.packet[35]]),
                tenant: TENANT,
                flags: RETURNS,
                key_tag: KEY_TAG,
                hops: hops(rest),
                class: 0,
            };
            let wanted = bench.leaving(&encapsulate(&leaving, &inner));
            assert_eq!((traced.action, traced.packet), (Action::Transmit, wanted));

            let Flow { source, destination, source_port, port } = closed;
            let within = Transport::Tcp { source_port, port, syn: false };
            let question = Question::new(source, destination, within).expect("a packet");
            let question = question.with_claim(Claim::Closed);
            assert_eq!(bench.dataplane.inspect(&question).expect("test run").differences, []);
        });
    }
}

#[test]
fn a_connection_lives_although_an_earlier_one_of_its_ports_is_remembered_elsewhere() {
    let network = Network::new("remembered", 4);
    let open = |host: usize| {
        network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
    };
    let backends = [host_addresses(BACKEND)[0].clone(), host_addresses(BACKEND + 1)[0].clone()];
    let mut nodes = host_addresses(EDGE).to_vec();
    nodes.extend(backends.clone());
    let (mut edge, mut first, mut second) = (open(EDGE), open(BACKEND), open(BACKEND + 1));
    first.apply(&backend_tables(&nodes)).expect("first");
    second.apply(&backend_tables(&nodes)).expect("second");
    serve(&network.hosts[BACKEND], "first");
    serve(&network.hosts[BACKEND + 1], "second");
    let connect = |vip: &str| {
        Connection::open_from(&network.hosts[CLIENT], CLIENT_PORT, vip).expect("connect")
    };

    edge.apply(&edge_tables(&backends, 0, NOBODY)).expect("edge");
    for vip in VIPS {
        let mut earlier = connect(vip);
        assert_eq!(earlier.ask().expect("answer"), "first");
        earlier.close().expect("close");
    }
    edge.apply(&edge_tables(&backends, 1, NOBODY)).expect("edge");
    let mut later: Vec<_> = VIPS.iter().map(|vip| connect(vip)).collect();
    for connection in &mut later {
        assert_eq!(connection.ask().expect("answer"), "second");
    }
    edge.apply(&edge_tables(&backends, 0, &[1])).expect("edge");

    for connection in &mut later {
        assert_eq!(connection.ask().expect("still there"), "second");
    }
    for connection in later {
        connection.close().expect("close");
    }
}

#[test]
fn the_end_of_a_connection_is_its_own_hosts() {
    let network = Network::new("itsown", 4);
    let open = |host: usize| {
        network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
    };
    let backends = [host_addresses(BACKEND)[0].clone(), host_addresses(BACKEND + 1)[0].clone()];
    let mut nodes = host_addresses(EDGE).to_vec();
    nodes.extend(backends.clone());
    let (mut edge, mut first) = (open(EDGE), open(BACKEND));
    first.apply(&backend_tables(&nodes)).expect("first");
    serve(&network.hosts[BACKEND], "first");
    edge.apply(&edge_tables(&backends, 0, &[1])).expect("edge");

    for vip in VIPS {
        let mut connection = Connection::open(&network.hosts[CLIENT], vip).expect("connect");
        assert_eq!(connection.ask().expect("answer"), "first");
        connection.close().expect("close");
    }

    let deadline = Instant::now() + Duration::from_secs(10);
    let unacknowledged =
        || network.hosts[CLIENT].run("ss -Htan state last-ack state closing state fin-wait-1");
    while !unacknowledged().is_empty() {
        assert!(Instant::now() < deadline, "the client's FIN was never acknowledged");
        std::thread::yield_now();
    }
    let outcomes = first.counters().expect("counters").outcomes;
    assert_eq!(outcomes[&Outcome::SecondChance], 0, "nobody else is asked");
}
