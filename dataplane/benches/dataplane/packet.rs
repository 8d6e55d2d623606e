//! The packets that are fed, and what a header holds.

use std::net::IpAddr;

pub(crate) const ETHERNET: usize = 14;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const SYN: u8 = 0x02;

/// One frame, and where the fields are that make its flow.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    /// Of the last word of the source address.
    pub(crate) source_at: usize,
    pub(crate) port_at: usize,
}

/// A client's packet to a service. IPv4 frames have 64 bytes, IPv6 frames 78.
pub(crate) fn client(destination: IpAddr, protocol: u8, port: u16, flags: u8) -> Packet {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let (len, source_at) = match destination {
        IpAddr::V4(destination) => {
            bytes.extend([0x08, 0x00, 0x45, 0, 0, 50, 0, 0, 0x40, 0, 60, protocol, 0, 0]);
            bytes.extend([20, 0, 0, 0]);
            bytes.extend(destination.octets());
            let sum = checksum(bytes.get(ETHERNET..).unwrap_or_default());
            if let Some(field) = bytes.get_mut(24..26) {
                field.copy_from_slice(&sum.to_be_bytes());
            }
            (64, 26)
        }
        IpAddr::V6(destination) => {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, protocol, 60]);
            bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0]);
            bytes.extend(destination.octets());
            (78, 34)
        }
    };
    let port_at = bytes.len();
    bytes.extend(1024_u16.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    if protocol == UDP {
        bytes.extend([0, 30, 0xbe, 0xef]);
    } else {
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 2, 0, 0xbe, 0xef, 0, 0]);
    }
    bytes.resize(len, 0xa5);
    Packet { bytes, source_at, port_at }
}

impl Packet {
    /// What the driver makes of it for a flow.
    pub(crate) fn of_flow(&self, flow: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some([_, low @ ..]) = bytes.get_mut(self.source_at..self.source_at + 4) {
            let [_, flow @ ..] = flow.to_be_bytes();
            low.copy_from_slice(&flow);
        }
        if let Some(port) = bytes.get_mut(self.port_at..self.port_at + 2) {
            let [.., low] = (1024 + (flow >> 24 << 7 | flow & 0x7f)).to_be_bytes();
            let [_, _, high, _] = (1024 + (flow >> 24 << 7 | flow & 0x7f)).to_be_bytes();
            port.copy_from_slice(&[high, low]);
        }
        bytes
    }
}

/// RFC 1071; 0 over a header with a right checksum.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}
