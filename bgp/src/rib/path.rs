//! One way to reach a prefix, and the source it was learnt from.

use std::net::IpAddr;

use super::attributes::AttrId;
use super::bitmap::Bitmap;
use crate::types::PeerKind;

/// Names a source: one peer during one session, or our own announcements. Staleness is a property
/// of the source, so a session that ends changes one word, not a million routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SourceId(pub(super) u16);

/// Names a peer in the table; dense and used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerIndex(pub(crate) u16);

impl PeerIndex {
    /// Whose announcements our own are.
    pub(super) const OURSELVES: Self = Self(u16::MAX);
}

/// A path: twelve bytes, as there are millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// As it came: what the peer holds us to, kept so that a change of policy needs no refresh.
    pub(super) received: AttrId,
    /// As policy left it; nothing: rejected.
    pub(super) used: Option<AttrId>,
    pub(super) source: SourceId,
    pub(super) verdict: Verdict,
}

/// What became of a route that a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It may be used.
    Accepted,
    /// Our AS is in its path (RFC 4271 §9.1.2), or we are who originated it (RFC 4456 §8).
    Loop,
    /// The peer's import policy refused it.
    Policy,
    /// It left the valley (RFC 9234 §5).
    Leak,
}

/// The paths of one prefix, best first once selection has run.
#[derive(Debug, Default)]
pub(super) enum Paths {
    #[default]
    None,
    One(Path),
    Many(Box<PathList>),
}

/// More than one path.
#[derive(Debug)]
pub(super) struct PathList(Vec<Path>);

/// Where paths come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) peer: PeerIndex,
    pub(super) state: SourceState,
    pub(super) neighbour: Neighbour,
    /// Paths in the table.
    pub(super) paths: u32,
    /// Those that policy accepted.
    pub(super) accepted: u32,
    /// Chunks of the table that hold, or held, one of them.
    pub(super) touched: Bitmap,
}

/// How far a source can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SourceState {
    /// Its session is up.
    Live,
    /// Its routes are being replaced (RFC 7313 §4); until then they are as good as any.
    Refreshing,
    /// Its session is down, its routes are kept (RFC 4724 §4.2).
    Stale,
    /// A last resort (RFC 9494 §4.2).
    LongLived,
    /// Its routes are gone, as soon as the sweep has come by.
    Dead,
}

/// What selection asks about the neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Nothing: ourselves.
    pub(super) kind: Option<PeerKind>,
    pub(super) router_id: u32,
    pub(super) address: IpAddr,
}

impl SourceState {
    pub(super) const fn is_alive(self) -> bool {
        !matches!(self, Self::Dead)
    }

    pub(super) const fn is_stale(self) -> bool {
        matches!(self, Self::Stale | Self::LongLived)
    }
}

impl Source {
    pub(super) const fn new(peer: PeerIndex, neighbour: Neighbour) -> Self {
        Self {
            peer,
            state: SourceState::Live,
            neighbour,
            paths: 0,
            accepted: 0,
            touched: Bitmap::new(),
        }
    }

    pub(super) const fn is_local(&self) -> bool {
        self.neighbour.kind.is_none()
    }
}

impl Paths {
    pub(super) fn as_slice(&self) -> &[Path] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(list) => &list.0,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Path] {
        match self {
            Self::None => &mut [],
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(list) => &mut list.0,
        }
    }

    pub(super) fn push(&mut self, path: Path) {
        match self {
            Self::None => *self = Self::One(path),
            Self::One(first) => {
                let mut list = Vec::with_capacity(4);
                list.extend([*first, path]);
                *self = Self::Many(Box::new(PathList(list)));
            }
            Self::Many(list) => list.0.push(path),
        }
    }

    pub(super) fn swap_remove(&mut self, at: usize) {
        match self {
            Self::None => {}
            Self::One(_) => *self = Self::None,
            Self::Many(list) => {
                if at < list.0.len() {
                    list.0.swap_remove(at);
                }
                match list.0.as_slice() {
                    [] => *self = Self::None,
                    [last] => *self = Self::One(*last),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_small() {
        assert_eq!(size_of::<Path>(), 12);
        assert_eq!(size_of::<Paths>(), 16);
    }
}
