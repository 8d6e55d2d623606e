//! Generations, adoption after a death, and what is left behind.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{
    Namespace,
    network::{
        BACKEND, CLIENT, Connection, EDGE, NOBODY, Network, VIPS, backend_tables, edge_tables,
        host_addresses, serve,
    },
    node::{Bench, Node, accept, address, backend, one_service, ring, vip},
    packet::{ACK, flow, tcp},
    wait_for,
};
use isocast_dataplane::{
    Action, ApplyError, BackendKey, Dataplane, Generation, Opened, Outcome, Protocol, ServiceKey,
    Tables, TablesError, Unresolved, detach,
};

fn outer_destination(bench: &Bench) -> [u8; 4] {
    let traced = bench.arrive(&tcp(flow("198.51.100.7", "192.0.2.10", 443), ACK, 0));
    traced.packet[30..34].try_into().expect("four bytes")
}

#[test]
fn new_tables_replace_the_old_ones_at_once_and_counters_go_on() {
    let node = Node::new("flip");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        assert_eq!(outer_destination(bench), [10, 1, 0, 2]);
        let first = bench.dataplane.generation();

        let mut tables = one_service("10.1.0.2");
        tables.edge.backends.insert(0, backend("b0", "10.1.0.9"));
        let second = bench.dataplane.apply(&tables).expect("second");

        assert_eq!(second, Generation(first.0 + 1));
        assert_eq!(outer_destination(bench), [10, 1, 0, 9]);
        assert_eq!(bench.dataplane.apply(&tables).expect("again"), second, "nothing to do");

        bench.dataplane.apply(&one_service("10.1.0.2")).expect("back");
        assert_eq!(outer_destination(bench), [10, 1, 0, 2]);
        let counters = bench.counters();
        assert_eq!(counters.services[&ServiceKey("www".into())].packets, 3);
        assert_eq!(counters.backends[&BackendKey("b1".into())].packets, 2);
        assert!(!counters.backends.contains_key(&BackendKey("b0".into())));

        bench.dataplane.apply(&Tables::default()).expect("nothing");
        let packet = tcp(flow("198.51.100.7", "192.0.2.10", 443), ACK, 0);
        assert_eq!(bench.outcome_of(&packet), (Action::Pass, vec![]));
    });
}

#[test]
fn refused_tables_change_nothing() {
    let node = Node::new("refused");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let before = bench.dataplane.generation();
        let mut dangling = one_service("10.1.0.9");
        dangling.edge.rings = vec![ring(3, NOBODY)];
        let mut twice = one_service("10.1.0.9");
        twice.edge.vips.push(vip("192.0.2.10", Protocol::Tcp, 443));
        let mut own = one_service("10.1.0.9");
        own.edge.vips.push(vip("10.0.0.1", Protocol::Tcp, 22));

        let refused = |bench: &mut Bench, tables| match bench.dataplane.apply(tables) {
            Err(ApplyError::Tables(error)) => error,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refused(bench, &dangling), TablesError::Dangling { position: 3, .. }));
        assert!(matches!(refused(bench, &twice), TablesError::Duplicate { .. }));
        assert!(matches!(refused(bench, &own), TablesError::OwnAddress { .. }));

        assert_eq!(bench.dataplane.generation(), before);
        assert_eq!(outer_destination(bench), [10, 1, 0, 2]);
        bench.dataplane.verify().expect("still in force");
    });
}

#[test]
fn generation_that_would_answer_wrongly_is_not_put_in_force() {
    let node = Node::new("canary");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let before = bench.dataplane.generation();
        let tables = one_service("10.1.0.3");
        // Somebody writes over all that the idle half will refer to: it will find nothing.
        let dirs =
            std::fs::read_dir(&node.pin_dir).expect("pins").map(|dir| dir.expect("dir").path());
        let mut pins = dirs.map(|dir| dir.join("DISPLACEMENTS")).filter(|pin| pin.exists());
        let pin = pins.next().expect("pinned");
        bench.dataplane.apply(&tables).expect("fills the other half");
        bench.dataplane.apply(&one_service("10.1.0.2")).expect("and goes back");
        let map = aya::maps::MapData::from_pin(&pin).expect("map");
        let mut map: aya::maps::Array<_, u64> =
            aya::maps::Map::Array(map).try_into().expect("array");
        let half = map.len() / 2;
        let idle = half * ((before.0 + 3) & 1);
        for at in idle..idle + half {
            map.set(at, 0, 0).expect("written over");
        }

        let refused = bench.dataplane.apply(&tables);

        assert!(matches!(refused, Err(ApplyError::Canary(_))), "{refused:?}");
        assert_eq!(bench.dataplane.generation(), Generation(before.0 + 2));
        assert_eq!(outer_destination(bench), [10, 1, 0, 2]);
        bench.dataplane.verify().expect("what was in force still is");

        bench.dataplane.apply(&tables).expect("all of it is written anew");
        assert_eq!(outer_destination(bench), [10, 1, 0, 3]);
    });
}

#[test]
fn service_addresses_are_on_loopback_while_accepted_and_others_are_left_alone() {
    let node = Node::new("loopback");
    node.namespace.run("ip addr add 192.0.2.99/32 dev lo");
    let mut tables = Tables::default();
    tables.decap.accepts.push(accept("192.0.2.10", Protocol::Tcp, 80));
    tables.decap.accepts.push(accept("2001:db8:f::10", Protocol::Tcp, 80));
    tables.decap.accepts.push(accept("192.0.2.99", Protocol::Tcp, 80));
    let shown = |node: &Node| node.namespace.run("ip addr show dev lo");

    node.with_tables(&tables, |_| ());
    // The data plane is closed: its addresses stay.
    for text in ["192.0.2.10/32", "2001:db8:f::10/128", "192.0.2.99/32"] {
        assert!(shown(&node).contains(text), "{text} in {}", shown(&node));
    }
    assert!(!shown(&node).contains("tentative"));

    node.with_tables(&Tables::default(), |_| ());
    assert!(!shown(&node).contains("192.0.2.10/32"));
    assert!(!shown(&node).contains("2001:db8:f::10/128"));
    assert!(shown(&node).contains("192.0.2.99/32"), "somebody else's");
}

#[test]
fn next_hops_follow_the_kernel_without_a_new_generation() {
    let node = Node::new("follow");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let packet = tcp(flow("198.51.100.7", "192.0.2.10", 443), ACK, 0);
        assert_eq!(bench.arrive(&packet).packet[..6], [2, 0, 0, 0, 0, 0xfe]);
        let generation = bench.dataplane.generation();
        let mut next_hops = bench.dataplane.next_hops();
        let target = address("10.1.0.2");

        crate::support::run(
            "ip neigh replace 10.0.0.254 lladdr 02:00:00:00:00:aa dev up0 nud permanent",
        );
        let changed = wait_for(&mut next_hops, |hops| {
            hops[&target].is_ok_and(|hop| hop.destination_mac == [2, 0, 0, 0, 0, 0xaa])
        });
        assert!(changed);
        assert_eq!(bench.arrive(&packet).packet[..6], [2, 0, 0, 0, 0, 0xaa]);

        crate::support::run("ip route del default");
        let lost = wait_for(&mut next_hops, |hops| hops[&target] == Err(Unresolved::NoRoute));
        assert!(lost);
        assert_eq!(bench.outcome_of(&packet), (Action::Drop, vec![Outcome::NextHopUnresolved]));
        assert_eq!(bench.dataplane.generation(), generation);
    });
}

#[test]
fn verify_notices_what_is_no_longer_in_force() {
    let node = Node::new("verify");
    node.namespace.enter(|| {
        let (mut bench, opened) = Bench::open(node.config());
        assert_eq!(opened, Opened::Fresh);
        assert!(bench.dataplane.verify().is_err(), "nothing was put in force");
        bench.dataplane.apply(&one_service("10.1.0.2")).expect("tables");
        bench.dataplane.verify().expect("in force");

        detach(&node.pin_dir).expect("detach");

        assert!(bench.dataplane.verify().is_err(), "links are gone");
    });
}

#[test]
fn detach_frees_the_interface_and_is_repeatable() {
    let node = Node::new("detach");
    node.with_tables(&one_service("10.1.0.2"), |_| ());
    assert!(node.namespace.run("ip -details link show up0").contains("prog/xdp"));

    detach(&node.pin_dir).expect("detach");
    detach(&node.pin_dir).expect("nothing to detach");

    // The kernel lets go of what was unpinned a grace period later.
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.namespace.run("ip -details link show up0").contains("prog/xdp") {
        assert!(Instant::now() < deadline, "the program is still attached");
    }
}

#[test]
fn interface_that_was_made_anew_is_attached_again() {
    let node = Node::new("anew");
    node.with_tables(&one_service("10.1.0.2"), |_| ());
    node.namespace.run("ip link del up0");
    node.namespace.run("ip link add up0 type veth peer name far0");

    node.with_tables(&one_service("10.1.0.2"), |bench| {
        bench.dataplane.verify().expect("in force on the new interface");
    });
}

#[test]
fn predecessor_with_other_maps_forwards_until_there_are_tables() {
    let node = Node::new("layout");
    node.with_tables(&one_service("10.1.0.2"), |_| ());
    let older = node.change_layout();

    node.namespace.enter(|| {
        let (mut bench, opened) = Bench::open(node.config());
        assert_eq!(opened, Opened::Succeeding);
        assert!(older.exists(), "still in force");
        bench.dataplane.apply(&one_service("10.1.0.3")).expect("tables");
        assert!(!older.exists());
        bench.dataplane.verify().expect("taken over");
        assert_eq!(outer_destination(&bench), [10, 1, 0, 3]);
    });
}

#[test]
fn successor_forwards_as_its_predecessor_did_before_it_has_tables() {
    let node = Node::new("adopt");
    for tunnel_address in ["10.1.0.2", "2001:db8:b::2"] {
        let packet = tcp(flow("198.51.100.7", "192.0.2.10", 443), ACK, 0);
        let before = node.with_tables(&one_service(tunnel_address), |bench| bench.arrive(&packet));

        node.namespace.enter(|| {
            let (bench, opened) = Bench::open(node.config());
            assert!(matches!(opened, Opened::Adopted { .. }));
            let mut next_hops = bench.dataplane.next_hops();
            let target = address(tunnel_address);
            assert!(wait_for(&mut next_hops, |hops| hops.get(&target).is_some_and(Result::is_ok)));

            let after = bench.arrive(&packet);
            assert_eq!((after.action, after.packet), (before.action, before.packet));
        });
    }
}

/// The agent that is killed: a process of its own, told by its environment where it is.
#[test]
fn agent_that_is_killed() {
    let Ok(namespace) = env::var("ISOCAST_TEST_EDGE") else { return };
    let pin_dir = env::var("ISOCAST_TEST_PINS").expect("pins");
    let namespace = std::mem::ManuallyDrop::new(Namespace { name: namespace });
    namespace.enter(|| {
        let config = crate::support::network::config(EDGE, pin_dir.into());
        let mut edge = Dataplane::open(config).expect("open").0;
        let backends = [host_addresses(BACKEND)[0].clone()];
        edge.apply(&edge_tables(&backends, 0, NOBODY)).expect("apply");
        println!("\nin force");
        std::io::stdout().flush().expect("flush");
        loop {
            std::thread::park();
        }
    });
}

#[test]
fn killed_agent_leaves_traffic_flowing_and_its_successor_adopts_it() {
    let network = Network::new("kill", 3);
    let config = network.config(EDGE);
    let backend = &network.hosts[BACKEND];
    let mut backend_plane =
        backend.enter(|| Dataplane::open(network.config(BACKEND)).expect("open").0);
    backend_plane.apply(&backend_tables(&host_addresses(EDGE))).expect("backend");
    serve(backend, "one");
    let mut agent = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "lifecycle::agent_that_is_killed", "--nocapture"])
        .env("ISOCAST_TEST_EDGE", &network.hosts[EDGE].name)
        .env("ISOCAST_TEST_PINS", &config.pin_dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("agent");
    let output = BufReader::new(agent.stdout.take().expect("piped"));
    let ready = output.lines().map_while(Result::ok).any(|line| line == "in force");
    let mut connections: Vec<_> = VIPS
        .iter()
        .filter(|_| ready)
        .map(|vip| Connection::open(&network.hosts[CLIENT], vip).expect("connect"))
        .collect();

    agent.kill().expect("kill -9");
    agent.wait().expect("dead");

    assert!(ready, "the agent never said that its tables are in force");
    for connection in &mut connections {
        assert_eq!(connection.ask().expect("flows on"), "one");
    }
    for vip in VIPS {
        let mut new = Connection::open(&network.hosts[CLIENT], vip).expect("new connection");
        assert_eq!(new.ask().expect("answer"), "one");
    }
    let (mut successor, opened) =
        network.hosts[EDGE].enter(|| Dataplane::open(config).expect("successor"));
    assert_eq!(opened, Opened::Adopted { generation: Generation(1) });
    network.hosts[EDGE].enter(|| successor.verify().expect("in force, with no new generation"));
    let counted = |edge: &Dataplane| {
        edge.counters().expect("counters").services[&ServiceKey("www".into())].packets
    };
    let before = counted(&successor);
    assert!(before > 0, "the dead agent's counters");
    let backends = [host_addresses(BACKEND)[0].clone()];
    successor.apply(&edge_tables(&backends, 0, NOBODY)).expect("apply");
    for connection in &mut connections {
        assert_eq!(connection.ask().expect("flows on"), "one");
    }
    assert!(counted(&successor) > before);
}
