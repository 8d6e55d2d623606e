//! Lowers the segment size that a TCP handshake offers (RFC 9293 §3.7.1), for paths on which
//! packet-too-big messages get lost.
//!
//! What clients offer bounds what backends send, and passes the edge. What backends offer bounds
//! what clients send, which is what goes through the tunnel; it passes nobody but the backend
//! itself, at egress.

use aya_ebpf::{
    bindings::xdp_md,
    programs::{TcContext, XdpContext},
};
use isocast_dataplane_common::{
    Outcome,
    directory::{Address, Key, Space},
    encap::ETHERNET_LEN,
    tables::ECHO_V4,
};

use crate::{
    header::fold,
    maps::{self, Generation},
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Ip, TCP, ip_len, opens_connection},
};

/// TCP header without options.
const TCP_LEN: usize = 20;
/// Where the checksum lies in it.
const CHECKSUM: usize = 16;
/// No header is longer; the verifier needs to be told.
const HEADER_MAX: usize = 60;
/// Options that are looked at: the segment size is among the first that any host sends.
const OPTIONS_MAX: usize = 8;

/// Lowers what a client's handshake offers, if the packet is one, to what fits `room`.
#[inline(always)]
pub fn clamp<const V6: bool>(ctx: &XdpContext, generation: Generation, room: u32) {
    if V6 {
        clamp_v6(ctx.ctx, generation.half(), room);
    } else {
        clamp_v4(ctx.ctx, generation.half(), room);
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn clamp_v4(ctx: *mut xdp_md, half: u32, room: u32) -> u32 {
    incoming::<false>(Frame::of_argument(ctx), Generation::of_half(half), room)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn clamp_v6(ctx: *mut xdp_md, half: u32, room: u32) -> u32 {
    incoming::<true>(Frame::of_argument(ctx), Generation::of_half(half), room)
}

/// The service is the destination. Counts what was lowered: 0 or 1.
#[inline(always)]
fn incoming<const V6: bool>(frame: Frame, generation: Generation, room: u32) -> u32 {
    let at = ETHERNET_LEN + ip_len::<V6>();
    if !frame.has(at + TCP_LEN) || !opens_connection(frame, at) {
        return 0;
    }
    // SAFETY: asked for right above.
    let (ip, port) = unsafe { (Ip::read::<V6>(frame, ETHERNET_LEN), frame.read(at + 2)) };
    let Some(largest) = largest::<V6>(generation, &ip.destination, port, room) else { return 0 };
    let Some(found) = find(frame, at) else { return 0 };
    if found.size() <= largest {
        return 0;
    }
    let (old, new) = found.change(largest);
    // SAFETY: the option is within bounds, and so is the fixed header.
    unsafe {
        found.option.write(2, largest.to_be());
        // RFC 1624, equation 3.
        let sum = u32::from(!frame.read::<u16>(at + CHECKSUM)) + u32::from(!old) + u32::from(new);
        frame.write(at + CHECKSUM, !fold(sum));
    }
    maps::count(Outcome::SegmentSizeClamped);
    1
}

/// What an answer may offer that is made to the handshake at hand instead of the backend's own, in
/// place of `size`. The fixed IP header is within bounds.
#[inline(always)]
pub fn offered<const V6: bool>(
    generation: Generation,
    frame: Frame,
    port: u16,
    room: u32,
    size: u16,
) -> u16 {
    // SAFETY: the caller's promise.
    let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
    match largest::<V6>(generation, &ip.destination, port, room) {
        Some(largest) if largest < size => {
            maps::count(Outcome::SegmentSizeClamped);
            largest
        }
        _ => size,
    }
}

/// At egress of a backend: lowers what it offers itself.
#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<(), Outcome> {
    let frame = Frame { data: ctx.data(), end: ctx.data_end() };
    if !frame.has(ETHERNET_LEN + ip_len::<false>() + TCP_LEN) {
        return Ok(());
    }
    // SAFETY: asked for right above.
    match unsafe { frame.read::<u16>(12) } {
        ETHERTYPE_IPV4 => outgoing::<false>(ctx, frame),
        ETHERTYPE_IPV6 => outgoing::<true>(ctx, frame),
        _ => Ok(()),
    }
}

/// The service is the source.
#[inline(always)]
fn outgoing<const V6: bool>(ctx: &TcContext, frame: Frame) -> Result<(), Outcome> {
    let at = ETHERNET_LEN + ip_len::<V6>();
    if !frame.has(at + TCP_LEN) {
        return Ok(());
    }
    // SAFETY: asked for right above.
    let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
    if ip.oddity.is_some() || ip.protocol != TCP || !opens_connection(frame, at) {
        return Ok(());
    }
    // SAFETY: asked for above.
    let port = unsafe { frame.read(at) };
    let room = maps::target(ECHO_V4)?.room;
    let Some(largest) = largest::<V6>(Generation::in_force()?, &ip.source, port, room) else {
        return Ok(());
    };
    let Some(found) = find(frame, at) else { return Ok(()) };
    if found.size() <= largest {
        return Ok(());
    }
    let (old, new) = found.change(largest);
    let (offset, size) = (at + found.offset + 2, largest.to_be());
    // The helper knows whether the checksum is complete, or left to the interface.
    ctx.l4_csum_replace(at + CHECKSUM, u64::from(old), u64::from(new), 2)
        .and_then(|()| ctx.store(offset, &size, 0))
        .map_err(|_| Outcome::TablesInconsistent)?;
    maps::count(Outcome::SegmentSizeClamped);
    Ok(())
}

/// The largest segment that may be offered, if the service bounds it.
#[inline(always)]
fn largest<const V6: bool>(
    generation: Generation,
    service: &Address,
    port: u16,
    room: u32,
) -> Option<u16> {
    let ceiling = generation.find(&Key::new(Space::SegmentSize, service, 0, TCP, port))?;
    let headers = (ip_len::<V6>() + TCP_LEN) as u32;
    Some(u32::from(ceiling.index).min(room.saturating_sub(headers)) as u16)
}

/// The option that offers a segment size.
struct Found {
    /// Where it lies in the TCP header.
    offset: usize,
    /// The packet from there on; four bytes are within bounds.
    option: Frame,
}

impl Found {
    #[inline(always)]
    fn size(&self) -> u16 {
        // SAFETY: by construction.
        u16::from_be(unsafe { self.option.read(2) })
    }

    /// What changes in the sum of the header's words. At an odd place the two bytes belong to two
    /// words of the sum, which then is the same with the bytes of each swapped (RFC 1071 §2).
    #[inline(always)]
    fn change(&self, largest: u16) -> (u16, u16) {
        let (old, new) = (self.size().to_be(), largest.to_be());
        match self.offset % 2 {
            0 => (old, new),
            _ => (old.swap_bytes(), new.swap_bytes()),
        }
    }
}

/// Looks for the option in the header at `at`, whose fixed part is within bounds.
#[inline(always)]
fn find(frame: Frame, at: usize) -> Option<Found> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    const SEGMENT_SIZE_LEN: u8 = 4;
    // SAFETY: the caller asked for the fixed header.
    let header_len = usize::from(unsafe { frame.read::<u8>(at + 12) } >> 4) * 4;
    let mut offset = TCP_LEN;
    for _ in 0..OPTIONS_MAX {
        if offset + 4 > header_len || offset > HEADER_MAX {
            return None;
        }
        let option = frame.beyond(at + offset);
        if !option.has(4) {
            return None;
        }
        // SAFETY: asked for right above.
        let (kind, len) = unsafe { (option.read::<u8>(0), option.read::<u8>(1)) };
        match (kind, len) {
            (END, _) => return None,
            (NOTHING, _) => offset += 1,
            (SEGMENT_SIZE, SEGMENT_SIZE_LEN) => return Some(Found { offset, option }),
            (_, 0 | 1) => return None,
            _ => offset += usize::from(len),
        }
    }
    None
}
