//! Reading packets: bounds, IP headers, what makes a packet odd.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use isocast_dataplane_common::{
    Outcome,
    directory::{Address, mapped},
    flow::Flow,
};

pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
pub const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
pub const ICMP: u8 = 1;
pub const IPIP: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const IPV6: u8 = 41;
pub const ICMPV6: u8 = 58;

/// The bytes between `data` and `end`, as the verifier tracks them.
#[derive(Clone, Copy)]
pub struct Frame {
    pub data: usize,
    pub end: usize,
}

impl Frame {
    #[inline(always)]
    pub fn of(ctx: &XdpContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end() }
    }

    /// The same in a function of its own in the kernel. Volatile, or the compiler would have the
    /// caller pass the pointers, cut to 32 bits, in place of the context.
    #[inline(always)]
    pub fn of_argument(ctx: *mut xdp_md) -> Self {
        // SAFETY: the context is the kernel's.
        unsafe {
            Self {
                data: (&raw const (*ctx).data).read_volatile() as usize,
                end: (&raw const (*ctx).data_end).read_volatile() as usize,
            }
        }
    }

    /// Whether the first `len` bytes are there.
    #[inline(always)]
    pub fn has(self, len: usize) -> bool {
        self.data + len <= self.end
    }

    /// The bytes from `offset` on, where only the packet says how far that is. Through memory, or
    /// the compiler would check one pointer and use another, which the verifier does not connect.
    #[inline(always)]
    pub fn beyond(self, offset: usize) -> Self {
        let mut data = self.data + offset;
        let place = &raw mut data;
        // SAFETY: a local variable.
        unsafe { place.write_volatile(data) };
        // SAFETY: the same.
        Self { data: unsafe { place.read_volatile() }, end: self.end }
    }

    /// Reads at `offset`.
    ///
    /// # Safety
    /// [`Frame::has`] was asked for all bytes read; the verifier refuses the program otherwise.
    #[inline(always)]
    pub unsafe fn read<T: Copy>(self, offset: usize) -> T {
        // SAFETY: the caller's promise.
        unsafe { *((self.data + offset) as *const T) }
    }

    /// Writes at `offset`.
    ///
    /// # Safety
    /// As for [`Frame::read`].
    #[inline(always)]
    pub unsafe fn write<T: Copy>(self, offset: usize, value: T) {
        // SAFETY: the caller's promise.
        unsafe { *((self.data + offset) as *mut T) = value }
    }
}

/// One IP header and what follows it.
#[derive(Clone, Copy)]
pub struct Ip {
    pub source: Address,
    pub destination: Address,
    pub protocol: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Of the whole IP packet.
    pub len: u16,
    /// Why this packet cannot be balanced, whatever it carries.
    pub oddity: Option<Outcome>,
}

impl Ip {
    /// Reads the header at `at`; its fixed part is within bounds.
    #[inline(always)]
    pub unsafe fn read<const V6: bool>(frame: Frame, at: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { if V6 { Self::read_v6(frame, at) } else { Self::read_v4(frame, at) } }
    }

    #[inline(always)]
    unsafe fn read_v4(frame: Frame, at: usize) -> Self {
        // SAFETY: the caller's promise: 20 bytes.
        unsafe {
            let oddity = if frame.read::<u16>(at + 6) & 0x3fff_u16.to_be() != 0 {
                Some(Outcome::Fragment)
            } else if frame.read::<u8>(at) != 0x45 {
                Some(Outcome::IpOptions)
            } else {
                None
            };
            Self {
                source: mapped(frame.read(at + 12)),
                destination: mapped(frame.read(at + 16)),
                protocol: frame.read(at + 9),
                traffic_class: frame.read(at + 1),
                len: u16::from_be(frame.read(at + 2)),
                oddity,
            }
        }
    }

    #[inline(always)]
    unsafe fn read_v6(frame: Frame, at: usize) -> Self {
        const FRAGMENT: u8 = 44;
        // SAFETY: the caller's promise: 40 bytes.
        unsafe {
            let protocol = frame.read::<u8>(at + 6);
            let oddity = match protocol {
                FRAGMENT => Some(Outcome::Fragment),
                // Hop-by-hop, routing, authentication, destination options (RFC 8200 §4.1).
                0 | 43 | 51 | 60 => Some(Outcome::ExtensionHeader),
                _ => None,
            };
            Self {
                source: read_address(frame, at + 8),
                destination: read_address(frame, at + 24),
                protocol,
                traffic_class: (u16::from_be(frame.read(at)) >> 4) as u8,
                len: u16::from_be(frame.read(at + 4)).wrapping_add(40),
                oddity,
            }
        }
    }

    /// The length says no more than what arrived.
    #[inline(always)]
    pub fn fits(&self, frame: Frame, at: usize) -> bool {
        frame.data + at + usize::from(self.len) <= frame.end
    }

    #[inline(always)]
    pub fn flow(&self, ports: u32) -> Flow {
        Flow { source: self.source, destination: self.destination, ports, protocol: self.protocol }
    }
}

/// Length of an IP header without options.
#[inline(always)]
pub const fn ip_len<const V6: bool>() -> usize {
    if V6 { 40 } else { 20 }
}

/// Destination port, in network order, of ports as they lie in memory.
#[inline(always)]
pub const fn destination_port(ports: u32) -> u16 {
    (ports >> 16) as u16
}

/// Whether the TCP header at `at` may begin a connection or cannot be read.
#[inline(always)]
pub fn opens_connection(frame: Frame, at: usize) -> bool {
    const SYN: u8 = 2;
    // SAFETY: asked for right here.
    !frame.has(at + 14) || unsafe { frame.read::<u8>(at + 13) } & SYN != 0
}

/// Compares word by word: the verifier does not follow `memcmp`.
#[inline(always)]
pub fn same(left: &Address, right: &Address) -> bool {
    left[0] == right[0] && left[1] == right[1] && left[2] == right[2] && left[3] == right[3]
}

#[inline(always)]
unsafe fn read_address(frame: Frame, at: usize) -> Address {
    // In two loads: hashes and keys take the words in pairs, as they lie in memory.
    // SAFETY: the caller's promise: 16 bytes.
    let (high, low) = unsafe { (frame.read::<u64>(at), frame.read::<u64>(at + 8)) };
    [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32]
}
