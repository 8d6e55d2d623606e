//! Peers that come and go as fast as TCP lets them.

use std::time::Duration;

use tokio::time::Instant;

use crate::net::{Lab, eventually};
use crate::speaker::Speaker;
use crate::vectors::{NLRI, attributes, body};
use crate::wire::{NOTIFICATION, UPDATE, Wire, keepalive, message, ordinary, outside};
use crate::{INSIDE, OUTSIDE, sought, speaker};

const RESETS: usize = 200;
/// Connections of one peer: three at most that may become its session, and four that end.
const SHARE: usize = 7;

/// Open file descriptors of the speaker.
fn descriptors(speaker: &Speaker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", speaker.pid())).unwrap().count()
}

/// Resident memory of the speaker, in KiB.
fn resident_kib(speaker: &Speaker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", speaker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// One session with a route, and its end.
async fn come_and_go() {
    let mut wire = Wire::established(OUTSIDE, &outside()).await;
    wire.send(&message(UPDATE, &body(&[], &attributes(&[], &[]), &NLRI))).await;
    wire.reset();
}

#[test]
fn a_peer_that_resets_two_hundred_sessions_leaves_nothing_behind_and_disturbs_nobody() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let mut other = Wire::established(INSIDE, &ordinary(65_010, [10, 0, 0, 9])).await;
        speaker.established(&["inside"]).await;
        let since = speaker.peer("inside").await.unwrap()["since"].clone();
        // What is made once is made by now.
        for _ in 0..20 {
            come_and_go().await;
        }
        eventually("all are gone", async || speaker.best("192.0.2.1/32").await.is_none()).await;
        let before = (descriptors(&speaker), resident_kib(&speaker));

        for _ in 0..RESETS {
            come_and_go().await;
        }

        eventually("every socket is closed", async || descriptors(&speaker) <= before.0).await;
        let grown = resident_kib(&speaker).saturating_sub(before.1);
        assert!(grown < 4096, "{grown} KiB more than before");
        assert!(speaker.best("192.0.2.1/32").await.is_none());
        other.send(&keepalive()).await;
        assert_eq!(speaker.peer("inside").await.unwrap()["since"], since);
        let _last = Wire::established(OUTSIDE, &outside()).await;
        speaker.established(&["outside"]).await;
    });
}

/// Each is told why, and nobody hangs up.
#[test]
fn a_peer_that_keeps_refused_connections_open_takes_no_more_than_its_share() {
    Lab::run(async |lab| {
        let speaker = speaker(&lab).await;
        let before = descriptors(&speaker);
        let mut old = outside();
        // BGP-3.
        old[19] = 3;
        let mut kept = Vec::new();
        let mut most = 0;

        for _ in 0..600 {
            let mut wire = Wire::connect(OUTSIDE).await;
            wire.send(&old).await;
            while wire.next().await.is_some_and(|(kind, _)| kind != NOTIFICATION) {}
            kept.push(wire);
            most = most.max(descriptors(&speaker));
        }

        assert!(most <= before + SHARE, "{most} descriptors, {before} before");
        let _other = Wire::established(INSIDE, &ordinary(65_010, [10, 0, 0, 9])).await;
        speaker.established(&["inside"]).await;
        eventually("all are closed", async || descriptors(&speaker) <= before + 1).await;
    });
}

/// RFC 4271 §8.1.1: the longer sessions with a peer keep failing, the longer we wait.
#[test]
fn a_peer_that_resets_each_session_we_open_is_tried_ever_less_often() {
    Lab::run(async |lab| {
        let listener = sought().await;
        let speaker = speaker(&lab).await;
        let mut waits = Vec::new();
        let mut last = Instant::now();

        for _ in 0..5 {
            let (stream, _) = listener.accept().await.unwrap();
            waits.push(last.elapsed());
            let mut wire = Wire::accepted(stream);
            wire.send(&[ordinary(65_001, [10, 0, 0, 9]), keepalive()].concat()).await;
            speaker.established(&["sought"]).await;
            wire.reset();
            last = Instant::now();
        }

        // Half a second, doubled each time, less a quarter at most.
        for (wait, least) in waits.iter().skip(1).zip([375, 750, 1500, 3000]) {
            assert!(*wait >= Duration::from_millis(least), "{waits:?}");
        }
        eventually("it is gone", async || !speaker.is_established("sought").await).await;
    });
}
