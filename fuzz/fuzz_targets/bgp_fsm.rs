//! Arbitrary sequences of events on a speaker with one peer: it may not panic, hold more connections than its
//! limit, or come to rest without a deadline while it is meant to run.
#![no_main]

#[path = "../support/lone.rs"]
mod lone;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use isocast_bgp::fsm::{
    Action, ConnectMode, ConnectionId, HelperConfig, Input, PeerAs, SessionConfig, State, Stop,
};
use isocast_bgp::limits::CONNECTIONS_MAX;
use isocast_bgp::speaker::{Announcement, Announcements};
use isocast_bgp::types::{Asn, Family, FamilySet, PerFamily};
use isocast_bgp::wire::capability::{
    Capability, Forwarding, GracefulRestart, LongLived, LongLivedFamily,
};
use isocast_bgp::wire::encode;
use isocast_bgp::wire::header::{self, MessageType};
use isocast_bgp::wire::open::Open;
use libfuzzer_sys::fuzz_target;
use lone::{LOCAL, Lone};

#[derive(Arbitrary, Debug)]
enum Event {
    Accept,
    Announce(u8),
    BfdDown(bool),
    BfdUp,
    Bytes { connection: u8, bytes: Vec<u8> },
    Broken(u8),
    Closed(u8),
    Connected(u8),
    Failed(u8),
    Hello(u8),
    Keepalive(u8),
    Message { connection: u8, kind: u8, body: Vec<u8> },
    Pass(u16),
    Refresh(bool),
    Reset,
    Start,
    Stop(u8),
    Transmit(u8),
}

fuzz_target!(|events: Vec<Event>| {
    let mut now = Instant::now();
    let mut lone = Lone::new(now, config());
    let mut open = Vec::<ConnectionId>::new();
    let mut running = false;
    for event in events {
        let mut actions = Vec::new();
        let pick = |n: u8| open.get(usize::from(n) % open.len().max(1)).copied();
        let input = match &event {
            Event::Accept => {
                open.extend(lone.incoming(now));
                continue;
            }
            Event::Announce(count) => {
                lone.speaker.set_local(announcements(*count));
                continue;
            }
            Event::Transmit(n) => {
                if let Some(id) = pick(*n) {
                    lone.transmit(id);
                }
                continue;
            }
            Event::Start => Some(Input::Start),
            Event::Stop(how) => Some(Input::Stop(match how % 3 {
                0 => Stop::Preserve,
                1 => Stop::Deconfigure,
                _ => Stop::Drain { text: "bye".to_owned() },
            })),
            Event::BfdDown(independent) => {
                Some(Input::BfdDown { control_plane_independent: *independent })
            }
            Event::BfdUp => Some(Input::BfdUp),
            Event::Refresh(ipv6) => Some(Input::Refresh(Family::ALL[usize::from(*ipv6)])),
            Event::Pass(milliseconds) => {
                now += Duration::from_millis(u64::from(*milliseconds));
                lone.tick(now, &mut actions);
                None
            }
            Event::Reset => {
                lone.reset(now, &mut actions);
                None
            }
            Event::Broken(n) => pick(*n).map(|id| Input::Broken { id, error: "reset".to_owned() }),
            Event::Closed(n) => pick(*n).map(|id| Input::Closed { id }),
            Event::Connected(n) => pick(*n).map(|id| Input::Connected { id, local: LOCAL }),
            Event::Failed(n) => {
                pick(*n).map(|id| Input::ConnectFailed { id, error: "refused".to_owned() })
            }
            Event::Bytes { connection, bytes } => {
                pick(*connection).map(|id| Input::Received { id, bytes })
            }
            Event::Hello(n) | Event::Keepalive(n) | Event::Message { connection: n, .. } => {
                if let Some(id) = pick(*n) {
                    let bytes = message(&event);
                    lone.handle(now, Input::Received { id, bytes: &bytes }, &mut actions);
                }
                None
            }
        };
        if let Some(input) = input {
            running = match event {
                Event::Start => true,
                Event::Stop(_) => false,
                _ => running,
            };
            lone.handle(now, input, &mut actions);
        }
        for action in actions {
            match action {
                Action::Connect(id) => open.push(id),
                Action::Close { id, .. } => open.retain(|known| *known != id),
                _ => {}
            }
        }
        assert!(open.len() <= CONNECTIONS_MAX);
        assert!(running || open.is_empty());
        assert!(!running || lone.speaker.next_deadline().is_some());
        // Routes are held of a peer that is there, or that is waited for.
        let session = lone.session();
        let waits = session.state() == State::Established || !session.stale().is_empty();
        assert!(waits || lone.received() == 0);
    }
});

fn config() -> SessionConfig {
    let router_id = Ipv4Addr::new(10, 0, 0, 1);
    SessionConfig {
        connect: ConnectMode::Both,
        restart_time: Some(Duration::from_secs(30)),
        helper: Some(HelperConfig {
            notification: true,
            long_lived_max: Duration::from_secs(60),
            ..HelperConfig::default()
        }),
        enforce_first_as: false,
        ..SessionConfig::new(Asn(65_010), router_id, PeerAs::Number(Asn(65_020)))
    }
}

fn announcements(count: u8) -> Arc<Announcements> {
    let prefix = |n| format!("192.0.2.{n}/32").parse().expect("a prefix");
    Arc::new((0..count).map(|n| (prefix(n), Announcement::default())).collect())
}

fn message(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::new();
    match event {
        Event::Hello(_) => Open {
            asn: Asn(65_020),
            hold_time_s: 9,
            router_id: Ipv4Addr::new(10, 0, 0, 2),
            capabilities: capabilities(),
        }
        .encode(&mut bytes),
        Event::Message { kind, body, .. } => {
            let kind = match kind % 4 {
                0 => MessageType::Open,
                1 => MessageType::Notification,
                2 => MessageType::RouteRefresh,
                _ => MessageType::Update,
            };
            header::encode(kind, &mut bytes, |out| out.extend(body.iter().take(4000)));
        }
        _ => encode::keepalive(&mut bytes),
    }
    bytes
}

/// A peer that can do everything.
fn capabilities() -> Vec<Capability> {
    let forwarding = Forwarding::Preserved;
    let family = Some(LongLivedFamily { forwarding, stale_time: Duration::from_secs(20) });
    let restart = GracefulRestart {
        restarted: true,
        notification: true,
        restart_time: Duration::from_secs(20),
        families: PerFamily { ipv4: Some(forwarding), ipv6: Some(forwarding) },
    };
    let others = [
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::FourOctetAsn(Asn(65_020)),
        Capability::GracefulRestart(restart),
        Capability::LongLived(LongLived { families: PerFamily { ipv4: family, ipv6: family } }),
    ];
    Capability::multiprotocol(FamilySet::BOTH).chain(others).collect()
}
