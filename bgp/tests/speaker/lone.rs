//! A speaker with one peer, and what became of that peer's routes: the difference between its table
//! before and after whatever happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use isocast_bgp::fsm::{Action, ConnectionId, Input, LocalEndpoint, RestartState, SessionConfig};
use isocast_bgp::guard::ExportGuard;
use isocast_bgp::policy::{Connection, Policy};
use isocast_bgp::speaker::{
    Announcement, Announcements, Cursor, ExportConfig, ImportConfig, OverLimit, PeerConfig,
    PeerCounts, PeerId, PrefixLimit, Speaker, SpeakerConfig, Verdict, Withheld,
};
use isocast_bgp::types::{Family, PerFamily};
use isocast_bgp::wire::attribute::PathAttributes;
use isocast_bgp::wire::community::Communities;
use isocast_bgp::wire::next_hop::NextHop;

const PEER: PeerId = PeerId(0);

/// A change of one route of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteChange {
    /// It is there, or another way.
    Announced(IpNet),
    /// It went though the peer said nothing about it.
    Lost(IpNet),
    /// The peer took it back, or said so in a way that is treated as if.
    Withdrawn(IpNet),
}

/// See the module.
pub(crate) struct Lone {
    pub(crate) speaker: Speaker,
    config: PeerConfig,
    pub(crate) changes: Vec<RouteChange>,
    held: BTreeMap<IpNet, (Option<NextHop>, PathAttributes)>,
    withdrawn: u64,
}

pub(crate) fn accept(prefixes_max: u32) -> ImportConfig {
    ImportConfig {
        policy: Policy::accept_all(),
        limit: PrefixLimit { prefixes_max, over: OverLimit::EndSession },
        blackhole: false,
    }
}

pub(crate) fn announcements(prefixes: &[&str], communities: &[&str]) -> Arc<Announcements> {
    let communities = Arc::new(Communities::parse(communities.iter().copied()).unwrap());
    let announcement = Announcement { communities, next_hop: None };
    Arc::new(prefixes.iter().map(|p| (p.parse().unwrap(), announcement.clone())).collect())
}

pub(crate) fn guard(prefixes: &[&str]) -> Arc<ExportGuard> {
    Arc::new(ExportGuard::new(prefixes.iter().map(|p| p.parse().unwrap())))
}

impl Lone {
    /// A speaker that takes what `import` lets pass, and may announce anything.
    pub(crate) fn new(
        now: Instant,
        session: SessionConfig,
        restart: RestartState,
        import: ImportConfig,
    ) -> Self {
        let speaker = SpeakerConfig {
            asn: session.local_asn,
            router_id: session.router_id,
            multipath_max: 1,
            restart,
        };
        let seed = u64::from(session.router_id.to_bits());
        let mut speaker = Speaker::new(now, speaker, seed);
        speaker.set_guard(guard(&["0.0.0.0/0", "::/0"]));
        let config = PeerConfig {
            // The wires of these tests have no addresses of their own.
            address: [192, 0, 2, 255].into(),
            session,
            connection: Connection::Transit,
            import,
            export: ExportConfig { policy: Policy::accept_all(), ..ExportConfig::default() },
        };
        speaker.set_peer(now, PEER, config.clone(), &mut Vec::new()).unwrap();
        let (changes, held) = (Vec::new(), BTreeMap::new());
        Self { speaker, config, changes, held, withdrawn: 0 }
    }

    pub(crate) fn session(&self) -> &isocast_bgp::fsm::Session {
        self.speaker.peer(PEER).unwrap().session
    }

    pub(crate) fn counts(&self) -> PerFamily<PeerCounts> {
        self.speaker.peer(PEER).unwrap().counts
    }

    /// Prefixes that the peer has in the table.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Wants these announced and no others, and brings that into the table.
    pub(crate) fn want(&mut self, now: Instant, prefixes: &[&str]) {
        self.speaker.set_local(announcements(prefixes, &["65010:100"]));
        self.work(now, &mut Vec::new());
    }

    /// Why a prefix of ours is not told.
    pub(crate) fn withheld(&self, prefix: &str) -> Option<Withheld> {
        self.speaker.sent_prefix(PEER, &prefix.parse().unwrap())?.outcome.err()
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>, actions: &mut Vec<Action>) {
        let mut named = Vec::new();
        self.speaker.handle(now, PEER, input, &mut named);
        self.note(named, actions);
    }

    /// Does what waits in the table.
    pub(crate) fn work(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.speaker.next_deadline().is_some_and(|due| due <= now) {
            let mut named = Vec::new();
            self.speaker.tick(now, &mut named);
            self.note(named, actions);
        }
    }

    pub(crate) fn incoming(&mut self, now: Instant, local: LocalEndpoint) -> Option<ConnectionId> {
        self.speaker.incoming(now, PEER, local)
    }

    pub(crate) fn transmit(&mut self, id: ConnectionId, out: &mut Vec<u8>) {
        self.speaker.transmit(PEER, id, out);
    }

    /// Changes the configuration of the session.
    pub(crate) fn reconfigure(
        &mut self,
        now: Instant,
        session: SessionConfig,
        actions: &mut Vec<Action>,
    ) {
        self.config.session = session;
        self.configure(now, actions);
    }

    /// Ends the session, and begins another, by a change that the peer need not agree to.
    pub(crate) fn reset(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let session = &mut self.config.session;
        session.enforce_first_as = !session.enforce_first_as;
        self.configure(now, actions);
    }

    pub(crate) fn set_prefixes_max(&mut self, now: Instant, prefixes_max: u32) {
        self.config.import = accept(prefixes_max);
        self.configure(now, &mut Vec::new());
    }

    fn configure(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut named = Vec::new();
        self.speaker.set_peer(now, PEER, self.config.clone(), &mut named).unwrap();
        self.note(named, actions);
    }

    fn note(&mut self, named: Vec<(PeerId, Action)>, actions: &mut Vec<Action>) {
        actions.extend(named.into_iter().map(|(_, action)| action));
        let held = self.read();
        let withdrawn = self.speaker.peer(PEER).unwrap().counters.withdrawn_in;
        let gone = self.held.keys().filter(|prefix| !held.contains_key(prefix)).copied();
        let change = if withdrawn > std::mem::replace(&mut self.withdrawn, withdrawn) {
            RouteChange::Withdrawn
        } else {
            RouteChange::Lost
        };
        self.changes.extend(gone.map(change));
        let new = held.iter().filter(|(prefix, route)| self.held.get(prefix) != Some(route));
        self.changes.extend(new.map(|(prefix, _)| RouteChange::Announced(*prefix)));
        self.held = held;
    }

    /// The peer's routes, as far as they may be used.
    fn read(&self) -> BTreeMap<IpNet, (Option<NextHop>, PathAttributes)> {
        let pages = Family::ALL.map(|family| self.speaker.routes(family, Cursor(0), 10_000));
        let entries = pages.into_iter().flat_map(|page| {
            assert!(page.next.is_none(), "more routes than these tests look at");
            page.entries
        });
        let routes = entries.flat_map(|entry| {
            let of_peer = entry
                .paths
                .into_iter()
                .filter(|path| path.peer == Some(PEER) && path.verdict == Verdict::Accepted);
            of_peer.map(move |path| (entry.prefix, (path.next_hop, path.attributes)))
        });
        routes.collect()
    }
}
