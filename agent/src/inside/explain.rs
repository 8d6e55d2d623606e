//! Explanations as words: the packet's road, stage by stage.

use std::fmt::Write;

use isocast_api::agent::local::dataplane::{
    ExplainView, FlowProtocol, FlowQuery, LocalSocket, MemberView, OuterView, SlotView, StageView,
    TraceView, TunnelView,
};
use isocast_dataplane::{
    Action, Choice, Claim, Difference, Explained, Found, Inspection, Member, NotAPacket, Note,
    OuterHeader, Question, Reach, Tracking, Transport, TunnelHeader,
};

use super::{About, admission, service_ref};
use crate::telemetry::Names;

/// The packet that a query asks about.
pub(super) fn question(query: &FlowQuery) -> Result<Question, NotAPacket> {
    let &FlowQuery { source_port, port, syn, .. } = query;
    let transport = match query.protocol {
        FlowProtocol::Tcp => Transport::Tcp { source_port, port, syn },
        FlowProtocol::Udp => Transport::Udp { source_port, port },
        FlowProtocol::Icmp => Transport::Echo,
    };
    let question = Question::new(query.source, query.destination, transport)?;
    let question = question.with_payload(query.payload)?;
    Ok(question.with_traffic_class(query.class).with_claim(match query.socket {
        LocalSocket::None => Claim::None,
        LocalSocket::Closed => Claim::Closed,
        LocalSocket::Open => Claim::Open,
    }))
}

/// What the tables say.
pub(super) fn view(about: &About, query: &FlowQuery, explained: &Explained) -> ExplainView {
    let names = Names::of(&about.status);
    let service = match &explained.found {
        Found::Service { service, tenant, .. } => Some(service_ref(&names, &service.0, *tenant)),
        Found::Nothing | Found::Address | Found::Tunnel => None,
    };
    let member = |it: &Member| member(&names, it);
    let slot = explained.choice.as_ref().map(|choice| SlotView {
        hash: format!("{:016x}", choice.hash),
        ring: choice.ring,
        ring_slots: choice.slots,
        slot: u32::try_from(choice.slot).unwrap_or(u32::MAX),
        current: choice.current.as_ref().map(member),
        further: choice.further.iter().map(member).collect(),
    });
    let interface = explained.interface.map(|index| match nix::net::if_::if_indextoname(index) {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_gone) => format!("interface {index}"),
    });
    let mut view = ExplainView {
        node: about.node.clone(),
        generation: explained.generation.0,
        stages: Vec::new(),
        action: action(explained.action).to_owned(),
        outcome: explained.outcome.map(|outcome| outcome.as_str().to_owned()),
        service,
        guard: explained.guard.as_ref().map(admission::view),
        slot,
        backend: explained.backend.as_ref().map(member),
        outer: explained.outer.as_ref().map(outer),
        interface,
        frame: hex(&explained.frame),
    };
    view.stages = stages(about, query, explained, &view);
    view
}

/// What the program did, beside it.
pub(super) fn trace(about: &About, query: &FlowQuery, inspection: &Inspection) -> TraceView {
    let counted = inspection.counted.iter();
    let difference = |difference: &Difference| match difference {
        Difference::Action => "action",
        Difference::Bytes => "bytes",
        Difference::Outcome => "outcome",
        Difference::Service => "service",
        Difference::Backend => "backend",
    };
    TraceView {
        explained: view(about, query, &inspection.explained),
        action: action(inspection.traced.action).to_owned(),
        frame: hex(&inspection.traced.packet),
        tunnel: tunnel(&inspection.traced.packet),
        counted: counted.map(|(outcome, n)| (outcome.as_str().to_owned(), *n)).collect(),
        differences: inspection.differences.iter().map(difference).map(str::to_owned).collect(),
    }
}

fn stages(
    about: &About,
    query: &FlowQuery,
    explained: &Explained,
    view: &ExplainView,
) -> Vec<StageView> {
    let mut stages = vec![("parse", parsed(query)), ("directory", found(query, explained, view))];
    if let Some(guard) = &view.guard {
        stages.push(("admission", admission::says(guard)));
    }
    if let (Some(choice), Some(slot)) = (&explained.choice, &view.slot) {
        stages.push(("hash", slot.hash.clone()));
        stages.push(("slot", slot_says(query, slot)));
        if let Some(tracking) = &choice.tracking {
            let names = Names::of(&about.status);
            stages.push(("tracking", tracking_says(tracking, |it| member(&names, it))));
        }
        stages.push(("backend", backend_says(choice, view)));
    }
    if let Some(outer) = &view.outer {
        stages.push(("encapsulation", outer_says(outer)));
    }
    stages.push(("action", acted(view)));
    let stage = |(stage, says): (&str, String)| StageView { stage: stage.to_owned(), says };
    stages.into_iter().map(stage).collect()
}

fn parsed(query: &FlowQuery) -> String {
    let (source, destination) = (query.source, query.destination);
    let from = |port| std::net::SocketAddr::new(source, port);
    let to = |port| std::net::SocketAddr::new(destination, port);
    let (name, what) = match query.protocol {
        FlowProtocol::Icmp => return format!("echo request from {source} to {destination}"),
        FlowProtocol::Udp => ("UDP", ""),
        FlowProtocol::Tcp if query.syn => ("TCP", ", opens a connection"),
        FlowProtocol::Tcp => ("TCP", ", within a connection"),
    };
    format!("{name} from {} to {}{what}", from(query.source_port), to(query.port))
}

fn found(query: &FlowQuery, explained: &Explained, view: &ExplainView) -> String {
    match (&explained.found, &view.service) {
        (Found::Service { .. }, Some(service)) => {
            let name = match (service.namespace.as_str(), service.name.as_str()) {
                (_, "") => service.uid.clone(),
                (namespace, name) => format!("{namespace}/{name}"),
            };
            format!("service {name}, tenant {}", service.tenant)
        }
        (Found::Address, _) if query.protocol == FlowProtocol::Icmp => {
            "an address of a service; the edge itself answers for it".to_owned()
        }
        (Found::Address, _) => "the address is a service's, but not this protocol and port".into(),
        (Found::Tunnel, _) => "the end of the tunnel".to_owned(),
        (Found::Nothing | Found::Service { .. }, _) => "not an address of a service".to_owned(),
    }
}

fn slot_says(query: &FlowQuery, slot: &SlotView) -> String {
    let nobody = || "nobody".to_owned();
    let current = slot.current.as_ref();
    let current = current.map_or_else(nobody, |it| format!("{} ({})", called(it), it.reach));
    let mut says = format!("slot {} of {}: {current}", slot.slot, slot.ring_slots);
    for hop in &slot.further {
        says += &format!(", then {} at {}", called(hop), hop.address);
    }
    if !slot.further.is_empty() {
        says += match query.protocol {
            FlowProtocol::Tcp if query.syn => {
                "; none of them for this packet: it opens a connection"
            }
            FlowProtocol::Tcp => "; each only if the host before it has no socket for the flow",
            _ => "; each only if the host before it did not answer the flow within two minutes",
        };
    }
    says
}

/// Whose the flow is, in a slot that a host without an agent has or had.
fn tracking_says(tracking: &Tracking, member: impl Fn(&Member) -> MemberView) -> String {
    let at = |it: &Member| {
        let view = member(it);
        format!("{} at {}", called(&view), view.address)
    };
    let former = at(&tracking.former);
    match &tracking.note {
        Note::Made => format!("opens: noted in the flow table; what is not noted is {former}'s"),
        Note::NotNeeded => format!("opens at {former}, which has whatever is not noted"),
        Note::NoPlace => format!("opens, and the flow table has no place: begins at {former}"),
        Note::Found(backend) => format!("noted in the flow table: {}", at(backend)),
        Note::Older => format!("not noted in the flow table, so it is older: {former}"),
    }
}

fn outer_says(outer: &OuterView) -> String {
    let OuterView { source, destination, source_port, header_bytes, packet_bytes, .. } = outer;
    let encapsulated = match source_port {
        Some(port) => format!("UDP source port {port}"),
        None => "IP in IP".to_owned(),
    };
    let mut says = format!(
        "from {source} to {destination}, {encapsulated}, {header_bytes} bytes before the packet, \
         {packet_bytes} in all"
    );
    for hop in &outer.further_hops {
        says += &format!(", further hop {hop}");
    }
    if !outer.flags.is_empty() {
        says += &format!(", flags {}", outer.flags.join(" "));
    }
    says
}

fn backend_says(choice: &Choice, view: &ExplainView) -> String {
    let mut says = match &view.backend {
        Some(backend) => format!("{} at {}", called(backend), backend.address),
        None => "none".to_owned(),
    };
    if choice.asks_for_socket {
        says += "; the slot's own is this node, which is asked first whether the flow is its own";
    }
    says
}

fn acted(view: &ExplainView) -> String {
    let mut says = view.action.clone();
    if let Some(interface) = &view.interface {
        // Writing to a String cannot fail.
        let _infallible = write!(says, " by {interface}");
    }
    if let Some(outcome) = &view.outcome {
        let _infallible = write!(says, ", counted as {outcome}");
    }
    says + &format!("; generation {}", view.generation)
}

fn called(member: &MemberView) -> &str {
    if member.name.is_empty() { &member.uid } else { &member.name }
}

fn member(names: &Names<'_>, member: &Member) -> MemberView {
    let uid: &str = member.key.as_ref().map_or("", |key| &key.0);
    let (_, _, name) = names.backends.get(uid).copied().unwrap_or_default();
    let reach = match member.reach {
        Reach::Here => "here",
        Reach::Ready => "ready",
        Reach::Unresolved => "unresolved",
    };
    MemberView {
        name: name.to_owned(),
        uid: uid.to_owned(),
        address: member.address,
        reach: reach.to_owned(),
    }
}

/// The tunnel header of a frame, if it has one.
pub(super) fn tunnel(frame: &[u8]) -> Option<TunnelView> {
    TunnelHeader::read(frame).map(|header| TunnelView {
        source: header.source,
        destination: header.destination,
        tenant: header.tenant,
        flags: TunnelHeader::flag_names(header.flags),
        further_hops: header.further_hops,
    })
}

fn outer(outer: &OuterHeader) -> OuterView {
    OuterView {
        source: outer.source,
        destination: outer.destination,
        source_port: outer.source_port,
        header_bytes: outer.header_len,
        packet_bytes: outer.packet_len,
        further_hops: outer.further_hops.clone(),
        flags: TunnelHeader::flag_names(outer.flags),
    }
}

const fn action(action: Action) -> &'static str {
    match action {
        Action::Aborted => "aborted",
        Action::Drop => "drop",
        Action::Pass => "pass",
        Action::Redirect => "redirect",
        Action::Transmit => "transmit",
    }
}

/// Bytes as two digits each.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracking_is_said_in_words_and_names_who_has_the_flow() {
        let it = |name: &str, last| Member {
            number: 7,
            key: Some(isocast_dataplane::BackendKey(name.into())),
            address: std::net::IpAddr::from([10, 1, 0, last]),
            reach: Reach::Ready,
        };
        let says = |note| {
            let tracking = Tracking { former: it("old", 2), note };
            tracking_says(&tracking, |it| member(&Names::default(), it))
        };

        assert_eq!(
            says(Note::Older),
            "not noted in the flow table, so it is older: old at 10.1.0.2"
        );
        assert_eq!(says(Note::Found(it("new", 3))), "noted in the flow table: new at 10.1.0.3");
        for note in [Note::Made, Note::NotNeeded, Note::NoPlace] {
            let says = says(note);
            assert!(says.starts_with("opens") && says.contains("old at 10.1.0.2"), "{says}");
        }
    }
}
