//! Messages where they have no place (RFC 6608), silence (RFC 4271 §6.5), and last words.

use std::net::Ipv4Addr;

use crate::net::{Lab, eventually, run};
use crate::vectors::{attributes, body};
use crate::wire::{
    NOTIFICATION, OPEN, ROUTE_REFRESH, UPDATE, Wire, capabilities, keepalive, message, open,
    outside, parameters,
};
use crate::{OUTSIDE, speaker};

#[test]
fn messages_out_of_place_are_returned_by_their_type() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        let update = message(UPDATE, &body(&[], &attributes(&[], &[]), &[32, 192, 0, 2, 1]));
        let refresh = message(ROUTE_REFRESH, &[0, 1, 0, 1]);

        for bytes in [keepalive(), update.clone(), refresh.clone()] {
            let told = Wire::connect(OUTSIDE).await.told_after(&bytes).await;
            assert_eq!(told, Some((5, 1, vec![bytes[18]])), "RFC 6608 4: in OpenSent");
        }
        for bytes in [outside(), update, refresh] {
            let wire = Wire::confirmed(OUTSIDE, &outside()).await;
            let told = wire.told_after(&bytes).await;
            assert_eq!(told, Some((5, 2, vec![bytes[18]])), "RFC 6608 4: in OpenConfirm");
        }
        let wire = Wire::established(OUTSIDE, &outside()).await;
        let told = wire.told_after(&outside()).await;
        assert_eq!(told, Some((5, 3, vec![OPEN])), "RFC 6608 4: in Established");
    });
}

#[test]
fn last_words_are_not_answered() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        let texts: [&[u8]; 6] = [
            &[6, 2],
            &[6, 2, 255, b'x'],
            &[6, 2, 3, 0xff, 0x1b, b'\n'],
            &[0, 0],
            &[255, 255, 1, 2, 3],
            &[6, 9, 6, 9, 6, 2],
        ];
        for text in texts {
            let bytes = message(NOTIFICATION, text);
            let opened = Wire::connect(OUTSIDE).await.told_after(&bytes).await;
            let confirmed = Wire::confirmed(OUTSIDE, &outside()).await.told_after(&bytes).await;
            let established = Wire::established(OUTSIDE, &outside()).await;
            let established = established.told_after(&bytes).await;
            assert_eq!([opened, confirmed, established], [None, None, None], "{text:?}");
        }
    });
}

#[test]
fn who_is_no_peer_hears_nothing() {
    Lab::run(async |lab| {
        let _speaker = speaker(&lab).await;
        let stranger = Ipv4Addr::new(10, 0, 0, 77);
        run("ip", &["address", "add", "10.0.0.77/32", "dev", "lo"], "").await;

        assert_eq!(Wire::connect(stranger).await.next().await, None);
    });
}

#[test]
fn silence_for_the_hold_time_ends_the_session_in_both_of_its_states() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut hello = open(65_001, [10, 0, 0, 9], &parameters(&capabilities(65_001)));
        // RFC 4271 §4.2: the smaller of both hold times.
        hello[19 + 4] = 3;

        let mut silent = Wire::confirmed(OUTSIDE, &hello).await;
        assert_eq!(silent.told().await, Some((4, 0, vec![])), "RFC 4271 6.5: in OpenConfirm");

        let mut silent = Wire::established(OUTSIDE, &hello).await;
        speaker.established(&["outside"]).await;
        assert_eq!(silent.told().await, Some((4, 0, vec![])), "RFC 4271 6.5: in Established");
    });
}

#[test]
fn a_route_refresh_of_the_wrong_length_is_returned_and_one_of_another_kind_is_ignored() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let offering = [&capabilities(65_001)[..], &[70, 0]].concat();
        let hello = open(65_001, [10, 0, 0, 9], &parameters(&offering));
        for value in [&[][..], &[0, 1, 0], &[0, 1, 0, 1, 0], &[0, 1, 1, 1, 128, 0, 9, 1, 2, 3]] {
            let bytes = message(ROUTE_REFRESH, value);
            let told = Wire::established(OUTSIDE, &hello).await.told_after(&bytes).await;
            assert_eq!(told, Some((7, 1, bytes)), "RFC 7313 5: {value:?}");
        }

        let mut wire = Wire::established(OUTSIDE, &hello).await;
        // A subtype nobody knows, families nobody offered, an end without a beginning.
        for value in [[0, 1, 7, 1], [0, 25, 0, 70], [0, 1, 2, 1], [0, 1, 255, 1]] {
            wire.send(&message(ROUTE_REFRESH, &value)).await;
        }
        let good = message(UPDATE, &body(&[], &attributes(&[], &[]), &[32, 192, 0, 2, 1]));
        wire.send(&good).await;
        eventually("it goes on", async || speaker.best("192.0.2.1/32").await.is_some()).await;
    });
}
