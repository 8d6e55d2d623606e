//! A flood of new flows, and clients that get through it.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use isocast_dataplane::{Ceilings, Dataplane, Outcome, Refused, ServiceKey, ServicePolicy, Tables};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::support::{
    network::{
        BACKEND, CLIENT, Connection, EDGE, NOBODY, Network, PORT, VIPS, backend_tables,
        edge_tables, host_addresses, serve,
    },
    packet::{Flow, SYN, tcp},
};

fn tables(syn_cookies: bool, new_flows_per_second: u32) -> Tables {
    let mut tables = edge_tables(&[host_addresses(BACKEND)[0].clone()], 0, NOBODY);
    let ceilings =
        Ceilings { packets_per_second: None, new_flows_per_second: Some(new_flows_per_second) };
    let policy = ServicePolicy { ceilings, syn_cookies, ..ServicePolicy::default() };
    tables.edge.policies.insert(ServiceKey("www".into()), policy);
    tables
}

struct Field {
    network: Network,
    edge: Dataplane,
    backend: Dataplane,
}

impl Field {
    fn new(part: &str, tables: &Tables) -> Self {
        let network = Network::new(part, 3);
        let open = |host: usize| {
            network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
        };
        let (mut edge, mut backend) = (open(EDGE), open(BACKEND));
        backend.apply(&backend_tables(&host_addresses(EDGE))).expect("backend");
        edge.apply(tables).expect("edge");
        serve(&network.hosts[BACKEND], "one");
        Self { network, edge, backend }
    }

    fn connect(&self, vip: &str) -> Connection {
        Connection::open(&self.network.hosts[CLIENT], vip).expect("connect")
    }

    fn refused(&self) -> Refused {
        self.edge.counters().expect("counters").refused[&ServiceKey("www".into())]
    }

    fn cookies(&self) -> u64 {
        self.backend.counters().expect("counters").outcomes[&Outcome::SynCookieSent]
    }

    /// Connections that the backend's listeners have half open.
    fn half_open(&self) -> usize {
        let host = &self.network.hosts[BACKEND];
        host.run("ss -Hnt state syn-recv").lines().count()
    }

    /// Sends SYNs from ever other addresses while `body` runs; how many went out.
    fn flood(&self, body: impl FnOnce()) -> u64 {
        let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| self.network.hosts[CLIENT].enter(|| send_syns(&is_over, &sent)));
            let deadline = Instant::now() + Duration::from_secs(10);
            while sent.load(Ordering::Relaxed) < 20_000 && Instant::now() < deadline {
                thread::yield_now();
            }
            body();
            is_over.store(true, Ordering::Relaxed);
        });
        sent.into_inner()
    }
}

fn send_syns(is_over: &AtomicBool, sent: &AtomicU64) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)));
    let socket = socket.expect("raw socket (needs root)");
    let destination: Ipv4Addr = VIPS[0].parse().expect("address");
    let to = SockAddr::from(std::net::SocketAddr::from((destination, 0)));
    let mut n = 0_u32;
    while !is_over.load(Ordering::Relaxed) {
        n = n.wrapping_add(1);
        let flow = Flow {
            // Nobody answers for these (RFC 2544 benchmarking).
            source: Ipv4Addr::from(0xc612_0000 | n & 0x1_ffff).into(),
            destination: destination.into(),
            source_port: (n % 60_000) as u16 + 1024,
            port: PORT,
        };
        // What does not fit the sender's queue is not part of the flood.
        if socket.send_to(&tcp(flow, SYN, 0), &to).is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn clients_connect_by_cookies_over_both_families() {
    let field = Field::new("cookies", &tables(true, 1));
    // Or the kernel makes none before the listener's queue is full.
    field.network.hosts[BACKEND].run("sysctl -qw net.ipv4.tcp_syncookies=2");
    let mut connections = Vec::new();
    for _ in 0..20 {
        for vip in VIPS {
            let mut connection = field.connect(vip);
            assert_eq!(connection.ask().expect("answer"), "one", "{vip}");
            connections.push(connection);
        }
    }

    let (challenged, cookies) = (field.refused().challenged, field.cookies());
    assert!(challenged >= 36, "{challenged} of 40 were marked");
    assert!(cookies >= challenged, "{cookies} answered of {challenged}");
    for connection in &mut connections {
        assert_eq!(connection.ask().expect("still there"), "one");
    }
}

#[test]
fn handshake_by_cookie_is_completed_while_its_slot_is_in_transition() {
    let network = Network::new("cookietrans", 4);
    let backends = [BACKEND, BACKEND + 1].map(|host| host_addresses(host)[0].clone());
    let mut nodes = host_addresses(EDGE).to_vec();
    nodes.extend(backends.clone());
    let open = |host: usize| {
        network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
    };
    let (mut edge, mut first, mut second) = (open(EDGE), open(BACKEND), open(BACKEND + 1));
    first.apply(&backend_tables(&nodes)).expect("first");
    second.apply(&backend_tables(&nodes)).expect("second");
    serve(&network.hosts[BACKEND], "first");
    serve(&network.hosts[BACKEND + 1], "second");
    network.hosts[BACKEND + 1].run("sysctl -qw net.ipv4.tcp_syncookies=2");
    // New flows go to the second; what it does not know, to the first.
    edge.apply(&edge_tables(&backends, 1, &[0])).expect("edge");

    for vip in VIPS {
        let mut connection = Connection::open(&network.hosts[CLIENT], vip).expect("connect");
        assert_eq!(connection.ask().expect("answer"), "second", "{vip}");
    }
}

#[test]
fn flood_leaves_nothing_half_open_and_clients_get_through() {
    let field = Field::new("flood", &tables(true, 100));
    let mut standing = field.connect(VIPS[0]);

    let sent = field.flood(|| {
        for _ in 0..10 {
            assert_eq!(field.connect(VIPS[0]).ask().expect("a new one"), "one");
            assert_eq!(standing.ask().expect("the standing one"), "one");
        }
    });

    let (half_open, cookies) = (field.half_open(), field.cookies());
    assert!(cookies > sent / 20, "{cookies} cookies for {sent} SYNs");
    // Those within the ceiling before the flood was noticed, and the bursts.
    assert!(half_open <= 200, "{half_open} half open");
}

#[test]
fn without_a_ceiling_the_same_flood_fills_the_listeners_queue() {
    let mut open = tables(true, 1);
    open.edge.policies.clear();
    let field = Field::new("noceil", &open);

    field.flood(|| {});

    let half_open = field.half_open();
    assert!(half_open >= 100, "{half_open} half open");
    assert_eq!(field.cookies(), 0);
}

#[test]
fn without_cookies_what_is_beyond_the_ceiling_is_dropped_and_standing_flows_go_on() {
    let field = Field::new("never", &tables(false, 50));
    let mut standing = field.connect(VIPS[0]);

    let sent = field.flood(|| {
        for _ in 0..100 {
            assert_eq!(standing.ask().expect("the standing one"), "one");
        }
    });

    let dropped = field.refused().flows;
    assert!(dropped > sent / 20, "{dropped} of {sent}");
    assert_eq!(field.cookies(), 0);
}
