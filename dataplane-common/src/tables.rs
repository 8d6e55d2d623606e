//! Values of the kernel maps.

use crate::{
    CHAIN_HOPS, OTHER_FLOW_KEYS, Slot,
    directory::Address,
    limits::{BLOCKS_PER_CHUNK, MAX_NAME_LEN},
    slot::RING_SLOTS_MIN,
    tracking::BETWEEN_MAX,
};

/// What one generation has besides its directory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// Key of the flow hash.
    pub flow_key: [u64; 2],
    /// Key tags that are believed, in network order; the same twice, where it is one.
    pub key_tags: [u32; 2],
    /// Packets that a CPU passes on to further hops in one tick of the kernel.
    pub pass_on_max: u32,
    /// How many of `other_flow_keys` there are.
    pub others: u32,
    /// Keys that flows may have been placed by otherwise: no packet needs them while no key changes.
    pub other_flow_keys: [[u64; 2]; OTHER_FLOW_KEYS],
}

/// Slots that share a cache line.
pub const SLOTS_PER_LINE: usize = 16;
/// Lines of a piece of the pool of rings.
pub const LINES_PER_CHUNK: usize = BLOCKS_PER_CHUNK * RING_SLOTS_MIN / SLOTS_PER_LINE;

/// One cache line of a ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLine {
    /// Slots whose numbers differ in the low four bits.
    pub slots: [Slot; SLOTS_PER_LINE],
}

/// Where encapsulated packets go: two cache lines, the first holds the ready-made header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Ethernet, IP, UDP and GUE, with zeros where the packet decides.
    pub header: [u64; 12],
    /// Sum of the 16-bit words of the outer IPv4 header as it stands in `header`.
    pub ipv4_sum: u32,
    /// Interface the packet leaves by.
    pub interface: u32,
    /// Bits of [`Target::READY`] and the following.
    pub flags: u32,
    /// Longest inner packet that fits the path, with a whole chain of further hops in its header; in
    /// the targets of the default route, the least of all nodes'.
    pub room: u32,
    /// The tunnel address itself, as it travels in the word of a further hop.
    pub address: Address,
}

impl Target {
    /// The next hop is known: the header may be used.
    pub const READY: u32 = 1;
    /// The target is this node: deliver, do not encapsulate.
    pub const LOCAL: u32 = 2;
    /// The outer family is IPv6.
    pub const IPV6: u32 = 4;
    /// The outer header is nothing but IP: the host has no agent, and its kernel takes it off.
    pub const PLAIN: u32 = 8;
    /// The bits that say how packets get there: [`Target::READY`] alone, through the tunnel.
    pub const WAY: u32 = Self::READY | Self::LOCAL | Self::PLAIN;
    /// Packets leave with an 802.1Q tag, which is in the upper half of the flags.
    pub const TAGGED: u32 = 1 << 9;
    /// All bits that say with what tag.
    pub const TAG: u32 = Self::TAGGED | 0xffff_0000;

    /// The flags of a tag, given in host order.
    #[inline(always)]
    #[must_use]
    pub const fn tag(tag: u16) -> u32 {
        Self::TAGGED | (tag as u32) << 16
    }

    /// The tag of such flags.
    #[inline(always)]
    #[must_use]
    pub const fn tag_of(flags: u32) -> u16 {
        (flags >> 16) as u16
    }
}

/// Target whose Ethernet header answers to IPv4 echo requests take: the default route.
pub const ECHO_V4: u16 = 0;
/// The same for IPv6.
pub const ECHO_V6: u16 = 1;
/// First number of a target that stands for a node.
pub const FIRST_TARGET: u16 = 2;

/// Hosts that are asked in turn for a flow that a slot's own backend does not know: one cache line.
/// All have the outer family of that backend. A slot that is [tracked](crate::tracking) has the chain of its
/// former backend, which may be empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Tunnel addresses, as they travel in the words of further hops.
    pub hops: [Address; CHAIN_HOPS],
    /// How many of them there are: one at least.
    pub len: u16,
    /// Target number of the first, for a node that is the slot's own backend.
    pub first: u16,
    /// In a chain of a tracked slot, target number of the backend whose chain it is: that of flows that
    /// are not noted. 0 in others, which is no backend's.
    pub former: u16,
    /// The era that the slot is tracked since.
    pub since: u16,
    /// Other backends that flows of the slot may be noted with; 0 for none.
    pub between: [u16; BETWEEN_MAX],
}

/// How many packets one CPU passed on to further hops in a tick of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOn {
    /// Its number since boot.
    pub tick: u64,
    /// Packets, the refused ones included.
    pub packets: u32,
    /// Fills the word.
    pub reserved: u32,
}

/// Packets and their bytes, by IP length before encapsulation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Whose a number is: lets a new process learn what its predecessor meant.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// One more than the bytes in use, or [`Name::FREE`].
    pub len: u32,
    /// UTF-8.
    pub bytes: [u8; MAX_NAME_LEN],
}

impl Name {
    /// In place of a length: nobody has this number.
    pub const FREE: u32 = 0;
}

const _: () = assert!(size_of::<Root>() == 64);
const _: () = assert!(size_of::<RingLine>() == 64);
const _: () = assert!(size_of::<Target>() == 128);
const _: () = assert!(size_of::<Chain>() == 64);
const _: () = assert!(size_of::<Counter>() == 16);
const _: () = assert!(size_of::<Name>() == 128);
