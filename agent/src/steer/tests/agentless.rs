//! Hosts without an agent: whose the flows of their slots are, while rings change.

use std::collections::BTreeMap;

use isocast_dataplane_common::tracking::BETWEEN_MAX;

use super::*;

/// Two hosts without an agent and two with one, all in one datacenter.
const HOSTS: [&str; 4] = ["ip-1", "ip-2", "gue-1", "gue-2"];

fn world() -> World {
    let mut world = World::new();
    let host = |(n, name): (u8, &&str)| {
        let mut backend = testing::backend(name, "ams", n);
        if name.starts_with("ip") {
            backend.node = String::new();
        }
        backend
    };
    let pool = world.model.pools.get_mut(testing::POOL).unwrap();
    pool.backends = (1..).zip(&HOSTS).map(host).collect();
    for name in HOSTS {
        world.set(name, true);
    }
    world
}

/// A change, and the ring that follows from it.
fn settle(world: &mut World) -> Plan {
    world.steer();
    world.pass(SETTLE);
    world.steer()
}

/// What an edge does with the packets of some slots, as the tables say.
#[derive(Default)]
struct Edge {
    /// Who has a flow by the flow table, and when its last packet came.
    noted: BTreeMap<usize, (String, u32)>,
}

/// A connection, of one slot.
#[derive(Clone, Debug)]
struct Connection {
    slot: usize,
    host: String,
    began: UnixMs,
}

impl Edge {
    /// Who gets the packet that opens a connection.
    fn open(&mut self, plan: &Plan, id: usize, slot: usize) -> Option<String> {
        let slot = *plan.tables.edge.rings[0].slots.get(slot)?;
        let current = name(plan, slot.backend())?;
        self.noted.remove(&id);
        if slot.is_tracked() {
            self.noted.insert(id, (current.clone(), plan.tables.edge.era));
        }
        Some(current)
    }

    /// Who gets a packet within a connection of `owner`'s, if anybody does.
    fn go_on(&mut self, plan: &Plan, id: usize, slot: usize, owner: &str) -> Option<String> {
        let edge = &plan.tables.edge;
        let ring = &edge.rings[0];
        let slot = ring.slots[slot];
        let own = name(plan, slot.backend())?;
        let chain = usize::from(slot.chain);
        let (first, further) = if slot.is_tracked() {
            let track = &ring.tracks[chain];
            assert!(track.between.len() <= BETWEEN_MAX);
            let names = [&[track.former][..], &track.between].concat();
            let is_named = |it: &str| {
                it == own || names.iter().any(|named| name(plan, *named).as_deref() == Some(it))
            };
            match self.noted.get_mut(&id) {
                Some((host, seen)) if *seen >= track.since && is_named(host) => {
                    *seen = edge.era;
                    (host.clone(), Vec::new())
                }
                _ => (name(plan, track.former)?, track.further.clone()),
            }
        } else {
            (own, ring.chains.get(chain).cloned().unwrap_or_default())
        };
        // Hosts with an agent pass on what they do not know, to others like them.
        let may_ask = first.starts_with("gue");
        let further = further.iter().filter_map(|position| name(plan, *position));
        let asked = further.filter(|it| may_ask && it.starts_with("gue"));
        let mut all = [first.clone()].into_iter().chain(asked);
        Some(all.find(|it| it == owner).unwrap_or(first))
    }
}

fn name(plan: &Plan, position: u16) -> Option<String> {
    backend_at(plan, position).map(|backend| backend.key.0.to_string())
}

/// Who has the flows that are not noted.
fn formers(plan: &Plan) -> BTreeSet<String> {
    let tracks = plan.tables.edge.rings[0].tracks.iter();
    tracks.filter_map(|track| name(plan, track.former)).collect()
}

fn tracked(plan: &Plan) -> usize {
    plan.tables.edge.rings[0].slots.iter().filter(|slot| slot.is_tracked()).count()
}

#[test]
fn slots_at_rest_are_not_tracked_and_only_those_that_change_hands_are() {
    let mut world = world();
    let rest = settle(&mut world);
    world.weigh("ip-1", 0);
    let drained = settle(&mut world);

    assert_eq!((tracked(&rest), rest.tables.edge.era), (0, 0));
    let ring = &drained.tables.edge.rings[0];
    let mut agentless = 0;
    for (before, after) in rest.tables.edge.rings[0].slots.iter().zip(&*ring.slots) {
        let (had, has) = (name(&rest, before.backend()), name(&drained, after.backend()));
        let is_agentless = |it: &Option<String>| it.as_ref().is_some_and(|it| it.starts_with("ip"));
        let concerns = had != has && (is_agentless(&had) || is_agentless(&has));
        assert_eq!(after.is_tracked(), concerns);
        if concerns {
            let track = &ring.tracks[usize::from(after.chain)];
            assert_eq!(name(&drained, track.former), had);
            assert_eq!((track.since, track.between.len()), (1, 0));
            agentless += 1;
        }
    }
    assert!(agentless >= ring.slots.len() / 4, "the drained host's at least");
    assert_eq!(drained.tables.edge.era, 1);
}

#[test]
fn slots_are_tracked_for_as_long_as_a_host_is_drained_and_then_for_a_while() {
    let mut world = world();
    settle(&mut world);
    world.weigh("ip-1", 0);
    let mut plan = settle(&mut world);
    let count = tracked(&plan);
    assert_ne!(count, 0);
    for _ in 0..10 {
        world.pass(TRANSITION / 3);
        plan = world.steer();
        assert_eq!(tracked(&plan), count);
    }
    let pool = world.model.pools.get_mut(testing::POOL).unwrap();
    pool.backends.retain(|backend| &*backend.uid != "ip-1");
    assert_eq!(tracked(&settle(&mut world)), count);
    world.pass(TRANSITION);
    assert_eq!(tracked(&world.steer()), 0);
}

#[test]
fn dead_host_has_no_claim_and_gets_none_by_coming_back() {
    let mut world = world();
    settle(&mut world);
    world.weigh("ip-1", 0);
    let drained = settle(&mut world);
    assert!(formers(&drained).contains("ip-1"));

    world.set("ip-1", false);
    assert!(!formers(&world.steer()).contains("ip-1"), "what begins now is not noted");
    world.set("ip-1", true);
    assert!(!formers(&settle(&mut world)).contains("ip-1"), "so what is not noted is not its");
}

#[test]
fn host_that_dies_leaves_its_slots_at_once_and_takes_them_back_with_the_flows_of_others_in_place() {
    let mut world = world();
    settle(&mut world);
    world.set("ip-1", false);
    let died = world.steer();
    assert!(!formers(&died).contains("ip-1"));
    world.set("ip-1", true);
    let back = settle(&mut world);

    let (before, after) = (&died.tables.edge.rings[0], &back.tables.edge.rings[0]);
    let mut returned = 0;
    for (before, after) in before.slots.iter().zip(&*after.slots) {
        let (had, has) = (name(&died, before.backend()), name(&back, after.backend()));
        if had != has && has.as_deref() == Some("ip-1") {
            let track = &back.tables.edge.rings[0].tracks[usize::from(after.chain)];
            assert_eq!((after.is_tracked(), name(&back, track.former)), (true, had));
            returned += 1;
        }
    }
    assert_ne!(returned, 0);
}

#[test]
fn pools_whose_hosts_all_have_agents_have_no_tracks_and_no_time() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    world.steer();
    world.weigh("ams-1", 0);
    let plan = settle(&mut world);

    assert!(chains(&plan).iter().any(|chain| chain == &["ams-1"]));
    assert_eq!((tracked(&plan), plan.tables.edge.era), (0, 0));
    assert!(plan.tables.edge.rings[0].tracks.is_empty());
}

#[test]
fn oldest_ring_is_remembered_while_two_take_turns() {
    let mut world = world();
    settle(&mut world);
    let mut plan = None;
    for turn in 0..20 {
        world.weigh("ip-1", turn % 2);
        plan = Some(settle(&mut world));
    }
    let (plan, memory) = (plan.unwrap(), &world.memory.services[testing::SERVICE].own);

    assert_eq!(plan.tables.edge.era, 20);
    assert_eq!(memory.past.len(), EPOCHS_MAX);
    assert_eq!(memory.past.last().map(|epoch| epoch.era), Some(1));
    assert_ne!(tracked(&plan), 0);
    for track in &*plan.tables.edge.rings[0].tracks {
        assert_eq!(track.since, 1);
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    /// A host dies, or comes back.
    Health(usize),
    /// It is drained, or no longer.
    Drain(usize),
    /// Seconds pass.
    Wait(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let host = || 0..HOSTS.len();
    prop_oneof![
        2 => host().prop_map(Change::Health),
        3 => host().prop_map(Change::Drain),
        2 => prop::sample::select(&[1_u64, 30, 150, 299, 400]).prop_map(Change::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Connections send packets after every change, or only at the end. One whose host lives all the time stays with it
    /// for the time that claims last, whatever becomes of the ring.
    #[test]
    fn connection_stays_with_its_host_while_the_ring_changes(
        changes in prop::collection::vec(change(), 1..8),
    ) {
        const SLOTS: usize = 48;
        let mut world = world();
        let mut edge = Edge::default();
        let mut plan = settle(&mut world);
        let mut connections: Vec<Option<Connection>> = Vec::new();
        // When each slot last came to another host, for each connection of it.
        let mut moved: BTreeMap<usize, UnixMs> = BTreeMap::new();
        let (mut dead, mut drained) = ([false; HOSTS.len()], [false; HOSTS.len()]);
        let last = changes.len() - 1;
        for (step, change) in changes.into_iter().enumerate() {
            for slot in (0..SLOTS).chain(0..SLOTS - 1) {
                let id = connections.len();
                let host = edge.open(&plan, id, slot * 83);
                let began = world.now;
                connections.push(host.map(|host| Connection { slot: slot * 83, host, began }));
            }
            let before = plan.clone();
            match change {
                Change::Health(host) => {
                    dead[host] = !dead[host];
                    world.set(HOSTS[host], !dead[host]);
                }
                Change::Drain(host) => {
                    drained[host] = !drained[host];
                    world.weigh(HOSTS[host], u32::from(!drained[host]));
                }
                Change::Wait(seconds) => world.pass(Duration::from_secs(seconds)),
            }
            plan = settle(&mut world);
            let its = |plan: &Plan, slot: usize| {
                let slot = plan.tables.edge.rings[0].slots.get(slot);
                slot.and_then(|slot| name(plan, slot.backend()))
            };
            for (id, place) in connections.iter_mut().enumerate() {
                let Some(connection) = place else { continue };
                let Connection { slot, host, began } = connection.clone();
                let position = HOSTS.iter().position(|it| *it == host).unwrap();
                if its(&before, slot) != its(&plan, slot) {
                    moved.entry(id).or_insert(world.now);
                }
                let is_over = moved.get(&id).is_some_and(|at| at.after(TRANSITION) <= world.now.after(SETTLE));
                // Nobody is left to serve; or the claim is over.
                if dead[position] || is_over || its(&plan, slot).is_none() {
                    *place = None;
                    continue;
                }
                if id % 2 == 0 && step < last {
                    continue;
                }
                let reached = edge.go_on(&plan, id, slot, &host);
                prop_assert_eq!(
                    reached.as_deref(),
                    Some(&*host),
                    "{} of slot {} since {:?}, after {:?}: {:?}",
                    id, slot, began, change, world.memory.services[testing::SERVICE].own
                );
            }
        }
    }
}
