//! What concerns many routes at once, done in slices.
//!
//! A session that ends may take a million routes with it, and a policy that changes may judge as
//! many anew. Either is a walk over the table that stops after [`SLICE`] prefixes and goes on when
//! the speaker is asked again; meanwhile other peers are served. The walk visits only chunks that
//! hold something of its source.

use super::attributes::{AttributeStore, WellKnown};
use super::import::{Bench, Judge};
use super::outbox::Outbox;
use super::path::{Path, SourceId, Verdict};
use super::slab::CHUNK_NAMES;
use super::table::{Address, Change, Table, chunk_of};
use super::{Rib, with_table};
use crate::types::Family;

/// Prefixes that one slice of work visits: a fraction of a millisecond.
const SLICE: u32 = 1024;

/// See the module.
#[derive(Debug)]
pub(super) enum Job {
    /// Walks over what a source announced.
    Walk { family: Family, source: SourceId, what: Walk, next: u32 },
    /// Gives back the names that a closed outbox held.
    Close { family: Family, outbox: Box<Outbox>, next: u32, end: u32 },
    /// Brings our own announcements into the table.
    Local,
}

/// What a walk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// The source is dead: its paths go.
    Remove,
    /// How much the source can be relied on changed: the best path is chosen again.
    Reselect,
    /// The same, and paths that ask not to be kept go (RFC 9494 §4.2).
    LastResort,
    /// Its peer's import policy changed.
    Judge,
}

impl Rib {
    /// Whether a slice of work waits.
    pub(crate) fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Does one slice of work.
    pub(crate) fn work(&mut self) {
        let Some(job) = self.jobs.pop_front() else { return };
        let rest = match job {
            Job::Walk { family, source, what, next } => self.walk(family, source, what, next),
            Job::Close { family, outbox, next, end } => self.close(family, outbox, next, end),
            Job::Local => self.apply_local().then_some(Job::Local),
        };
        // To the end: every job gets its turn.
        self.jobs.extend(rest);
    }

    /// Begins a walk, of which the first slice is done at once.
    pub(super) fn start_walk(&mut self, family: Family, source: SourceId, what: Walk) {
        if let Some(rest) = self.walk(family, source, what, 0) {
            self.jobs.push_back(rest);
        }
    }

    fn walk(&mut self, family: Family, source: SourceId, what: Walk, next: u32) -> Option<Job> {
        let Self { peers, store, guard, scratch, .. } = self;
        let mut next = next;
        let mut left = SLICE;
        let finished = with_table!(self, family, table => {
            loop {
                let Some(id) = next_touched(table, source, next) else { break true };
                if left == 0 {
                    break false;
                }
                let end = id.saturating_add(1).next_multiple_of(CHUNK_NAMES).min(table.bound());
                let end = end.min(id.saturating_add(left));
                left = left.saturating_sub(end.saturating_sub(id));
                next = end;
                let peer = table.source(source).map(|source| source.peer);
                let entry = peer.and_then(|peer| peers.get(peer));
                let bench = entry.and_then(|entry| Some(Bench {
                    settings: &entry.settings,
                    terms: entry.terms.as_deref()?,
                    guard,
                }));
                let mut judge = bench.map(|bench| Judge { bench, edited: &mut scratch.edited });
                scratch.changes.extend((id..end).filter_map(|id| {
                    step(table, store, source, what, id, judge.as_mut())
                }));
            }
        });
        self.publish(family);
        if !finished {
            return Some(Job::Walk { family, source, what, next });
        }
        if what == Walk::Remove {
            with_table!(self, family, table => table.retire_source(source));
        }
        None
    }

    /// Begins to close an outbox whose peer is gone.
    pub(super) fn start_close(&mut self, family: Family, outbox: Outbox) {
        let end = with_table!(self, family, table => table.bound());
        if let Some(rest) = self.close(family, Box::new(outbox), 0, end) {
            self.jobs.push_back(rest);
        }
    }

    fn close(&mut self, family: Family, outbox: Box<Outbox>, next: u32, end: u32) -> Option<Job> {
        let until = end.min(next.saturating_add(SLICE.saturating_mul(8)));
        with_table!(self, family, table => {
            for id in (next..until).filter(|id| outbox.holds(*id)) {
                table.let_go(id);
            }
        });
        (until < end).then_some(Job::Close { family, outbox, next: until, end })
    }
}

fn step<A: Address>(
    table: &mut Table<A>,
    store: &mut AttributeStore,
    source: SourceId,
    what: Walk,
    id: u32,
    judge: Option<&mut Judge<'_>>,
) -> Option<Change> {
    let node = table.node(id)?;
    let has_path = |path: &Path| path.source == source;
    let path = *node.paths.as_slice().iter().find(|path| has_path(path))?;
    match what {
        Walk::Remove => table.remove_paths(id, store, has_path),
        Walk::Reselect => table.reselect(id, node.best().copied(), store),
        Walk::LastResort => {
            let used = path.used.unwrap_or(path.received);
            if store.traits(used).well_known.contains(WellKnown::NO_LLGR) {
                return table.remove_paths(id, store, has_path);
            }
            let before = node.best().copied().filter(|best| !has_path(best));
            // Still the best it may be, but not for everybody: it counts as changed.
            table.reselect(id, before, store)
        }
        Walk::Judge => {
            let judge = judge?;
            let prefix = node.prefix()?;
            table.revise(id, store, |path, store| {
                (has_path(path) && path.verdict != Verdict::Loop)
                    .then(|| judge.judge(path.received, prefix, store))
            })
        }
    }
}

fn next_touched<A: Address>(table: &Table<A>, source: SourceId, from: u32) -> Option<u32> {
    let touched = &table.source(source)?.touched;
    let chunk = touched.next_from(chunk_of(from))?;
    let first = chunk.saturating_mul(CHUNK_NAMES).max(from);
    (first < table.bound()).then_some(first)
}
