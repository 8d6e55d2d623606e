//! One slot of a ring.

/// A ring slot without a backend. No backend ever has this number.
pub const NO_BACKEND: u16 = u16::MAX;

/// Slots of every ring. A power of two, so that a hash picks one by masking, and a hundred times
/// the backends a service is expected to have.
pub const RING_SLOTS: usize = 4096;

/// Where the flows of one ring slot go.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The backend that gets new flows, or [`NO_BACKEND`].
    pub current: u16,
    /// The backend that had this slot before and may still own flows of it: the second chance.
    /// [`NO_BACKEND`] in a slot that has settled.
    pub previous: u16,
}

impl Slot {
    /// A slot that nobody serves.
    pub const EMPTY: Self = Self { current: NO_BACKEND, previous: NO_BACKEND };

    /// A slot at rest: one backend, nobody before it.
    #[must_use]
    pub const fn settled(current: u16) -> Self {
        Self { current, previous: NO_BACKEND }
    }
}

const _: () = assert!(size_of::<Slot>() == 4);
const _: () = assert!(RING_SLOTS.is_power_of_two());
