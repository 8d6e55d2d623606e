//! What becomes of each attribute on its way from one peer to another (RFC 4271 §5, and the RFCs of
//! those that came later): octet by octet, as the other peer receives it.

use std::net::Ipv4Addr;

use crate::net::{Lab, eventually};
use crate::vectors::{NEXT_HOP_V6, NLRI_V6, as_path, attribute, body, mp_reach, next_hop, origin};
use crate::wire::{UPDATE, Wire, capabilities, keepalive, message, open, ordinary, parameters};
use crate::{ELSEWHERE, INSIDE, OUTSIDE, OWN, SOUGHT, speaker, speaker_with};

const ID: [u8; 4] = [10, 0, 0, 9];

/// Flags, type and value.
type Attribute = (u8, u8, Vec<u8>);

/// An UPDATE as it came.
#[derive(Debug)]
struct Received {
    attributes: Vec<Attribute>,
    nlri: Vec<u8>,
}

impl Received {
    fn attribute(&self, code: u8) -> Option<&Attribute> {
        self.attributes.iter().find(|(_, found, _)| *found == code)
    }

    fn parse(body: &[u8]) -> Self {
        let length = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let rest = &body[2 + length(body)..];
        let (mut list, nlri) = rest[2..].split_at(length(rest));
        let mut attributes = Vec::new();
        while let [flags, code, tail @ ..] = list {
            let (count, value) = if flags & 0x10 == 0 {
                (usize::from(tail[0]), &tail[1..])
            } else {
                (length(tail), &tail[2..])
            };
            let (value, after) = value.split_at(count);
            attributes.push((*flags, *code, value.to_vec()));
            list = after;
        }
        Self { attributes, nlri: nlri.to_vec() }
    }
}

/// The next announcement; what withdraws, ends a table or keeps the session alive is skipped.
async fn announced(wire: &mut Wire) -> Received {
    loop {
        let (kind, body) = wire.next().await.expect("the session ended");
        if kind == UPDATE && body.len() > 4 {
            let received = Received::parse(&body);
            if received.attribute(2).is_some() {
                return received;
            }
        }
    }
}

/// How an attribute goes in, and how it comes out elsewhere and inside our AS.
struct Row {
    clause: &'static str,
    name: &'static str,
    sent: Attribute,
    elsewhere: Option<Attribute>,
    inside: Option<Attribute>,
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let same = |clause, name, flags, code, value: &[u8]| {
        let sent = (flags, code, value.to_vec());
        Row { clause, name, sent: sent.clone(), elsewhere: Some(sent.clone()), inside: Some(sent) }
    };
    let changed = |clause, name, flags, code, value: &[u8], elsewhere: Option<u8>, inside: Option<u8>| {
        let with = |flags: u8| (flags, code, value.to_vec());
        Row { clause, name, sent: with(flags), elsewhere: elsewhere.map(with), inside: inside.map(with) }
    };
    let preference = Row {
        clause: "4271 5.1.5", name: "LOCAL_PREF", sent: (0x40, 5, vec![0, 0, 0, 7]),
        elsewhere: None, inside: Some((0x40, 5, vec![0, 0, 0, 100])),
    };
    let many: Vec<u8> = (0..80_u16).flat_map(|n| [[0xfd, 0xe9], n.to_be_bytes()].concat()).collect();
    vec![
        same("4271 5.1.1", "ORIGIN of EGP", 0x40, 1, &[1]),
        same("4271 5.1.1", "ORIGIN incomplete", 0x40, 1, &[2]),
        changed("4271 4.3", "ORIGIN with unused flags", 0x4f, 1, &[0], Some(0x40), Some(0x40)),
        changed("4271 5.1.4", "MED goes no farther than one AS", 0x80, 4, &[0, 0, 0, 9], None, Some(0x80)),
        preference,
        same("4271 5.1.6", "ATOMIC_AGGREGATE", 0x40, 6, &[]),
        same("4271 5.1.7", "AGGREGATOR", 0xc0, 7, &[0, 1, 0x11, 0x70, 10, 0, 0, 1]),
        same("1997", "COMMUNITIES", 0xc0, 8, &[0xfd, 0xe9, 0, 1, 0xfd, 0xe9, 0, 2]),
        changed("4271 4.3", "COMMUNITIES of many octets", 0xd0, 8, &many, Some(0xd0), Some(0xd0)),
        changed("4456 8", "ORIGINATOR_ID from outside", 0x80, 9, &[10, 0, 0, 7], None, None),
        changed("4456 8", "CLUSTER_LIST from outside", 0x80, 10, &[10, 0, 0, 7], None, None),
        same("4360 6", "a transitive extended community", 0xc0, 16, &[0, 2, 0xfd, 0xe9, 0, 0, 0, 1]),
        changed("4360 6", "one that is not transitive stays in its AS", 0xc0, 16, &[0x40, 2, 0xfd, 0xe9, 0, 0, 0, 1], None, Some(0xc0)),
        same("8092 3", "LARGE_COMMUNITY", 0xc0, 32, &[0, 0, 0xfd, 0xe9, 0, 0, 0, 1, 0, 0, 0, 2]),
        same("9234 5", "ONLY_TO_CUSTOMER", 0xc0, 35, &[0, 0, 0xfd, 0xe9]),
        changed("6793 4.1", "AS4_PATH among new speakers", 0xc0, 17, &[2, 1, 0, 0, 0xfd, 0xe9], None, None),
        changed("4271 5", "unknown and transitive: now partial", 0xc0, 254, &[1, 2], Some(0xe0), Some(0xe0)),
        same("4271 5", "unknown, transitive and partial", 0xe0, 254, &[1, 2]),
        changed("4271 5", "unknown and not transitive", 0x80, 99, &[1, 2], None, None),
    ]
}

/// A prefix of its own for each row.
fn nlri(number: usize) -> [u8; 5] {
    [32, 198, 18, 0, u8::try_from(number).unwrap()]
}

fn mandatory_but(code: u8, more: &[u8]) -> Vec<u8> {
    let all = [origin(), as_path(), next_hop()];
    let kept = all.into_iter().filter(|attribute| attribute[1] != code);
    [kept.flatten().collect::<Vec<u8>>(), more.to_vec()].concat()
}

#[test]
fn each_attribute_reaches_other_peers_as_its_rfc_says() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        let mut source = Wire::established(OUTSIDE, &ordinary(65_001, ID)).await;
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        let mut inside = Wire::established(INSIDE, &ordinary(65_010, ID)).await;
        for (number, row) in rows().into_iter().enumerate() {
            let (flags, code, value) = &row.sent;
            let list = mandatory_but(*code, &attribute(*flags, *code, value));

            source.send(&message(UPDATE, &body(&[], &list, &nlri(number)))).await;

            for (wire, expected, to) in
                [(&mut elsewhere, row.elsewhere, "elsewhere"), (&mut inside, row.inside, "inside")]
            {
                let received = announced(wire).await;
                assert_eq!(received.nlri, nlri(number));
                let passed = received.attribute(*code);
                assert_eq!(passed, expected.as_ref(), "RFC {}: {}, {to}", row.clause, row.name);
                // RFC 4271 §5: in the order of their types.
                assert!(received.attributes.is_sorted_by_key(|(_, code, _)| *code), "{received:?}");
            }
        }
    });
}

/// The hops of a path of one sequence.
fn hops(value: &[u8], width: usize) -> Vec<u32> {
    assert_eq!((value[0], usize::from(value[1]) * width), (2, value.len() - 2));
    let number = |octets: &[u8]| octets.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet));
    value[2..].chunks(width).map(number).collect()
}

#[test]
fn paths_and_next_hops_are_ours_elsewhere_and_as_they_were_inside() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        let mut source = Wire::established(OUTSIDE, &ordinary(65_001, ID)).await;
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        let mut inside = Wire::established(INSIDE, &ordinary(65_010, ID)).await;

        source.send(&message(UPDATE, &body(&[], &mandatory_but(0, &[]), &nlri(1)))).await;

        let (outer, inner) = (announced(&mut elsewhere).await, announced(&mut inside).await);
        let path = |received: &Received| hops(&received.attribute(2).unwrap().2, 4);
        let hop = |received: &Received| received.attribute(3).unwrap().2.clone();
        assert_eq!(path(&outer), [65_010, 65_001, 70_000], "RFC 4271 5.1.2");
        assert_eq!(path(&inner), [65_001, 70_000], "RFC 4271 5.1.2");
        assert_eq!(hop(&outer), OWN.octets(), "RFC 4271 5.1.3");
        assert_eq!(hop(&inner), Ipv4Addr::new(10, 0, 0, 1).octets(), "RFC 4271 5.1.3");
    });
}

#[test]
fn an_old_speaker_has_wide_numbers_beside_narrow_ones() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        let mut source = Wire::established(OUTSIDE, &ordinary(65_001, ID)).await;
        let families = parameters(&[1, 4, 0, 1, 0, 1]);
        let mut old = Wire::established(ELSEWHERE, &open(65_003, ID, &families)).await;
        let aggregator = attribute(0xc0, 7, &[0, 1, 0x11, 0x70, 10, 0, 0, 1]);

        let list = mandatory_but(0, &aggregator);
        source.send(&message(UPDATE, &body(&[], &list, &nlri(1)))).await;

        let received = announced(&mut old).await;
        let value = |code: u8| received.attribute(code).unwrap().2.clone();
        assert_eq!(hops(&value(2), 2), [65_010, 65_001, 23_456], "RFC 6793 4.2.2");
        assert_eq!(hops(&value(17), 4), [65_010, 65_001, 70_000], "RFC 6793 4.2.2");
        assert_eq!(value(7), [0x5b, 0xa0, 10, 0, 0, 1], "RFC 6793 4.2.2");
        assert_eq!(value(18), [0, 1, 0x11, 0x70, 10, 0, 0, 1], "RFC 6793 4.2.2");
    });
}

/// Communities that keep a route from going on, and loops. After each, one that goes everywhere.
#[test]
fn routes_that_may_not_go_on_stay() {
    const NO_EXPORT: [u8; 4] = [0xff, 0xff, 0xff, 1];
    const NO_ADVERTISE: [u8; 4] = [0xff, 0xff, 0xff, 2];
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut source = Wire::established(OUTSIDE, &ordinary(65_001, ID)).await;
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        let mut inside = Wire::established(INSIDE, &ordinary(65_010, ID)).await;
        speaker.established(&["outside", "elsewhere", "inside"]).await;
        let looped = attribute(0x40, 2, &[2, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xf2]);
        let rows = [
            ("RFC 1997: NO_EXPORT", mandatory_but(0, &attribute(0xc0, 8, &NO_EXPORT)), true),
            ("RFC 1997: NO_ADVERTISE", mandatory_but(0, &attribute(0xc0, 8, &NO_ADVERTISE)), false),
            ("RFC 4271 9.1.2: our AS in the path", mandatory_but(2, &looped), false),
        ];
        for (number, (name, list, goes_inside)) in rows.into_iter().enumerate() {
            let (stays, goes) = (nlri(2 * number), nlri(2 * number + 1));
            source.send(&message(UPDATE, &body(&[], &list, &stays))).await;
            source.send(&message(UPDATE, &body(&[], &mandatory_but(0, &[]), &goes))).await;

            assert_eq!(announced(&mut elsewhere).await.nlri, goes, "{name}, elsewhere");
            if goes_inside {
                assert_eq!(announced(&mut inside).await.nlri, stays, "{name}, inside");
            }
            assert_eq!(announced(&mut inside).await.nlri, goes, "{name}, inside");
        }
    });
}

/// What a peer inside our AS told us goes to no other inside (RFC 4271 §9.2), and brings nothing of
/// ours outside.
#[test]
fn what_comes_from_inside_goes_out_without_what_is_ours_alone() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        let mut inside = Wire::established(INSIDE, &ordinary(65_010, ID)).await;
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        let reflected = [
            attribute(0x80, 4, &[0, 0, 0, 9]),
            attribute(0x40, 5, &[0, 0, 0, 200]),
            attribute(0x80, 9, &[10, 0, 0, 7]),
            attribute(0x80, 10, &[10, 0, 0, 8]),
        ];
        let list = mandatory_but(0, &reflected.concat());

        inside.send(&message(UPDATE, &body(&[], &list, &nlri(1)))).await;

        let received = announced(&mut elsewhere).await;
        let codes: Vec<u8> = received.attributes.iter().map(|(_, code, _)| *code).collect();
        assert_eq!(codes, [1, 2, 3], "{received:?}");
    });
}

#[test]
fn prefixes_are_read_as_they_are_meant() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut source = Wire::established(OUTSIDE, &ordinary(65_001, ID)).await;
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        speaker.established(&["outside", "elsewhere"]).await;
        let list = mandatory_but(0, &[]);

        // RFC 4271 §4.3: bits beyond the length mean nothing; a length of zero is every address.
        for (sent, heard) in [
            (&[20, 198, 51, 0x6f][..], &[20, 198, 51, 0x60][..]),
            (&[0], &[0]),
            (&[1, 0xff], &[1, 0x80]),
        ] {
            source.send(&message(UPDATE, &body(&[], &list, sent))).await;
            assert_eq!(announced(&mut elsewhere).await.nlri, heard);
        }
        // RFC 4271 §4.3: what is withdrawn and announced at once is announced.
        source.send(&message(UPDATE, &body(&nlri(1), &list, &nlri(1)))).await;
        assert_eq!(announced(&mut elsewhere).await.nlri, nlri(1));
        // RFC 4760 §7: IPv6 by its own attributes, and IPv4 beside it in one message.
        let both = [list, mp_reach(&NEXT_HOP_V6, &NLRI_V6)].concat();
        source.send(&message(UPDATE, &body(&[], &both, &nlri(2)))).await;
        let messages = [announced(&mut elsewhere).await, announced(&mut elsewhere).await];
        assert!(messages.iter().any(|message| message.nlri == nlri(2)));
        let reach = messages.iter().find_map(|message| message.attribute(14)).unwrap();
        assert_eq!(reach.2[..3], [0, 2, 1]);
        assert!(reach.2.ends_with(&NLRI_V6), "{reach:?}");
    });
}

/// A route whose attributes fit no message any more, with our AS in front of its path.
#[test]
fn a_route_that_outgrew_every_message_is_withdrawn_and_others_go_on() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut source = Wire::established(OUTSIDE, &ordinary(65_001, ID)).await;
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        speaker.established(&["outside", "elsewhere"]).await;
        let small = mandatory_but(0, &[]);
        source.send(&message(UPDATE, &body(&[], &small, &nlri(1)))).await;
        assert_eq!(announced(&mut elsewhere).await.nlri, nlri(1));
        let fixed = message(UPDATE, &body(&[], &small, &nlri(1))).len();
        let filling = attribute(0xd0, 254, &vec![7; 4096 - fixed - 4]);
        let largest = message(UPDATE, &body(&[], &mandatory_but(0, &filling), &nlri(1)));
        assert_eq!(largest.len(), 4096);

        source.send(&largest).await;

        let withdrawn = loop {
            let (kind, body) = elsewhere.next().await.expect("the session ended");
            if kind == UPDATE {
                break body;
            }
        };
        assert_eq!(withdrawn, body(&nlri(1), &[], &[]), "it cannot stay as it was");
        source.send(&message(UPDATE, &body(&[], &small, &nlri(2)))).await;
        assert_eq!(announced(&mut elsewhere).await.nlri, nlri(2));
    });
}

/// RFC 4271 §9.2: what was advertised already, as it is now, is not advertised again.
#[test]
fn what_a_peer_says_twice_is_passed_on_once() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut source = Wire::established(OUTSIDE, &ordinary(65_001, ID)).await;
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        speaker.established(&["outside", "elsewhere"]).await;
        let update = message(UPDATE, &body(&[], &mandatory_but(0, &[]), &nlri(1)));
        source.send(&update).await;
        assert_eq!(announced(&mut elsewhere).await.nlri, nlri(1));

        source.send(&update).await;
        source.send(&message(UPDATE, &body(&[], &mandatory_but(0, &[]), &nlri(2)))).await;

        assert_eq!(announced(&mut elsewhere).await.nlri, nlri(2));
    });
}

/// The same of a peer that restarted: its routes were kept, and passed on already.
#[test]
fn what_is_as_it_was_before_a_restart_is_not_passed_on_again() {
    Lab::run(async |lab| {
        let graceful = "passive = true\ngraceful-restart = { time-s = 30 }\n";
        let speaker = speaker_with(&lab, graceful).await;
        let restarting = |flags: u8| {
            let restart = [64, 6, flags, 30, 0, 1, 1, 0x80];
            open(65_001, ID, &parameters(&[&capabilities(65_001)[..], &restart].concat()))
        };
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        let mut source = Wire::established(SOUGHT, &restarting(0)).await;
        speaker.established(&["elsewhere", "sought"]).await;
        let update = message(UPDATE, &body(&[], &mandatory_but(0, &[]), &nlri(1)));
        source.send(&update).await;
        assert_eq!(announced(&mut elsewhere).await.nlri, nlri(1));

        source.reset();
        eventually("it is stale", async || {
            speaker.best("198.18.0.1/32").await.is_some_and(|best| best["stale"] == true)
        })
        .await;
        let mut source = Wire::established(SOUGHT, &restarting(0x80)).await;
        source.send(&update).await;
        eventually("it is fresh", async || {
            speaker.best("198.18.0.1/32").await.is_some_and(|best| best["stale"] == false)
        })
        .await;
        source.send(&message(UPDATE, &body(&[], &mandatory_but(0, &[]), &nlri(2)))).await;

        assert_eq!(announced(&mut elsewhere).await.nlri, nlri(2));
    });
}

/// RFC 4760 §6: a family that was not agreed on is none of the session.
#[test]
fn prefixes_of_a_family_that_was_not_offered_are_ignored() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let ipv6_alone = parameters(&[1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xfd, 0xe9]);
        let mut source = Wire::established(OUTSIDE, &open(65_001, ID, &ipv6_alone)).await;
        let mut elsewhere = Wire::established(ELSEWHERE, &ordinary(65_003, ID)).await;
        speaker.established(&["outside", "elsewhere"]).await;

        source.send(&message(UPDATE, &body(&[], &mandatory_but(0, &[]), &nlri(1)))).await;
        let reach = mandatory_but(3, &mp_reach(&NEXT_HOP_V6, &NLRI_V6));
        source.send(&message(UPDATE, &body(&[], &reach, &[]))).await;

        let received = announced(&mut elsewhere).await;
        assert!(received.nlri.is_empty() && received.attribute(14).is_some(), "{received:?}");
        assert!(speaker.best("198.18.0.1/32").await.is_none());
    });
}

#[test]
fn a_message_that_trickles_in_octet_by_octet_is_a_message() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut source = Wire::connect(OUTSIDE).await;
        let update = message(UPDATE, &body(&[], &mandatory_but(0, &[]), &nlri(1)));

        for octet in [ordinary(65_001, ID), keepalive(), update].concat() {
            source.send(&[octet]).await;
        }

        speaker.established(&["outside"]).await;
        eventually("its route is there", async || speaker.best("198.18.0.1/32").await.is_some())
            .await;
    });
}
