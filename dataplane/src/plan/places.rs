//! Places of rings in the pool.
//!
//! A ring of 2ⁿ blocks begins at a multiple of 2ⁿ. Rings of one block are put where the pool
//! begins, larger ones where it ends: single blocks left behind by small rings do not keep the
//! large ones out.

use std::collections::BTreeMap;

use isocast_dataplane_common::{RingPlace, limits::RING_BLOCK_POOL};

use super::{Content, RingContent};

/// Who has which place.
pub(crate) type Places = BTreeMap<Content, RingPlace>;

/// Gives places to rings: who has one keeps it, the others get places that nobody has now. `None`
/// if there is not enough room.
pub(crate) fn assign(rings: &[RingContent], in_force: &Places) -> Option<Places> {
    let mut pool = Pool::new(in_force.values());
    let mut places = Places::new();
    let mut fresh = BTreeMap::new();
    for ring in rings {
        match in_force.get(&ring.content) {
            Some(place) => drop(places.insert(ring.content, *place)),
            None => drop(fresh.insert(ring.content, ring.blocks())),
        }
    }
    let mut fresh: Vec<_> = fresh.into_iter().collect();
    // The largest first, while there is most room.
    fresh.sort_by_key(|(_, blocks)| std::cmp::Reverse(*blocks));
    for (content, blocks) in fresh {
        places.insert(content, pool.take(blocks)?);
    }
    Some(places)
}

struct Pool {
    taken: Vec<bool>,
    /// Everything below is taken.
    low: usize,
    /// No ring of the size looked for last fits above.
    high: usize,
    size: usize,
}

impl Pool {
    fn new<'a>(in_force: impl Iterator<Item = &'a RingPlace>) -> Self {
        let mut pool =
            Self { taken: vec![false; RING_BLOCK_POOL], low: 0, high: RING_BLOCK_POOL, size: 0 };
        for place in in_force {
            pool.mark(place.first_block() as usize, place.blocks() as usize);
        }
        pool
    }

    fn mark(&mut self, first: usize, blocks: usize) {
        for taken in self.taken.iter_mut().skip(first).take(blocks) {
            *taken = true;
        }
    }

    fn take(&mut self, blocks: usize) -> Option<RingPlace> {
        let first = if blocks == 1 {
            let free = self.taken.get(self.low..)?.iter().position(|taken| !taken)?;
            self.low += free + 1;
            self.low - 1
        } else {
            if self.size != blocks {
                (self.high, self.size) = (self.taken.len(), blocks);
            }
            loop {
                self.high = self.high.checked_sub(blocks)?;
                let group = self.taken.get(self.high..self.high + blocks)?;
                if group.iter().all(|taken| !taken) {
                    break self.high;
                }
            }
        };
        self.mark(first, blocks);
        RingPlace::new(first, blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(places: &[(usize, usize)]) -> Pool {
        let places: Vec<_> = places
            .iter()
            .map(|&(first, blocks)| RingPlace::new(first, blocks).expect("a place"))
            .collect();
        Pool::new(places.iter())
    }

    #[test]
    fn small_rings_come_from_below_and_large_ones_from_above() {
        let mut pool = taken(&[(1, 1), (RING_BLOCK_POOL - 16, 16)]);
        let mut take = |blocks| pool.take(blocks).map(|place| place.first_block() as usize);

        assert_eq!(take(16), Some(RING_BLOCK_POOL - 32));
        assert_eq!(take(2), Some(RING_BLOCK_POOL - 34));
        assert_eq!((take(1), take(1), take(1)), (Some(0), Some(2), Some(3)));
    }

    #[test]
    fn full_pool_has_no_place() {
        let mut pool = taken(&[]);
        for _ in 0..RING_BLOCK_POOL / 16 {
            assert!(pool.take(16).is_some());
        }
        assert_eq!(pool.take(16), None);
        assert_eq!(pool.take(1), None);
    }
}
