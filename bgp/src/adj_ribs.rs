//! Both sides of one peer's routes together: what a session without a table of its own needs.

use std::time::Instant;

use crate::adj_in::{AdjIn, ImportPolicy, RouteChange};
use crate::adj_out::{self, AdjOut};
use crate::fsm::{Action, EndReason, Routes, SessionTerms};
use crate::types::{Asn, Family, FamilySet, PerFamily};
use crate::wire::next_hop::NextHop;
use crate::wire::update::{self, Codec};

/// See the module.
#[derive(Debug, Default)]
pub struct AdjRibs {
    /// What the peer told us.
    pub adj_in: AdjIn,
    /// What the peer has been told.
    pub adj_out: AdjOut,
    local_asn: Option<Asn>,
}

impl AdjRibs {
    /// No routes yet.
    #[must_use]
    pub fn new(import: ImportPolicy) -> Self {
        Self { adj_in: AdjIn::new(import), ..Self::default() }
    }
}

impl Routes for AdjRibs {
    fn up(&mut self, _now: Instant, terms: &SessionTerms) {
        self.local_asn = Some(terms.local_asn);
        self.adj_out.session_up(adj_out::SessionTerms {
            codec: terms.negotiated.codec,
            local_asn: terms.local_asn,
            next_hops: terms.next_hops,
        });
    }

    fn update(
        &mut self,
        _now: Instant,
        body: &[u8],
        codec: &Codec,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Family>, EndReason> {
        let update = update::decode(body, codec).map_err(|fault| EndReason::update(fault, body))?;
        actions.extend(update.faults.iter().copied().map(Action::Fault));
        let end_of_rib = update.end_of_rib;
        let mut changes = Vec::new();
        let outcome = self.adj_in.apply(update, self.local_asn, &mut changes);
        report(changes, actions);
        outcome.map_err(EndReason::PrefixLimit)?;
        Ok(end_of_rib)
    }

    fn down(&mut self, _now: Instant, kept: FamilySet, actions: &mut Vec<Action>) {
        self.adj_out.session_down();
        let mut changes = Vec::new();
        for family in Family::ALL {
            if kept.contains(family) {
                self.adj_in.mark_stale(family);
            } else {
                self.adj_in.lose(family, &mut changes);
            }
        }
        report(changes, actions);
    }

    fn mark_stale(&mut self, family: Family) {
        self.adj_in.mark_stale(family);
    }

    fn drop_stale(&mut self, _now: Instant, family: Family, actions: &mut Vec<Action>) {
        let mut changes = Vec::new();
        self.adj_in.drop_stale(family, &mut changes);
        report(changes, actions);
    }

    /// There is no other path here that could be preferred to a last resort.
    fn retain_long_lived(&mut self, _now: Instant, family: Family, actions: &mut Vec<Action>) {
        let mut changes = Vec::new();
        self.adj_in.drop_no_llgr(family, &mut changes);
        report(changes, actions);
    }

    fn resend(&mut self, family: Family) {
        self.adj_out.resend(family);
    }

    fn set_next_hops(&mut self, next_hops: PerFamily<Option<NextHop>>) {
        self.adj_out.set_next_hops(next_hops);
    }

    fn transmit(&mut self, out: &mut Vec<u8>) -> bool {
        self.adj_out.transmit(out)
    }

    fn is_settled(&self, family: Family) -> bool {
        self.adj_out.is_settled(family)
    }
}

fn report(changes: Vec<RouteChange>, actions: &mut Vec<Action>) {
    if !changes.is_empty() {
        actions.push(Action::Routes(changes));
    }
}
