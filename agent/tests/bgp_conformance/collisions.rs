//! Two connections at once (RFC 4271 §6.8): the one that the higher identifier opened stays.

use tokio::net::TcpListener;

use crate::net::Lab;
use crate::wire::{KEEPALIVE, OPEN, Wire, capabilities, keepalive, open, ordinary, parameters};
use crate::{SOUGHT, sought, speaker, speaker_with};

const COLLISION: (u8, u8, Vec<u8>) = (6, 7, vec![]);

/// Below and above ours, 10.99.0.1.
const LOWER: [u8; 4] = [1, 0, 0, 1];
const HIGHER: [u8; 4] = [200, 0, 0, 1];

/// Which connection hears the peer's OPEN first.
#[derive(Clone, Copy, Debug)]
enum First {
    Ours,
    Theirs,
}

/// Both connections up, and the peer's OPEN on both; ours, then theirs.
async fn collide(listener: &TcpListener, id: [u8; 4], first: First) -> (Wire, Wire) {
    let (stream, _) = listener.accept().await.unwrap();
    let (mut ours, mut theirs) = (Wire::accepted(stream), Wire::connect(SOUGHT).await);
    assert_eq!(ours.next().await.unwrap().0, OPEN);
    assert_eq!(theirs.next().await.unwrap().0, OPEN);
    let open = ordinary(65_001, id);
    let (one, other) = match first {
        First::Ours => (&mut ours, &mut theirs),
        First::Theirs => (&mut theirs, &mut ours),
    };
    one.send(&open).await;
    // It was taken: the speaker is in OpenConfirm when the other one comes.
    assert_eq!(one.next().await.unwrap().0, KEEPALIVE);
    other.send(&open).await;
    (ours, theirs)
}

#[test]
fn of_two_connections_the_one_stays_that_the_higher_identifier_opened() {
    for first in [First::Ours, First::Theirs] {
        for id in [LOWER, HIGHER] {
            Lab::run(async move |lab| {
                let listener = sought().await;
                let speaker = speaker(&lab).await;
                let (mut ours, mut theirs) = collide(&listener, id, first).await;

                let (kept, lost) =
                    if id == HIGHER { (&mut theirs, &mut ours) } else { (&mut ours, &mut theirs) };

                assert_eq!(lost.told().await, Some(COLLISION), "{first:?} {id:?}");
                kept.send(&keepalive()).await;
                speaker.established(&["sought"]).await;
            });
        }
    }
}

#[test]
fn a_session_that_is_up_stays_whoever_comes_later() {
    Lab::run(async |lab| {
        let speaker = speaker_with(&lab, "passive = true\n").await;
        let _first = Wire::established(SOUGHT, &ordinary(65_001, LOWER)).await;
        speaker.established(&["sought"]).await;
        let since = speaker.peer("sought").await.unwrap()["since"].clone();

        for id in [LOWER, HIGHER] {
            let told = Wire::connect(SOUGHT).await.told_after(&ordinary(65_001, id)).await;
            assert_eq!(told, Some(COLLISION));
        }

        assert_eq!(speaker.peer("sought").await.unwrap()["since"], since);
    });
}

#[test]
fn a_later_connection_of_a_peer_that_says_it_restarted_takes_the_place_of_the_first() {
    Lab::run(async |lab| {
        let graceful = "passive = true\ngraceful-restart = { time-s = 30 }\n";
        let speaker = speaker_with(&lab, graceful).await;
        let restarting = |flags: u8| {
            let restart = [64, 6, flags, 30, 0, 1, 1, 0x80];
            let all = [&capabilities(65_001)[..], &restart].concat();
            open(65_001, LOWER, &parameters(&all))
        };
        let mut first = Wire::established(SOUGHT, &restarting(0)).await;
        speaker.established(&["sought"]).await;

        let told = Wire::connect(SOUGHT).await.told_after(&restarting(0)).await;
        assert_eq!(told, Some(COLLISION), "RFC 4271 6.8: nobody restarted");

        let _second = Wire::established(SOUGHT, &restarting(0x80)).await;
        assert_eq!(first.told().await, None, "RFC 4724 5: the first is dropped without a word");
        speaker.established(&["sought"]).await;
    });
}
