//! [`ExplainView`] and [`TraceView`]: what becomes of a packet, by the tables and by the program.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

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
