//! Real clients, real servers, and packets that only the programs could have carried.

use crate::support::network::{
    BACKEND, CLIENT, Connection, EDGE, NOBODY, Network, VIPS, backend_tables, edge_tables,
    host_addresses, serve,
};
use isocast_dataplane::{Dataplane, Mode, Outcome};

fn open(network: &Network, host: usize) -> Dataplane {
    network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
}

#[test]
fn clients_reach_a_backend_over_both_families_and_get_direct_answers() {
    let network = Network::new("e2e", 3);
    for outer in [0, 1] {
        let mut edge = open(&network, EDGE);
        let mut backend = open(&network, BACKEND);
        backend.apply(&backend_tables(&host_addresses(EDGE))).expect("backend");
        let addresses = [host_addresses(BACKEND)[outer].clone()];
        edge.apply(&edge_tables(&addresses, 0, NOBODY)).expect("edge");
        if outer == 0 {
            serve(&network.hosts[BACKEND], "one");
        }

        for vip in VIPS {
            let mut connection = Connection::open(&network.hosts[CLIENT], vip).expect("connect");
            assert_eq!(connection.ask().expect("answer"), "one", "{vip} over {addresses:?}");
        }

        let encapsulated = edge.counters().expect("counters").outcomes[&Outcome::Encapsulated];
        let counters = backend.counters().expect("counters");
        assert!(counters.outcomes[&Outcome::Decapsulated] > 0);
        assert!(encapsulated > 0);
    }
}

#[test]
fn connection_survives_when_its_slot_moves_to_another_backend() {
    let network = Network::new("second", 4);
    let backends = [host_addresses(BACKEND)[0].clone(), host_addresses(BACKEND + 1)[0].clone()];
    let mut nodes = host_addresses(EDGE).to_vec();
    nodes.extend(backends.clone());
    let mut edge = open(&network, EDGE);
    let mut first = open(&network, BACKEND);
    let mut second = open(&network, BACKEND + 1);
    first.apply(&backend_tables(&nodes)).expect("first");
    second.apply(&backend_tables(&nodes)).expect("second");
    serve(&network.hosts[BACKEND], "first");
    serve(&network.hosts[BACKEND + 1], "second");
    edge.apply(&edge_tables(&backends, 0, NOBODY)).expect("edge");
    let mut old: Vec<_> = VIPS
        .iter()
        .map(|vip| Connection::open(&network.hosts[CLIENT], vip).expect("connect"))
        .collect();
    for connection in &mut old {
        assert_eq!(connection.ask().expect("answer"), "first");
    }

    edge.apply(&edge_tables(&backends, 1, &[0])).expect("edge");

    for connection in &mut old {
        assert_eq!(connection.ask().expect("still there"), "first");
    }
    for vip in VIPS {
        let mut new = Connection::open(&network.hosts[CLIENT], vip).expect("connect");
        assert_eq!(new.ask().expect("answer"), "second");
    }
    let counters = second.counters().expect("counters");
    assert!(counters.outcomes[&Outcome::SecondChance] >= 2);
    assert!(counters.outcomes[&Outcome::Decapsulated] >= 2);
}

#[test]
fn generic_mode_carries_traffic_as_well() {
    let network = Network::new("generic", 3);
    let open = |host: usize| {
        let mut config = network.config(host);
        config.uplinks[0].mode = Mode::Generic;
        network.hosts[host].enter(|| Dataplane::open(config).expect("open").0)
    };
    let (mut edge, mut backend) = (open(EDGE), open(BACKEND));
    backend.apply(&backend_tables(&host_addresses(EDGE))).expect("backend");
    edge.apply(&edge_tables(&[host_addresses(BACKEND)[0].clone()], 0, NOBODY)).expect("edge");
    serve(&network.hosts[BACKEND], "one");

    for vip in VIPS {
        let mut connection = Connection::open(&network.hosts[CLIENT], vip).expect("connect");
        assert_eq!(connection.ask().expect("answer"), "one");
    }
}
