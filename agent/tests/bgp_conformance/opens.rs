//! OPENs (RFC 4271 §4.2, §6.2) and their capabilities (RFC 5492): refused, or agreed with.

use std::net::Ipv4Addr;

use crate::net::Lab;
use crate::wire::{KEEPALIVE, OPEN, Wire, capabilities, message, open, ordinary, parameters};
use crate::{INSIDE, OUTSIDE, speaker};

const ID: [u8; 4] = [10, 0, 0, 9];

/// Clause, what it is, the OPEN.
type Row = (&'static str, &'static str, Vec<u8>);

/// An ordinary OPEN with other octets at a place of its body.
fn but(at: usize, octets: &[u8]) -> Vec<u8> {
    let mut bytes = ordinary(65_001, ID);
    bytes[19 + at..19 + at + octets.len()].copy_from_slice(octets);
    bytes
}

fn with(parameters: &[u8]) -> Vec<u8> {
    open(65_001, ID, parameters)
}

/// With these capabilities after the usual ones.
fn offering(more: &[u8]) -> Vec<u8> {
    with(&parameters(&[&capabilities(65_001), more].concat()))
}

/// Those that are refused, with subcode and data.
fn refused() -> Vec<(Row, u8, Vec<u8>)> {
    let families = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1];
    vec![
        (("4271 6.2", "version 3", but(0, &[3])), 1, vec![0, 4]),
        (("4271 6.2", "version 5", but(0, &[5])), 1, vec![0, 4]),
        (("4271 6.2", "another AS", ordinary(65_002, ID)), 2, vec![]),
        (
            (
                "6793 4.1",
                "another AS in the capability",
                open(65_001, ID, &parameters(&capabilities(65_002))),
            ),
            2,
            vec![],
        ),
        (("7607 2", "AS 0", ordinary(0, ID)), 2, vec![]),
        (("6793 9", "AS_TRANS and no capability", open(23_456, ID, &[0])), 2, vec![]),
        (("6286 2.1", "identifier 0.0.0.0", ordinary(65_001, [0; 4])), 3, vec![]),
        (("4271 6.2", "authentication parameter", with(&[3, 1, 1, 0])), 4, vec![]),
        (("4271 6.2", "a parameter nobody knows", with(&[2, 200, 0])), 4, vec![]),
        (("4271 6.2", "hold time 1", but(3, &[0, 1])), 6, vec![]),
        (("4271 6.2", "hold time 2", but(3, &[0, 2])), 6, vec![]),
        (("5492 5", "no family in common", with(&parameters(&[1, 4, 0, 25, 0, 70]))), 7, families),
        (
            (
                "4271 6.2",
                "no length of parameters",
                message(OPEN, &[4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 9, 9]),
            ),
            0,
            vec![],
        ),
        (("4271 6.2", "parameters cut", with(&[20, 2, 6, 1, 4])), 0, vec![]),
        (("4271 6.2", "parameters and more", with(&[0, 0])), 0, vec![]),
        (("5492 4", "capability cut in the middle", with(&[4, 2, 2, 65, 4])), 0, vec![]),
        (("5492 4", "capability beyond its parameter", with(&[6, 2, 4, 1, 9, 0, 1])), 0, vec![]),
        (("5492 4", "capability of one octet", with(&[3, 2, 1, 1])), 0, vec![]),
        (("6793 3", "four-octet AS of two", with(&parameters(&[65, 2, 0, 1]))), 0, vec![]),
        (("4724 3", "restart capability of one octet", offering(&[64, 1, 0])), 0, vec![]),
        (("9072 2", "long form without its length", with(&[255, 255, 0])), 0, vec![]),
        (("9072 2", "long form, parameter cut", with(&[255, 255, 0, 3, 2, 0, 9])), 0, vec![]),
        (("9072 2", "long form, overrun", with(&[255, 255, 0xff, 0xff])), 0, vec![]),
    ]
}

/// Those that lead to a session.
fn accepted() -> Vec<Row> {
    let usual = capabilities(65_001);
    let long = |first: u8, capabilities: &[u8]| {
        let length = u16::try_from(capabilities.len()).unwrap();
        let all = length + 3;
        with(
            &[&[first, 255], &all.to_be_bytes()[..], &[2], &length.to_be_bytes(), capabilities]
                .concat(),
        )
    };
    let one_each =
        [24, 2, 6, 1, 4, 0, 1, 0, 1, 2, 2, 2, 0, 2, 2, 70, 0, 2, 6, 65, 4, 0, 0, 0xfd, 0xe9];
    let stuffed = [&usual[..], &[73, 250], &[7; 250]].concat();
    vec![
        ("4271 4.2", "no parameters", with(&[0])),
        ("4271 4.2", "an empty parameter", with(&[2, 2, 0])),
        ("5492 4", "a parameter for each capability", with(&one_each)),
        ("5492 4", "the same twice", offering(&usual)),
        ("5492 4", "refresh twice", offering(&[2, 0, 2, 0])),
        ("5492 4", "refresh with a value", offering(&[2, 1, 9])),
        ("5492 4", "capabilities nobody knows", offering(&[0, 0, 99, 3, 1, 2, 3, 255, 0])),
        ("7911 4", "several paths offered", offering(&[69, 8, 0, 1, 1, 3, 0, 2, 1, 3])),
        ("8654 3", "extended messages offered", offering(&[6, 0])),
        (
            "4724 3",
            "a restart, of families nobody knows",
            offering(&[64, 6, 0x80, 30, 0, 25, 70, 0x80]),
        ),
        ("9234 4.2", "a role, and none configured here", offering(&[9, 1, 3])),
        ("4271 4.2", "the longest hold time", but(3, &[0xff, 0xff])),
        ("4271 4.2", "the shortest hold time", but(3, &[0, 3])),
        ("9072 2", "long form of few", long(255, &usual)),
        ("9072 2", "long form behind another length", long(4, &usual)),
        ("9072 2", "long form of many", long(255, &stuffed)),
        ("6793 4.1", "AS_TRANS and the capability", open(23_456, ID, &parameters(&usual))),
        ("6286 2.1", "our own identifier, in another AS", ordinary(65_001, [10, 99, 0, 1])),
        ("6286 2.1", "an identifier that is no unicast address", ordinary(65_001, [224, 0, 0, 1])),
    ]
}

/// Whether the speaker takes an OPEN.
async fn is_taken(from: Ipv4Addr, open: &[u8]) -> bool {
    let mut wire = Wire::connect(from).await;
    wire.send(open).await;
    assert_eq!(wire.next().await.map(|(kind, _)| kind), Some(OPEN));
    wire.next().await.is_some_and(|(kind, _)| kind == KEEPALIVE)
}

#[test]
fn opens_that_are_refused_are_told_why() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        for ((clause, name, bytes), subcode, data) in refused() {
            let told = Wire::connect(OUTSIDE).await.told_after(&bytes).await;
            assert_eq!(told, Some((2, subcode, data)), "RFC {clause}: {name}");
        }
        let ours = ordinary(65_010, [10, 99, 0, 1]);
        let told = Wire::connect(INSIDE).await.told_after(&ours).await;
        assert_eq!(told, Some((2, 3, vec![])), "RFC 6286 2.1: our own identifier, in our AS");
    });
}

#[test]
fn opens_that_are_merely_unusual_are_taken() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        for (clause, name, bytes) in accepted() {
            assert!(is_taken(OUTSIDE, &bytes).await, "RFC {clause}: {name}");
        }
        assert!(is_taken(INSIDE, &ordinary(65_010, ID)).await);
    });
}
