//! Reads the tunnel header of a frame, for people: [`TunnelHeader`].

use std::net::IpAddr;

use isocast_dataplane_common::{
    CHAIN_HOPS,
    encap::{
        ETHERNET_LEN, FLAG_COOKIE, FLAG_PROBE, FLAG_RETURNS, FLAG_SECOND_HOP, GUE_LEN, HOP_V4_LEN,
        HOP_V6_LEN, PORT, UDP_LEN,
    },
};

/// What a frame's tunnel header says, but for the key tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelHeader {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// The isolation domain.
    pub tenant: u32,
    /// Packet flags.
    pub flags: u8,
    /// Who is asked in turn if the destination does not know the flow.
    pub further_hops: Vec<IpAddr>,
}

/// Names of packet flags.
const FLAGS: [(u8, &str); 4] = [
    (FLAG_PROBE, "probe"),
    (FLAG_SECOND_HOP, "second-hop"),
    (FLAG_COOKIE, "cookie"),
    (FLAG_RETURNS, "returns"),
];

impl TunnelHeader {
    /// The header of a frame; `None`: it is not in a tunnel, or is cut off within the header.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(ETHERNET_LEN..)?;
        let (source, destination, protocol, ip_len, hop_len) =
            match frame.get(ETHERNET_LEN - 2..ETHERNET_LEN)? {
                [0x08, 0x00] if ip.first() == Some(&0x45) => {
                    (address(ip, 12, 4)?, address(ip, 16, 4)?, *ip.get(9)?, 20, HOP_V4_LEN)
                }
                [0x86, 0xdd] => {
                    (address(ip, 8, 16)?, address(ip, 24, 16)?, *ip.get(6)?, 40, HOP_V6_LEN)
                }
                _ => return None,
            };
        let udp = ip.get(ip_len..)?;
        let gue = udp.get(UDP_LEN..)?;
        if protocol != 17 || udp.get(2..4)? != PORT.to_be_bytes() {
            return None;
        }
        // Version 0, data, and no flags but those of the packet (draft-ietf-intarea-gue-09 §3).
        let [shape @ 0..0x20, 4 | 41, 0, 0, a, b, c, flags] = *gue.first_chunk::<8>()? else {
            return None;
        };
        let hops_len = (usize::from(shape) * 4 + 4).checked_sub(GUE_LEN)?;
        if !hops_len.is_multiple_of(hop_len) || hops_len / hop_len > CHAIN_HOPS {
            return None;
        }
        let hops = gue.get(GUE_LEN..GUE_LEN + hops_len)?.chunks_exact(hop_len);
        Some(Self {
            source,
            destination,
            tenant: u32::from_be_bytes([0, a, b, c]),
            flags,
            further_hops: hops.filter_map(|hop| address(hop, 0, hop_len)).collect(),
        })
    }

    /// The flags that are set, by name; one that has none by its number.
    #[must_use]
    pub fn flag_names(flags: u8) -> Vec<String> {
        let bits = (0..8).map(|bit| 1_u8 << bit).filter(|bit| flags & bit != 0);
        let name = |bit: u8| FLAGS.iter().find(|(flag, _)| *flag == bit).map(|(_, name)| *name);
        bits.map(|bit| name(bit).map_or_else(|| format!("{bit:#04x}"), str::to_owned)).collect()
    }
}

/// An address of 4 or 16 bytes.
pub(crate) fn address(bytes: &[u8], at: usize, len: usize) -> Option<IpAddr> {
    let bytes = bytes.get(at..at + len)?;
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(octets), _) => Some(octets.into()),
        (_, Ok(octets)) => Some(octets.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, an outer header with two further hops, and nothing behind it.
    fn frame() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 48, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 1, 0, 2]);
        frame.extend([0xc0, 0, 0x17, 0xc0, 0, 28, 0, 0]);
        frame.extend([4, 4, 0, 0, 0, 0, 5, FLAG_COOKIE, 0xde, 0xad, 0xbe, 0xef]);
        frame.extend([10, 1, 0, 3, 10, 1, 0, 4]);
        frame
    }

    #[test]
    fn header_has_tenant_flags_and_further_hops() {
        let header = TunnelHeader::read(&frame()).expect("a tunnel header");

        let addresses = [[10, 0, 0, 1], [10, 1, 0, 2]].map(IpAddr::from);
        assert_eq!([header.source, header.destination], addresses);
        assert_eq!((header.tenant, header.flags), (5, FLAG_COOKIE));
        assert_eq!(header.further_hops, [[10, 1, 0, 3], [10, 1, 0, 4]].map(IpAddr::from));
    }

    #[test]
    fn what_is_cut_off_or_of_another_shape_is_no_header() {
        let whole = frame();
        for len in 0..whole.len() {
            assert_eq!(TunnelHeader::read(&whole[..len]), None, "{len} bytes");
        }
        let at = |offset: usize, byte: u8| {
            let mut frame = whole.clone();
            frame[ETHERNET_LEN + offset] = byte;
            TunnelHeader::read(&frame)
        };
        // Options, TCP, another port, a version, a control message, no hops to be told, flags.
        for (offset, byte) in [(0, 0x46), (9, 6), (23, 0), (28, 0x44), (28, 0x24), (28, 1), (30, 1)]
        {
            assert_eq!(at(offset, byte), None, "{byte} at {offset}");
        }
        // Beyond three hops.
        let mut long = whole.clone();
        long[ETHERNET_LEN + 28] = 6;
        long.extend([0; 32]);
        assert_eq!(TunnelHeader::read(&long), None);
    }

    #[test]
    fn flags_have_names() {
        assert_eq!(TunnelHeader::flag_names(0), [""; 0]);
        assert_eq!(TunnelHeader::flag_names(0x4e), ["second-hop", "cookie", "returns", "0x40"]);
    }
}
