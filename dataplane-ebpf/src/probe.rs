//! Health checks travel as traffic does: the packets of a marked local socket go to one backend,
//! in the tunnel (or in nothing but IP, to a host without an agent), so that a check proves next hop, decapsulation, VIP and application.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{bpf_get_hash_recalc, bpf_redirect, bpf_skb_vlan_pop, bpf_skb_vlan_push},
    programs::TcContext,
};
use isocast_dataplane_common::{
    Outcome,
    directory::{Key, Space},
    encap::{
        ETHERNET_LEN, FLAG_PROBE, OUTER_V4_LEN, OUTER_V6_LEN, PLAIN_V4_LEN, PLAIN_V6_LEN,
        entropy_port, tenant_word,
    },
    tables::Target,
};

use crate::{
    header::{self, Outer},
    maps::{self, Generation},
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, IPIP, IPV6, Ip, ip_len},
    vlan,
};

pub const TC_ACT_SHOT: i32 = 2;
/// Leaves the decision to whatever comes next on this interface.
pub const TCX_NEXT: i32 = -1;

#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<i32, Outcome> {
    let skb = ctx.skb.skb;
    // SAFETY: the context is the kernel's.
    let (mark, ethertype) = unsafe { ((*skb).mark, (*skb).protocol as u16) };
    if mark == 0 {
        return Ok(TCX_NEXT);
    }
    let key = Key::new(Space::Probe, &[0; 4], mark, 0, 0);
    let Some(probe) = Generation::in_force()?.find(&key) else {
        return Ok(TCX_NEXT);
    };
    let target = maps::target(probe.index)?;
    if target.flags & Target::LOCAL != 0 {
        return Ok(TCX_NEXT);
    }
    if target.flags & Target::READY == 0 {
        return Err(Outcome::NextHopUnresolved);
    }
    let ip = match ethertype {
        ETHERTYPE_IPV4 => inner::<false>(ctx)?,
        ETHERTYPE_IPV6 => inner::<true>(ctx)?,
        _ => return Ok(TCX_NEXT),
    };
    // SAFETY: the context is the kernel's.
    let hash = u64::from(unsafe { bpf_get_hash_recalc(skb) });
    let outer = Outer {
        entropy: entropy_port(hash << 48),
        flow_label: hash as u32 & 0xf_ffff,
        traffic_class: ip.traffic_class,
        inner_protocol: if ethertype == ETHERTYPE_IPV6 { IPV6 } else { IPIP },
        inner_len: ip.len,
        tenant: tenant_word(probe.tenant, FLAG_PROBE),
    };
    const OVER_V4: u32 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
    const OVER_V6: u32 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
    const UDP: u32 = BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
    match (target.flags & Target::PLAIN != 0, target.flags & Target::IPV6 != 0) {
        (false, false) => {
            let frame = room(ctx, OUTER_V4_LEN, OVER_V4 | UDP)?;
            header::write_v4(frame, target, &outer, 0);
        }
        (false, true) => {
            let frame = room(ctx, OUTER_V6_LEN, OVER_V6 | UDP)?;
            header::write_v6(frame, target, &outer, 0);
        }
        (true, false) => {
            header::write_plain_v4(room(ctx, PLAIN_V4_LEN, OVER_V4)?, target, &outer);
        }
        (true, true) => {
            header::write_plain_v6(room(ctx, PLAIN_V6_LEN, OVER_V6)?, target, &outer);
        }
    }
    retag(skb, target)?;
    maps::count(Outcome::ProbeSent);
    // Or the packet would be taken for a probe again where it is redirected to.
    ctx.set_mark(0);
    // SAFETY: the context is the kernel's.
    if target.interface == unsafe { (*skb).ifindex } {
        return Ok(TCX_NEXT);
    }
    // SAFETY: no pointers are involved.
    Ok(unsafe { bpf_redirect(target.interface, 0) } as i32)
}

/// The packet has the tag of the route to the service, where that leads into a VLAN; it has to have the
/// target's. The kernel keeps the tag beside the packet up to here.
#[inline(always)]
fn retag(skb: *mut __sk_buff, target: &Target) -> Result<(), Outcome> {
    // SAFETY: the context is the kernel's; packet pointers are not used afterwards.
    unsafe {
        if (*skb).vlan_present != 0 && bpf_skb_vlan_pop(skb) != 0 {
            return Err(Outcome::NoHeadroom);
        }
        let tag = Target::tag_of(target.flags);
        if target.flags & Target::TAGGED != 0
            && bpf_skb_vlan_push(skb, vlan::ETHERTYPE_TAGGED, tag) != 0
        {
            return Err(Outcome::NoHeadroom);
        }
    }
    Ok(())
}

#[inline(always)]
fn inner<const V6: bool>(ctx: &TcContext) -> Result<Ip, Outcome> {
    let frame = Frame { data: ctx.data(), end: ctx.data_end() };
    if !frame.has(ETHERNET_LEN + ip_len::<V6>()) {
        return Err(Outcome::Malformed);
    }
    // SAFETY: asked for right above.
    Ok(unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) })
}

#[inline(always)]
fn room(ctx: &TcContext, len: usize, layers: u32) -> Result<Frame, Outcome> {
    ctx.adjust_room(len as i32, BPF_ADJ_ROOM_MAC, layers.into())
        .map_err(|_| Outcome::NoHeadroom)?;
    let frame = Frame { data: ctx.data(), end: ctx.data_end() };
    if !frame.has(ETHERNET_LEN + len) {
        return Err(Outcome::NoHeadroom);
    }
    Ok(frame)
}
