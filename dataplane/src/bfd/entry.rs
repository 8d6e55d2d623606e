//! An exchange as the kernel holds it: the answer is a whole IP packet, ready to be copied.

use std::{net::IpAddr, time::Duration};

use isocast_dataplane_common::bfd::{IPV4_WORDS, IPV6_WORDS, PACKET_WORDS, PORT, Session};

use super::{PACKET_BYTES, Reflection};
use crate::header::{address_of, address_words};

/// Our discriminator, as it lies in the peer's packets.
pub(super) fn key(reflection: &Reflection) -> u32 {
    let [_, ours, ..] = words::<PACKET_WORDS>(&reflection.answer);
    ours
}

pub(super) fn compose(reflection: &Reflection) -> Session {
    Session {
        peer: address_words(reflection.peer),
        local: address_words(reflection.local),
        expected: words(&reflection.expected),
        interface: reflection.interface,
        reserved: 0,
        gap_ns: u64::try_from(reflection.gap.as_nanos()).unwrap_or(u64::MAX),
        answer: words(&packet(reflection)),
    }
}

/// The reverse of [`compose`].
pub(super) fn read(session: &Session) -> Reflection {
    let local = address_of(&session.local);
    let header = if local.is_ipv4() { 20 } else { 40 };
    let packet = bytes::<{ IPV6_WORDS * 4 }>(&session.answer);
    let udp = packet.get(header..).unwrap_or_default();
    let source_port = udp.first_chunk().map_or(0, |port| u16::from_be_bytes(*port));
    let answer = udp.get(UDP_BYTES..).and_then(|payload| payload.first_chunk());
    Reflection {
        peer: address_of(&session.peer),
        local,
        interface: session.interface,
        source_port,
        expected: bytes(&session.expected),
        answer: answer.copied().unwrap_or([0; PACKET_BYTES]),
        gap: Duration::from_nanos(session.gap_ns),
    }
}

/// The answer from the IP header on.
fn packet(reflection: &Reflection) -> Vec<u8> {
    match reflection.local {
        IpAddr::V4(local) => {
            let mut header = Vec::with_capacity(IPV4_WORDS * 4);
            header.extend([0x45, TRAFFIC_CLASS, 0, LEN_V4, 0, 0, 0x40, 0, HOP_LIMIT, UDP, 0, 0]);
            header.extend(local.octets());
            header.extend(octets(reflection.peer));
            let sum = checksum(&header);
            header.splice(10..12, sum);
            header.extend(datagram(reflection));
            header
        }
        IpAddr::V6(local) => {
            let mut header = Vec::with_capacity(IPV6_WORDS * 4);
            header.extend([0x60 | TRAFFIC_CLASS >> 4, TRAFFIC_CLASS << 4, 0, 0]);
            header.extend([0, LEN_UDP, UDP, HOP_LIMIT]);
            header.extend(local.octets());
            header.extend(octets(reflection.peer));
            header.extend(datagram(reflection));
            header
        }
    }
}

fn datagram(reflection: &Reflection) -> Vec<u8> {
    let mut udp = Vec::with_capacity(UDP_BYTES + PACKET_BYTES);
    udp.extend(reflection.source_port.to_be_bytes());
    udp.extend(PORT.to_be_bytes());
    udp.extend([0, LEN_UDP, 0, 0]);
    udp.extend(reflection.answer);
    let mut covered = octets(reflection.local);
    covered.extend(octets(reflection.peer));
    covered.extend([0, UDP, 0, LEN_UDP]);
    covered.extend(&udp);
    let sum = match checksum(&covered) {
        // RFC 768: a sum of zero is sent as its other form; zero would say that there is none.
        [0, 0] => [0xff, 0xff],
        sum => sum,
    };
    udp.splice(6..8, sum);
    udp
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let (pairs, _) = bytes.as_chunks::<2>();
    let mut sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    let (chunks, _) = bytes.as_chunks::<4>();
    words.iter_mut().zip(chunks).for_each(|(word, bytes)| *word = u32::from_ne_bytes(*bytes));
    words
}

fn bytes<const N: usize>(words: &[u32]) -> [u8; N] {
    let mut bytes = [0; N];
    let (chunks, _) = bytes.as_chunks_mut::<4>();
    chunks.iter_mut().zip(words).for_each(|(bytes, word)| *bytes = word.to_ne_bytes());
    bytes
}

const UDP: u8 = 17;
const UDP_BYTES: usize = 8;
const HOP_LIMIT: u8 = 255;
/// Network control (CS6, RFC 4594 §3.1): the last that routers drop.
const TRAFFIC_CLASS: u8 = 0xc0;
const LEN_UDP: u8 = 32;
const LEN_V4: u8 = 52;

const _: () = assert!(LEN_UDP as usize == UDP_BYTES + PACKET_BYTES);
const _: () = assert!(LEN_V4 as usize == IPV4_WORDS * 4);

#[cfg(test)]
mod tests {
    use super::*;

    fn reflection(local: &str, peer: &str) -> Reflection {
        let mut answer = [0x11; PACKET_BYTES];
        answer[4..8].copy_from_slice(&[1, 2, 3, 4]);
        Reflection {
            peer: peer.parse().expect("peer"),
            local: local.parse().expect("local"),
            interface: 7,
            source_port: 50_001,
            expected: [0x22; PACKET_BYTES],
            answer,
            gap: Duration::from_millis(25),
        }
    }

    #[test]
    fn entries_survive_the_way_into_the_kernel_and_back() {
        for (local, peer) in [("10.0.0.1", "10.0.0.254"), ("2001:db8::1", "2001:db8::fe")] {
            let reflection = reflection(local, peer);

            assert_eq!(read(&compose(&reflection)), reflection);
            assert_eq!(key(&reflection).to_ne_bytes(), [1, 2, 3, 4]);
        }
    }

    #[test]
    fn checksums_of_the_answer_add_up() {
        let ipv4 = packet(&reflection("10.0.0.1", "10.0.0.254"));
        assert_eq!(checksum(&ipv4[..20]), [0, 0]);
        for (packet, addresses) in
            [(&ipv4, 12..20), (&packet(&reflection("2001:db8::1", "2001:db8::fe")), 8..40)]
        {
            let mut covered = packet[addresses.clone()].to_vec();
            covered.extend([0, UDP, 0, LEN_UDP]);
            covered.extend(&packet[addresses.end..]);
            assert_eq!(checksum(&covered), [0, 0]);
        }
    }
}
