//! What policy makes of a prefix on its way from or to one peer: asked again for whoever wants to
//! know, as it was asked when the route came, or is before it goes.
//!
//! Asked again, rather than remembered: a verdict is a function of the policy, the route and the
//! session, all of which the table has. Remembered, the term would cost every prefix a byte for each
//! peer that is told of it, where [`outbox`](super::outbox) has four bits, and after a change of
//! policy it would name a term of the old one until the walk came by. While that walk is under way,
//! the answer is that of the policy in force. Otherwise the table and the answer agree, which a
//! property test asks of every route and peer.

use ipnet::IpNet;

use super::export::{Gate, admit};
use super::import::{Bench, Opinion};
use super::path::{PeerIndex, Verdict};
use super::table::LOCAL;
use super::{Rib, with_table_ref};
use crate::policy::{END_OF_POLICY, Verdict as PolicyVerdict};
use crate::types::Family;
use crate::wire::community::Communities;

/// What a policy of a peer says of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Name of the term that decided.
    pub term: String,
    /// The prefix passes.
    pub accepted: bool,
    /// Communities that it leaves policy with.
    pub communities: Communities,
}

impl Rib {
    /// Whether the export guard permits a prefix of our own.
    pub(crate) fn is_permitted(&self, prefix: IpNet) -> bool {
        self.guard.permit(prefix).is_some()
    }

    /// What the export policy says; nothing if what stands before policy holds the prefix back
    /// already.
    pub(crate) fn judge_export(&self, index: PeerIndex, prefix: IpNet) -> Option<Judgement> {
        let peer = self.peer(index)?;
        with_table_ref!(self, Family::of(&prefix), table => {
            let node = table.node(table.find(&prefix)?)?;
            let (used, source) = admit(index, peer, node, table, &self.store).ok()?;
            let gate = Gate { peer, guard: &self.guard };
            let (mut attributes, verdict) =
                gate.judge(prefix, self.store.block(used), source == LOCAL)?;
            let (term, accepted) = match verdict {
                PolicyVerdict::Accept { term, edits } => {
                    edits.apply(&mut attributes);
                    (term, true)
                }
                PolicyVerdict::Reject { term } => (term, false),
            };
            let communities = attributes.communities;
            Some(Judgement { term: term.to_owned(), accepted, communities })
        })
    }

    /// What the import policy says of what the peer announces; nothing if it announces nothing, if
    /// its session is down, or if what stands before policy refuses the route already.
    pub(crate) fn judge_import(&self, index: PeerIndex, prefix: IpNet) -> Option<Judgement> {
        let peer = self.peer(index)?;
        let family = Family::of(&prefix);
        with_table_ref!(self, family, table => {
            let node = table.node(table.find(&prefix)?)?;
            let of_peer = |source| table.source(source).is_some_and(|it| it.peer == index);
            let mut paths = node.paths.as_slice().iter();
            let path = paths.find(|path| of_peer(path.source))?;
            if path.verdict == Verdict::Loop {
                return None;
            }
            let terms = peer.terms.as_deref()?;
            let bench = Bench { settings: &peer.settings, terms, guard: &self.guard };
            let (term, accepted, communities) =
                match bench.opinion(path.received, prefix, &self.store) {
                    Opinion::AsItIs => {
                        let communities = self.store.block(path.received).decode().communities;
                        (END_OF_POLICY, true, communities)
                    }
                    Opinion::Edited { term, attributes, .. } => (term, true, attributes.communities),
                    Opinion::Rejected { term } => (term, false, Communities::default()),
                    Opinion::Leak => return None,
                };
            Some(Judgement { term: term.to_owned(), accepted, communities })
        })
    }
}
