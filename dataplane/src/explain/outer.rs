//! The outer header, written once more: independent of the program, and compared with it.

use std::net::{IpAddr, Ipv4Addr};

use isocast_dataplane_common::{
    directory::Address,
    encap::{
        ETHERNET_LEN, OUTER_V4_LEN, OUTER_V6_LEN, PLAIN_V4_LEN, PLAIN_V6_LEN, UDP_LEN,
        entropy_port, hlen, tenant_word,
    },
    tables::Target,
};

use super::{OuterHeader, Question, packet::put};
use crate::{
    header::{address_of, encap_of},
    tables::Encap,
    tunnel::address,
};

/// What a packet decides of its outer header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    /// In network order.
    entropy: u16,
    flow_label: u32,
    traffic_class: u8,
    inner_protocol: u8,
    tenant: u32,
    flags: u8,
}

impl Outer {
    pub(super) fn of(question: &Question, hash: u64, tenant: u32, flags: u8) -> Self {
        const IPIP: u8 = 4;
        const IPV6: u8 = 41;
        Self {
            entropy: entropy_port(hash),
            flow_label: (hash & 0xf_ffff) as u32,
            traffic_class: question.traffic_class(),
            inner_protocol: if question.source().is_ipv4() { IPIP } else { IPV6 },
            tenant,
            flags,
        }
    }

    /// The frame that leaves with `inner` in it.
    pub(super) fn encapsulate(
        self,
        target: &Target,
        hops: &[Address],
        inner: &[u8],
    ) -> (OuterHeader, Vec<u8>) {
        let is_v6 = target.flags & Target::IPV6 != 0;
        let template: Vec<u8> = target.header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let is_plain = encap_of(target.flags) == Encap::Ip;
        let fixed = match (is_plain, is_v6) {
            (false, false) => OUTER_V4_LEN,
            (false, true) => OUTER_V6_LEN,
            (true, false) => PLAIN_V4_LEN,
            (true, true) => PLAIN_V6_LEN,
        };
        let mut frame = template.get(..ETHERNET_LEN + fixed).unwrap_or_default().to_vec();
        // An IPv4 address is the last of the four words.
        let skipped = if is_v6 { 0 } else { 3 };
        let words = hops.iter().flat_map(|hop| hop.iter().skip(skipped));
        frame.extend(words.flat_map(|word| word.to_ne_bytes()));
        let header_len = frame.len().saturating_sub(ETHERNET_LEN);
        let packet_len = header_len + inner.len();
        self.patch_ip(&mut frame, target, packet_len);
        if !is_plain {
            let ip = ETHERNET_LEN + if is_v6 { 40 } else { 20 };
            self.patch_tunnel(&mut frame, ip, header_len - fixed, packet_len);
        }
        frame.extend(inner);
        let (source, destination) = addresses(&template, is_v6);
        let outer = OuterHeader {
            source,
            destination,
            source_port: (!is_plain).then(|| u16::from_be(self.entropy)),
            header_len,
            packet_len,
            further_hops: hops.iter().map(address_of).collect(),
            flags: if is_plain { 0 } else { self.flags },
        };
        (outer, frame)
    }

    /// Fills in what is zero in the template's IP header.
    fn patch_ip(self, frame: &mut [u8], target: &Target, packet_len: usize) {
        let ip = ETHERNET_LEN;
        let is_plain = encap_of(target.flags) == Encap::Ip;
        let protocol = if is_plain { self.inner_protocol } else { 0 };
        if target.flags & Target::IPV6 != 0 {
            let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
            put(frame, ip, &first.to_be_bytes());
            put(frame, ip + 4, &len16(packet_len - 40));
            if is_plain {
                put(frame, ip + 6, &[protocol]);
            }
        } else {
            let total = len16(packet_len);
            let words = [[0, self.traffic_class], [0, protocol], total];
            let words = words.into_iter().map(|word| u32::from(u16::from_ne_bytes(word)));
            let sum = target.ipv4_sum + words.sum::<u32>();
            put(frame, ip + 1, &[self.traffic_class]);
            put(frame, ip + 2, &total);
            if is_plain {
                put(frame, ip + 9, &[protocol]);
            }
            put(frame, ip + 10, &(!super::packet::fold(sum)).to_ne_bytes());
        }
    }

    /// The same of what follows it in the tunnel of agents.
    fn patch_tunnel(self, frame: &mut [u8], udp: usize, hops_len: usize, packet_len: usize) {
        let gue = udp + UDP_LEN;
        put(frame, udp, &self.entropy.to_ne_bytes());
        put(frame, udp + 4, &len16(packet_len + ETHERNET_LEN - udp));
        put(frame, gue, &[hlen(hops_len), self.inner_protocol]);
        put(frame, gue + 4, &tenant_word(self.tenant, self.flags).to_ne_bytes());
    }
}

fn len16(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// The outer source of what is sent to a target.
pub(super) fn source(target: &Target) -> IpAddr {
    let template: Vec<u8> = target.header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    addresses(&template, target.flags & Target::IPV6 != 0).0
}

/// Source and destination of a ready-made header.
fn addresses(template: &[u8], is_v6: bool) -> (IpAddr, IpAddr) {
    let (at, len) = if is_v6 { (ETHERNET_LEN + 8, 16) } else { (ETHERNET_LEN + 12, 4) };
    let read = |at| address(template, at, len).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    (read(at), read(at + len))
}
