//! The encapsulation header: GUE variant 0 over UDP (draft-ietf-intarea-gue-09 §3), zero UDP
//! checksum (RFC 6935).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---+-+---------+---------------+-------------------------------+
//! | 0 |0|  Hlen   | 4 or 41       |            flags = 0          |
//! +---+-+---------+---------------+---------------+---------------+
//! |                tenant                         | packet flags  |
//! +-----------------------------------------------+---------------+
//! |                         key tag                               |
//! +---------------------------------------------------------------+
//! |     further hops: up to three addresses of the outer family   |
//! +---------------------------------------------------------------+
//! ```
//! A host that has no socket for the flow passes the packet on to the first further hop, with the
//! rest of them. A host that has what is left of a closed connection does so too, but is the last
//! hop from then on; only one host can be, so no packet can circle.

/// UDP destination port (IANA: gue).
pub const PORT: u16 = 6080;
/// Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// UDP header.
pub const UDP_LEN: usize = 8;
/// GUE header with the private words, without further hops.
pub const GUE_LEN: usize = 12;
/// The word of a further hop over IPv4.
pub const HOP_V4_LEN: usize = 4;
/// The words of a further hop over IPv6.
pub const HOP_V6_LEN: usize = 16;
/// Outer headers above Ethernet over IPv4.
pub const OUTER_V4_LEN: usize = 20 + UDP_LEN + GUE_LEN;
/// Outer headers above Ethernet over IPv6.
pub const OUTER_V6_LEN: usize = 40 + UDP_LEN + GUE_LEN;

/// Outer header above Ethernet of IP in IPv4 (RFC 2003, RFC 4213), for hosts without an agent.
pub const PLAIN_V4_LEN: usize = 20;
/// The same of IP in IPv6 (RFC 2473).
pub const PLAIN_V6_LEN: usize = 40;

/// What the path of a packet must have room for besides the packet, over IPv4: a flow that fits
/// goes on to fit when its slot gets a chain of further hops, however long.
pub const OVERHEAD_V4: usize = OUTER_V4_LEN + crate::CHAIN_HOPS * HOP_V4_LEN;
/// The same over IPv6.
pub const OVERHEAD_V6: usize = OUTER_V6_LEN + crate::CHAIN_HOPS * HOP_V6_LEN;

/// Hlen of a header with `hops` bytes of further hops: 32-bit words after the first.
#[expect(clippy::cast_possible_truncation, reason = "three hops have at most 48 bytes")]
#[inline(always)]
#[must_use]
pub const fn hlen(hops: usize) -> u8 {
    ((GUE_LEN - 4 + hops) / 4) as u8
}

/// Packet flag: sent by a health check.
pub const FLAG_PROBE: u8 = 1;
/// Packet flag: already passed on once; the receiver keeps it.
pub const FLAG_SECOND_HOP: u8 = 2;
/// Packet flag: a new flow, to be answered by a cookie.
pub const FLAG_COOKIE: u8 = 4;
/// Packet flag: the last hop is the host that has what is left of a closed connection.
pub const FLAG_RETURNS: u8 = 8;

/// A tenant and flags as the second word of the header, in network order.
#[inline(always)]
#[must_use]
pub const fn tenant_word(tenant: u32, flags: u8) -> u32 {
    (tenant << 8 | flags as u32).to_be()
}

/// Source port of the outer UDP header, in network order: the dynamic range, so that routers
/// spread flows over equal paths and hosts over queues.
#[inline(always)]
#[must_use]
pub const fn entropy_port(hash: u64) -> u16 {
    ((hash >> 48) as u16 | 0xc000).to_be()
}

const _: () = assert!(OUTER_V4_LEN == 40 && OUTER_V6_LEN == 60);
const _: () = assert!(hlen(0) == 2 && hlen(4) == 3 && hlen(16) == 6);
// It has five bits.
const _: () = assert!(hlen(16 * crate::CHAIN_HOPS) < 32);
