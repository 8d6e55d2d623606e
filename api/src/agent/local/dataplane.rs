//! The words of a node's local API about its data plane: what becomes of a packet, what was
//! counted, what was captured.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// `GET /v1/dataplane/explain?` with a [`FlowQuery`]: what the tables say.
pub const EXPLAIN_PATH: &str = "/v1/dataplane/explain";

/// `GET /v1/dataplane/trace?` with a [`FlowQuery`]: what the program does as well. The packet is
/// counted, and never sent.
pub const TRACE_PATH: &str = "/v1/dataplane/trace";

/// `GET /v1/dataplane/counters`
pub const COUNTERS_PATH: &str = "/v1/dataplane/counters";

/// `GET /v1/dataplane/capture?` with a [`CaptureQuery`]: takes the next records of a capture, and
/// keeps it going a little longer.
pub const CAPTURE_PATH: &str = "/v1/dataplane/capture";

/// A packet that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowQuery {
    /// What follows the IP header.
    pub protocol: FlowProtocol,
    /// The client.
    pub source: IpAddr,
    /// Its port; none for an echo request.
    #[serde(default)]
    pub source_port: u16,
    /// The service's address.
    pub destination: IpAddr,
    /// The service's port; none for an echo request.
    #[serde(default)]
    pub port: u16,
    /// A TCP packet opens the connection; otherwise it belongs to one.
    #[serde(default)]
    pub syn: bool,
    /// Bytes after the transport header.
    #[serde(default)]
    pub payload: u16,
    /// DSCP and ECN.
    #[serde(default)]
    pub class: u8,
    /// What the node itself has of the flow.
    #[serde(default)]
    pub socket: LocalSocket,
}

/// What a node itself has of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LocalSocket {
    /// Nothing.
    #[default]
    None,
    /// What is left of a closed connection.
    Closed,
    /// A socket.
    Open,
}

/// Protocols that a flow can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FlowProtocol {
    /// Echo requests, of ICMP or ICMPv6.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What the tables say of a packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    /// The node that answers.
    pub node: String,
    /// Generation of the tables.
    pub generation: u32,
    /// The packet's road, step by step.
    pub stages: Vec<StageView>,
    /// drop, pass, redirect or transmit.
    pub action: String,
    /// What is counted; absent: the packet is none of the data plane's business.
    pub outcome: Option<String>,
    /// The service that it is for.
    pub service: Option<ServiceRef>,
    /// What the service asks of it first; absent: nothing.
    #[serde(default)]
    pub guard: Option<GuardView>,
    /// Its slot.
    pub slot: Option<SlotView>,
    /// Who gets it.
    pub backend: Option<MemberView>,
    /// The header that it leaves in.
    pub outer: Option<OuterView>,
    /// The interface that it leaves by.
    pub interface: Option<String>,
    /// The frame that the program leaves, in hexadecimal.
    pub frame: String,
}

/// One step on a packet's road.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// parse, directory, admission, hash, slot, tracking, backend, encapsulation or action.
    pub stage: String,
    /// What happens there.
    pub says: String,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Its namespace; empty: it is configured no longer.
    pub namespace: String,
    /// Its name; empty: it is configured no longer.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its isolation domain.
    pub tenant: u32,
}

/// What a service with a source list or ceilings asks of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardView {
    /// What its source list says; absent: it has none.
    pub source: Option<SourceView>,
    /// Its ceilings; absent: it has none.
    pub ceilings: Option<CeilingsView>,
    /// The same of all services of its tenant together.
    pub tenant_ceilings: Option<CeilingsView>,
    /// Beyond the ceiling this packet is not dropped: its client proves its address.
    pub may_challenge: bool,
    /// How full the ceilings were found, or are supposed to be: within, challenged or over.
    pub level: String,
}

/// What a source list says of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// Let in, or kept out.
    pub allowed: bool,
    /// The most specific prefix of the list that covers it; absent: none does.
    pub rule: Option<String>,
}

/// What is taken a second, at most; a figure that is absent has no limit, or is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CeilingsView {
    /// Packets.
    pub packets_per_second: Option<u32>,
    /// Connections that begin.
    pub new_flows_per_second: Option<u32>,
}

/// The slot of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotView {
    /// The flow hash, in hexadecimal.
    pub hash: String,
    /// Where the ring begins in the pool of rings, in blocks.
    pub ring: u32,
    /// Number of the ring's slots.
    pub ring_slots: u32,
    /// Place in it.
    pub slot: u32,
    /// Who gets new flows.
    pub current: Option<MemberView>,
    /// Who may have flows of the slot besides, in turn: each gets a TCP packet within a connection
    /// that the one before has no socket for.
    pub further: Vec<MemberView>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// Its name; empty: it is configured no longer.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its tunnel address.
    pub address: IpAddr,
    /// here, ready or unresolved.
    pub reach: String,
}

/// The header that a packet is put into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OuterView {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// Outer UDP source port; absent where the outer header is nothing but IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Bytes before the packet, Ethernet apart.
    pub header_bytes: usize,
    /// Bytes of the whole IP packet.
    pub packet_bytes: usize,
    /// Who is asked in turn if the backend does not know the flow.
    pub further_hops: Vec<IpAddr>,
    /// Packet flags of the tunnel header, by name.
    pub flags: Vec<String>,
}

/// What a frame's tunnel header says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelView {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// The isolation domain.
    pub tenant: u32,
    /// Packet flags, by name: probe, second-hop, cookie, returns.
    pub flags: Vec<String>,
    /// Who is asked in turn if the destination does not know the flow.
    pub further_hops: Vec<IpAddr>,
}

/// What the program did with a packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceView {
    /// What the tables say.
    pub explained: ExplainView,
    /// drop, pass, redirect, transmit or aborted.
    pub action: String,
    /// The frame that the program left, in hexadecimal.
    pub frame: String,
    /// Its tunnel header; absent: it has none.
    #[serde(default)]
    pub tunnel: Option<TunnelView>,
    /// What the host counted meanwhile, other packets included, by outcome.
    pub counted: BTreeMap<String, u64>,
    /// Where program and tables disagree: action, bytes, outcome, service or backend.
    pub differences: Vec<String>,
}

/// What was counted, since each thing came into force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountersView {
    /// The node that answers.
    pub node: String,
    /// When they were read, in nanoseconds of the node's monotonic clock.
    pub at_ns: u64,
    /// Generation of the tables.
    pub generation: u32,
    /// Packets to services; without those that had none.
    pub services: Vec<ServiceCount>,
    /// Packets sent to backends; without those that had none.
    pub backends: Vec<BackendCount>,
    /// What became of packets.
    pub outcomes: Vec<OutcomeCount>,
}

/// Packets to a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceCount {
    /// Which.
    pub service: ServiceRef,
    /// Packets.
    pub packets: u64,
    /// Bytes, by IP length before encapsulation.
    pub bytes: u64,
    /// Those that were dropped, by reason.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
}

/// Packets sent to a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendCount {
    /// Its namespace; empty: it is configured no longer.
    pub namespace: String,
    /// Its pool; empty: it is configured no longer.
    pub pool: String,
    /// Its name; empty: it is configured no longer.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Packets.
    pub packets: u64,
    /// Bytes, by IP length before encapsulation.
    pub bytes: u64,
}

/// Packets of one outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeCount {
    /// Its name.
    pub outcome: String,
    /// The packets were dropped.
    pub drop: bool,
    /// How many.
    pub packets: u64,
}

/// Which capture is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaptureQuery {
    /// Chosen by who captures, at random: the same in all its questions.
    pub id: String,
    /// The service: namespace/name, or a uid.
    pub service: String,
    /// Take one packet in so many.
    #[serde(default = "one")]
    pub one_in: u32,
    /// That was all: the capture ends.
    #[serde(default)]
    pub end: bool,
}

const fn one() -> u32 {
    1
}

/// The next records of a capture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptureView {
    /// The node that answers.
    pub node: String,
    /// In the order in which they were taken, on each CPU.
    pub records: Vec<RecordView>,
    /// Records that there was no room for, since the capture began.
    pub lost: u64,
    /// Packets beyond the rate, since the capture began.
    pub limited: u64,
    /// The capture is over: nothing will be added.
    pub ended: bool,
}

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordView {
    /// Nanoseconds since 1970, by the node's clock.
    pub at_ns: u64,
    /// It is the frame as the program left it; otherwise as it arrived.
    pub left: bool,
    /// The same for both frames of a packet.
    pub packet: u64,
    /// The interface that it arrived by.
    pub interface: u32,
    /// Generation of the tables.
    pub generation: u32,
    /// Slot of the flow; absent: there is no such ring.
    pub slot: Option<u32>,
    /// The slot is tracked: the flow table says who has the flow.
    #[serde(default)]
    pub tracked: bool,
    /// The slot's backend, by name, or else by uid or tunnel address.
    pub backend: Option<String>,
    /// What became of the packet; absent in a frame as it arrived.
    pub outcome: Option<String>,
    /// Its tunnel header, if it went out with one.
    #[serde(default)]
    pub tunnel: Option<TunnelView>,
    /// The frame went out; otherwise it was dropped, or is this host's.
    #[serde(default)]
    pub sent: bool,
    /// Bytes of the frame.
    pub len: u32,
    /// The first bytes of it, in hexadecimal.
    pub data: String,
}

// === impl FlowQuery ===

impl FlowQuery {
    /// Reads a flow as people write it: `tcp 192.0.2.1:4711 203.0.113.10:80`; an echo request has
    /// no ports.
    ///
    /// # Errors
    /// Says which word is not understood.
    pub fn parse(protocol: &str, source: &str, destination: &str) -> Result<Self, String> {
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => FlowProtocol::Tcp,
            "udp" => FlowProtocol::Udp,
            "icmp" => FlowProtocol::Icmp,
            _ => return Err(format!("protocol {protocol:?}: must be tcp, udp or icmp")),
        };
        let end = |text: &str| match protocol {
            FlowProtocol::Icmp => {
                let address = text.parse::<IpAddr>();
                address
                    .map(|address| (address, 0))
                    .map_err(|_invalid| format!("{text:?}: must be an address"))
            }
            FlowProtocol::Tcp | FlowProtocol::Udp => {
                let end = text.parse::<SocketAddr>();
                end.map(|end| (end.ip(), end.port())).map_err(|_invalid| {
                    format!("{text:?}: must be ADDRESS:PORT, such as 203.0.113.10:80 or [2001:db8::1]:80")
                })
            }
        };
        let ((source, source_port), (destination, port)) = (end(source)?, end(destination)?);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err("source and destination must be of one family".to_owned());
        }
        Ok(Self {
            protocol,
            source,
            source_port,
            destination,
            port,
            syn: false,
            payload: 0,
            class: 0,
            socket: LocalSocket::None,
        })
    }

    /// Names and values of the question's parameters.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let protocol = match self.protocol {
            FlowProtocol::Icmp => "icmp",
            FlowProtocol::Tcp => "tcp",
            FlowProtocol::Udp => "udp",
        };
        vec![
            ("protocol", protocol.to_owned()),
            ("source", self.source.to_string()),
            ("sourcePort", self.source_port.to_string()),
            ("destination", self.destination.to_string()),
            ("port", self.port.to_string()),
            ("syn", self.syn.to_string()),
            ("payload", self.payload.to_string()),
            ("class", self.class.to_string()),
            ("socket", self.socket.as_str().to_owned()),
        ]
    }
}

// === impl LocalSocket ===

impl LocalSocket {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

impl FromStr for LocalSocket {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::None, Self::Closed, Self::Open];
        all.into_iter().find(|it| it.as_str() == text).ok_or("must be none, closed or open")
    }
}

// === how people read it ===

impl fmt::Display for ExplainView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StageView { stage, says } in &self.stages {
            writeln!(f, "{:<15}{}", harmless(stage), harmless(says))?;
        }
        Ok(())
    }
}

impl fmt::Display for TraceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.explained)?;
        let counted: Vec<_> = (self.counted.iter())
            .map(|(outcome, packets)| format!("{} {packets}", harmless(outcome)))
            .collect();
        let counted = if counted.is_empty() { "nothing".to_owned() } else { counted.join(", ") };
        writeln!(f, "{:<15}{}, {} bytes", "program", harmless(&self.action), self.frame.len() / 2)?;
        if let Some(tunnel) = &self.tunnel {
            writeln!(f, "{:<15}{}", "tunnel", harmless(&tunnel.to_string()))?;
        }
        writeln!(f, "{:<15}{counted}", "counted")?;
        if self.differences.is_empty() {
            return writeln!(f, "{:<15}program and tables agree", "verdict");
        }
        let differences = harmless(&self.differences.join(", "));
        writeln!(f, "{:<15}PROGRAM AND TABLES DISAGREE: {differences}", "verdict")
    }
}

impl fmt::Display for TunnelView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, tenant, flags, further_hops } = self;
        write!(f, "from {source} to {destination}, tenant {tenant}")?;
        for hop in further_hops {
            write!(f, ", further hop {hop}")?;
        }
        if flags.is_empty() { Ok(()) } else { write!(f, ", flags {}", flags.join(" ")) }
    }
}

/// One line without control sequences: a node may say anything.
fn harmless(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_as_people_write_them() {
        let flow = FlowQuery::parse("tcp", "192.0.2.1:4711", "203.0.113.10:80").unwrap();
        assert_eq!((flow.source_port, flow.port), (4711, 80));
        let flow = FlowQuery::parse("UDP", "[2001:db8::1]:4711", "[2001:db8::2]:53").unwrap();
        assert_eq!((flow.protocol, flow.port), (FlowProtocol::Udp, 53));
        assert!(FlowQuery::parse("icmp", "192.0.2.1", "203.0.113.10").is_ok());

        for (protocol, source, destination) in [
            ("sctp", "192.0.2.1:1", "203.0.113.10:80"),
            ("tcp", "192.0.2.1", "203.0.113.10:80"),
            ("tcp", "192.0.2.1:1", "[2001:db8::2]:53"),
            ("icmp", "192.0.2.1:1", "203.0.113.10"),
        ] {
            assert!(FlowQuery::parse(protocol, source, destination).is_err(), "{destination}");
        }
    }
}
