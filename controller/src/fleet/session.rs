//! [`Session`]: the controller's half of the configuration protocol, for one connection.
//!
//! Owns what the agent holds and what it has been offered. One offer is under way at a time;
//! whatever changes meanwhile is offered as one when the answer is there. Sans-IO.
//!
//! | input | actions |
//! |---|---|
//! | Hello | Applied if it holds the target, else an offer |
//! | another Hello | the same: the agent lost the thread and says what it holds |
//! | Ack of the offer | Applied; the next offer if the target has moved on |
//! | Ack of what it holds | Applied: it reconsidered what it refuses of that |
//! | Nack of the offer | Refused; the same content is not offered again on this connection |
//! | Nack of what it holds | Refused; it holds nothing now |
//! | new target | an offer if none is under way |
//! | Ack, Nack of anything else | none: it crossed a Hello or an offer, and another Hello heals it |
//! | empty message, answer before Hello | Violation |
//!
//! What an agent holds is what it was sent, whatever it refused of it: an agent that took part of a
//! configuration holds that configuration, and Applied becomes AppliedInPart.
//!
//! An offer is a delta when the content that the agent holds is known, else a snapshot.

use std::{collections::VecDeque, sync::Arc};

use isocast_api::agent::{
    Ack, Configuration, Digest, EntryError, FromAgent, FromController, Hello, Nack, from_agent,
    from_controller,
};

use super::limits::{REFUSED_ENTRIES_MAX, RESYNCS_MAX};

/// A node's configuration at a revision of the store.
#[derive(Debug, PartialEq)]
pub struct Compiled {
    /// The store's revision.
    pub revision: u64,
    /// Digest of `configuration`.
    pub digest: Digest,
    /// The configuration.
    pub configuration: Configuration,
}

/// Contents that a node is known to have held; outlives its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    held: VecDeque<Arc<Compiled>>,
}

/// What the driver is to do.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// The agent runs the configuration of this revision, which is the newest one.
    Applied { revision: u64 },
    /// The same, but for the entries that it refused.
    AppliedInPart { revision: u64, refused: Arc<[EntryError]> },
    /// An offer is on its way.
    Offered,
    /// The agent goes on with what it had.
    Refused { nack: Nack, held: Option<u64> },
    /// Send to the agent.
    Send(FromController),
    /// The agent breaks the protocol: close.
    Violation(&'static str),
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Session {
    history: History,
    target: Arc<Compiled>,
    phase: Phase,
    /// Content that was refused as a whole.
    refused: Option<Digest>,
    /// What the agent refuses of what it holds.
    missing: Arc<[EntryError]>,
    resyncs: u32,
}

#[derive(Debug)]
enum Phase {
    /// No Hello yet.
    Opening,
    /// The agent holds this, if anything.
    Settled(Option<Held>),
    /// The agent holds `held` and decides about `offer`.
    Offering { held: Option<Held>, offer: Arc<Compiled> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    revision: u64,
    digest: Digest,
}

impl Held {
    fn of(compiled: &Compiled) -> Self {
        Self { revision: compiled.revision, digest: compiled.digest }
    }
}

impl Compiled {
    /// Wraps a configuration, computing its digest.
    #[must_use]
    pub fn new(revision: u64, configuration: Configuration) -> Self {
        Self { revision, digest: configuration.digest(), configuration }
    }
}

impl History {
    fn find(&self, digest: &Digest) -> Option<&Arc<Compiled>> {
        self.held.iter().find(|held| held.digest == *digest)
    }

    fn add(&mut self, compiled: &Arc<Compiled>) {
        self.held.retain(|held| held.digest != compiled.digest);
        self.held.truncate(HISTORY - 1);
        self.held.push_front(Arc::clone(compiled));
    }
}

impl Session {
    /// A connection of a node that shall have `target`.
    pub(super) fn new(history: History, target: Arc<Compiled>) -> Self {
        let missing = Arc::default();
        Self { history, target, phase: Phase::Opening, refused: None, missing, resyncs: 0 }
    }

    /// What the node is known to have held.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// A message arrived.
    pub(super) fn received(&mut self, message: FromAgent) -> Vec<Action> {
        match message.message {
            Some(from_agent::Message::Hello(hello)) => self.hello(hello),
            Some(from_agent::Message::Ack(ack)) => self.ack(ack),
            Some(from_agent::Message::Nack(nack)) => self.nack(nack),
            None => vec![Action::Violation("an empty message")],
        }
    }

    /// The node shall have something else.
    pub(super) fn retarget(&mut self, target: Arc<Compiled>) -> Vec<Action> {
        if target.digest == self.target.digest {
            return Vec::new(); // the store moved on, this node's share of it did not
        }
        self.target = target;
        match self.phase {
            Phase::Settled(held) => self.settle(held),
            Phase::Opening | Phase::Offering { .. } => Vec::new(),
        }
    }

    fn hello(&mut self, hello: Hello) -> Vec<Action> {
        self.resyncs += 1;
        if self.resyncs > RESYNCS_MAX {
            return vec![Action::Violation("too many snapshots asked for")];
        }
        let Hello { revision, digest, refused, .. } = hello;
        self.missing = bounded(refused);
        let held = Digest::try_from(digest.as_slice()).ok().map(|digest| Held { revision, digest });
        self.settle(held)
    }

    fn ack(&mut self, ack: Ack) -> Vec<Action> {
        let Ack { revision, digest, refused } = ack;
        let Ok(digest) = Digest::try_from(digest.as_slice()) else { return Vec::new() };
        let said = Held { revision, digest };
        match &self.phase {
            Phase::Opening => vec![Action::Violation("an answer before Hello")],
            Phase::Offering { offer, .. } if said == Held::of(offer) => {
                self.history.add(&Arc::clone(offer));
                self.resyncs = 0;
                self.missing = bounded(refused);
                self.settle(Some(said))
            }
            Phase::Offering { held: Some(held), .. } if said == *held => {
                self.missing = bounded(refused);
                Vec::new()
            }
            Phase::Settled(Some(held)) if said == *held => {
                self.missing = bounded(refused);
                self.settle(Some(said))
            }
            Phase::Settled(_) | Phase::Offering { .. } => Vec::new(),
        }
    }

    fn nack(&mut self, nack: Nack) -> Vec<Action> {
        let (refused, held) = match &self.phase {
            Phase::Opening => return vec![Action::Violation("an answer before Hello")],
            Phase::Offering { held, offer } if offer.revision == nack.revision => {
                (offer.digest, *held)
            }
            // What the agent started from is refused: an offer under way stays under way.
            Phase::Offering { held: Some(held), offer } if held.revision == nack.revision => {
                self.phase = Phase::Offering { held: None, offer: Arc::clone(offer) };
                return vec![Action::Refused { nack, held: None }];
            }
            Phase::Settled(Some(held)) if held.revision == nack.revision => (held.digest, None),
            Phase::Settled(_) | Phase::Offering { .. } => return Vec::new(),
        };
        self.refused = Some(refused);
        let mut actions = vec![Action::Refused { nack, held: held.map(|held| held.revision) }];
        actions.extend(self.settle(held));
        actions
    }

    /// The agent holds `held`: is that what it shall have?
    fn settle(&mut self, held: Option<Held>) -> Vec<Action> {
        let target = Arc::clone(&self.target);
        if let Some(held) = held.filter(|held| held.digest == target.digest) {
            self.history.add(&target);
            self.phase = Phase::Settled(Some(held));
            let (revision, refused) = (held.revision, Arc::clone(&self.missing));
            return vec![if refused.is_empty() {
                Action::Applied { revision }
            } else {
                Action::AppliedInPart { revision, refused }
            }];
        }
        if self.refused == Some(target.digest) {
            self.phase = Phase::Settled(held);
            return Vec::new();
        }
        let message = self.offer(held, &target);
        self.phase = Phase::Offering { held, offer: target };
        vec![Action::Offered, Action::Send(FromController { message: Some(message) })]
    }

    fn offer(&self, held: Option<Held>, target: &Compiled) -> from_controller::Message {
        let Compiled { revision, configuration, .. } = target;
        let base = held.and_then(|held| Some((held.revision, self.history.find(&held.digest)?)));
        match base {
            Some((from, base)) => {
                let delta = base.configuration.diff(configuration, from, *revision);
                from_controller::Message::Delta(delta)
            }
            None => from_controller::Message::Snapshot(configuration.snapshot(*revision)),
        }
    }
}

/// No more than people read.
fn bounded(mut refused: Vec<EntryError>) -> Arc<[EntryError]> {
    refused.truncate(REFUSED_ENTRIES_MAX);
    refused.into()
}

/// What it holds now, what it held before, and what it may have kept on disk.
const HISTORY: usize = 3;

#[cfg(test)]
mod tests {
    use isocast_api::agent::{EncapSource, Entry, entry::Value};

    use super::*;

    fn compiled(revision: u64, addresses: &[&str]) -> Arc<Compiled> {
        let entry = |address: &&str| {
            let source = EncapSource { address: (*address).into(), node: String::new() };
            Entry { key: format!("source/{address}"), value: Some(Value::Source(source)) }
        };
        let configuration = Configuration::from_entries(addresses.iter().map(entry)).unwrap();
        Arc::new(Compiled::new(revision, configuration))
    }

    fn hello(held: Option<&Compiled>) -> FromAgent {
        let (revision, digest) =
            held.map_or((0, Vec::new()), |held| (held.revision, held.digest.to_vec()));
        let hello = Hello {
            node: "a".into(),
            agent_version: "1".into(),
            revision,
            digest,
            refused: Vec::new(),
        };
        FromAgent { message: Some(from_agent::Message::Hello(hello)) }
    }

    fn ack(of: &Compiled) -> FromAgent {
        ack_but(of, &[])
    }

    fn ack_but(of: &Compiled, refused: &[EntryError]) -> FromAgent {
        let (revision, digest) = (of.revision, of.digest.to_vec());
        let ack = Ack { revision, digest, refused: refused.to_vec() };
        FromAgent { message: Some(from_agent::Message::Ack(ack)) }
    }

    fn error() -> EntryError {
        EntryError { key: "source/b".into(), reason: "Invalid".into(), ..EntryError::default() }
    }

    fn nack(revision: u64) -> FromAgent {
        let nack = Nack { revision, reason: "no".into(), errors: Vec::new() };
        FromAgent { message: Some(from_agent::Message::Nack(nack)) }
    }

    fn snapshot(of: &Compiled) -> Vec<Action> {
        let message = from_controller::Message::Snapshot(of.configuration.snapshot(of.revision));
        let message = FromController { message: Some(message) };
        vec![Action::Offered, Action::Send(message)]
    }

    fn delta(from: &Compiled, to: &Compiled) -> Vec<Action> {
        let delta = from.configuration.diff(&to.configuration, from.revision, to.revision);
        let message = FromController { message: Some(from_controller::Message::Delta(delta)) };
        vec![Action::Offered, Action::Send(message)]
    }

    /// A session whose agent runs the target.
    fn settled(target: &Arc<Compiled>) -> Session {
        let mut session = Session::new(History::default(), Arc::clone(target));
        assert_eq!(session.received(hello(None)), snapshot(target));
        let applied = Action::Applied { revision: target.revision };
        assert_eq!(session.received(ack(target)), [applied]);
        session
    }

    #[test]
    fn a_new_agent_gets_a_snapshot_and_then_deltas() {
        let (old, new) = (compiled(1, &["a"]), compiled(2, &["a", "b"]));
        let mut session = settled(&old);

        assert_eq!(session.retarget(Arc::clone(&new)), delta(&old, &new));

        assert_eq!(session.received(ack(&new)), [Action::Applied { revision: 2 }]);
    }

    #[test]
    fn an_agent_that_holds_the_target_gets_nothing() {
        let target = compiled(9, &["a"]);
        let earlier = compiled(4, &["a"]);
        let mut session = Session::new(History::default(), target);

        let actions = session.received(hello(Some(&earlier)));

        assert_eq!(actions, [Action::Applied { revision: 4 }]);
    }

    #[test]
    fn a_reconnect_resumes_with_a_delta_from_known_content() {
        let (old, new) = (compiled(1, &["a"]), compiled(2, &["b"]));
        let history = settled(&old).history().clone();

        let mut session = Session::new(history, Arc::clone(&new));

        assert_eq!(session.received(hello(Some(&old))), delta(&old, &new));
    }

    #[test]
    fn content_that_is_not_known_is_answered_with_a_snapshot() {
        let (held, target) = (compiled(1, &["x"]), compiled(2, &["b"]));
        let mut session = Session::new(History::default(), Arc::clone(&target));

        assert_eq!(session.received(hello(Some(&held))), snapshot(&target));
    }

    #[test]
    fn changes_while_an_offer_is_under_way_are_offered_as_one() {
        let [first, second, third, last] = [&["a"][..], &["a", "b"], &["c"], &["a", "c"]]
            .map(|set| compiled(set.len() as u64, set));
        let last = Arc::new(Compiled::new(9, last.configuration.clone()));
        let mut session = settled(&first);
        assert_eq!(session.retarget(Arc::clone(&second)), delta(&first, &second));

        assert_eq!(session.retarget(third), []);
        assert_eq!(session.retarget(Arc::clone(&last)), []);

        let mut expected = delta(&second, &last);
        assert_eq!(session.received(ack(&second)), std::mem::take(&mut expected));
    }

    #[test]
    fn refused_content_is_not_offered_again_and_other_content_is() {
        let (good, bad) = (compiled(1, &["a"]), compiled(2, &["a", "b"]));
        let mut session = settled(&good);
        let _offer = session.retarget(Arc::clone(&bad));

        let refused = session.received(nack(2));

        assert!(matches!(refused[..], [Action::Refused { .. }]), "{refused:?}");
        let same = Arc::new(Compiled::new(3, bad.configuration.clone()));
        assert_eq!(session.retarget(same), []);
        let better = compiled(4, &["a", "c"]);
        assert_eq!(session.retarget(Arc::clone(&better)), delta(&good, &better));
    }

    #[test]
    fn going_back_after_a_refusal_is_applied_without_an_offer() {
        let (good, bad) = (compiled(1, &["a"]), compiled(2, &["a", "b"]));
        let mut session = settled(&good);
        let _offer = session.retarget(bad);
        let _refused = session.received(nack(2));

        let back = Arc::new(Compiled::new(3, good.configuration.clone()));

        assert_eq!(session.retarget(back), [Action::Applied { revision: 1 }]);
    }

    #[test]
    fn a_second_hello_heals_a_lost_thread_but_not_for_ever() {
        let target = compiled(2, &["a"]);
        let mut session = Session::new(History::default(), Arc::clone(&target));

        for _ in 0..RESYNCS_MAX {
            assert_eq!(session.received(hello(None)), snapshot(&target));
        }

        let refusal = session.received(hello(None));
        assert!(matches!(refusal[..], [Action::Violation(_)]), "{refusal:?}");
    }

    #[test]
    fn an_answer_that_crossed_an_offer_is_passed_over() {
        let (target, other) = (compiled(2, &["a"]), compiled(1, &["b"]));
        let mut session = Session::new(History::default(), Arc::clone(&target));
        let _offer = session.received(hello(None));

        for message in [ack(&other), nack(7)] {
            assert_eq!(session.received(message), []);
        }

        assert_eq!(session.received(ack(&target)), [Action::Applied { revision: 2 }]);
    }

    #[test]
    fn an_answer_before_the_hello_and_an_empty_message_are_violations() {
        let target = compiled(2, &["a"]);
        for message in [ack(&target), nack(2), FromAgent { message: None }] {
            let mut session = Session::new(History::default(), Arc::clone(&target));

            let refusal = session.received(message);

            assert!(matches!(refusal[..], [Action::Violation(_)]), "{refusal:?}");
        }
    }

    #[test]
    fn a_refused_last_known_good_leaves_nothing_to_build_upon() {
        let (held, target) = (compiled(1, &["a"]), compiled(2, &["b"]));
        let mut session = settled(&held);
        let _offer = session.retarget(Arc::clone(&target));

        let refused = session.received(nack(1));

        assert!(matches!(refused[..], [Action::Refused { .. }]), "{refused:?}");
        assert_eq!(session.received(ack(&target)), [Action::Applied { revision: 2 }]);
    }

    #[test]
    fn a_configuration_taken_in_part_is_held_and_built_upon() {
        let (old, new) = (compiled(1, &["a", "b"]), compiled(2, &["a", "b", "c"]));
        let mut session = Session::new(History::default(), Arc::clone(&old));
        let _offer = session.received(hello(None));

        let applied = session.received(ack_but(&old, &[error()]));

        let in_part = Action::AppliedInPart { revision: 1, refused: [error()].into() };
        assert_eq!(applied, [in_part]);
        assert_eq!(session.retarget(Arc::clone(&new)), delta(&old, &new));
        assert_eq!(session.received(ack(&new)), [Action::Applied { revision: 2 }]);
    }

    #[test]
    fn a_greeting_says_what_is_refused_and_a_second_answer_corrects_it() {
        let target = compiled(1, &["a", "b"]);
        let mut session = Session::new(History::default(), Arc::clone(&target));
        let mut greeting = hello(Some(&target));
        let Some(from_agent::Message::Hello(it)) = &mut greeting.message else { unreachable!() };
        it.refused.push(error());

        let in_part = Action::AppliedInPart { revision: 1, refused: [error()].into() };
        assert_eq!(session.received(greeting), [in_part]);

        assert_eq!(session.received(ack(&target)), [Action::Applied { revision: 1 }]);
    }

    #[test]
    fn of_endless_refusals_the_first_are_kept() {
        let target = compiled(1, &["a"]);
        let mut session = Session::new(History::default(), Arc::clone(&target));
        let _offer = session.received(hello(None));

        let applied = session.received(ack_but(&target, &vec![error(); REFUSED_ENTRIES_MAX + 1]));

        let [Action::AppliedInPart { refused, .. }] = &applied[..] else { panic!("{applied:?}") };
        assert_eq!(refused.len(), REFUSED_ENTRIES_MAX);
    }
}
