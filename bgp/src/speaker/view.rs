//! What a speaker can be asked. Everything is read in bounded pages.

use std::net::IpAddr;

use ipnet::IpNet;

use super::peers::Peer;
use super::{PeerId, Speaker};
use crate::fsm::{Session, State};
use crate::policy::Policy;
use crate::rib::{
    Announcements, Counters, Cursor, ImportChange, Judgement, Page, PeerCounts, PrefixView,
    SentView,
};
use crate::types::{Family, PerFamily};

/// One peer.
#[derive(Debug)]
pub struct PeerView<'a> {
    /// Its name.
    pub id: PeerId,
    /// Where it is.
    pub address: IpAddr,
    /// How far its session is.
    pub state: State,
    /// Its session: configuration, what was agreed on, deadlines.
    pub session: &'a Session,
    /// What went on since it was configured.
    pub counters: Counters,
    /// What is in the table of it now.
    pub counts: PerFamily<PeerCounts>,
}

impl Speaker {
    /// All peers, by their names.
    pub fn peers(&self) -> impl Iterator<Item = PeerView<'_>> {
        self.peers.iter().map(|(id, peer)| self.view(id, peer))
    }

    /// One peer.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<PeerView<'_>> {
        self.peers.get(id).map(|peer| self.view(id, peer))
    }

    fn view<'a>(&'a self, id: PeerId, peer: &'a Peer) -> PeerView<'a> {
        PeerView {
            id,
            address: peer.config.address,
            state: peer.session.state(),
            session: &peer.session,
            counters: self.rib.counters(peer.index),
            counts: PerFamily {
                ipv4: self.rib.counts(peer.index, Family::Ipv4Unicast),
                ipv6: self.rib.counts(peer.index, Family::Ipv6Unicast),
            },
        }
    }

    /// One page of a family's prefixes with all their paths, at most `limit` of them.
    #[must_use]
    pub fn routes(&self, family: Family, from: Cursor, limit: usize) -> Page<PrefixView<PeerId>> {
        let multipath_max = self.config.multipath_max;
        self.rib.page(family, from, limit, multipath_max, |index| self.peers.name(index))
    }

    /// One prefix with all its paths.
    #[must_use]
    pub fn route(&self, prefix: &IpNet) -> Option<PrefixView<PeerId>> {
        self.rib.find(prefix, self.config.multipath_max, |index| self.peers.name(index))
    }

    /// One page of what a peer was told of a family, and what not and why.
    #[must_use]
    pub fn sent(&self, id: PeerId, family: Family, from: Cursor, limit: usize) -> Page<SentView> {
        let Some(peer) = self.peers.get(id) else {
            return Page { entries: Vec::new(), next: None };
        };
        self.rib.sent(peer.index, family, from, limit)
    }

    /// What a peer was told of one prefix, or why not; nothing if there is nothing to tell.
    #[must_use]
    pub fn sent_prefix(&self, id: PeerId, prefix: &IpNet) -> Option<SentView> {
        self.rib.sent_prefix(self.peers.get(id)?.index, prefix)
    }

    /// What the export policy of a peer says of one prefix; nothing if what stands before policy
    /// holds it back already.
    #[must_use]
    pub fn judge_export(&self, id: PeerId, prefix: IpNet) -> Option<Judgement> {
        self.rib.judge_export(self.peers.get(id)?.index, prefix)
    }

    /// What the import policy of a peer says of a prefix that it announces; nothing if it does not,
    /// or if what stands before policy refuses it already.
    #[must_use]
    pub fn judge_import(&self, id: PeerId, prefix: IpNet) -> Option<Judgement> {
        self.rib.judge_import(self.peers.get(id)?.index, prefix)
    }

    /// One page of what another import policy would change of what a peer announces; nothing if that
    /// is not known: its session is down, or what it said was refused at the door (RFC 8212).
    #[must_use]
    pub fn preview_import(
        &self,
        id: PeerId,
        policy: &Policy,
        family: Family,
        from: Cursor,
    ) -> Option<Page<(IpNet, ImportChange)>> {
        self.rib.preview_import(self.peers.get(id)?.index, policy, family, from)
    }

    /// Whether the export guard permits a prefix of our own.
    #[must_use]
    pub fn is_permitted(&self, prefix: IpNet) -> bool {
        self.rib.is_permitted(prefix)
    }

    /// Our own announcements, as they are wanted.
    #[must_use]
    pub fn local(&self) -> &Announcements {
        self.rib.local()
    }

    /// Prefixes in the table.
    #[must_use]
    pub const fn prefixes(&self, family: Family) -> usize {
        self.rib.prefixes(family)
    }

    /// Attribute sets in the table.
    #[must_use]
    pub const fn attribute_sets(&self) -> usize {
        self.rib.attribute_sets()
    }
}
