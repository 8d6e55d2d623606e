//! One session whose peer is the test: bytes in, and what came of them.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use isocast_bgp::fsm::{
    Action, ConnectMode, ConnectionId, EndReason, Input, LocalEndpoint, PeerAs, RestartState,
    Session, SessionConfig, State,
};
use isocast_bgp::types::{Asn, Family, FamilySet};
use isocast_bgp::wire::capability::Capability;
use isocast_bgp::wire::encode;
use isocast_bgp::wire::header::{self, Deframer, MessageType};
use isocast_bgp::wire::notification::Notification;
use isocast_bgp::wire::open::Open;
use isocast_bgp::wire::reader::Reader;

use crate::lone::{Lone, accept};

/// See the module.
pub(crate) struct Probe {
    pub(crate) now: Instant,
    pub(crate) lone: Lone,
    pub(crate) id: ConnectionId,
    pub(crate) ends: Vec<EndReason>,
    pub(crate) told: Option<Notification>,
    pub(crate) end_of_ribs: Vec<Family>,
    pub(crate) faults: usize,
    /// The prefixes of each UPDATE that had faults.
    pub(crate) malformed: Vec<Vec<IpNet>>,
}

/// The session's side: AS 65010 at 10.0.0.8; the test is AS 65001 at 10.0.0.9.
pub(crate) fn probed(peer_as: PeerAs) -> SessionConfig {
    let router_id = Ipv4Addr::new(10, 0, 0, 8);
    SessionConfig {
        connect: ConnectMode::Passive,
        ..SessionConfig::new(Asn(65_010), router_id, peer_as)
    }
}

pub(crate) const EXTERNAL_PEER: PeerAs = PeerAs::Number(Asn(65_001));

/// What the test's side says, but for further capabilities.
pub(crate) fn open(asn: u32, further: &[Capability]) -> Open {
    Open {
        asn: Asn(asn),
        hold_time_s: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 9),
        capabilities: Capability::multiprotocol(FamilySet::BOTH)
            .chain([Capability::RouteRefresh, Capability::FourOctetAsn(Asn(asn))])
            .chain(further.iter().cloned())
            .collect(),
    }
}

pub(crate) fn message(kind: MessageType, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    header::encode(kind, &mut bytes, |out| out.extend_from_slice(body));
    bytes
}

pub(crate) fn keepalive() -> Vec<u8> {
    message(MessageType::Keepalive, &[])
}

/// The messages in `bytes`.
pub(crate) fn messages(bytes: &[u8]) -> Vec<(MessageType, Vec<u8>)> {
    let mut deframer = Deframer::default();
    deframer.allow(usize::from(u16::MAX));
    let mut reader = Reader::new(bytes);
    let mut messages = Vec::new();
    while let Some(message) = deframer.next(&mut reader).unwrap() {
        messages.push((message.kind, message.body.to_vec()));
    }
    assert!(reader.is_empty());
    messages
}

impl Probe {
    /// A session to which the test has connected.
    pub(crate) fn connected(config: SessionConfig) -> Self {
        let now = Instant::now();
        let mut lone = Lone::new(now, config, RestartState::default(), accept(1000));
        lone.handle(now, Input::Start, &mut Vec::new());
        lone.speaker.initial_set_complete();
        let id = lone.incoming(now, endpoint()).unwrap();
        Self {
            now,
            lone,
            id,
            ends: Vec::new(),
            told: None,
            end_of_ribs: Vec::new(),
            faults: 0,
            malformed: vec![],
        }
    }

    /// A session with these terms that is up, and has said all it had to say.
    pub(crate) fn established(config: SessionConfig, further: &[Capability]) -> Self {
        let asn = match config.peer_as {
            PeerAs::Number(Asn(asn)) => asn,
            PeerAs::External => 65_001,
            PeerAs::Internal => config.local_asn.0,
        };
        let mut probe = Self::connected(config);
        let mut hello = Vec::new();
        open(asn, further).encode(&mut hello);
        encode::keepalive(&mut hello);
        probe.hear(&hello);
        assert_eq!(probe.session().state(), State::Established, "{:?}", probe.ends);
        probe.say();
        probe
    }

    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.input(Input::Received { id: self.id, bytes });
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        let mut actions = Vec::new();
        self.lone.handle(self.now, input, &mut actions);
        for action in actions {
            match action {
                Action::Close { farewell, .. } => {
                    let said = farewell.map(|bytes| messages(&bytes)).unwrap_or_default();
                    let last = said.last().filter(|(kind, _)| *kind == MessageType::Notification);
                    self.told = last.map(|(_, body)| Notification::decode(body).unwrap());
                }
                Action::Ended { reason, .. } => self.ends.push(reason),
                Action::EndOfRib(family) => self.end_of_ribs.push(family),
                Action::Fault(_) => self.faults += 1,
                Action::Malformed { prefixes, .. } => self.malformed.push(prefixes),
                Action::Connect(_) | Action::Established => {}
            }
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.input(Input::Tick);
    }

    /// What the session has to say now.
    pub(crate) fn say(&mut self) -> Vec<(MessageType, Vec<u8>)> {
        let mut bytes = Vec::new();
        self.lone.transmit(self.id, &mut bytes);
        messages(&bytes)
    }

    pub(crate) fn session(&self) -> &Session {
        self.lone.session()
    }

    /// Code and subcode that the session ended with.
    pub(crate) fn farewell(&self) -> Option<(u8, u8)> {
        self.told.as_ref().map(|told| (told.code, told.subcode))
    }
}

fn endpoint() -> LocalEndpoint {
    LocalEndpoint {
        address: Ipv4Addr::new(10, 0, 0, 8).into(),
        interface_ipv6: Some("2001:db8::8".parse().unwrap()),
    }
}
