//! Two speakers joined by wires that lose nothing, on a clock that moves when told.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use isocast_bgp::fsm::{
    Action, ConnectMode, ConnectionId, EndReason, Input, LocalEndpoint, PeerAs, RestartState,
    SessionConfig, State,
};
use isocast_bgp::speaker::{Announcements, ImportConfig};
use isocast_bgp::types::{Asn, Family, FamilySet, PeerKind};
use isocast_bgp::wire::as_path::AsPath;
use isocast_bgp::wire::attribute::PathAttributes;
use isocast_bgp::wire::capability::Capability;
use isocast_bgp::wire::encode;
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::open::Open;
use isocast_bgp::wire::update::Codec;

use crate::lone::{Lone, RouteChange, accept, announcements};

/// One end and what came out of it.
pub(crate) struct End {
    pub(crate) lone: Lone,
    address: Ipv4Addr,
    pub(crate) ends: Vec<EndReason>,
    pub(crate) end_of_ribs: Vec<Family>,
    pub(crate) bytes_sent: usize,
    /// Our connection to the other end's.
    wires: BTreeMap<ConnectionId, ConnectionId>,
}

/// See the module.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) left: End,
    pub(crate) right: End,
    /// Bytes and closes get lost while this is set.
    pub(crate) cut: bool,
}

pub(crate) fn config(local: u32, peer: u32, last_octet: u8) -> SessionConfig {
    let router_id = Ipv4Addr::new(10, 0, 0, last_octet);
    SessionConfig {
        restart_time: Some(Duration::from_secs(30)),
        ..SessionConfig::new(Asn(local), router_id, PeerAs::Number(Asn(peer)))
    }
}

/// The left end connects and announces; the right end waits and collects.
pub(crate) fn left_config() -> SessionConfig {
    config(65_010, 65_020, 1)
}

pub(crate) fn right_config() -> SessionConfig {
    SessionConfig { connect: ConnectMode::Passive, ..config(65_020, 65_010, 2) }
}

impl End {
    pub(crate) fn new(
        now: Instant,
        config: SessionConfig,
        restart: RestartState,
        import: ImportConfig,
    ) -> Self {
        Self {
            address: config.router_id,
            lone: Lone::new(now, config, restart, import),
            ends: Vec::new(),
            end_of_ribs: Vec::new(),
            bytes_sent: 0,
            wires: BTreeMap::new(),
        }
    }

    fn endpoint(&self) -> LocalEndpoint {
        let interface_ipv6 = Some(format!("2001:db8::{}", self.address.octets()[3]));
        LocalEndpoint {
            address: self.address.into(),
            interface_ipv6: interface_ipv6.and_then(|text| text.parse().ok()),
        }
    }

    pub(crate) fn announced(&self) -> Vec<String> {
        self.changes(|change| match change {
            RouteChange::Announced(prefix) => Some(prefix.to_string()),
            _ => None,
        })
    }

    pub(crate) fn withdrawn(&self) -> Vec<String> {
        self.changes(|change| match change {
            RouteChange::Withdrawn(prefix) => Some(prefix.to_string()),
            _ => None,
        })
    }

    pub(crate) fn lost(&self) -> Vec<String> {
        self.changes(|change| match change {
            RouteChange::Lost(prefix) => Some(prefix.to_string()),
            _ => None,
        })
    }

    pub(crate) fn want(&mut self, prefixes: &[&str]) {
        self.lone.speaker.set_local(announcements(prefixes, &["65010:100"]));
    }

    /// As the driver would, but what comes out is the test's.
    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>, actions: &mut Vec<Action>) {
        self.lone.handle(now, input, actions);
    }

    fn changes(&self, pick: impl Fn(&RouteChange) -> Option<String>) -> Vec<String> {
        self.lone.changes.iter().filter_map(pick).collect()
    }
}

impl Pair {
    pub(crate) fn new(left: SessionConfig, right: SessionConfig) -> Self {
        let now = Instant::now();
        let restart = RestartState::default();
        let left = End::new(now, left, restart, ImportConfig::default());
        let right = End::new(now, right, restart, accept(100));
        Self { now, left, right, cut: false }
    }

    /// Both started, as far as they get without time passing.
    pub(crate) fn started(left: SessionConfig, right: SessionConfig) -> Self {
        let mut pair = Self::new(left, right);
        pair.input_right(Input::Start);
        pair.input_left(Input::Start);
        pair
    }

    pub(crate) fn established() -> Self {
        let pair = Self::started(left_config(), right_config());
        assert_eq!(pair.states(), (State::Established, State::Established));
        pair
    }

    pub(crate) fn states(&self) -> (State, State) {
        (self.left.lone.session().state(), self.right.lone.session().state())
    }

    pub(crate) fn input_left(&mut self, input: Input<'_>) {
        self.input(true, input);
        self.settle();
    }

    pub(crate) fn input_right(&mut self, input: Input<'_>) {
        self.input(false, input);
        self.settle();
    }

    /// Lets time pass in the steps that the sessions ask for.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let deadlines = [&self.left, &self.right].map(|end| end.lone.speaker.next_deadline());
            let next = deadlines.into_iter().flatten().min().filter(|at| *at <= until);
            self.now = next.unwrap_or(until).max(self.now);
            self.input(true, Input::Tick);
            self.input(false, Input::Tick);
            self.settle();
            if next.is_none() {
                return;
            }
        }
    }

    /// Moves bytes until both ends have nothing to say.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut moved = false;
            for is_left in [true, false] {
                let mut actions = Vec::new();
                let now = self.now;
                self.end(is_left).lone.work(now, &mut actions);
                self.carry_out(is_left, actions);
                for (from, to) in self.end(is_left).wires.clone() {
                    let mut bytes = Vec::new();
                    let end = self.end(is_left);
                    end.lone.transmit(from, &mut bytes);
                    self.end(is_left).bytes_sent += bytes.len();
                    moved |= !bytes.is_empty();
                    if !self.cut {
                        self.input(!is_left, Input::Received { id: to, bytes: &bytes });
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn end(&mut self, is_left: bool) -> &mut End {
        if is_left { &mut self.left } else { &mut self.right }
    }

    fn input(&mut self, is_left: bool, input: Input<'_>) {
        let now = self.now;
        let mut actions = Vec::new();
        let end = self.end(is_left);
        end.handle(now, input, &mut actions);
        self.carry_out(is_left, actions);
    }

    pub(crate) fn carry_out(&mut self, is_left: bool, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect(id) => self.connect(is_left, id),
                Action::Close { id, farewell } => self.close(is_left, id, farewell),
                Action::Ended { reason, .. } => self.end(is_left).ends.push(reason),
                Action::EndOfRib(family) => self.end(is_left).end_of_ribs.push(family),
                Action::Established | Action::Fault(_) | Action::Malformed { .. } => {}
            }
        }
    }

    fn connect(&mut self, is_left: bool, id: ConnectionId) {
        if self.cut {
            return;
        }
        let now = self.now;
        let other = self.end(!is_left);
        let local = other.endpoint();
        match other.lone.incoming(now, local) {
            Some(theirs) => {
                other.wires.insert(theirs, id);
                let end = self.end(is_left);
                end.wires.insert(id, theirs);
                let local = end.endpoint();
                self.input(is_left, Input::Connected { id, local });
            }
            None => {
                let error = "connection refused".to_owned();
                self.input(is_left, Input::ConnectFailed { id, error });
            }
        }
    }

    fn close(&mut self, is_left: bool, id: ConnectionId, farewell: Option<Vec<u8>>) {
        let Some(theirs) = self.end(is_left).wires.remove(&id) else { return };
        if self.cut {
            return;
        }
        if let Some(bytes) = farewell {
            self.input(!is_left, Input::Received { id: theirs, bytes: &bytes });
        }
        self.input(!is_left, Input::Closed { id: theirs });
    }
}

impl Pair {
    /// The left end is gone without a word, and another takes its place.
    pub(crate) fn replace_left(&mut self, restart: RestartState) {
        self.replace_left_with(left_config(), restart);
    }

    pub(crate) fn replace_left_with(&mut self, config: SessionConfig, restart: RestartState) {
        self.right.wires.clear();
        self.left = End::new(self.now, config, restart, ImportConfig::default());
        self.input_left(Input::Start);
    }

    /// A connection to the right end whose other side is the test.
    pub(crate) fn right_accepts(&mut self) -> ConnectionId {
        let endpoint = self.right.endpoint();
        let accepted = self.right.lone.incoming(self.now, endpoint);
        accepted.expect("the right end wants no connection")
    }

    /// The right end, established with a left end that the test plays.
    pub(crate) fn right_greeted(&mut self, capabilities: &[Capability]) -> ConnectionId {
        let id = self.right_accepts();
        let mut hello = Vec::new();
        Open {
            asn: Asn(65_010),
            hold_time_s: 9,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            capabilities: Capability::multiprotocol(FamilySet::BOTH)
                .chain([Capability::FourOctetAsn(Asn(65_010))])
                .chain(capabilities.iter().cloned())
                .collect(),
        }
        .encode(&mut hello);
        encode::keepalive(&mut hello);
        self.input_right(Input::Received { id, bytes: &hello });
        assert_eq!(self.right.lone.session().state(), State::Established);
        id
    }

    /// What the left end would say to announce `wanted`, said by the test.
    pub(crate) fn announce_by_hand(&mut self, id: ConnectionId, wanted: &Announcements) {
        let mut bytes = Vec::new();
        let codec = Codec::new(PeerKind::External);
        for (prefix, announcement) in wanted {
            let next_hop = match prefix {
                IpNet::V4(_) => "10.0.0.1",
                IpNet::V6(_) => "2001:db8::1",
            };
            let attributes = PathAttributes {
                as_path: AsPath(vec![Asn(65_010)]),
                communities: (*announcement.communities).clone(),
                ..PathAttributes::default()
            };
            let next_hop = NextHop::new(next_hop.parse().unwrap()).unwrap();
            let mut prefixes = std::iter::once(*prefix).peekable();
            encode::announce(&attributes, next_hop, &mut prefixes, &codec, &mut bytes).unwrap();
        }
        self.input_right(Input::Received { id, bytes: &bytes });
    }

    /// The left end's connection and the right end's name for it.
    pub(crate) fn left_connection(&self) -> (ConnectionId, ConnectionId) {
        let (ours, theirs) = self.left.wires.iter().next().expect("no connection");
        (*ours, *theirs)
    }
}
