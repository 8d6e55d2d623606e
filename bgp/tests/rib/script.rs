//! A speaker whose peers are scripts: they say what the test says, and remember what they are told.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use ipnet::IpNet;
use isocast_bgp::fsm::{
    Action, ConnectMode, ConnectionId, Input, LocalEndpoint, PeerAs, RestartState, SessionConfig,
    State,
};
use isocast_bgp::speaker::{PeerAction, PeerConfig, PeerId, Speaker, SpeakerConfig};
use isocast_bgp::types::{Asn, Family, FamilySet, PeerKind};
use isocast_bgp::wire::as_path::AsnWidth;
use isocast_bgp::wire::attribute::PathAttributes;
use isocast_bgp::wire::capability::Capability;
use isocast_bgp::wire::encode;
use isocast_bgp::wire::header::{Deframer, MessageType};
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::open::Open;
use isocast_bgp::wire::reader::Reader;
use isocast_bgp::wire::update::{self, Codec};

use crate::net::transit;

/// The speaker under test.
pub(crate) const LOCAL_ASN: Asn = Asn(65_000);

/// A peer's routes, as it understood them.
pub(crate) type Held = BTreeMap<IpNet, (NextHop, PathAttributes)>;

/// How a scripted peer presents itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Persona {
    pub(crate) asn: Asn,
    pub(crate) width: AsnWidth,
}

pub(crate) struct ScriptPeer {
    pub(crate) persona: Persona,
    pub(crate) offers: Vec<Capability>,
    connection: Option<ConnectionId>,
    deframer: Deframer,
    pub(crate) held: Held,
    pub(crate) end_of_ribs: Vec<Family>,
    pub(crate) messages: usize,
    pub(crate) refreshes: usize,
}

/// See the module. Peer `n` is at 10.0.0.(n + 1).
pub(crate) struct Script {
    pub(crate) now: Instant,
    pub(crate) speaker: Speaker,
    pub(crate) peers: Vec<ScriptPeer>,
    pub(crate) actions: Vec<PeerAction>,
}

pub(crate) fn id(peer: usize) -> PeerId {
    PeerId(u32::try_from(peer).unwrap())
}

pub(crate) fn address(peer: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(peer + 1).unwrap())
}

/// Everything accepted and passed on.
pub(crate) fn config(peer: usize, asn: Asn) -> PeerConfig {
    let usual = transit(0, peer + 1);
    let session = SessionConfig {
        local_asn: LOCAL_ASN,
        router_id: Ipv4Addr::new(10, 0, 0, 254),
        peer_as: PeerAs::Number(asn),
        connect: ConnectMode::Passive,
        enforce_first_as: false,
        ..usual.session
    };
    PeerConfig { address: address(peer).into(), session, ..usual }
}

impl Persona {
    pub(crate) fn new(asn: u32) -> Self {
        Self { asn: Asn(asn), width: AsnWidth::Four }
    }

    pub(crate) fn kind(self) -> PeerKind {
        if self.asn == LOCAL_ASN { PeerKind::Internal } else { PeerKind::External }
    }

    pub(crate) fn codec(self) -> Codec {
        Codec { asn_width: self.width, ..Codec::new(self.kind()) }
    }
}

impl Script {
    pub(crate) fn new(personas: &[Persona]) -> Self {
        let configs = personas.iter().enumerate().map(|(at, p)| config(at, p.asn)).collect();
        Self::with(personas, configs)
    }

    pub(crate) fn with(personas: &[Persona], configs: Vec<PeerConfig>) -> Self {
        Self::offering(personas, configs, &[])
    }

    /// Peers that offer more than the usual capabilities, each its own.
    pub(crate) fn offering(
        personas: &[Persona],
        configs: Vec<PeerConfig>,
        offers: &[Vec<Capability>],
    ) -> Self {
        let now = Instant::now();
        let speaker = SpeakerConfig {
            asn: LOCAL_ASN,
            router_id: Ipv4Addr::new(10, 0, 0, 254),
            multipath_max: 4,
            restart: RestartState::default(),
        };
        let peers = personas.iter().enumerate().map(|(at, persona)| ScriptPeer {
            persona: *persona,
            offers: offers.get(at).cloned().unwrap_or_default(),
            connection: None,
            deframer: Deframer::default(),
            held: Held::new(),
            end_of_ribs: Vec::new(),
            messages: 0,
            refreshes: 0,
        });
        let mut script = Self {
            now,
            speaker: Speaker::new(now, speaker, 7),
            peers: peers.collect(),
            actions: Vec::new(),
        };
        script.speaker.initial_set_complete();
        for (peer, config) in configs.into_iter().enumerate() {
            script.configure(peer, config);
            script.start(peer);
            script.connect(peer);
        }
        script
    }

    pub(crate) fn configure(&mut self, peer: usize, config: PeerConfig) {
        let mut actions = Vec::new();
        self.speaker.set_peer(self.now, id(peer), config, &mut actions).unwrap();
        self.note(actions);
    }

    /// Sessions of a peer are wanted from here on.
    pub(crate) fn start(&mut self, peer: usize) {
        let mut actions = Vec::new();
        self.speaker.handle(self.now, id(peer), Input::Start, &mut actions);
    }

    /// A new session of a peer that has none.
    pub(crate) fn connect(&mut self, peer: usize) {
        let local = LocalEndpoint {
            address: Ipv4Addr::new(10, 0, 0, 254).into(),
            interface_ipv6: "2001:db8::fe".parse().ok(),
        };
        let connection = self.speaker.incoming(self.now, id(peer), local).expect("not wanted");
        let script = &mut self.peers[peer];
        script.connection = Some(connection);
        script.deframer = Deframer::default();
        script.held.clear();
        let mut capabilities: Vec<_> = Capability::multiprotocol(FamilySet::BOTH).collect();
        capabilities.push(Capability::RouteRefresh);
        if script.persona.width == AsnWidth::Four {
            capabilities.push(Capability::FourOctetAsn(script.persona.asn));
        }
        capabilities.extend(script.offers.iter().cloned());
        let open = Open {
            asn: script.persona.asn,
            hold_time_s: 90,
            router_id: address(peer),
            capabilities,
        };
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        encode::keepalive(&mut bytes);
        self.say(peer, &bytes);
        assert_eq!(self.speaker.peer(id(peer)).unwrap().state, State::Established);
    }

    pub(crate) fn is_up(&self, peer: usize) -> bool {
        self.peers[peer].connection.is_some()
    }

    /// The connection of a peer breaks.
    pub(crate) fn lose(&mut self, peer: usize) {
        if let Some(connection) = self.peers[peer].connection.take() {
            let mut actions = Vec::new();
            let input = Input::Closed { id: connection };
            self.speaker.handle(self.now, id(peer), input, &mut actions);
            self.note(actions);
            self.peers[peer].held.clear();
        }
    }

    /// A peer sends bytes.
    pub(crate) fn say(&mut self, peer: usize, bytes: &[u8]) {
        let Some(connection) = self.peers[peer].connection else { return };
        let mut actions = Vec::new();
        let input = Input::Received { id: connection, bytes };
        self.speaker.handle(self.now, id(peer), input, &mut actions);
        self.note(actions);
    }

    pub(crate) fn announce(
        &mut self,
        peer: usize,
        prefixes: &[IpNet],
        next_hop: NextHop,
        attributes: &PathAttributes,
    ) {
        let mut bytes = Vec::new();
        let codec = self.peers[peer].persona.codec();
        let mut prefixes = prefixes.iter().copied().peekable();
        while prefixes.peek().is_some() {
            encode::announce(attributes, next_hop, &mut prefixes, &codec, &mut bytes).unwrap();
        }
        self.say(peer, &bytes);
    }

    pub(crate) fn withdraw(&mut self, peer: usize, prefixes: &[IpNet]) {
        for family in Family::ALL {
            let list = prefixes.iter().copied().filter(|prefix| Family::of(prefix) == family);
            let mut list = list.peekable();
            while list.peek().is_some() {
                let mut bytes = Vec::new();
                encode::withdraw(family, &mut list, &mut bytes);
                self.say(peer, &bytes);
            }
        }
    }

    /// One turn of what a peer is sent; whether there was anything.
    pub(crate) fn hear(&mut self, peer: usize) -> bool {
        let Some(connection) = self.peers[peer].connection else { return false };
        let mut bytes = Vec::new();
        self.speaker.transmit(id(peer), connection, &mut bytes);
        self.peers[peer].take(&bytes);
        !bytes.is_empty()
    }

    /// Until everybody who listens has heard everything.
    pub(crate) fn settle(&mut self) {
        self.settle_but(&[]);
    }

    /// The same, but for peers that do not read.
    pub(crate) fn settle_but(&mut self, deaf: &[usize]) {
        loop {
            let mut moved = self.work();
            for peer in (0..self.peers.len()).filter(|peer| !deaf.contains(peer)) {
                moved |= self.hear(peer);
            }
            if !moved {
                return;
            }
        }
    }

    /// One slice of what waits in the table; whether there was one.
    pub(crate) fn work(&mut self) -> bool {
        let due = self.speaker.next_deadline().is_some_and(|at| at <= self.now);
        if due {
            let mut actions = Vec::new();
            self.speaker.tick(self.now, &mut actions);
            self.note(actions);
        }
        due
    }

    fn note(&mut self, actions: Vec<PeerAction>) {
        for (peer, action) in &actions {
            if let Action::Close { id, .. } = action {
                let script = &mut self.peers[usize::try_from(peer.0).unwrap()];
                if script.connection == Some(*id) {
                    script.connection = None;
                    script.held.clear();
                }
            }
        }
        self.actions.extend(actions);
    }
}

impl ScriptPeer {
    fn take(&mut self, bytes: &[u8]) {
        let extended = |offer: &Capability| matches!(offer, Capability::ExtendedNextHop(_));
        let extended_next_hop = self.offers.iter().any(extended);
        let codec = Codec { extended_next_hop, ..self.persona.codec() };
        let mut reader = Reader::new(bytes);
        while let Some(message) = self.deframer.next(&mut reader).unwrap() {
            self.refreshes += usize::from(message.kind == MessageType::RouteRefresh);
            if message.kind != MessageType::Update {
                continue;
            }
            self.messages += 1;
            let update = update::decode(message.body, &codec).unwrap();
            assert!(update.faults.is_empty(), "{:?}", update.faults);
            self.end_of_ribs.extend(update.end_of_rib);
            for prefix in update.withdrawn {
                self.held.remove(&prefix);
            }
            for reach in update.reach {
                for prefix in reach.prefixes {
                    self.held.insert(prefix, (reach.next_hop, update.attributes.clone()));
                }
            }
        }
    }
}
