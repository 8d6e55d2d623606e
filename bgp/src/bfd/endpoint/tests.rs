#![expect(clippy::arithmetic_side_effects, reason = "tests may overflow by panicking")]

use std::{collections::BTreeSet, net::Ipv4Addr, num::NonZeroU8};

use proptest::prelude::*;

use super::*;
use crate::bfd::{
    config::Interval,
    packet::{State, tests::good},
};

const FAST: Duration = Duration::from_millis(50);

fn key(last_octet: u8) -> SessionKey {
    let address = |octet| IpAddr::V4(Ipv4Addr::new(192, 0, 2, octet));
    SessionKey { peer: address(last_octet), local: address(1), hops: Hops::One }
}

fn config() -> SessionConfig {
    SessionConfig::new(Interval::new(FAST).unwrap(), NonZeroU8::new(3).unwrap())
}

fn arrival(key: SessionKey, payload: &[u8]) -> Arrival<'_> {
    let SessionKey { peer, local, hops } = key;
    Arrival { hops, source: peer, destination: local, hop_limit: 255, payload }
}

fn endpoint(keys: &[SessionKey]) -> (Instant, Endpoint) {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(1);
    for key in keys {
        endpoint.set(now, *key, config(), &mut Vec::new()).unwrap();
    }
    (now, endpoint)
}

#[test]
fn packets_find_their_session_by_addresses_first_and_by_discriminator_then() {
    let (now, mut endpoint) = endpoint(&[key(2), key(3)]);
    let mut events = Vec::new();
    let hello = ControlPacket { state: State::Down, your_discriminator: None, ..good() };

    assert_eq!(endpoint.receive(now, &arrival(key(3), &hello.encode()), &mut events), Some(key(3)));
    let discriminator = endpoint.session(&key(3)).unwrap().discriminator();
    let up = ControlPacket { your_discriminator: Some(discriminator), ..good() };
    assert_eq!(endpoint.receive(now, &arrival(key(3), &up.encode()), &mut events), Some(key(3)));

    assert_eq!(endpoint.session(&key(3)).unwrap().state(), State::Up);
    assert_eq!(endpoint.session(&key(2)).unwrap().state(), State::Down);
    assert_eq!(endpoint.discards(), &Discards::default());
}

#[test]
fn each_rule_that_needs_a_session_discards_under_its_own_name() {
    let many = SessionKey { hops: Hops::Many, ..key(4) };
    let (now, mut endpoint) = endpoint(&[key(2), key(3), many]);
    let discriminator = endpoint.session(&key(2)).unwrap().discriminator();
    let ours = ControlPacket { your_discriminator: Some(discriminator), ..good() }.encode();
    let nobodys = ControlPacket { your_discriminator: Discriminator::new(1), ..good() }.encode();
    let hello = ControlPacket { state: State::Down, your_discriminator: None, ..good() }.encode();
    let routed = Arrival { hop_limit: 254, ..arrival(key(2), &ours) };
    let other_port = SessionKey { hops: Hops::Many, ..key(2) };
    endpoint.remove(now, key(3), &mut Vec::new());
    let cases = [
        (Discard::HopLimit, routed),
        (Discard::Truncated, arrival(key(2), &[])),
        (Discard::UnknownSession, arrival(key(2), &nobodys)),
        (Discard::UnknownSession, arrival(key(9), &hello)),
        (Discard::WrongSource, arrival(key(9), &ours)),
        (Discard::WrongSource, arrival(other_port, &ours)),
        (Discard::AdminDown, arrival(key(3), &hello)),
    ];
    for (discard, arrival) in cases {
        let before = endpoint.discards().of(discard);

        assert_eq!(endpoint.receive(now, &arrival, &mut Vec::new()), None);

        assert_eq!(endpoint.discards().of(discard), before + 1, "{}", discard.as_str());
    }
    assert_eq!(endpoint.session(&key(2)).unwrap().state(), State::Down);
    // A multihop session has no hop limit to go by.
    let far = Arrival { hop_limit: 40, ..arrival(many, &hello) };
    assert_eq!(endpoint.receive(now, &far, &mut Vec::new()), Some(many));
}

#[test]
fn the_limit_of_sessions_is_allowed_and_one_more_changes_nothing() {
    let keys = (0..SESSIONS_MAX).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        SessionKey { local: Ipv4Addr::new(10, 0, high, low).into(), ..key(2) }
    });
    let keys: Vec<_> = keys.collect();
    let (now, mut endpoint) = endpoint(&keys);

    assert_eq!(endpoint.set(now, key(2), config(), &mut Vec::new()), Err(Full));
    assert_eq!(endpoint.set(now, keys[0], config(), &mut Vec::new()), Ok(()));
    let discriminators: BTreeSet<_> =
        endpoint.sessions().map(|(_, session)| session.discriminator()).collect();
    assert_eq!(discriminators.len(), SESSIONS_MAX);
}

#[test]
fn a_removed_session_says_so_and_is_gone_soon_after() {
    let (mut now, mut endpoint) = endpoint(&[key(2)]);
    let hello = ControlPacket { state: State::Down, your_discriminator: None, ..good() };
    let mut events = Vec::new();
    endpoint.receive(now, &arrival(key(2), &hello.encode()), &mut events);
    events.clear();

    endpoint.remove(now, key(2), &mut events);

    let said = events.iter().any(
        |event| matches!(event, Event::Transmit(_, packet) if packet.state == State::AdminDown),
    );
    assert!(said, "{events:?}");
    assert_eq!(endpoint.sessions().count(), 0);
    while let Some(deadline) = endpoint.next_deadline() {
        now = deadline;
        endpoint.tick(now, &mut events);
    }
    assert!(events.contains(&Event::Removed(key(2))));
    assert!(endpoint.session(&key(2)).is_none());
}

/// Two endpoints and what is under way between them.
struct Pair {
    now: Instant,
    ends: [Endpoint; 2],
    keys: [SessionKey; 2],
    wire: Vec<(Instant, usize, [u8; 24])>,
    downs: usize,
}

/// What the wire does to one packet.
#[derive(Clone, Debug)]
enum Fate {
    Delivered { after_ms: u64 },
    Lost,
    Twice { after_ms: u64 },
}

impl Pair {
    fn new(seeds: [u64; 2], configs: [SessionConfig; 2]) -> Self {
        let now = Instant::now();
        let keys = [key(2), SessionKey { peer: key(2).local, local: key(2).peer, hops: Hops::One }];
        let mut ends = seeds.map(Endpoint::new);
        for ((end, key), config) in ends.iter_mut().zip(keys).zip(configs) {
            end.set(now, key, config, &mut Vec::new()).unwrap();
        }
        Self { now, ends, keys, wire: Vec::new(), downs: 0 }
    }

    /// Runs until `time` is over; `fate` decides about each packet.
    fn run(&mut self, time: Duration, mut fate: impl FnMut() -> Fate) {
        let end = self.now + time;
        loop {
            let deadlines = self.ends.iter().filter_map(Endpoint::next_deadline);
            let next = deadlines.chain(self.wire.iter().map(|packet| packet.0)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for side in 0..2 {
                let mut events = Vec::new();
                self.ends[side].tick(self.now, &mut events);
                let due =
                    |packet: &mut (Instant, usize, _)| packet.0 <= self.now && packet.1 == side;
                for (_, _, bytes) in self.wire.extract_if(.., due).collect::<Vec<_>>() {
                    let arrival = arrival(self.keys[side], &bytes);
                    self.ends[side].receive(self.now, &arrival, &mut events);
                }
                self.take(side, events, &mut fate);
            }
        }
        self.now = end;
    }

    fn take(&mut self, side: usize, events: Vec<Event>, fate: &mut impl FnMut() -> Fate) {
        for event in events {
            match event {
                Event::Transmit(_, packet) => {
                    let (copies, after_ms) = match fate() {
                        Fate::Delivered { after_ms } => (1, after_ms),
                        Fate::Lost => (0, 0),
                        Fate::Twice { after_ms } => (2, after_ms),
                    };
                    let at = self.now + Duration::from_millis(after_ms);
                    let packet = (at, 1 - side, packet.encode());
                    self.wire.extend(std::iter::repeat_n(packet, copies));
                }
                Event::Changed(_, change) if change.from == State::Up => self.downs += 1,
                Event::Changed(..) | Event::Removed(_) => {}
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|side| self.ends[side].session(&self.keys[side]).unwrap().state())
    }
}

fn any_config() -> impl Strategy<Value = SessionConfig> {
    (5_u64..400, 5_u64..400, 1_u8..6, any::<bool>()).prop_map(|(tx, rx, multiplier, common)| {
        let interval = |ms| Interval::new(Duration::from_millis(ms)).unwrap();
        let multiplier = NonZeroU8::new(multiplier).unwrap();
        let config = SessionConfig {
            desired_min_tx: interval(tx),
            required_min_rx: interval(rx),
            ..SessionConfig::new(interval(tx), multiplier)
        };
        if common { config.reflected() } else { config }
    })
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => (0_u64..30).prop_map(|after_ms| Fate::Delivered { after_ms }),
        2 => Just(Fate::Lost),
        1 => (0_u64..30).prop_map(|after_ms| Fate::Twice { after_ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever the wire did, a good wire brings both ends up, and keeps them there; a dead wire
    /// takes both down within what they agreed on.
    #[test]
    fn two_ends_agree_after_any_loss_reordering_and_duplication(
        seeds in any::<[u64; 2]>(),
        configs in [any_config(), any_config()],
        fates in prop::collection::vec(any_fate(), 1..200),
    ) {
        let mut pair = Pair::new(seeds, configs);
        let mut fates = fates.into_iter();
        pair.run(Duration::from_secs(20), || fates.next().unwrap_or(Fate::Lost));
        let good = || Fate::Delivered { after_ms: 0 };

        pair.run(Duration::from_secs(10), good);
        prop_assert_eq!(pair.states(), [State::Up, State::Up]);
        pair.downs = 0;
        pair.run(Duration::from_secs(20), good);
        prop_assert_eq!(pair.downs, 0, "a session flaps though nothing is lost");

        let detection = [0, 1].map(|side| {
            pair.ends[side].session(&pair.keys[side]).unwrap().detection_time()
        });
        pair.run(detection[0].max(detection[1]), || Fate::Lost);
        prop_assert_eq!(pair.states(), [State::Down, State::Down]);
    }
}
