//! What does not fit the path to its backend with an outer header on: the sender is told what
//! does (RFC 1191 §4, RFC 4443 §3.2), from the VIP, at a limited pace.
//!
//! An IPv4 packet that routers may fragment is not answered, for its sender would not listen, and
//! it is not fragmented here: pieces of a tunnel packet would have to be collected by the backend
//! before it could believe any of them.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_csum_diff, bpf_ktime_get_ns, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use isocast_dataplane_common::{
    Outcome,
    directory::Address,
    encap::ETHERNET_LEN,
    limits::{TOO_BIG_BURST, TOO_BIG_PER_SECOND},
    pace::Pace,
    tables::{ECHO_V4, ECHO_V6, Target},
};

use crate::{
    capture::Served,
    header::{adjust, fold, transmit},
    maps,
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, ICMP, ICMPV6, Ip, ip_len},
    settle,
};

const HOP_LIMIT: u8 = 64;
/// ICMP and ICMPv6 headers, up to the quote.
const HEADER_LEN: usize = 8;
/// How much of the packet is quoted: more than what RFC 792 asks for, at a cost that does not
/// depend on the packet. A multiple of four, for the checksum.
const QUOTE_LEN: usize = 128;
/// No path of IPv6 is narrower, and no host believes that one is (RFC 8200 §5).
const IPV6_MINIMUM: u32 = 1280;

/// Answers an IPv4 packet of a service that is longer than `room`, if it may be answered.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn too_big_v4(ctx: *mut xdp_md, room: u32, service: u16) -> u32 {
    settle(ctx, Served::of(service), answer::<false>(ctx, room))
}

/// The same over IPv6.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn too_big_v6(ctx: *mut xdp_md, room: u32, service: u16) -> u32 {
    settle(ctx, Served::of(service), answer::<true>(ctx, room))
}

#[inline(always)]
fn answer<const V6: bool>(ctx: *mut xdp_md, room: u32) -> Result<u32, Outcome> {
    let frame = Frame::of_argument(ctx);
    if !frame.has(ETHERNET_LEN + QUOTE_LEN) {
        return Err(Outcome::TooBig);
    }
    // SAFETY: asked for right above.
    let may_be_told = unsafe {
        if V6 {
            room >= IPV6_MINIMUM
        } else {
            // Don't fragment, and not a later fragment.
            frame.read::<u16>(ETHERNET_LEN + 6) & 0x5fff_u16.to_be() == 0x4000_u16.to_be()
        }
    };
    if !may_be_told {
        return Err(Outcome::TooBig);
    }
    let way = maps::ready_target(if V6 { ECHO_V6 } else { ECHO_V4 })?;
    // SAFETY: asked for above.
    let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
    take_turn()?;

    let added = ip_len::<V6>() + HEADER_LEN;
    let surplus = (frame.end - frame.data) as i32 - (ETHERNET_LEN + QUOTE_LEN) as i32;
    // SAFETY: the context is the kernel's; all packet pointers are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_tail(ctx, -surplus) } != 0 {
        return Err(Outcome::TooBig);
    }
    let ctx = &XdpContext::new(ctx);
    adjust(ctx, -(added as i32))?;
    let frame = Frame::of(ctx);
    if !frame.has(ETHERNET_LEN + added + QUOTE_LEN) {
        return Err(Outcome::NoHeadroom);
    }
    write_ethernet::<V6>(frame, way);
    if V6 {
        write_v6(frame, &ip, room)
    } else {
        write_v4(frame, &ip, room)
    };
    maps::count(Outcome::TooBigAnswered);
    Ok(transmit(ctx, way))
}

/// RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f): errors are limited.
#[inline(always)]
fn take_turn() -> Result<(), Outcome> {
    const PACE: Pace = Pace::new(TOO_BIG_PER_SECOND, TOO_BIG_BURST);
    let used_until = maps::too_big_used_until()?;
    // SAFETY: this CPU's own value, and programs do not interrupt each other on a CPU.
    unsafe {
        *used_until = PACE.admit(*used_until, bpf_ktime_get_ns()).ok_or(Outcome::AnswerLimited)?;
    }
    Ok(())
}

#[inline(always)]
fn write_ethernet<const V6: bool>(frame: Frame, way: &Target) {
    // SAFETY: the caller asked for more.
    unsafe {
        frame.write(0, way.header[0]);
        frame.write(8, way.header[1] as u32);
        frame.write(12, if V6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 });
    }
}

#[inline(always)]
fn write_v4(frame: Frame, ip: &Ip, room: u32) {
    const MESSAGE: usize = ETHERNET_LEN + 20;
    const TOTAL: u16 = (20 + HEADER_LEN + QUOTE_LEN) as u16;
    const UNREACHABLE_TOO_BIG: [u8; 4] = [3, 4, 0, 0];
    // SAFETY: the caller asked for headers and quote.
    unsafe {
        frame.write(ETHERNET_LEN, [0x45_u8, 0]);
        frame.write(ETHERNET_LEN + 2, TOTAL.to_be());
        // No identification, may be fragmented, no checksum yet.
        frame.write(ETHERNET_LEN + 4, 0_u32);
        frame.write(ETHERNET_LEN + 8, [HOP_LIMIT, ICMP, 0, 0]);
        frame.write(ETHERNET_LEN + 12, ip.destination[3]);
        frame.write(ETHERNET_LEN + 16, ip.source[3]);
        frame.write(ETHERNET_LEN + 10, !fold(sum(frame, ETHERNET_LEN, 20, 0)));
        frame.write(MESSAGE, UNREACHABLE_TOO_BIG);
        // RFC 1191 §4: 16 unused bits, then the next hop's MTU.
        frame.write(MESSAGE + 4, room.to_be());
        let message = sum(frame, MESSAGE, (HEADER_LEN + QUOTE_LEN) as u32, 0);
        frame.write(MESSAGE + 2, !fold(message));
    }
}

#[inline(always)]
fn write_v6(frame: Frame, ip: &Ip, room: u32) {
    const MESSAGE: usize = ETHERNET_LEN + 40;
    const LEN: u16 = (HEADER_LEN + QUOTE_LEN) as u16;
    const PACKET_TOO_BIG: [u8; 4] = [2, 0, 0, 0];
    // SAFETY: the caller asked for headers and quote.
    unsafe {
        frame.write(ETHERNET_LEN, [0x60_u8, 0, 0, 0]);
        frame.write(ETHERNET_LEN + 4, LEN.to_be());
        frame.write(ETHERNET_LEN + 6, [ICMPV6, HOP_LIMIT]);
        write_address(frame, ETHERNET_LEN + 8, &ip.destination);
        write_address(frame, ETHERNET_LEN + 24, &ip.source);
        frame.write(MESSAGE, PACKET_TOO_BIG);
        frame.write(MESSAGE + 4, room.to_be());
        // The addresses, length and protocol of the pseudo-header (RFC 8200 §8.1).
        let pseudo = u32::from(LEN.to_be()) + u32::from(u16::from(ICMPV6).to_be());
        let addresses = sum(frame, ETHERNET_LEN + 8, 32, pseudo);
        let message = sum(frame, MESSAGE, u32::from(LEN), addresses);
        frame.write(MESSAGE + 2, !fold(message));
    }
}

#[inline(always)]
unsafe fn write_address(frame: Frame, at: usize, address: &Address) {
    for word in 0..4 {
        // SAFETY: the caller's promise: 16 bytes.
        unsafe { frame.write(at + word * 4, address[word]) };
    }
}

/// Sum of the words at `at`, on top of another sum.
#[inline(always)]
unsafe fn sum(frame: Frame, at: usize, len: u32, on_top_of: u32) -> u32 {
    let words = (frame.data + at) as *mut u32;
    // SAFETY: the caller's promise: `len` bytes, a multiple of four.
    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, words, len, on_top_of) as u32 }
}
