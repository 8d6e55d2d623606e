//! The directory: everything that a packet's addresses can mean, in one perfect hash table.
//!
//! A key is an address with what qualifies it, in one of several spaces; a lookup reads one
//! displacement and one place, whatever the number of entries, and never probes further. The host
//! chooses displacements such that no two keys meet (Belazzougui et al., "Hash, displace, and
//! compress"). A displacement has a few bits beside it that say which keys it is not for, so most keys
//! that are not listed cost one read. Each generation has a directory of its own; it is the root from which rings,
//! targets and services are reached, so replacing it replaces everything at once.

use crate::limits::{DIRECTORY_BUCKETS, DIRECTORY_PLACES};

/// What kind of question a key asks.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// (destination, protocol, port) → a service's ring, or the tunnel's end.
    Listener = 1,
    /// destination → it is a VIP that this node balances.
    Vip = 2,
    /// outer source → a node that is believed; its target.
    Source = 3,
    /// (tenant, inner destination, protocol, port) → may leave the tunnel here.
    Accept = 4,
    /// mark of a local socket → the target its packets are sent to.
    Probe = 5,
    /// (destination, protocol) → the service that takes fragments.
    Fragments = 6,
    /// (tenant, inner destination, protocol) → fragments may leave the tunnel here.
    AcceptFragments = 7,
    /// (VIP, protocol, port) → the largest segment that a handshake may offer.
    SegmentSize = 8,
    /// (VIP, protocol, port) → who is answered from there is noted.
    Answers = 9,
}

/// An address as four words in network order; IPv4 is mapped (RFC 4291 §2.5.5.2).
pub type Address = [u32; 4];

/// An IPv4 address, given in network order, as [`Address`].
#[inline(always)]
#[must_use]
pub const fn mapped(ipv4: u32) -> Address {
    [0, 0, 0x0000_ffff_u32.to_be(), ipv4]
}

/// A key, in a form that compares and hashes word by word (an array would compare by `memcmp`,
/// which the kernel's verifier does not follow).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64, u64, u64);

impl Key {
    /// `scope` is a tenant or a mark, `port` is in network order; both are 0 where the space has
    /// none.
    #[inline(always)]
    #[must_use]
    pub const fn new(space: Space, address: &Address, scope: u32, protocol: u8, port: u16) -> Self {
        Self(
            pair(address[0], address[1]),
            pair(address[2], address[3]),
            pair(scope, (port as u32) << 16 | (protocol as u32) << 8 | space as u32),
        )
    }

    /// Whether the key asks that kind of question.
    #[expect(clippy::cast_possible_truncation, reason = "the space is the lowest byte")]
    #[inline(always)]
    #[must_use]
    pub const fn is_in(&self, space: Space) -> bool {
        (self.2 >> 32) as u8 == space as u8
    }

    #[inline(always)]
    const fn hash(&self) -> u64 {
        let mut hash = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= self.1.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        hash ^= hash >> 32;
        hash = (hash ^ self.2).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ hash >> 32
    }

    /// Which displacement belongs to this key.
    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
    #[inline(always)]
    #[must_use]
    pub const fn bucket(&self) -> u32 {
        (self.hash() >> 32) as u32 & (DIRECTORY_BUCKETS as u32 - 1)
    }

    /// This key's bit among those beside a displacement.
    #[inline(always)]
    #[must_use]
    pub const fn bit(&self) -> u64 {
        1 << (32 + (self.hash() >> 59))
    }

    /// The place of this key under a displacement.
    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
    #[inline(always)]
    #[must_use]
    pub const fn place(&self, displacement: u32) -> u32 {
        let mixed = (self.hash() ^ displacement as u64).wrapping_mul(0xa076_1d64_78bd_642f);
        (mixed >> 40) as u32 & (DIRECTORY_PLACES as u32 - 1)
    }
}

/// What a key leads to. Which fields count depends on the key's space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// A ring's place ([`crate::RingPlace::code`]), a target (sources, probes) or a number of bytes
    /// (segment sizes).
    pub index: u16,
    /// The service's counters.
    pub service: u16,
    /// The tenant, 24 bits, below flags such as [`Value::BY_ADDRESS`]; [`Value::TUNNEL`] where a
    /// listener is the end of the tunnel.
    pub tenant: u32,
}

impl Value {
    /// In place of a tenant: this listener is the tunnel's end, not a service.
    pub const TUNNEL: u32 = u32::MAX;
    /// Flag: flows are told by addresses and protocol alone, so that fragments follow them.
    pub const BY_ADDRESS: u32 = 1 << 24;
    /// Flag: handshakes have their segment size lowered.
    pub const CLAMP: u32 = 1 << 25;
    /// Flag, above the tenant's 24 bits: the service has a [`crate::policy::Policy`].
    pub const GUARDED: u32 = 1 << 26;
    /// The flags of services that ask something of their packets.
    pub const UNUSUAL: u32 = Self::CLAMP | Self::GUARDED;
    /// The bits of a tenant.
    pub const TENANT: u32 = (1 << 24) - 1;

    /// In one number.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        pair(self.index as u32 | (self.service as u32) << 16, self.tenant)
    }

    /// The value that [`Value::to_bits`] was taken of.
    #[expect(clippy::cast_possible_truncation, reason = "the fields in turn")]
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u16, service: (bits >> 16) as u16, tenant: (bits >> 32) as u32 }
    }
}

/// One place of the directory. An all-zero key is an empty place: no space is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Compared with what was asked: a place may belong to another key.
    pub key: Key,
    /// The answer.
    pub value: Value,
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

const _: () = assert!(size_of::<Key>() == 24);
const _: () = assert!(size_of::<Entry>() == 32);
