//! [`Edits`]: what a policy makes of a route's attributes.

use super::community::CommunityPattern;
use super::term::NextHopEdit;
use crate::limits::{AS_PATH_HOPS_MAX, COMMUNITIES_MAX};
use crate::types::{Asn, Family};
use crate::wire::attribute::PathAttributes;
use crate::wire::community::Communities;

/// The edits of all terms that a route passed, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edits<'a> {
    steps: Vec<&'a CompiledSet>,
    local_asn: Asn,
}

/// The edits of one term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CompiledSet {
    pub(super) local_pref: Option<u32>,
    pub(super) med: Option<u32>,
    pub(super) communities: Option<Box<[CommunityPattern]>>,
    pub(super) remove: Box<[CommunityPattern]>,
    pub(super) add: Box<[CommunityPattern]>,
    pub(super) prepend: u8,
    pub(super) next_hop: Option<NextHopEdit>,
}

impl<'a> Edits<'a> {
    pub(super) const fn new(local_asn: Asn) -> Self {
        Self { steps: Vec::new(), local_asn }
    }

    pub(super) const fn none() -> Self {
        Self::new(Asn(0))
    }

    /// Adds a term's edits; whether there are any.
    pub(super) fn push(&mut self, set: &'a CompiledSet) -> bool {
        let is_edit = !set.is_empty();
        if is_edit {
            self.steps.push(set);
        }
        is_edit
    }

    /// Whether the route stays as it is, next hop included.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Changes the attributes.
    pub fn apply(&self, attributes: &mut PathAttributes) {
        for step in &self.steps {
            step.apply(self.local_asn, attributes);
        }
    }

    /// What becomes of the next hop of a route of `family`; nothing: what would have without a
    /// policy.
    #[must_use]
    pub fn next_hop(&self, family: Family) -> Option<NextHopEdit> {
        let fits = |edit: &NextHopEdit| match edit {
            NextHopEdit::Address(address) => address.is_ipv4() == (family == Family::Ipv4Unicast),
            NextHopEdit::Itself | NextHopEdit::Unchanged => true,
        };
        self.steps.iter().rev().filter_map(|step| step.next_hop).find(fits)
    }
}

impl CompiledSet {
    pub(super) fn apply(&self, local_asn: Asn, attributes: &mut PathAttributes) {
        attributes.local_pref = self.local_pref.or(attributes.local_pref);
        attributes.med = self.med.or(attributes.med);
        let communities = &mut attributes.communities;
        if self.communities.is_some() {
            *communities = Communities::default();
        }
        for pattern in self.communities.iter().flatten() {
            pattern.add_to(communities);
        }
        for pattern in &self.remove {
            pattern.remove_from(communities);
        }
        for pattern in &self.add {
            // A route that is full stays as it is rather than outgrow a message.
            if communities.standard.len().max(communities.large.len()) < COMMUNITIES_MAX
                && communities.extended.len() < COMMUNITIES_MAX
            {
                pattern.add_to(communities);
            }
        }
        let path = &mut attributes.as_path.0;
        // Once more the speaker itself prepends when it sends.
        let room = AS_PATH_HOPS_MAX.saturating_sub(path.len()).saturating_sub(1);
        let times = usize::from(self.prepend).min(room);
        path.splice(0..0, std::iter::repeat_n(local_asn, times));
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
