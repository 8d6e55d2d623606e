//! The table's peers, by dense numbers that are used again, and those among them for whom something
//! waits.
//!
//! Invariant: [`Peers::with_output`] names exactly the peers with an outbox that is not settled. A
//! peer can be changed only through a [`PeerMut`], which files it anew when it is let go.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use super::path::PeerIndex;
use super::peer::RibPeer;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Peers {
    places: Vec<Option<RibPeer>>,
    with_output: BTreeSet<PeerIndex>,
}

/// A peer that may be changed.
#[derive(Debug)]
pub(super) struct PeerMut<'a> {
    peer: &'a mut RibPeer,
    index: PeerIndex,
    had_output: bool,
    with_output: &'a mut BTreeSet<PeerIndex>,
}

impl Peers {
    /// Takes a peer; nothing if there are too many.
    pub(super) fn insert(&mut self, peer: RibPeer) -> Option<PeerIndex> {
        let vacant = self.places.iter().position(Option::is_none);
        let at = vacant.unwrap_or(self.places.len());
        // The last number stands for ourselves.
        let index = u16::try_from(at).map(PeerIndex).ok()?;
        if index == PeerIndex::OURSELVES {
            return None;
        }
        match self.places.get_mut(at) {
            Some(place) => *place = Some(peer),
            None => self.places.push(Some(peer)),
        }
        drop(self.get_mut(index));
        Some(index)
    }

    pub(super) fn remove(&mut self, index: PeerIndex) {
        self.with_output.remove(&index);
        if let Some(place) = self.places.get_mut(usize::from(index.0)) {
            *place = None;
        }
    }

    pub(super) fn get(&self, index: PeerIndex) -> Option<&RibPeer> {
        self.places.get(usize::from(index.0))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: PeerIndex) -> Option<PeerMut<'_>> {
        let peer = self.places.get_mut(usize::from(index.0))?.as_mut()?;
        let had_output = peer.has_output();
        Some(PeerMut { peer, index, had_output, with_output: &mut self.with_output })
    }

    /// Every number that is in use, and its peer.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerIndex, &RibPeer)> {
        let numbers = (0..u16::MAX).map(PeerIndex);
        numbers.zip(&self.places).filter_map(|(index, place)| Some((index, place.as_ref()?)))
    }

    /// Peers for whom something waits.
    pub(super) fn with_output(&self) -> impl Iterator<Item = PeerIndex> {
        self.with_output.iter().copied()
    }
}

impl Deref for PeerMut<'_> {
    type Target = RibPeer;

    fn deref(&self) -> &RibPeer {
        self.peer
    }
}

impl DerefMut for PeerMut<'_> {
    fn deref_mut(&mut self) -> &mut RibPeer {
        self.peer
    }
}

impl Drop for PeerMut<'_> {
    fn drop(&mut self) {
        match (self.had_output, self.peer.has_output()) {
            (false, true) => {
                self.with_output.insert(self.index);
            }
            (true, false) => {
                self.with_output.remove(&self.index);
            }
            _ => {}
        }
    }
}
