//! What the table can be asked: routes, why the best is best, what a peer was told and what not.
//!
//! Everything is read in bounded pages, so that a question about a million routes holds nobody up.

use std::net::IpAddr;

use ipnet::IpNet;

use super::attributes::AttributeStore;
use super::best::{self, Reason};
use super::export::{Gate, Withheld, admit, clear};
use super::path::{PeerIndex, SourceState, Verdict};
use super::peer::{Counters, PeerCounts, RibPeer};
use super::table::{Address, LOCAL, Node, Table};
use super::{Rib, with_table_ref};
use crate::types::Family;
use crate::wire::attribute::PathAttributes;
use crate::wire::next_hop::NextHop;

/// Where a page begins. Pages follow the order in which the table came to know the prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u32);

/// Some of the prefixes, and where the next page begins.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What was asked for.
    pub entries: Vec<T>,
    /// Nothing: that was all.
    pub next: Option<Cursor>,
}

/// A prefix and every path to it.
#[derive(Clone, Debug)]
pub struct PrefixView<P> {
    /// The prefix.
    pub prefix: IpNet,
    /// Best first, if there is a usable one.
    pub paths: Vec<PathView<P>>,
    /// Why the first is best; nothing: no path is usable.
    pub reason: Option<Reason>,
}

/// One path.
#[derive(Clone, Debug)]
pub struct PathView<P> {
    /// Who told us; nothing: it is our own.
    pub peer: Option<P>,
    /// It is the one that is used and passed on.
    pub best: bool,
    /// Traffic may be shared with the best path: it ties with it.
    pub multipath: bool,
    /// Its session is down, its peer may be back soon.
    pub stale: bool,
    /// What import made of it.
    pub verdict: Verdict,
    /// Where packets go; nothing: to ourselves.
    pub next_hop: Option<NextHop>,
    /// As policy left them, or as they came if it refused them.
    pub attributes: PathAttributes,
}

/// What a peer was told of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentView {
    /// The prefix.
    pub prefix: IpNet,
    /// The peer holds it from us.
    pub told: bool,
    /// A change waits until the peer takes it.
    pub waiting: bool,
    /// Where it is to send packets, or why it is not told.
    pub outcome: Result<IpAddr, Withheld>,
}

/// Names visited for one page at most: a sparse table must not make a page endless.
const VISITS_MAX: u32 = 16_384;

impl Rib {
    /// One page of a family's prefixes; `name` turns peers into what the caller knows them by.
    pub(crate) fn page<P>(
        &self,
        family: Family,
        from: Cursor,
        limit: usize,
        multipath_max: usize,
        name: impl Fn(PeerIndex) -> Option<P>,
    ) -> Page<PrefixView<P>> {
        let show = |id| {
            with_table_ref!(self, family, table => {
                let node = table.node(id)?;
                show(node, table, &self.store, multipath_max, &name)
            })
        };
        self.walk_page(family, from, limit, show)
    }

    /// One prefix.
    pub(crate) fn find<P>(
        &self,
        prefix: &IpNet,
        multipath_max: usize,
        name: impl Fn(PeerIndex) -> Option<P>,
    ) -> Option<PrefixView<P>> {
        with_table_ref!(self, Family::of(prefix), table => {
            let node = table.node(table.find(prefix)?)?;
            show(node, table, &self.store, multipath_max, &name)
        })
    }

    /// What went on with a peer.
    pub(crate) fn counters(&self, peer: PeerIndex) -> Counters {
        self.peer(peer).map(|peer| peer.counters).unwrap_or_default()
    }

    /// What the table has of a peer.
    pub(crate) fn counts(&self, peer: PeerIndex, family: Family) -> PeerCounts {
        let Some(entry) = self.peer(peer) else { return PeerCounts::default() };
        let outbox = entry.outboxes.get(family);
        let source = |id| with_table_ref!(self, family, table => table.source(id));
        let current = (*entry.current.get(family)).and_then(source);
        let stale = entry.stale.get(family).iter().filter_map(|id| source(*id));
        let unscanned = outbox.scan.map_or(0, |scan| scan.end.saturating_sub(scan.next));
        PeerCounts {
            received: current.map_or(0, |source| source.paths),
            accepted: current.map_or(0, |source| source.accepted),
            stale: stale.map(|source| source.paths).sum(),
            told: outbox.told,
            waiting: outbox.waiting().saturating_add(unscanned as usize),
            over_limit_in: *entry.warned.get(family),
            over_limit_out: outbox.over_limit,
        }
    }

    /// One page of what a peer was told of a family.
    pub(crate) fn sent(
        &self,
        peer: PeerIndex,
        family: Family,
        from: Cursor,
        limit: usize,
    ) -> Page<SentView> {
        self.walk_page(family, from, limit, |id| self.sent_of(peer, family, id))
    }

    /// What a peer was told of one prefix.
    pub(crate) fn sent_prefix(&self, peer: PeerIndex, prefix: &IpNet) -> Option<SentView> {
        let family = Family::of(prefix);
        let id = with_table_ref!(self, family, table => table.find(prefix))?;
        self.sent_of(peer, family, id)
    }

    fn sent_of(&self, index: PeerIndex, family: Family, id: u32) -> Option<SentView> {
        let peer = self.peer(index)?;
        let outbox = peer.outboxes.get(family);
        with_table_ref!(self, family, table => {
            let node = table.node(id)?;
            let told = outbox.is_told(id);
            if !told && node.best().is_none() {
                return None;
            }
            let outcome = self.outcome(index, peer, node, table, told);
            Some(SentView { prefix: node.prefix()?, told, waiting: outbox.is_waiting(id), outcome })
        })
    }

    fn outcome<A: Address>(
        &self,
        index: PeerIndex,
        peer: &RibPeer,
        node: &Node<A>,
        table: &Table<A>,
        told: bool,
    ) -> Result<IpAddr, Withheld> {
        let (used, source) = admit(index, peer, node, table, &self.store)?;
        let long_lived = table.source(source).is_some_and(|s| s.state == SourceState::LongLived);
        let prefix = node.prefix().ok_or(Withheld::NoRoute)?;
        let is_own = source == LOCAL;
        let gate = Gate { peer, guard: &self.guard };
        let departure = gate.depart(prefix, self.store.block(used), is_own, long_lived)?;
        clear(node, is_own, &self.guard).ok_or(Withheld::NotAnnounceable)?;
        let full = peer
            .settings
            .export_max
            .is_some_and(|max| !told && peer.outboxes.get(A::FAMILY).told >= max);
        if full { Err(Withheld::OverLimit) } else { Ok(departure.next_hop.address()) }
    }

    fn walk_page<T>(
        &self,
        family: Family,
        from: Cursor,
        limit: usize,
        show: impl Fn(u32) -> Option<T>,
    ) -> Page<T> {
        let bound = with_table_ref!(self, family, table => table.bound());
        let until = bound.min(from.0.saturating_add(VISITS_MAX));
        let mut entries = Vec::new();
        let mut next = from.0;
        while next < until && entries.len() < limit {
            entries.extend(show(next));
            next = next.saturating_add(1);
        }
        Page { entries, next: (next < bound).then_some(Cursor(next)) }
    }
}

/// A prefix as it is shown; nothing for one that only lives on in outboxes.
fn show<A: Address, P>(
    node: &Node<A>,
    table: &Table<A>,
    store: &AttributeStore,
    multipath_max: usize,
    name: impl Fn(PeerIndex) -> Option<P>,
) -> Option<PrefixView<P>> {
    let paths = node.paths.as_slice();
    let best = node.best();
    let mut shared = 0_usize;
    let shown = paths.iter().enumerate().filter_map(|(at, path)| {
        let source = table.source(path.source).filter(|source| source.state.is_alive())?;
        let is_best = at == 0 && best.is_some();
        let ties = best.is_some_and(|best| best::is_equal_cost(best, path, table.sources(), store));
        let multipath = ties && shared < multipath_max;
        shared = shared.saturating_add(usize::from(multipath));
        let block = store.block(path.used.unwrap_or(path.received));
        Some(PathView {
            peer: if source.is_local() { None } else { Some(name(source.peer)?) },
            best: is_best,
            multipath,
            stale: source.state.is_stale(),
            verdict: path.verdict,
            next_hop: block.next_hop(),
            attributes: block.decode(),
        })
    });
    let paths: Vec<_> = shown.collect();
    let reason = best.and_then(|_| best::reason(node.paths.as_slice(), table.sources(), store));
    (!paths.is_empty()).then_some(PrefixView { prefix: node.prefix()?, paths, reason })
}
