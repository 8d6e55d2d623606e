//! The outer header, written once more: independent of the program, and compared with it.

use isocast_dataplane_common::{
    encap::{ETHERNET_LEN, OUTER_V4_LEN, OUTER_V6_LEN, UDP_LEN, entropy_port, hlen},
    tables::Target,
};

use super::{OuterHeader, Question, packet::put};
use crate::header::address_of;

/// What a packet decides of its outer header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    /// In network order.
    entropy: u16,
    flow_label: u32,
    traffic_class: u8,
    inner_protocol: u8,
    /// In network order.
    tenant: u32,
}

impl Outer {
    pub(super) fn of(question: &Question, hash: u64, tenant: u32) -> Self {
        const IPIP: u8 = 4;
        const IPV6: u8 = 41;
        Self {
            entropy: entropy_port(hash),
            flow_label: (hash & 0xf_ffff) as u32,
            traffic_class: question.traffic_class(),
            inner_protocol: if question.source().is_ipv4() { IPIP } else { IPV6 },
            tenant,
        }
    }

    /// The frame that leaves with `inner` in it.
    pub(super) fn encapsulate(
        self,
        target: &Target,
        hop: Option<&Target>,
        inner: &[u8],
    ) -> (OuterHeader, Vec<u8>) {
        let is_v6 = target.flags & Target::IPV6 != 0;
        let template: Vec<u8> = target.header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let fixed = if is_v6 { OUTER_V6_LEN } else { OUTER_V4_LEN };
        let mut frame = template.get(..ETHERNET_LEN + fixed).unwrap_or_default().to_vec();
        let words: Vec<u8> =
            hop.iter().flat_map(|hop| hop.address).flat_map(u32::to_ne_bytes).collect();
        let hop_word = match words.get(if is_v6 { 0.. } else { 12.. }) {
            Some(word) if hop.is_some() => word,
            _ => &[],
        };
        frame.extend(hop_word);
        let header_len = fixed + hop_word.len();
        let packet_len = header_len + inner.len();
        self.patch(&mut frame, target, hop_word.len(), packet_len);
        frame.extend(inner);
        let (source, destination) = addresses(&template, is_v6);
        let outer = OuterHeader {
            source,
            destination,
            source_port: u16::from_be(self.entropy),
            header_len,
            packet_len,
            further_hop: hop.map(|hop| address_of(&hop.address)),
        };
        (outer, frame)
    }

    /// Fills in what is zero in the template.
    fn patch(self, frame: &mut [u8], target: &Target, hop_len: usize, packet_len: usize) {
        let len16 = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        let ip = ETHERNET_LEN;
        let udp = if target.flags & Target::IPV6 != 0 {
            let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
            put(frame, ip, &first.to_be_bytes());
            put(frame, ip + 4, &len16(packet_len - 40));
            put(frame, ip + 40 + 4, &len16(packet_len - 40));
            ip + 40
        } else {
            let total = len16(packet_len);
            let class = u16::from_ne_bytes([0, self.traffic_class]);
            let sum = target.ipv4_sum + u32::from(class) + u32::from(u16::from_ne_bytes(total));
            put(frame, ip + 1, &[self.traffic_class]);
            put(frame, ip + 2, &total);
            put(frame, ip + 10, &(!super::packet::fold(sum)).to_ne_bytes());
            put(frame, ip + 20 + 4, &len16(packet_len - 20));
            ip + 20
        };
        let gue = udp + UDP_LEN;
        put(frame, udp, &self.entropy.to_ne_bytes());
        put(frame, gue, &[hlen(hop_len), self.inner_protocol]);
        put(frame, gue + 4, &self.tenant.to_ne_bytes());
    }
}

/// Source and destination of a ready-made header.
fn addresses(template: &[u8], is_v6: bool) -> (std::net::IpAddr, std::net::IpAddr) {
    let (at, len) = if is_v6 { (ETHERNET_LEN + 8, 16) } else { (ETHERNET_LEN + 12, 4) };
    let read = |at: usize| -> std::net::IpAddr {
        let bytes = template.get(at..at + len).unwrap_or_default();
        match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(octets), _) => octets.into(),
            (_, Ok(octets)) => octets.into(),
            _ => std::net::Ipv4Addr::UNSPECIFIED.into(),
        }
    };
    (read(at), read(at + len))
}
