//! Captured packets: what the XDP program hands up of them, and within which limits.
//!
//! One word arms the capture and says of which service. While it is 0, that word is all that a
//! packet reads. A capture ends by itself: the program disarms it when its time is over.

/// Most bytes of a frame that are handed up.
pub const SNAP_LEN: usize = 192;
/// Bytes of the ring that records wait in until they are read; with one more, a record is lost.
pub const RING_BYTES: usize = 1 << 20;
/// Length of a window, as a power of two of nanoseconds: 67 ms.
pub const WINDOW_NS_LOG2: u32 = 26;
/// Most packets that are taken in a window on each CPU: about 1,900 a second.
pub const PACKETS_PER_WINDOW: u64 = 128;
/// In place of a slot: the ring has none such.
pub const NO_SLOT: u32 = u32::MAX;
/// In place of an outcome: the packet has only arrived.
pub const UNDECIDED: u32 = u32::MAX;

/// The word that arms the capture of a service.
#[inline(always)]
#[must_use]
pub const fn armed_for(service: u16) -> u32 {
    service as u32 + 1
}

/// How a capture is done; written by the host side alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// When it ends, in nanoseconds of the monotonic clock.
    pub until_ns: u64,
    /// One packet in so many is taken, on each CPU; never 0.
    pub one_in: u64,
}

/// One CPU's part of it; written by the program alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packets of the captured services.
    pub seen: u64,
    /// Records that there was no room for.
    pub lost: u64,
    /// Packets beyond [`PACKETS_PER_WINDOW`].
    pub limited: u64,
    /// Number of the window that is being counted.
    pub window: u64,
    /// Packets taken in it.
    pub in_window: u64,
    /// The packet that is under way, or was last.
    pub packet: u64,
    /// It was taken, and has not left yet.
    pub is_under_way: u64,
    /// Its service, slot and hosts, for its second record.
    pub flow: FlowPlace,
}

/// What was known of a packet's flow before anything was decided.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowPlace {
    /// Number of the service.
    pub service: u32,
    /// Low bits of the generation: which half of the tables.
    pub half: u32,
    /// Slot in the service's ring, or [`NO_SLOT`].
    pub slot: u32,
    /// What the slot holds: its backend in the low half, its chain in the high half.
    pub hosts: u32,
}

/// One frame, as it arrived or as it leaves.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// Number of the packet: the same in both of its records.
    pub packet: u64,
    /// Interface that it arrived by.
    pub interface: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// The first bytes of it that are in `data`.
    pub captured: u32,
    /// Why the packet was dropped, or [`UNDECIDED`]: it was not.
    pub outcome: u32,
    /// The program's verdict; 0 (aborted) of a packet that has only arrived.
    pub action: u32,
    /// Keeps the next field aligned.
    pub reserved: u32,
    /// Its flow.
    pub flow: FlowPlace,
    /// Bytes of the frame; beyond `captured` they mean nothing.
    pub data: [u64; SNAP_LEN / 8],
}

const _: () = assert!(size_of::<Control>() == 16);
const _: () = assert!(size_of::<Progress>() == 72);
const _: () = assert!(size_of::<Record>() == 56 + SNAP_LEN);
