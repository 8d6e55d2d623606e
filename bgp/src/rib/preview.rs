//! What another import policy would make of what a peer announces, before it is asked to.
//!
//! The table keeps routes as they came, those among them that policy refused; so both policies are
//! asked about every one. Of a peer that may tell us nothing, nothing is kept, and nothing can be said.

use ipnet::IpNet;

use super::import::{Bench, Opinion};
use super::path::{Path, PeerIndex, Verdict};
use super::peer::PeerSettings;
use super::view::{Cursor, Page};
use super::{Rib, with_table_ref};
use crate::policy::Policy;
use crate::types::Family;
use crate::wire::attribute::PathAttributes;
use crate::wire::next_hop::NextHop;

/// Prefixes visited for one page: each takes two evaluations.
const VISITS_MAX: u32 = 512;

/// What a change of policy does to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImportChange {
    /// It is taken, and was not.
    Gained,
    /// It is no longer taken.
    Lost,
    /// It is taken with other attributes.
    Changed,
}

impl Rib {
    /// One page of the changes; nothing if the table does not know what the peer would say.
    pub(crate) fn preview_import(
        &self,
        index: PeerIndex,
        policy: &Policy,
        family: Family,
        from: Cursor,
    ) -> Option<Page<(IpNet, ImportChange)>> {
        let peer = self.peer(index)?;
        let terms = peer.terms.as_deref().filter(|_| !peer.settings.imports_nothing())?;
        let settings = PeerSettings { import: policy.clone(), ..peer.settings.clone() };
        let old = Bench { settings: &peer.settings, terms, guard: &self.guard };
        let new = Bench { settings: &settings, ..old };
        let bound = with_table_ref!(self, family, table => table.bound());
        let until = bound.min(from.0.saturating_add(VISITS_MAX));
        let change = |id| {
            with_table_ref!(self, family, table => {
                let node = table.node(id)?;
                let prefix = node.prefix()?;
                let of_peer = |path: &&Path| {
                    table.source(path.source).is_some_and(|source| source.peer == index)
                };
                let path = node.paths.as_slice().iter().find(of_peer)?;
                let routes = [old, new].map(|bench| self.route_by(bench, path, prefix));
                let change = match routes {
                    [None, Some(_)] => ImportChange::Gained,
                    [Some(_), None] => ImportChange::Lost,
                    [Some(old), Some(new)] if old != new => ImportChange::Changed,
                    _ => return None,
                };
                Some((prefix, change))
            })
        };
        let entries = (from.0..until).filter_map(change).collect();
        Some(Page { entries, next: (until < bound).then_some(Cursor(until)) })
    }

    /// The route as a policy lets it pass, if it does.
    fn route_by(
        &self,
        bench: Bench<'_>,
        path: &Path,
        prefix: IpNet,
    ) -> Option<(Box<PathAttributes>, Option<NextHop>)> {
        if path.verdict == Verdict::Loop {
            return None;
        }
        match bench.opinion(path.received, prefix, &self.store) {
            Opinion::AsItIs => {
                let block = self.store.block(path.received);
                Some((Box::new(block.decode()), block.next_hop()))
            }
            Opinion::Edited { attributes, next_hop, .. } => Some((attributes, next_hop)),
            Opinion::Leak | Opinion::Rejected { .. } => None,
        }
    }
}
