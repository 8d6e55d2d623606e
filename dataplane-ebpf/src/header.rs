//! Writing the outer header from a target's ready-made one.

use aya_ebpf::{
    bindings::xdp_action::XDP_TX,
    helpers::generated::{bpf_redirect, bpf_xdp_adjust_head},
    programs::XdpContext,
};
use isocast_dataplane_common::{
    Outcome,
    directory::Address,
    encap::{
        ETHERNET_LEN, GUE_LEN, HOP_V4_LEN, HOP_V6_LEN, OUTER_V4_LEN, OUTER_V6_LEN, PLAIN_V4_LEN,
        PLAIN_V6_LEN, UDP_LEN, entropy_port, hlen,
    },
    tables::Target,
};

use crate::packet::{Frame, IPIP, IPV6, Ip};

/// What the packet decides of its outer header.
pub struct Outer {
    /// In network order.
    pub entropy: u16,
    pub flow_label: u32,
    pub traffic_class: u8,
    pub inner_protocol: u8,
    pub inner_len: u16,
    /// Second word of the tunnel header, in network order.
    pub tenant: u32,
}

impl Outer {
    /// Of the packet `ip`, whose flow has that hash.
    #[inline(always)]
    pub fn of<const V6: bool>(ip: &Ip, hash: u64, tenant: u32) -> Self {
        Self {
            entropy: entropy_port(hash),
            flow_label: hash as u32 & 0xf_ffff,
            traffic_class: ip.traffic_class,
            inner_protocol: if V6 { IPV6 } else { IPIP },
            inner_len: ip.len,
            tenant,
        }
    }
}

/// Moves the start of the packet by `delta` bytes.
#[inline(always)]
pub fn adjust(ctx: &XdpContext, delta: i32) -> Result<(), Outcome> {
    // SAFETY: the context is the kernel's; all packet pointers are taken anew afterwards.
    match unsafe { bpf_xdp_adjust_head(ctx.ctx, delta) } {
        0 => Ok(()),
        _ => Err(Outcome::NoHeadroom),
    }
}

/// Sends the frame to the target's next hop: out of the interface it came from, or another. The
/// verdict says with what tag: see [`crate::vlan`].
#[inline(always)]
pub fn transmit(ctx: &XdpContext, target: &Target) -> u32 {
    let tag = target.flags & Target::TAG;
    if target.interface as usize == ctx.ingress_ifindex() {
        return XDP_TX | tag;
    }
    // Since Linux 5.6 this helper batches as a devmap does, and it needs no map to keep.
    // SAFETY: no pointers are involved.
    tag | unsafe { bpf_redirect(target.interface, 0) as u32 }
}

/// Writes the outer IPv4 header before `hops` further hops, and sends the frame.
#[inline(always)]
pub fn push_v4(ctx: &XdpContext, frame: Frame, target: &Target, outer: &Outer, hops: usize) -> u32 {
    write_v4(frame, target, outer, hops);
    transmit(ctx, target)
}

/// Writes the outer IPv6 header before `hops` further hops, and sends the frame.
#[inline(always)]
pub fn push_v6(ctx: &XdpContext, frame: Frame, target: &Target, outer: &Outer, hops: usize) -> u32 {
    write_v6(frame, target, outer, hops);
    transmit(ctx, target)
}

/// Fills in Ethernet, IPv4, UDP and GUE; the caller checked the room.
#[inline(always)]
pub fn write_v4(frame: Frame, target: &Target, outer: &Outer, hops: usize) {
    const UDP: usize = ETHERNET_LEN + 20;
    const GUE: usize = UDP + UDP_LEN;
    let total = outer.inner_len + (OUTER_V4_LEN + hops * HOP_V4_LEN) as u16;
    let class = u16::from_ne_bytes([0, outer.traffic_class]);
    let sum = target.ipv4_sum + u32::from(class) + u32::from(total.to_be());
    // SAFETY: the caller checked for ETHERNET_LEN + OUTER_V4_LEN bytes.
    unsafe {
        for word in 0..6 {
            frame.write(word * 8, target.header[word]);
        }
        frame.write(48, target.header[6] as u32);
        frame.write(52, (target.header[6] >> 32) as u16);
        frame.write(ETHERNET_LEN + 1, outer.traffic_class);
        frame.write(ETHERNET_LEN + 2, total.to_be());
        frame.write(ETHERNET_LEN + 10, !fold(sum));
        frame.write(UDP, outer.entropy);
        frame.write(UDP + 4, (total - 20).to_be());
        frame.write(GUE, [hlen(hops * HOP_V4_LEN), outer.inner_protocol]);
        frame.write(GUE + 4, outer.tenant);
    }
}

/// Fills in Ethernet, IPv6, UDP and GUE; the caller checked the room.
#[inline(always)]
pub fn write_v6(frame: Frame, target: &Target, outer: &Outer, hops: usize) {
    const UDP: usize = ETHERNET_LEN + 40;
    const GUE: usize = UDP + UDP_LEN;
    let payload = outer.inner_len + (OUTER_V6_LEN - 40 + hops * HOP_V6_LEN) as u16;
    // RFC 6438: the flow label carries the entropy for routers that look no deeper.
    let first = 6 << 28 | u32::from(outer.traffic_class) << 20 | outer.flow_label;
    // SAFETY: the caller checked for ETHERNET_LEN + OUTER_V6_LEN + HOP bytes.
    unsafe {
        for word in 0..9 {
            frame.write(word * 8, target.header[word]);
        }
        frame.write(72, target.header[9] as u16);
        frame.write(ETHERNET_LEN, first.to_be());
        frame.write(ETHERNET_LEN + 4, payload.to_be());
        frame.write(UDP, outer.entropy);
        frame.write(UDP + 4, payload.to_be());
        frame.write(GUE, [hlen(hops * HOP_V6_LEN), outer.inner_protocol]);
        frame.write(GUE + 4, outer.tenant);
    }
}

/// Writes the words of further hops; the caller checked the room, and that there are `HOPS`.
#[inline(always)]
pub unsafe fn push_hops_v4<const HOPS: usize>(frame: Frame, hops: *const Address) {
    for hop in 0..HOPS {
        // SAFETY: the caller's promise.
        unsafe { frame.write(ETHERNET_LEN + OUTER_V4_LEN + hop * HOP_V4_LEN, (*hops.add(hop))[3]) };
    }
}

/// Writes the words of further hops; the caller checked the room, and that there are `HOPS`.
#[inline(always)]
pub unsafe fn push_hops_v6<const HOPS: usize>(frame: Frame, hops: *const Address) {
    for hop in 0..HOPS {
        for word in 0..4 {
            let at = ETHERNET_LEN + OUTER_V6_LEN + hop * HOP_V6_LEN + word * 4;
            // SAFETY: the caller's promise.
            unsafe { frame.write(at, (*hops.add(hop))[word]) };
        }
    }
}

/// Fills in Ethernet and nothing but IPv4; the caller checked the room.
#[inline(always)]
pub fn write_plain_v4(frame: Frame, target: &Target, outer: &Outer) {
    let total = outer.inner_len + PLAIN_V4_LEN as u16;
    let class = u16::from_ne_bytes([0, outer.traffic_class]);
    let protocol = u16::from_ne_bytes([0, outer.inner_protocol]);
    let sum = target.ipv4_sum + u32::from(class) + u32::from(protocol) + u32::from(total.to_be());
    // SAFETY: the caller checked for ETHERNET_LEN + PLAIN_V4_LEN bytes.
    unsafe {
        for word in 0..4 {
            frame.write(word * 8, target.header[word]);
        }
        frame.write(32, target.header[4] as u16);
        frame.write(ETHERNET_LEN + 1, outer.traffic_class);
        frame.write(ETHERNET_LEN + 2, total.to_be());
        frame.write(ETHERNET_LEN + 9, outer.inner_protocol);
        frame.write(ETHERNET_LEN + 10, !fold(sum));
    }
}

/// Fills in Ethernet and nothing but IPv6; the caller checked the room.
#[inline(always)]
pub fn write_plain_v6(frame: Frame, target: &Target, outer: &Outer) {
    // RFC 6438: the flow label is all that routers can spread flows by.
    let first = 6 << 28 | u32::from(outer.traffic_class) << 20 | outer.flow_label;
    // SAFETY: the caller checked for ETHERNET_LEN + PLAIN_V6_LEN bytes.
    unsafe {
        for word in 0..6 {
            frame.write(word * 8, target.header[word]);
        }
        frame.write(48, target.header[6] as u32);
        frame.write(52, (target.header[6] >> 32) as u16);
        frame.write(ETHERNET_LEN, first.to_be());
        frame.write(ETHERNET_LEN + 4, outer.inner_len.to_be());
        frame.write(ETHERNET_LEN + 6, outer.inner_protocol);
    }
}

/// Makes the header's own source the last of its `hops` further hops: the packet comes back if
/// nobody else wants it. The caller checked the room, and that there is one.
#[inline(always)]
pub unsafe fn end_at_sender_v4(frame: Frame, hops: usize) {
    let last = ETHERNET_LEN + OUTER_V4_LEN + (hops - 1) * HOP_V4_LEN;
    // SAFETY: the caller's promise.
    unsafe { frame.write(last, frame.read::<u32>(ETHERNET_LEN + 12)) };
}

/// Makes the header's own source the last of its `hops` further hops: the packet comes back if
/// nobody else wants it. The caller checked the room, and that there is one.
#[inline(always)]
pub unsafe fn end_at_sender_v6(frame: Frame, hops: usize) {
    let last = ETHERNET_LEN + OUTER_V6_LEN + (hops - 1) * HOP_V6_LEN;
    for word in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            frame.write(last + word * 4, frame.read::<u32>(ETHERNET_LEN + 8 + word * 4));
        }
    }
}

/// Folds a sum of 16-bit words (RFC 1071).
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

const _: () = assert!(ETHERNET_LEN + OUTER_V4_LEN == 54 && ETHERNET_LEN + OUTER_V6_LEN == 74);
const _: () = assert!(ETHERNET_LEN + PLAIN_V4_LEN == 34 && ETHERNET_LEN + PLAIN_V6_LEN == 54);
const _: () = assert!(GUE_LEN == 12);
