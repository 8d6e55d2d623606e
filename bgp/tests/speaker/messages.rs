//! What a session answers to malformed and misplaced messages, code by code.

use isocast_bgp::fsm::{EndReason, Input, PeerAs, State};
use isocast_bgp::limits::MESSAGE_BYTES_MAX;
use isocast_bgp::wire::capability::Capability;
use isocast_bgp::wire::header::MessageType;
use isocast_bgp::wire::notification::{Notification, cease};

use crate::lone::RouteChange;
use crate::probe::{EXTERNAL_PEER, Probe, keepalive, message, open, probed};
use crate::vectors::{self, NLRI, OPTIONAL, WELL_KNOWN, attribute, attributes, body};

const ESTABLISHED: State = State::Established;

/// A header of our making, with nothing behind it.
fn header(marker: u8, length: u16, kind: u8) -> Vec<u8> {
    let mut bytes = vec![marker; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes
}

/// An OPEN of AS 65001 with these parameters, including their length.
fn open_with(parameters: &[u8]) -> Vec<u8> {
    let mut body = vec![4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 9];
    body.extend(parameters);
    message(MessageType::Open, &body)
}

/// A good OPEN with one octet of its body overwritten.
fn open_but(at: usize, octets: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    open(65_001, &[]).encode(&mut bytes);
    bytes[19 + at..19 + at + octets.len()].copy_from_slice(octets);
    bytes
}

fn at(state: State) -> Probe {
    let mut probe = Probe::connected(probed(EXTERNAL_PEER));
    if state >= State::OpenConfirm {
        let mut hello = Vec::new();
        open(65_001, &[]).encode(&mut hello);
        probe.hear(&hello);
    }
    if state == ESTABLISHED {
        probe.hear(&keepalive());
    }
    assert_eq!(probe.session().state(), state);
    probe
}

#[test]
fn header_faults_are_told_by_their_code_in_every_state() {
    let cases = [
        ("4271 6.1", "marker of zeros", header(0, 19, 4), (1, 1)),
        (
            "4271 6.1",
            "marker off by one",
            [&[0xfe][..], &header(0xff, 19, 4)[1..]].concat(),
            (1, 1),
        ),
        ("4271 6.1", "length 0", header(0xff, 0, 4), (1, 2)),
        ("4271 6.1", "length 18", header(0xff, 18, 4), (1, 2)),
        ("4271 6.1", "length 4097", header(0xff, 4097, 2), (1, 2)),
        ("4271 6.1", "length 65535", header(0xff, 65_535, 2), (1, 2)),
        ("4271 6.1", "KEEPALIVE with a body", header(0xff, 20, 4), (1, 2)),
        ("4271 6.1", "OPEN of 28 octets", header(0xff, 28, 1), (1, 2)),
        ("4271 6.1", "UPDATE of 22 octets", header(0xff, 22, 2), (1, 2)),
        ("4271 6.1", "NOTIFICATION of 20 octets", header(0xff, 20, 3), (1, 2)),
        ("4271 6.1", "type 0", header(0xff, 19, 0), (1, 3)),
        ("4271 6.1", "type 6, which nobody agreed on", header(0xff, 23, 6), (1, 3)),
        ("4271 6.1", "type 255", header(0xff, 19, 255), (1, 3)),
    ];
    for state in [State::OpenSent, State::OpenConfirm, ESTABLISHED] {
        for (clause, name, bytes, expected) in &cases {
            let mut probe = at(state);

            probe.hear(bytes);

            assert_eq!(probe.farewell(), Some(*expected), "RFC {clause}: {name} in {state}");
        }
    }
}

#[test]
fn header_faults_say_what_was_wrong() {
    let data = |bytes: &[u8]| {
        let mut probe = at(ESTABLISHED);
        probe.hear(bytes);
        probe.told.unwrap().data
    };

    assert_eq!(data(&header(0xff, 4097, 2)), [0x10, 0x01]);
    assert_eq!(data(&header(0xff, 19, 9)), [9]);
}

#[test]
fn a_refusal_names_the_families_that_would_have_been_needed() {
    let mut probe = at(State::OpenSent);

    // AFI 25, SAFI 70.
    probe.hear(&open_with(&[8, 2, 6, 1, 4, 0, 25, 0, 70]));

    let needed = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1];
    assert_eq!(probe.told.unwrap(), Notification::with_data(2, 7, &needed));
}

#[test]
fn the_long_form_of_parameters_needs_no_length_of_255_before_it() {
    for length in [1, 4, 254, 255] {
        let mut probe = at(State::OpenSent);

        // RFC 9072 §2: whatever the first length is, type 255 decides.
        probe.hear(&open_with(&[length, 255, 0, 5, 2, 0, 2, 2, 0]));

        assert_eq!(probe.session().state(), State::OpenConfirm, "{length}: {:?}", probe.ends);
    }
}

#[test]
fn an_attribute_that_ends_the_session_goes_back_to_who_sent_it() {
    let mut probe = at(ESTABLISHED);
    let reach = vectors::mp_reach(&[0; 3], &vectors::NLRI_V6);
    let all = attributes(&[3], std::slice::from_ref(&reach));

    probe.hear(&message(MessageType::Update, &body(&[], &all, &[])));

    assert_eq!(probe.told.unwrap(), Notification::with_data(3, 9, &reach));
    assert_eq!(probe.malformed, [vec![]], "nobody can read its prefixes");
}

#[test]
fn who_looks_for_the_cause_has_the_prefixes_of_a_malformed_update() {
    let mut probe = at(ESTABLISHED);
    let bad_origin = attribute(WELL_KNOWN, 1, &[9]);

    probe.hear(&message(
        MessageType::Update,
        &body(&[24, 198, 51, 100], &attributes(&[1], &[bad_origin]), &NLRI),
    ));

    let spoken_of = ["198.51.100.0/24", "192.0.2.1/32"].map(|net| net.parse().unwrap());
    assert_eq!(probe.malformed, [spoken_of.to_vec()]);
    assert_eq!(probe.session().state(), ESTABLISHED);
}

#[test]
fn open_faults_are_told_by_their_code() {
    let cases = [
        ("4271 6.2", "version 3", open_but(0, &[3]), (2, 1)),
        ("4271 6.2", "version 5", open_but(0, &[5]), (2, 1)),
        ("4271 6.2", "another AS", open_with(&[2, 2, 0]).replace_as(65_002), (2, 2)),
        ("7607 2", "AS 0", open_with(&[0]).replace_as(0), (2, 2)),
        ("6793 9", "AS_TRANS and no capability", open_with(&[0]).replace_as(23_456), (2, 2)),
        ("6286 2.1", "identifier 0.0.0.0", open_but(5, &[0; 4]), (2, 3)),
        ("4271 6.2", "authentication parameter", open_with(&[3, 1, 1, 0]), (2, 4)),
        ("4271 6.2", "parameter nobody knows", open_with(&[2, 200, 0]), (2, 4)),
        ("4271 6.2", "hold time 1", open_but(3, &[0, 1]), (2, 6)),
        ("4271 6.2", "hold time 2", open_but(3, &[0, 2]), (2, 6)),
        ("5492 5", "no family in common", open_with(&[8, 2, 6, 1, 4, 0, 25, 0, 70]), (2, 7)),
        ("4271 6.2", "parameters cut", open_with(&[20, 2, 6, 1, 4]), (2, 0)),
        ("4271 6.2", "parameter overrun", open_with(&[4, 2, 9, 1, 4]), (2, 0)),
        ("4271 6.2", "parameters and more", open_with(&[0, 0]), (2, 0)),
        ("5492 4", "capability cut in the middle", open_with(&[4, 2, 2, 65, 4]), (2, 0)),
        ("5492 4", "capability overruns its parameter", open_with(&[6, 2, 4, 1, 9, 0, 1]), (2, 0)),
        ("5492 4", "capability of one octet", open_with(&[3, 2, 1, 1]), (2, 0)),
        ("4760 8", "family of three octets", open_with(&[7, 2, 5, 1, 3, 0, 1, 0]), (2, 0)),
        ("6793 3", "four-octet AS of two", open_with(&[6, 2, 4, 65, 2, 0, 1]), (2, 0)),
        ("6793 3", "four-octet AS empty", open_with(&[4, 2, 2, 65, 0]), (2, 0)),
        ("4724 3", "restart capability of one octet", open_with(&[5, 2, 3, 64, 1, 0]), (2, 0)),
        ("4724 3", "restart family cut", open_with(&[9, 2, 7, 64, 5, 0, 30, 0, 1, 1]), (2, 0)),
        ("8950 4", "extended next hop cut", open_with(&[9, 2, 7, 5, 5, 0, 1, 0, 1, 0]), (2, 0)),
        ("9072 2", "long form without its length", open_with(&[255, 255, 0]), (2, 0)),
        ("9072 2", "long form, nothing behind it", open_with(&[255, 255]), (2, 0)),
        ("9072 2", "long form, parameter cut", open_with(&[255, 255, 0, 3, 2, 0, 9]), (2, 0)),
        ("9072 2", "long form, overrun", open_with(&[255, 255, 0xff, 0xff]), (2, 0)),
        ("9072 2", "long form behind no length at all", open_with(&[0, 255, 0, 0]), (2, 0)),
        ("9234 4.1", "role of two octets", open_with(&[6, 2, 4, 9, 2, 0, 0]), (2, 0)),
    ];
    for (clause, name, bytes, expected) in cases {
        let mut probe = at(State::OpenSent);

        probe.hear(&bytes);

        assert_eq!(probe.farewell(), Some(expected), "RFC {clause}: {name}");
    }
}

trait ReplaceAs {
    fn replace_as(self, asn: u16) -> Self;
}

impl ReplaceAs for Vec<u8> {
    fn replace_as(mut self, asn: u16) -> Self {
        self[20..22].copy_from_slice(&asn.to_be_bytes());
        self
    }
}

#[test]
fn capabilities_nobody_knows_cost_nothing_whatever_is_in_them() {
    let cases: [(&str, &[u8]); 9] = [
        ("software version, empty", &[75, 0]),
        ("software version, length beyond", &[75, 2, 200, b'x']),
        ("FQDN with a bad inner length", &[73, 3, 200, b'a', 9]),
        ("FQDN, empty", &[73, 0]),
        ("long-lived restart of one octet", &[71, 1, 9]),
        ("add-path of three octets", &[69, 3, 0, 1, 1]),
        ("dynamic capability", &[67, 1, 3]),
        ("enhanced refresh with a value", &[70, 2, 1, 2]),
        ("reserved code", &[255, 3, 1, 2, 3]),
    ];
    for (name, capability) in cases {
        let mut probe = Probe::connected(probed(EXTERNAL_PEER));
        let length = u8::try_from(capability.len()).unwrap();

        probe.hear(&open_with(&[&[length + 2, 2, length], capability].concat()));

        assert_eq!(probe.session().state(), State::OpenConfirm, "{name}: {:?}", probe.ends);
    }
}

#[test]
fn inside_an_as_both_identifiers_differ() {
    let mut probe = Probe::connected(probed(PeerAs::Internal));
    let mut ours = open(65_010, &[]);
    ours.router_id = [10, 0, 0, 8].into();
    let mut bytes = Vec::new();
    ours.encode(&mut bytes);

    probe.hear(&bytes);

    assert_eq!(probe.farewell(), Some((2, 3)));
}

#[test]
fn messages_out_of_place_are_told_in_which_state() {
    let mut hello = Vec::new();
    open(65_001, &[]).encode(&mut hello);
    let update = message(MessageType::Update, &body(&[], &[], &[]));
    let refresh = message(MessageType::RouteRefresh, &[0, 1, 0, 1]);
    let cases = [
        (State::OpenSent, keepalive(), (5, 1)),
        (State::OpenSent, update.clone(), (5, 1)),
        (State::OpenSent, refresh.clone(), (5, 1)),
        (State::OpenConfirm, hello.clone(), (5, 2)),
        (State::OpenConfirm, update, (5, 2)),
        (State::OpenConfirm, refresh, (5, 2)),
        (ESTABLISHED, hello, (5, 3)),
    ];
    for (state, bytes, expected) in cases {
        let mut probe = at(state);

        probe.hear(&bytes);

        assert_eq!(probe.farewell(), Some(expected), "RFC 6608 3: {bytes:?} in {state}");
        assert_eq!(probe.told.unwrap().data, [bytes[18]], "RFC 6608 4: {bytes:?} in {state}");
    }
}

#[test]
fn notifications_are_never_answered() {
    let texts = [
        vec![6, 2],
        vec![6, 2, 255, b'x'],
        [&[6, 2, 200][..], &[b'x'; 200]].concat(),
        [&[6, 2, 3][..], b"\xff\x1b\n"].concat(),
        vec![0, 0],
        vec![255, 255, 1, 2, 3],
        vec![6, 9],
        vec![6, 9, 6, 9, 6, 9, 6, 2],
    ];
    for state in [State::OpenSent, State::OpenConfirm, ESTABLISHED] {
        for text in &texts {
            let mut probe = at(state);

            probe.hear(&message(MessageType::Notification, text));

            assert_eq!(probe.told, None, "{text:?} in {state}");
            let [EndReason::PeerNotification(told)] = probe.ends.as_slice() else {
                panic!("{:?}", probe.ends)
            };
            assert!(!told.to_string().contains(['\n', '\x1b']));
        }
    }
}

#[test]
fn a_route_refresh_of_the_wrong_length_is_returned_whole() {
    for value in [&[][..], &[0, 1, 0], &[0, 1, 0, 1, 0], &[0, 1, 1, 1, 128, 0, 9, 1, 2, 3]] {
        let mut probe = at(ESTABLISHED);
        let bytes = message(MessageType::RouteRefresh, value);

        probe.hear(&bytes);

        assert_eq!(probe.farewell(), Some((7, 1)), "RFC 7313 5: {value:?}");
        assert_eq!(probe.told.unwrap().data, bytes);
    }
}

#[test]
fn route_refreshes_that_mean_nothing_here_are_ignored() {
    for value in [[0, 1, 3, 1], [0, 1, 255, 1], [0, 25, 0, 70], [0, 1, 0, 2], [0, 1, 2, 1]] {
        let mut probe = at(ESTABLISHED);
        probe.say();

        probe.hear(&message(MessageType::RouteRefresh, &value));

        assert_eq!(probe.session().state(), ESTABLISHED, "{value:?}");
        assert_eq!(probe.say(), [], "{value:?}");
    }
}

#[test]
fn a_faulty_update_costs_its_route_and_no_other() {
    let mut probe = at(ESTABLISHED);
    let path = attribute(WELL_KNOWN, 2, &[2, 1, 0, 0, 0xfd, 0xe9]);
    let good = attributes(&[2], std::slice::from_ref(&path));
    let bad = attributes(&[2], &[path, attribute(OPTIONAL, 4, &[1])]);
    let other = [24, 198, 51, 100];
    probe.hear(&message(MessageType::Update, &body(&[], &good, &[&NLRI[..], &other].concat())));
    assert_eq!(probe.lone.changes.len(), 2);

    probe.hear(&message(MessageType::Update, &body(&[], &bad, &NLRI)));

    let prefix = "192.0.2.1/32".parse().unwrap();
    assert_eq!(probe.lone.changes.last(), Some(&RouteChange::Withdrawn(prefix)));
    assert_eq!((probe.lone.len(), probe.faults), (1, 1));
    assert_eq!(probe.session().state(), ESTABLISHED);
}

#[test]
fn a_fault_beyond_repair_is_told_and_nothing_after_it_is_read() {
    let mut probe = at(ESTABLISHED);
    let bad = message(MessageType::Update, &body(&[], &attributes(&[], &[]), &[33, 1, 2, 3, 4, 5]));
    let path = attribute(WELL_KNOWN, 2, &[2, 1, 0, 0, 0xfd, 0xe9]);
    let good = message(MessageType::Update, &body(&[], &attributes(&[2], &[path]), &NLRI));

    probe.hear(&[bad, good].concat());

    assert_eq!(probe.farewell(), Some((3, 10)));
    assert!(probe.lone.changes.is_empty());
    assert_eq!(probe.ends.len(), 1);
}

#[test]
fn long_messages_are_read_where_both_sides_agreed() {
    let path = attribute(WELL_KNOWN, 2, &[2, 1, 0, 0, 0xfd, 0xe9]);
    let large = attribute(vectors::TRANSITIVE | 0x10, 254, &[1; 9000]);
    let update = message(MessageType::Update, &body(&[], &attributes(&[2], &[path, large]), &NLRI));
    assert!(update.len() > MESSAGE_BYTES_MAX);
    for (offered, expected) in [(true, None), (false, Some((1, 2)))] {
        let mut config = probed(EXTERNAL_PEER);
        config.extended_messages = true;
        let further = if offered { vec![Capability::ExtendedMessage] } else { vec![] };
        let mut probe = Probe::established(config, &further);

        probe.hear(&update);

        assert_eq!(probe.farewell(), expected);
        assert_eq!(probe.lone.changes.len(), usize::from(offered));
    }
}

#[test]
fn every_end_has_a_code_of_its_own_and_tells_the_peer_what_it_must() {
    let mut probe = at(ESTABLISHED);
    probe.input(Input::Broken { id: probe.id, error: "reset".to_owned() });
    assert_eq!((probe.ends[0].code(), probe.farewell()), ("ConnectionBroken", None));

    let mut probe = at(ESTABLISHED);
    probe.input(Input::BfdDown { control_plane_independent: true });
    assert_eq!((probe.ends[0].code(), probe.farewell()), ("BfdDown", Some((6, cease::BFD_DOWN))));

    let hard = Notification::cease(cease::SHUTDOWN, "").into_hard_reset();
    assert_eq!(EndReason::PeerNotification(hard).code(), "HardResetReceived");
    let soft = Notification::cease(cease::SHUTDOWN, "");
    assert_eq!(EndReason::PeerNotification(soft).code(), "NotificationReceived");
    let drained = EndReason::Drained { text: "disk swap".to_owned() };
    assert_eq!(drained.to_string(), "administrative shutdown: disk swap");
}
