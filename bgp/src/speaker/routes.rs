//! The table as a session sees it.

use crate::fsm::{Action, EndReason, Routes, SessionTerms};
use crate::rib::{PeerIndex, Rib};
use crate::types::{Family, FamilySet, PerFamily};
use crate::wire::next_hop::NextHop;
use crate::wire::update::Codec;

/// One peer's routes in the table.
#[derive(Debug)]
pub(super) struct PeerRoutes<'a> {
    pub(super) rib: &'a mut Rib,
    pub(super) peer: PeerIndex,
}

impl Routes for PeerRoutes<'_> {
    fn up(&mut self, terms: &SessionTerms) {
        self.rib.up(self.peer, terms);
    }

    fn update(
        &mut self,
        body: &[u8],
        codec: &Codec,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Family>, EndReason> {
        self.rib.update(self.peer, body, codec, actions)
    }

    fn down(&mut self, kept: FamilySet) {
        self.rib.down(self.peer, kept);
    }

    fn mark_stale(&mut self, family: Family) {
        self.rib.mark_stale(self.peer, family);
    }

    fn drop_stale(&mut self, family: Family) {
        self.rib.drop_stale(self.peer, family);
    }

    fn retain_long_lived(&mut self, family: Family) {
        self.rib.retain_long_lived(self.peer, family);
    }

    fn resend(&mut self, family: Family) {
        self.rib.resend(self.peer, family);
    }

    fn set_next_hops(&mut self, next_hops: PerFamily<Option<NextHop>>) {
        self.rib.set_next_hops(self.peer, next_hops);
    }

    fn transmit(&mut self, out: &mut Vec<u8>) -> bool {
        self.rib.transmit(self.peer, out)
    }

    fn is_settled(&self, family: Family) -> bool {
        self.rib.is_settled(self.peer, family)
    }
}
