//! [`FairQueue`]: who waits for a seat, and who is next.
//!
//! One of each flow in turn, whatever it has asked for: with n flows in line, each is served once in n
//! turns, as long as it has less than its share under way. Decides and remembers; it has no clock,
//! wakes nobody, and does not know how many seats there are.
//!
//! Invariants: a flow has a turn exactly as long as something of it waits; a flow without anything
//! waiting or counted is not remembered.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Whom requests are counted for.
pub(super) type Flow = u64;

/// How much a queue holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Those who wait.
    pub(super) waiting: usize,
    /// Those of one flow.
    pub(super) waiting_of_flow: usize,
    /// Seats of one flow; none: as many as there are, and nobody counts.
    pub(super) share: Option<usize>,
}

/// Those who wait.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    bounds: Bounds,
    flows: HashMap<Flow, State<T>, RandomState>,
    /// Flows of which something waits, the next one first.
    turns: VecDeque<Flow>,
    waiting: usize,
    last_ticket: u64,
}

#[derive(Debug)]
struct State<T> {
    running: usize,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: u64,
    since: Instant,
    item: T,
}

/// What is served next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next<T> {
    pub(super) flow: Flow,
    pub(super) item: T,
    pub(super) waited: Duration,
}

impl<T> FairQueue<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let (flows, turns) = (HashMap::default(), VecDeque::new());
        Self { bounds, flows, turns, waiting: 0, last_ticket: 0 }
    }

    /// Whether `flow` need not wait for a seat that is free.
    pub(super) fn admits(&self, flow: Flow) -> bool {
        self.has_room(flow) && !self.turns.iter().any(|flow| self.has_room(*flow))
    }

    /// Takes note that something of `flow` runs that did not wait.
    pub(super) fn started(&mut self, flow: Flow) {
        if self.bounds.share.is_some() {
            self.state(flow).running += 1;
        }
    }

    /// Takes note that something of `flow` ended.
    pub(super) fn ended(&mut self, flow: Flow) {
        if let Some(state) = self.flows.get_mut(&flow) {
            state.running = state.running.saturating_sub(1);
        }
        self.forget(flow);
    }

    /// Puts `item` in line and gives it a ticket; none: there is no room, neither now nor soon.
    pub(super) fn push(&mut self, flow: Flow, item: T, now: Instant) -> Option<u64> {
        let Bounds { waiting, waiting_of_flow, .. } = self.bounds;
        let of_flow = self.flows.get(&flow).map_or(0, |state| state.waiting.len());
        if self.waiting >= waiting || of_flow >= waiting_of_flow {
            return None;
        }
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let ticket = self.last_ticket;
        self.state(flow).waiting.push_back(Waiting { ticket, since: now, item });
        if of_flow == 0 {
            self.turns.push_back(flow);
        }
        self.waiting += 1;
        Some(ticket)
    }

    /// Serves the next one, if anybody waits whose flow has room.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Next<T>> {
        let turn = self.turns.iter().position(|flow| self.has_room(*flow))?;
        let flow = self.turns.remove(turn)?;
        let counts = self.bounds.share.is_some();
        let state = self.flows.get_mut(&flow)?;
        let Waiting { since, item, .. } = state.waiting.pop_front()?;
        state.running += usize::from(counts);
        if !state.waiting.is_empty() {
            self.turns.push_back(flow);
        }
        self.waiting -= 1;
        self.forget(flow);
        Some(Next { flow, item, waited: now.saturating_duration_since(since) })
    }

    /// Takes somebody out of the line again who does not want to wait.
    pub(super) fn abandon(&mut self, flow: Flow, ticket: u64) {
        let Some(state) = self.flows.get_mut(&flow) else { return };
        let Some(place) = state.waiting.iter().position(|it| it.ticket == ticket) else { return };
        drop(state.waiting.remove(place));
        self.waiting -= 1;
        if state.waiting.is_empty() {
            self.turns.retain(|other| *other != flow);
        }
        self.forget(flow);
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    fn has_room(&self, flow: Flow) -> bool {
        let running = self.flows.get(&flow).map_or(0, |state| state.running);
        self.bounds.share.is_none_or(|share| running < share)
    }

    fn state(&mut self, flow: Flow) -> &mut State<T> {
        self.flows.entry(flow).or_insert_with(|| State { running: 0, waiting: VecDeque::new() })
    }

    fn forget(&mut self, flow: Flow) {
        let is_over = |state: &State<T>| state.running == 0 && state.waiting.is_empty();
        if self.flows.get(&flow).is_some_and(is_over) {
            self.flows.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { waiting: 12, waiting_of_flow: 4, share: Some(2) };

    fn served(queue: &mut FairQueue<u32>) -> Vec<u32> {
        let now = Instant::now();
        std::iter::from_fn(|| queue.pop(now)).map(|next| next.item).collect()
    }

    #[test]
    fn one_of_each_flow_is_served_in_turn_and_none_beyond_its_share() {
        let mut queue = FairQueue::new(BOUNDS);
        let now = Instant::now();
        for (flow, item) in [(1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (2, 21)] {
            assert!(queue.push(flow, item, now).is_some());
        }

        assert_eq!(served(&mut queue), [10, 20, 30, 11, 21]);
        assert!(!queue.admits(1) && queue.admits(3), "the first has its share");
        queue.ended(1);
        assert!(!queue.admits(3), "somebody waits who may go on");
        assert_eq!(served(&mut queue), [12]);
    }

    #[test]
    fn neither_all_nor_one_can_wait_beyond_the_bounds() {
        let mut queue = FairQueue::new(BOUNDS);
        let now = Instant::now();
        let mut push = |flow| queue.push(flow, 0, now).is_some();
        assert_eq!([1; 5].map(&mut push), [true, true, true, true, false]);
        assert_eq!([2; 4].map(&mut push), [true; 4]);
        assert_eq!([3; 4].map(&mut push), [true; 4]);
        assert!(!push(4), "all places are taken");
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind_and_says_how_long_others_waited() {
        let mut queue = FairQueue::new(BOUNDS);
        let now = Instant::now();
        let ticket = queue.push(1, 10, now).expect("room");
        queue.push(2, 20, now).expect("room");
        queue.abandon(1, ticket);
        queue.abandon(1, ticket);

        let later = now + Duration::from_secs(3);
        let next = Next { flow: 2, item: 20, waited: Duration::from_secs(3) };
        assert_eq!(queue.pop(later), Some(next));
        queue.ended(2);
        assert!(queue.flows.is_empty() && queue.turns.is_empty() && queue.len() == 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arrive(Flow),
        Serve,
        End(Flow),
        GiveUp(Flow),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let flow = 0..8_u64;
        let step = prop_oneof![
            4 => flow.clone().prop_map(Step::Arrive),
            3 => Just(Step::Serve),
            2 => flow.clone().prop_map(Step::End),
            1 => flow.prop_map(Step::GiveUp),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        /// Counts how often others were served while somebody could have been.
        #[test]
        fn nobody_is_passed_over_more_often_than_there_are_others_and_memory_is_bounded(
            steps in steps(),
        ) {
            let mut queue = FairQueue::new(BOUNDS);
            let now = Instant::now();
            let mut running: BTreeMap<Flow, usize> = BTreeMap::new();
            let mut tickets: BTreeMap<Flow, Vec<u64>> = BTreeMap::new();
            let mut passed_over: BTreeMap<Flow, usize> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Arrive(flow) => {
                        if let Some(ticket) = queue.push(flow, (), now) {
                            tickets.entry(flow).or_default().push(ticket);
                        }
                    }
                    Step::Serve => {
                        let eligible: Vec<Flow> = queue.turns.iter().copied()
                            .filter(|flow| running.get(flow).is_none_or(|count| *count < 2))
                            .collect();
                        let served = queue.pop(now).map(|next| next.flow);
                        prop_assert_eq!(served.is_some(), !eligible.is_empty());
                        let Some(served) = served else { continue };
                        *running.entry(served).or_default() += 1;
                        tickets.get_mut(&served).map(|all| all.remove(0));
                        for flow in eligible {
                            *passed_over.entry(flow).or_default() += 1;
                        }
                        prop_assert!(passed_over.remove(&served).is_none_or(|count| count <= 8));
                    }
                    Step::End(flow) => {
                        if let Some(count) = running.get_mut(&flow).filter(|count| **count > 0) {
                            *count -= 1;
                            queue.ended(flow);
                        }
                    }
                    Step::GiveUp(flow) => {
                        let of_flow = tickets.entry(flow).or_default();
                        if let Some(ticket) = of_flow.pop() {
                            queue.abandon(flow, ticket);
                        }
                        if of_flow.is_empty() {
                            passed_over.remove(&flow);
                        }
                    }
                }
                let waiting: usize = tickets.values().map(Vec::len).sum();
                prop_assert_eq!(queue.len(), waiting);
                prop_assert!(waiting <= BOUNDS.waiting);
                let under_way: usize = running.values().sum();
                prop_assert!(queue.flows.len() <= waiting + under_way);
                prop_assert!(queue.turns.len() <= waiting);
            }
        }
    }
}
