//! Who answers a UDP flow has it: what leaves a backend from a service's port is noted, and what
//! arrives is looked up, in place of the socket that a datagram does not have.
//!
//! A flow that was not answered here lately may be new, and nobody's. So the others are asked first,
//! and the packet comes back: [`Claim::Closed`], never [`Claim::None`].

use aya_ebpf::{helpers::generated::bpf_ktime_get_coarse_ns, programs::TcContext};
use isocast_dataplane_common::{
    Outcome,
    answers::{AnsweredFlow, is_due, is_lately},
    directory::{Key, Space},
    encap::ETHERNET_LEN,
};

use crate::{
    maps::{self, Generation},
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Ip, UDP, ip_len},
    socket::Claim,
};

const UDP_LEN: usize = 8;

/// At egress of a backend: notes what it answers.
#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<(), Outcome> {
    let frame = Frame { data: ctx.data(), end: ctx.data_end() };
    if !frame.has(ETHERNET_LEN + ip_len::<false>() + UDP_LEN) {
        return Ok(());
    }
    // SAFETY: asked for right above.
    match unsafe { frame.read::<u16>(12) } {
        ETHERTYPE_IPV4 => outgoing::<false>(frame),
        ETHERTYPE_IPV6 => outgoing::<true>(frame),
        _ => Ok(()),
    }
}

/// The service is the source.
#[inline(always)]
fn outgoing<const V6: bool>(frame: Frame) -> Result<(), Outcome> {
    let at = ETHERNET_LEN + ip_len::<V6>();
    if !frame.has(at + UDP_LEN) {
        return Ok(());
    }
    // SAFETY: asked for right above.
    let (ip, ports) = unsafe { (Ip::read::<V6>(frame, ETHERNET_LEN), frame.read::<u32>(at)) };
    if ip.oddity.is_some() || ip.protocol != UDP {
        return Ok(());
    }
    let key = Key::new(Space::Answers, &ip.source, 0, UDP, ports as u16);
    if Generation::in_force()?.find(&key).is_none() {
        return Ok(());
    }
    let flow =
        AnsweredFlow { client: ip.destination, service: ip.source, ports: ports.rotate_left(16) };
    let now = now();
    match maps::answered(&flow) {
        // SAFETY: a live map value. Whoever stores here stores the time: that of another CPU, or of
        // the flow that took the place of an evicted one, is as good.
        Some(then) if unsafe { is_due(then.read_volatile(), now) } => unsafe {
            then.write_volatile(now);
        },
        Some(_) => return Ok(()),
        None => maps::note_answered(&flow, now),
    }
    maps::count(Outcome::AnswerNoted);
    Ok(())
}

/// Whether the UDP flow `ip` and `ports` is this host's.
#[inline(always)]
pub fn claim(ip: &Ip, ports: u32) -> Claim {
    let flow = AnsweredFlow { client: ip.source, service: ip.destination, ports };
    match maps::answered(&flow) {
        // SAFETY: a live map value.
        Some(then) if unsafe { is_lately(then.read_volatile(), now()) } => Claim::Open,
        _ => Claim::Closed,
    }
}

/// Nanoseconds of the monotonic clock, as of the kernel's last tick.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_coarse_ns() }
}
