//! Fragments: only the first has ports, so all of them go where addresses and protocol say.
//!
//! Which service they are for is told by (VIP, protocol): there is at most one that takes
//! fragments. A first fragment must be for one of its ports, at the edge and again where it leaves
//! the tunnel; later ones are worth nothing without it.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use isocast_dataplane_common::{
    Outcome,
    directory::{Key, Space},
    encap::ETHERNET_LEN,
};

use crate::{
    capture::Served,
    edge::Part,
    longer,
    maps::Generation,
    packet::{Frame, Ip, TCP, destination_port, ip_len},
    task,
};

/// One piece of a packet.
struct Piece {
    protocol: u8,
    /// In units of eight bytes.
    offset: u16,
}

const FRAGMENT_HEADER_LEN: usize = 8;

impl Piece {
    /// Reads the piece at `at`; the fixed header is within bounds.
    #[inline(always)]
    fn read<const V6: bool>(frame: Frame, at: usize, ip: &Ip) -> Result<Self, Outcome> {
        let header = at + ip_len::<V6>();
        if V6 && !frame.has(header + FRAGMENT_HEADER_LEN) {
            return Err(Outcome::Malformed);
        }
        // SAFETY: the caller's promise, and asked for right above.
        unsafe {
            if V6 {
                let offset = u16::from_be(frame.read(header + 2)) >> 3;
                Ok(Self { protocol: frame.read(header), offset })
            } else if frame.read::<u8>(at) != 0x45 {
                Err(Outcome::IpOptions)
            } else {
                let offset = u16::from_be(frame.read(at + 6)) & 0x1fff;
                Ok(Self { protocol: ip.protocol, offset })
            }
        }
    }

    /// Ports as they lie in memory, in the first piece. Only TCP and UDP get here: nobody takes
    /// fragments of anything else.
    #[inline(always)]
    fn ports<const V6: bool>(&self, frame: Frame, at: usize) -> Result<Option<u32>, Outcome> {
        let transport = at + ip_len::<V6>() + if V6 { FRAGMENT_HEADER_LEN } else { 0 };
        match self.offset {
            0 if !frame.has(transport + 8) => Err(Outcome::Malformed),
            // SAFETY: asked for right above.
            0 => Ok(Some(unsafe { frame.read(transport) })),
            // RFC 1858 §3.2: it would write over the flags of the first.
            1 if self.protocol == TCP => Err(Outcome::Malformed),
            _ => Ok(None),
        }
    }
}

/// Forwards a fragment that was sent to a VIP over IPv4.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn fragment_v4(ctx: *mut xdp_md, half: u32) -> u32 {
    let generation = Generation::of_half(half);
    let forward =
        |frame, ip: &Ip, served: &mut Served| forward::<false>(ctx, generation, frame, ip, served);
    task::carry_on::<false>(ctx, forward)
}

/// The same over IPv6.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn fragment_v6(ctx: *mut xdp_md, half: u32) -> u32 {
    let generation = Generation::of_half(half);
    let forward =
        |frame, ip: &Ip, served: &mut Served| forward::<true>(ctx, generation, frame, ip, served);
    task::carry_on::<true>(ctx, forward)
}

#[inline(always)]
fn forward<const V6: bool>(
    ctx: *mut xdp_md,
    generation: Generation,
    frame: Frame,
    ip: &Ip,
    served: &mut Served,
) -> Result<u32, Outcome> {
    let piece = Piece::read::<V6>(frame, ETHERNET_LEN, ip)?;
    let key = Key::new(Space::Fragments, &ip.destination, 0, piece.protocol, 0);
    let service = generation.find(&key).ok_or(Outcome::Fragment)?;
    if let Some(ports) = piece.ports::<V6>(frame, ETHERNET_LEN)? {
        let port = destination_port(ports);
        let key = Key::new(Space::Listener, &ip.destination, 0, piece.protocol, port);
        let listener = generation.find(&key).ok_or(Outcome::UnlistedPort)?;
        if listener.service != service.service {
            return Err(Outcome::Fragment);
        }
    }
    let flow = Ip { protocol: piece.protocol, ..*ip };
    let ctx = XdpContext::new(ctx);
    longer::send_part::<V6>(&ctx, frame, generation, &flow, 0, service, Part::Fragment, served)
}

/// Whether a fragment may leave the tunnel here.
#[inline(always)]
pub fn accept<const V6: bool>(
    frame: Frame,
    at: usize,
    generation: Generation,
    ip: &Ip,
    tenant: u32,
) -> Result<(), Outcome> {
    let piece = Piece::read::<V6>(frame, at, ip)?;
    let protocol = piece.protocol;
    let key = Key::new(Space::AcceptFragments, &ip.destination, tenant, protocol, 0);
    generation.find(&key).ok_or(Outcome::Fragment)?;
    if let Some(ports) = piece.ports::<V6>(frame, at)? {
        let port = destination_port(ports);
        let key = Key::new(Space::Accept, &ip.destination, tenant, protocol, port);
        generation.find(&key).ok_or(Outcome::UnlistedDestination)?;
    }
    Ok(())
}
