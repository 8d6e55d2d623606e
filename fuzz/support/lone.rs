//! A speaker with one peer.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use isocast_bgp::fsm::{
    Action, ConnectionId, Input, LocalEndpoint, RestartState, Session, SessionConfig,
};
use isocast_bgp::guard::ExportGuard;
use isocast_bgp::policy::{Connection, Policy};
use isocast_bgp::speaker::{
    ExportConfig, ImportConfig, OverLimit, PeerConfig, PeerId, PeerView, PrefixLimit, Speaker,
    SpeakerConfig,
};
use isocast_bgp::types::PerFamily;

const PEER: PeerId = PeerId(0);

/// Our end of every connection.
pub const LOCAL: LocalEndpoint = LocalEndpoint {
    address: std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    interface_ipv6: None,
};

/// See the module. It takes up to eight prefixes of a family, and may announce anything.
pub struct Lone {
    pub speaker: Speaker,
    config: PeerConfig,
}

impl Lone {
    pub fn new(now: Instant, session: SessionConfig) -> Self {
        let own = SpeakerConfig {
            asn: session.local_asn,
            router_id: session.router_id,
            multipath_max: 1,
            restart: RestartState::default(),
        };
        let mut speaker = Speaker::new(now, own, 1);
        let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a prefix"));
        speaker.set_guard(Arc::new(ExportGuard::new(everything)));
        let limit = PrefixLimit { prefixes_max: 8, over: OverLimit::EndSession };
        let config = PeerConfig {
            address: [10, 0, 0, 2].into(),
            session,
            connection: Connection::Transit,
            import: ImportConfig { policy: Policy::accept_all(), limit, blackhole: false },
            export: ExportConfig { policy: Policy::accept_all(), ..ExportConfig::default() },
        };
        let mut lone = Self { speaker, config };
        lone.configure(now, &mut Vec::new());
        lone
    }

    pub fn handle(&mut self, now: Instant, input: Input<'_>, actions: &mut Vec<Action>) {
        let mut named = Vec::new();
        self.speaker.handle(now, PEER, input, &mut named);
        actions.extend(named.into_iter().map(|(_, action)| action));
    }

    /// Does what is due, as far as that ends.
    pub fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut named = Vec::new();
        let mut slices = 0;
        while self.speaker.next_deadline().is_some_and(|due| due <= now) {
            self.speaker.tick(now, &mut named);
            slices += 1;
            assert!(slices < 1000, "a deadline that passed stays");
        }
        actions.extend(named.into_iter().map(|(_, action)| action));
    }

    pub fn incoming(&mut self, now: Instant) -> Option<ConnectionId> {
        self.speaker.incoming(now, PEER, LOCAL)
    }

    pub fn transmit(&mut self, id: ConnectionId) {
        self.speaker.transmit(PEER, id, &mut Vec::new());
    }

    /// Changes what the peer must agree to.
    pub fn reset(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let session = &mut self.config.session;
        session.extended_messages = !session.extended_messages;
        self.configure(now, actions);
    }

    pub fn session(&self) -> &Session {
        self.view().session
    }

    /// Routes of the peer, those among them that may be stale.
    pub fn received(&self) -> u32 {
        let PerFamily { ipv4, ipv6 } = self.view().counts;
        ipv4.received + ipv4.stale + ipv6.received + ipv6.stale
    }

    fn view(&self) -> PeerView<'_> {
        self.speaker.peer(PEER).expect("the peer is configured")
    }

    fn configure(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut named = Vec::new();
        let config = self.config.clone();
        self.speaker.set_peer(now, PEER, config, &mut named).expect("the configuration is valid");
        actions.extend(named.into_iter().map(|(_, action)| action));
    }
}
