//! The thread: waits, hears, lets the endpoint decide, speaks.
//!
//! What was heard is taken before deadlines are looked at, so that a thread that was kept from
//! running takes nobody for dead whose packets lie in its sockets.

mod mailbox;
mod orders;
mod sessions;

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use isocast_bgp::bfd::{Arrival, Endpoint, Event, SessionKey, State};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};
use parking_lot::Mutex;
use tokio::sync::watch;

pub(super) use self::mailbox::Mailbox;
use self::{mailbox::Doorbell, sessions::Session};
use super::{
    ForwardingPlane,
    clock::Clock,
    config::SessionSpec,
    sockets::{Datagram, Ears},
    status::{Readout, Statuses, Totals},
};
use crate::priority;

/// What BFD says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Up,
    /// It was lost. A peer that went down on purpose is not (RFC 5882 §4.2).
    Lost {
        /// Its last C bit: its BFD does not share fate with its control plane.
        control_plane_independent: bool,
    },
}

/// Who is told, on the thread of BFD: must not block.
pub type Listener = Arc<dyn Fn(IpAddr, Verdict) + Send + Sync>;

/// See the module.
pub(super) struct Driver {
    mailbox: Arc<Mailbox>,
    doorbell: Doorbell,
    clock: Clock,
    endpoint: Endpoint,
    ears: Ears,
    sessions: BTreeMap<SessionKey, Session>,
    /// Sessions whose sockets cannot be opened yet, and why.
    waiting: Vec<(SessionSpec, String)>,
    retry_at: Option<Instant>,
    plane: Option<ForwardingPlane>,
    listener: Option<Listener>,
    events: Vec<Event>,
    statuses: watch::Sender<Statuses>,
    totals: Arc<Mutex<Totals>>,
    is_news: bool,
    random: u64,
}

impl Driver {
    pub(super) fn new(seed: u64) -> io::Result<(Self, Arc<Mailbox>, Readout)> {
        let (mailbox, doorbell) = mailbox::new()?;
        let mailbox = Arc::new(mailbox);
        let (statuses, follow) = watch::channel(Statuses::new());
        let totals = Arc::<Mutex<Totals>>::default();
        let readout = Readout { statuses: follow, totals: Arc::clone(&totals) };
        let driver = Self {
            mailbox: Arc::clone(&mailbox),
            doorbell,
            clock: Clock::new()?,
            endpoint: Endpoint::new(seed),
            ears: Ears::default(),
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            retry_at: None,
            plane: None,
            listener: None,
            events: Vec::new(),
            statuses,
            totals,
            is_news: false,
            random: seed,
        };
        Ok((driver, mailbox, readout))
    }

    /// Runs until told to end.
    pub(super) fn run(mut self) {
        let priority = priority::before_all();
        self.totals.lock().priority = priority;
        tracing::debug!(?priority, "BFD thread runs");
        loop {
            if self.take_orders().is_break() {
                return;
            }
            self.hear();
            let now = Instant::now();
            self.look(now);
            self.endpoint.tick(now, &mut self.events);
            self.carry_out();
            self.retry(now);
            self.publish();
            if let Err(error) = self.wait() {
                tracing::error!(%error, "BFD cannot wait for packets, and ends");
                return;
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let deadline = [self.endpoint.next_deadline(), self.retry_at].into_iter().flatten().min();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let mut polled: Vec<_> =
            self.ears.iter().map(|ear| PollFd::new(ear.as_fd(), PollFlags::POLLIN)).collect();
        polled.push(PollFd::new(self.doorbell.as_fd(), PollFlags::POLLIN));
        match ppoll(&mut polled, timeout.map(TimeSpec::from), None) {
            Err(Errno::EINTR) => Ok(()),
            outcome => outcome.map(drop).map_err(io::Error::from),
        }
    }

    fn hear(&mut self) {
        for _ in 0..DATAGRAMS_MAX {
            let mut is_silent = true;
            let heard: Vec<_> = self.ears.iter().map(super::sockets::Ear::hear).collect();
            for datagram in heard {
                match datagram {
                    Ok(Some(datagram)) => {
                        is_silent = false;
                        self.receive(&datagram);
                    }
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "a BFD datagram cannot be read"),
                }
            }
            if is_silent {
                return;
            }
        }
    }

    fn receive(&mut self, datagram: &Datagram) {
        let now = Instant::now();
        let arrival = Arrival {
            hops: datagram.hops,
            source: datagram.source,
            destination: datagram.destination,
            hop_limit: datagram.hop_limit,
            payload: datagram.payload(),
        };
        match self.endpoint.receive(now, &arrival, &mut self.events) {
            Some(key) => {
                self.note_passed_up(now, &key, datagram);
                self.note_interface(now, &key, datagram.interface);
                self.settle(now, &key);
            }
            None => self.totals.lock().discards = self.endpoint.discards().clone(),
        }
        self.carry_out();
    }

    /// Reads what the program heard, where that is due.
    fn look(&mut self, now: Instant) {
        if self.endpoint.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let keys: Vec<_> = self.sessions.keys().copied().collect();
        for key in keys {
            self.look_at(now, &key);
        }
    }

    fn carry_out(&mut self) {
        while !self.events.is_empty() {
            let now = Instant::now();
            for event in std::mem::take(&mut self.events) {
                match event {
                    Event::Transmit(key, packet) => self.say(&key, &packet.encode()),
                    Event::Removed(key) => drop(self.sessions.remove(&key)),
                    Event::Changed(key, change) => {
                        self.note_change(&key, change);
                        self.settle(now, &key);
                    }
                }
            }
        }
    }

    fn say(&self, key: &SessionKey, packet: &[u8]) {
        let Some(session) = self.sessions.get(key) else { return };
        if let Err(error) = session.mouth.say(packet) {
            let mut totals = self.totals.lock();
            totals.send_failures = totals.send_failures.saturating_add(1);
            tracing::debug!(peer = %key.peer, %error, "a BFD packet cannot be sent");
        }
    }

    fn tell(&self, peer: IpAddr, verdict: Verdict) {
        if let Some(listener) = &self.listener {
            listener(peer, verdict);
        }
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.is_news) {
            return;
        }
        let running = self.sessions.iter().filter(|(_, session)| !session.is_leaving);
        let running = running.filter_map(|(key, session)| {
            Some((Arc::clone(&session.spec.uid), session.status(self.endpoint.session(key)?)))
        });
        let waiting = self.waiting.iter();
        let waiting = waiting.map(|(spec, why)| (Arc::clone(&spec.uid), sessions::idle(spec, why)));
        self.statuses.send_replace(running.chain(waiting).collect());
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random
    }
}

fn is_up(endpoint: &Endpoint, key: &SessionKey) -> bool {
    endpoint.session(key).is_some_and(|session| session.state() == State::Up)
}

/// Datagrams taken from each socket before deadlines are looked at.
const DATAGRAMS_MAX: usize = 256;
/// Time between attempts to open sockets.
const RETRY: Duration = Duration::from_secs(1);
