//! Networks of speakers in virtual time: what every one of them knows once things have calmed down
//! is what the wires that are left allow, and nothing else.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::IpNet;
use isocast_bgp::fsm::RestartState;
use isocast_lab::sim::{Loss, NodeId, Reach, Simulator};
use proptest::prelude::*;

/// Longer than a hold time and the longest wait between attempts, one after the other.
const CALM: Duration = Duration::from_secs(40);
const MS: Duration = Duration::from_millis(1);

/// A simulator, and what its network looks like from above.
struct Network {
    sim: Simulator,
    nodes: Vec<NodeId>,
    wires: BTreeSet<(usize, usize)>,
    cut: BTreeSet<(usize, usize)>,
    down: BTreeSet<usize>,
}

fn prefix(node: usize) -> IpNet {
    IpNet::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(node).unwrap())))
}

impl Network {
    fn new(count: usize, wires: &[(usize, usize)], restart_time: Option<Duration>) -> Self {
        let mut sim = Simulator::new(restart_time);
        let nodes: Vec<_> = (0..count).map(|node| sim.add_node([prefix(node)])).collect();
        let wires: BTreeSet<_> = wires.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
        for (a, b) in &wires {
            // Different on each wire, so that news overtake each other.
            sim.join(nodes[*a], nodes[*b], MS * u32::try_from(1 + (a * 7 + b * 3) % 20).unwrap());
        }
        let mut network = Self { sim, nodes, wires, cut: BTreeSet::new(), down: BTreeSet::new() };
        network.sim.run_for(CALM);
        network
    }

    fn cut(&mut self, a: usize, b: usize) {
        self.sim.cut(self.nodes[a], self.nodes[b]);
        self.cut.insert((a.min(b), a.max(b)));
    }

    fn mend(&mut self, a: usize, b: usize) {
        self.sim.mend(self.nodes[a], self.nodes[b]);
        self.cut.remove(&(a.min(b), a.max(b)));
    }

    fn stop(&mut self, node: usize, loss: Loss) {
        self.sim.stop(self.nodes[node], loss);
        self.down.insert(node);
    }

    fn start(&mut self, node: usize, restart: RestartState) {
        self.sim.start(self.nodes[node], restart);
        self.down.remove(&node);
    }

    fn table(&self, node: usize) -> BTreeMap<IpNet, Reach> {
        self.sim.table(self.nodes[node])
    }

    /// How far everything is from a node, over the wires that are left.
    fn distances(&self, from: usize) -> BTreeMap<usize, usize> {
        let mut distances = BTreeMap::from([(from, 0)]);
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            for (a, b) in self.wires.difference(&self.cut) {
                let other = if *a == at { *b } else { *a };
                let leads = (*a == at || *b == at) && !self.down.contains(&other);
                if leads && !distances.contains_key(&other) {
                    distances.insert(other, distances[&at] + 1);
                    queue.push_back(other);
                }
            }
        }
        distances
    }

    /// What is wrong: everybody must reach what can be reached, by a shortest path, and nothing else.
    fn problem(&self) -> Option<String> {
        for node in (0..self.nodes.len()).filter(|node| !self.down.contains(node)) {
            let table = self.table(node);
            let distances = self.distances(node);
            let wanted: BTreeSet<_> = distances.keys().map(|other| prefix(*other)).collect();
            let known: BTreeSet<_> = table.keys().copied().collect();
            if wanted != known {
                return Some(format!("{node} reaches {known:?} instead of {wanted:?}"));
            }
            for (other, distance) in distances {
                let reach = &table[&prefix(other)];
                if reach.path.len() != distance || reach.stale {
                    return Some(format!(
                        "{node} reaches {other} by {reach:?}, not {distance} hops"
                    ));
                }
            }
        }
        None
    }
}

fn ring(count: usize) -> Vec<(usize, usize)> {
    (0..count).map(|node| (node, (node + 1) % count)).collect()
}

#[test]
fn a_ring_survives_one_cut_and_is_two_halves_after_another() {
    let mut network = Network::new(10, &ring(10), None);
    assert_eq!(network.problem(), None);

    network.cut(0, 1);
    network.sim.run_for(CALM);
    assert_eq!(network.problem(), None);
    assert_eq!(network.table(1)[&prefix(0)].path.len(), 9);

    network.cut(5, 6);
    network.sim.run_for(CALM);
    assert_eq!(network.problem(), None);
    assert_eq!(network.table(1).len(), 5);

    network.mend(0, 1);
    network.mend(5, 6);
    network.sim.run_for(CALM);
    assert_eq!(network.problem(), None);
}

#[test]
fn fifty_sites_on_two_transits_converge_and_lose_one_transit_without_losing_a_prefix() {
    let sites = 50;
    let transits = [sites, sites + 1];
    let wires: Vec<_> =
        (0..sites).flat_map(|site| transits.map(|transit| (site, transit))).collect();
    let mut network = Network::new(sites + 2, &wires, None);
    assert_eq!(network.problem(), None);

    network.stop(transits[0], Loss::Power);
    network.sim.run_for(CALM);

    assert_eq!(network.problem(), None);
    assert_eq!(network.table(0).len(), sites + 1);
}

#[test]
fn a_cut_shorter_than_the_hold_time_is_not_noticed() {
    let mut network = Network::new(3, &[(0, 1), (1, 2)], None);

    network.cut(0, 1);
    network.sim.run_for(Duration::from_secs(4));
    assert!(network.table(2).contains_key(&prefix(0)));
    network.mend(0, 1);
    network.sim.run_for(Duration::from_secs(20));

    assert_eq!(network.problem(), None);
}

#[test]
fn routes_of_a_process_that_restarts_gracefully_never_leave_anybodys_table() {
    let graceful = Some(Duration::from_secs(30));
    let mut network = Network::new(4, &[(0, 1), (1, 2), (2, 3)], graceful);

    network.stop(0, Loss::Process);
    for _ in 0..10 {
        network.sim.run_for(Duration::from_millis(200));
        assert!(network.table(1)[&prefix(0)].stale);
        assert!(network.table(3).contains_key(&prefix(0)));
    }
    network.start(0, RestartState { restarting: true, forwarding_preserved: true });
    for _ in 0..200 {
        network.sim.run_for(Duration::from_millis(200));
        assert!(network.table(3).contains_key(&prefix(0)));
    }

    assert_eq!(network.problem(), None);
}

#[test]
fn routes_of_a_process_that_does_not_return_go_when_its_time_is_over() {
    let graceful = Some(Duration::from_secs(30));
    let mut network = Network::new(3, &[(0, 1), (1, 2)], graceful);

    network.stop(0, Loss::Process);
    network.sim.run_for(Duration::from_secs(29));
    assert!(network.table(2).contains_key(&prefix(0)));
    network.sim.run_for(Duration::from_secs(3));

    assert_eq!(network.problem(), None);
}

#[test]
fn what_is_no_longer_announced_is_gone_everywhere_within_the_wires_latency() {
    let mut network = Network::new(10, &ring(10), None);

    network.sim.announce(network.nodes[0], []);
    network.sim.run_for(Duration::from_secs(1));

    for node in 0..10 {
        assert!(!network.table(node).contains_key(&prefix(0)), "{node} still has it");
    }
}

#[test]
fn equal_calls_play_equally() {
    let play = || {
        let mut network = Network::new(6, &ring(6), None);
        network.cut(2, 3);
        network.sim.run_for(Duration::from_secs(11));
        (0..6).map(|node| network.table(node)).collect::<Vec<_>>()
    };

    assert_eq!(play(), play());
}

/// Something that happens to a network.
#[derive(Clone, Debug)]
enum Act {
    Cut(usize),
    Mend(usize),
    Stop(usize, bool),
    Start(usize),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (0_usize..20).prop_map(Act::Cut),
        (0_usize..20).prop_map(Act::Mend),
        (0_usize..6, any::<bool>()).prop_map(|(node, power)| Act::Stop(node, power)),
        (0_usize..6).prop_map(Act::Start),
        (1_u64..15_000).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happened, in whatever order: once it is calm, everybody knows what is left.
    #[test]
    fn any_network_converges_to_what_is_left_of_it(
        chords in prop::collection::btree_set((0_usize..6, 0_usize..6), 0..8),
        graceful in any::<bool>(),
        acts in acts(),
    ) {
        let mut wires = ring(6);
        wires.extend(chords.into_iter().filter(|(a, b)| a != b));
        let graceful = graceful.then(|| Duration::from_secs(20));
        let mut network = Network::new(6, &wires, graceful);
        let wires: Vec<_> = network.wires.iter().copied().collect();
        for act in acts {
            match act {
                Act::Cut(wire) => {
                    let (a, b) = wires[wire % wires.len()];
                    network.cut(a, b);
                }
                Act::Mend(wire) => {
                    let (a, b) = wires[wire % wires.len()];
                    network.mend(a, b);
                }
                Act::Stop(node, true) => network.stop(node, Loss::Power),
                Act::Stop(node, false) => network.stop(node, Loss::Process),
                Act::Start(node) if network.down.contains(&node) => {
                    network.start(node, RestartState::default());
                }
                Act::Start(_) => {}
                Act::Wait(millis) => network.sim.run_for(Duration::from_millis(millis)),
            }
        }
        network.sim.run_for(CALM * 3);
        prop_assert_eq!(network.problem(), None);
    }
}
