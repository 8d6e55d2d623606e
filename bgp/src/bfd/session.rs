//! The session with one peer: RFC 5880 §6.8, asynchronous mode, active role.
//!
//! | state, packet says → | AdminDown | Down | Init | Up |
//! |---|---|---|---|---|
//! | AdminDown | discarded | discarded | discarded | discarded |
//! | Down | – | Init | Up | – |
//! | Init | Down | – | Up | Up |
//! | Up | Down | Down | – | – |
//!
//! Beside that, silence for the detection time leads from Init and Up to Down, and configuration
//! to AdminDown. A packet that changes what we say is answered at once; everything else is sent at
//! the negotiated pace.
//!
//! Invariant: parameters that our packets advertise, and those that are in force, differ only
//! while a Poll Sequence asks the peer to confirm (§6.8.3).

mod timers;

use std::time::{Duration, Instant};

use self::timers::{Poll, Remote, Timers};
use super::{
    config::{Pace, SessionConfig},
    discard::Discard,
    jitter::Jitter,
    packet::{ControlPacket, Diagnostic, Discriminator, State},
};

/// What a session wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a packet to the peer.
    Transmit(ControlPacket),
    /// The state is another one.
    Changed(Change),
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// Why the session last went down.
    pub diagnostic: Diagnostic,
    /// What the peer last said of its own state.
    pub remote: State,
    /// The peer's last C bit: its BFD does not share fate with its control plane.
    pub control_plane_independent: bool,
}

impl Change {
    /// The peer was lost. One that is [`State::AdminDown`] went on purpose: no reason to take its
    /// routes away (RFC 5882 §4.2); nor is that we went ourselves.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        (self.from, self.to) == (State::Up, State::Down) && self.remote != State::AdminDown
    }
}

/// The exchange that repeats itself while nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steady {
    /// The peer's packet, bit for bit.
    pub expected: ControlPacket,
    /// What it is to be answered with.
    pub answer: ControlPacket,
    /// How often the peer sends, at the most.
    pub interval: Duration,
}

/// A session that somebody else kept up: what a predecessor left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The exchange.
    pub expected: ControlPacket,
    /// Its other half.
    pub answer: ControlPacket,
    /// When the peer was last heard.
    pub heard: Instant,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Session {
    config: SessionConfig,
    discriminator: Discriminator,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    advertised: Timers,
    in_force: Timers,
    poll: Poll,
    heard: Option<Instant>,
    last_sent: Option<(Instant, ControlPacket)>,
    next_send: Option<Instant>,
    /// Somebody else answers the peer's packets.
    is_reflected: bool,
    jitter: Jitter,
}

impl Session {
    /// A session that begins to look for its peer.
    #[must_use]
    pub fn new(
        now: Instant,
        config: SessionConfig,
        discriminator: Discriminator,
        seed: u64,
    ) -> Self {
        let timers = Timers::slow(&config);
        Self {
            config,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::None,
            remote: Remote::default(),
            advertised: timers,
            in_force: timers,
            poll: Poll::Idle,
            heard: None,
            last_sent: None,
            next_send: Some(now),
            is_reflected: false,
            jitter: Jitter::new(seed),
        }
    }

    /// A session that goes on where a predecessor left it, if the peer is still heard.
    #[must_use]
    pub fn adopt(
        now: Instant,
        config: SessionConfig,
        adopted: &Adopted,
        seed: u64,
    ) -> Option<Self> {
        let Adopted { expected, answer, heard } = adopted;
        let discriminator = answer.my_discriminator;
        let is_ours = expected.your_discriminator == Some(discriminator)
            && answer.your_discriminator == Some(expected.my_discriminator)
            && (expected.state, answer.state) == (State::Up, State::Up);
        if !is_ours {
            return None;
        }
        let timers = Timers { tx: answer.desired_min_tx, rx: answer.required_min_rx };
        let mut session = Self::new(now, config, discriminator, seed);
        session.state = State::Up;
        session.diagnostic = answer.diagnostic;
        session.remote = Remote::of(expected);
        session.advertised = timers;
        session.in_force = timers;
        session.heard = Some(*heard);
        session.last_sent = Some((now, *answer));
        session.negotiate(now);
        session.detection_deadline().filter(|deadline| now < *deadline)?;
        Some(session)
    }

    /// Takes a packet that is this session's.
    ///
    /// # Errors
    /// The session is administratively down and wants none.
    pub fn receive(
        &mut self,
        now: Instant,
        packet: &ControlPacket,
        actions: &mut Vec<Action>,
    ) -> Result<(), Discard> {
        if self.state == State::AdminDown {
            return Err(Discard::AdminDown);
        }
        self.heard = Some(now);
        self.remote = Remote::of(packet);
        if packet.r#final && self.poll == Poll::Asked {
            self.poll = Poll::Idle;
            self.in_force = self.advertised;
        }
        match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                self.go(State::Down, Diagnostic::NeighborSignaledDown, actions);
            }
            (State::Down, State::Down) => self.go(State::Init, self.diagnostic, actions),
            (State::Down | State::Init, State::Init) | (State::Init, State::Up) => {
                self.go(State::Up, self.diagnostic, actions);
            }
            _ => {}
        }
        self.negotiate(now);
        if packet.poll {
            // RFC 5880 §6.5: as soon as possible, whatever the timers say.
            let answer = ControlPacket { poll: false, r#final: true, ..self.packet() };
            self.send(now, answer, actions);
        }
        self.send_news(now, actions);
        Ok(())
    }

    /// The forwarding plane heard the [steady](Self::steady) packet at `at`.
    pub fn heard(&mut self, at: Instant) {
        if self.state == State::Up {
            self.heard = self.heard.max(Some(at));
        }
    }

    /// Somebody else answers the peer's packets from now on, or no longer. Says whether that is
    /// news. A session that is not up is never left to others.
    pub fn set_reflected(&mut self, is_reflected: bool) -> bool {
        let is_reflected = is_reflected && self.state == State::Up;
        std::mem::replace(&mut self.is_reflected, is_reflected) != is_reflected
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.detection_deadline().is_some_and(|deadline| deadline <= now) {
            if matches!(self.state, State::Init | State::Up) {
                self.go(State::Down, Diagnostic::DetectionTimeExpired, actions);
            }
            // RFC 5880 §6.8.1: a peer that was not heard for so long may come back as another.
            self.remote = Remote::default();
            self.heard = None;
            self.negotiate(now);
            self.send_news(now, actions);
        }
        if self.send_deadline().is_some_and(|deadline| deadline <= now) {
            self.send_next(now, actions);
        }
    }

    /// Takes another configuration; a session that is up stays so.
    pub fn configure(&mut self, now: Instant, config: SessionConfig, actions: &mut Vec<Action>) {
        self.config = config;
        self.negotiate(now);
        self.send_news(now, actions);
    }

    /// Takes the session down on purpose, for good (RFC 5880 §6.8.16). The peer is told so until
    /// the session is dropped, which is not to be before [`Session::farewell_time`] is over.
    pub fn disable(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.go(State::AdminDown, Diagnostic::AdministrativelyDown, actions);
        self.negotiate(now);
        self.send_news(now, actions);
    }

    /// When [`Session::tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.detection_deadline(), self.send_deadline()].into_iter().flatten().min()
    }

    /// The exchange of packets that repeats itself, if both ends are at peace and it may be left
    /// to somebody who answers as often as the peer sends.
    #[must_use]
    pub fn steady(&self) -> Option<Steady> {
        let last = self.remote.last.as_ref()?;
        let is_settled = self.state == State::Up
            && last.state == State::Up
            && last.your_discriminator == Some(self.discriminator)
            && self.poll == Poll::Idle
            && self.advertised == self.in_force;
        let is_even = self.config.pace == Pace::Common
            && !last.demand
            && last.required_min_rx != 0
            && last.required_min_rx <= self.advertised.tx
            && last.desired_min_tx <= self.advertised.tx;
        (is_settled && is_even).then(|| Steady {
            expected: ControlPacket { poll: false, r#final: false, ..*last },
            answer: self.packet(),
            interval: micros(last.desired_min_tx.max(self.advertised.rx)),
        })
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why the session last went down.
    #[must_use]
    pub const fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What the peer last said of its own state.
    #[must_use]
    pub fn remote_state(&self) -> State {
        self.remote.last.map_or(State::Down, |packet| packet.state)
    }

    /// Our name for the session.
    #[must_use]
    pub const fn discriminator(&self) -> Discriminator {
        self.discriminator
    }

    /// How long the peer may be silent (RFC 5880 §6.8.4).
    #[must_use]
    pub fn detection_time(&self) -> Duration {
        let interval = micros(self.in_force.rx.max(self.remote.desired_min_tx));
        interval.saturating_mul(u32::from(self.remote.multiplier.get()))
    }

    /// Time between our packets, before jitter (RFC 5880 §6.8.2).
    #[must_use]
    pub fn transmit_interval(&self) -> Duration {
        micros(self.in_force.tx.max(self.remote.min_rx))
    }

    /// How long the peer should hear that we are administratively down: its detection time.
    #[must_use]
    pub fn farewell_time(&self) -> Duration {
        self.transmit_interval().saturating_mul(u32::from(self.config.multiplier.get()))
    }

    fn go(&mut self, to: State, diagnostic: Diagnostic, actions: &mut Vec<Action>) {
        let from = std::mem::replace(&mut self.state, to);
        self.diagnostic = diagnostic;
        if from != to {
            self.is_reflected = false;
            let remote = self.remote_state();
            let control_plane_independent =
                self.remote.last.is_some_and(|packet| packet.control_plane_independent);
            let change = Change { from, to, diagnostic, remote, control_plane_independent };
            actions.push(Action::Changed(change));
        }
    }

    /// Brings what we advertise in line with what we want (RFC 5880 §6.8.3).
    fn negotiate(&mut self, now: Instant) {
        if self.state != State::Up {
            self.advertised = Timers::slow(&self.config);
            self.in_force = self.advertised;
            self.poll = Poll::Idle;
            return self.schedule(now);
        }
        let wanted = Timers::wanted(&self.config, &self.remote);
        if wanted != self.advertised && self.poll == Poll::Idle {
            self.advertised = wanted;
            self.poll = Poll::Wanted;
            // We may send more often and expect less at once; the rest waits for the peer.
            self.in_force.tx = self.in_force.tx.min(wanted.tx);
            self.in_force.rx = self.in_force.rx.max(wanted.rx);
        }
        self.schedule(now);
    }

    /// The content of our next packet.
    fn packet(&self) -> ControlPacket {
        ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: false,
            r#final: false,
            control_plane_independent: self.config.control_plane_independent,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.last.map(|packet| packet.my_discriminator),
            desired_min_tx: self.advertised.tx,
            required_min_rx: self.advertised.rx,
            required_min_echo_rx: 0,
        }
    }

    /// RFC 5880 §6.8.7: what the peer does not know yet is sent without waiting.
    fn send_news(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let content =
            |packet: ControlPacket| ControlPacket { poll: false, r#final: false, ..packet };
        let known = self.last_sent.map(|(_, packet)| content(packet));
        if known != Some(self.packet()) && self.remote.min_rx != 0 {
            self.send_next(now, actions);
        }
    }

    fn send_next(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.poll == Poll::Wanted {
            self.poll = Poll::Asked;
        }
        let packet = ControlPacket { poll: self.poll == Poll::Asked, ..self.packet() };
        self.send(now, packet, actions);
        self.next_send = None;
        self.schedule(now);
    }

    fn send(&mut self, now: Instant, packet: ControlPacket, actions: &mut Vec<Action>) {
        self.last_sent = Some((now, packet));
        actions.push(Action::Transmit(packet));
    }

    /// Chooses when to send next, if that is open, and never later than the interval allows.
    fn schedule(&mut self, now: Instant) {
        let interval = self.transmit_interval();
        let latest = now.checked_add(interval);
        if self.next_send.is_none_or(|next| latest.is_some_and(|latest| latest < next)) {
            let wait = self.jitter.spread(interval, self.config.multiplier);
            self.next_send = now.checked_add(wait);
        }
    }

    fn send_deadline(&self) -> Option<Instant> {
        // RFC 5880 §6.8.7: not to a peer that wants no packets; in demand mode only polls.
        let is_unwanted = self.remote.min_rx == 0
            || (self.remote.is_demanding() && self.state == State::Up && self.poll == Poll::Idle);
        self.next_send.filter(|_| !is_unwanted && !self.is_reflected)
    }

    fn detection_deadline(&self) -> Option<Instant> {
        self.heard?.checked_add(self.detection_time())
    }
}

const fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros as u64)
}

#[cfg(test)]
mod tests;
