//! One session as the thread holds it, and its way into the program's hands and back.

use std::time::{Instant, SystemTime};

use isocast_bgp::bfd::{self as core, Hops, SessionConfig, SessionKey, State};
use isocast_dataplane::bfd::{Heard, Reflection};

use super::{Driver, Verdict, is_up};
use crate::bfd::{
    config::SessionSpec,
    hand_over::{HandOver, Order},
    sockets::{Datagram, Mouth},
    status::SessionStatus,
};

/// See the module.
pub(super) struct Session {
    pub(super) spec: SessionSpec,
    pub(super) mouth: Mouth,
    /// Where the peer is heard.
    pub(super) interface: Option<u32>,
    pub(super) hand_over: HandOver,
    /// Its farewell is being said.
    pub(super) is_leaving: bool,
    pub(super) since: SystemTime,
    pub(super) failures: u64,
}

// === impl Session ===

impl Session {
    pub(super) fn status(&self, session: &core::Session) -> SessionStatus {
        SessionStatus {
            name: self.spec.name.clone(),
            peer: self.spec.peer,
            state: session.state(),
            remote_state: session.remote_state(),
            diagnostic: session.diagnostic(),
            since: self.since,
            failures: self.failures,
            is_reflected: self.hand_over.is_programs(),
            detection_time: session.detection_time(),
            problem: None,
        }
    }
}

/// Status of a session that has no sockets.
pub(super) fn idle(spec: &SessionSpec, problem: &str) -> SessionStatus {
    SessionStatus {
        name: spec.name.clone(),
        peer: spec.peer,
        state: State::Down,
        remote_state: State::Down,
        diagnostic: core::Diagnostic::None,
        since: SystemTime::now(),
        failures: 0,
        is_reflected: false,
        detection_time: std::time::Duration::ZERO,
        problem: Some(problem.to_owned()),
    }
}

// === impl Driver ===

impl Driver {
    /// What a session is to be, given where its peer is heard.
    pub(super) fn config_of(&self, session: &Session) -> Option<SessionConfig> {
        let config = session.spec.config()?;
        let has_program = self.plane.as_ref().is_some_and(|plane| {
            session.interface.is_some_and(|index| plane.interfaces.contains(&index))
        });
        let is_fit =
            has_program && session.spec.hops == Hops::One && !session.hand_over.is_refused();
        Some(if is_fit { config.reflected() } else { config })
    }

    /// The kernel says by which interface the peer is heard, which decides who may answer it.
    pub(super) fn note_interface(&mut self, now: Instant, key: &SessionKey, interface: u32) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.interface != Some(interface) {
            session.interface = Some(interface);
            self.reconfigure(now, key);
        }
    }

    pub(super) fn reconfigure(&mut self, now: Instant, key: &SessionKey) {
        let Some(session) = self.sessions.get(key).filter(|session| !session.is_leaving) else {
            return;
        };
        if let Some(config) = self.config_of(session)
            && let Err(error) = self.endpoint.set(now, *key, config, &mut self.events)
        {
            tracing::error!(peer = %key.peer, %error, "BFD session refused");
        }
    }

    /// A packet came up. If it is the one that the program should have answered, that has reasons.
    pub(super) fn note_passed_up(&mut self, now: Instant, key: &SessionKey, datagram: &Datagram) {
        let heard = self.heard(key);
        let answered_at = heard.and_then(|heard| self.clock.instant(heard.at));
        let Some(session) = self.sessions.get_mut(key) else { return };
        let is_expected =
            session.hand_over.entry().is_some_and(|entry| entry.expected == datagram.payload());
        if is_expected {
            let since = answered_at.map(|at| now.saturating_duration_since(at));
            let order = session.hand_over.passed_up(now, since, heard);
            self.obey(now, key, order);
        }
    }

    /// Takes note of what the program saw.
    pub(super) fn look_at(&mut self, now: Instant, key: &SessionKey) {
        let heard = self.heard(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.hand_over.entry().is_none() {
            return;
        }
        if let Some(at) = heard.and_then(|heard| self.clock.instant(heard.at)) {
            self.endpoint.heard(key, at);
        }
        let order = session.hand_over.look(now, heard);
        self.obey(now, key, order);
    }

    /// After anything happened to a session: brings the kernel in line.
    pub(super) fn settle(&mut self, now: Instant, key: &SessionKey) {
        let heard = self.heard(key);
        let Some(session) = self.sessions.get(key) else { return };
        let wanted = self.reflection(key, session);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let order = session.hand_over.wish(now, wanted, heard);
        self.obey(now, key, order);
    }

    /// Does what the hand-over asks of the kernel, and tells the endpoint who answers.
    fn obey(&mut self, now: Instant, key: &SessionKey, order: Order) {
        let Some(session) = self.sessions.get(key) else { return };
        let is_programs = session.hand_over.is_programs();
        let is_refused = session.hand_over.is_refused();
        let Some(core) = self.endpoint.session(key) else { return };
        let discriminator = core.discriminator().get();
        if let Some(plane) = &mut self.plane {
            let outcome = match &order {
                Order::Keep => Ok(()),
                Order::Put(entry) => plane.reflector.put(entry),
                Order::Remove => plane.reflector.remove(discriminator),
            };
            if let Err(error) = outcome {
                tracing::warn!(peer = %key.peer, %error, "the XDP program cannot be told of a BFD session");
            }
        }
        if self.endpoint.set_reflected(key, is_programs) {
            self.is_news = true;
            tracing::debug!(peer = %key.peer, is_programs, "who answers a BFD peer");
        }
        if is_refused && order == Order::Remove {
            tracing::warn!(peer = %key.peer, "the XDP program does not answer this BFD peer; the agent does");
            self.reconfigure(now, key);
        }
    }

    /// What the program would have to do for a session that is at peace.
    fn reflection(&self, key: &SessionKey, session: &Session) -> Option<Reflection> {
        let interface = session.interface?;
        self.plane.as_ref().filter(|plane| plane.interfaces.contains(&interface))?;
        let steady = self.endpoint.session(key)?.steady()?;
        Some(Reflection {
            peer: key.peer,
            local: key.local,
            interface,
            source_port: session.mouth.source_port,
            expected: steady.expected.encode(),
            answer: steady.answer.encode(),
            gap: steady.interval.checked_div(2).unwrap_or_default(),
        })
    }

    fn heard(&self, key: &SessionKey) -> Option<Heard> {
        let plane = self.plane.as_ref()?;
        self.sessions.get(key)?.hand_over.entry()?;
        let discriminator = self.endpoint.session(key)?.discriminator().get();
        match plane.reflector.heard(discriminator) {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(peer = %key.peer, %error, "the XDP program cannot be asked");
                None
            }
        }
    }

    pub(super) fn note_change(&mut self, key: &SessionKey, change: core::Change) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.since = SystemTime::now();
        self.is_news = true;
        let (name, peer) = (session.spec.name.clone(), key.peer);
        tracing::info!(peer = %name, address = %peer, from = %change.from, to = %change.to, reason = %change.diagnostic, "BFD session");
        if change.to == State::Up {
            self.tell(peer, Verdict::Up);
        } else if change.is_loss() {
            session.failures = session.failures.saturating_add(1);
            let control_plane_independent = change.control_plane_independent;
            self.tell(peer, Verdict::Lost { control_plane_independent });
        }
    }

    /// Tells a new listener what is so.
    pub(super) fn tell_all(&self) {
        for key in self.sessions.keys().filter(|key| is_up(&self.endpoint, key)) {
            self.tell(key.peer, Verdict::Up);
        }
    }
}
