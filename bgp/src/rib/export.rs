//! What a peer may be told, and the messages that tell it.
//!
//! The decision is made when the peer can take the message, from the best path at that time, in the
//! order: split horizon, well-known communities, roles, policy, the peer's limit; and for our own
//! announcements the [export guard](crate::guard), whose [`Permitted`] is the only way from a prefix
//! of ours to the encoder.

mod gate;

pub(super) use self::gate::Gate;
use super::attributes::{AttrId, AttributeStore, WellKnown};
use super::outbox::{Lane, Outbox, Scope};
use super::path::{PeerIndex, SourceId, SourceState};
use super::peer::RibPeer;
use super::table::{Address, LOCAL, Node, Table};
use super::{Rib, with_table};
use crate::guard::{ExportGuard, Permitted};
use crate::limits::TRANSMIT_BYTES;
use crate::types::{Family, PeerKind};
use crate::wire::encode;
use crate::wire::nlri;

/// Prefixes looked at in one go: enough to find those that share attributes.
const WINDOW: usize = 512;

/// Windows looked at in one call: a scan that finds nothing to say ends in good time, too.
const WINDOWS_MAX: usize = 4;

/// Why a peer is not told of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withheld {
    /// No session is up.
    NotEstablished,
    /// The family was not agreed on with the peer.
    FamilyNotNegotiated,
    /// There is no usable path.
    NoRoute,
    /// The peer told us of it (RFC 4271 §9.1.3).
    LearntFromPeer,
    /// Both it and the peer are inside our AS (RFC 4271 §9.2.1).
    InternalToInternal,
    /// Only our own announcements go to this peer.
    NotOwn,
    /// The export guard refused it.
    NotAnnounceable,
    /// It carries NO_ADVERTISE (RFC 1997).
    NoAdvertise,
    /// It carries NO_EXPORT and the peer is in another AS (RFC 1997).
    NoExport,
    /// It may flow to customers only (RFC 9234 §5).
    Leak,
    /// It is a last resort, and the peer does not know what that is (RFC 9494 §4.3).
    LongLivedStale,
    /// Policy refused it.
    Policy,
    /// No next hop is known for its family.
    NoNextHop,
    /// Its attributes leave no room for a prefix.
    AttributesTooLarge,
    /// The peer's limit is reached.
    OverLimit,
}

/// Buffers that live on.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    window: Vec<Due>,
    withdrawn: Vec<u8>,
    list: Vec<u8>,
    attributes: Vec<u8>,
}

/// A prefix that is to be announced. Sorted, those with equal attributes of one source stand
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    used: AttrId,
    source: SourceId,
    id: u32,
    /// The peer had an earlier route of the prefix.
    told_before: bool,
}

/// A prefix that has passed all that stands before the encoder.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cleared<A> {
    /// One of our own, with the guard's proof.
    Own(Permitted),
    /// Somebody else's.
    Learnt(A, u8),
}

impl Rib {
    /// Appends what the peer is to be told next, about [`TRANSMIT_BYTES`] at most; whether there was
    /// anything. A peer for whom much was looked at in vain still has output.
    pub(crate) fn transmit(&mut self, peer: PeerIndex, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let Some(mut entry) = self.peers.get_mut(peer) else { return false };
        for family in Family::ALL {
            let limit = out.len().saturating_add(TRANSMIT_BYTES / 2);
            with_table!(self, family, table => {
                let scratch = &mut self.scratch.export;
                let mut sender =
                    Sender { table, store: &self.store, guard: &self.guard, scratch, limit };
                for _ in 0..WINDOWS_MAX {
                    let more = sender.window(peer, &mut entry, out);
                    if !more || out.len() >= limit {
                        break;
                    }
                }
            });
        }
        out.len() > before
    }

    /// Whether everything of a family has been told.
    pub(crate) fn is_settled(&self, peer: PeerIndex, family: Family) -> bool {
        let outbox = self.peer(peer).map(|peer| peer.outboxes.get(family));
        self.is_local_applied() && outbox.is_none_or(Outbox::is_settled)
    }

    /// Peers for whom something waits.
    pub(crate) fn with_output(&self) -> impl Iterator<Item = PeerIndex> {
        self.peers.with_output()
    }
}

/// The parts of the table that telling a peer takes.
struct Sender<'a, A> {
    table: &'a mut Table<A>,
    store: &'a AttributeStore,
    guard: &'a ExportGuard,
    scratch: &'a mut Scratch,
    /// Length of the output after which no new message is begun.
    limit: usize,
}

impl<A: Address> Sender<'_, A> {
    /// Looks at up to [`WINDOW`] prefixes of one lane, or of the scan. Whether there was one.
    fn window(&mut self, index: PeerIndex, peer: &mut RibPeer, out: &mut Vec<u8>) -> bool {
        let mut window = std::mem::take(&mut self.scratch.window);
        window.clear();
        self.scratch.withdrawn.clear();
        let lane = self.collect(index, peer, &mut window);
        self.write_withdrawals(peer, out);
        window.sort_unstable_by_key(|due| (due.used, due.source));
        let mut rest = window.as_slice();
        while let Some(first) = rest.first() {
            let same = |due: &&Due| due.used == first.used && due.source == first.source;
            let (group, later) = rest.split_at(rest.iter().take_while(same).count());
            rest = later;
            if out.len() < self.limit {
                self.announce(peer, group, out);
            } else {
                for due in group {
                    Self::postpone(peer, lane.unwrap_or(Lane::Bulk), due);
                }
            }
        }
        self.write_withdrawals(peer, out);
        self.scratch.window = window;
        if peer.outboxes.get(A::FAMILY).is_settled() {
            peer.outboxes.get_mut(A::FAMILY).trim();
        }
        lane.is_some()
    }

    /// Sorts the next prefixes into those to withdraw and those to announce. The lane they came
    /// from; nothing if none waits.
    fn collect(
        &mut self,
        index: PeerIndex,
        peer: &mut RibPeer,
        window: &mut Vec<Due>,
    ) -> Option<Lane> {
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        if let Some(lane) = outbox.next_lane() {
            for _ in 0..WINDOW {
                let Some(id) = peer.outboxes.get_mut(A::FAMILY).pop(lane) else { break };
                self.look_at(index, peer, id, true, window);
            }
            return Some(lane);
        }
        let what = outbox.scan?.what;
        for _ in 0..WINDOW {
            if peer.outboxes.get(A::FAMILY).scan.is_none_or(|scan| scan.what != what) {
                break;
            }
            let outbox = peer.outboxes.get_mut(A::FAMILY);
            let Some(id) = outbox.next_scanned() else { break };
            let (was_held, was_told) = (outbox.holds(id), outbox.is_told(id));
            let before = window.len();
            self.look_at(index, peer, id, was_held, window);
            let same = what == Scope::Differences && was_told && window.len() > before;
            if same && self.may_stay(id) {
                window.pop();
            }
        }
        Some(Lane::Bulk)
    }

    /// Whether the guard lets a prefix stay that the peer was told of.
    fn may_stay(&self, id: u32) -> bool {
        let Some(node) = self.table.node(id) else { return false };
        let is_own = node.best().is_some_and(|best| best.source == LOCAL);
        clear(node, is_own, self.guard).is_some()
    }

    /// Decides on one prefix as far as that does not take its attributes.
    fn look_at(
        &mut self,
        index: PeerIndex,
        peer: &mut RibPeer,
        id: u32,
        was_held: bool,
        window: &mut Vec<Due>,
    ) {
        let Some(node) = self.table.node(id) else { return };
        let told_before = peer.outboxes.get(A::FAMILY).is_told(id);
        let admitted = admit(index, peer, node, self.table, self.store)
            .and_then(|due| within_limit(peer, A::FAMILY, told_before).map(|()| due));
        match admitted {
            Ok((used, source)) => {
                window.push(Due { used, source, id, told_before });
                peer.outboxes.get_mut(A::FAMILY).set_told(id, true);
                if !was_held {
                    self.table.hold(id);
                }
            }
            Err(why) => {
                self.withhold(peer, id, told_before, why);
                if was_held && !peer.outboxes.get(A::FAMILY).holds(id) {
                    self.table.let_go(id);
                }
            }
        }
    }

    /// Announces prefixes that share attributes, as far as they may be announced.
    fn announce(&mut self, peer: &mut RibPeer, group: &[Due], out: &mut Vec<u8>) {
        let prefixwise = peer.settings.export.reads_prefix();
        let runs = if prefixwise { 1 } else { group.len().max(1) };
        for run in group.chunks(runs) {
            if let Err(why) = self.announce_run(peer, run, out) {
                for due in run {
                    self.refuse(peer, due, why);
                }
            }
        }
    }

    fn announce_run(
        &mut self,
        peer: &mut RibPeer,
        run: &[Due],
        out: &mut Vec<u8>,
    ) -> Result<(), Withheld> {
        let Some(first) = run.first() else { return Ok(()) };
        let prefix = self.table.node(first.id).and_then(Node::prefix).unwrap_or_default();
        let Scratch { attributes, list, .. } = &mut *self.scratch;
        attributes.clear();
        list.clear();
        let gate = Gate { peer, guard: self.guard };
        let source = self.table.source(first.source).ok_or(Withheld::NoRoute)?;
        let long_lived = source.state == SourceState::LongLived;
        let block = self.store.block(first.used);
        let is_own = first.source == LOCAL;
        let departure = gate.depart(prefix, block, is_own, long_lived)?;
        departure.write(&gate, block, is_own, attributes);
        let mut announced = 0_u64;
        let mut refused = 0_usize;
        for due in run {
            let Some(node) = self.table.node(due.id) else { continue };
            match clear(node, is_own, self.guard) {
                Some(cleared) => {
                    cleared.write(list);
                    announced = announced.saturating_add(1);
                }
                None => refused = refused.saturating_add(1),
            }
        }
        let codec = &gate.terms()?.negotiated.codec;
        let next_hop = departure.next_hop;
        let messages = encode::announce_list(A::FAMILY, next_hop, attributes, list, codec, out)
            .map_err(|_too_large| Withheld::AttributesTooLarge)?;
        peer.counters.updates_out = peer.counters.updates_out.saturating_add(messages);
        peer.counters.announced_out = peer.counters.announced_out.saturating_add(announced);
        if refused > 0 {
            for due in run {
                let node = self.table.node(due.id);
                if node.is_some_and(|node| clear(node, is_own, self.guard).is_none()) {
                    self.refuse(peer, due, Withheld::NotAnnounceable);
                }
            }
        }
        Ok(())
    }

    /// There is no room: the prefix waits where it came from.
    fn postpone(peer: &mut RibPeer, lane: Lane, due: &Due) {
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        outbox.unpop(lane, due.id);
        outbox.set_told(due.id, due.told_before);
    }

    /// What was taken for announceable is not.
    fn refuse(&mut self, peer: &mut RibPeer, due: &Due, why: Withheld) {
        self.withhold(peer, due.id, due.told_before, why);
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        outbox.set_told(due.id, false);
        if !outbox.holds(due.id) {
            self.table.let_go(due.id);
        }
    }

    /// The peer is not to have the prefix: it is withdrawn if the peer does.
    fn withhold(&mut self, peer: &mut RibPeer, id: u32, told: bool, why: Withheld) {
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        outbox.over_limit |= why == Withheld::OverLimit;
        if told && let Some(node) = self.table.node(id) {
            node.address.write(node.bits, &mut self.scratch.withdrawn);
            outbox.set_told(id, false);
            peer.counters.withdrawn_out = peer.counters.withdrawn_out.saturating_add(1);
        }
    }

    fn write_withdrawals(&mut self, peer: &mut RibPeer, out: &mut Vec<u8>) {
        let messages = encode::withdraw_list(A::FAMILY, &self.scratch.withdrawn, out);
        peer.counters.updates_out = peer.counters.updates_out.saturating_add(messages);
        self.scratch.withdrawn.clear();
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        let has_room = peer.settings.export_max.is_none_or(|max| outbox.told < max);
        if messages > 0 && outbox.over_limit && has_room {
            // Somebody was refused for want of the room that there is now.
            outbox.over_limit = false;
            outbox.start_scan(self.table.bound(), Scope::Differences);
        }
    }
}

/// What is decided without looking at attributes one by one.
pub(super) fn admit<A: Address>(
    index: PeerIndex,
    peer: &RibPeer,
    node: &Node<A>,
    table: &Table<A>,
    store: &AttributeStore,
) -> Result<(AttrId, SourceId), Withheld> {
    let best = node.best().ok_or(Withheld::NoRoute)?;
    let source = table.source(best.source).filter(|source| source.state.is_alive());
    let source = source.ok_or(Withheld::NoRoute)?;
    let used = best.used.ok_or(Withheld::NoRoute)?;
    let kind = peer.kind().ok_or(Withheld::NotEstablished)?;
    if !peer.agrees_on(A::FAMILY) {
        return Err(Withheld::FamilyNotNegotiated);
    }
    if let Some(learnt_by) = source.neighbour.kind {
        if source.peer == index {
            return Err(Withheld::LearntFromPeer);
        }
        if !peer.passes_learnt() {
            return Err(Withheld::NotOwn);
        }
        if learnt_by == PeerKind::Internal && kind == PeerKind::Internal {
            return Err(Withheld::InternalToInternal);
        }
        let well_known = store.traits(used).well_known;
        if well_known.contains(WellKnown::NO_ADVERTISE) {
            return Err(Withheld::NoAdvertise);
        }
        if well_known.contains(WellKnown::NO_EXPORT) && kind == PeerKind::External {
            return Err(Withheld::NoExport);
        }
        let last_resort =
            source.state == SourceState::LongLived || well_known.contains(WellKnown::LLGR_STALE);
        if last_resort && !peer.knows_long_lived() {
            return Err(Withheld::LongLivedStale);
        }
    }
    Ok((used, best.source))
}

fn within_limit(peer: &RibPeer, family: Family, told_before: bool) -> Result<(), Withheld> {
    let told = peer.outboxes.get(family).told;
    match peer.settings.export_max {
        Some(max) if !told_before && told >= max => Err(Withheld::OverLimit),
        _ => Ok(()),
    }
}

/// The last step before the encoder.
pub(super) fn clear<A: Address>(
    node: &Node<A>,
    is_own: bool,
    guard: &ExportGuard,
) -> Option<Cleared<A>> {
    if is_own {
        guard.permit(node.prefix()?).map(Cleared::Own)
    } else {
        Some(Cleared::Learnt(node.address, node.bits))
    }
}

impl<A: Address> Cleared<A> {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Own(permitted) => nlri::encode(&permitted.prefix(), out),
            Self::Learnt(address, bits) => address.write(bits, out),
        }
    }
}
