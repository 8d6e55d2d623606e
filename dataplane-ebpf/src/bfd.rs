//! BFD of single-hop sessions is answered where it arrives: the program that forwards is the one
//! that says so, whether or not an agent lives.
//!
//! A packet is answered if it is, bit for bit, the one that the agent approved, over one hop, and
//! not sooner than the session's pace allows. Anything else (a poll, another state, a stranger)
//! passes to the agent's socket. The answer is the agent's, ready made.
//!
//! The Ethernet addresses of the request are swapped, which nothing else here does: a single-hop
//! session is with the very neighbour that sent the frame (hop limit 255 proves it), so the way
//! back is the way it came. A packet to a VIP has no such proof.

use aya_ebpf::{
    bindings::xdp_action::{XDP_PASS, XDP_TX},
    helpers::generated::bpf_ktime_get_ns,
    programs::XdpContext,
};
use isocast_dataplane_common::{
    Outcome,
    bfd::{IPV4_WORDS, IPV6_WORDS, PACKET_WORDS, Session},
    encap::{ETHERNET_LEN, UDP_LEN},
};

use crate::{
    maps,
    packet::{Frame, Ip, ip_len, same},
};

const PACKET_LEN: usize = PACKET_WORDS * 4;

/// Answers a packet to the port of single-hop sessions, or passes it.
#[inline(always)]
pub fn run<const V6: bool>(ctx: &XdpContext, frame: Frame, ip: &Ip) -> u32 {
    let udp = ETHERNET_LEN + ip_len::<V6>();
    let payload = udp + UDP_LEN;
    let ip_total = (ip_len::<V6>() + UDP_LEN + PACKET_LEN) as u16;
    if !frame.has(payload + PACKET_LEN) || ip.len != ip_total {
        return XDP_PASS;
    }
    let hop_limit_at = ETHERNET_LEN + if V6 { 7 } else { 8 };
    // SAFETY: all within the bytes asked for above.
    let (hop_limit, udp_len, discriminator) = unsafe {
        (frame.read::<u8>(hop_limit_at), frame.read::<u16>(udp + 4), frame.read(payload + 8))
    };
    if hop_limit != 255 || udp_len != ((UDP_LEN + PACKET_LEN) as u16).to_be() {
        return XDP_PASS;
    }
    let Some(session) = maps::bfd_session(discriminator) else { return XDP_PASS };
    if !same(&session.peer, &ip.source)
        || !same(&session.local, &ip.destination)
        || session.interface as usize != ctx.ingress_ifindex()
        || !is_expected(frame, payload, session)
    {
        return XDP_PASS;
    }
    let Some(seen) = maps::bfd_seen(discriminator) else { return XDP_PASS };
    // SAFETY: the helper takes nothing. The stamp is written by one program at a time in practice:
    // a peer's packets follow each other by milliseconds; a lost count would harm nobody.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now - (*seen).at_ns < session.gap_ns {
            return XDP_PASS;
        }
        (*seen).at_ns = now;
        (*seen).answered += 1;
    }
    answer::<V6>(frame, session);
    maps::count(Outcome::BfdAnswered);
    XDP_TX
}

#[inline(always)]
fn is_expected(frame: Frame, payload: usize, session: &Session) -> bool {
    let mut difference = 0;
    for word in 0..PACKET_WORDS {
        // SAFETY: the caller asked for the whole control packet.
        difference |= session.expected[word] ^ unsafe { frame.read::<u32>(payload + word * 4) };
    }
    difference == 0
}

/// Writes the answer over the request, which has the same length.
#[inline(always)]
fn answer<const V6: bool>(frame: Frame, session: &Session) {
    // SAFETY: the caller asked for everything from the Ethernet header to the control packet.
    unsafe {
        for word in 0..3 {
            let (to, from) = (frame.read::<u16>(word * 2), frame.read::<u16>(6 + word * 2));
            frame.write(word * 2, from);
            frame.write(6 + word * 2, to);
        }
        let words = if V6 { IPV6_WORDS } else { IPV4_WORDS };
        for word in 0..words {
            frame.write(ETHERNET_LEN + word * 4, session.answer[word]);
        }
    }
}
