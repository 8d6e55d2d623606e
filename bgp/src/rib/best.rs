//! Which path of a prefix is best (RFC 4271 §9.1, and what is usual).
//!
//! In this order: a source that is not stale (RFC 9494 §4.3 for the last resort), our own
//! announcements, LOCAL_PREF, the shorter AS_PATH, ORIGIN, MED among paths of one neighbouring AS,
//! eBGP over iBGP, the lower router id, the lower address. Age does not count: the same paths give
//! the same answer in whatever order they came.
//!
//! MEDs of different neighbours do not compare, so the order is not total, and comparing pairs would
//! make the answer depend on the order. Hence elimination (§9.1.2.2): all that tie on what comes
//! before MED, less those that another of the same neighbour beats, then the rest of the list.

use super::attributes::{AttributeStore, Traits, WellKnown};
use super::path::{Path, Source, SourceState};
use crate::types::PeerKind;

/// Why the best path of a prefix is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is the only usable one.
    Only,
    /// The others are stale, or last resorts.
    Fresh,
    /// It is our own.
    Local,
    /// By its LOCAL_PREF.
    LocalPreference,
    /// By the length of its AS_PATH.
    PathLength,
    /// By its ORIGIN.
    Origin,
    /// By its MULTI_EXIT_DISC.
    Med,
    /// It was learnt from another AS.
    External,
    /// By its neighbour's router id.
    RouterId,
    /// By its neighbour's address.
    Address,
}

/// What precedes MED in one number, the smaller, the better.
pub(super) fn first_rank(source: &Source, traits: &Traits) -> Option<u64> {
    let staleness = match source.state {
        SourceState::Dead => return None,
        SourceState::Live | SourceState::Refreshing => 0_u64,
        SourceState::Stale => 1,
        SourceState::LongLived => 2,
    };
    let last_resort = traits.well_known.contains(WellKnown::LLGR_STALE);
    let staleness = if last_resort { 2 } else { staleness };
    Some(staleness << 60 | u64::from(!source.is_local()) << 56 | traits.rank)
}

/// Puts the best usable path first; whether there is one.
pub(super) fn select(paths: &mut [Path], sources: &[Source], store: &AttributeStore) -> bool {
    let Some(best) = position_of_best(paths, sources, store) else { return false };
    paths.swap(0, best);
    true
}

fn position_of_best(paths: &[Path], sources: &[Source], store: &AttributeStore) -> Option<usize> {
    let rank = |path: &Path| rank_of(path, sources, store);
    if let [path] = paths {
        return rank(path).map(|_| 0);
    }
    let lowest = paths.iter().filter_map(rank).min()?;
    let tied = |path: &&Path| rank(path) == Some(lowest);
    let mut ties = paths.iter().filter(tied);
    let (first, second) = (ties.next()?, ties.next());
    if second.is_none() {
        return paths.iter().position(|path| path == first);
    }
    let beaten = |path: &Path| {
        let (traits, used) = (traits_of(path, store), path.used);
        paths.iter().filter(tied).any(|other| {
            let theirs = traits_of(other, store);
            other.used != used && theirs.neighbour == traits.neighbour && theirs.med < traits.med
        })
    };
    paths
        .iter()
        .enumerate()
        .filter(|(_, path)| tied(path) && !beaten(path))
        .min_by_key(|(_, path)| last_rank(path, sources))
        .map(|(at, _)| at)
}

/// What made the first path better than each of the others.
pub(super) fn reason(paths: &[Path], sources: &[Source], store: &AttributeStore) -> Option<Reason> {
    let (best, others) = paths.split_first()?;
    let rank = rank_of(best, sources, store)?;
    let rivals = others.iter().filter_map(|path| Some((path, rank_of(path, sources, store)?)));
    let reasons = rivals.map(|(path, other)| {
        let traits = (traits_of(best, store), traits_of(path, store));
        let differs = |shift: u32| rank >> shift != other >> shift;
        match () {
            () if differs(60) => Reason::Fresh,
            () if differs(56) => Reason::Local,
            () if differs(18) => Reason::LocalPreference,
            () if differs(2) => Reason::PathLength,
            () if differs(0) => Reason::Origin,
            () if traits.0.neighbour == traits.1.neighbour && traits.0.med != traits.1.med => {
                Reason::Med
            }
            () => match (last_rank(best, sources), last_rank(path, sources)) {
                (Some((a, ..)), Some((b, ..))) if a != b => Reason::External,
                (Some((_, a, _)), Some((_, b, _))) if a != b => Reason::RouterId,
                _ => Reason::Address,
            },
        }
    });
    // The closest rival is the one that decides.
    Some(reasons.max().unwrap_or(Reason::Only))
}

/// Whether traffic may be shared between the best path and this one: they tie on everything that
/// says how good a path is.
pub(super) fn is_equal_cost(
    best: &Path,
    path: &Path,
    sources: &[Source],
    store: &AttributeStore,
) -> bool {
    let kind = |path: &Path| last_rank(path, sources).map(|(internal, ..)| internal);
    let (a, b) = (traits_of(best, store), traits_of(path, store));
    rank_of(path, sources, store).is_some_and(|rank| Some(rank) == rank_of(best, sources, store))
        && kind(best) == kind(path)
        && a.neighbour == b.neighbour
        && a.med == b.med
}

pub(super) fn rank_of(path: &Path, sources: &[Source], store: &AttributeStore) -> Option<u64> {
    let source = sources.get(usize::from(path.source.0))?;
    first_rank(source, &store.traits(path.used?))
}

fn traits_of(path: &Path, store: &AttributeStore) -> Traits {
    path.used.map(|used| store.traits(used)).unwrap_or_default()
}

/// What follows MED: eBGP over iBGP, router id, address.
pub(super) fn last_rank(path: &Path, sources: &[Source]) -> Option<(bool, u32, std::net::IpAddr)> {
    let neighbour = sources.get(usize::from(path.source.0))?.neighbour;
    let internal = neighbour.kind == Some(PeerKind::Internal);
    Some((internal, neighbour.router_id, neighbour.address))
}
