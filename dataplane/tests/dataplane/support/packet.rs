//! Builds packets, byte by byte and independently of the code under test.

#![expect(clippy::cast_possible_truncation, reason = "packets of tests are small")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// Who talks to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) port: u16,
}

pub(crate) fn flow(source: &str, destination: &str, port: u16) -> Flow {
    Flow {
        source: source.parse().expect("source"),
        destination: destination.parse().expect("destination"),
        source_port: 40_000,
        port,
    }
}

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// An IP packet with a TCP segment.
pub(crate) fn tcp(flow: Flow, flags: u8, class: u8) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(flow.source_port.to_be_bytes());
    segment.extend(flow.port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(b"hello");
    let sum = transport_checksum(flow, 6, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(flow.source, flow.destination, 6, class, &segment)
}

/// An IP packet with a TCP segment without data; `options` fill whole words.
pub(crate) fn tcp_with_options(flow: Flow, flags: u8, options: &[u8]) -> Vec<u8> {
    let words = 5 + (options.len() / 4) as u8;
    let mut segment = Vec::new();
    segment.extend(flow.source_port.to_be_bytes());
    segment.extend(flow.port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, words << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(options);
    let sum = transport_checksum(flow, 6, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(flow.source, flow.destination, 6, 0, &segment)
}

/// An IP packet with a UDP datagram.
pub(crate) fn udp(flow: Flow, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(flow.source_port.to_be_bytes());
    datagram.extend(flow.port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = transport_checksum(flow, 17, &datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(flow.source, flow.destination, 17, 0, &datagram)
}

/// An echo request, or with `reply` its answer.
pub(crate) fn echo(flow: Flow, reply: bool) -> Vec<u8> {
    let kind = match (flow.source.is_ipv4(), reply) {
        (true, false) => 8,
        (true, true) => 0,
        (false, false) => 128,
        (false, true) => 129,
    };
    let rest = [&[0x12, 0x34, 0, 1], &b"are you there"[..]].concat();
    icmp(flow.source, flow.destination, [kind, 0], &rest)
}

/// An ICMP or ICMPv6 message with `rest` behind type, code and checksum.
pub(crate) fn icmp(source: IpAddr, destination: IpAddr, kind: [u8; 2], rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind[0], kind[1], 0, 0];
    message.extend(rest);
    let flow = Flow { source, destination, source_port: 0, port: 0 };
    let (protocol, sum) = match source {
        IpAddr::V4(_) => (1, checksum(&message)),
        IpAddr::V6(_) => (58, transport_checksum(flow, 58, &message)),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(source, destination, protocol, 0, &message)
}

/// "Fragmentation needed" or "packet too big", with a quote.
pub(crate) fn too_big(source: IpAddr, destination: IpAddr, mtu: u32, quote: &[u8]) -> Vec<u8> {
    let kind = if source.is_ipv4() { [3, 4] } else { [2, 0] };
    icmp(source, destination, kind, &[&mtu.to_be_bytes(), quote].concat())
}

/// An IP header and what follows it.
pub(crate) fn ip(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    class: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend([0x45, class]);
            packet.extend((20 + payload.len() as u16).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = checksum(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet.extend((6 << 28 | u32::from(class) << 20).to_be_bytes());
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => panic!("two families"),
    }
    packet.extend(payload);
    packet
}

/// Puts an Ethernet header before an IP packet.
pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to);
    frame.extend(from);
    frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

/// Packet flags of the tunnel.
pub(crate) const SECOND_HOP: u8 = 2;
pub(crate) const RETURNS: u8 = 8;

/// The tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tunnel {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) tenant: u32,
    pub(crate) flags: u8,
    pub(crate) key_tag: [u8; 4],
    /// The first ones, as many as there are.
    pub(crate) hops: [Option<IpAddr>; 3],
    pub(crate) class: u8,
}

/// Further hops.
pub(crate) fn hops(addresses: &[&str]) -> [Option<IpAddr>; 3] {
    std::array::from_fn(|at| addresses.get(at).map(|text| text.parse().expect("address")))
}

/// Puts an IP packet into the tunnel; the IPv6 flow label is left zero.
pub(crate) fn encapsulate(tunnel: &Tunnel, inner: &[u8]) -> Vec<u8> {
    let hops: Vec<u8> = tunnel
        .hops
        .into_iter()
        .flatten()
        .flat_map(|hop| match hop {
            IpAddr::V4(hop) => hop.octets().to_vec(),
            IpAddr::V6(hop) => hop.octets().to_vec(),
        })
        .collect();
    let inner_protocol = if inner[0] >> 4 == 4 { 4 } else { 41 };
    let mut datagram = Vec::new();
    datagram.extend(tunnel.source_port.to_be_bytes());
    datagram.extend(6080_u16.to_be_bytes());
    datagram.extend((8 + 12 + hops.len() as u16 + inner.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend([2 + (hops.len() / 4) as u8, inner_protocol, 0, 0]);
    datagram.extend((tunnel.tenant << 8 | u32::from(tunnel.flags)).to_be_bytes());
    datagram.extend(tunnel.key_tag);
    datagram.extend(hops);
    datagram.extend(inner);
    ip(tunnel.source, tunnel.destination, 17, tunnel.class, &datagram)
}

/// The other direction.
pub(crate) fn reverse(flow: Flow) -> Flow {
    Flow {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.port,
        port: flow.source_port,
    }
}

pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn transport_checksum(flow: Flow, protocol: u8, payload: &[u8]) -> u16 {
    let mut bytes = Vec::new();
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    };
    bytes.extend(octets(flow.source));
    bytes.extend(octets(flow.destination));
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(u32::from(protocol).to_be_bytes());
    bytes.extend(payload);
    checksum(&bytes)
}
