//! What the program does with a packet, worked out from the tables that are in force.
//!
//! A pure function of the tables and the packet: the same hash, the same rings and the same
//! ready-made headers, step by step in the program's order, down to the bytes that leave. Nothing
//! is sent, and nothing is counted. A test compares it with the loaded program, packet by packet.
//!
//! It never guesses: what no table says (whether this host has a socket for the flow, how full the
//! buckets of ceilings are) is part of the question.

mod guard;
mod others;
mod outer;
mod packet;
mod tables;
mod tracking;

use std::net::IpAddr;

use isocast_dataplane_common::{
    NO_BACKEND, Outcome, RingPlace,
    directory::{Address, Key, Space, Value},
    encap::{ETHERNET_LEN, FLAG_COOKIE, FLAG_RETURNS, GUE_LEN},
    flow::Flow,
    tables::{Chain, ECHO_V4, ECHO_V6, Target},
};

use self::outer::Outer;
pub use self::{
    guard::{Guard, Level, SourceVerdict},
    packet::{Claim, NotAPacket, PAYLOAD_MAX, Question, Transport},
    tracking::{Note, Tracking},
};
pub(crate) use self::{
    tables::{InForce, Lookup},
    tracking::flow_id,
};
use crate::{
    Action, BackendKey, ServiceKey,
    dataplane::{Dataplane, Generation},
    header::{address_of, address_words},
};

/// What becomes of a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The tables that were asked.
    pub generation: Generation,
    /// What the directory says of the destination.
    pub found: Found,
    /// What the service asks of the packet first; absent: nothing.
    pub guard: Option<Guard>,
    /// What the flow's slot says; absent: no ring was asked.
    pub choice: Option<Choice>,
    /// What the program returns.
    pub action: Action,
    /// What is counted; absent: the packet is none of the data plane's business.
    pub outcome: Option<Outcome>,
    /// Who gets the packet.
    pub backend: Option<Member>,
    /// The header that it leaves in.
    pub outer: Option<OuterHeader>,
    /// Number of the interface that it leaves by.
    pub interface: Option<u32>,
    /// The frame as the program leaves it, also when it is dropped.
    pub frame: Vec<u8>,
}

/// What the directory says of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// The address is a service's, the protocol and the port are nobody's.
    Address,
    /// A service's listener.
    Service {
        /// The service.
        service: ServiceKey,
        /// Number of its counters.
        number: u16,
        /// Its isolation domain.
        tenant: u32,
    },
    /// The end of the tunnel.
    Tunnel,
}

/// What a flow's slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The flow hash.
    pub hash: u64,
    /// The block of the pool that the ring begins at.
    pub ring: u32,
    /// Number of the ring's slots.
    pub slots: u32,
    /// Place in it.
    pub slot: usize,
    /// Who gets new flows.
    pub current: Option<Member>,
    /// Who may have flows of the slot besides, in turn: each gets a TCP packet within a connection
    /// that the one before has no socket for, and a datagram of a flow that it did not answer lately.
    pub further: Vec<Member>,
    /// Whether it matters that this host has a socket for the flow, or answered it lately.
    pub asks_for_socket: bool,
    /// What the flow table says; absent: the slot is not tracked, or the packet no segment.
    pub tracking: Option<Tracking>,
}

/// A backend, as a slot names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Number of its target.
    pub number: u16,
    /// The backend; absent: the number is nobody's.
    pub key: Option<BackendKey>,
    /// Its tunnel address.
    pub address: IpAddr,
    /// Whether packets can go there.
    pub reach: Reach,
}

/// Whether packets can go to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is this node.
    Here,
    /// Its next hop is known.
    Ready,
    /// Its next hop is not known.
    Unresolved,
}

/// The header that a packet is put into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OuterHeader {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// Outer UDP source port: the flow's entropy. Absent where the header is nothing but IP.
    pub source_port: Option<u16>,
    /// Bytes before the packet, Ethernet apart.
    pub header_len: usize,
    /// Bytes of the whole IP packet.
    pub packet_len: usize,
    /// Who is asked in turn if the backend does not know the flow.
    pub further_hops: Vec<IpAddr>,
    /// Packet flags of the tunnel header, if it has any.
    pub flags: u8,
}

/// What became of a packet; the rest of an explanation is how.
struct End {
    action: Action,
    outcome: Option<Outcome>,
    backend: Option<Member>,
    outer: Option<OuterHeader>,
    interface: Option<u32>,
    frame: Vec<u8>,
}

/// Explains a packet that arrives by the interface of this number, and finds ceilings at this level.
pub(crate) fn explain(
    tables: &impl Lookup,
    question: &Question,
    ingress: u32,
    level: Level,
) -> Explained {
    let frame = question.frame();
    let destination = address_words(question.destination());
    let unanswered = |found, end| Explained::of(tables, found, None, end);
    let Some((protocol, port)) = question.listener() else {
        return match tables.find(&Key::new(Space::Vip, &destination, 0, 0, 0)) {
            Some(_) => unanswered(Found::Address, echo(tables, frame, ingress)),
            None => unanswered(Found::Nothing, End::passed(frame)),
        };
    };
    let key = Key::new(Space::Listener, &destination, 0, protocol, port.to_be());
    match tables.find(&key) {
        Some(Value { tenant: Value::TUNNEL, .. }) => {
            let outcome = tunnel(tables, question);
            unanswered(Found::Tunnel, End::dropped(outcome, frame))
        }
        Some(service) => balance(tables, question, service, ingress, level),
        None => match tables.find(&Key::new(Space::Vip, &destination, 0, 0, 0)) {
            Some(_) => unanswered(Found::Address, End::dropped(Outcome::UnlistedPort, frame)),
            None => unanswered(Found::Nothing, End::passed(frame)),
        },
    }
}

/// A packet for a service: guards, hash, slot, backend, header.
fn balance(
    tables: &impl Lookup,
    question: &Question,
    service: Value,
    ingress: u32,
    level: Level,
) -> Explained {
    let frame = question.frame();
    let Value { index, service: number, tenant } = service;
    let by_address = tenant & Value::BY_ADDRESS != 0;
    let tenant = tenant & Value::TENANT;
    let found = Found::Service { service: tables.service(number), number, tenant };
    let guard = Guard::of(tables, &service, question, level);
    let explained = |choice, end| Explained {
        guard: guard.clone(),
        ..Explained::of(tables, found.clone(), choice, end)
    };
    if let Some(reason) = guard.as_ref().and_then(Guard::refusal) {
        return explained(None, End::dropped(reason, frame));
    }
    let hash_by = |key: &[u64; 2]| flow_hash(key, question, by_address);
    let root = tables.root();
    let (hash, ring) = (hash_by(&root.flow_key), RingPlace::from_code(index));
    let Some((place, own)) = tables.slot(ring, hash) else {
        return explained(None, End::dropped(Outcome::TablesInconsistent, frame));
    };
    let owner = match own.current {
        NO_BACKEND => Some((own, None)),
        _ => tracking::owner(tables, question, own),
    };
    let Some((slot, tracking)) = owner else {
        return explained(None, End::dropped(Outcome::TablesInconsistent, frame));
    };
    // Datagrams are placed anew when the key changes.
    let others = if question.is_datagram() { 0 } else { root.others as usize };
    let other_keys = root.other_flow_keys.get(..others).unwrap_or_default();
    let chain = match slot.current {
        NO_BACKEND => Some(Chain::default()),
        _ => others::chain(tables, ring, slot, other_keys, hash_by),
    };
    let Some(chain) = chain else {
        return explained(None, End::dropped(Outcome::TablesInconsistent, frame));
    };
    let mut flags = if guard.as_ref().is_some_and(Guard::is_challenged) { FLAG_COOKIE } else { 0 };
    let turn = Turn::of(tables, question, slot.current, &chain);
    let choice = Choice {
        hash,
        ring: ring.first_block(),
        slots: ring.slots(),
        slot: place,
        current: (own.current != NO_BACKEND).then(|| Member::of(tables, own.backend())),
        further: further(tables, &chain),
        asks_for_socket: turn.as_ref().is_some_and(|turn| turn.asks_for_socket),
        tracking,
    };
    let end = match turn {
        None if slot.current == NO_BACKEND => End::dropped(Outcome::NoBackend, frame),
        None => End::dropped(Outcome::TablesInconsistent, frame),
        Some(Turn { number, delivered: true, .. }) => End {
            backend: Some(Member::of(tables, number)),
            outcome: Some(Outcome::DeliveredHere),
            ..End::passed(frame)
        },
        Some(Turn { number, target, .. }) if target.flags & Target::READY == 0 => End {
            backend: Some(Member::of(tables, number)),
            ..End::dropped(Outcome::NextHopUnresolved, frame)
        },
        Some(Turn { number, target, .. })
            if frame.len().saturating_sub(ETHERNET_LEN) > target.room as usize =>
        {
            let backend = Some(Member::of(tables, number));
            End { backend, ..too_big(tables, frame, target.room, ingress) }
        }
        Some(Turn { number, target, hops, returns, .. }) => {
            flags |= if returns { FLAG_RETURNS } else { 0 };
            let outer = Outer::of(question, hash, tenant, flags);
            let inner = frame.get(ETHERNET_LEN..).unwrap_or_default();
            let (header, frame) = outer.encapsulate(&target, &hops, inner);
            let frame = tagged(frame, &target);
            End {
                action: sent(&target, ingress),
                outcome: Some(Outcome::Encapsulated),
                backend: Some(Member::of(tables, number)),
                outer: Some(header),
                interface: Some(target.interface),
                frame,
            }
        }
    };
    explained(Some(choice), end)
}

/// Whose turn a packet is, and whose after that.
struct Turn {
    number: u16,
    target: Target,
    /// Who is asked in turn, after that.
    hops: Vec<Address>,
    /// The last of them is this node, which has what is left of a closed connection, or may have to
    /// begin a flow.
    returns: bool,
    /// It is this node, and keeps the packet.
    delivered: bool,
    asks_for_socket: bool,
}

impl Turn {
    /// Nothing: the slot is nobody's, or the tables contradict themselves.
    fn of(tables: &impl Lookup, question: &Question, number: u16, chain: &Chain) -> Option<Self> {
        let target = tables.target(number)?;
        let is_here = target.flags & Target::LOCAL != 0;
        let settled = Self {
            number,
            target,
            hops: Vec::new(),
            returns: false,
            delivered: is_here,
            asks_for_socket: false,
        };
        // What opens a TCP connection is nobody else's.
        if chain.len == 0 || !question.may_be_anothers() {
            return Some(settled);
        }
        let mut hops: Vec<_> = chain.hops.into_iter().take(chain.len.into()).collect();
        if !is_here {
            return Some(Self { hops, ..settled });
        }
        let asked = Self { asks_for_socket: true, ..settled };
        let (number, target) = (chain.first, tables.target(chain.first)?);
        let claim = question.claim();
        let returns = claim == Claim::Closed || claim == Claim::None && question.is_datagram();
        // What is left of a closed connection is enough where nobody else can be asked.
        let cannot_ask = returns && target.flags & Target::READY == 0;
        if claim == Claim::Open || cannot_ask {
            return Some(asked);
        }
        // The first further hop is sent to as a target of its own.
        hops.drain(..hops.len().min(1));
        hops.extend(returns.then(|| address_words(outer::source(&target))));
        Some(Self { number, target, hops, returns, delivered: false, ..asked })
    }
}

/// The hosts of a chain.
pub(crate) fn further(tables: &impl Lookup, chain: &Chain) -> Vec<Member> {
    let addresses = chain.hops.iter().take(chain.len.into()).map(address_of);
    let number = |(n, address)| match n {
        0 if chain.first != NO_BACKEND => chain.first,
        _ => tables.target_at(address).unwrap_or(NO_BACKEND),
    };
    addresses
        .enumerate()
        .map(|hop| Member { address: hop.1, ..Member::of(tables, number(hop)) })
        .collect()
}

/// A packet that does not fit the path to its backend with an outer header on. At most some hundred
/// a second are answered; that this one would be among them is supposed.
fn too_big(tables: &impl Lookup, frame: Vec<u8>, room: u32, ingress: u32) -> End {
    const IPV6_MINIMUM: u32 = 1280;
    if !packet::is_ipv4(&frame) && room < IPV6_MINIMUM {
        return End::dropped(Outcome::TooBig, frame);
    }
    answered(tables, frame, ingress, Outcome::TooBigAnswered, |frame, way| {
        packet::too_big(&frame, way, room)
    })
}

/// An echo request for a service's address.
fn echo(tables: &impl Lookup, frame: Vec<u8>, ingress: u32) -> End {
    answered(tables, frame, ingress, Outcome::EchoAnswered, packet::echo_reply)
}

/// A packet that is answered from here, by the default route.
fn answered(
    tables: &impl Lookup,
    frame: Vec<u8>,
    ingress: u32,
    outcome: Outcome,
    answer: impl FnOnce(Vec<u8>, &Target) -> Vec<u8>,
) -> End {
    match tables.target(if packet::is_ipv4(&frame) { ECHO_V4 } else { ECHO_V6 }) {
        None => End::dropped(Outcome::TablesInconsistent, frame),
        Some(way) if way.flags & Target::READY == 0 => {
            End::dropped(Outcome::NextHopUnresolved, frame)
        }
        Some(way) => End {
            action: sent(&way, ingress),
            outcome: Some(outcome),
            interface: Some(way.interface),
            ..End::passed(tagged(answer(frame, &way), &way))
        },
    }
}

/// Why a packet that nobody encapsulated is refused at the tunnel's end: its payload is zeros.
fn tunnel(tables: &impl Lookup, question: &Question) -> Outcome {
    let source = address_words(question.source());
    if usize::from(question.payload()) < GUE_LEN {
        return Outcome::Malformed;
    }
    if tables.find(&Key::new(Space::Source, &source, 0, 0, 0)).is_none() {
        return Outcome::UnlistedSource;
    }
    if tables.root().key_tags.contains(&0) { Outcome::UnknownEncap } else { Outcome::WrongKey }
}

/// Flows of a service that takes fragments are told apart by addresses alone.
fn flow_hash(key: &[u64; 2], question: &Question, by_address: bool) -> u64 {
    let flow = question.flow();
    let flow = Flow { ports: if by_address { 0 } else { flow.ports }, ..flow };
    if question.source().is_ipv4() { flow.hash_v4(key) } else { flow.hash_v6(key) }
}

/// The frame with the tag that it leaves with, if its next hop is in a VLAN.
fn tagged(mut frame: Vec<u8>, target: &Target) -> Vec<u8> {
    const ETHERTYPE_TAGGED: [u8; 2] = [0x81, 0];
    let ethertype = ETHERNET_LEN - 2;
    if target.flags & Target::TAGGED != 0 && frame.len() >= ETHERNET_LEN {
        let tag = Target::tag_of(target.flags).to_be_bytes();
        frame.splice(ethertype..ethertype, ETHERTYPE_TAGGED.into_iter().chain(tag));
    }
    frame
}

fn sent(target: &Target, ingress: u32) -> Action {
    if target.interface == ingress { Action::Transmit } else { Action::Redirect }
}

impl Dataplane {
    /// Explains a packet that would arrive by `interface`, and finds ceilings at this level.
    ///
    /// # Errors
    /// An interface that there is not.
    pub fn explain(
        &self,
        question: &Question,
        interface: &str,
        level: Level,
    ) -> std::io::Result<Explained> {
        let ingress = crate::netlink::interface_index(interface)?;
        Ok(explain(&self.in_force(), question, ingress, level))
    }
}

impl Explained {
    fn of(tables: &impl Lookup, found: Found, choice: Option<Choice>, end: End) -> Self {
        let End { action, outcome, backend, outer, interface, frame } = end;
        let generation = tables.generation();
        let guard = None;
        Self { generation, found, guard, choice, action, outcome, backend, outer, interface, frame }
    }
}

impl End {
    const fn passed(frame: Vec<u8>) -> Self {
        Self {
            action: Action::Pass,
            outcome: None,
            backend: None,
            outer: None,
            interface: None,
            frame,
        }
    }

    fn dropped(outcome: Outcome, frame: Vec<u8>) -> Self {
        Self { action: Action::Drop, outcome: Some(outcome), ..Self::passed(frame) }
    }
}

impl Member {
    pub(crate) fn of(tables: &impl Lookup, number: u16) -> Self {
        let target = tables.target(number).unwrap_or_default();
        let reach = match target.flags {
            flags if flags & Target::LOCAL != 0 => Reach::Here,
            flags if flags & Target::READY != 0 => Reach::Ready,
            _ => Reach::Unresolved,
        };
        Self { number, key: tables.backend(number), address: address_of(&target.address), reach }
    }
}
