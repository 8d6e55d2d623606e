//! The route table of a speaker: what every peer said, which path is best, who is told what.
//!
//! - [`table`] holds prefixes and paths, [`attributes`] the attribute sets they share, [`best`]
//!   chooses.
//! - [`import`] takes UPDATEs in, [`outbox`] keeps what is still to be told, [`export`] decides what
//!   a peer may be told and writes it.
//! - [`jobs`] does in slices what concerns many routes at once: a session that ended, a policy that
//!   changed. [`view`] shows all of it, [`explain`] and [`preview`] ask policy about it again.
//!
//! Nothing here queues messages and nothing waits for a timer: a change marks its prefix in the
//! outbox of each peer that may care, and the message is made when that peer can take it. Memory is
//! bounded by prefixes × (paths + peers told), whatever a peer sends or fails to read.

mod arena;
mod attributes;
mod best;
mod bitmap;
mod explain;
mod export;
mod forwarding;
mod import;
mod index;
mod jobs;
mod local;
mod outbox;
mod path;
mod peer;
mod peers;
mod preview;
mod session;
mod slab;
mod table;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use self::attributes::AttributeStore;
pub use self::best::Reason;
pub use self::explain::Judgement;
pub use self::export::Withheld;
pub use self::forwarding::ForwardingRoute;
use self::index::Hashing;
use self::jobs::Job;
use self::local::LocalRoutes;
pub use self::local::{Announcement, Announcements};
use self::outbox::Lane;
pub(crate) use self::path::PeerIndex;
pub use self::path::Verdict;
pub(crate) use self::peer::PeerSettings;
use self::peer::RibPeer;
pub use self::peer::{Counters, LearntRoutes, NextHopMode, OverLimit, PeerCounts, PrefixLimit};
use self::peers::{PeerMut, Peers};
pub use self::preview::ImportChange;
use self::table::{Address, Change, Table, WideAddress};
pub use self::view::{Cursor, Page, PathView, PrefixView, SentView};
use crate::guard::ExportGuard;
use crate::types::{Family, PerFamily};

/// See the module.
#[derive(Debug)]
pub(crate) struct Rib {
    ipv4: Table<u32>,
    ipv6: Table<WideAddress>,
    store: AttributeStore,
    guard: Arc<ExportGuard>,
    local: LocalRoutes,
    peers: Peers,
    /// Peers that may be told something of a family.
    listeners: PerFamily<Vec<PeerIndex>>,
    jobs: VecDeque<Job>,
    scratch: Scratch,
}

/// Buffers that live on, so that an UPDATE allocates nothing.
#[derive(Debug, Default)]
struct Scratch {
    block: Vec<u8>,
    edited: Vec<u8>,
    changes: Vec<Change>,
    export: export::Scratch,
}

/// Calls a function that is generic over the family's table.
macro_rules! with_table {
    ($rib:expr, $family:expr, $table:ident => $body:expr) => {
        match $family {
            $crate::types::Family::Ipv4Unicast => {
                let $table = &mut $rib.ipv4;
                $body
            }
            $crate::types::Family::Ipv6Unicast => {
                let $table = &mut $rib.ipv6;
                $body
            }
        }
    };
}
use with_table;

/// The same for reading.
macro_rules! with_table_ref {
    ($rib:expr, $family:expr, $table:ident => $body:expr) => {
        match $family {
            $crate::types::Family::Ipv4Unicast => {
                let $table = &$rib.ipv4;
                $body
            }
            $crate::types::Family::Ipv6Unicast => {
                let $table = &$rib.ipv6;
                $body
            }
        }
    };
}
use with_table_ref;

impl Rib {
    /// An empty table. `seed` keeps peers from foreseeing its hashes.
    pub(crate) fn new(seed: u64) -> Self {
        let hashing = Hashing::new(seed);
        Self {
            ipv4: Table::new(hashing.clone()),
            ipv6: Table::new(hashing.clone()),
            store: AttributeStore::new(hashing),
            guard: Arc::default(),
            local: LocalRoutes::default(),
            peers: Peers::default(),
            listeners: PerFamily::default(),
            jobs: VecDeque::new(),
            scratch: Scratch::default(),
        }
    }

    /// Replaces the export guard; what it no longer permits is withdrawn.
    pub(crate) fn set_guard(&mut self, guard: Arc<ExportGuard>) {
        if self.guard != guard {
            self.guard = guard;
            self.rescan_local();
        }
    }

    pub(crate) fn peer(&self, peer: PeerIndex) -> Option<&RibPeer> {
        self.peers.get(peer)
    }

    fn peer_mut(&mut self, peer: PeerIndex) -> Option<PeerMut<'_>> {
        self.peers.get_mut(peer)
    }

    /// Attribute sets held.
    pub(crate) const fn attribute_sets(&self) -> usize {
        self.store.len()
    }

    /// Prefixes held.
    pub(crate) const fn prefixes(&self, family: Family) -> usize {
        match family {
            Family::Ipv4Unicast => self.ipv4.len(),
            Family::Ipv6Unicast => self.ipv6.len(),
        }
    }
}

/// Marks changed prefixes in the outbox of every peer that may care, and drops those that nobody
/// does.
fn notify<A: Address>(
    changes: &[Change],
    table: &mut Table<A>,
    peers: &mut Peers,
    listeners: &[PeerIndex],
) {
    for listener in listeners {
        let Some(mut peer) = peers.get_mut(*listener) else { continue };
        let learnt_too = peer.passes_learnt();
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        for change in changes {
            if !change.local && !learnt_too {
                continue;
            }
            // What the peer neither holds nor is about to be told needs no withdrawal.
            if !change.reached && !outbox.holds(change.id) {
                continue;
            }
            let host = change.bits == A::FAMILY.bits_max();
            let lane = match change.reached {
                _ if host || change.local => Lane::Urgent,
                false => Lane::Withdrawal,
                true => Lane::Bulk,
            };
            if outbox.mark(change.id, lane) {
                table.hold(change.id);
            }
        }
    }
    for change in changes.iter().filter(|change| !change.reached) {
        table.drop_if_idle(change.id);
    }
}
