//! A speaker whose peers are scripts: injectors that send ready-made bytes, and one receiver.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use isocast_bgp::fsm::{
    ConnectMode, ConnectionId, Input, LocalEndpoint, PeerAs, RestartState, SessionConfig, State,
};
use isocast_bgp::limits::CONNECT_RETRY_MAX;
use isocast_bgp::policy::{Connection, Policy};
use isocast_bgp::speaker::{
    ExportConfig, ImportConfig, LearntRoutes, OverLimit, PeerConfig, PeerId, PrefixLimit, Speaker,
    SpeakerConfig,
};
use isocast_bgp::types::{Asn, Family, FamilySet, PerFamily};
use nix::time::{ClockId, clock_gettime};

/// What a driver reads in one turn.
pub(crate) const CHUNK: usize = 64 * 1024;

const LOCAL: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const RECEIVER: PeerId = PeerId(0);

/// Of the receiver; the others follow.
const PEERS: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 0);

/// RFC 6793 §9.
const AS_TRANS: u16 = 23_456;

/// See the module. Peer 0 receives, peers from 1 on inject.
#[derive(Debug)]
pub(crate) struct Scripted {
    speaker: Speaker,
    now: Instant,
    connections: Vec<ConnectionId>,
    out: Vec<u8>,
    actions: Vec<(PeerId, isocast_bgp::fsm::Action)>,
    pub(crate) longest: Duration,
}

impl Scripted {
    pub(crate) fn new(injectors: u32) -> Self {
        let now = Instant::now();
        let config = SpeakerConfig {
            asn: Asn(65_000),
            router_id: LOCAL,
            multipath_max: 1,
            restart: RestartState::default(),
        };
        let mut scripted = Self {
            speaker: Speaker::new(now, config, 42),
            now,
            connections: Vec::new(),
            out: Vec::new(),
            actions: Vec::new(),
            longest: Duration::ZERO,
        };
        scripted.speaker.initial_set_complete();
        for peer in 0..=injectors {
            scripted.connect(peer);
        }
        scripted
    }

    fn connect(&mut self, peer: u32) {
        let id = PeerId(peer);
        let asn = 65_000 + peer + u32::from(id == RECEIVER) * 500;
        let address = Ipv4Addr::from_bits(PEERS.to_bits() + peer);
        let config = config(address.into(), Asn(asn), id == RECEIVER);
        self.speaker.set_peer(self.now, id, config, &mut self.actions).unwrap();
        self.speaker.handle(self.now, id, Input::Start, &mut self.actions);
        let local = LocalEndpoint { address: LOCAL.into(), interface_ipv6: None };
        let connection = self.speaker.incoming(self.now, id, local).unwrap();
        self.connections.push(connection);
        let mut hello = Vec::new();
        let mut open = vec![4];
        open.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
        open.extend([0, 180]);
        open.extend(address.octets());
        open.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
        open.extend(asn.to_be_bytes());
        crate::stream::message(&mut hello, 1, &open);
        crate::stream::message(&mut hello, 4, &[]);
        self.receive(peer, &hello);
        assert_eq!(self.speaker.peer(id).unwrap().state, State::Established);
    }

    /// Bytes of one peer, as from one read.
    pub(crate) fn receive(&mut self, peer: u32, bytes: &[u8]) {
        let id = self.connections[peer as usize];
        let started = cpu_time();
        self.speaker.handle(
            self.now,
            PeerId(peer),
            Input::Received { id, bytes },
            &mut self.actions,
        );
        self.longest = self.longest.max(cpu_time().saturating_sub(started));
        self.actions.clear();
    }

    /// Any number of bytes of one peer; the receiver takes what comes of them.
    pub(crate) fn feed(&mut self, peer: u32, bytes: &[u8]) {
        for part in bytes.chunks(CHUNK) {
            self.receive(peer, part);
            while self.transmit() > 0 {}
        }
    }

    /// What the receiver is sent next.
    pub(crate) fn transmit(&mut self) -> usize {
        self.out.clear();
        let started = cpu_time();
        self.speaker.transmit(RECEIVER, self.connections[0], &mut self.out);
        self.longest = self.longest.max(cpu_time().saturating_sub(started));
        self.out.len()
    }

    /// What a driver asks after every event: who is to be told something, and when to come back.
    pub(crate) fn ask(&self) -> (usize, Option<Instant>) {
        (self.speaker.has_output().count(), self.speaker.next_deadline())
    }

    /// Until nothing is left to do.
    pub(crate) fn drain(&mut self) {
        loop {
            let worked = self.speaker.next_deadline().is_some_and(|at| at <= self.now);
            if worked {
                let started = cpu_time();
                self.speaker.tick(self.now, &mut self.actions);
                self.longest = self.longest.max(cpu_time().saturating_sub(started));
            }
            if self.transmit() == 0 && !worked {
                return;
            }
        }
    }

    /// The peer's connection breaks.
    pub(crate) fn lose(&mut self, peer: u32) {
        let id = self.connections[peer as usize];
        let started = cpu_time();
        self.longest = Duration::ZERO;
        self.speaker.handle(self.now, PeerId(peer), Input::Closed { id }, &mut self.actions);
        self.longest = self.longest.max(cpu_time().saturating_sub(started));
    }

    /// Prefixes that the receiver holds.
    pub(crate) fn told(&self) -> u32 {
        self.speaker.peer(RECEIVER).unwrap().counts.get(Family::Ipv4Unicast).told
    }

    pub(crate) fn updates_out(&self) -> u64 {
        self.speaker.peer(RECEIVER).unwrap().counters.updates_out
    }
}

/// How long this thread has run: what others do on the machine does not count.
pub(crate) fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn config(address: IpAddr, asn: Asn, receives: bool) -> PeerConfig {
    let session = SessionConfig {
        local_asn: Asn(65_000),
        router_id: LOCAL,
        peer_as: PeerAs::Number(asn),
        connect: ConnectMode::Passive,
        families: FamilySet::BOTH,
        hold_time: Duration::from_secs(180),
        connect_retry_max: CONNECT_RETRY_MAX,
        restart_time: None,
        helper: None,
        next_hops: PerFamily::default(),
        extended_next_hop: false,
        extended_messages: false,
        enforce_first_as: true,
        role: None,
        strict_role: false,
    };
    let import = ImportConfig {
        policy: if receives { Policy::reject_all() } else { Policy::accept_all() },
        limit: PrefixLimit { prefixes_max: 2_000_000, over: OverLimit::EndSession },
        blackhole: false,
    };
    let policy = if receives { Policy::accept_all() } else { Policy::reject_all() };
    let export = ExportConfig { policy, learnt: LearntRoutes::Pass, ..ExportConfig::default() };
    PeerConfig { address, session, connection: Connection::Transit, import, export }
}
