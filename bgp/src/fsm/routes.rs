//! What a session does with routes: the one seam between a session and whoever keeps them.
//!
//! A session knows *when* routes come, go stale and go; it never looks at one. What it hands over
//! is an UPDATE's body as received, so that the keeper may decode it in whatever way is cheapest.

use super::Action;
use super::end::EndReason;
use super::negotiated::Negotiated;
use crate::types::{Asn, Family, FamilySet, PerFamily};
use crate::wire::next_hop::NextHop;
use crate::wire::update::Codec;

/// What a session begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionTerms {
    /// What the OPENs agreed on.
    pub negotiated: Negotiated,
    /// Our own AS towards this peer.
    pub local_asn: Asn,
    /// Next hops to announce, as far as there are any.
    pub next_hops: PerFamily<Option<NextHop>>,
}

/// The routes of one peer, both ways. See the module.
pub(crate) trait Routes {
    /// A session begins: the peer knows nothing of ours yet. Stale routes of its last session may
    /// still be there.
    fn up(&mut self, terms: &SessionTerms);

    /// The body of an UPDATE arrived; faults that the session survives go to `actions`. Returns the
    /// family whose End-of-RIB it was, if it was one.
    ///
    /// # Errors
    /// What ends the session: a fault beyond repair, or a limit.
    fn update(
        &mut self,
        body: &[u8],
        codec: &Codec,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Family>, EndReason>;

    /// The session is over. Routes of the families `kept` become stale, all others go. What the
    /// peer was told is forgotten.
    fn down(&mut self, kept: FamilySet);

    /// The peer is about to send a family again (RFC 7313 §4): all it has sent is stale.
    fn mark_stale(&mut self, family: Family);

    /// Stale routes of a family go: the peer did not send them again, or not in time.
    fn drop_stale(&mut self, family: Family);

    /// Stale routes of a family stay as a last resort (RFC 9494 §4.2), but for those that carry
    /// NO_LLGR.
    fn retain_long_lived(&mut self, family: Family);

    /// The peer asks for a family again (RFC 2918 §4).
    fn resend(&mut self, family: Family);

    /// Next hops to announce changed; what goes by them is announced anew.
    fn set_next_hops(&mut self, next_hops: PerFamily<Option<NextHop>>);

    /// Appends the next message for the peer, if there is something to tell; whether it did.
    fn transmit(&mut self, out: &mut Vec<u8>) -> bool;

    /// Whether everything of `family` has been told.
    fn is_settled(&self, family: Family) -> bool;
}
