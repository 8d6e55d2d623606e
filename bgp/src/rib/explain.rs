//! What policy makes of a prefix on its way to one peer: asked again for whoever wants to know, as
//! it is asked before a prefix is told.

use ipnet::IpNet;

use super::export::{Gate, admit};
use super::path::PeerIndex;
use super::table::LOCAL;
use super::{Rib, with_table_ref};
use crate::policy::Verdict;
use crate::types::Family;
use crate::wire::community::Communities;

/// What the export policy of a peer says of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Name of the term that decided.
    pub term: String,
    /// The prefix passes.
    pub accepted: bool,
    /// Communities that it leaves with.
    pub communities: Communities,
}

impl Rib {
    /// Whether the export guard permits a prefix of our own.
    pub(crate) fn is_permitted(&self, prefix: IpNet) -> bool {
        self.guard.permit(prefix).is_some()
    }

    /// What the policy says; nothing if what stands before policy holds the prefix back already.
    pub(crate) fn judge(&self, index: PeerIndex, prefix: IpNet) -> Option<Judgement> {
        let peer = self.peer(index)?;
        with_table_ref!(self, Family::of(&prefix), table => {
            let node = table.node(table.find(&prefix)?)?;
            let (used, source) = admit(index, peer, node, table, &self.store).ok()?;
            let gate = Gate { peer, guard: &self.guard };
            let (mut attributes, verdict) =
                gate.judge(prefix, self.store.block(used), source == LOCAL)?;
            let judgement = |term: &str, accepted| (term.to_owned(), accepted);
            let (term, accepted) = match verdict {
                Verdict::Accept { term, edits } => {
                    edits.apply(&mut attributes);
                    judgement(term, true)
                }
                Verdict::Reject { term } => judgement(term, false),
            };
            Some(Judgement { term, accepted, communities: attributes.communities })
        })
    }
}
