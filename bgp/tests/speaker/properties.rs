//! What must hold for any input.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use isocast_bgp::fsm::{
    Action, ConnectMode, ConnectionId, Input, LocalEndpoint, RestartState, SessionConfig, Stop,
};
use isocast_bgp::limits::{CONNECTIONS_MAX, MESSAGE_BYTES_MAX};
use isocast_bgp::types::Asn;
use isocast_bgp::wire::as_path::AsnWidth;
use isocast_bgp::wire::encode;
use isocast_bgp::wire::header::{self, Deframer, MessageType};
use isocast_bgp::wire::notification::Notification;
use isocast_bgp::wire::open::Open;
use isocast_bgp::wire::reader::Reader;
use isocast_bgp::wire::update::{self, Codec};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::lone::{Lone, accept, guard};
use crate::pair::left_config;
use crate::strategies::{bodies, path_attributes, reachable};
use crate::vectors::{self, EXTERNAL, attribute};

proptest! {
    #[test]
    fn announcements_survive_the_wire(
        attributes in path_attributes(),
        (next_hop, prefixes) in reachable(),
        width in prop_oneof![Just(AsnWidth::Two), Just(AsnWidth::Four)],
    ) {
        // An old speaker cannot tell AS_TRANS from a number that is really that.
        prop_assume!(!attributes.as_path.0.contains(&Asn::TRANS));
        prop_assume!(attributes.aggregator.is_none_or(|a| width == AsnWidth::Four || a.asn.0 > 65_535));
        let codec = Codec { asn_width: width, ..EXTERNAL };
        let mut bytes = Vec::new();
        let mut rest = prefixes.iter().copied().peekable();
        while rest.peek().is_some() {
            let before = bytes.len();
            encode::announce(&attributes, next_hop, &mut rest, &codec, &mut bytes).unwrap();
            prop_assert!(bytes.len() - before <= MESSAGE_BYTES_MAX);
        }

        let mut arrived = Vec::new();
        for body in bodies(&bytes) {
            let update = update::decode(&body, &codec).unwrap();
            prop_assert_eq!(&update.faults, &[]);
            prop_assert_eq!(&update.attributes, &attributes);
            for reach in update.reach {
                prop_assert_eq!(reach.next_hop, next_hop);
                arrived.extend(reach.prefixes);
            }
        }
        prop_assert_eq!(arrived, prefixes);
    }

    #[test]
    fn arbitrary_bytes_never_panic_a_decoder(bytes in vec(any::<u8>(), 0..400), old: bool) {
        let asn_width = if old { AsnWidth::Two } else { AsnWidth::Four };
        drop(update::decode(&bytes, &Codec { asn_width, ..EXTERNAL }));
        drop(Open::decode(&bytes));
        drop(Notification::decode(&bytes).map(|notification| notification.to_string()));
        let mut reader = Reader::new(&bytes);
        let mut deframer = Deframer::default();
        while let Ok(Some(_)) = deframer.next(&mut reader) {}
    }

    #[test]
    fn a_good_update_with_one_wrong_octet_never_panics_nor_invents_a_prefix(
        at in 0..200_usize,
        octet: u8,
    ) {
        let mut others = vec![
            attribute(vectors::OPTIONAL, 4, &[0, 0, 0, 1]),
            attribute(vectors::TRANSITIVE, 8, &[0, 1, 0, 1]),
            attribute(vectors::TRANSITIVE, 32, &[1; 12]),
            vectors::mp_reach(&vectors::NEXT_HOP_V6, &vectors::NLRI_V6),
        ];
        others.push(attribute(vectors::TRANSITIVE, 254, &[7; 9]));
        let mut body =
            vectors::body(&[24, 10, 0, 0], &vectors::attributes(&[], &others), &vectors::NLRI);
        let at = at % body.len();
        body[at] = octet;

        if let Ok(update) = update::decode(&body, &EXTERNAL) {
            let reached: usize = update.reach.iter().map(|reach| reach.prefixes.len()).sum();
            prop_assert!(update.withdrawn.len() + reached <= body.len());
        }
    }

    #[test]
    fn the_order_of_attributes_never_matters(seed in vec(any::<prop::sample::Index>(), 6)) {
        let mut list = vec![
            vectors::origin(),
            vectors::as_path(),
            vectors::next_hop(),
            attribute(vectors::OPTIONAL, 4, &[0, 0, 0, 1]),
            attribute(vectors::TRANSITIVE, 17, &[2, 9]),
            attribute(vectors::TRANSITIVE, 8, &[0, 1, 0, 1]),
        ];
        let decode = |list: &[Vec<u8>]| {
            let body = vectors::body(&[], &list.concat(), &vectors::NLRI);
            update::decode(&body, &EXTERNAL).unwrap()
        };
        let sorted = decode(&list);
        for (at, index) in seed.iter().enumerate() {
            let with = index.index(list.len());
            list.swap(at, with);
        }

        prop_assert_eq!(decode(&list), sorted);
    }
}

/// One thing that may happen to a session.
#[derive(Clone, Debug)]
enum Event {
    Start,
    Stop,
    Accept,
    Connected(u8),
    Failed(u8),
    Closed(u8),
    Bytes(u8, Vec<u8>),
    Pass(u16),
    Transmit(u8),
    Announce(bool),
    Guard(bool),
    Reset,
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let framed = |kind| {
        move |body: Vec<u8>| {
            let mut bytes = Vec::new();
            header::encode(kind, &mut bytes, |out| out.extend(body));
            bytes
        }
    };
    let mut open = Vec::new();
    Open {
        asn: Asn(65_020),
        hold_time_s: 9,
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        capabilities: Vec::new(),
    }
    .encode(&mut open);
    prop_oneof![
        4 => Just(open),
        4 => Just(Vec::new()).prop_map(framed(MessageType::Keepalive)),
        2 => vec(any::<u8>(), 4..40).prop_map(framed(MessageType::Update)),
        1 => Just(vectors::body(&[], &vectors::attributes(&[], &[]), &vectors::NLRI))
            .prop_map(framed(MessageType::Update)),
        1 => vec(any::<u8>(), 4).prop_map(framed(MessageType::RouteRefresh)),
        1 => vec(any::<u8>(), 2..9).prop_map(framed(MessageType::Notification)),
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Start),
        1 => Just(Event::Stop),
        3 => Just(Event::Accept),
        6 => (0..6_u8).prop_map(Event::Connected),
        1 => (0..6_u8).prop_map(Event::Failed),
        1 => (0..6_u8).prop_map(Event::Closed),
        16 => (0..6_u8, message()).prop_map(|(id, bytes)| Event::Bytes(id, bytes)),
        4 => (0..20_000_u16).prop_map(Event::Pass),
        6 => (0..6_u8).prop_map(Event::Transmit),
        2 => any::<bool>().prop_map(Event::Announce),
        1 => any::<bool>().prop_map(Event::Guard),
        1 => Just(Event::Reset),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_events_panics_a_session_or_leaves_it_without_a_way_on(
        events in vec(event(), 0..120),
    ) {
        let config = SessionConfig { connect: ConnectMode::Both, ..left_config() };
        let mut now = Instant::now();
        let mut lone = Lone::new(now, config, RestartState::default(), accept(8));
        let local = LocalEndpoint { address: "10.0.0.1".parse().unwrap(), interface_ipv6: None };
        let mut open = Vec::<ConnectionId>::new();
        let mut running = false;
        for event in events {
            let mut actions = Vec::new();
            let mut chunk = Vec::new();
            let pick = |n: u8| open.get(usize::from(n) % open.len().max(1)).copied();
            match event {
                Event::Start => {
                    running = true;
                    lone.handle(now, Input::Start, &mut actions);
                }
                Event::Stop => {
                    running = false;
                    lone.handle(now, Input::Stop(Stop::Preserve), &mut actions);
                }
                Event::Accept => open.extend(lone.incoming(now, local)),
                Event::Connected(n) => if let Some(id) = pick(n) {
                    lone.handle(now, Input::Connected { id, local }, &mut actions);
                },
                Event::Failed(n) => if let Some(id) = pick(n) {
                    let error = "refused".to_owned();
                    lone.handle(now, Input::ConnectFailed { id, error }, &mut actions);
                },
                Event::Closed(n) => if let Some(id) = pick(n) {
                    lone.handle(now, Input::Closed { id }, &mut actions);
                },
                Event::Bytes(n, bytes) => if let Some(id) = pick(n) {
                    lone.handle(now, Input::Received { id, bytes: &bytes }, &mut actions);
                },
                Event::Pass(milliseconds) => {
                    now += Duration::from_millis(milliseconds.into());
                    lone.handle(now, Input::Tick, &mut actions);
                    // A deadline that has passed is not asked for again.
                    prop_assert!(lone.session().next_deadline().is_none_or(|at| at > now));
                }
                Event::Transmit(n) => if let Some(id) = pick(n) {
                    lone.transmit(id, &mut chunk);
                },
                Event::Announce(yes) => {
                    lone.want(now, if yes { &["192.0.2.1/32"] } else { &[] });
                }
                Event::Guard(yes) => {
                    lone.speaker.set_guard(guard(if yes { &["192.0.2.0/24"] } else { &[] }));
                }
                Event::Reset => lone.reset(now, &mut actions),
            }
            for action in actions {
                match action {
                    Action::Connect(id) => open.push(id),
                    Action::Close { id, .. } => open.retain(|known| *known != id),
                    _ => {}
                }
            }
            prop_assert!(open.len() <= CONNECTIONS_MAX);
            prop_assert!(running || open.is_empty());
            prop_assert!(!running || lone.session().next_deadline().is_some());
        }
    }
}
