//! Echo requests to a VIP are answered where they arrive: any edge can say that the address lives.
//!
//! The reply takes the next hop of the default route, as the host resolved it; addresses of the
//! request's Ethernet header are not trusted to lead back.

use aya_ebpf::programs::XdpContext;
use isocast_dataplane_common::{
    Outcome,
    encap::ETHERNET_LEN,
    tables::{ECHO_V4, ECHO_V6, Target},
};

use crate::{
    header::{fold, transmit},
    maps,
    packet::Frame,
};

const HOP_LIMIT: u8 = 64;

/// ICMP (RFC 792): type 8 becomes type 0.
#[inline(always)]
pub fn run_v4(ctx: &XdpContext, frame: Frame) -> Result<u32, Outcome> {
    const ICMP: usize = ETHERNET_LEN + 20;
    const REQUEST: [u8; 2] = [8, 0];
    if !frame.has(ICMP + 8) {
        return Err(Outcome::Malformed);
    }
    let target = maps::ready_target(ECHO_V4)?;
    // SAFETY: asked for above.
    unsafe {
        if frame.read::<[u8; 2]>(ICMP) != REQUEST {
            return Err(Outcome::UnlistedProtocol);
        }
        let (source, destination) =
            (frame.read::<u32>(ETHERNET_LEN + 12), frame.read::<u32>(ETHERNET_LEN + 16));
        frame.write(ETHERNET_LEN + 12, destination);
        frame.write(ETHERNET_LEN + 16, source);
        rewrite(frame, ETHERNET_LEN + 8, ETHERNET_LEN + 10, HOP_LIMIT);
        rewrite(frame, ICMP, ICMP + 2, 0);
    }
    Ok(reply(ctx, frame, target))
}

/// ICMPv6 (RFC 4443 §4): type 128 becomes type 129.
#[inline(always)]
pub fn run_v6(ctx: &XdpContext, frame: Frame) -> Result<u32, Outcome> {
    const ICMP: usize = ETHERNET_LEN + 40;
    const REQUEST: [u8; 2] = [128, 0];
    const REPLY: u8 = 129;
    if !frame.has(ICMP + 8) {
        return Err(Outcome::Malformed);
    }
    let target = maps::ready_target(ECHO_V6)?;
    // SAFETY: asked for above.
    unsafe {
        if frame.read::<[u8; 2]>(ICMP) != REQUEST {
            return Err(Outcome::UnlistedProtocol);
        }
        for word in 0..4 {
            let (source, destination) = (ETHERNET_LEN + 8 + word * 4, ETHERNET_LEN + 24 + word * 4);
            let (from, to) = (frame.read::<u32>(source), frame.read::<u32>(destination));
            frame.write(source, to);
            frame.write(destination, from);
        }
        frame.write(ETHERNET_LEN + 7, HOP_LIMIT);
        rewrite(frame, ICMP, ICMP + 2, REPLY);
    }
    Ok(reply(ctx, frame, target))
}

#[inline(always)]
fn reply(ctx: &XdpContext, frame: Frame, target: &Target) -> u32 {
    // SAFETY: the caller checked for more than the two addresses.
    unsafe {
        frame.write(0, target.header[0]);
        frame.write(8, target.header[1] as u32);
    }
    maps::count(Outcome::EchoAnswered);
    transmit(ctx, target)
}

/// Replaces the first byte of the word at `at` and repairs the checksum (RFC 1624, equation 3).
#[inline(always)]
unsafe fn rewrite(frame: Frame, at: usize, checksum: usize, byte: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let old = frame.read::<u16>(at);
        frame.write(at, byte);
        let new = frame.read::<u16>(at);
        let sum = u32::from(!frame.read::<u16>(checksum)) + u32::from(!old) + u32::from(new);
        frame.write(checksum, !fold(sum));
    }
}
