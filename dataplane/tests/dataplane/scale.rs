//! Rings of every size, and as many services as there may be.

use std::{net::IpAddr, sync::Arc};

use crate::support::{
    node::{Bench, Node, TENANT, backend, one_service},
    packet::{ACK, flow, tcp},
};
use isocast_dataplane::{
    Action, ApplyError, Opened, Protocol, Ring, ServiceKey, Tables, TablesError, Vip, fixture,
};
use isocast_dataplane_common::{RING_SLOTS_MIN, Slot, limits::MAX_SERVICES, slot::RING_SLOTS_MAX};

const BACKENDS: usize = 16;

fn with_backends(mut tables: Tables) -> Tables {
    tables.edge.backends =
        (0..BACKENDS).map(|n| backend(&format!("b{n}"), &format!("10.1.0.{n}"))).collect();
    tables
}

/// The backend that a packet leaves for.
fn backend_of(bench: &Bench, client: usize, vip: &str) -> u8 {
    let client = format!("198.51.{}.{}", client / 250, client % 250);
    let traced = bench.arrive(&tcp(flow(&client, vip, 443), ACK, 0));
    assert_eq!(traced.action, Action::Transmit, "{client} to {vip}");
    traced.packet[33]
}

fn backends_of(bench: &Bench) -> Vec<u8> {
    (0..500).map(|client| backend_of(bench, client, "192.0.2.10")).collect()
}

fn pattern(slots: usize) -> Vec<Slot> {
    (0..slots).map(|n| Slot::settled((n % RING_SLOTS_MIN % BACKENDS) as u16)).collect()
}

#[test]
fn finer_ring_leaves_each_flow_where_it_was() {
    let node = Node::new("finer");
    let mut tables = with_backends(one_service("10.1.0.2"));
    tables.edge.rings = vec![Ring::from_positions(pattern(RING_SLOTS_MIN))];
    node.namespace.enter(|| {
        let mut bench = Bench::open(node.config()).0;
        bench.dataplane.apply(&tables).expect("coarse");
        bench.settle(&tables);
        let bench = &mut bench;
        let coarse = backends_of(bench);
        assert!((0..BACKENDS).all(|n| coarse.contains(&(n as u8))), "flows spread");
        let mut slots = 2 * RING_SLOTS_MIN;
        while slots <= RING_SLOTS_MAX {
            tables.edge.rings = vec![Ring::from_positions(pattern(slots))];
            bench.dataplane.apply(&tables).expect("finer");
            assert_eq!(backends_of(bench), coarse, "{slots} slots");
            slots *= 2;
        }

        // The one bit more decides.
        let mut halves = pattern(2 * RING_SLOTS_MIN);
        halves[RING_SLOTS_MIN..].fill(Slot::settled(3));
        tables.edge.rings = vec![Ring::from_positions(halves)];
        bench.dataplane.apply(&tables).expect("halves");
        let moved = backends_of(bench).iter().zip(&coarse).filter(|(new, old)| new != old).count();
        assert!((150..350).contains(&moved), "{moved} of 500 flows");
    });
}

/// Services with rings that all differ: of each pattern of slots one for each order of the backends.
fn many(services: usize) -> Tables {
    let mut tables = with_backends(Tables::default());
    let pattern = |n: usize| -> Arc<[Slot]> {
        let mut slots = pattern(RING_SLOTS_MIN);
        slots[1 + n] = Slot::settled(((slots[1 + n].current as usize + 1) % BACKENDS) as u16);
        slots.into()
    };
    let patterns: Vec<_> = (0..services.div_ceil(BACKENDS)).map(pattern).collect();
    for n in 0..services {
        let backends = (0..BACKENDS).map(|backend| (backend + n) % BACKENDS).collect();
        let slots = Arc::clone(&patterns[n / BACKENDS]);
        tables.edge.rings.push(Ring { backends, chains: Arc::new([]), slots });
        tables.edge.vips.push(Vip {
            address: IpAddr::from([198, 18, (n / 250) as u8, (n % 250) as u8]),
            protocol: Protocol::Tcp,
            port: 443,
            tenant: TENANT,
            ring: n,
            service: ServiceKey(format!("s{n}").into()),
        });
    }
    tables
}

#[test]
fn as_many_services_as_there_may_be_are_balanced_adopted_and_changed_one_by_one() {
    let node = Node::new("many");
    let sample = [0, 1, 4999, MAX_SERVICES - 1];
    let ways = |bench: &Bench| {
        let vip = |n: &usize| format!("198.18.{}.{}", n / 250, n % 250);
        sample.iter().map(|n| backend_of(bench, 7, &vip(n))).collect::<Vec<_>>()
    };
    let one_more = many(MAX_SERVICES + 1);
    let mut tables = one_more.clone();
    tables.edge.vips.pop();
    tables.edge.rings.pop();
    let before = node.with_tables(&tables, |bench| ways(bench));

    node.namespace.enter(|| {
        let (mut bench, opened) = Bench::open(node.config());
        assert!(matches!(opened, Opened::Adopted { .. }));
        bench.dataplane.apply(&tables).expect("the same");
        bench.settle(&tables);
        assert_eq!(ways(&bench), before, "adopted");

        tables.edge.rings[1] = Ring {
            slots: Arc::new([Slot::settled(9); RING_SLOTS_MIN]),
            ..tables.edge.rings[1].clone()
        };
        bench.dataplane.apply(&tables).expect("one ring");
        assert_eq!(ways(&bench), [before[0], 9, before[2], before[3]]);

        match bench.dataplane.apply(&one_more) {
            Err(ApplyError::Tables(TablesError::TooMany { what: "services", limit, .. })) => {
                assert_eq!(limit, MAX_SERVICES);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(ways(&bench)[1], 9, "what was in force still is");
    });
}

#[test]
fn fixture_pins_a_program_that_encapsulates_and_can_be_loaded_again() {
    let node = Node::new("fixture");
    for services in [3, 2] {
        let fixture = fixture::edge(&node.pin_dir, services, 4).expect("fixture");
        assert!(fixture.program.exists());
        let mut packet = vec![2; 12];
        packet.extend([0x08, 0x00]);
        packet.extend(tcp(flow("198.51.100.7", "203.0.113.10", fixture::HTTP), ACK, 0));

        let traced = fixture.dataplane.trace(&packet, "lo", 1).expect("test run");

        assert_eq!(traced.action, Action::Transmit);
        assert_eq!(traced.packet.len(), packet.len() + fixture.outer_header_len);
    }
}
