//! At every moment every two nodes understand each other, whatever happens and in whatever order.

use proptest::prelude::*;

use super::*;

fn order(uid: &str, what: KeyKind) -> Order {
    Order {
        uid: uid.into(),
        what,
        former_for: Duration::from_secs(60),
        skipped: BTreeSet::new(),
        is_complete: false,
    }
}

const TAG: KeyKind = KeyKind::EncapsulationKey;
const SECRET: KeyKind = KeyKind::ClusterSecret;

/// A cluster whose controller's clock only moves when it is told to.
struct Cluster {
    keys: Keys,
    orders: Vec<Order>,
    /// What each node works with, and what it has said.
    nodes: BTreeMap<String, (Keyring, Option<String>)>,
    now: Moment,
    secrets: u8,
    /// Tags of packets that were sent, and when.
    on_the_way: Vec<(Moment, Vec<u8>)>,
}

impl Cluster {
    fn new(nodes: &[&str]) -> Self {
        let keys = Keys::new([0; SECRET_BYTES]);
        let keyring = keys.keyring();
        let node = |name: &&str| ((*name).to_owned(), (keyring.clone(), Some(keyring.id.clone())));
        Self {
            nodes: nodes.iter().map(node).collect(),
            keys,
            orders: Vec::new(),
            now: Moment(0).after(Duration::from_secs(1000)),
            secrets: 0,
            on_the_way: Vec::new(),
        }
    }

    fn step(&mut self) -> Option<Moment> {
        let held = self.nodes.iter().map(|(name, (_, said))| (name.clone(), said.clone()));
        let secret = self.secrets + 1;
        let mut was_asked = false;
        let wake_at = self.keys.step(&self.orders, &held.collect(), self.now, || {
            was_asked = true;
            [secret; SECRET_BYTES]
        });
        self.secrets += u8::from(was_asked);
        wake_at
    }

    fn take(&mut self, node: &str) {
        let keyring = self.keys.keyring();
        self.nodes.get_mut(node).unwrap().0 = keyring;
    }

    fn say(&mut self, node: &str) {
        let (keyring, said) = self.nodes.get_mut(node).unwrap();
        *said = Some(keyring.id.clone());
    }

    fn all_take(&mut self) {
        for node in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.take(&node);
            self.say(&node);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn phase(&self, uid: &str) -> KeyRotationPhase {
        self.keys.phase(uid)
    }

    fn waiting_for(&self) -> Vec<String> {
        let held = self.nodes.iter().map(|(name, (_, said))| (name.clone(), said.clone()));
        self.keys.waiting_for(&self.orders, &held.collect())
    }

    /// Steps, with every node as quick as can be, until nothing moves.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.step();
            self.all_take();
            self.wait(SETTLING);
        }
    }

    fn expect_understanding(&mut self) {
        self.on_the_way.retain(|(sent, _)| self.now < sent.after(SETTLING));
        let keyrings: Vec<_> = self.nodes.values().map(|(keyring, _)| keyring).collect();
        for one in &keyrings {
            assert!((1..=2).contains(&one.believed_tags.len()));
            assert!(one.other_flow_keys.len() <= OTHERS_MAX);
            self.on_the_way.push((self.now, one.sent_tag.clone()));
            for other in &keyrings {
                let finds =
                    one.flow_key == other.flow_key || one.other_flow_keys.contains(&other.flow_key);
                assert!(finds, "a flow that one edge places is not found by another");
            }
        }
        for (_, tag) in &self.on_the_way {
            for receiver in &keyrings {
                assert!(receiver.believed_tags.contains(tag), "a packet is not believed");
            }
        }
    }
}

#[test]
fn stages_follow_one_another_as_nodes_take_their_keyrings() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let old = cluster.keys.keyring();
    cluster.orders.push(order("one", SECRET));

    cluster.step();
    assert_eq!(cluster.phase("one"), KeyRotationPhase::Distributing);
    let first = cluster.keys.keyring();
    assert_eq!((&first.sent_tag, &first.flow_key), (&old.sent_tag, &old.flow_key));
    assert_eq!(first.believed_tags.len(), 2);
    cluster.take("a");
    cluster.say("a");
    cluster.step();
    assert_eq!(cluster.phase("one"), KeyRotationPhase::Distributing);
    assert_eq!(cluster.waiting_for(), ["b"]);

    cluster.all_take();
    cluster.step();
    assert_eq!(cluster.phase("one"), KeyRotationPhase::Switching);
    let second = cluster.keys.keyring();
    assert_eq!(second.sent_tag, first.believed_tags[1]);
    assert_eq!(&first.other_flow_keys, std::slice::from_ref(&second.flow_key));
    assert_eq!(&second.other_flow_keys, std::slice::from_ref(&old.flow_key));

    cluster.all_take();
    let wake_at = cluster.step();
    assert_eq!(cluster.phase("one"), KeyRotationPhase::Switching, "packets are on the way");
    assert_eq!(wake_at, Some(cluster.now.after(SETTLING)));
    cluster.wait(SETTLING);
    cluster.step();
    assert_eq!(cluster.phase("one"), KeyRotationPhase::Retiring);
    let third = cluster.keys.keyring();
    assert_eq!(third.believed_tags, [second.sent_tag]);
    assert_eq!(third.other_flow_keys, [old.flow_key]);

    cluster.all_take();
    cluster.step();
    assert_eq!(cluster.phase("one"), KeyRotationPhase::Complete);
    assert_eq!(cluster.keys.keyring(), third);
}

#[test]
fn encapsulation_key_changes_no_flow() {
    let mut cluster = Cluster::new(&["a"]);
    let before = cluster.keys.keyring();
    cluster.orders.push(order("one", TAG));
    let mut seen = BTreeSet::new();

    for _ in 0..10 {
        cluster.step();
        let keyring = cluster.keys.keyring();
        assert_eq!(keyring.flow_key, before.flow_key);
        assert_eq!(keyring.other_flow_keys, before.other_flow_keys);
        seen.insert(keyring.sent_tag);
        cluster.all_take();
        cluster.wait(SETTLING);
    }

    assert_eq!(cluster.phase("one"), KeyRotationPhase::Complete);
    assert_eq!(seen.len(), 2);
}

#[test]
fn orders_wait_for_one_another_and_are_carried_out_once() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.orders = vec![order("one", TAG), order("two", SECRET)];
    cluster.step();
    assert_eq!(cluster.phase("two"), KeyRotationPhase::Pending);

    cluster.settle();

    assert_eq!(cluster.phase("one"), KeyRotationPhase::Complete);
    assert_eq!(cluster.phase("two"), KeyRotationPhase::Complete);
    assert_eq!(cluster.secrets, 1);
    for order in &mut cluster.orders {
        order.is_complete = true;
    }
    cluster.settle();
    assert!(!cluster.keys.is_moving());
    assert_eq!(cluster.secrets, 1);
}

#[test]
fn node_that_is_away_holds_the_rotation_until_it_is_skipped_or_gone() {
    for is_skipped in [true, false] {
        let mut cluster = Cluster::new(&["a", "away"]);
        cluster.orders.push(order("one", TAG));
        cluster.step();
        cluster.take("a");
        cluster.say("a");
        cluster.wait(Duration::from_secs(3600));
        cluster.step();
        assert_eq!(cluster.waiting_for(), ["away"]);

        if is_skipped {
            cluster.orders[0].skipped.insert("away".into());
        } else {
            cluster.nodes.remove("away");
        }
        for _ in 0..10 {
            cluster.step();
            cluster.take("a");
            cluster.say("a");
            cluster.wait(SETTLING);
        }
        assert_eq!(cluster.phase("one"), KeyRotationPhase::Complete);
    }
}

#[test]
fn order_that_is_withdrawn_ends_before_the_new_key_is_used_and_not_after() {
    let mut cluster = Cluster::new(&["a"]);
    let before = cluster.keys.keyring();
    cluster.orders.push(order("one", TAG));
    cluster.step();
    cluster.orders.clear();
    cluster.step();
    assert_eq!(cluster.keys.keyring(), before);

    cluster.orders.push(order("two", TAG));
    cluster.step();
    cluster.all_take();
    cluster.step();
    assert_eq!(cluster.phase("two"), KeyRotationPhase::Switching);
    cluster.orders.clear();
    cluster.settle();
    assert!(!cluster.keys.is_moving());
    assert_ne!(cluster.keys.keyring().sent_tag, before.sent_tag);
}

#[test]
fn key_that_was_withdrawn_is_never_offered_again() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.orders.push(order("one", TAG));
    cluster.step();
    let offered = cluster.keys.keyring();
    cluster.all_take();
    cluster.orders.clear();
    cluster.step();
    cluster.take("a");

    cluster.orders.push(order("two", TAG));
    cluster.step();

    assert_ne!(cluster.keys.keyring().believed_tags, offered.believed_tags);
    assert_eq!(cluster.waiting_for(), ["a"], "what it said was of another keyring");
}

#[test]
fn former_secret_is_asked_for_as_long_as_is_ordered() {
    let mut cluster = Cluster::new(&["a"]);
    let old = cluster.keys.keyring().flow_key;
    cluster.orders.push(order("one", SECRET));
    while cluster.phase("one") != KeyRotationPhase::Complete {
        cluster.step();
        cluster.all_take();
        cluster.wait(SETTLING);
    }
    assert_eq!(cluster.keys.keyring().other_flow_keys, [old]);
    let wake_at = cluster.step().unwrap();

    cluster.now = wake_at;
    cluster.step();

    assert!(cluster.keys.keyring().other_flow_keys.is_empty());
}

#[test]
fn cluster_without_nodes_moves_on_by_time_alone() {
    let mut cluster = Cluster::new(&[]);
    cluster.orders.push(order("one", SECRET));

    while cluster.phase("one") != KeyRotationPhase::Complete {
        cluster.now = cluster.step().expect("it says when to look again").max(cluster.now);
    }

    assert_eq!(cluster.phase("one"), KeyRotationPhase::Complete);
}

#[test]
fn what_is_on_disk_is_gone_on_with_and_what_is_torn_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.json");
    assert_eq!(Keys::load(&mut Sheet::at(&path)).unwrap(), None);
    let mut cluster = Cluster::new(&["a"]);
    cluster.orders.push(order("one", SECRET));
    cluster.step();
    cluster.all_take();
    cluster.step();

    cluster.keys.store(&mut Sheet::at(&path)).unwrap();

    assert_eq!(Keys::load(&mut Sheet::at(&path)).unwrap(), Some(cluster.keys));
    std::fs::write(&path, b"{\"current\":").unwrap();
    assert!(Keys::load(&mut Sheet::at(&path)).is_err());
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Step,
    Take(usize),
    Say(usize),
    Wait(u64),
    Order(KeyKind),
    Withdraw(usize),
    /// The controller is killed, and started again with what is on disk.
    Restart,
    Join,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Step),
        6 => (0_usize..4).prop_map(Event::Take),
        6 => (0_usize..4).prop_map(Event::Say),
        3 => (1_u64..5000).prop_map(Event::Wait),
        1 => Just(Event::Order(TAG)),
        1 => Just(Event::Order(SECRET)),
        1 => (0_usize..4).prop_map(Event::Withdraw),
        1 => Just(Event::Restart),
        1 => Just(Event::Join),
    ]
}

proptest! {
    #[test]
    fn every_two_nodes_understand_each_other_at_every_moment(
        events in prop::collection::vec(event(), 1..400),
    ) {
        let mut cluster = Cluster::new(&["0", "1", "2"]);
        for (number, event) in events.into_iter().enumerate() {
            let names: Vec<_> = cluster.nodes.keys().cloned().collect();
            match event {
                Event::Step => drop(cluster.step()),
                Event::Take(node) => cluster.take(&names[node % names.len()]),
                Event::Say(node) => cluster.say(&names[node % names.len()]),
                Event::Wait(ms) => cluster.wait(Duration::from_millis(ms)),
                Event::Order(what) => cluster.orders.push(order(&format!("o{number}"), what)),
                Event::Withdraw(nth) => {
                    if nth < cluster.orders.len() {
                        cluster.orders.remove(nth);
                    }
                }
                Event::Restart => {
                    let bytes = serde_json::to_vec(&cluster.keys).unwrap();
                    cluster.keys = serde_json::from_slice(&bytes).unwrap();
                }
                Event::Join => {
                    let keyring = cluster.keys.keyring();
                    cluster.nodes.insert(format!("n{number}"), (keyring, None));
                }
            }
            cluster.expect_understanding();
        }
    }
}

#[test]
fn figures_follow_a_rotation_from_its_order_to_its_end() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let figures = |cluster: &Cluster| {
        let held = cluster.nodes.iter().map(|(name, (_, said))| (name.clone(), said.clone()));
        let it = cluster.keys.progress(&cluster.orders, &held.collect());
        (it.phase, it.waiting_for, it.pending, it.epoch, it.formers)
    };
    assert_eq!(figures(&cluster), (None, 0, 0, 0, 0));

    cluster.orders = vec![order("tag", TAG), order("secret", SECRET)];
    assert_eq!(figures(&cluster), (None, 0, 2, 0, 0));
    cluster.step();
    assert_eq!(figures(&cluster), (Some(KeyRotationPhase::Distributing), 2, 1, 0, 0));
    cluster.take("a");
    cluster.say("a");
    assert_eq!(figures(&cluster).1, 1, "the one that has yet to");
    cluster.all_take();
    cluster.step();
    let (phase, waiting_for, pending, epoch, _) = figures(&cluster);
    assert_eq!((phase, waiting_for, pending), (Some(KeyRotationPhase::Switching), 2, 1));
    assert!(epoch > 0, "the new key is sent by");

    while figures(&cluster).0.is_some() || figures(&cluster).2 > 0 {
        cluster.step();
        cluster.all_take();
        cluster.wait(SETTLING);
    }
    assert_eq!((figures(&cluster).1, figures(&cluster).4), (0, 1), "the former secret counts");
    cluster.settle();
    assert_eq!(figures(&cluster).4, 0, "its time is over");
}
