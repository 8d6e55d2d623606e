//! The prefixes of one family, their paths, and the sources these came from.
//!
//! A prefix has a dense name; what else concerns it (what peers were told, for one) is kept by that
//! name elsewhere. A path in the table is the Adj-RIB-In: there is no other copy of what a peer said.
//!
//! Invariants: a peer has at most one path of a prefix; the best path stands first whenever
//! `has_best`; a prefix stays while it has a path or somebody holds its name.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::attributes::{AttrId, AttributeStore};
use super::best;
use super::forwarding::Dirt;
use super::index::{Hashing, Index};
use super::path::{Neighbour, Path, Paths, PeerIndex, Source, SourceId, SourceState, Verdict};
use super::slab::{CHUNK_NAMES, Slab};
use crate::types::Family;

/// Our own announcements.
pub(super) const LOCAL: SourceId = SourceId(0);

/// The address of a prefix, in as few bytes as its family needs.
pub(super) trait Address: Copy + Eq + Default + std::fmt::Debug {
    const FAMILY: Family;

    /// From as many octets as its length needs; bits beyond the length are dropped.
    fn from_octets(octets: &[u8], bits: u8) -> Self;
    fn of(prefix: &IpNet) -> Option<(Self, u8)>;
    fn prefix(self, bits: u8) -> Option<IpNet>;
    fn write(self, bits: u8, out: &mut Vec<u8>);
    fn words(self) -> [u64; 2];
}

/// An IPv6 address as two words, so that it needs no wider alignment than a pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WideAddress {
    high: u64,
    low: u64,
}

/// A prefix and its paths.
#[derive(Debug, Default)]
pub(super) struct Node<A> {
    pub(super) address: A,
    pub(super) bits: u8,
    pub(super) has_best: bool,
    /// Outboxes that hold the prefix's name.
    pub(super) held: u16,
    pub(super) paths: Paths,
}

/// What a change did to the best path of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) id: u32,
    pub(super) bits: u8,
    /// There is a best path.
    pub(super) reached: bool,
    /// The best path is, or was, our own.
    pub(super) local: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table<A> {
    nodes: Slab<Node<A>>,
    index: Index,
    hashing: Hashing,
    sources: Vec<Source>,
    vacant: Vec<SourceId>,
    /// For a forwarding table, if there is one.
    pub(super) dirt: Option<Dirt>,
}

impl<A: Address> Node<A> {
    pub(super) fn prefix(&self) -> Option<IpNet> {
        self.address.prefix(self.bits)
    }

    pub(super) fn best(&self) -> Option<&Path> {
        self.paths.as_slice().first().filter(|_| self.has_best)
    }
}

impl<A: Address> Table<A> {
    pub(super) fn new(hashing: Hashing) -> Self {
        let unspecified = std::net::Ipv4Addr::UNSPECIFIED;
        let ourselves = Neighbour { kind: None, router_id: 0, address: unspecified.into() };
        Self {
            nodes: Slab::default(),
            index: Index::default(),
            hashing,
            sources: vec![Source::new(PeerIndex::OURSELVES, ourselves)],
            vacant: Vec::new(),
            dirt: None,
        }
    }

    /// Prefixes held.
    pub(super) const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Names below this may be in use.
    pub(super) const fn bound(&self) -> u32 {
        self.nodes.bound()
    }

    pub(super) fn node(&self, id: u32) -> Option<&Node<A>> {
        self.nodes.get(id)
    }

    pub(super) fn find(&self, prefix: &IpNet) -> Option<u32> {
        let (address, bits) = A::of(prefix)?;
        self.look_up(address, bits, self.hash(address, bits))
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(super) fn source(&self, id: SourceId) -> Option<&Source> {
        self.sources.get(usize::from(id.0))
    }

    pub(super) fn source_mut(&mut self, id: SourceId) -> Option<&mut Source> {
        self.sources.get_mut(usize::from(id.0))
    }

    /// A source for a session that begins; nothing if there are too many.
    pub(super) fn add_source(&mut self, peer: PeerIndex, neighbour: Neighbour) -> Option<SourceId> {
        let source = Source::new(peer, neighbour);
        if let Some(id) = self.vacant.pop() {
            *self.source_mut(id)? = source;
            return Some(id);
        }
        let id = SourceId(u16::try_from(self.sources.len()).ok()?);
        self.sources.push(source);
        Some(id)
    }

    /// Gives back the name of a source without paths.
    pub(super) fn retire_source(&mut self, id: SourceId) {
        if let Some(source) = self.source_mut(id) {
            source.state = SourceState::Dead;
            source.touched = super::bitmap::Bitmap::new();
            self.vacant.push(id);
        }
    }

    /// Whether the prefix has a path of a source.
    pub(super) fn has_path_of(&self, address: A, bits: u8, source: SourceId) -> bool {
        self.look_up(address, bits, self.hash(address, bits))
            .and_then(|id| self.node(id))
            .is_some_and(|node| node.paths.as_slice().iter().any(|path| path.source == source))
    }

    /// Takes a route, of which both names count as used already. What became of the best path, if
    /// it changed.
    pub(super) fn announce(
        &mut self,
        address: A,
        bits: u8,
        path: Path,
        store: &mut AttributeStore,
    ) -> Option<Change> {
        let hash = self.hash(address, bits);
        let id = match self.look_up(address, bits, hash) {
            Some(id) => id,
            None => self.add_node(address, bits, hash)?,
        };
        let peer = self.source(path.source)?.peer;
        self.touch(id);
        let node = self.nodes.get_mut(id)?;
        let sources = &mut self.sources;
        let was_local = node.best().is_some_and(|best| best.source == LOCAL);
        let same_peer = |old: &Path| {
            sources.get(usize::from(old.source.0)).is_some_and(|source| source.peer == peer)
        };
        let at = node.paths.as_slice().iter().position(same_peer);
        let before = node.best().copied();
        let mut only_returned = false;
        if let Some(at) = at {
            let old = node.paths.as_mut_slice().get_mut(at)?;
            let replaced = std::mem::replace(old, path);
            uncount(sources, &replaced);
            forget(&replaced, store);
            count(sources, &path, id);
            if replaced.used == path.used && was_alive_alike(sources, &replaced, &path) {
                // The same route again, or one that is as unusable as the one before.
                return None;
            }
            only_returned = replaced.used == path.used && has_returned(sources, &replaced, &path);
        } else {
            node.paths.push(path);
            count(sources, &path, id);
            // One that is rejected stands at the end and changes nothing.
            path.used?;
        }
        node.has_best = match (before, at) {
            // A path that comes to a best one: compared with that alone, unless they tie.
            (Some(best), at) if at != Some(0) => {
                let newest = at.unwrap_or_else(|| node.paths.as_slice().len().saturating_sub(1));
                let ranks =
                    (best::rank_of(&path, sources, store), best::rank_of(&best, sources, store));
                match ranks {
                    (Some(new), Some(old)) if new > old && at.is_none() => return None,
                    (Some(new), Some(old)) if new < old => {
                        node.paths.as_mut_slice().swap(0, newest);
                        true
                    }
                    _ => best::select(node.paths.as_mut_slice(), sources, store),
                }
            }
            _ => best::select(node.paths.as_mut_slice(), sources, store),
        };
        let best = node.best().copied();
        if at != Some(0) && best == before {
            return None;
        }
        if only_returned && node.paths.as_slice().len() == 1 {
            // RFC 4271 §9.2: as it was advertised before its peer restarted.
            return None;
        }
        let local = was_local || best.is_some_and(|best| best.source == LOCAL);
        (best.is_some() || before.is_some()).then_some(Change {
            id,
            bits,
            reached: best.is_some(),
            local,
        })
    }

    /// Takes back what `peer` announced; nothing if it had not. What became of the best path, if it
    /// changed.
    pub(super) fn withdraw(
        &mut self,
        address: A,
        bits: u8,
        peer: PeerIndex,
        store: &mut AttributeStore,
    ) -> Option<Option<Change>> {
        let id = self.look_up(address, bits, self.hash(address, bits))?;
        let node = self.nodes.get(id)?;
        let is_theirs = |path: &&Path| {
            self.sources.get(usize::from(path.source.0)).is_some_and(|source| source.peer == peer)
        };
        let source = node.paths.as_slice().iter().find(is_theirs)?.source;
        Some(self.remove_paths(id, store, |path| path.source == source))
    }

    /// Removes the paths of a prefix that `is_gone` names.
    pub(super) fn remove_paths(
        &mut self,
        id: u32,
        store: &mut AttributeStore,
        is_gone: impl Fn(&Path) -> bool,
    ) -> Option<Change> {
        let node = self.nodes.get_mut(id)?;
        let sources = &mut self.sources;
        let before = node.best().copied();
        let mut removed = false;
        while let Some(at) = node.paths.as_slice().iter().position(&is_gone) {
            let path = *node.paths.as_slice().get(at)?;
            uncount(sources, &path);
            forget(&path, store);
            node.paths.swap_remove(at);
            removed = true;
        }
        if !removed {
            return None;
        }
        self.reselect(id, before, store)
    }

    /// Gives every path of a prefix a new verdict; `judge` counts the uses of the names itself.
    pub(super) fn revise(
        &mut self,
        id: u32,
        store: &mut AttributeStore,
        mut judge: impl FnMut(&Path, &mut AttributeStore) -> Option<(Option<AttrId>, Verdict)>,
    ) -> Option<Change> {
        let node = self.nodes.get_mut(id)?;
        let before = node.best().copied();
        for path in node.paths.as_mut_slice() {
            let Some((used, verdict)) = judge(path, store) else { continue };
            uncount(&mut self.sources, path);
            if let Some(old) = std::mem::replace(&mut path.used, used) {
                store.release(old);
            }
            path.verdict = verdict;
            count(&mut self.sources, path, id);
        }
        self.reselect(id, before, store)
    }

    /// Selects again after paths changed, and drops a prefix that nothing needs.
    pub(super) fn reselect(
        &mut self,
        id: u32,
        before: Option<Path>,
        store: &AttributeStore,
    ) -> Option<Change> {
        let node = self.nodes.get_mut(id)?;
        node.has_best = best::select(node.paths.as_mut_slice(), &self.sources, store);
        let best = node.best().copied();
        let bits = node.bits;
        self.touch(id);
        if best == before {
            self.drop_if_idle(id);
            return None;
        }
        let is_local = |path: Option<Path>| path.is_some_and(|path| path.source == LOCAL);
        let local = is_local(before) || is_local(best);
        Some(Change { id, bits, reached: best.is_some(), local })
    }

    /// A path of the prefix changes.
    fn touch(&mut self, id: u32) {
        if let Some(dirt) = &mut self.dirt
            && dirt.mark(id)
        {
            self.hold(id);
        }
    }

    /// One more outbox holds the prefix's name.
    pub(super) fn hold(&mut self, id: u32) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.held = node.held.saturating_add(1);
        }
    }

    /// One outbox fewer holds the prefix's name.
    pub(super) fn let_go(&mut self, id: u32) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.held = node.held.saturating_sub(1);
        }
        self.drop_if_idle(id);
    }

    /// Forgets a prefix that has no path and that nobody holds.
    pub(super) fn drop_if_idle(&mut self, id: u32) {
        let Some(node) = self.nodes.get(id) else { return };
        if node.held == 0 && matches!(node.paths, Paths::None) {
            let hash = self.hash(node.address, node.bits);
            self.index.remove(hash, id);
            // Removing twice would give the name out twice: a vacant node is held by the slab.
            self.nodes.remove(id, Node { held: u16::MAX, ..Node::default() });
        }
    }

    fn add_node(&mut self, address: A, bits: u8, hash: u32) -> Option<u32> {
        let node = Node { address, bits, ..Node::default() };
        let id = self.nodes.insert(node)?;
        self.index.insert(hash, id);
        Some(id)
    }

    fn look_up(&self, address: A, bits: u8, hash: u32) -> Option<u32> {
        self.index.find(hash, |id| {
            self.nodes.get(id).is_some_and(|node| node.address == address && node.bits == bits)
        })
    }

    fn hash(&self, address: A, bits: u8) -> u32 {
        hash_of(&self.hashing, address, bits)
    }
}

fn hash_of<A: Address>(hashing: &Hashing, address: A, bits: u8) -> u32 {
    let [high, low] = address.words();
    match A::FAMILY {
        Family::Ipv4Unicast => hashing.words(&[low << 8 | u64::from(bits)]),
        Family::Ipv6Unicast => hashing.words(&[high, low ^ u64::from(bits)]),
    }
}

fn was_alive_alike(sources: &[Source], old: &Path, new: &Path) -> bool {
    let state = |path: &Path| sources.get(usize::from(path.source.0)).map(|source| source.state);
    old.source == new.source || old.used.is_none() || {
        let usable = |path| state(path).map(|state| (state.is_alive(), state.is_stale()));
        usable(old) == usable(new)
    }
}

/// Whether a route that was kept for its peer is there again.
fn has_returned(sources: &[Source], old: &Path, new: &Path) -> bool {
    let state = |path: &Path| sources.get(usize::from(path.source.0)).map(|source| source.state);
    let is_live = matches!(state(new), Some(SourceState::Live | SourceState::Refreshing));
    is_live && state(old) == Some(SourceState::Stale)
}

fn count(sources: &mut [Source], path: &Path, id: u32) {
    if let Some(source) = sources.get_mut(usize::from(path.source.0)) {
        source.paths = source.paths.saturating_add(1);
        source.accepted = source.accepted.saturating_add(u32::from(path.used.is_some()));
        source.touched.insert(chunk_of(id));
    }
}

fn uncount(sources: &mut [Source], path: &Path) {
    if let Some(source) = sources.get_mut(usize::from(path.source.0)) {
        source.paths = source.paths.saturating_sub(1);
        source.accepted = source.accepted.saturating_sub(u32::from(path.used.is_some()));
    }
}

fn forget(path: &Path, store: &mut AttributeStore) {
    store.release(path.received);
    if let Some(used) = path.used {
        store.release(used);
    }
}

/// The chunk of the table that a name lies in.
pub(super) const fn chunk_of(id: u32) -> u32 {
    id / CHUNK_NAMES
}

impl Address for u32 {
    const FAMILY: Family = Family::Ipv4Unicast;

    fn from_octets(octets: &[u8], bits: u8) -> Self {
        // By hand: copying a length that varies costs more than all the rest.
        let address = match *octets {
            [] => 0,
            [a] => Self::from_be_bytes([a, 0, 0, 0]),
            [a, b] => Self::from_be_bytes([a, b, 0, 0]),
            [a, b, c] => Self::from_be_bytes([a, b, c, 0]),
            [a, b, c, d, ..] => Self::from_be_bytes([a, b, c, d]),
        };
        address & Self::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0)
    }

    fn of(prefix: &IpNet) -> Option<(Self, u8)> {
        match prefix {
            IpNet::V4(net) => Some((net.network().to_bits(), net.prefix_len())),
            IpNet::V6(_) => None,
        }
    }

    fn prefix(self, bits: u8) -> Option<IpNet> {
        Ipv4Net::new(self.into(), bits).ok().map(IpNet::V4)
    }

    fn write(self, bits: u8, out: &mut Vec<u8>) {
        write(&self.to_be_bytes(), bits, out);
    }

    fn words(self) -> [u64; 2] {
        [0, self.into()]
    }
}

impl Address for WideAddress {
    const FAMILY: Family = Family::Ipv6Unicast;

    fn from_octets(octets: &[u8], bits: u8) -> Self {
        let mut padded = [0; 16];
        for (to, from) in padded.iter_mut().zip(octets) {
            *to = *from;
        }
        let address = u128::from_be_bytes(padded);
        let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
        (address & mask).into()
    }

    fn of(prefix: &IpNet) -> Option<(Self, u8)> {
        match prefix {
            IpNet::V6(net) => Some((net.network().to_bits().into(), net.prefix_len())),
            IpNet::V4(_) => None,
        }
    }

    fn prefix(self, bits: u8) -> Option<IpNet> {
        Ipv6Net::new(self.joined().into(), bits).ok().map(IpNet::V6)
    }

    fn write(self, bits: u8, out: &mut Vec<u8>) {
        write(&self.joined().to_be_bytes(), bits, out);
    }

    fn words(self) -> [u64; 2] {
        [self.high, self.low]
    }
}

impl WideAddress {
    fn joined(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
impl From<u128> for WideAddress {
    fn from(address: u128) -> Self {
        Self { high: (address >> 64) as u64, low: address as u64 }
    }
}

/// RFC 4271 §4.3: length in bits, then as many octets as it needs.
fn write(octets: &[u8], bits: u8, out: &mut Vec<u8>) {
    out.push(bits);
    out.extend_from_slice(octets.get(..usize::from(bits.div_ceil(8))).unwrap_or_default());
}
