//! Peers and their sessions, as far as the table is concerned.

use super::jobs::Walk;
use super::outbox::Scope;
use super::path::{PeerIndex, SourceId, SourceState};
use super::peer::{PeerSettings, RibPeer};
use super::{Rib, with_table};
use crate::fsm::SessionTerms;
use crate::types::{Family, FamilySet, PerFamily};
use crate::wire::next_hop::NextHop;

impl Rib {
    /// Takes a peer; nothing if there are too many.
    pub(crate) fn add_peer(&mut self, settings: PeerSettings) -> Option<PeerIndex> {
        self.peers.insert(RibPeer::new(settings))
    }

    /// Forgets a peer and all that it said.
    pub(crate) fn remove_peer(&mut self, peer: PeerIndex) {
        self.down(peer, FamilySet::default());
        for family in Family::ALL {
            self.drop_stale(peer, family);
        }
        self.peers.remove(peer);
    }

    /// Replaces what the peer may tell us and be told; routes are judged anew, in slices.
    pub(crate) fn set_peer(&mut self, peer: PeerIndex, settings: PeerSettings) {
        let Some(mut entry) = self.peer_mut(peer) else { return };
        let old = std::mem::replace(&mut entry.settings, settings);
        let new = entry.settings.clone();
        drop(entry);
        let imports = old.import != new.import
            || old.blackhole != new.blackhole
            || old.connection != new.connection;
        let exports = old.export != new.export
            || old.learnt != new.learnt
            || old.next_hop != new.next_hop
            || old.connection != new.connection;
        let limits = old.export_max != new.export_max;
        for family in Family::ALL {
            if imports {
                self.judge_again(peer, family);
            }
            self.listen(peer, family);
            if exports || limits {
                let what = if exports { Scope::Everything } else { Scope::Differences };
                self.scan(peer, family, what);
            }
        }
    }

    /// A session begins: the peer knows nothing.
    pub(crate) fn up(&mut self, peer: PeerIndex, terms: &SessionTerms) {
        let Some(mut entry) = self.peer_mut(peer) else { return };
        entry.terms = Some(Box::new(terms.clone()));
        entry.warned = PerFamily::default();
        drop(entry);
        for family in terms.negotiated.codec.families.iter() {
            let source = self.new_source(peer, family);
            if let Some(mut entry) = self.peer_mut(peer) {
                *entry.current.get_mut(family) = source;
            }
            self.listen(peer, family);
            self.scan(peer, family, Scope::Everything);
        }
    }

    /// The session is over. Routes of `kept` families become stale, others go.
    pub(crate) fn down(&mut self, peer: PeerIndex, kept: FamilySet) {
        for family in Family::ALL {
            // RFC 4724 §4.2: what was stale already does not survive a second time.
            self.drop_stale(peer, family);
            let Some(mut entry) = self.peer_mut(peer) else { return };
            let outbox = std::mem::take(entry.outboxes.get_mut(family));
            let source = entry.current.get_mut(family).take();
            drop(entry);
            self.listeners.get_mut(family).retain(|listener| *listener != peer);
            self.start_close(family, outbox);
            let Some(source) = source else { continue };
            if kept.contains(family) {
                self.keep(peer, family, source, SourceState::Stale);
            } else {
                self.kill(family, source);
            }
        }
        if let Some(mut entry) = self.peer_mut(peer) {
            entry.terms = None;
        }
    }

    /// All that the peer has sent is about to be sent again (RFC 7313 §4).
    pub(crate) fn mark_stale(&mut self, peer: PeerIndex, family: Family) {
        let Some(entry) = self.peer(peer) else { return };
        let refreshing = entry.stale.get(family).clone();
        let current = *entry.current.get(family);
        let is_refreshing = with_table!(self, family, table => {
            refreshing.iter().any(|stale| {
                table.source(*stale).is_some_and(|source| source.state == SourceState::Refreshing)
            })
        });
        // A refresh within a refresh: what was marked by the first is marked still.
        if let (Some(source), false) = (current, is_refreshing) {
            let Some(fresh) = self.new_source(peer, family) else { return };
            if let Some(mut entry) = self.peer_mut(peer) {
                *entry.current.get_mut(family) = Some(fresh);
            }
            self.keep(peer, family, source, SourceState::Refreshing);
        }
    }

    /// What is stale of a family goes.
    pub(crate) fn drop_stale(&mut self, peer: PeerIndex, family: Family) {
        let Some(mut entry) = self.peer_mut(peer) else { return };
        let stale = std::mem::take(entry.stale.get_mut(family));
        drop(entry);
        for source in stale {
            self.kill(family, source);
        }
    }

    /// What is stale of a family stays as a last resort (RFC 9494 §4.2).
    pub(crate) fn retain_long_lived(&mut self, peer: PeerIndex, family: Family) {
        let Some(entry) = self.peer(peer) else { return };
        for source in entry.stale.get(family).clone() {
            self.set_state(family, source, SourceState::LongLived);
            self.start_walk(family, source, Walk::LastResort);
        }
    }

    /// The peer asks for everything again (RFC 2918 §4).
    pub(crate) fn resend(&mut self, peer: PeerIndex, family: Family) {
        self.scan(peer, family, Scope::Everything);
    }

    /// Next hops to announce changed; families whose next hop did are told again.
    pub(crate) fn set_next_hops(&mut self, peer: PeerIndex, next_hops: PerFamily<Option<NextHop>>) {
        let Some(mut entry) = self.peer_mut(peer) else { return };
        let Some(terms) = &mut entry.terms else { return };
        let old = std::mem::replace(&mut terms.next_hops, next_hops);
        drop(entry);
        for family in Family::ALL.into_iter().filter(|f| old.get(*f) != next_hops.get(*f)) {
            self.scan(peer, family, Scope::Everything);
        }
    }

    /// Everyone is told of differences that the guard makes.
    pub(super) fn rescan_local(&mut self) {
        for family in Family::ALL {
            for listener in self.listeners.get(family).clone() {
                let reads =
                    self.peer(listener).is_some_and(|peer| peer.settings.export.reads_own_space());
                let what = if reads { Scope::Everything } else { Scope::Differences };
                self.scan(listener, family, what);
            }
            let readers =
                self.peers.iter().filter(|(_, peer)| peer.settings.import.reads_own_space());
            for index in readers.map(|(index, _)| index).collect::<Vec<_>>() {
                self.judge_again(index, family);
            }
        }
    }

    fn judge_again(&mut self, peer: PeerIndex, family: Family) {
        let Some(entry) = self.peer(peer) else { return };
        let shut = entry.settings.imports_nothing();
        if shut {
            self.drop_stale(peer, family);
        }
        let Some(source) = self.peer(peer).and_then(|entry| *entry.current.get(family)) else {
            return;
        };
        if shut {
            let fresh = self.new_source(peer, family);
            if let Some(mut entry) = self.peer_mut(peer) {
                *entry.current.get_mut(family) = fresh;
            }
            self.kill(family, source);
        } else {
            self.start_walk(family, source, Walk::Judge);
        }
    }

    fn listen(&mut self, peer: PeerIndex, family: Family) {
        // A peer that may be told nothing any more still hears withdrawals.
        let listens = self
            .peer(peer)
            .is_some_and(|entry| entry.listens(family) || entry.outboxes.get(family).told > 0);
        let listeners = self.listeners.get_mut(family);
        listeners.retain(|listener| *listener != peer);
        if listens {
            listeners.push(peer);
        }
    }

    fn scan(&mut self, peer: PeerIndex, family: Family, what: Scope) {
        let end = with_table!(self, family, table => table.bound());
        let listens = self.listeners.get(family).contains(&peer);
        if let (true, Some(mut entry)) = (listens, self.peer_mut(peer)) {
            entry.outboxes.get_mut(family).start_scan(end, what);
        }
    }

    fn new_source(&mut self, peer: PeerIndex, family: Family) -> Option<SourceId> {
        let neighbour = self.peer(peer)?.neighbour()?;
        loop {
            let source = with_table!(self, family, table => table.add_source(peer, neighbour));
            // Names run out only while many dead sources wait for the sweep.
            if source.is_some() || !self.has_work() {
                return source;
            }
            self.work();
        }
    }

    fn keep(&mut self, peer: PeerIndex, family: Family, source: SourceId, state: SourceState) {
        let paths = self.set_state(family, source, state);
        if paths == 0 {
            return self.kill(family, source);
        }
        if let Some(mut entry) = self.peer_mut(peer) {
            entry.stale.get_mut(family).push(source);
        }
        if state.is_stale() {
            self.start_walk(family, source, Walk::Reselect);
        }
    }

    fn kill(&mut self, family: Family, source: SourceId) {
        self.set_state(family, source, SourceState::Dead);
        self.start_walk(family, source, Walk::Remove);
    }

    /// Paths of the source.
    fn set_state(&mut self, family: Family, source: SourceId, state: SourceState) -> u32 {
        with_table!(self, family, table => {
            table.source_mut(source).map_or(0, |source| {
                source.state = state;
                source.paths
            })
        })
    }
}
