//! Every vector with every octet changed: nothing may panic, take long or allocate much, and a
//! session either goes on or ends once, for one reason.

use std::time::{Duration, Instant};

use isocast_bgp::fsm::State;
use isocast_bgp::limits::MESSAGE_BYTES_MAX;
use isocast_bgp::types::PeerKind;
use isocast_bgp::types::{Family, PerFamily};
use isocast_bgp::wire::capability::{
    Capability, Forwarding, GracefulRestart, LongLived, LongLivedFamily,
};
use isocast_bgp::wire::header::MessageType;
use isocast_bgp::wire::refresh::{Refresh, RouteRefresh};

use crate::allocations;
use crate::malformed::{attribute_faults, framing_faults};
use crate::probe::{EXTERNAL_PEER, Probe, keepalive, message, open, probed};
use crate::vectors::{self, NLRI, attributes, body};

/// No message of a vector may make us allocate more than this at once: what the table grows by.
const ALLOCATION_MAX: usize = 128 * 1024;

/// Longest a message may take, in a debug build on a busy machine; the best of a few tries counts.
const TIME_MAX: Duration = Duration::from_millis(5);

/// `original` with one octet changed, for every octet, in every way that tends to break parsers.
fn mutants(original: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..original.len()).flat_map(move |at| {
        let octet = original[at];
        let changed =
            [octet.wrapping_add(1), octet.wrapping_sub(1), octet ^ 0x80, octet ^ 0x10, 0, u8::MAX];
        changed.into_iter().filter(move |new| *new != octet).map(move |new| {
            let mut mutant = original.to_vec();
            mutant[at] = new;
            mutant
        })
    })
}

/// Feeds `bytes` to what `prepare` makes, and checks what must hold whatever they are. Returns what
/// it was fed to if that lives.
fn survives(mut probe: Probe, prepare: impl Fn() -> Probe, bytes: &[u8]) -> Option<Probe> {
    let mut best = Duration::MAX;
    for attempt in 0..4 {
        if attempt > 0 {
            probe = prepare();
        }
        let started = Instant::now();
        let ((), largest) = allocations::largest(|| probe.hear(bytes));
        best = best.min(started.elapsed());
        assert!(largest <= ALLOCATION_MAX, "{largest} octets at once for {bytes:02x?}");
        if best <= TIME_MAX {
            break;
        }
    }
    assert!(best <= TIME_MAX, "{best:?} for {bytes:02x?}");
    assert!(probe.ends.len() <= 1, "{:?} after {bytes:02x?}", probe.ends);
    if probe.ends.is_empty() {
        return Some(probe);
    }
    assert_eq!(probe.session().state(), State::Active, "after {bytes:02x?}");
    assert_eq!(probe.lone.len(), 0, "routes outlive the session after {bytes:02x?}");
    None
}

fn all_survive(prepare: impl Fn() -> Probe + Copy, originals: &[Vec<u8>]) -> usize {
    let mut living = None;
    let mut count = 0;
    for original in originals {
        for mutant in mutants(original) {
            let probe = living.take().unwrap_or_else(prepare);
            living = survives(probe, prepare, &mutant);
            count += 1;
        }
    }
    count
}

fn update(body: &[u8]) -> Vec<u8> {
    message(MessageType::Update, body)
}

#[test]
fn a_mutated_update_harms_nobody() {
    let rows = attribute_faults();
    // A large attribute is the same one many times over.
    let small = rows.iter().map(|(_, _, change, ..)| change.body(PeerKind::External));
    let framing = framing_faults();
    let others = framing.iter().map(|(_, _, body, _)| body.clone());
    let bodies = small.chain(others).filter(|body| body.len() < 300);
    let mut originals: Vec<_> = bodies.filter(|body| body.len() >= 4).map(|b| update(&b)).collect();
    originals.sort();
    originals.dedup();

    let prepare = || Probe::established(probed(EXTERNAL_PEER), &[Capability::EnhancedRouteRefresh]);
    let count = all_survive(prepare, &originals);

    assert!(count > 20_000, "{count} mutants");
}

#[test]
fn a_mutated_open_harms_nobody() {
    let family = Some(LongLivedFamily {
        forwarding: Forwarding::Preserved,
        stale_time: Duration::from_secs(60),
    });
    let restart = GracefulRestart {
        restart_time: Duration::from_secs(30),
        families: PerFamily { ipv4: Some(Forwarding::Preserved), ipv6: Some(Forwarding::Lost) },
        ..GracefulRestart::default()
    };
    let capabilities = [
        Capability::GracefulRestart(restart),
        Capability::LongLived(LongLived { families: PerFamily { ipv4: family, ipv6: family } }),
        Capability::ExtendedNextHop(vec![(1, 1, 2), (2, 1, 1)]),
        Capability::Role(3),
        Capability::ExtendedMessage,
        Capability::Unknown { code: 73, value: b"\x04edge\x03lab".to_vec() },
        Capability::Unknown { code: 75, value: b"\x07speaker".to_vec() },
    ];
    let long = Capability::Unknown { code: 200, value: vec![7; 250] };
    let opens = [open(65_001, &capabilities), open(65_001, &[long.clone(), long])];
    let originals = opens.map(|open| {
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        bytes
    });

    let prepare = || Probe::connected(probed(EXTERNAL_PEER));
    for original in &originals {
        for mutant in mutants(original) {
            drop(survives(prepare(), prepare, &mutant));
        }
    }
}

#[test]
fn a_mutated_refresh_or_notification_harms_nobody() {
    let mut refresh = Vec::new();
    RouteRefresh::new(Refresh::Begin, Family::Ipv4Unicast).encode(&mut refresh);
    let text = [&[6, 2, 5][..], b"hello"].concat();
    let notification = message(MessageType::Notification, &text);

    let prepare = || Probe::established(probed(EXTERNAL_PEER), &[Capability::EnhancedRouteRefresh]);
    all_survive(prepare, &[refresh, notification, keepalive()]);
}

#[test]
fn a_message_cut_or_stretched_anywhere_harms_nobody() {
    let whole = body(
        &[24, 10, 0, 0],
        &attributes(&[], &[vectors::mp_reach(&vectors::NEXT_HOP_V6, &vectors::NLRI_V6)]),
        &NLRI,
    );
    let prepare = || Probe::established(probed(EXTERNAL_PEER), &[]);
    for length in 4..whole.len() {
        drop(survives(prepare(), prepare, &update(&whole[..length])));
        drop(survives(prepare(), prepare, &update(&[&whole[..], &whole[..length]].concat())));
    }
}

#[test]
fn the_most_prefixes_that_a_message_holds_cost_a_small_multiple_of_it() {
    let most = MESSAGE_BYTES_MAX - 19 - 4;
    let withdrawn = body(&vec![0; most], &[], &[]);
    let mut probe = Probe::established(probed(EXTERNAL_PEER), &[]);

    let ((), largest) = allocations::largest(|| probe.hear(&update(&withdrawn)));

    assert_eq!(probe.session().state(), State::Established);
    assert!(largest <= 64 * MESSAGE_BYTES_MAX, "{largest} octets at once");
}
