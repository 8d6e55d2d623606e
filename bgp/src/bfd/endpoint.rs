//! All sessions of a host: whose packet is it, and what do the sessions want done?
//!
//! A packet belongs to the session whose discriminator it names; one that names none, to the
//! session between the same addresses (RFC 5880 §6.3). Packets of strangers create nothing.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    config::{Hops, SessionConfig},
    discard::{Discard, Discards},
    jitter::Jitter,
    limits::{HOP_LIMIT, SESSIONS_MAX},
    packet::{ControlPacket, Discriminator},
    session::{Action, Adopted, Change, Session},
};

/// Which session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// The peer's address.
    pub peer: IpAddr,
    /// Ours.
    pub local: IpAddr,
    /// How far away the peer may be.
    pub hops: Hops,
}

/// A datagram that came to one of the ports of BFD.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Which port: a single-hop or a multihop session's.
    pub hops: Hops,
    /// Where it came from.
    pub source: IpAddr,
    /// Where it was sent to.
    pub destination: IpAddr,
    /// Hop limit or TTL on arrival.
    pub hop_limit: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

/// What is to be done, or to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session is in another state.
    Changed(SessionKey, Change),
    /// A session is gone: its farewell has been said.
    Removed(SessionKey),
    /// A packet for the peer of a session.
    Transmit(SessionKey, ControlPacket),
}

/// There are [`SESSIONS_MAX`] sessions already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {SESSIONS_MAX} BFD sessions")]
pub struct Full;

/// See the module.
#[derive(Debug)]
pub struct Endpoint {
    sessions: BTreeMap<SessionKey, Entry>,
    by_discriminator: BTreeMap<Discriminator, SessionKey>,
    discards: Discards,
    random: Jitter,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    /// When a session that was removed has said so for long enough.
    ends: Option<Instant>,
}

impl Endpoint {
    /// Has no sessions. Discriminators follow from `seed`: it should be another one each time.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            by_discriminator: BTreeMap::new(),
            discards: Discards::default(),
            random: Jitter::new(seed),
            actions: Vec::new(),
        }
    }

    /// Has a session with this configuration: a new one, or the one there is, which stays up.
    ///
    /// # Errors
    /// [`Full`], and nothing changes.
    pub fn set(
        &mut self,
        now: Instant,
        key: SessionKey,
        config: SessionConfig,
        events: &mut Vec<Event>,
    ) -> Result<(), Full> {
        if let Some(entry) = self.sessions.get_mut(&key).filter(|entry| entry.ends.is_none()) {
            entry.session.configure(now, config, &mut self.actions);
            self.pass_on(key, events);
            return Ok(());
        }
        self.forget(&key);
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Full);
        }
        let discriminator = self.free_discriminator();
        let session = Session::new(now, config, discriminator, self.random.next_u64());
        self.insert(key, session);
        Ok(())
    }

    /// Goes on with a session that a predecessor left, if its peer is still heard. Says whether.
    pub fn adopt(
        &mut self,
        now: Instant,
        key: SessionKey,
        config: SessionConfig,
        adopted: &Adopted,
    ) -> bool {
        let is_taken = self.sessions.contains_key(&key)
            || self.by_discriminator.contains_key(&adopted.answer.my_discriminator)
            || self.sessions.len() >= SESSIONS_MAX;
        if is_taken {
            return false;
        }
        let session = Session::adopt(now, config, adopted, self.random.next_u64());
        session.map(|session| self.insert(key, session)).is_some()
    }

    /// Takes a session down on purpose; it is gone once its peer had time to hear that.
    pub fn remove(&mut self, now: Instant, key: SessionKey, events: &mut Vec<Event>) {
        let Some(entry) = self.sessions.get_mut(&key).filter(|entry| entry.ends.is_none()) else {
            return;
        };
        let farewell = entry.session.farewell_time().max(FAREWELL_MIN);
        entry.ends = now.checked_add(farewell);
        entry.session.disable(now, &mut self.actions);
        self.pass_on(key, events);
    }

    /// Takes a datagram. Says whose it was, or counts why it was nobody's.
    pub fn receive(
        &mut self,
        now: Instant,
        arrival: &Arrival<'_>,
        events: &mut Vec<Event>,
    ) -> Option<SessionKey> {
        match self.try_receive(now, arrival) {
            Ok(key) => {
                self.pass_on(key, events);
                Some(key)
            }
            Err(discard) => {
                self.discards.count(discard);
                None
            }
        }
    }

    /// The forwarding plane heard a session's steady packet at `at`.
    pub fn heard(&mut self, key: &SessionKey, at: Instant) {
        if let Some(entry) = self.sessions.get_mut(key) {
            entry.session.heard(at);
        }
    }

    /// The forwarding plane answers a session's peer from now on, or no longer. Says whether that
    /// is news.
    pub fn set_reflected(&mut self, key: &SessionKey, is_reflected: bool) -> bool {
        let entry = self.sessions.get_mut(key);
        entry.is_some_and(|entry| entry.session.set_reflected(is_reflected))
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, events: &mut Vec<Event>) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let due: Vec<_> =
            self.sessions.iter().filter(|(_, entry)| is_due(entry.next_deadline())).collect();
        let due: Vec<_> = due.into_iter().map(|(key, _)| *key).collect();
        for key in due {
            let Some(entry) = self.sessions.get_mut(&key) else { continue };
            if is_due(entry.ends) {
                self.forget(&key);
                events.push(Event::Removed(key));
                continue;
            }
            entry.session.tick(now, &mut self.actions);
            self.pass_on(key, events);
        }
    }

    /// When [`Endpoint::tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(Entry::next_deadline).min()
    }

    /// A session.
    #[must_use]
    pub fn session(&self, key: &SessionKey) -> Option<&Session> {
        self.sessions.get(key).map(|entry| &entry.session)
    }

    /// All sessions that are wanted.
    pub fn sessions(&self) -> impl Iterator<Item = (&SessionKey, &Session)> {
        let wanted = self.sessions.iter().filter(|(_, entry)| entry.ends.is_none());
        wanted.map(|(key, entry)| (key, &entry.session))
    }

    /// What was discarded.
    #[must_use]
    pub const fn discards(&self) -> &Discards {
        &self.discards
    }

    fn try_receive(&mut self, now: Instant, arrival: &Arrival<'_>) -> Result<SessionKey, Discard> {
        if arrival.hops == Hops::One && arrival.hop_limit != HOP_LIMIT {
            return Err(Discard::HopLimit);
        }
        let packet = ControlPacket::decode(arrival.payload)?;
        let between =
            SessionKey { peer: arrival.source, local: arrival.destination, hops: arrival.hops };
        let key = match packet.your_discriminator {
            None => between,
            Some(discriminator) => {
                let key = self.by_discriminator.get(&discriminator);
                *key.ok_or(Discard::UnknownSession)?
            }
        };
        if key != between {
            return Err(Discard::WrongSource);
        }
        let entry = self.sessions.get_mut(&key).ok_or(Discard::UnknownSession)?;
        entry.session.receive(now, &packet, &mut self.actions)?;
        Ok(key)
    }

    fn pass_on(&mut self, key: SessionKey, events: &mut Vec<Event>) {
        events.extend(self.actions.drain(..).map(|action| match action {
            Action::Transmit(packet) => Event::Transmit(key, packet),
            Action::Changed(change) => Event::Changed(key, change),
        }));
    }

    fn insert(&mut self, key: SessionKey, session: Session) {
        self.by_discriminator.insert(session.discriminator(), key);
        self.sessions.insert(key, Entry { session, ends: None });
    }

    fn forget(&mut self, key: &SessionKey) {
        if let Some(entry) = self.sessions.remove(key) {
            self.by_discriminator.remove(&entry.session.discriminator());
        }
    }

    fn free_discriminator(&mut self) -> Discriminator {
        loop {
            let candidate = Discriminator::new(self.random.next_u32());
            let free = candidate.filter(|free| !self.by_discriminator.contains_key(free));
            if let Some(discriminator) = free {
                return discriminator;
            }
        }
    }
}

impl Entry {
    fn next_deadline(&self) -> Option<Instant> {
        [self.session.next_deadline(), self.ends].into_iter().flatten().min()
    }
}

/// A farewell is repeated once a second; one of three may be lost.
const FAREWELL_MIN: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
