//! [`Session`]: the agent's half of the configuration protocol.
//!
//! Owns which configuration is in force (`base`) and which one awaits the verdict of the rest of
//! the agent (`pending`). Sans-IO: takes messages and verdicts, returns actions; outlives
//! connections, since a verdict may well arrive while the controller is away.
//!
//! | input | `pending` | actions |
//! |---|---|---|
//! | connection opened | any | Hello with what is in force |
//! | snapshot, delta on `base` | any | deliver, unless it is what already awaits its verdict |
//! | delta on anything else | any | Hello that claims nothing: a request for a snapshot |
//! | snapshot or delta that is malformed | any | Nack |
//! | ack, in whole or in part | its revision | store as last-known-good, Ack |
//! | ack of `base` that refuses other entries than before | another revision, or none | the same |
//! | nack | its revision | Nack; `base` stays in force |
//! | ack, nack | another revision | none: a newer delivery has taken its place |
//!
//! Invariant: only an acknowledged configuration becomes `base`, and only `base` is stored, with what
//! was refused of it. Revision and digest are always those of the configuration as it was sent, so
//! that deltas build upon what the controller knows.

use std::sync::Arc;

use isocast_api::agent::{
    Ack, Configuration, ConfigurationError, Delta, Digest, EntryError, FleetView, FromAgent,
    FromController, Hello, Nack, Snapshot, from_agent, from_controller,
};

use crate::model::{Precedent, Refusals};

/// A configuration as delivered to the rest of the agent.
#[derive(Debug, PartialEq)]
pub struct Received {
    /// The store's revision at which it was compiled.
    pub revision: u64,
    /// Digest of `configuration`.
    pub digest: Digest,
    /// The configuration.
    pub configuration: Configuration,
    /// Where it came from.
    pub source: Source,
    /// What the node refused of it before it restarted; nothing, if the controller sent it.
    pub refusals: Arc<Refusals>,
}

/// Where a configuration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The controller sent it.
    Controller,
    /// It was in force before the agent restarted.
    LastKnownGood,
}

/// What the rest of the agent says of a delivered configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is in force.
    Ack {
        /// Of the delivered configuration.
        revision: u64,
        /// But for these.
        refusals: Arc<Refusals>,
    },
    /// It cannot be taken; what was in force before still is.
    Nack {
        /// Of the delivered configuration.
        revision: u64,
        /// Why, in a sentence.
        reason: String,
        /// The entries that are at fault.
        errors: Vec<EntryError>,
    },
}

/// What the driver is to do.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Hand the configuration to the rest of the agent, which will give its verdict.
    Deliver(Arc<Received>),
    /// Send to the controller, if it is there.
    Send(FromAgent),
    /// Keep as last-known-good.
    Store(Base),
    /// Tell the rest of the agent who else announces its services.
    View(FleetView),
}

/// A configuration that is in force, but for what was refused of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Base {
    pub(super) received: Arc<Received>,
    pub(super) refusals: Arc<Refusals>,
}

/// The protocol's state on this node.
#[derive(Debug)]
pub(super) struct Session {
    node: String,
    agent_version: String,
    base: Option<Base>,
    pending: Option<Arc<Received>>,
}

impl Received {
    /// Wraps a configuration, computing its digest.
    #[must_use]
    pub fn new(revision: u64, configuration: Configuration, source: Source) -> Self {
        let refusals = Arc::default();
        Self { revision, digest: configuration.digest(), configuration, source, refusals }
    }

    /// What of it was in force before the agent restarted.
    #[must_use]
    pub fn precedent(&self) -> Option<Precedent<'_>> {
        match self.source {
            Source::Controller => None,
            Source::LastKnownGood => Some(Precedent::new(&self.configuration, &self.refusals)),
        }
    }
}

impl Session {
    /// A session of `node` that starts from its last-known-good configuration.
    #[must_use]
    pub(super) fn new(
        node: String,
        agent_version: String,
        last_known_good: Option<Arc<Received>>,
    ) -> Self {
        let base = last_known_good
            .map(|received| Base { refusals: Arc::clone(&received.refusals), received });
        Self { node, agent_version, base, pending: None }
    }

    /// A connection was opened.
    #[must_use]
    pub(super) fn opened(&self) -> Action {
        self.hello(self.base.as_ref())
    }

    /// A message arrived.
    pub(super) fn received(&mut self, message: FromController) -> Option<Action> {
        match message.message? {
            from_controller::Message::Snapshot(snapshot) => self.snapshot(snapshot),
            from_controller::Message::Delta(delta) => self.delta(delta),
            from_controller::Message::FleetView(view) => Some(Action::View(view)),
        }
    }

    /// The rest of the agent gave its verdict.
    pub(super) fn verdict(&mut self, verdict: Verdict) -> Vec<Action> {
        match verdict {
            Verdict::Ack { revision, refusals } => self.ack(revision, refusals),
            Verdict::Nack { revision, reason, errors } => self.nack(revision, reason, errors),
        }
    }

    fn snapshot(&mut self, snapshot: Snapshot) -> Option<Action> {
        let revision = snapshot.revision;
        match Configuration::from_snapshot(snapshot) {
            Ok(configuration) => self.offer(revision, configuration),
            Err(error) => Some(malformed(revision, &error)),
        }
    }

    fn delta(&mut self, delta: Delta) -> Option<Action> {
        let revision = delta.revision;
        let is_base = |base: &&Base| base.received.revision == delta.from_revision;
        let Some(base) = self.base.as_ref().filter(is_base) else {
            return Some(self.hello(None));
        };
        match base.received.configuration.apply(delta) {
            Ok(configuration) => self.offer(revision, configuration),
            Err(ConfigurationError::Digest { .. }) => Some(self.hello(None)),
            Err(error) => Some(malformed(revision, &error)),
        }
    }

    fn offer(&mut self, revision: u64, configuration: Configuration) -> Option<Action> {
        let offered = Received::new(revision, configuration, Source::Controller);
        let is_same =
            |held: &Received| (held.revision, held.digest) == (offered.revision, offered.digest);
        match (&self.pending, &self.base) {
            (Some(pending), _) if is_same(pending) => return None,
            (None, Some(base)) if is_same(&base.received) => return Some(ack(base)),
            _ => {}
        }
        let offered = Arc::new(offered);
        self.pending = Some(Arc::clone(&offered));
        Some(Action::Deliver(offered))
    }

    fn ack(&mut self, revision: u64, refusals: Arc<Refusals>) -> Vec<Action> {
        let pending = self.pending.take_if(|pending| pending.revision == revision);
        // After a restart other entries may be refused than before: limits are options.
        let reconsidered = self.base.take_if(|base| {
            let is_it = base.received.revision == revision;
            pending.is_some() || (is_it && base.refusals != refusals)
        });
        let Some(received) = pending.or_else(|| reconsidered.map(|base| base.received)) else {
            return Vec::new();
        };
        let base = self.base.insert(Base { received, refusals });
        vec![Action::Store(base.clone()), ack(base)]
    }

    fn nack(&mut self, revision: u64, reason: String, errors: Vec<EntryError>) -> Vec<Action> {
        // A last-known-good configuration may be refused too, when the host has changed: then this
        // node runs nothing that a delta could build upon.
        let is_known = self.pending.take_if(|it| it.revision == revision).is_some()
            || self.base.take_if(|it| it.received.revision == revision).is_some();
        if !is_known {
            return Vec::new();
        }
        let reason = shortened(reason);
        vec![send(from_agent::Message::Nack(Nack { revision, reason, errors: bounded(&errors) }))]
    }

    fn hello(&self, claimed: Option<&Base>) -> Action {
        let mut hello = Hello {
            node: self.node.clone(),
            agent_version: self.agent_version.clone(),
            ..Hello::default()
        };
        if let Some(Base { received, refusals }) = claimed {
            hello.revision = received.revision;
            hello.digest = received.digest.into();
            hello.refused = bounded(&refusals.errors);
        }
        send(from_agent::Message::Hello(hello))
    }
}

fn ack(base: &Base) -> Action {
    let Base { received, refusals } = base;
    send(from_agent::Message::Ack(Ack {
        revision: received.revision,
        digest: received.digest.into(),
        refused: bounded(&refusals.errors),
    }))
}

fn malformed(revision: u64, error: &ConfigurationError) -> Action {
    let reason = format!("malformed configuration: {error}");
    send(from_agent::Message::Nack(Nack { revision, reason, errors: Vec::new() }))
}

fn send(message: from_agent::Message) -> Action {
    Action::Send(FromAgent { message: Some(message) })
}

/// Keeps a refusal small: it is read by people, and must never fill the stream.
fn bounded(errors: &[EntryError]) -> Vec<EntryError> {
    let bounded = |error: &EntryError| {
        let EntryError { key, reason, message, name } = error.clone();
        EntryError { key, reason, message: shortened(message), name: shortened(name) }
    };
    errors.iter().take(NACK_ERRORS_MAX).map(bounded).collect()
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(NACK_TEXT_BYTES_MAX));
    text
}

/// Most entries that one refusal names.
pub(super) const NACK_ERRORS_MAX: usize = 256;

/// Longest text in a refusal.
pub(super) const NACK_TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use isocast_api::agent::{EncapSource, Entry, entry::Value};
    use proptest::prelude::*;

    use super::*;

    fn configuration(addresses: &BTreeSet<u8>) -> Configuration {
        let entry = |host: &u8| {
            let address = format!("192.0.2.{host}");
            let key = format!("source/{address}");
            Entry { key, value: Some(Value::Source(EncapSource { address, node: String::new() })) }
        };
        Configuration::from_entries(addresses.iter().map(entry)).unwrap()
    }

    fn of(addresses: &[u8]) -> Configuration {
        configuration(&addresses.iter().copied().collect())
    }

    fn session_at(revision: u64, addresses: &[u8]) -> Session {
        let base = Received::new(revision, of(addresses), Source::LastKnownGood);
        Session::new("edge-1".into(), "1.0".into(), Some(Arc::new(base)))
    }

    fn snapshot(revision: u64, addresses: &[u8]) -> FromController {
        let snapshot = of(addresses).snapshot(revision);
        FromController { message: Some(from_controller::Message::Snapshot(snapshot)) }
    }

    fn delta(from: (u64, &[u8]), to: (u64, &[u8])) -> FromController {
        let delta = of(from.1).diff(&of(to.1), from.0, to.0);
        FromController { message: Some(from_controller::Message::Delta(delta)) }
    }

    fn whole(revision: u64) -> Verdict {
        Verdict::Ack { revision, refusals: Arc::default() }
    }

    fn refusals(key: &str) -> Arc<Refusals> {
        let errors = vec![EntryError { key: key.into(), ..EntryError::default() }];
        Arc::new(Refusals { errors, kept: of(&[9]) })
    }

    fn ack_of(actions: &[Action]) -> Ack {
        match actions.last() {
            Some(Action::Send(FromAgent { message: Some(from_agent::Message::Ack(ack)) })) => {
                ack.clone()
            }
            other => panic!("expected an ack, got {other:?}"),
        }
    }

    fn hello_of(action: Option<Action>) -> Hello {
        match action {
            Some(Action::Send(FromAgent { message: Some(from_agent::Message::Hello(hello)) })) => {
                hello
            }
            other => panic!("expected a hello, got {other:?}"),
        }
    }

    fn nack_of(actions: &[Action]) -> Nack {
        match actions {
            [Action::Send(FromAgent { message: Some(from_agent::Message::Nack(nack)) })] => {
                nack.clone()
            }
            other => panic!("expected a nack, got {other:?}"),
        }
    }

    #[test]
    fn a_new_node_claims_nothing_and_a_known_one_what_it_runs() {
        let new = Session::new("edge-1".into(), "1.0".into(), None);
        assert_eq!(hello_of(Some(new.opened())).revision, 0);

        let hello = hello_of(Some(session_at(7, &[1]).opened()));

        assert_eq!((hello.revision, hello.digest), (7, of(&[1]).digest().to_vec()));
    }

    #[test]
    fn a_delta_is_delivered_and_stored_once_acknowledged() {
        let mut session = session_at(7, &[1]);

        let delivered = session.received(delta((7, &[1]), (9, &[1, 2])));

        let Some(Action::Deliver(received)) = delivered else { panic!("{delivered:?}") };
        assert_eq!((received.revision, &received.configuration), (9, &of(&[1, 2])));
        let actions = session.verdict(whole(9));
        let base = Base { received, refusals: Arc::default() };
        assert_eq!(actions, [Action::Store(base.clone()), ack(&base)]);
        assert_eq!(hello_of(Some(session.opened())).revision, 9);
    }

    #[test]
    fn what_was_refused_of_a_configuration_is_told_stored_and_told_again() {
        let mut session = session_at(7, &[1]);
        let _delivered = session.received(snapshot(9, &[1, 2]));
        let refusals = refusals("source/192.0.2.2");

        let verdict = Verdict::Ack { revision: 9, refusals: Arc::clone(&refusals) };
        let actions = session.verdict(verdict);

        let told = ack_of(&actions);
        assert_eq!((told.digest, &told.refused), (of(&[1, 2]).digest().into(), &refusals.errors));
        assert!(matches!(&actions[0], Action::Store(base) if base.refusals == refusals));
        let hello = hello_of(Some(session.opened()));
        assert_eq!((hello.revision, hello.refused), (9, refusals.errors.clone()));
        // The next delta builds upon what was sent, not upon what was taken of it.
        let next = session.received(delta((9, &[1, 2]), (10, &[1, 2, 3])));
        assert!(matches!(next, Some(Action::Deliver(_))), "{next:?}");
    }

    #[test]
    fn a_restarted_node_that_refuses_other_entries_says_so() {
        let mut base = Received::new(7, of(&[1, 2]), Source::LastKnownGood);
        base.refusals = refusals("source/192.0.2.2");
        let mut session = Session::new("edge-1".into(), "1.0".into(), Some(Arc::new(base)));
        assert_eq!(hello_of(Some(session.opened())).refused.len(), 1);

        let same = Verdict::Ack { revision: 7, refusals: refusals("source/192.0.2.2") };
        assert_eq!(session.verdict(same), []);
        let actions = session.verdict(whole(7));

        assert_eq!(ack_of(&actions).refused, []);
        assert!(
            matches!(&actions[0], Action::Store(base) if *base.refusals == Refusals::default())
        );
        assert_eq!(hello_of(Some(session.opened())).refused, []);
    }

    #[test]
    fn a_refused_configuration_leaves_the_old_one_in_force() {
        let mut session = session_at(7, &[1]);
        let _delivered = session.received(snapshot(9, &[1, 2]));

        let errors = vec![EntryError { key: "service/x".into(), ..EntryError::default() }];
        let actions = session.verdict(Verdict::Nack {
            revision: 9,
            reason: "too many".into(),
            errors: errors.clone(),
        });

        assert_eq!(nack_of(&actions), Nack { revision: 9, reason: "too many".into(), errors });
        assert_eq!(hello_of(Some(session.opened())).revision, 7);
        let next = session.received(delta((7, &[1]), (10, &[2])));
        assert!(matches!(next, Some(Action::Deliver(_))));
    }

    #[test]
    fn a_delta_on_another_base_asks_for_a_snapshot() {
        let mut session = session_at(7, &[1]);

        let hello = hello_of(session.received(delta((6, &[1]), (9, &[1, 2]))));

        assert_eq!((hello.revision, hello.digest), (0, vec![]));
    }

    #[test]
    fn a_delta_that_misses_its_digest_asks_for_a_snapshot() {
        let mut session = session_at(7, &[1]);

        let hello = hello_of(session.received(delta((7, &[3]), (9, &[2, 3]))));

        assert_eq!(hello.revision, 0);
        let healed = session.received(snapshot(9, &[2, 3]));
        assert!(matches!(healed, Some(Action::Deliver(_))));
    }

    #[test]
    fn a_malformed_snapshot_is_refused_and_nothing_changes() {
        let mut session = session_at(7, &[1]);
        let mut snapshot = of(&[1, 2]).snapshot(9);
        snapshot.digest.clear();
        let message = from_controller::Message::Snapshot(snapshot);

        let refused = session.received(FromController { message: Some(message) });

        let nack = nack_of(&refused.into_iter().collect::<Vec<_>>());
        assert!(nack.reason.contains("digest does not match"), "{}", nack.reason);
        assert_eq!(hello_of(Some(session.opened())).revision, 7);
    }

    #[test]
    fn what_already_awaits_its_verdict_is_not_delivered_twice() {
        let mut session = session_at(7, &[1]);
        let _delivered = session.received(snapshot(9, &[2]));

        assert_eq!(session.received(snapshot(9, &[2])), None);
    }

    #[test]
    fn what_is_in_force_already_is_acknowledged_at_once() {
        let mut session = session_at(7, &[1]);

        let answer = session.received(snapshot(7, &[1]));

        assert_eq!(ack_of(answer.as_slice()).digest, of(&[1]).digest());
    }

    #[test]
    fn a_verdict_on_a_superseded_delivery_is_ignored() {
        let mut session = session_at(7, &[1]);
        let _first = session.received(snapshot(8, &[2]));
        let _second = session.received(snapshot(9, &[3]));

        assert_eq!(session.verdict(whole(8)), []);
        assert_eq!(session.verdict(whole(9)).len(), 2);
    }

    #[test]
    fn a_refused_last_known_good_is_no_base_for_deltas() {
        let mut session = session_at(7, &[1]);

        let refused = Verdict::Nack { revision: 7, reason: "no".into(), errors: vec![] };
        assert_eq!(session.verdict(refused).len(), 1);

        assert_eq!(hello_of(Some(session.opened())).revision, 0);
    }

    #[test]
    fn a_refusal_is_cut_to_size() {
        let mut session = session_at(7, &[1]);
        let error = EntryError { message: "ä".repeat(NACK_TEXT_BYTES_MAX), ..Default::default() };

        let nack = nack_of(&session.verdict(Verdict::Nack {
            revision: 7,
            reason: String::new(),
            errors: vec![error; NACK_ERRORS_MAX + 1],
        }));

        assert_eq!(nack.errors.len(), NACK_ERRORS_MAX);
        assert_eq!(nack.errors[0].message.len(), NACK_TEXT_BYTES_MAX);
    }

    proptest! {
        /// Whatever order messages, refusals and reconnects come in, what the agent claims to run
        /// is the last thing it acknowledged.
        #[test]
        fn the_claim_is_always_the_last_acknowledged_configuration(
            steps in prop::collection::vec((any::<bool>(), prop::collection::btree_set(0_u8..8, 0..4)), 1..20),
        ) {
            let mut session = Session::new("edge-1".into(), "1.0".into(), None);
            let mut acknowledged = (0, Vec::new());
            for (revision, (accept, addresses)) in (1..).zip(steps) {
                let set = configuration(&addresses);
                let message = from_controller::Message::Snapshot(set.snapshot(revision));
                let _delivered = session.received(FromController { message: Some(message) });
                let verdict = if accept {
                    acknowledged = (revision, set.digest().to_vec());
                    whole(revision)
                } else {
                    Verdict::Nack { revision, reason: "no".into(), errors: vec![] }
                };
                let _actions = session.verdict(verdict);

                let hello = hello_of(Some(session.opened()));
                prop_assert_eq!((hello.revision, hello.digest), acknowledged.clone());
            }
        }
    }
}
