//! The packet that is asked about: a well-formed one of the flow, with zeros for a payload.

use std::net::IpAddr;

use isocast_dataplane_common::{encap::ETHERNET_LEN, flow::Flow, tables::Target};

use crate::header::address_words;

/// Most bytes after the transport header: the packet fits an Ethernet frame.
pub const PAYLOAD_MAX: u16 = 1440;

/// A packet, and what of this host decides on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    traffic_class: u8,
    payload: u16,
    claim: Claim,
}

/// What this host itself has of the connection that a packet belongs to, or of the UDP flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// Nothing.
    #[default]
    None,
    /// What is left of a closed one.
    Closed,
    /// A socket, or a listener whose SYN cookie the packet acknowledges; a UDP flow that it answered
    /// lately.
    Open,
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// The client's port.
        source_port: u16,
        /// The service's port.
        port: u16,
        /// It opens the connection; otherwise it belongs to one.
        syn: bool,
    },
    /// A UDP datagram.
    Udp {
        /// The client's port.
        source_port: u16,
        /// The service's port.
        port: u16,
    },
    /// An echo request.
    Echo,
}

/// Why there can be no such packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAPacket {
    /// An IPv4 and an IPv6 address.
    #[error("source and destination are of two families")]
    Families,
    /// More payload than is asked about.
    #[error("the payload is longer than {PAYLOAD_MAX} bytes")]
    TooLong,
}

impl Question {
    /// A packet of a flow, without a payload.
    ///
    /// # Errors
    /// Addresses of two families.
    pub fn new(
        source: IpAddr,
        destination: IpAddr,
        transport: Transport,
    ) -> Result<Self, NotAPacket> {
        // A mapped address is IPv4 written at length.
        let (source, destination) = (source.to_canonical(), destination.to_canonical());
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(NotAPacket::Families);
        }
        let (traffic_class, payload, claim) = (0, 0, Claim::None);
        Ok(Self { source, destination, transport, traffic_class, payload, claim })
    }

    /// With this many zeros after the transport header.
    ///
    /// # Errors
    /// More than [`PAYLOAD_MAX`].
    pub fn with_payload(self, payload: u16) -> Result<Self, NotAPacket> {
        if payload > PAYLOAD_MAX {
            return Err(NotAPacket::TooLong);
        }
        Ok(Self { payload, ..self })
    }

    /// With these DSCP and ECN.
    #[must_use]
    pub const fn with_traffic_class(mut self, traffic_class: u8) -> Self {
        self.traffic_class = traffic_class;
        self
    }

    /// What this host itself has of the flow.
    #[must_use]
    pub const fn with_claim(mut self, claim: Claim) -> Self {
        self.claim = claim;
        self
    }

    /// The packet that would open its connection, if it is a segment.
    #[must_use]
    pub const fn opening(mut self) -> Self {
        if let Transport::Tcp { source_port, port, .. } = self.transport {
            self.transport = Transport::Tcp { source_port, port, syn: true };
        }
        self
    }

    pub(super) const fn source(&self) -> IpAddr {
        self.source
    }

    pub(super) const fn destination(&self) -> IpAddr {
        self.destination
    }

    pub(super) const fn traffic_class(&self) -> u8 {
        self.traffic_class
    }

    pub(super) const fn payload(&self) -> u16 {
        self.payload
    }

    pub(super) const fn claim(&self) -> Claim {
        self.claim
    }

    /// A TCP packet that opens a connection: SYN without ACK.
    pub(super) const fn begins_connection(&self) -> bool {
        matches!(self.transport, Transport::Tcp { syn: true, .. })
    }

    /// Whether another host may have the flow that the packet is of.
    pub(super) const fn may_be_anothers(&self) -> bool {
        matches!(self.transport, Transport::Tcp { syn: false, .. } | Transport::Udp { .. })
    }

    pub(super) const fn is_datagram(&self) -> bool {
        matches!(self.transport, Transport::Udp { .. })
    }

    /// Source and destination port.
    pub(super) const fn ports(&self) -> (u16, u16) {
        match self.transport {
            Transport::Tcp { source_port, port, .. } | Transport::Udp { source_port, port } => {
                (source_port, port)
            }
            Transport::Echo => (0, 0),
        }
    }

    /// The flow that it is of.
    pub(super) fn flow(&self) -> Flow {
        let (source_port, port) = self.ports();
        Flow {
            source: address_words(self.source),
            destination: address_words(self.destination),
            ports: u32::from(port.to_be()) << 16 | u32::from(source_port.to_be()),
            protocol: self.protocol(),
        }
    }

    pub(super) const fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
            Transport::Echo if self.source.is_ipv4() => 1,
            Transport::Echo => 58,
        }
    }

    /// What a listener for it would be: protocol and port.
    pub(super) const fn listener(&self) -> Option<(u8, u16)> {
        match self.transport {
            Transport::Echo => None,
            _ => Some((self.protocol(), self.ports().1)),
        }
    }

    /// The packet in an Ethernet frame without addresses.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let transport = self.transport_bytes();
        let len = u16::try_from(transport.len()).unwrap_or(u16::MAX);
        let mut frame = vec![0; ETHERNET_LEN - 2];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00, 0x45, self.traffic_class]);
                frame.extend((20 + len).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, 64, self.protocol(), 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                let header = frame.get(ETHERNET_LEN..).unwrap_or_default();
                let checksum = !fold(sum(header));
                put(&mut frame, ETHERNET_LEN + 10, &checksum.to_ne_bytes());
            }
            (source, destination) => {
                let octets = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                frame.extend([0x86, 0xdd]);
                frame.extend((6 << 28 | u32::from(self.traffic_class) << 20).to_be_bytes());
                frame.extend(len.to_be_bytes());
                frame.extend([self.protocol(), 64]);
                frame.extend(octets(source));
                frame.extend(octets(destination));
            }
        }
        frame.extend(transport);
        frame
    }

    /// Nobody receives the packet, so nobody checks the transport checksum: it stays zero.
    fn transport_bytes(&self) -> Vec<u8> {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        let mut bytes = Vec::new();
        match self.transport {
            Transport::Tcp { source_port, port, syn } => {
                bytes.extend(source_port.to_be_bytes());
                bytes.extend(port.to_be_bytes());
                bytes.extend([0; 8]);
                bytes.extend([0x50, if syn { SYN } else { ACK }, 0xff, 0xff, 0, 0, 0, 0]);
            }
            Transport::Udp { source_port, port } => {
                bytes.extend(source_port.to_be_bytes());
                bytes.extend(port.to_be_bytes());
                bytes.extend((8 + self.payload).to_be_bytes());
                bytes.extend([0; 2]);
            }
            Transport::Echo => {
                bytes.push(if self.source.is_ipv4() { 8 } else { 128 });
                bytes.extend([0; 7]);
            }
        }
        bytes.extend(std::iter::repeat_n(0, usize::from(self.payload)));
        bytes
    }
}

pub(super) fn is_ipv4(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x00])
}

/// The answer to an echo request (RFC 792, RFC 4443 §4), sent to a target's next hop.
pub(super) fn echo_reply(mut frame: Vec<u8>, target: &Target) -> Vec<u8> {
    const HOP_LIMIT: u8 = 64;
    let ip = ETHERNET_LEN;
    let (addresses, len, message, kind) =
        if is_ipv4(&frame) { (ip + 12, 4, ip + 20, 0) } else { (ip + 8, 16, ip + 40, 129) };
    let read = |at: usize| frame.get(at..at + len).unwrap_or_default().to_vec();
    let (source, destination) = (read(addresses), read(addresses + len));
    put(&mut frame, addresses, &destination);
    put(&mut frame, addresses + len, &source);
    if len == 4 {
        rewrite(&mut frame, ip + 8, ip + 10, HOP_LIMIT);
    } else {
        put(&mut frame, ip + 7, &[HOP_LIMIT]);
    }
    rewrite(&mut frame, message, message + 2, kind);
    let next_hop: Vec<u8> = target.header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    put(&mut frame, 0, next_hop.get(..12).unwrap_or_default());
    frame
}

/// What the sender of a packet that is too big is told (RFC 1191 §4, RFC 4443 §3.2).
pub(super) fn too_big(frame: &[u8], way: &Target, room: u32) -> Vec<u8> {
    const QUOTE_LEN: usize = 128;
    const HOP_LIMIT: u8 = 64;
    let is_v4 = is_ipv4(frame);
    let quote = frame.get(ETHERNET_LEN..ETHERNET_LEN + QUOTE_LEN).unwrap_or_default();
    let (addresses, len) = if is_v4 { (12, 4) } else { (8, 16) };
    let read = |at: usize| quote.get(at..at + len).unwrap_or_default();
    let (source, destination) = (read(addresses), read(addresses + len));
    let mut message = if is_v4 { vec![3, 4, 0, 0] } else { vec![2, 0, 0, 0] };
    message.extend(room.to_be_bytes());
    message.extend(quote);
    let size = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let pseudo: Vec<u8> = if is_v4 {
        Vec::new()
    } else {
        [destination, source, &size.to_be_bytes(), &[0, 58]].concat()
    };
    let checksum = !fold(sum(&[&pseudo, message.as_slice()].concat()));
    put(&mut message, 2, &checksum.to_ne_bytes());

    let mut answer: Vec<u8> = way.header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    answer.truncate(ETHERNET_LEN - 2);
    if is_v4 {
        answer.extend([0x08, 0x00, 0x45, 0]);
        answer.extend((20 + size).to_be_bytes());
        answer.extend([0, 0, 0, 0, HOP_LIMIT, 1, 0, 0]);
    } else {
        answer.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        answer.extend(size.to_be_bytes());
        answer.extend([58, HOP_LIMIT]);
    }
    answer.extend(destination);
    answer.extend(source);
    if is_v4 {
        let checksum = !fold(sum(answer.get(ETHERNET_LEN..).unwrap_or_default()));
        put(&mut answer, ETHERNET_LEN + 10, &checksum.to_ne_bytes());
    }
    answer.extend(message);
    answer
}

/// Replaces the first byte of the word at `at` and repairs the checksum (RFC 1624, equation 3).
fn rewrite(frame: &mut [u8], at: usize, checksum: usize, byte: u8) {
    let word = |frame: &[u8], at: usize| {
        let bytes = frame.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        u16::from_ne_bytes(bytes.unwrap_or_default())
    };
    let (old, was) = (word(frame, at), word(frame, checksum));
    put(frame, at, &[byte]);
    let sum = u32::from(!was) + u32::from(!old) + u32::from(word(frame, at));
    put(frame, checksum, &(!fold(sum)).to_ne_bytes());
}

/// Writes bytes where there is room for them.
pub(super) fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks_exact(2);
    pairs.map(|pair| u32::from(u16::from_ne_bytes(pair.try_into().unwrap_or_default()))).sum()
}

/// Folds a sum of 16-bit words (RFC 1071).
pub(super) fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn addresses_of_two_families_make_no_packet() {
        assert_eq!(Question::new(V4, V6, Transport::Echo), Err(NotAPacket::Families));
    }

    #[test]
    fn the_longest_packet_fits_an_ethernet_frame_and_a_longer_one_is_refused() {
        let question = Question::new(V6, V6, Transport::Tcp { source_port: 1, port: 2, syn: true });
        let longest = question.clone().and_then(|it| it.with_payload(PAYLOAD_MAX)).expect("fits");

        assert_eq!(longest.frame().len(), ETHERNET_LEN + 1500);
        let longer = question.and_then(|it| it.with_payload(PAYLOAD_MAX + 1));
        assert_eq!(longer, Err(NotAPacket::TooLong));
    }

    #[test]
    fn ipv4_header_sums_up() {
        let frame = Question::new(V4, V4, Transport::Echo).expect("a packet").frame();

        assert_eq!(fold(sum(&frame[14..34])), 0xffff);
    }
}
