//! The session with one peer: its connections, timers and configuration. What arrives is handled
//! in [`inbound`]. See the [parent module](super).

mod inbound;
mod next_hops;
mod outbound;

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::config::{ConfigError, ConnectMode, RestartState, SessionConfig};
use super::connection::{
    Connection, ConnectionId, Established, Expired, LocalEndpoint, Opener, Phase,
};
use super::end::EndReason;
use super::helper::Helper;
use super::negotiated::{self, Negotiated};
use super::routes::Routes;
use super::{Action, Input, State, Stop};
use crate::limits::{
    CONNECT_WAIT, CONNECTIONS_MAX, INITIAL_SET_WAIT, OPEN_WAIT, PREFIX_LIMIT_WAIT,
};
use crate::types::FamilySet;

/// See the [parent module](super).
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    restart: RestartState,
    running: bool,
    connections: Vec<Connection>,
    next_id: u64,
    retry_at: Option<Instant>,
    /// Until when the peer's attempts are refused.
    refuse_until: Option<Instant>,
    /// Until when End-of-RIB waits for the first complete set; nothing: it does not.
    initial_set_until: Option<Instant>,
    backoff: Backoff,
    helper: Helper,
}

impl Session {
    /// A stopped session. `seed` spreads its timers.
    ///
    /// # Errors
    /// See [`SessionConfig::validate`].
    pub(crate) fn new(
        now: Instant,
        config: SessionConfig,
        restart: RestartState,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            restart,
            running: false,
            connections: Vec::new(),
            next_id: 0,
            retry_at: None,
            refuse_until: None,
            initial_set_until: now.checked_add(INITIAL_SET_WAIT),
            backoff: Backoff::new(seed),
            helper: Helper::default(),
            config,
        })
    }

    /// How far the session is: the furthest of its connections.
    #[must_use]
    pub fn state(&self) -> State {
        let idle = if self.running { State::Active } else { State::Idle };
        self.connections.iter().map(Connection::state).max().unwrap_or(idle)
    }

    /// Families of which stale routes are kept.
    #[must_use]
    pub fn stale(&self) -> FamilySet {
        self.helper.stale()
    }

    /// What was agreed with the peer, while established.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established().map(|established| &established.peering.terms)
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// When to feed [`Input::Tick`] though nothing happened.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let connections = self.connections.iter().filter_map(Connection::deadline);
        let others = [self.retry_at, self.initial_set_until, self.helper.deadline()];
        connections.chain(others.into_iter().flatten()).min()
    }

    /// Whether forwarding outlives us from here on: the F bit of the next OPEN.
    pub(crate) const fn set_forwarding_preserved(&mut self, preserved: bool) {
        self.restart.forwarding_preserved = preserved;
    }

    /// The desired set is complete for the first time: End-of-RIB need not wait any longer.
    pub(crate) const fn initial_set_complete(&mut self) {
        self.initial_set_until = None;
    }

    /// Replaces the configuration. Only what the peer must agree to costs a session.
    ///
    /// # Errors
    /// The new configuration is not valid; the old one stays.
    pub(crate) fn reconfigure(
        &mut self,
        now: Instant,
        config: SessionConfig,
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) -> Result<(), ConfigError> {
        config.validate()?;
        let reset = self.config.needs_reset(&config);
        if self.config.peer_as != config.peer_as || config.helper.is_none() {
            self.helper.give_up(routes);
        }
        self.config = config;
        if reset {
            self.reset(now, routes, actions);
        }
        let mut up = self.connections.iter();
        if let Some((connection, established)) =
            up.find_map(|connection| Some((connection, connection.established()?)))
        {
            let codec = established.peering.terms.codec;
            let configured = self.config.next_hops;
            routes.set_next_hops(next_hops::derive(configured, connection.local, &codec));
        }
        self.handle(now, Input::Tick, routes, actions);
        Ok(())
    }

    /// Ends the session because the configuration changed, and starts a new one at once.
    fn reset(&mut self, now: Instant, routes: &mut impl Routes, actions: &mut Vec<Action>) {
        self.end_all(now, &EndReason::Reconfigured, routes, actions);
        self.retry_at = self.running.then_some(now);
        self.tick(now, routes, actions);
    }

    /// Takes a connection that the peer opened; nothing if it is not wanted.
    pub(crate) fn incoming(&mut self, now: Instant, local: LocalEndpoint) -> Option<ConnectionId> {
        let refused = self.refuse_until.is_some_and(|until| now < until);
        let wanted = self.running && self.config.connect != ConnectMode::Active && !refused;
        if !wanted || self.connections.len() >= CONNECTIONS_MAX {
            return None;
        }
        let id = self.fresh_id();
        let give_up_at = after(now, OPEN_WAIT);
        self.connections.push(Connection::new(id, Opener::Peer, Phase::OpenSent { give_up_at }));
        self.greet(id, local);
        Some(id)
    }

    /// Takes what happened; what is to be done is appended to `actions`.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) {
        match input {
            Input::Start => {
                if !self.running {
                    self.running = true;
                    self.retry_at = Some(now);
                    self.tick(now, routes, actions);
                }
            }
            Input::Stop(stop) => {
                self.running = false;
                self.retry_at = None;
                self.refuse_until = None;
                let reason = match stop {
                    Stop::Drain { text } => EndReason::Drained { text },
                    Stop::Deconfigure => EndReason::Deconfigured,
                    Stop::Preserve => EndReason::Preserved,
                };
                self.end_all(now, &reason, routes, actions);
                self.helper.give_up(routes);
            }
            Input::Connected { id, local } => self.connected(now, id, local),
            Input::ConnectFailed { id, error } => {
                self.end(now, id, EndReason::ConnectFailed(error), routes, actions);
            }
            Input::Received { id, bytes } => self.received(now, id, bytes, routes, actions),
            Input::Closed { id } => {
                self.end(now, id, EndReason::ConnectionLost, routes, actions);
            }
            Input::Broken { id, error } => {
                self.end(now, id, EndReason::ConnectionBroken(error), routes, actions);
            }
            Input::Refresh(family) => self.want_refresh(family),
            Input::BfdDown { control_plane_independent } => {
                let reason = EndReason::BfdDown { control_plane_independent };
                self.end_all(now, &reason, routes, actions);
                if control_plane_independent {
                    // RFC 5882 §4.3.2.2: whatever restarts, packets are lost.
                    self.helper.give_up(routes);
                }
            }
            Input::BfdUp => {
                // The path is back: there is nothing to wait for.
                self.retry_at = self.retry_at.map(|at| at.min(now));
                self.tick(now, routes, actions);
            }
            Input::Tick => self.tick(now, routes, actions),
        }
    }

    fn tick(&mut self, now: Instant, routes: &mut impl Routes, actions: &mut Vec<Action>) {
        if self.initial_set_until.is_some_and(|until| until <= now) {
            self.initial_set_until = None;
        }
        self.helper.tick(now, routes);
        let ids: Vec<_> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            if let Some(reason) = self.tick_connection(now, id) {
                self.end(now, id, reason, routes, actions);
            }
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.connect(now, actions);
        }
    }

    fn tick_connection(&mut self, now: Instant, id: ConnectionId) -> Option<EndReason> {
        let backoff = &mut self.backoff;
        let connection = self.connections.iter_mut().find(|c| c.id == id)?;
        match connection.phase {
            Phase::Connecting { give_up_at } if give_up_at <= now => {
                return Some(EndReason::ConnectTimeout);
            }
            Phase::OpenSent { give_up_at } if give_up_at <= now => {
                return Some(EndReason::HoldTimerExpired);
            }
            _ => {}
        }
        let expired = connection.timers_mut()?.tick(now, |period| backoff.spread(period)).err()?;
        Some(match expired {
            Expired::Hold => EndReason::HoldTimerExpired,
            Expired::SendHold => EndReason::SendHoldTimerExpired,
        })
    }

    fn connect(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let ours = self.running && self.config.connect != ConnectMode::Passive;
        if !ours || !self.connections.is_empty() {
            return;
        }
        let id = self.fresh_id();
        let give_up_at = after(now, CONNECT_WAIT);
        self.connections.push(Connection::new(id, Opener::Us, Phase::Connecting { give_up_at }));
        actions.push(Action::Connect(id));
    }

    fn connected(&mut self, now: Instant, id: ConnectionId, local: LocalEndpoint) {
        let connecting = self
            .connections
            .iter_mut()
            .find(|c| c.id == id && matches!(c.phase, Phase::Connecting { .. }));
        if let Some(connection) = connecting {
            connection.phase = Phase::OpenSent { give_up_at: after(now, OPEN_WAIT) };
            self.greet(id, local);
        }
    }

    fn greet(&mut self, id: ConnectionId, local: LocalEndpoint) {
        let open = negotiated::offer(&self.config, self.restart);
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
            connection.local = Some(local);
            open.encode(&mut connection.greeting);
        }
    }

    fn end_all(
        &mut self,
        now: Instant,
        reason: &EndReason,
        routes: &mut impl Routes,
        actions: &mut Vec<Action>,
    ) {
        let ids: Vec<_> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            self.end(now, id, reason.clone(), routes, actions);
        }
    }

    fn end(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: EndReason,
        routes: &mut impl Routes,
        out: &mut Vec<Action>,
    ) {
        let Some(at) = self.connections.iter().position(|c| c.id == id) else { return };
        let connection = self.connections.swap_remove(at);
        let state = connection.state();
        let restarts = connection.established().map(|e| e.peering.terms.notification_restarts);
        let told = match restarts {
            Some(true) => reason.hard_notification(),
            _ => reason.notification(),
        };
        let farewell = told.filter(|_| state != State::Connect).map(|told| {
            let mut message = Vec::new();
            // Whoever is told must have been greeted: an OPEN not written yet goes first.
            message.extend_from_slice(&connection.greeting);
            told.encode(&mut message);
            message
        });
        out.push(Action::Close { id, farewell });
        let mut lasted = Duration::ZERO;
        if let Some(established) = connection.established() {
            lasted = now.saturating_duration_since(established.since);
            let terms = &established.peering.terms;
            let restart = self.running && reason.is_restart(terms.notification_restarts);
            let policy = self.config.helper.filter(|_| restart);
            self.helper.lost(now, policy.as_ref(), terms, routes);
        } else if matches!(&reason, EndReason::PeerNotification(told) if told.is_hard_reset()) {
            self.helper.give_up(routes);
        }
        let too_much = matches!(reason, EndReason::PrefixLimit(_));
        out.push(Action::Ended { state, reason });
        if too_much {
            self.refuse_until = now.checked_add(PREFIX_LIMIT_WAIT);
        }
        // An attempt that lost to another one is none that failed.
        if self.running && self.connections.is_empty() && self.retry_at.is_none() {
            let wait = self.backoff.after(lasted, self.config.connect_retry_max);
            self.retry_at = now.checked_add(wait).max(self.refuse_until.filter(|_| too_much));
        }
    }

    fn established(&self) -> Option<&Established> {
        self.connections.iter().find_map(Connection::established)
    }

    const fn fresh_id(&mut self) -> ConnectionId {
        self.next_id = self.next_id.wrapping_add(1);
        ConnectionId(self.next_id)
    }
}

fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}
