//! The speaker's peers by name, and when each of their sessions wants to be called.
//!
//! Invariant: there is one entry in the order of deadlines for each peer whose session has one, and
//! it is that session's. A session can be changed only through a [`PeerMut`], which files it anew
//! when it is let go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::{PeerConfig, PeerId};
use crate::fsm::Session;
use crate::rib::PeerIndex;

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) session: Session,
    pub(super) index: PeerIndex,
    pub(super) config: PeerConfig,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_id: BTreeMap<PeerId, Peer>,
    deadlines: BTreeSet<(Instant, PeerId)>,
    /// Peers by their place in the table.
    names: Vec<PeerId>,
}

/// A peer that may be changed.
#[derive(Debug)]
pub(super) struct PeerMut<'a> {
    peer: &'a mut Peer,
    id: PeerId,
    deadline: Option<Instant>,
    deadlines: &'a mut BTreeSet<(Instant, PeerId)>,
}

impl Peers {
    /// Takes a peer whose name is new.
    pub(super) fn insert(&mut self, id: PeerId, peer: Peer) {
        let place = usize::from(peer.index.0);
        if place >= self.names.len() {
            self.names.resize(place.saturating_add(1), id);
        }
        if let Some(name) = self.names.get_mut(place) {
            *name = id;
        }
        self.remove(id);
        self.deadlines.extend(peer.session.next_deadline().map(|at| (at, id)));
        self.by_id.insert(id, peer);
    }

    pub(super) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let peer = self.by_id.remove(&id)?;
        if let Some(at) = peer.session.next_deadline() {
            self.deadlines.remove(&(at, id));
        }
        Some(peer)
    }

    pub(super) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<PeerMut<'_>> {
        let peer = self.by_id.get_mut(&id)?;
        let deadline = peer.session.next_deadline();
        Some(PeerMut { peer, id, deadline, deadlines: &mut self.deadlines })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.by_id.iter().map(|(id, peer)| (*id, peer))
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Changes every session.
    pub(super) fn for_each_session(&mut self, mut change: impl FnMut(&mut Session)) {
        for (id, peer) in &mut self.by_id {
            let deadline = peer.session.next_deadline();
            let mut peer = PeerMut { peer, id: *id, deadline, deadlines: &mut self.deadlines };
            change(&mut peer.session);
        }
    }

    /// The first deadline of all.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Peers whose deadlines have passed.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = PeerId> {
        self.deadlines.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// What a place in the table is called.
    pub(super) fn name(&self, index: PeerIndex) -> Option<PeerId> {
        self.names.get(usize::from(index.0)).copied()
    }
}

impl Deref for PeerMut<'_> {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        self.peer
    }
}

impl DerefMut for PeerMut<'_> {
    fn deref_mut(&mut self) -> &mut Peer {
        self.peer
    }
}

impl Drop for PeerMut<'_> {
    fn drop(&mut self) {
        let deadline = self.peer.session.next_deadline();
        if deadline == self.deadline {
            return;
        }
        if let Some(before) = self.deadline {
            self.deadlines.remove(&(before, self.id));
        }
        self.deadlines.extend(deadline.map(|at| (at, self.id)));
    }
}
