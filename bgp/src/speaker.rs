//! A whole BGP speaker, sans-IO: many sessions around one route table.
//!
//! A driver owns sockets and the clock. It feeds [`Input`]s with the time they happened, carries out
//! the [`Action`]s that come back, writes what [`Speaker::transmit`] yields whenever a connection can
//! take some, and calls [`Speaker::tick`] no later than [`Speaker::next_deadline`]. No call takes
//! longer than about a millisecond, however many routes there are: what is more is done in slices,
//! for which the deadline is at once.
//!
//! What a driver owes its peers: a bounded number of bytes read from each in turn, and
//! [`Speaker::transmit`] only when all that came before has been written, so that the urgent is never
//! behind a backlog.
//!
//! Nothing passes that no policy lets pass (RFC 8212): a peer without an import policy tells us
//! nothing, and one without an export policy is told nothing. Our own announcements pass the
//! [export guard](ExportGuard) besides; routes of others are policy's business alone.

mod config;
mod peers;
mod routes;
mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

pub use self::config::{ExportConfig, ImportConfig, PeerConfig, SetPeerError, SpeakerConfig};
use self::peers::{Peer, Peers};
use self::routes::PeerRoutes;
pub use self::view::PeerView;
use crate::fsm::{Action, ConnectionId, Input, LocalEndpoint, Session, Stop};
use crate::guard::ExportGuard;
use crate::limits::PEERS_MAX;
use crate::rib::Rib;
pub use crate::rib::{
    Announcement, Announcements, Counters, Cursor, ForwardingRoute, ImportChange, Judgement,
    LearntRoutes, NextHopMode, OverLimit, Page, PathView, PeerCounts, PrefixLimit, PrefixView,
    Reason, SentView, Verdict, Withheld,
};
use crate::types::Family;

/// Names a peer; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

/// An action, and the peer whose session it concerns.
pub type PeerAction = (PeerId, Action);

/// See the module.
#[derive(Debug)]
pub struct Speaker {
    config: SpeakerConfig,
    peers: Peers,
    rib: Rib,
    seed: u64,
    /// The latest time that was told.
    now: Instant,
    /// The set of announcements was given once.
    initial_set: bool,
    scratch: Vec<Action>,
    /// Peers of one tick.
    due: Vec<PeerId>,
}

impl Speaker {
    /// A speaker without peers. `seed` spreads timers and keeps peers from foreseeing hashes: it
    /// must be random, except in tests.
    #[must_use]
    pub fn new(now: Instant, config: SpeakerConfig, seed: u64) -> Self {
        Self {
            config,
            peers: Peers::default(),
            rib: Rib::new(seed),
            seed,
            now,
            initial_set: false,
            scratch: Vec::new(),
            due: Vec::new(),
        }
    }

    /// Takes a peer, or the new configuration of one. A new peer waits for [`Input::Start`]. Of an
    /// old one, only what it must agree to costs the session; policies and limits take effect on
    /// the routes that are there.
    ///
    /// # Errors
    /// The configuration is not valid, or there are too many peers; everything stays as it was.
    pub fn set_peer(
        &mut self,
        now: Instant,
        id: PeerId,
        config: PeerConfig,
        actions: &mut Vec<PeerAction>,
    ) -> Result<(), SetPeerError> {
        self.now = now;
        if let Some(mut peer) = self.peers.get_mut(id) {
            config.session.validate()?;
            // Nothing that was refused at the door can be judged anew: the peer must say it again.
            let opens = peer.config.import.is_shut() && !config.import.is_shut();
            self.rib.set_peer(peer.index, config.settings());
            let session = config.session.clone();
            peer.config = config;
            let mut routes = PeerRoutes { rib: &mut self.rib, peer: peer.index };
            let outcome = peer.session.reconfigure(now, session, &mut routes, &mut self.scratch);
            if opens {
                for family in Family::ALL {
                    let again = Input::Refresh(family);
                    peer.session.handle(now, again, &mut routes, &mut self.scratch);
                }
            }
            actions.extend(self.scratch.drain(..).map(|action| (id, action)));
            return Ok(outcome?);
        }
        if self.peers.len() >= PEERS_MAX {
            return Err(SetPeerError::TooMany);
        }
        let seed = self.seed.rotate_left(id.0 % 64) ^ u64::from(id.0);
        let mut session = Session::new(now, config.session.clone(), self.config.restart, seed)?;
        if self.initial_set {
            session.initial_set_complete();
        }
        let index = self.rib.add_peer(config.settings()).ok_or(SetPeerError::TooMany)?;
        self.peers.insert(id, Peer { session, index, config });
        Ok(())
    }

    /// Forgets a peer: its session ends as `stop` says, its routes go.
    pub fn remove_peer(
        &mut self,
        now: Instant,
        id: PeerId,
        stop: Stop,
        actions: &mut Vec<PeerAction>,
    ) {
        self.handle(now, id, Input::Stop(stop), actions);
        if let Some(peer) = self.peers.remove(id) {
            self.rib.remove_peer(peer.index);
        }
    }

    /// Replaces the set of our own announcements. Only differences are told.
    pub fn set_local(&mut self, announcements: Arc<Announcements>) {
        self.rib.set_local(announcements);
    }

    /// The set of announcements is complete for the first time: End-of-RIB need not wait for it.
    pub fn initial_set_complete(&mut self) {
        self.initial_set = true;
        self.peers.for_each_session(Session::initial_set_complete);
    }

    /// Replaces the export guard; what it no longer permits is withdrawn.
    pub fn set_guard(&mut self, guard: Arc<ExportGuard>) {
        self.rib.set_guard(guard);
    }

    /// Whether forwarding outlives us from here on: the F bit of every next OPEN.
    pub fn set_forwarding_preserved(&mut self, preserved: bool) {
        self.config.restart.forwarding_preserved = preserved;
        self.peers.for_each_session(|session| session.set_forwarding_preserved(preserved));
    }

    /// Takes what happened to one peer; what is to be done is appended to `actions`.
    pub fn handle(
        &mut self,
        now: Instant,
        id: PeerId,
        input: Input<'_>,
        actions: &mut Vec<PeerAction>,
    ) {
        self.now = now;
        let Some(mut peer) = self.peers.get_mut(id) else { return };
        let mut routes = PeerRoutes { rib: &mut self.rib, peer: peer.index };
        peer.session.handle(now, input, &mut routes, &mut self.scratch);
        actions.extend(self.scratch.drain(..).map(|action| (id, action)));
    }

    /// Lets time pass for every peer, and does one slice of what waits in the table.
    pub fn tick(&mut self, now: Instant, actions: &mut Vec<PeerAction>) {
        self.now = now;
        let mut due = std::mem::take(&mut self.due);
        due.extend(self.peers.due(now));
        for id in due.drain(..) {
            self.handle(now, id, Input::Tick, actions);
        }
        self.due = due;
        self.rib.work();
    }

    /// Takes a connection that a peer opened; nothing if it is not wanted.
    pub fn incoming(
        &mut self,
        now: Instant,
        id: PeerId,
        local: LocalEndpoint,
    ) -> Option<ConnectionId> {
        self.now = now;
        self.peers.get_mut(id)?.session.incoming(now, local)
    }

    /// Appends what a connection should carry next; nothing if there is nothing to say. To be called
    /// when all that came before has been written: after every input or tick that concerned the peer,
    /// and for all that [`Self::has_output`] names.
    pub fn transmit(&mut self, id: PeerId, connection: ConnectionId, out: &mut Vec<u8>) {
        let Some(mut peer) = self.peers.get_mut(id) else { return };
        let mut routes = PeerRoutes { rib: &mut self.rib, peer: peer.index };
        peer.session.transmit(connection, &mut routes, out);
    }

    /// Peers for whom routes wait.
    pub fn has_output(&self) -> impl Iterator<Item = PeerId> {
        self.rib.with_output().filter_map(|index| self.peers.name(index))
    }

    /// When to call [`Self::tick`] though nothing happened. In the past: at once, and again, until it
    /// is not; with inputs and output in between.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.rib.has_work() {
            return Some(self.now);
        }
        self.peers.next_deadline()
    }

    /// From here on [`Self::take_forwarding`] tells where prefixes lead, beginning with all of them.
    pub fn watch_forwarding(&mut self) {
        self.rib.watch_forwarding();
    }

    /// Whether a forwarding table is to be told something.
    #[must_use]
    pub fn has_forwarding(&self) -> bool {
        self.rib.has_forwarding()
    }

    /// Appends where prefixes lead that changed, each with `multipath_max` next hops at most, after
    /// a look at `visits` of them. What is not taken waits, at a few bytes a prefix.
    pub fn take_forwarding(
        &mut self,
        multipath_max: usize,
        visits: usize,
        out: &mut Vec<ForwardingRoute>,
    ) {
        self.rib.take_forwarding(multipath_max, visits, out);
    }

    /// The peer configured with an address, for connections that come in.
    #[must_use]
    pub fn peer_at(&self, address: IpAddr) -> Option<PeerId> {
        let mut peers = self.peers.iter();
        peers.find(|(_, peer)| peer.config.address == address).map(|(id, _)| id)
    }
}
