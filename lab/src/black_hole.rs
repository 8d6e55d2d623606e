//! The briefest error a router may send: what RFC 792 asks of a quote, and not a byte more.
//!
//! Linux quotes as much as fits, so a scenario that wants to know whether eight bytes are enough
//! lets a router drop what is too long and has this told about it. Sends and receives on the
//! interfaces of the calling thread's namespace; meant for the lab alone.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Tells senders among `sources` of every packet longer than `mtu` that this node sees, for ever.
///
/// # Errors
/// When the kernel refuses: raw sockets need root.
pub fn tell(mtu: u16, sources: &[IpAddr]) -> io::Result<()> {
    const ALL_PROTOCOLS: u16 = 3;
    let all = Protocol::from(i32::from(ALL_PROTOCOLS.to_be()));
    let mut tap = Socket::new(Domain::PACKET, Type::DGRAM, Some(all))?;
    let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let v6 = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let len = tap.read(&mut buffer)?;
        let packet = buffer.get(..len).unwrap_or_default();
        let Some((source, message)) = error(packet, mtu) else { continue };
        if sources.contains(&source) {
            let sender = if source.is_ipv4() { &v4 } else { &v6 };
            sender.send_to(&message, &SocketAddr::new(source, 0).into())?;
        }
    }
}

/// Who is to be told of a packet, and how: fragmentation needed or packet too big (RFC 1191 §4,
/// RFC 4443 §3.2), with eight bytes behind the quoted header. The kernel adds ICMPv6 checksums.
fn error(packet: &[u8], mtu: u16) -> Option<(IpAddr, Vec<u8>)> {
    const BEHIND_HEADER: usize = 8;
    if packet.len() <= usize::from(mtu) {
        return None;
    }
    let (source, header, kind) = match packet.first()? >> 4 {
        4 => (IpAddr::from(octets::<4>(packet, 12)?), 20, [3, 4]),
        6 => (IpAddr::from(octets::<16>(packet, 8)?), 40, [2, 0]),
        _ => return None,
    };
    let mut message = [&kind[..], &[0, 0], &u32::from(mtu).to_be_bytes()].concat();
    message.extend(packet.get(..header + BEHIND_HEADER)?);
    if source.is_ipv4() {
        let sum = checksum(&message).to_be_bytes();
        message.get_mut(2..4)?.copy_from_slice(&sum);
    }
    Some((source, message))
}

fn octets<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..at + N)?.try_into().ok()
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok());
    let sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes(pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from(0xffff - ((folded & 0xffff) + (folded >> 16))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: usize) -> Vec<u8> {
        let mut packet: Vec<u8> = [&[0x45, 0, 0, 0][..], &[0; 8], &[192, 0, 2, 1]].concat();
        packet.resize(len, 7);
        packet
    }

    #[test]
    fn quote_ends_eight_bytes_behind_the_header() {
        let (source, message) = error(&packet(1301), 1300).unwrap();

        assert_eq!(source, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(message.len(), 8 + 28);
        assert_eq!(checksum(&message), 0);
        assert_eq!(message[4..8], [0, 0, 5, 20]);
    }

    #[test]
    fn what_fits_and_what_is_no_packet_is_passed_over() {
        assert_eq!(error(&packet(1300), 1300), None);
        assert_eq!(error(&[0; 1301], 1300), None);
        assert_eq!(error(&[0x60; 30], 20), None);
    }
}
