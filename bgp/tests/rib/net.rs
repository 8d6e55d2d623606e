//! Speakers joined by wires that lose nothing until they are cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use isocast_bgp::fsm::{
    Action, ConnectMode, ConnectionId, EndReason, Input, LocalEndpoint, PeerAs, RestartState,
    SessionConfig, State,
};
use isocast_bgp::guard::ExportGuard;
use isocast_bgp::limits::CONNECT_RETRY_MAX;
use isocast_bgp::policy::{Connection, Policy};
use isocast_bgp::speaker::{
    Announcement, Announcements, Cursor, ExportConfig, ImportConfig, LearntRoutes, OverLimit,
    PathView, PeerAction, PeerConfig, PeerId, PrefixLimit, Speaker, SpeakerConfig,
};
use isocast_bgp::types::{Asn, Family, FamilySet, PerFamily};

/// One end of a wire: a speaker, its name for the peer, and the connection.
type End = (usize, PeerId, ConnectionId);

/// See the module.
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) speakers: Vec<Speaker>,
    wires: BTreeMap<End, End>,
    /// Links that carry nothing and cannot be connected.
    cut: BTreeSet<(usize, usize)>,
    /// Speakers that read nothing from anybody.
    pub(crate) deaf: BTreeSet<usize>,
    pub(crate) ends: Vec<(usize, PeerId, EndReason)>,
}

pub(crate) fn asn(speaker: usize) -> Asn {
    Asn(65_000 + u32::try_from(speaker).unwrap())
}

pub(crate) fn address(speaker: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(speaker + 1).unwrap())
}

pub(crate) fn peer(speaker: usize) -> PeerId {
    PeerId(u32::try_from(speaker).unwrap())
}

/// A session from `from` to `to`, two autonomous systems, everything accepted and passed on.
pub(crate) fn transit(from: usize, to: usize) -> PeerConfig {
    let session = SessionConfig {
        local_asn: asn(from),
        router_id: address(from),
        peer_as: PeerAs::Number(asn(to)),
        connect: if from < to { ConnectMode::Active } else { ConnectMode::Passive },
        families: FamilySet::BOTH,
        hold_time: Duration::from_secs(9),
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
    PeerConfig {
        address: address(to).into(),
        session,
        connection: Connection::Transit,
        import: ImportConfig {
            policy: Policy::accept_all(),
            limit: PrefixLimit { prefixes_max: 1_000_000, over: OverLimit::EndSession },
            blackhole: false,
        },
        export: ExportConfig {
            policy: Policy::accept_all(),
            learnt: LearntRoutes::Pass,
            ..ExportConfig::default()
        },
    }
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn announcements<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> Arc<Announcements> {
    Arc::new(prefixes.into_iter().map(|text| (net(text), Announcement::default())).collect())
}

impl Net {
    /// As many speakers, not joined yet.
    pub(crate) fn new(count: usize) -> Self {
        let now = Instant::now();
        let speakers = (0..count).map(|at| {
            let config = SpeakerConfig {
                asn: asn(at),
                router_id: address(at),
                multipath_max: 4,
                restart: RestartState::default(),
            };
            let mut speaker = Speaker::new(now, config, at as u64 + 1);
            let everything = ["0.0.0.0/0", "::/0"].map(net);
            speaker.set_guard(Arc::new(ExportGuard::new(everything)));
            speaker.initial_set_complete();
            speaker
        });
        Self {
            now,
            speakers: speakers.collect(),
            wires: BTreeMap::new(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            ends: Vec::new(),
        }
    }

    /// Joins two speakers by a session.
    pub(crate) fn join(&mut self, left: PeerConfig, right: PeerConfig) {
        let (IpAddr::V4(to), IpAddr::V4(from)) = (left.address, right.address) else { panic!() };
        let number = |address: Ipv4Addr| usize::from(address.octets()[3]) - 1;
        let (a, b) = (number(from), number(to));
        self.set(a, b, left);
        self.set(b, a, right);
        // Who waits for the other first.
        for (at, other) in [(a.max(b), a.min(b)), (a.min(b), a.max(b))] {
            self.input(at, peer(other), Input::Start);
        }
        self.settle();
    }

    /// Gives a speaker a configuration of a peer.
    pub(crate) fn set(&mut self, at: usize, other: usize, config: PeerConfig) {
        let mut actions = Vec::new();
        self.speakers[at].set_peer(self.now, peer(other), config, &mut actions).unwrap();
        self.carry_out(at, actions);
    }

    pub(crate) fn input(&mut self, at: usize, id: PeerId, input: Input<'_>) {
        let mut actions = Vec::new();
        self.speakers[at].handle(self.now, id, input, &mut actions);
        self.carry_out(at, actions);
    }

    pub(crate) fn announce<'a>(&mut self, at: usize, prefixes: impl IntoIterator<Item = &'a str>) {
        self.speakers[at].set_local(announcements(prefixes));
        self.settle();
    }

    /// Cuts a link, or mends it. Both ends notice at once.
    pub(crate) fn set_link(&mut self, a: usize, b: usize, up: bool) {
        let link = (a.min(b), a.max(b));
        if up {
            self.cut.remove(&link);
            return;
        }
        self.cut.insert(link);
        let on_link = |(x, y): (usize, usize)| (x.min(y), x.max(y)) == link;
        let broken: Vec<_> = self
            .wires
            .iter()
            .filter(|(from, to)| on_link((from.0, to.0)))
            .map(|(e, _)| *e)
            .collect();
        for end in broken {
            self.wires.remove(&end);
            self.input(end.0, end.1, Input::Closed { id: end.2 });
        }
        self.settle();
    }

    /// Moves bytes and does slices of work until there is nothing left to do now.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut moved = false;
            for at in 0..self.speakers.len() {
                while self.speakers[at].next_deadline().is_some_and(|due| due <= self.now) {
                    let mut actions = Vec::new();
                    self.speakers[at].tick(self.now, &mut actions);
                    self.carry_out(at, actions);
                    moved = true;
                }
            }
            for (from, to) in self.wires.clone() {
                if self.deaf.contains(&to.0) {
                    continue;
                }
                let mut bytes = Vec::new();
                self.speakers[from.0].transmit(from.1, from.2, &mut bytes);
                if !bytes.is_empty() {
                    moved = true;
                    self.input(to.0, to.1, Input::Received { id: to.2, bytes: &bytes });
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Lets time pass in the steps that the speakers ask for.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let next = self.speakers.iter().filter_map(Speaker::next_deadline).min();
            let next = next.filter(|at| *at <= until);
            self.now = next.unwrap_or(until).max(self.now);
            self.settle();
            if next.is_none() {
                return;
            }
        }
    }

    fn carry_out(&mut self, at: usize, actions: Vec<PeerAction>) {
        for (id, action) in actions {
            match action {
                Action::Connect(connection) => self.connect(at, id, connection),
                Action::Close { id: connection, farewell } => {
                    self.close((at, id, connection), farewell);
                }
                Action::Ended { reason, .. } => self.ends.push((at, id, reason)),
                _ => {}
            }
        }
    }

    fn connect(&mut self, at: usize, id: PeerId, connection: ConnectionId) {
        let other = usize::try_from(id.0).unwrap();
        let local = |speaker: usize| LocalEndpoint {
            address: address(speaker).into(),
            interface_ipv6: format!("2001:db8::{}", speaker + 1).parse().ok(),
        };
        let reachable = !self.cut.contains(&(at.min(other), at.max(other)));
        let accepted = reachable
            .then(|| self.speakers[other].incoming(self.now, peer(at), local(other)))
            .flatten();
        match accepted {
            Some(theirs) => {
                self.wires.insert((at, id, connection), (other, peer(at), theirs));
                self.wires.insert((other, peer(at), theirs), (at, id, connection));
                self.input(at, id, Input::Connected { id: connection, local: local(at) });
            }
            None => {
                let error = "connection refused".to_owned();
                self.input(at, id, Input::ConnectFailed { id: connection, error });
            }
        }
    }

    fn close(&mut self, end: End, farewell: Option<Vec<u8>>) {
        let Some(other) = self.wires.remove(&end) else { return };
        self.wires.remove(&other);
        if let Some(bytes) = farewell {
            self.input(other.0, other.1, Input::Received { id: other.2, bytes: &bytes });
        }
        self.input(other.0, other.1, Input::Closed { id: other.2 });
    }

    pub(crate) fn is_up(&self, at: usize, other: usize) -> bool {
        self.speakers[at].peer(peer(other)).is_some_and(|view| view.state == State::Established)
    }

    /// The best path of every prefix that a speaker can use.
    pub(crate) fn best(&self, at: usize) -> BTreeMap<IpNet, PathView<PeerId>> {
        let mut all = BTreeMap::new();
        for family in Family::ALL {
            let mut cursor = Some(Cursor::default());
            while let Some(from) = cursor {
                let page = self.speakers[at].routes(family, from, 100);
                cursor = page.next;
                for entry in page.entries {
                    let best = entry.paths.into_iter().find(|path| path.best);
                    all.extend(best.map(|path| (entry.prefix, path)));
                }
            }
        }
        all
    }

    pub(crate) fn prefixes(&self, at: usize) -> Vec<String> {
        self.best(at).keys().map(IpNet::to_string).collect()
    }
}
