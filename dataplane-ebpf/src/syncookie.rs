//! Answers to new flows that take no memory: SYN cookies (RFC 4987 §3.6) of the listener itself.
//!
//! The answer goes straight back to the client, so it must be made where the listener is. The
//! kernel makes the cookie from the listener's own secret and notes that it did; when the client
//! acknowledges it, the kernel finds the connection in the acknowledgement, as it does when its own
//! queue overflows. Nothing has to be agreed upon between hosts.
//!
//! The kernel makes a cookie only while the listener's queue is full, or always where
//! `net.ipv4.tcp_syncookies` is 2. Until then, and where there is no listener, the stack gets the
//! packet and answers as ever.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        tcphdr,
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    helpers::generated::{bpf_tcp_gen_syncookie, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use isocast_dataplane_common::{
    Outcome,
    encap::ETHERNET_LEN,
    tables::{ECHO_V4, ECHO_V6},
};

use crate::{
    header::{fold, transmit},
    maps::{self, Generation},
    mss,
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Ip, TCP, destination_port, ip_len},
    socket::{self, Held},
};

/// Of the answer's TCP header: one option, the segment size.
const ANSWER_LEN: usize = 24;
/// Words of the longest TCP header, and as many more as a length of four bits could say.
const WORDS: usize = 20;
/// Segments of a path of 1500 bytes.
const MSS_V4: u16 = 1460;
const MSS_V6: u16 = 1440;

/// Answers the SYN that stands right after the Ethernet header, or hands it to the stack.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn cookie_v4(ctx: *mut xdp_md, half: u32) -> u32 {
    try_answer::<false>(&XdpContext::new(ctx), Generation::of_half(half)).unwrap_or(XDP_PASS)
}

/// The same over IPv6.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn cookie_v6(ctx: *mut xdp_md, half: u32) -> u32 {
    try_answer::<true>(&XdpContext::new(ctx), Generation::of_half(half)).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn try_answer<const V6: bool>(ctx: &XdpContext, generation: Generation) -> Option<u32> {
    let frame = Frame::of(ctx);
    let tcp = ETHERNET_LEN + ip_len::<V6>();
    if !frame.has(tcp + 20) {
        return None;
    }
    let target = maps::ready_target(if V6 { ECHO_V6 } else { ECHO_V4 }).ok()?;
    // SAFETY: asked for right above.
    let (ports, sequence, offset) = unsafe {
        (frame.read::<u32>(tcp), frame.read::<u32>(tcp + 4), frame.read::<u8>(tcp + 12) >> 4)
    };
    // RFC 9293 §3.1: five words at least.
    if offset < 5 || !frame.has(tcp + usize::from(offset) * 4) {
        return None;
    }
    // A copy: the kernel wants to see a header of a length that the verifier knows.
    let mut header = [0_u32; WORDS];
    for (n, word) in header.iter_mut().enumerate() {
        if n < 5 || frame.has(tcp + n * 4 + 4) {
            // SAFETY: five words were asked for above, the others right here.
            *word = unsafe { frame.read(tcp + n * 4) };
        }
    }
    let cookie = cookie::<V6>(ctx, frame, ports, &mut header)?;
    let mss = ((cookie >> 32) as u16).min(if V6 { MSS_V6 } else { MSS_V4 });
    // It leaves from here, so the program at egress does not see it.
    let mss = mss::offered::<V6>(generation, frame, destination_port(ports), target.room, mss);

    let wanted = tcp + ANSWER_LEN;
    // SAFETY: the context is the kernel's; all packet pointers are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, wanted as i32 - (frame.end - frame.data) as i32) } != 0
    {
        return None;
    }
    let frame = Frame::of(ctx);
    if !frame.has(wanted) {
        return Some(XDP_DROP);
    }
    let pseudo = if V6 { turn_v6(frame) } else { turn_v4(frame) };
    let acknowledged = u32::from_be(sequence).wrapping_add(1);
    let segment: [u32; ANSWER_LEN / 4] = [
        ports.rotate_left(16),
        (cookie as u32).to_be(),
        acknowledged.to_be(),
        // Six words; SYN and ACK; as much as fits without scaling.
        0x6012_ffff_u32.to_be(),
        0,
        // Option 2: maximum segment size (RFC 9293 §3.7.1).
        (0x0204_0000 | u32::from(mss)).to_be(),
    ];
    let mut sum = pseudo;
    for (n, word) in segment.iter().enumerate() {
        sum += u64::from(*word);
        // SAFETY: asked for right above.
        unsafe { frame.write(tcp + n * 4, *word) };
    }
    // SAFETY: as above.
    unsafe {
        frame.write(tcp + 16, checksum(sum));
        frame.write(0, target.header[0]);
        frame.write(8, target.header[1] as u32);
        frame.write(12, if V6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 });
    }
    maps::count(Outcome::SynCookieSent);
    Some(transmit(ctx, target))
}

/// A cookie of the listener that the packet is for: the sequence number, and above it the segment
/// size that it holds.
#[inline(always)]
fn cookie<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    ports: u32,
    header: &mut [u32; WORDS],
) -> Option<u64> {
    // Read anew, so that the compiler cannot tell from what was compared before that the mask does
    // nothing: the verifier needs the bounds in this very register.
    // SAFETY: byte 12 of the copy.
    let offset = unsafe { header.as_ptr().cast::<u8>().add(12).read_volatile() } >> 4;
    let header_len = 20 + (u32::from(offset).wrapping_sub(5) & 0xf) * 4;
    let make = |socket: Held| {
        if !socket.is_listener() {
            return -1;
        }
        let ip = (frame.data + ETHERNET_LEN) as *mut c_void;
        let tcp = header.as_mut_ptr().cast::<tcphdr>();
        // SAFETY: the caller asked for the IP header, and the copy of the other has its length.
        unsafe {
            bpf_tcp_gen_syncookie(socket.as_ptr(), ip, ip_len::<V6>() as u32, tcp, header_len)
        }
    };
    // SAFETY: as above.
    let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
    socket::with::<V6, _>(ctx, &ip, ports, make).and_then(|cookie| u64::try_from(cookie).ok())
}

/// Makes the IPv4 header that of the answer; returns the sum of the pseudo-header.
#[inline(always)]
fn turn_v4(frame: Frame) -> u64 {
    const TOTAL: u32 = 20 + ANSWER_LEN as u32;
    // SAFETY: the caller asked for the whole answer.
    unsafe {
        let source = frame.read::<u32>(ETHERNET_LEN + 12);
        let destination = frame.read::<u32>(ETHERNET_LEN + 16);
        let words = [
            (0x4500_0000 | TOTAL).to_be(),
            // Do not fragment; then no identification is needed (RFC 6864 §4.1).
            0x4000_u32.to_be(),
            (64 << 24 | u32::from(TCP) << 16).to_be(),
            destination,
            source,
        ];
        let mut sum = 0;
        for (n, word) in words.iter().enumerate() {
            sum += u64::from(*word);
            frame.write(ETHERNET_LEN + n * 4, *word);
        }
        frame.write(ETHERNET_LEN + 10, checksum(sum));
        u64::from(source) + u64::from(destination) + pseudo()
    }
}

/// The same for IPv6.
#[inline(always)]
fn turn_v6(frame: Frame) -> u64 {
    // SAFETY: the caller asked for the whole answer.
    unsafe {
        frame.write(ETHERNET_LEN, (6_u32 << 28).to_be());
        let rest = (ANSWER_LEN as u32) << 16 | u32::from(TCP) << 8 | 64;
        frame.write(ETHERNET_LEN + 4, rest.to_be());
        let mut sum = pseudo();
        for word in 0..4 {
            let (source, destination) = (ETHERNET_LEN + 8 + word * 4, ETHERNET_LEN + 24 + word * 4);
            let (from, to) = (frame.read::<u32>(source), frame.read::<u32>(destination));
            frame.write(source, to);
            frame.write(destination, from);
            sum += u64::from(from) + u64::from(to);
        }
        sum
    }
}

/// Protocol and length, as every pseudo-header has them (RFC 9293 §3.1).
#[inline(always)]
fn pseudo() -> u64 {
    u64::from((u32::from(TCP) << 16 | ANSWER_LEN as u32).to_be())
}

/// Folds a sum of 32-bit words and completes it.
#[inline(always)]
fn checksum(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    // Two halves of at most 16 bits each.
    !fold(((sum & 0xffff) + (sum >> 16)) as u32)
}
