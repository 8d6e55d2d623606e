//! An OPEN of arbitrary bytes: a session may refuse it, once and with a code of its own, and what it
//! accepts survives a round trip.
#![no_main]

#[allow(dead_code, reason = "shared between targets")]
#[path = "../support/lone.rs"]
mod lone;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use isocast_bgp::fsm::{
    Action, ConnectMode, HelperConfig, Input, PeerAs, Role, SessionConfig, State,
};
use isocast_bgp::limits::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use isocast_bgp::types::Asn;
use isocast_bgp::wire::header::{self, MessageType};
use isocast_bgp::wire::open::Open;
use libfuzzer_sys::fuzz_target;
use lone::Lone;

fuzz_target!(|bytes: &[u8]| {
    let Some((choices, body)) = bytes.split_first() else { return };
    if body.len() > MESSAGE_BYTES_MAX - HEADER_BYTES {
        return;
    }
    if let Ok(open) = Open::decode(body) {
        let mut again = Vec::new();
        open.encode(&mut again);
        assert_eq!(Open::decode(&again[HEADER_BYTES..]).as_ref(), Ok(&open));
    }

    let now = Instant::now();
    let mut lone = Lone::new(now, config(*choices));
    let mut actions = Vec::new();
    lone.handle(now, Input::Start, &mut actions);
    let id = lone.incoming(now).expect("a passive session takes a connection");
    let mut message = Vec::new();
    header::encode(MessageType::Open, &mut message, |out| out.extend_from_slice(body));
    lone.handle(now, Input::Received { id, bytes: &message }, &mut actions);

    let ends = actions.iter().filter(|action| matches!(action, Action::Ended { .. })).count();
    let refused = usize::from(lone.session().state() != State::OpenConfirm);
    assert_eq!(ends, refused);
    lone.transmit(id);
});

fn config(choices: u8) -> SessionConfig {
    let peer_as = match choices & 3 {
        0 => PeerAs::Internal,
        1 => PeerAs::Number(Asn(65_020)),
        _ => PeerAs::External,
    };
    let role = (peer_as != PeerAs::Internal && choices & 4 != 0).then_some(Role::Provider);
    SessionConfig {
        connect: ConnectMode::Passive,
        extended_messages: choices & 8 != 0,
        extended_next_hop: choices & 16 != 0,
        helper: (choices & 32 != 0).then(|| HelperConfig {
            notification: true,
            long_lived_max: Duration::from_secs(60),
            ..HelperConfig::default()
        }),
        role,
        strict_role: choices & 64 != 0,
        ..SessionConfig::new(Asn(65_010), Ipv4Addr::new(10, 0, 0, 1), peer_as)
    }
}
