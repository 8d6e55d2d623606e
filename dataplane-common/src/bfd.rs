//! BFD sessions that the XDP program answers for (RFC 5880, RFC 5881).
//!
//! An entry holds one exchange: the peer's packet, bit for bit, and the whole IP packet that
//! answers it. The program compares and copies; what a packet means is decided by the agent alone.

use crate::directory::Address;

/// UDP port of single-hop sessions.
pub const PORT: u16 = 3784;
/// Sessions in the kernel.
pub const SESSIONS: usize = 1024;
/// Words of a control packet without authentication.
pub const PACKET_WORDS: usize = 6;
/// Words of an IPv4 packet with a control packet in it.
pub const IPV4_WORDS: usize = 5 + 2 + PACKET_WORDS;
/// Words of an IPv6 packet with a control packet in it.
pub const IPV6_WORDS: usize = 10 + 2 + PACKET_WORDS;

/// One exchange; its key is our discriminator in network order. All words as they travel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The peer.
    pub peer: Address,
    /// This host's end.
    pub local: Address,
    /// The peer's control packet.
    pub expected: [u32; PACKET_WORDS],
    /// Interface that the peer is heard on.
    pub interface: u32,
    /// Keeps the next field aligned.
    pub reserved: u32,
    /// Shortest time between two answers, in nanoseconds. A packet that comes sooner was not sent
    /// by the peer's timer: two programs that answered each other's answers would never stop.
    pub gap_ns: u64,
    /// The answer from the IP header on; the last five words count for IPv6 only.
    pub answer: [u32; IPV6_WORDS],
}

/// What the program saw of a session.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// When a packet was last answered, in nanoseconds of the monotonic clock; 0: never.
    pub at_ns: u64,
    /// How many were answered.
    pub answered: u64,
}

const _: () = assert!(size_of::<Session>() == 144);
const _: () = assert!(size_of::<Seen>() == 16);
