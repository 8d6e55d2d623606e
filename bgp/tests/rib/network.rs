//! Networks of speakers whose links break and mend: when it is quiet again, everybody reaches what
//! can be reached, by the shortest way, and remembers nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;

use crate::net::{Net, net, transit};

/// Long enough for every reconnection.
const QUIET: Duration = Duration::from_secs(60);

struct World {
    net: Net,
    links: Vec<(usize, usize)>,
    up: BTreeSet<(usize, usize)>,
    own: BTreeMap<usize, BTreeSet<IpNet>>,
}

impl World {
    fn new(speakers: usize, links: &[(usize, usize)]) -> Self {
        let mut net = Net::new(speakers);
        for (a, b) in links {
            net.join(transit(*a, *b), transit(*b, *a));
        }
        let up = links.iter().copied().collect();
        Self { net, links: links.to_vec(), up, own: BTreeMap::new() }
    }

    fn ring(speakers: usize) -> Self {
        let links: Vec<_> = (0..speakers).map(|at| (at, (at + 1) % speakers)).collect();
        Self::new(speakers, &links)
    }

    fn announce(&mut self, speaker: usize, prefixes: &[&str]) {
        self.own.insert(speaker, prefixes.iter().map(|text| net(text)).collect());
        self.net.announce(speaker, prefixes.iter().copied());
    }

    fn set_link(&mut self, link: (usize, usize), up: bool) {
        self.net.set_link(link.0, link.1, up);
        if up {
            self.up.insert(link);
        } else {
            self.up.remove(&link);
        }
    }

    /// Hops between speakers that can reach each other.
    fn distances(&self, from: usize) -> BTreeMap<usize, usize> {
        let mut distances = BTreeMap::from([(from, 0)]);
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            for (a, b) in &self.up {
                for (here, there) in [(*a, *b), (*b, *a)] {
                    if here == at && !distances.contains_key(&there) {
                        distances.insert(there, distances[&at] + 1);
                        queue.push_back(there);
                    }
                }
            }
        }
        distances
    }

    fn check(&self) {
        for at in 0..self.net.speakers.len() {
            let distances = self.distances(at);
            let mut expected: BTreeMap<IpNet, usize> = BTreeMap::new();
            for (origin, prefixes) in &self.own {
                let Some(distance) = distances.get(origin) else { continue };
                for prefix in prefixes {
                    let nearest = expected.entry(*prefix).or_insert(*distance);
                    *nearest = (*nearest).min(*distance);
                }
            }
            let best = self.net.best(at);
            let found =
                best.iter().map(|(prefix, path)| (*prefix, path.attributes.as_path.0.len()));
            assert_eq!(found.collect::<BTreeMap<_, _>>(), expected, "speaker {at}");
        }
    }
}

#[test]
fn a_ring_finds_the_other_way_round() {
    let mut world = World::ring(6);
    world.announce(0, &["192.0.2.0/24", "2001:db8::/32"]);
    world.check();

    world.set_link((5, 0), false);
    world.net.pass(QUIET);
    world.check();
    assert_eq!(world.net.best(5)[&net("192.0.2.0/24")].attributes.as_path.0.len(), 5);

    world.set_link((5, 0), true);
    world.net.pass(QUIET);
    world.check();
}

#[test]
fn what_is_cut_off_is_forgotten_by_all() {
    let mut world = World::ring(5);
    world.announce(2, &["192.0.2.1/32"]);

    world.set_link((1, 2), false);
    world.set_link((2, 3), false);
    world.net.pass(QUIET);

    world.check();
    for at in [0, 1, 3, 4] {
        assert_eq!(world.net.speakers[at].attribute_sets(), 0, "speaker {at}");
    }
}

#[test]
fn the_nearest_of_two_origins_serves_until_it_withdraws() {
    let mut world = World::new(5, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
    world.announce(0, &["192.0.2.1/32"]);
    world.announce(4, &["192.0.2.1/32"]);
    world.check();

    world.announce(0, &[]);
    world.check();
    assert_eq!(world.net.best(1)[&net("192.0.2.1/32")].attributes.as_path.0.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_mesh_converges_whatever_breaks(
        steps in prop::collection::vec((0_usize..3, 0_usize..64, any::<bool>()), 1..12),
    ) {
        const PREFIXES: [&str; 4] =
            ["192.0.2.1/32", "203.0.113.0/24", "2001:db8::1/128", "0.0.0.0/0"];
        let chords = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (0, 3), (1, 5)];
        let mut world = World::new(6, &chords);
        for (what, which, on) in steps {
            match what {
                0 => {
                    let link = world.links[which % world.links.len()];
                    world.set_link(link, on);
                }
                1 => {
                    let first = which % PREFIXES.len();
                    let count = if on { 2 } else { 0 };
                    let prefixes: Vec<_> = PREFIXES.into_iter().cycle().skip(first).take(count).collect();
                    world.announce(which % 6, &prefixes);
                }
                _ => world.net.pass(Duration::from_secs(which as u64)),
            }
        }

        world.net.pass(QUIET);

        world.check();
    }
}
