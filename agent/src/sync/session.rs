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
//! | ack | its revision | store as last-known-good, Ack |
//! | nack | its revision | Nack; `base` stays in force |
//! | ack, nack | another revision | none: a newer delivery has taken its place |
//!
//! Invariant: only an acknowledged configuration becomes `base`, and only `base` is stored.

use std::sync::Arc;

use isocast_api::agent::{
    Ack, Configuration, ConfigurationError, Delta, Digest, EntryError, FromAgent, FromController,
    Hello, Nack, Snapshot, from_agent, from_controller,
};

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
    Store(Arc<Received>),
}

/// The protocol's state on this node.
#[derive(Debug)]
pub(super) struct Session {
    node: String,
    agent_version: String,
    base: Option<Arc<Received>>,
    pending: Option<Arc<Received>>,
}

impl Received {
    /// Wraps a configuration, computing its digest.
    #[must_use]
    pub fn new(revision: u64, configuration: Configuration, source: Source) -> Self {
        Self { revision, digest: configuration.digest(), configuration, source }
    }
}

impl Session {
    /// A session of `node` that starts from its last-known-good configuration.
    #[must_use]
    pub(super) fn new(node: String, agent_version: String, base: Option<Arc<Received>>) -> Self {
        Self { node, agent_version, base, pending: None }
    }

    /// A connection was opened.
    #[must_use]
    pub(super) fn opened(&self) -> Action {
        let (revision, digest) =
            self.base.as_ref().map_or((0, Vec::new()), |base| (base.revision, base.digest.into()));
        self.hello(revision, digest)
    }

    /// A message arrived.
    pub(super) fn received(&mut self, message: FromController) -> Option<Action> {
        match message.message? {
            from_controller::Message::Snapshot(snapshot) => self.snapshot(snapshot),
            from_controller::Message::Delta(delta) => self.delta(delta),
        }
    }

    /// The rest of the agent gave its verdict.
    pub(super) fn verdict(&mut self, verdict: Verdict) -> Vec<Action> {
        match verdict {
            Verdict::Ack { revision } => self.ack(revision),
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
        let Some(base) = self.base.as_ref().filter(|base| base.revision == delta.from_revision)
        else {
            return Some(self.hello(0, Vec::new()));
        };
        match base.configuration.apply(delta) {
            Ok(configuration) => self.offer(revision, configuration),
            Err(ConfigurationError::Digest { .. }) => Some(self.hello(0, Vec::new())),
            Err(error) => Some(malformed(revision, &error)),
        }
    }

    fn offer(&mut self, revision: u64, configuration: Configuration) -> Option<Action> {
        let offered = Received::new(revision, configuration, Source::Controller);
        let is_same = |held: &Option<Arc<Received>>| {
            held.as_ref().is_some_and(|held| {
                (held.revision, held.digest) == (offered.revision, offered.digest)
            })
        };
        if is_same(&self.pending) {
            return None;
        }
        if self.pending.is_none() && is_same(&self.base) {
            return Some(ack(&offered));
        }
        let offered = Arc::new(offered);
        self.pending = Some(Arc::clone(&offered));
        Some(Action::Deliver(offered))
    }

    fn ack(&mut self, revision: u64) -> Vec<Action> {
        let Some(pending) = self.pending.take_if(|pending| pending.revision == revision) else {
            return Vec::new();
        };
        let answer = ack(&pending);
        self.base = Some(Arc::clone(&pending));
        vec![Action::Store(pending), answer]
    }

    fn nack(&mut self, revision: u64, reason: String, errors: Vec<EntryError>) -> Vec<Action> {
        let is_it = |held: &mut Arc<Received>| held.revision == revision;
        // A last-known-good configuration may be refused too, when the host has changed: then this
        // node runs nothing that a delta could build upon.
        if self.pending.take_if(is_it).or_else(|| self.base.take_if(is_it)).is_none() {
            return Vec::new();
        }
        vec![send(from_agent::Message::Nack(bounded(Nack { revision, reason, errors })))]
    }

    fn hello(&self, revision: u64, digest: Vec<u8>) -> Action {
        send(from_agent::Message::Hello(Hello {
            node: self.node.clone(),
            agent_version: self.agent_version.clone(),
            revision,
            digest,
        }))
    }
}

fn ack(received: &Received) -> Action {
    let ack = Ack { revision: received.revision, digest: received.digest.into() };
    send(from_agent::Message::Ack(ack))
}

fn malformed(revision: u64, error: &ConfigurationError) -> Action {
    let reason = format!("malformed configuration: {error}");
    send(from_agent::Message::Nack(Nack { revision, reason, errors: Vec::new() }))
}

fn send(message: from_agent::Message) -> Action {
    Action::Send(FromAgent { message: Some(message) })
}

/// Keeps a refusal small: it is read by people, and must never fill the stream.
fn bounded(mut nack: Nack) -> Nack {
    nack.errors.truncate(NACK_ERRORS_MAX);
    shorten(&mut nack.reason);
    for error in &mut nack.errors {
        shorten(&mut error.message);
    }
    nack
}

fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(NACK_TEXT_BYTES_MAX));
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
        let actions = session.verdict(Verdict::Ack { revision: 9 });
        assert_eq!(actions, [Action::Store(Arc::clone(&received)), ack(&received)]);
        assert_eq!(hello_of(Some(session.opened())).revision, 9);
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

        let held = Received::new(7, of(&[1]), Source::Controller);
        assert_eq!(answer, Some(ack(&held)));
    }

    #[test]
    fn a_verdict_on_a_superseded_delivery_is_ignored() {
        let mut session = session_at(7, &[1]);
        let _first = session.received(snapshot(8, &[2]));
        let _second = session.received(snapshot(9, &[3]));

        assert_eq!(session.verdict(Verdict::Ack { revision: 8 }), []);
        assert_eq!(session.verdict(Verdict::Ack { revision: 9 }).len(), 2);
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
                    Verdict::Ack { revision }
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
