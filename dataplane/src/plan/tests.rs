//! What is planned: limits, numbers that stay, and entries.

use isocast_dataplane_common::{
    RingPlace, Slot,
    directory::{Space, Value},
    maglev,
    slot::RING_SLOTS_MAX,
};
use proptest::prelude::*;

use super::*;
use crate::{
    policy::Ceilings,
    tables::{
        Accept, Backend, BackendKey, EdgeTables, Fragments, PacketRules, Probe, Ring, ServiceKey,
        Track, Vip,
    },
};

const OWN: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1))];

const fn node() -> Node<'static> {
    Node { tunnel_addresses: &OWN, decapsulates: true }
}

fn address(prefix: u8, n: usize) -> IpAddr {
    let [.., high, low] = n.to_be_bytes();
    IpAddr::from([prefix, 0, high, low])
}

fn ring(backends: &[u16]) -> Ring {
    let members: Vec<_> = backends
        .iter()
        .map(|n| maglev::Member { id: u128::from(*n).to_le_bytes(), weight: 1 })
        .collect();
    let mut positions = vec![0; RING_SLOTS_MIN];
    maglev::fill(&[1, 2], &members, &mut positions);
    let slots = positions.into_iter().map(|position| {
        Slot::settled(backends.get(usize::from(position)).copied().unwrap_or(NO_BACKEND))
    });
    Ring::from_positions(slots)
}

/// Services `s0`, `s1` … each with a ring of its own over all backends.
fn tables(services: usize, backends: usize) -> Tables {
    let positions: Vec<_> = (0..backends).map(|n| u16::try_from(n).expect("few")).collect();
    let vips = (0..services).map(|n| Vip {
        address: address(192, n),
        protocol: Protocol::Tcp,
        port: 80,
        tenant: 1,
        ring: 0,
        service: ServiceKey(format!("s{n}").into()),
        rules: PacketRules::default(),
    });
    let backends = (0..backends).map(|n| Backend {
        key: BackendKey(format!("b{n}").into()),
        tunnel_address: address(10, n + 2),
        encap: Encap::Gue,
    });
    let edge = EdgeTables {
        vips: vips.collect(),
        rings: vec![ring(&positions)],
        backends: backends.collect(),
        ..EdgeTables::default()
    };
    Tables { edge, ..Tables::default() }
}

fn refusal(tables: &Tables) -> TablesError {
    plan(tables, &Ledger::default(), &Known::default(), node()).expect_err("must be refused")
}

#[test]
fn limits_hold_and_one_more_is_refused() {
    let services = tables(MAX_SERVICES, 1);
    let targets = tables(1, MAX_TARGETS);
    let mut rings = tables(1, 1);
    rings.edge.rings = vec![ring(&[0]); MAX_RING_BLOCKS];
    for fits in [&services, &targets, &rings] {
        assert!(plan(fits, &Ledger::default(), &Known::default(), node()).is_ok());
    }

    rings.edge.rings.push(ring(&[0]));
    for one_more in [&tables(MAX_SERVICES + 1, 1), &tables(1, MAX_TARGETS + 1), &rings] {
        assert!(matches!(refusal(one_more), TablesError::TooMany { .. }));
    }
}

#[test]
fn names_have_a_length() {
    let named = |len: usize| {
        let mut tables = tables(1, 1);
        tables.edge.vips[0].service = ServiceKey("x".repeat(len).into());
        tables
    };
    assert!(plan(&named(MAX_NAME_LEN), &Ledger::default(), &Known::default(), node()).is_ok());
    for len in [0, MAX_NAME_LEN + 1] {
        assert!(matches!(refusal(&named(len)), TablesError::OutOfRange { .. }), "{len}");
    }
}

#[test]
fn values_that_do_not_fit_the_header_are_refused() {
    let mut tenant = tables(1, 1);
    tenant.edge.vips[0].tenant = 1 << 24;
    let mut slots = tables(1, 1);
    slots.edge.rings[0].slots = Arc::new([Slot::EMPTY; 8]);
    let mut mark = tables(1, 1);
    mark.edge.probes.push(Probe {
        mark: 0,
        tenant: 1,
        tunnel_address: address(10, 9),
        encap: Encap::Gue,
    });
    for tables in [tenant, slots, mark] {
        assert!(matches!(refusal(&tables), TablesError::OutOfRange { .. }));
    }
}

fn takers_of_fragments(tables: &Tables) -> Vec<Value> {
    let plan = plan(tables, &Ledger::default(), &Known::default(), node()).expect("fits");
    let entries = plan.entries.iter().filter(|(key, _)| key.is_in(Space::Fragments));
    entries.map(|(_, value)| *value).collect()
}

#[test]
fn one_service_of_an_address_takes_fragments_and_two_do_not() {
    let mut tables = tables(2, 1);
    for vip in &mut tables.edge.vips {
        vip.rules.fragments = Fragments::Hash;
    }
    assert_eq!(takers_of_fragments(&tables).len(), 2);

    tables.edge.vips[1].address = tables.edge.vips[0].address;
    tables.edge.vips[1].port = 81;
    assert_eq!(takers_of_fragments(&tables), []);

    tables.edge.vips[1].service = tables.edge.vips[0].service.clone();
    assert_eq!(takers_of_fragments(&tables).len(), 1);

    tables.edge.vips[1].service = ServiceKey("s1".into());
    tables.edge.vips[1].rules.fragments = Fragments::Drop;
    assert_eq!(takers_of_fragments(&tables).len(), 1);
}

#[test]
fn takers_of_fragments_are_asked_whom_they_let_in() {
    let mut tables = tables(1, 1);
    tables.edge.vips[0].rules =
        PacketRules { fragments: Fragments::Hash, segment_size: Some(1400) };
    assert_eq!(takers_of_fragments(&tables)[0].tenant, 1);

    let ceilings = Ceilings { packets_per_second: Some(5), ..Ceilings::default() };
    tables.edge.tenants.insert(1, ceilings);
    assert_eq!(takers_of_fragments(&tables)[0].tenant, 1 | Value::GUARDED);
}

#[test]
fn one_mark_stands_for_one_target() {
    let mut tables = tables(1, 1);
    for n in [1, 2] {
        let tunnel_address = address(10, n + 100);
        let probe = Probe { mark: 7, tenant: 1, tunnel_address, encap: Encap::Gue };
        tables.edge.probes.push(probe);
    }
    assert!(matches!(refusal(&tables), TablesError::Duplicate { .. }));
}

#[test]
fn tunnel_ends_only_where_the_node_decapsulates() {
    let mut tables = Tables::default();
    tables.decap.accepts.push(Accept {
        tenant: 1,
        address: address(192, 1),
        protocol: Protocol::Udp,
        port: 53,
        rules: PacketRules::default(),
    });
    let tunnel_ends = |decapsulates| {
        let node = Node { decapsulates, ..node() };
        let plan = plan(&tables, &Ledger::default(), &Known::default(), node).expect("fits");
        plan.entries.values().filter(|value| value.tenant == Value::TUNNEL).count()
    };
    assert_eq!((tunnel_ends(true), tunnel_ends(false)), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever sets of services and backends follow each other: owners that stay keep their
    /// numbers, and no number in force gets a new meaning before it was out of force.
    #[test]
    fn nothing_in_force_is_written_over(steps in prop::collection::vec(
        (prop::collection::btree_set(0u16..12, 0..6), 0usize..5, 0usize..3), 1..8,
    )) {
        let mut in_force = Ledger::default();
        let mut known = Known::default();
        for (backends, services, doublings) in steps {
            let mut tables = tables(services, 12);
            let backends: Vec<_> = backends.into_iter().collect();
            let slots = ring(&backends).slots.repeat(1 << doublings).into();
            tables.edge.rings = vec![Ring { slots, ..ring(&backends) }];
            tables.edge.backends.retain(|backend| {
                // Positions must stay, so only the unused tail may go.
                let last = backends.last().copied().unwrap_or(0);
                backend.tunnel_address <= address(10, usize::from(last) + 2)
            });
            let plan = plan(&tables, &in_force, &known, node()).expect("fits");
            let next = plan.ledger;

            for (owner, number) in &next.targets {
                let before = in_force.targets.iter().find(|(_, taken)| *taken == number);
                prop_assert!(before.is_none_or(|(before, _)| before == owner));
                prop_assert!(in_force.targets.get(owner).is_none_or(|kept| kept == number));
            }
            for (content, place) in &next.rings {
                let blocks = |place: &RingPlace| {
                    place.first_block()..place.first_block() + place.blocks()
                };
                for (before, taken) in &in_force.rings {
                    let (a, b) = (blocks(taken), blocks(place));
                    let apart = a.end <= b.start || b.end <= a.start;
                    prop_assert!(apart || before == content && taken == place);
                }
            }
            for (name, number) in &next.services {
                let before = in_force.services.iter().find(|(_, taken)| *taken == number);
                prop_assert!(before.is_none_or(|(before, _)| before == name));
            }
            let in_tables = &tables.edge.rings[0];
            let meant: Vec<_> = in_tables.slots.iter().map(|slot| {
                let position = in_tables.backends.get(usize::from(slot.current));
                position.map(|position| tables.edge.backends[*position].key.0.clone())
            }).collect();
            let owners: BTreeMap<_, _> =
                next.targets.iter().map(|(owner, number)| (*number, owner)).collect();
            let mut written = vec![Slot::EMPTY; plan.rings[0].len()];
            plan.rings[0].write(&mut written);
            let written: Vec<_> = written
                .iter()
                .map(|slot| owners.get(&slot.current).map(|owner| owner.key.clone()))
                .collect();
            prop_assert_eq!(meant, written);
            known = Known::of(&plan.rings);
            in_force = next;
        }
    }
}

#[test]
fn ring_that_stays_keeps_its_place_whatever_happens_to_others() {
    let mut tables = tables(1, 4);
    tables.edge.rings = vec![ring(&[0, 1]), ring(&[2, 3])];
    let first = plan(&tables, &Ledger::default(), &Known::default(), node()).expect("fits");

    // The first ring's backends, and with them the positions of the others, change.
    tables.edge.backends.remove(0);
    let stays = Ring { backends: Arc::new([1, 2]), ..tables.edge.rings[1].clone() };
    tables.edge.rings = vec![ring(&[0]), stays];
    let known = Known::of(&first.rings);
    let second = plan(&tables, &first.ledger, &known, node()).expect("fits");

    let place = |plan: &Plan, ring: usize| plan.ledger.rings[&plan.rings[ring].content];
    assert_eq!(place(&first, 1), place(&second, 1));
    assert_ne!(place(&first, 0), place(&second, 0));
}

#[test]
fn rings_may_have_any_size_within_the_limits_and_no_other() {
    let sized = |slots: usize| {
        let mut tables = tables(1, 1);
        tables.edge.rings = vec![Ring::from_positions(vec![Slot::settled(0); slots])];
        tables
    };
    for slots in [RING_SLOTS_MIN, 2 * RING_SLOTS_MIN, RING_SLOTS_MAX] {
        let plan = plan(&sized(slots), &Ledger::default(), &Known::default(), node());
        let place = *plan.expect("fits").ledger.rings.values().next().expect("one");
        assert_eq!(place.slots() as usize, slots);
    }
    for slots in [0, RING_SLOTS_MIN / 2, RING_SLOTS_MIN + 16, 2 * RING_SLOTS_MAX] {
        assert!(matches!(refusal(&sized(slots)), TablesError::OutOfRange { .. }), "{slots}");
    }
}

#[test]
fn slots_are_tracked_while_there_is_room_for_their_chains() {
    let tracked = |rings: u16| {
        let mut tables = tables(usize::from(rings), 6);
        let track = |former: u16, since: u16| Track {
            former,
            further: Vec::new(),
            between: Vec::new(),
            since: u32::from(since),
        };
        let ring = |former| {
            let slots = (0..4096).map(|slot| Slot::tracked(0, slot));
            let tracks: Vec<_> = (0..4096).map(|since| track(former, since)).collect();
            Ring::tracked(slots, &[], &tracks)
        };
        tables.edge.rings = (1..=rings).map(ring).collect();
        tables.edge.era = 5000;
        let plan = plan(&tables, &Ledger::default(), &Known::default(), node()).expect("a plan");
        let mut slots = vec![Slot::EMPTY; RING_SLOTS_MIN];
        plan.rings[0].write(&mut slots);
        assert!(slots.iter().all(|slot| slot.backend() != NO_BACKEND));
        (slots.iter().filter(|slot| slot.is_tracked()).count(), plan.ledger.chains.len())
    };

    assert_eq!(tracked(4), (4096, 4 * 4096));
    assert_eq!(tracked(5), (0, 0), "their flows move, as if nobody kept track");
}
