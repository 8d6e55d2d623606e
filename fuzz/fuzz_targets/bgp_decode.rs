//! Every decoder of `isocast-bgp` on arbitrary bytes: none may panic, and whatever an UPDATE
//! yields can have come from its bytes only.
#![no_main]

use isocast_bgp::types::{Asn, FamilySet, PeerKind};
use isocast_bgp::wire::as_path::AsnWidth;
use isocast_bgp::wire::header::{Deframer, Message, MessageType};
use isocast_bgp::wire::notification::Notification;
use isocast_bgp::wire::open::Open;
use isocast_bgp::wire::reader::Reader;
use isocast_bgp::wire::refresh::RouteRefresh;
use isocast_bgp::wire::update::{self, Codec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choices, body)) = bytes.split_first() else { return };
    let codec = Codec {
        asn_width: if choices & 1 == 0 { AsnWidth::Four } else { AsnWidth::Two },
        families: FamilySet { ipv4: choices & 2 == 0, ipv6: choices & 4 == 0 },
        extended_next_hop: choices & 16 != 0,
        first_as: (choices & 32 != 0).then_some(Asn(65_001)),
        ..Codec::new(if choices & 8 == 0 { PeerKind::External } else { PeerKind::Internal })
    };
    decode(MessageType::Update, body, &codec);
    decode(MessageType::Open, body, &codec);
    decode(MessageType::Notification, body, &codec);
    decode(MessageType::RouteRefresh, body, &codec);

    let mut reader = Reader::new(body);
    let mut deframer = Deframer::default();
    while let Ok(Some(Message { kind, body })) = deframer.next(&mut reader) {
        decode(kind, body, &codec);
    }
});

fn decode(kind: MessageType, body: &[u8], codec: &Codec) {
    match kind {
        MessageType::Update => {
            if let Ok(update) = update::decode(body, codec) {
                let reached: usize = update.reach.iter().map(|reach| reach.prefixes.len()).sum();
                assert!(reached + update.withdrawn.len() <= body.len());
            }
        }
        MessageType::Open => drop(Open::decode(body)),
        MessageType::Notification => {
            drop(Notification::decode(body).map(|notification| notification.to_string()));
        }
        MessageType::RouteRefresh => {
            drop(RouteRefresh::decode(body).and_then(RouteRefresh::meaning))
        }
        MessageType::Keepalive => {}
    }
}
