//! Scenarios and properties of [`decide()`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

/// A node whose wishes are decided again and again.
struct Node {
    wishes: BTreeMap<IpNet, Wish>,
    ledger: Ledger,
    now: Moment,
}

fn prefix(number: u16) -> IpNet {
    let [high, low] = number.to_be_bytes();
    IpNet::from(std::net::IpAddr::from([198, 18, high, low]))
}

fn others(others: u32) -> Elsewhere {
    Elsewhere::Known { others, keeper: false }
}

impl Node {
    /// Announces `count` prefixes, each of which others announce too.
    fn announcing(count: u16) -> Self {
        let wish = Wish { elsewhere: others(3), ..Wish::default() };
        let wishes = (0..count).map(|number| (prefix(number), wish.clone())).collect();
        let mut node = Self { wishes, ledger: Ledger::default(), now: Moment(1_000_000) };
        assert_eq!(node.announced(), usize::from(count));
        node
    }

    fn decide(&mut self) -> Decision {
        let decision = decide(&self.wishes, &Rules::default(), self.ledger.clone(), self.now);
        self.ledger = decision.ledger.clone();
        let announced: BTreeSet<_> = decision
            .standings
            .iter()
            .filter(|(_, standing)| standing.is_announced())
            .map(|(prefix, _)| *prefix)
            .collect();
        assert!(self.ledger.announced().eq(announced.iter()));
        decision
    }

    fn announced(&mut self) -> usize {
        self.decide();
        self.ledger.announced().count()
    }

    fn standing(&mut self, number: u16) -> Standing {
        self.decide().standings[&prefix(number)]
    }

    fn wish(&mut self, number: u16) -> &mut Wish {
        self.wishes.get_mut(&prefix(number)).unwrap()
    }

    fn close(&mut self, numbers: impl IntoIterator<Item = u16>, gate: Gate) {
        for number in numbers {
            self.wish(number).closed.insert(gate);
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }
}

fn held(hold: Hold) -> Standing {
    Standing::Held { hold, graceful_shutdown: false }
}

#[test]
fn a_single_failure_is_withdrawn_at_once_and_returns_at_once() {
    let mut node = Node::announcing(3);
    node.close([1], Gate::Backends);

    assert_eq!(node.standing(1), Standing::NotAnnounced(WhyNot::Closed(Gate::Backends)));

    node.wish(1).closed.clear();
    assert_eq!(node.standing(1), Standing::Announced { graceful_shutdown: false });
}

#[test]
fn an_empty_set_of_wishes_withdraws_nothing() {
    let mut node = Node::announcing(40);
    node.wishes.clear();

    let decision = node.decide();

    assert!(decision.standings.values().all(|standing| *standing == held(Hold::Missing)));
    assert_eq!(decision.newly_held.len(), 40);
    node.pass(3600);
    assert_eq!(node.announced(), 40, "however long it takes");
    assert_eq!(node.decide().newly_held, [], "each is counted once");
}

#[test]
fn health_withdraws_no_more_than_its_budget_and_the_rest_a_window_later() {
    let mut node = Node::announcing(100);
    node.close(0..30, Gate::Backends);

    let decision = node.decide();

    assert_eq!(node.ledger.announced().count(), 90);
    assert_eq!(decision.newly_held.len(), 20);
    assert_eq!(decision.wake_at, Some(node.now.after(Duration::from_secs(60))));
    assert_eq!(node.standing(29), held(Hold::WithdrawalBudget));
    node.pass(60);
    assert_eq!(node.announced(), 81, "10 % of the 90 that were left");
}

#[test]
fn everything_failing_at_once_is_held_until_something_recovers() {
    let mut node = Node::announcing(100);
    node.close(0..100, Gate::Backends);

    assert!(node.decide().standings.values().all(|it| *it == held(Hold::SharedCause)));
    node.pass(3600);
    assert_eq!(node.announced(), 100);

    for number in 0..50 {
        node.wish(number).closed.clear();
    }
    assert_eq!(node.announced(), 90, "half of them is no longer everything");
}

#[test]
fn checks_that_fail_one_after_the_other_still_have_one_cause() {
    let mut node = Node::announcing(8);
    for number in 0..8 {
        node.close([number], Gate::Backends);
        node.decide();
        node.pass(1);
    }

    assert_eq!(node.announced(), 3, "the first five looked like failures of their own");
    node.pass(3600);
    assert_eq!(node.announced(), 3);
    assert_eq!(node.standing(7), held(Hold::SharedCause));
}

#[test]
fn what_failed_long_ago_makes_no_shared_cause_of_one_more_failure() {
    let mut node = Node::announcing(20);
    for number in 0..19 {
        node.close([number], Gate::Backends);
        node.decide();
        node.pass(60);
    }
    assert_eq!(node.announced(), 1);

    node.close([19], Gate::Backends);

    assert_eq!(node.announced(), 0);
}

#[test]
fn the_last_announcer_stays_whatever_automation_finds() {
    for gate in [Gate::Announceable, Gate::Backends, Gate::DataPlane, Gate::Lease] {
        for elsewhere in [others(0), Elsewhere::Known { others: 3, keeper: true }] {
            let mut node = Node::announcing(2);
            node.wish(1).elsewhere = elsewhere;
            node.close([0, 1], gate);

            assert_eq!(node.standing(1), held(Hold::LastAnnouncer));
            assert!(!node.standing(0).is_announced());
        }
    }
}

#[test]
fn a_last_announcer_that_is_released_goes() {
    let mut node = Node::announcing(1);
    node.wish(0).elsewhere = others(0);
    node.close([0], Gate::Backends);
    assert_eq!(node.standing(0), held(Hold::LastAnnouncer));

    node.wish(0).elsewhere = others(1);

    assert!(!node.standing(0).is_announced());
}

#[test]
fn death_has_no_budget() {
    let mut node = Node::announcing(100);
    node.close(0..100, Gate::DataPlane);

    assert_eq!(node.announced(), 0);
}

#[test]
fn people_remove_more_at_once_and_also_the_last_announcer_but_not_everything_by_a_slip() {
    let mut node = Node::announcing(100);
    for number in 0..100 {
        node.wish(number).elsewhere = others(0);
    }
    node.close(0..100, Gate::Removal);

    assert_eq!(node.announced(), 80);
    assert_eq!(node.standing(99), held(Hold::RemovalBudget));
    node.pass(60);
    assert_eq!(node.announced(), 64, "20 % of the 80 that were left");
}

#[test]
fn what_is_put_back_is_refunded() {
    let mut node = Node::announcing(40);
    node.close(0..10, Gate::Removal);
    assert_eq!(node.announced(), 30);
    for number in 0..10 {
        node.wish(number).closed.clear();
    }
    assert_eq!(node.announced(), 40);

    node.close(10..20, Gate::Removal);

    assert_eq!(node.announced(), 30);
}

#[test]
fn a_drain_is_signalled_then_withdrawn_without_a_budget() {
    let mut node = Node::announcing(100);
    let drained = |node: &mut Node, stage| {
        for wish in node.wishes.values_mut() {
            *wish = Wish { elsewhere: others(1), ..Wish::default() }.draining(stage, false);
        }
    };
    drained(&mut node, Stage::Signalled);
    assert_eq!(node.standing(0), Standing::Announced { graceful_shutdown: true });
    assert_eq!(node.standing(0).reason(), "Draining");

    drained(&mut node, Stage::Withdrawn);

    assert_eq!(node.announced(), 0);
    assert_eq!(node.standing(0).reason(), "Drained");
}

#[test]
fn a_drain_takes_the_last_announcer_only_if_somebody_confirmed_it() {
    let mut node = Node::announcing(1);
    let draining = |confirmed| {
        Wish { elsewhere: others(0), ..Wish::default() }.draining(Stage::Withdrawn, confirmed)
    };
    *node.wish(0) = draining(false);
    let expected = Standing::Held { hold: Hold::LastAnnouncer, graceful_shutdown: true };
    assert_eq!(node.standing(0), expected);

    *node.wish(0) = draining(true);

    assert!(!node.standing(0).is_announced());
}

#[test]
fn a_flapping_prefix_is_kept_back_longer_each_time() {
    let mut node = Node::announcing(1);
    let mut flap = || {
        node.close([0], Gate::Backends);
        node.decide();
        node.wish(0).closed.clear();
        let decision = node.decide();
        let until = decision.wake_at.unwrap_or(node.now);
        let waited = until.since(node.now).as_secs();
        node.now = until;
        node.decide();
        waited
    };

    let waits: Vec<_> = (0..4).map(|_| flap()).collect();

    assert_eq!(waits, [0, 2, 4, 8]);
}

#[test]
fn what_died_with_the_process_is_not_held() {
    let mut node = Node::announcing(3);
    node.wishes.clear();

    node.ledger.lose(|_| true);

    assert_eq!(node.decide().standings, BTreeMap::new());
}

fn closed() -> impl Strategy<Value = Closed> {
    let gates = [Gate::Announceable, Gate::Backends, Gate::DataPlane, Gate::Lease, Gate::Removal];
    prop_oneof![
        3 => Just(Closed::new()),
        2 => prop::sample::select(gates.to_vec()).prop_map(|gate| Closed::from([gate])),
        1 => prop::collection::btree_set(prop::sample::select(gates.to_vec()), 0..4),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let elsewhere = prop_oneof![
        Just(Elsewhere::Unknown),
        (0_u32..3, any::<bool>()).prop_map(|(others, keeper)| Elsewhere::Known { others, keeper }),
    ];
    let drain = prop_oneof![
        4 => Just(None),
        1 => prop::sample::select(vec![Stage::Signalled, Stage::Withdrawn, Stage::Drained])
            .prop_map(Some),
    ];
    (closed(), elsewhere, drain, any::<bool>()).prop_map(|(closed, elsewhere, drain, confirmed)| {
        let wish = Wish { closed, elsewhere, ..Wish::default() };
        match drain {
            Some(stage) => wish.draining(stage, confirmed),
            None => wish,
        }
    })
}

/// What happens to a node: prefixes whose wish changes (`None`: it goes missing), then time.
#[derive(Clone, Debug)]
struct Event {
    changes: Vec<(u16, Option<Wish>)>,
    millis: u64,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let change = (0_u16..40, prop::option::weighted(0.9, wish()));
    let event = (prop::collection::vec(change, 0..30), 0_u64..40_000)
        .prop_map(|(changes, millis)| Event { changes, millis });
    prop::collection::vec(event, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The invariants of the module, whatever is wished for.
    #[test]
    fn interlocks_hold(events in events()) {
        let mut node = Node { wishes: BTreeMap::new(), ledger: Ledger::default(), now: Moment(1) };
        for Event { changes, millis } in events {
            for (number, wish) in changes {
                match wish {
                    Some(wish) => drop(node.wishes.insert(prefix(number), wish)),
                    None => drop(node.wishes.remove(&prefix(number))),
                }
            }
            node.now = node.now.after(Duration::from_millis(millis));
            let before: BTreeSet<_> = node.ledger.announced().copied().collect();

            let decision = node.decide();

            let after: BTreeSet<_> = node.ledger.announced().copied().collect();
            for gone in before.difference(&after) {
                let Some(wish) = node.wishes.get(gone) else {
                    panic!("{gone} was withdrawn because it was missing");
                };
                prop_assert!(!wish.closed.is_empty());
                let is_removed = wish.closed.contains(&Gate::Removal);
                let is_drained = wish.closed.contains(&Gate::Drain);
                let is_accepted = is_removed || (is_drained && wish.drain_confirmed);
                prop_assert!(is_accepted || !wish.elsewhere.is_last_here(), "last announcer gone");
            }
            let missing = node.ledger.withdrawals.len();
            prop_assert!(missing <= Budget::WITHDRAWALS.limit(40), "over the budget");
            for come in after.difference(&before) {
                prop_assert!(node.wishes[come].closed.is_empty(), "announced with a closed gate");
            }
            prop_assert!(decision.wake_at.is_none_or(|at| at > node.now), "a wake-up is to come");

            // No news, no change: the same wishes at the same time decide the same again.
            let again = node.decide();
            prop_assert_eq!(&again.standings, &decision.standings);
            prop_assert_eq!(again.newly_held, []);
        }
    }
}
