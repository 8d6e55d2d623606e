//! Message headers (RFC 4271 §4.1, §6.1), in every state.

use crate::net::Lab;
use crate::wire::{KEEPALIVE, NOTIFICATION, OPEN, Told, UPDATE, Wire, header, outside};
use crate::{OUTSIDE, speaker};

/// Clause, what it is, its octets, the answer.
type Row = (&'static str, &'static str, Vec<u8>, Told);

fn rows() -> Vec<Row> {
    let off_by_one = [&[0xfe][..], &header(0xff, 19, KEEPALIVE)[1..]].concat();
    vec![
        ("4271 6.1", "marker of zeros", header(0, 19, KEEPALIVE), (1, 1, vec![])),
        ("4271 6.1", "marker off by one", off_by_one, (1, 1, vec![])),
        ("4271 6.1", "length 0", header(0xff, 0, KEEPALIVE), (1, 2, vec![0, 0])),
        ("4271 6.1", "length 18", header(0xff, 18, KEEPALIVE), (1, 2, vec![0, 18])),
        ("4271 6.1", "length 4097", header(0xff, 4097, UPDATE), (1, 2, vec![0x10, 1])),
        ("4271 6.1", "length 65535", header(0xff, 65_535, UPDATE), (1, 2, vec![0xff, 0xff])),
        ("4271 6.1", "KEEPALIVE with a body", header(0xff, 20, KEEPALIVE), (1, 2, vec![0, 20])),
        ("4271 6.1", "OPEN of 28 octets", header(0xff, 28, OPEN), (1, 2, vec![0, 28])),
        ("4271 6.1", "UPDATE of 22 octets", header(0xff, 22, UPDATE), (1, 2, vec![0, 22])),
        ("4271 6.1", "NOTIFICATION of 20", header(0xff, 20, NOTIFICATION), (1, 2, vec![0, 20])),
        ("4271 6.1", "type 0", header(0xff, 19, 0), (1, 3, vec![0])),
        ("4271 6.1", "type 6, nobody's capability", header(0xff, 23, 6), (1, 3, vec![6])),
        ("4271 6.1", "type 255", header(0xff, 19, 255), (1, 3, vec![255])),
    ]
}

#[test]
fn header_faults_are_answered_alike_in_every_state() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        for (clause, name, bytes, expected) in rows() {
            let states = [
                ("OpenSent", Wire::connect(OUTSIDE).await.told_after(&bytes).await),
                ("OpenConfirm", {
                    let wire = Wire::confirmed(OUTSIDE, &outside()).await;
                    wire.told_after(&bytes).await
                }),
                ("Established", {
                    let wire = Wire::established(OUTSIDE, &outside()).await;
                    wire.told_after(&bytes).await
                }),
            ];
            for (state, told) in states {
                assert_eq!(told.as_ref(), Some(&expected), "RFC {clause}: {name} in {state}");
            }
        }
    });
}
