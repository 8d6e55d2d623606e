//! [`Simulator`]: nodes, wires, and the passing of time. See the [parent module](super).

use std::{
    collections::{BTreeMap, BinaryHeap},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use isocast_bgp::{
    fsm::{
        Action, ConnectMode, HelperConfig, Input, LocalEndpoint, PeerAs, RestartState,
        SessionConfig,
    },
    guard::ExportGuard,
    policy::Policy,
    speaker::{
        Announcement, Announcements, ExportConfig, ImportConfig, LearntRoutes, PeerConfig, PeerId,
        Speaker, SpeakerConfig,
    },
    types::Asn,
};

use super::event::{End, Event, Payload};

/// A node, by the order in which it was added. Its AS is 65,001 and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u16);

/// How a node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its process dies; its kernel closes the connections.
    Process,
    /// Its power goes; nobody is told.
    Power,
}

/// See the [parent module](super).
#[derive(Debug)]
pub struct Simulator {
    now: Instant,
    started: Instant,
    events: BinaryHeap<Event>,
    sequence: u64,
    pub(super) nodes: Vec<Node>,
    wires: BTreeMap<(NodeId, NodeId), Wire>,
    /// Connections by each of their ends, as long as that end lives.
    connections: BTreeMap<End, Connection>,
    restart_time: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) speaker: Option<Speaker>,
    announcements: Arc<Announcements>,
}

#[derive(Debug)]
struct Wire {
    latency: Duration,
    is_cut: bool,
    /// What would have arrived.
    stalled: Vec<Event>,
}

#[derive(Debug)]
struct Connection {
    /// Unknown until the other end has answered.
    other: Option<End>,
    is_writing: bool,
}

// === impl Simulator ===

impl Simulator {
    /// An empty network. With a restart time, every node offers graceful restart and helps others.
    #[must_use]
    pub fn new(restart_time: Option<Duration>) -> Self {
        // Only differences of times matter to anybody.
        let now = Instant::now();
        Self {
            now,
            started: now,
            events: BinaryHeap::new(),
            sequence: 0,
            nodes: Vec::new(),
            wires: BTreeMap::new(),
            connections: BTreeMap::new(),
            restart_time,
        }
    }

    /// Adds a node that announces `prefixes`.
    pub fn add_node(&mut self, prefixes: impl IntoIterator<Item = IpNet>) -> NodeId {
        let id = NodeId(u16::try_from(self.nodes.len()).unwrap_or(u16::MAX));
        let announcement = |prefix| (prefix, Announcement::default());
        let announcements = Arc::new(prefixes.into_iter().map(announcement).collect());
        self.nodes.push(Node { speaker: None, announcements });
        self.start(id, RestartState::default());
        id
    }

    /// Joins two nodes by a wire and a session.
    pub fn join(&mut self, a: NodeId, b: NodeId, latency: Duration) {
        self.wires.insert(key(a, b), Wire { latency, is_cut: false, stalled: Vec::new() });
        self.add_session(a, b);
        self.add_session(b, a);
    }

    /// Cuts a wire. Nobody is told.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        if let Some(wire) = self.wires.get_mut(&key(a, b)) {
            wire.is_cut = true;
        }
    }

    /// Mends a wire.
    pub fn mend(&mut self, a: NodeId, b: NodeId) {
        let Some(wire) = self.wires.get_mut(&key(a, b)) else { return };
        wire.is_cut = false;
        let at = self.now + wire.latency;
        for event in std::mem::take(&mut wire.stalled) {
            self.events.push(Event { at, ..event });
        }
    }

    /// Whether a wire between two nodes carries anything.
    #[must_use]
    pub fn is_joined(&self, a: NodeId, b: NodeId) -> bool {
        self.wires.get(&key(a, b)).is_some_and(|wire| !wire.is_cut)
    }

    /// Takes a node's process or power.
    pub fn stop(&mut self, node: NodeId, loss: Loss) {
        if let Some(known) = self.nodes.get_mut(usize::from(node.0)) {
            known.speaker = None;
        }
        let ends: Vec<_> =
            self.connections.keys().filter(|end| end.node == node).copied().collect();
        for end in ends {
            let other = self.connections.remove(&end).and_then(|connection| connection.other);
            if let Some(other) = other.filter(|_| loss == Loss::Process) {
                self.send(node, other, Payload::Hangup);
            }
        }
    }

    /// Starts a node's process anew, with its sessions.
    pub fn start(&mut self, node: NodeId, restart: RestartState) {
        let config =
            SpeakerConfig { asn: asn(node), router_id: address(node), multipath_max: 1, restart };
        let mut speaker = Speaker::new(self.now, config, u64::from(node.0) + 1);
        let Some(known) = self.nodes.get_mut(usize::from(node.0)) else { return };
        speaker.set_guard(Arc::new(ExportGuard::new(known.announcements.keys().copied())));
        speaker.set_local(Arc::clone(&known.announcements));
        speaker.initial_set_complete();
        known.speaker = Some(speaker);
        let others: Vec<_> = self.wires.keys().filter_map(|wire| other_end(*wire, node)).collect();
        for other in others {
            self.add_session(node, other);
        }
    }

    /// Replaces what a node announces.
    pub fn announce(&mut self, node: NodeId, prefixes: impl IntoIterator<Item = IpNet>) {
        let Some(known) = self.nodes.get_mut(usize::from(node.0)) else { return };
        let announcement = |prefix| (prefix, Announcement::default());
        known.announcements = Arc::new(prefixes.into_iter().map(announcement).collect());
        if let Some(speaker) = &mut known.speaker {
            speaker.set_guard(Arc::new(ExportGuard::new(known.announcements.keys().copied())));
            speaker.set_local(Arc::clone(&known.announcements));
        }
        self.flush(node);
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.events.peek().map(|event| event.at);
            let tick = self.next_tick();
            let next = arrival.into_iter().chain(tick.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            match tick {
                Some((at, node)) if arrival.is_none_or(|arrival| at < arrival) => self.tick(node),
                _ => {
                    if let Some(event) = self.events.pop() {
                        self.arrive(event);
                    }
                }
            }
        }
        self.now = until;
    }

    /// How much time has passed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.started)
    }

    fn next_tick(&self) -> Option<(Instant, NodeId)> {
        let deadline = |(at, node): (usize, &Node)| {
            let deadline = node.speaker.as_ref()?.next_deadline()?;
            Some((deadline.max(self.now), NodeId(u16::try_from(at).ok()?)))
        };
        self.nodes.iter().enumerate().filter_map(deadline).min()
    }

    fn tick(&mut self, node: NodeId) {
        let now = self.now;
        self.with_speaker(node, |speaker, actions| speaker.tick(now, actions));
    }

    fn input(&mut self, node: NodeId, peer: PeerId, input: Input<'_>) {
        let now = self.now;
        self.with_speaker(node, |speaker, actions| speaker.handle(now, peer, input, actions));
    }

    /// Does something with a speaker, and carries out what it wants done.
    fn with_speaker(
        &mut self,
        node: NodeId,
        work: impl FnOnce(&mut Speaker, &mut Vec<(PeerId, Action)>),
    ) {
        let known = self.nodes.get_mut(usize::from(node.0));
        let Some(speaker) = known.and_then(|known| known.speaker.as_mut()) else { return };
        let mut actions = Vec::new();
        work(speaker, &mut actions);
        for (peer, action) in actions {
            match action {
                Action::Connect(connection) => {
                    let from = End { node, peer, connection };
                    let fresh = Connection { other: None, is_writing: false };
                    self.connections.insert(from, fresh);
                    let callee = End { node: node_of(peer), peer: peer_of(node), connection };
                    self.send(node, callee, Payload::Call { from });
                }
                Action::Close { id, farewell } => {
                    self.close(End { node, peer, connection: id }, farewell)
                }
                _ => {}
            }
        }
        self.flush(node);
    }

    fn close(&mut self, end: End, farewell: Option<Vec<u8>>) {
        let other = self.connections.remove(&end).and_then(|connection| connection.other);
        let Some(other) = other else { return };
        if let Some(farewell) = farewell {
            self.send(end.node, other, Payload::Bytes(farewell));
        }
        self.send(end.node, other, Payload::Hangup);
    }

    /// Writes what a node has to say to whoever can take some.
    fn flush(&mut self, node: NodeId) {
        let writable = |(end, connection): (&End, &Connection)| {
            let other = connection.other.filter(|_| end.node == node && !connection.is_writing)?;
            Some((*end, other))
        };
        let writable: Vec<_> = self.connections.iter().filter_map(writable).collect();
        for (end, other) in writable {
            let known = self.nodes.get_mut(usize::from(node.0));
            let Some(speaker) = known.and_then(|known| known.speaker.as_mut()) else { return };
            let mut bytes = Vec::new();
            speaker.transmit(end.peer, end.connection, &mut bytes);
            if bytes.is_empty() {
                continue;
            }
            if let Some(connection) = self.connections.get_mut(&end) {
                connection.is_writing = true;
            }
            self.send(node, other, Payload::Bytes(bytes));
        }
    }

    fn send(&mut self, from: NodeId, to: End, payload: Payload) {
        let Some(wire) = self.wires.get(&key(from, to.node)) else { return };
        self.sequence += 1;
        let (at, sequence) = (self.now + wire.latency, self.sequence);
        self.events.push(Event { at, sequence, from, to, payload });
    }

    fn arrive(&mut self, event: Event) {
        if let Some(wire) = self.wires.get_mut(&key(event.from, event.to.node))
            && wire.is_cut
        {
            return wire.stalled.push(event);
        }
        let Event { from, to, payload, .. } = event;
        let End { node, peer, connection: id } = to;
        match payload {
            Payload::Call { from: caller } => self.called(to, caller),
            Payload::Answer { from: other } => match self.connections.get_mut(&to) {
                Some(connection) => {
                    connection.other = Some(other);
                    self.input(node, peer, Input::Connected { id, local: endpoint(node) });
                }
                None => self.send(node, other, Payload::Hangup),
            },
            Payload::Refusal => {
                self.connections.remove(&to);
                let error = "refused".to_owned();
                self.input(node, peer, Input::ConnectFailed { id, error });
            }
            Payload::Bytes(bytes) => {
                let other = self.connections.get(&to).and_then(|connection| connection.other);
                if let Some(other) = other {
                    self.send(node, other, Payload::Receipt);
                    self.input(node, peer, Input::Received { id, bytes: &bytes });
                } else if let Some(other) = self.end_at(from, to) {
                    self.send(node, other, Payload::Hangup);
                }
            }
            Payload::Receipt => {
                if let Some(connection) = self.connections.get_mut(&to) {
                    connection.is_writing = false;
                }
                self.flush(node);
            }
            Payload::Hangup => {
                if self.connections.remove(&to).is_some() {
                    self.input(node, peer, Input::Closed { id });
                }
            }
        }
    }

    fn called(&mut self, to: End, caller: End) {
        let now = self.now;
        let known = self.nodes.get_mut(usize::from(to.node.0));
        let speaker = known.and_then(|known| known.speaker.as_mut());
        let accepted = speaker.and_then(|s| s.incoming(now, to.peer, endpoint(to.node)));
        let Some(connection) = accepted else {
            return self.send(to.node, caller, Payload::Refusal);
        };
        let end = End { connection, ..to };
        self.connections.insert(end, Connection { other: Some(caller), is_writing: false });
        self.send(to.node, caller, Payload::Answer { from: end });
        self.flush(to.node);
    }

    /// The end at `node` of the connection whose other end was `gone`.
    fn end_at(&self, node: NodeId, gone: End) -> Option<End> {
        let mut ends = self.connections.iter();
        ends.find(|(end, it)| end.node == node && it.other == Some(gone)).map(|(end, _)| *end)
    }

    fn add_session(&mut self, node: NodeId, other: NodeId) {
        let session = SessionConfig {
            // Both may call: who is first is chance, as it is outside.
            connect: ConnectMode::Both,
            restart_time: self.restart_time,
            helper: self.restart_time.map(|_| HelperConfig::default()),
            ..SessionConfig::new(asn(node), address(node), PeerAs::Number(asn(other)))
        };
        let config = PeerConfig {
            address: IpAddr::V4(address(other)),
            session,
            connection: isocast_bgp::policy::Connection::Transit,
            import: ImportConfig { policy: Policy::accept_all(), ..ImportConfig::default() },
            export: ExportConfig {
                policy: Policy::accept_all(),
                learnt: LearntRoutes::Pass,
                ..ExportConfig::default()
            },
        };
        let (now, peer) = (self.now, peer_of(other));
        self.with_speaker(node, |speaker, actions| {
            let taken = speaker.set_peer(now, peer, config, actions);
            debug_assert!(taken.is_ok(), "{taken:?}");
            speaker.handle(now, peer, Input::Start, actions);
        });
    }
}

fn key(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

fn other_end((a, b): (NodeId, NodeId), node: NodeId) -> Option<NodeId> {
    if a == node {
        return Some(b);
    }
    (b == node).then_some(a)
}

pub(super) fn asn(node: NodeId) -> Asn {
    Asn(65_001 + u32::from(node.0))
}

fn address(node: NodeId) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0001 + u32::from(node.0))
}

fn endpoint(node: NodeId) -> LocalEndpoint {
    LocalEndpoint { address: IpAddr::V4(address(node)), interface_ipv6: None }
}

/// Nodes know each other by their numbers.
fn peer_of(node: NodeId) -> PeerId {
    PeerId(u32::from(node.0))
}

fn node_of(peer: PeerId) -> NodeId {
    NodeId(u16::try_from(peer.0).unwrap_or(u16::MAX))
}
