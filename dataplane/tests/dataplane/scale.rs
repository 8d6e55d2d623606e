//! Rings of every size, and as many services as there may be.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::{
    node::{Bench, Node, TENANT, backend, bare, one_service},
    packet::{ACK, flow, tcp},
};
use isocast_dataplane::{
    Action, ApplyError, Opened, PacketRules, Protocol, Ring, ServiceKey, Tables, TablesError, Vip,
    fixture,
};
use isocast_dataplane_common::{RING_SLOTS_MIN, Slot, limits::MAX_SERVICES, slot::RING_SLOTS_MAX};

const BACKENDS: u16 = 16;

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
    // Sixteen divides the smallest ring: the pattern of a larger one is that of it, repeated.
    (0..BACKENDS).cycle().map(Slot::settled).take(slots).collect()
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
        assert!((0..16).all(|n| coarse.contains(&n)), "flows spread");
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

/// The address of the service of that number.
fn other(n: usize) -> IpAddr {
    let n = u32::try_from(n).expect("few");
    IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 + n))
}

/// Services of which sixteen each share a ring; their rings all differ.
fn many(services: usize) -> Tables {
    let mut tables = with_backends(bare());
    let sharing = usize::from(BACKENDS);
    for n in 0..services.div_ceil(sharing) {
        let mut slots = pattern(RING_SLOTS_MIN);
        slots[1 + n] = Slot::settled((slots[1 + n].current + 1) % BACKENDS);
        tables.edge.rings.push(Ring::from_positions(slots));
    }
    for n in 0..services {
        tables.edge.vips.push(Vip {
            address: other(n),
            protocol: Protocol::Tcp,
            port: 443,
            tenant: TENANT,
            ring: n / sharing,
            service: ServiceKey(format!("s{n}").into()),
            rules: PacketRules::default(),
        });
    }
    tables
}

#[test]
fn as_many_services_as_there_may_be_are_balanced_adopted_and_changed_one_by_one() {
    let node = Node::new("many");
    let sample = [0, 1, 4999, MAX_SERVICES - 1];
    let ways = |bench: &Bench| {
        let way = |n: &usize| backend_of(bench, 7, &other(*n).to_string());
        sample.iter().map(way).collect::<Vec<_>>()
    };
    let one_more = many(MAX_SERVICES + 1);
    let mut tables = one_more.clone();
    tables.edge.vips.pop();
    let before = node.with_tables(&tables, |bench| ways(bench));

    node.namespace.enter(|| {
        let (mut bench, opened) = Bench::open(node.config());
        assert!(matches!(opened, Opened::Adopted { .. }));
        bench.dataplane.apply(&tables).expect("the same");
        bench.settle(&tables);
        assert_eq!(ways(&bench), before, "adopted");

        let ring = tables.edge.vips[4999].ring;
        tables.edge.rings[ring] = Ring::from_positions([Slot::settled(9); RING_SLOTS_MIN]);
        bench.dataplane.apply(&tables).expect("one ring");
        assert_eq!(ways(&bench), [before[0], before[1], 9, before[3]]);

        match bench.dataplane.apply(&one_more) {
            Err(ApplyError::Tables(TablesError::TooMany { what: "services", limit, .. })) => {
                assert_eq!(limit, MAX_SERVICES);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(ways(&bench)[2], 9, "what was in force still is");
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
