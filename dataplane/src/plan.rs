//! From tables to what the kernel's maps must hold.
//!
//! A pure function of the tables, of what is in force and of the node's own addresses. What is in
//! force is never written over: new rings, targets and services take numbers that nothing in
//! force has, so a failure half-way changes nothing, and the flip changes everything. An owner
//! that stays keeps its number, and with it its counters.

mod chains;
mod contents;
mod places;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use isocast_dataplane_common::{
    NO_BACKEND, RING_SLOTS_MIN,
    directory::{Key, Space, Value},
    encap,
    limits::{
        CHAIN_POOL, MAX_CHAINS, MAX_DIRECTORY_ENTRIES, MAX_NAME_LEN, MAX_RING_BLOCKS, MAX_SERVICES,
        MAX_TARGETS, SERVICE_POOL, TARGET_POOL,
    },
    tables::FIRST_TARGET,
};

pub(crate) use self::{
    chains::ChainOwner,
    contents::{Content, Known, RingContent},
    places::Places,
};
use crate::{
    directory::Entries,
    guards::is_guarded,
    header::address_words,
    tables::{Backend, Encap, Fragments, Probe, Protocol, Tables, Vip},
};

/// Who has a target number: a backend by its key, or, with an empty key, any node by its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TargetOwner {
    pub(crate) key: Arc<str>,
    pub(crate) address: IpAddr,
    pub(crate) encap: Encap,
}

impl TargetOwner {
    /// A node with an agent.
    pub(crate) fn node(address: IpAddr) -> Self {
        Self { key: "".into(), address, encap: Encap::Gue }
    }

    fn probed(probe: &Probe) -> Self {
        Self { encap: probe.encap, ..Self::node(probe.tunnel_address) }
    }

    fn backend(backend: &Backend) -> Self {
        let Backend { key, tunnel_address, encap } = backend;
        Self { key: key.0.clone(), address: *tunnel_address, encap: *encap }
    }
}

/// Who has which number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) services: BTreeMap<Arc<str>, u16>,
    pub(crate) targets: BTreeMap<TargetOwner, u16>,
    pub(crate) chains: BTreeMap<ChainOwner, u16>,
    /// Rings by what they hold.
    pub(crate) rings: Places,
}

/// A generation, ready to be written.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) ledger: Ledger,
    pub(crate) entries: Entries,
    /// What the tables' rings hold, in their order.
    pub(crate) rings: Vec<RingContent>,
}

/// Why tables cannot be put in force. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TablesError {
    /// More of something than there may be.
    #[error("{count} {what}, at most {limit} fit")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A position that points at nothing.
    #[error("{what} {position} does not exist")]
    Dangling {
        /// What it should be.
        what: &'static str,
        /// The position.
        position: usize,
    },
    /// Two listeners, or two probes, that cannot be told apart.
    #[error("{what} twice")]
    Duplicate {
        /// Which.
        what: String,
    },
    /// A value out of its range.
    #[error("{what} is out of range")]
    OutOfRange {
        /// Which.
        what: String,
    },
    /// A service's address is one of this node's own.
    #[error("{address} is a tunnel address of this node, not a service's")]
    OwnAddress {
        /// The address.
        address: IpAddr,
    },
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) tunnel_addresses: &'a [IpAddr],
    /// Whether tunnels end here.
    pub(crate) decapsulates: bool,
}

/// Plans the generation that follows `in_force`. Rings that are `known` need not be read again.
pub(crate) fn plan(
    tables: &Tables,
    in_force: &Ledger,
    known: &Known,
    node: Node<'_>,
) -> Result<Plan, TablesError> {
    check(tables, node)?;
    let edge = &tables.edge;
    let decap = &tables.decap;

    let services: BTreeSet<_> = edge.vips.iter().map(|vip| vip.service.0.clone()).collect();
    let services = number(services, &in_force.services, 0, SERVICE_POOL);
    let services = services.ok_or_else(|| too_many("services", edge.vips.len(), MAX_SERVICES))?;

    let backends = edge.backends.iter().map(TargetOwner::backend);
    let sources = decap.sources.iter().copied().map(TargetOwner::node);
    let probed = edge.probes.iter().map(TargetOwner::probed);
    let owners: BTreeSet<_> = backends.chain(sources).chain(probed).collect();
    let count = owners.len();
    let targets = number(owners, &in_force.targets, FIRST_TARGET, TARGET_POOL);
    let targets = targets.ok_or_else(|| too_many("tunnel addresses", count, MAX_TARGETS))?;

    let links = chains::resolve(tables, &targets, node)?;
    let owners = links.owners();
    let count = owners.len();
    let chains = number(owners, &in_force.chains, 0, CHAIN_POOL);
    let chains = chains.ok_or_else(|| too_many("chains", count, MAX_CHAINS))?;

    let rings = edge.rings.iter().zip(links.meanings(&chains));
    let contents = rings.map(|(ring, meaning)| known.content(ring, meaning));
    let contents = contents.collect::<Result<Vec<_>, _>>()?;
    let rings = places::assign(&contents, &in_force.rings);
    let rings = rings.ok_or_else(|| too_many(RING_BLOCKS, blocks(tables), MAX_RING_BLOCKS))?;

    let ledger = Ledger { services, targets, chains, rings };
    let entries = entries(tables, &ledger, &contents, node)?;
    if entries.len() > MAX_DIRECTORY_ENTRIES {
        let what = "listeners, sources and destinations";
        return Err(too_many(what, entries.len(), MAX_DIRECTORY_ENTRIES));
    }
    Ok(Plan { ledger, entries, rings: contents })
}

/// Limits and ranges.
fn check(tables: &Tables, node: Node<'_>) -> Result<(), TablesError> {
    let edge = &tables.edge;
    let services: BTreeSet<_> = edge.vips.iter().map(|vip| &vip.service).collect();
    let targets = edge.backends.len() + tables.decap.sources.len();
    for (what, count, limit) in [
        ("services", services.len(), MAX_SERVICES),
        (RING_BLOCKS, blocks(tables), MAX_RING_BLOCKS),
        ("tunnel addresses", targets, MAX_TARGETS),
    ] {
        if count > limit {
            return Err(too_many(what, count, limit));
        }
    }
    let names = (services.iter().map(|service| &service.0))
        .chain(edge.backends.iter().map(|backend| &backend.key.0));
    for name in names {
        if name.is_empty() || name.len() > MAX_NAME_LEN {
            return Err(TablesError::OutOfRange { what: format!("length of the name {name:?}") });
        }
    }
    let tenants = (edge.vips.iter().map(|vip| vip.tenant))
        .chain(edge.probes.iter().map(|probe| probe.tenant))
        .chain(tables.decap.accepts.iter().map(|accept| accept.tenant));
    for tenant in tenants {
        if tenant >> 24 != 0 {
            return Err(TablesError::OutOfRange { what: format!("tenant {tenant}") });
        }
    }
    for vip in &edge.vips {
        if node.tunnel_addresses.contains(&vip.address) {
            return Err(TablesError::OwnAddress { address: vip.address });
        }
    }
    Ok(())
}

/// Gives numbers to owners: who has one keeps it, the others get numbers that nobody has now.
fn number<K: Ord>(
    owners: BTreeSet<K>,
    in_force: &BTreeMap<K, u16>,
    first: u16,
    pool: usize,
) -> Option<BTreeMap<K, u16>> {
    let taken: BTreeSet<_> = in_force.values().copied().collect();
    let mut free =
        (first..u16::try_from(pool).unwrap_or(NO_BACKEND)).filter(|number| !taken.contains(number));
    owners
        .into_iter()
        .map(|owner| {
            let number = in_force.get(&owner).copied().or_else(|| free.next())?;
            Some((owner, number))
        })
        .collect()
}

/// The directory's entries.
fn entries(
    tables: &Tables,
    ledger: &Ledger,
    contents: &[RingContent],
    node: Node<'_>,
) -> Result<Entries, TablesError> {
    let mut entries = Entries::new();
    let target_of = |owner| ledger.targets.get(&owner).copied().unwrap_or(NO_BACKEND);
    if node.decapsulates {
        let port = encap::PORT.to_be();
        for &address in node.tunnel_addresses {
            let key = Key::new(Space::Listener, &address_words(address), 0, UDP, port);
            entries.insert(key, Value { tenant: Value::TUNNEL, ..Value::default() });
        }
    }
    for vip in &tables.edge.vips {
        let ring = contents.get(vip.ring).and_then(|ring| ledger.rings.get(&ring.content));
        let ring = ring.ok_or(TablesError::Dangling { what: "ring", position: vip.ring })?;
        let service = ledger.services.get(&vip.service.0).copied().unwrap_or_default();
        let address = address_words(vip.address);
        let key = listener(vip);
        let guarded = is_guarded(&tables.edge, &vip.service, vip.tenant);
        let tenant = vip.tenant | flags(vip) | if guarded { Value::GUARDED } else { 0 };
        let value = Value { index: ring.code(), service, tenant };
        if entries.insert(key, value).is_some() {
            let what = format!("{:?} {} port {}", vip.protocol, vip.address, vip.port);
            return Err(TablesError::Duplicate { what });
        }
        entries.insert(Key::new(Space::Vip, &address, 0, 0, 0), Value::default());
    }
    entries.extend(segment_size_entries(tables));
    entries.extend(fragment_entries(&entries, &tables.edge.vips));
    for &source in &tables.decap.sources {
        let key = Key::new(Space::Source, &address_words(source), 0, 0, 0);
        entries
            .insert(key, Value { index: target_of(TargetOwner::node(source)), ..Value::default() });
    }
    for accept in &tables.decap.accepts {
        let address = address_words(accept.address);
        let protocol = number_of(accept.protocol);
        let port = accept.port.to_be();
        let key = Key::new(Space::Accept, &address, accept.tenant, protocol, port);
        entries.insert(key, Value::default());
        if accept.protocol == Protocol::Udp {
            entries.insert(Key::new(Space::Answers, &address, 0, protocol, port), Value::default());
        }
        if accept.rules.fragments == Fragments::Hash {
            let key = Key::new(Space::AcceptFragments, &address, accept.tenant, protocol, 0);
            entries.insert(key, Value::default());
        }
    }
    for probe in &tables.edge.probes {
        if probe.mark == 0 {
            return Err(TablesError::OutOfRange { what: "mark 0 of a probe".to_owned() });
        }
        let key = Key::new(Space::Probe, &[0; 4], probe.mark, 0, 0);
        let index = target_of(TargetOwner::probed(probe));
        let value = Value { index, service: 0, tenant: probe.tenant };
        if entries.insert(key, value).is_some_and(|other| other != value) {
            return Err(TablesError::Duplicate { what: format!("mark {} of a probe", probe.mark) });
        }
    }
    Ok(entries)
}

/// What the kernel must know of a listener's packets beside its ring.
const fn flags(vip: &Vip) -> u32 {
    let clamp = if vip.rules.segment_size.is_some() { Value::CLAMP } else { 0 };
    clamp | if is_by_address(vip) { Value::BY_ADDRESS } else { 0 }
}

/// Whether whole packets go where source, destination and protocol say, as their pieces do.
pub(crate) const fn is_by_address(vip: &Vip) -> bool {
    matches!((vip.protocol, vip.rules.fragments), (Protocol::Tcp, Fragments::Hash))
}

/// The largest segment that handshakes of clients (at edges) and of servers (at backends) offer.
fn segment_size_entries(tables: &Tables) -> Entries {
    let vips = tables.edge.vips.iter().map(|vip| (vip.address, vip.port, vip.rules));
    let accepts = tables.decap.accepts.iter();
    let accepts = accepts.map(|accept| (accept.address, accept.port, accept.rules));
    let mut entries = Entries::new();
    for (address, port, rules) in vips.chain(accepts) {
        let Some(largest) = rules.segment_size else { continue };
        let address = address_words(address);
        let tcp = number_of(Protocol::Tcp);
        let key = Key::new(Space::SegmentSize, &address, 0, tcp, port.to_be());
        let value = Value { index: largest, ..Value::default() };
        let entry = entries.entry(key).or_insert(value);
        entry.index = entry.index.min(largest);
    }
    entries
}

/// Who takes fragments at (address, protocol): the listeners' one service. Where two would, nobody
/// does, for a later fragment does not say which of them it is for. Who is let in is asked of
/// fragments as well.
fn fragment_entries(listeners: &Entries, vips: &[Vip]) -> Entries {
    let mut takers: BTreeMap<Key, Option<Value>> = BTreeMap::new();
    for vip in vips.iter().filter(|vip| vip.rules.fragments == Fragments::Hash) {
        let value = listeners.get(&listener(vip)).map(|value| Value {
            tenant: value.tenant & (Value::TENANT | Value::GUARDED),
            ..*value
        });
        let (address, protocol) = (address_words(vip.address), number_of(vip.protocol));
        let taker = takers.entry(Key::new(Space::Fragments, &address, 0, protocol, 0));
        let taker = taker.or_insert(value);
        if *taker != value {
            *taker = None;
        }
    }
    takers.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

const RING_BLOCKS: &str = "blocks of 4096 ring slots";
const _: () = assert!(RING_SLOTS_MIN == 4096);

fn blocks(tables: &Tables) -> usize {
    tables.edge.rings.iter().map(|ring| ring.slots.len().div_ceil(RING_SLOTS_MIN)).sum()
}

/// The key under which a listener's packets find it.
pub(crate) fn listener(vip: &Vip) -> Key {
    let (address, protocol) = (address_words(vip.address), number_of(vip.protocol));
    Key::new(Space::Listener, &address, 0, protocol, vip.port.to_be())
}

pub(crate) const fn too_many(what: &'static str, count: usize, limit: usize) -> TablesError {
    TablesError::TooMany { what, count, limit }
}

const UDP: u8 = number_of(Protocol::Udp);

/// The protocol's number in IP headers.
pub(crate) const fn number_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

#[cfg(test)]
mod tests {
    use isocast_dataplane_common::{RingPlace, Slot, maglev, slot::RING_SLOTS_MAX};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        policy::Ceilings,
        tables::{Accept, Backend, BackendKey, EdgeTables, PacketRules, Probe, Ring, ServiceKey},
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
}
