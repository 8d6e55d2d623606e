//! One TCP connection of a session: its phase, its timers, its half-received message.
//!
//! A session has up to [`CONNECTIONS_MAX`](crate::limits::CONNECTIONS_MAX) of these while a
//! collision or an unseen restart of the peer is sorted out; one at most is established.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::State;
use super::negotiated::Negotiated;
use crate::limits::{MESSAGE_BYTES_MAX, SEND_HOLD_MIN};
use crate::types::{FamilySet, PerFamily};
use crate::wire::header::Deframer;

/// Names a connection of a session; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    Us,
    Peer,
}

/// Our end of a connection, as far as next hops derive from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Address of the socket.
    pub address: IpAddr,
    /// First global IPv6 address of the interface the socket uses.
    pub interface_ipv6: Option<Ipv6Addr>,
}

/// Where a connection stands, with what it needs to know there.
#[derive(Debug)]
pub(super) enum Phase {
    /// TCP is being established.
    Connecting { give_up_at: Instant },
    /// Our OPEN is out.
    OpenSent { give_up_at: Instant },
    /// The peer's OPEN was accepted.
    OpenConfirm(Peering),
    /// Routes flow.
    Established(Established),
}

/// What is known once the OPENs are exchanged.
#[derive(Debug)]
pub(super) struct Peering {
    pub(super) terms: Negotiated,
    pub(super) timers: Timers,
}

/// An established session.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) peering: Peering,
    pub(super) since: Instant,
    /// Families whose End-of-RIB is still owed.
    pub(super) end_of_rib_owed: FamilySet,
    /// Families whose End-of-RIB the peer owes.
    pub(super) end_of_rib_awaited: FamilySet,
    /// Families to ask the peer for again.
    pub(super) refresh_wanted: FamilySet,
    /// Families that the peer asked for again.
    pub(super) resending: PerFamily<Option<Resending>>,
}

/// How far a family is that the peer asked for again (RFC 7313 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resending {
    /// BoRR is owed.
    Asked,
    /// EoRR is owed, once all routes are sent.
    Begun,
}

/// Hold, keepalive and send-hold timers. All off when the hold time is zero.
#[derive(Debug)]
pub(super) struct Timers {
    hold_time: Duration,
    hold_until: Option<Instant>,
    keepalive_at: Option<Instant>,
    /// Since when a keepalive waits for the peer to read.
    keepalive_owed: Option<Instant>,
}

/// A timer that ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    Hold,
    SendHold,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) opener: Opener,
    pub(super) phase: Phase,
    pub(super) local: Option<LocalEndpoint>,
    pub(super) deframer: Deframer,
    /// OPEN, until it is written.
    pub(super) greeting: Vec<u8>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, opener: Opener, phase: Phase) -> Self {
        Self { id, opener, phase, local: None, deframer: Deframer::default(), greeting: Vec::new() }
    }

    pub(super) const fn state(&self) -> State {
        match self.phase {
            Phase::Connecting { .. } => State::Connect,
            Phase::OpenSent { .. } => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established(_) => State::Established,
        }
    }

    pub(super) const fn established(&self) -> Option<&Established> {
        match &self.phase {
            Phase::Established(established) => Some(established),
            _ => None,
        }
    }

    pub(super) const fn established_mut(&mut self) -> Option<&mut Established> {
        match &mut self.phase {
            Phase::Established(established) => Some(established),
            _ => None,
        }
    }

    pub(super) const fn timers_mut(&mut self) -> Option<&mut Timers> {
        match &mut self.phase {
            Phase::OpenConfirm(peering) => Some(&mut peering.timers),
            Phase::Established(established) => Some(&mut established.peering.timers),
            Phase::Connecting { .. } | Phase::OpenSent { .. } => None,
        }
    }

    /// The largest message that the peer may send.
    pub(super) const fn message_bytes_max(&self) -> usize {
        match &self.phase {
            Phase::OpenConfirm(peering) => peering.terms.codec.message_bytes_max,
            Phase::Established(established) => established.peering.terms.codec.message_bytes_max,
            Phase::Connecting { .. } | Phase::OpenSent { .. } => MESSAGE_BYTES_MAX,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Connecting { give_up_at } | Phase::OpenSent { give_up_at } => Some(*give_up_at),
            Phase::OpenConfirm(peering) => peering.timers.deadline(),
            Phase::Established(established) => established.peering.timers.deadline(),
        }
    }
}

impl Timers {
    /// Starts the timers; the first keepalive answers the OPEN at once.
    pub(super) fn start(now: Instant, hold_time: Duration) -> Self {
        let on = !hold_time.is_zero();
        Self {
            hold_time,
            hold_until: on.then(|| now.checked_add(hold_time)).flatten(),
            keepalive_at: on.then_some(now),
            keepalive_owed: Some(now),
        }
    }

    /// The peer was heard.
    pub(super) fn heard(&mut self, now: Instant) {
        if self.hold_until.is_some() {
            self.hold_until = now.checked_add(self.hold_time);
        }
    }

    /// Whether a keepalive is owed; it counts as sent.
    pub(super) const fn take_keepalive(&mut self) -> bool {
        self.keepalive_owed.take().is_some()
    }

    /// Lets time pass. `spread` jitters a period.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        spread: impl FnOnce(Duration) -> Duration,
    ) -> Result<(), Expired> {
        if self.hold_until.is_some_and(|until| until <= now) {
            return Err(Expired::Hold);
        }
        if self.send_hold_until().is_some_and(|until| until <= now) {
            return Err(Expired::SendHold);
        }
        if self.keepalive_at.is_some_and(|at| at <= now) {
            // RFC 4271 §4.4: a third of the hold time.
            let interval = self.hold_time.checked_div(3).unwrap_or_default();
            self.keepalive_at = now.checked_add(spread(interval));
            self.keepalive_owed.get_or_insert(now);
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        [self.hold_until, self.keepalive_at, self.send_hold_until()].into_iter().flatten().min()
    }

    /// RFC 9687 §3.1: eight minutes, or twice the hold time if that is longer.
    fn send_hold_until(&self) -> Option<Instant> {
        self.hold_until?;
        self.keepalive_owed?.checked_add(self.hold_time.saturating_mul(2).max(SEND_HOLD_MIN))
    }
}
