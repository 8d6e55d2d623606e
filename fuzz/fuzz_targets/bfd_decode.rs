//! BFD datagrams: none may panic, what is decoded encodes to what was read, and no sequence of
//! them brings an endpoint to do more than answer each, or to rest without a deadline.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use isocast_bgp::bfd::{
    Arrival, ControlPacket, Endpoint, Event, Hops, Interval, SessionConfig, SessionKey,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Arrives { bytes: Vec<u8>, hop_limit: u8, is_ours: bool },
    Passes { milliseconds: u16 },
    Reflects(bool),
    Removed,
}

fuzz_target!(|steps: Vec<Step>| {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let key = SessionKey { peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), local, hops: Hops::One };
    let Some(interval) = Interval::new(Duration::from_millis(50)) else { return };
    let config = SessionConfig::new(interval, NonZeroU8::MIN).reflected();
    let mut now = Instant::now();
    let mut endpoint = Endpoint::new(1);
    let mut events = Vec::new();
    assert!(endpoint.set(now, key, config, &mut events).is_ok());

    for step in steps {
        events.clear();
        match step {
            Step::Arrives { mut bytes, hop_limit, is_ours } => {
                if let Ok(packet) = ControlPacket::decode(&bytes) {
                    // The length may count bytes that nobody knows the meaning of.
                    let encoded = packet.encode();
                    assert_eq!((&encoded[..3], &encoded[4..]), (&bytes[..3], &bytes[4..24]));
                }
                if let Some(session) = endpoint.session(&key).filter(|_| is_ours)
                    && let Some(field) = bytes.get_mut(8..12)
                {
                    field.copy_from_slice(&session.discriminator().get().to_be_bytes());
                }
                let (source, hops, payload) = (key.peer, Hops::One, bytes.as_slice());
                let arrival = Arrival { hops, source, destination: local, hop_limit, payload };
                endpoint.receive(now, &arrival, &mut events);
                let sent = events.iter().filter(|event| matches!(event, Event::Transmit(..)));
                assert!(sent.count() <= 2, "an answer to a poll, and news");
            }
            Step::Passes { milliseconds } => {
                now += Duration::from_millis(milliseconds.into());
                endpoint.tick(now, &mut events);
            }
            Step::Reflects(is_reflected) => {
                endpoint.set_reflected(&key, is_reflected);
            }
            Step::Removed => endpoint.remove(now, key, &mut events),
        }
        let is_steady = endpoint.session(&key).and_then(|session| session.steady()).is_some();
        assert!(
            endpoint.session(&key).is_none() || is_steady || endpoint.next_deadline().is_some()
        );
    }
});
