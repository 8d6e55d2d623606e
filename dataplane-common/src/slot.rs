//! One slot of a ring.

/// A ring slot without a backend. No backend ever has this number.
pub const NO_BACKEND: u16 = u16::MAX;

/// A ring slot whose flows nobody else can have. No chain ever has this number.
pub const NO_CHAIN: u16 = u16::MAX;

/// Most hosts that are asked in turn for a flow, after the slot's own backend.
pub const CHAIN_HOPS: usize = 3;

/// Slots of every ring. A power of two, so that a hash picks one by masking, and a hundred times
/// the backends a service is expected to have.
pub const RING_SLOTS: usize = 4096;

/// Where the flows of one ring slot go.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The backend that gets new flows, or [`NO_BACKEND`].
    pub current: u16,
    /// The chain of hosts that may own flows of this slot besides: the second chance.
    /// [`NO_CHAIN`] in a slot that has settled.
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
}

const _: () = assert!(size_of::<Slot>() == 4);
const _: () = assert!(RING_SLOTS.is_power_of_two());
