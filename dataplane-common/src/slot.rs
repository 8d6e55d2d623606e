//! One slot of a ring, how many slots a ring has, and where it lies in the pool of rings.

/// A ring slot without a backend. No backend ever has this number.
pub const NO_BACKEND: u16 = u16::MAX;

/// In the number of a slot's backend: the slot is [tracked](crate::tracking). No backend's number has
/// this bit, nor all others.
pub const TRACKED: u16 = 1 << 15;

/// A ring slot whose flows nobody else can have. No chain ever has this number.
pub const NO_CHAIN: u16 = u16::MAX;

/// Most hosts that are asked in turn for a flow, after the slot's own backend.
pub const CHAIN_HOPS: usize = 3;

/// Most flow keys that count beside the one in force.
pub const OTHER_FLOW_KEYS: usize = 2;

/// Slots of the smallest ring; all sizes are powers of two, so that a hash picks a slot by masking.
pub const RING_SLOTS_MIN: usize = 4096;
/// Slots of the largest ring.
pub const RING_SLOTS_MAX: usize = 65_536;

/// Slots for each backend that a service could have: the shares are right to one per cent.
const SLOTS_PER_BACKEND: usize = 100;

/// Where the flows of one ring slot go.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The backend that gets new flows, or [`NO_BACKEND`]; with [`TRACKED`] where it may not get the
    /// others.
    pub current: u16,
    /// The chain of hosts that may own flows of this slot besides: the second chance.
    /// [`NO_CHAIN`] in a slot that has settled. In a tracked one, the chain of its former backend.
    pub chain: u16,
}

impl Slot {
    /// A slot that nobody serves.
    pub const EMPTY: Self = Self { current: NO_BACKEND, chain: NO_CHAIN };

    /// A slot at rest: one backend, nobody else.
    #[must_use]
    pub const fn settled(current: u16) -> Self {
        Self { current, chain: NO_CHAIN }
    }

    /// A slot that is tracked.
    #[must_use]
    pub const fn tracked(current: u16, chain: u16) -> Self {
        Self { current: current | TRACKED, chain }
    }

    /// Whether it has a backend, and is tracked.
    #[inline(always)]
    #[must_use]
    pub const fn is_tracked(self) -> bool {
        self.current & TRACKED != 0 && self.current != NO_BACKEND
    }

    /// Whether it has a backend that has all flows: neither a chain nor tracking.
    #[inline(always)]
    #[must_use]
    pub const fn is_at_rest(self) -> bool {
        // One comparison of the word.
        const REST: u32 = Slot { current: 0, chain: NO_CHAIN }.to_bits();
        self.to_bits() & (REST | TRACKED as u32) == REST
    }

    /// The word that it is in memory.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        (self.chain as u32) << 16 | self.current as u32
    }

    /// The slot that [`Slot::to_bits`] was taken of.
    #[expect(clippy::cast_possible_truncation, reason = "the fields in turn")]
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self { current: bits as u16, chain: (bits >> 16) as u16 }
    }

    /// The backend that gets new flows, or [`NO_BACKEND`].
    #[inline(always)]
    #[must_use]
    pub const fn backend(self) -> u16 {
        if self.current == NO_BACKEND { NO_BACKEND } else { self.current & !TRACKED }
    }
}

/// Slots of the ring of a service that is configured with so many backends.
///
/// It depends on the configuration alone, not on who is healthy or what was before: every edge has
/// to come to the same ring. What a step from one size to the next moves is little, see
/// [`crate::maglev`].
#[must_use]
pub const fn ring_slots(backends: usize) -> usize {
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    if wanted <= RING_SLOTS_MIN {
        RING_SLOTS_MIN
    } else if wanted >= RING_SLOTS_MAX {
        RING_SLOTS_MAX
    } else {
        wanted.next_power_of_two()
    }
}

/// Whether a ring may have so many slots.
#[must_use]
pub const fn is_ring_size(slots: usize) -> bool {
    slots.is_power_of_two() && RING_SLOTS_MIN <= slots && slots <= RING_SLOTS_MAX
}

/// Where a ring lies in the pool, and how large it is, in one number.
///
/// The pool is counted in blocks of [`RING_SLOTS_MIN`] slots. A ring of 2ⁿ blocks begins at a
/// multiple of 2ⁿ, so the number twice its first block has n + 1 zeros at its end; the lowest bit
/// set above them tells the size.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingPlace(u16);

impl RingPlace {
    /// A place of `blocks`, a power of two, from `first` on, which is a multiple of it.
    #[must_use]
    pub const fn new(first: usize, blocks: usize) -> Option<Self> {
        let code = 2 * first + blocks;
        if !blocks.is_power_of_two() || !first.is_multiple_of(blocks) || code > u16::MAX as usize {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "compared right above")]
        Some(Self(code as u16))
    }

    /// The place that [`RingPlace::code`] was taken of.
    #[inline(always)]
    #[must_use]
    pub const fn from_code(code: u16) -> Self {
        Self(code)
    }

    /// As a table's entry holds it.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Number of blocks.
    #[inline(always)]
    #[must_use]
    pub const fn blocks(self) -> u32 {
        (self.0 & self.0.wrapping_neg()) as u32
    }

    /// The first block.
    #[inline(always)]
    #[must_use]
    pub const fn first_block(self) -> u32 {
        (self.0 as u32 - self.blocks()) / 2
    }

    /// Number of slots.
    #[inline(always)]
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.blocks() * BLOCK_SLOTS
    }

    /// The slot for a hash, counted from the beginning of the pool.
    #[expect(clippy::cast_possible_truncation, reason = "masked to the ring's size")]
    #[inline(always)]
    #[must_use]
    pub const fn slot(self, hash: u64) -> u32 {
        // What is above the lowest bit set is twice the first block, that bit and what is below are twice
        // the blocks, less one. In fewer steps than by way of both numbers.
        let code = self.0 as u32;
        let below = code.wrapping_sub(1);
        let mask = (code ^ below).wrapping_mul(BLOCK_SLOTS / 2) | (BLOCK_SLOTS / 2 - 1);
        (code & below).wrapping_mul(BLOCK_SLOTS / 2) | hash as u32 & mask
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const BLOCK_SLOTS: u32 = RING_SLOTS_MIN as u32;

const _: () = assert!(size_of::<Slot>() == 4);
const _: () = assert!(RING_SLOTS_MIN.is_power_of_two() && RING_SLOTS_MAX.is_power_of_two());

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ring_grows_with_the_backends_between_its_limits() {
        for (backends, slots) in
            [(0, 4096), (16, 4096), (40, 4096), (41, 8192), (655, 65_536), (100_000, 65_536)]
        {
            assert_eq!(ring_slots(backends), slots, "{backends}");
            assert!(is_ring_size(slots));
        }
        for slots in [0, 2048, 4097, 131_072] {
            assert!(!is_ring_size(slots), "{slots}");
        }
    }

    #[test]
    fn slot_says_whether_it_is_tracked_and_whose_it_is() {
        let slots = [Slot::EMPTY, Slot::settled(5), Slot::tracked(5, 2)];
        assert_eq!(slots.map(Slot::is_tracked), [false, false, true]);
        assert_eq!(slots.map(Slot::backend), [NO_BACKEND, 5, 5]);
        assert_eq!(slots.map(|slot| Slot::from_bits(slot.to_bits())), slots);
    }

    #[test]
    fn slot_is_at_rest_while_one_backend_has_all_its_flows() {
        let chained = Slot { current: 5, chain: 2 };
        let tracked = [Slot::tracked(5, 2), Slot::tracked(5, NO_CHAIN)];

        assert!(Slot::settled(5).is_at_rest());
        assert!(![Slot::EMPTY, chained].into_iter().chain(tracked).any(Slot::is_at_rest));
    }

    #[test]
    fn place_that_cannot_be_told_is_none() {
        assert_eq!(RingPlace::new(0, 3), None);
        assert_eq!(RingPlace::new(1, 2), None);
        assert_eq!(RingPlace::new(32_768, 1), None);
        assert!(RingPlace::new(32_767, 1).is_some());
    }

    proptest! {
        #[test]
        fn place_keeps_what_it_was_made_of(order in 0u32..5, group in 0usize..2047, hash: u64) {
            let blocks = 1usize << order;
            let first = group * blocks % 32_768 / blocks * blocks;
            let place = RingPlace::new(first, blocks).expect("within the pool");

            prop_assert_eq!(RingPlace::from_code(place.code()), place);
            prop_assert_eq!(place.first_block() as usize, first);
            prop_assert_eq!(place.blocks() as usize, blocks);
            let slot = place.slot(hash) as usize;
            prop_assert!((first * RING_SLOTS_MIN..(first + blocks) * RING_SLOTS_MIN).contains(&slot));
            prop_assert_eq!(slot as u64 % (blocks * RING_SLOTS_MIN) as u64,
                hash % (blocks * RING_SLOTS_MIN) as u64);
        }
    }
}
