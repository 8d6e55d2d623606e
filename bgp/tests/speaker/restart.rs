//! What is kept of a peer that restarts: the helper's side of graceful restart.

use std::time::Duration;

use isocast_bgp::fsm::{
    Action, EndReason, HelperConfig, Input, RestartState, SessionConfig, State, Stop,
};
use isocast_bgp::limits::{CONNECT_RETRY_MAX, STALE_TIME};
use isocast_bgp::types::{Family, FamilySet, PerFamily};
use isocast_bgp::wire::capability::{
    Capability, Forwarding, GracefulRestart, LongLived, LongLivedFamily,
};
use isocast_bgp::wire::encode;
use isocast_bgp::wire::header::{self, MessageType};
use isocast_bgp::wire::notification::{Notification, cease, code};
use isocast_bgp::wire::open::Open;

use crate::lone::announcements;
use crate::pair::{Pair, left_config, right_config};

const V4: &str = "203.0.113.10/32";
const V6: &str = "2001:db8:f::10/128";
const PRESERVED: RestartState = RestartState { restarting: true, forwarding_preserved: true };

fn helping() -> SessionConfig {
    SessionConfig { helper: Some(HelperConfig::default()), ..right_config() }
}

/// Both up, the left end's two routes held by the right end, which helps.
fn helped(left: SessionConfig, right: SessionConfig) -> Pair {
    let mut pair = Pair::started(left, right);
    assert_eq!(pair.states(), (State::Established, State::Established));
    pair.left.want(&[V4, V6]);
    pair.left.lone.speaker.initial_set_complete();
    pair.settle();
    assert_eq!(pair.right.announced(), [V4, V6]);
    pair.right.lone.changes.clear();
    pair
}

/// The left end's process dies: the kernel closes its connection, and it hears of nothing.
fn crash(pair: &mut Pair) {
    let (_, theirs) = pair.left_connection();
    let cut = std::mem::replace(&mut pair.cut, true);
    pair.input_right(Input::Closed { id: theirs });
    pair.cut = cut;
}

#[test]
fn routes_of_a_crashed_peer_stay_and_are_replaced_without_an_event() {
    let mut pair = helped(left_config(), helping());

    crash(&mut pair);
    assert_eq!(pair.right.lone.session().stale(), FamilySet::BOTH);
    pair.pass(Duration::from_secs(5));
    pair.replace_left(PRESERVED);
    pair.left.want(&[V4, V6]);
    pair.left.lone.speaker.initial_set_complete();
    pair.settle();

    assert_eq!(pair.right.end_of_ribs.len(), 4);
    assert!(pair.right.lone.session().stale().is_empty());
    assert_eq!(pair.right.lone.changes, [], "the same routes again are no change");
}

#[test]
fn what_a_returned_peer_does_not_send_again_goes_at_end_of_rib() {
    let mut pair = helped(left_config(), helping());

    crash(&mut pair);
    pair.replace_left(PRESERVED);
    pair.left.want(&[V6]);
    pair.settle();
    assert!(pair.right.lost().is_empty(), "not before End-of-RIB");
    pair.left.lone.speaker.initial_set_complete();
    pair.settle();

    assert_eq!(pair.right.lost(), [V4]);
}

#[test]
fn what_a_returned_peer_never_completes_goes_after_the_stale_time() {
    let mut pair = helped(left_config(), helping());
    crash(&mut pair);
    // A peer that says F, and never End-of-RIB: its timers are kept alive by hand.
    let restart = GracefulRestart {
        restarted: true,
        restart_time: Duration::from_secs(30),
        families: PerFamily {
            ipv4: Some(Forwarding::Preserved),
            ipv6: Some(Forwarding::Preserved),
        },
        ..GracefulRestart::default()
    };
    let id = pair.right_greeted(&[Capability::GracefulRestart(restart)]);
    let mut keepalive = Vec::new();
    encode::keepalive(&mut keepalive);

    let mut waited = Duration::ZERO;
    while pair.right.lost().is_empty() && waited < STALE_TIME * 2 {
        pair.now += Duration::from_secs(1);
        waited += Duration::from_secs(1);
        let mut actions = Vec::new();
        let received = Input::Received { id, bytes: &keepalive };
        pair.right.handle(pair.now, received, &mut actions);
        pair.right.handle(pair.now, Input::Tick, &mut actions);
        pair.right.lone.transmit(id, &mut Vec::new());
        pair.carry_out(false, actions);
    }

    assert_eq!(waited, STALE_TIME);
    assert_eq!(pair.right.lost(), [V4, V6]);
    assert_eq!(pair.right.lone.session().state(), State::Established);
}

#[test]
fn what_a_peer_did_not_go_on_forwarding_goes_when_it_returns() {
    for restart in [
        RestartState { restarting: true, forwarding_preserved: false },
        RestartState { restarting: false, forwarding_preserved: false },
    ] {
        let mut pair = helped(left_config(), helping());
        crash(&mut pair);
        assert!(pair.right.lost().is_empty());

        pair.replace_left(restart);

        assert_eq!(pair.right.lost(), [V4, V6]);
    }
}

#[test]
fn a_family_that_does_not_come_back_goes_and_the_other_stays() {
    let mut pair = helped(left_config(), helping());
    crash(&mut pair);
    let v6_only = FamilySet { ipv4: false, ipv6: true };

    pair.replace_left_with(SessionConfig { families: v6_only, ..left_config() }, PRESERVED);

    assert_eq!(pair.right.lost(), [V4]);
    assert_eq!(pair.right.lone.session().stale(), v6_only);
}

#[test]
fn a_peer_that_does_not_return_in_time_is_given_up() {
    let asked = Duration::from_secs(30);
    let least =
        HelperConfig { restart_time_max: Duration::from_secs(7), ..HelperConfig::default() };
    for (helper, wait) in [(HelperConfig::default(), asked), (least, least.restart_time_max)] {
        let right = SessionConfig { helper: Some(helper), ..right_config() };
        let mut pair = helped(left_config(), right);
        pair.cut = true;
        crash(&mut pair);

        pair.pass(wait - Duration::from_millis(1));
        assert!(pair.right.lost().is_empty());
        pair.pass(Duration::from_millis(1));

        assert_eq!(pair.right.lost(), [V4, V6]);
    }
}

#[test]
fn a_second_crash_before_end_of_rib_loses_what_was_not_sent_again() {
    let mut pair = helped(left_config(), helping());
    crash(&mut pair);
    pair.replace_left(PRESERVED);
    pair.left.want(&[V6]);
    pair.settle();

    crash(&mut pair);

    assert_eq!(pair.right.lost(), [V4], "RFC 4724 §4.2: stale twice is gone");
    assert_eq!(pair.right.lone.session().stale(), FamilySet::BOTH);
}

#[test]
fn nothing_is_kept_of_a_peer_that_says_farewell_or_falls_silent() {
    let stops = [Stop::Drain { text: String::new() }, Stop::Deconfigure];
    for stop in stops {
        let mut pair = helped(left_config(), helping());
        pair.input_left(Input::Stop(stop));
        assert_eq!(pair.right.lost(), [V4, V6]);
    }

    let mut silent = helped(left_config(), helping());
    silent.cut = true;
    silent.pass(Duration::from_secs(9));
    assert_eq!(silent.right.ends, [EndReason::HoldTimerExpired]);
    assert_eq!(silent.right.lost(), [V4, V6]);
}

#[test]
fn nothing_is_kept_without_the_wish_or_without_the_peers_offer() {
    let unwilling = SessionConfig { helper: None, ..right_config() };
    let silent = SessionConfig { restart_time: None, ..left_config() };
    for (left, right) in [(left_config(), unwilling), (silent, helping())] {
        let mut pair = helped(left, right);

        crash(&mut pair);

        assert_eq!(pair.right.lost(), [V4, V6]);
    }
}

#[test]
fn a_helper_that_never_restarts_itself_offers_no_family() {
    let right = SessionConfig { restart_time: None, ..helping() };
    let pair = helped(left_config(), right);

    let said = pair.left.lone.session().negotiated().unwrap().peer_restart.unwrap();

    assert_eq!(said, GracefulRestart::default());
}

#[test]
fn with_the_n_bit_on_both_sides_silence_and_notifications_are_restarts() {
    let n = HelperConfig { notification: true, ..HelperConfig::default() };
    let left = SessionConfig { helper: Some(n), ..left_config() };
    let right = SessionConfig { helper: Some(n), ..right_config() };

    let mut silent = helped(left.clone(), right.clone());
    silent.cut = true;
    silent.pass(Duration::from_secs(9));
    assert_eq!(silent.right.ends, [EndReason::HoldTimerExpired]);
    assert!(silent.right.lost().is_empty());

    let mut reset = helped(left, right.clone());
    let mut actions = Vec::new();
    let (id, _) = reset.left_connection();
    reset.left.lone.reset(reset.now, &mut actions);
    assert!(matches!(&actions[0], Action::Close { id: closed, .. } if *closed == id));
    reset.carry_out(true, actions);
    let told = Notification::new(code::CEASE, cease::CONFIGURATION);
    assert_eq!(reset.right.ends, [EndReason::PeerNotification(told)]);
    assert!(reset.right.lost().is_empty());

    // One side alone does not make it so.
    let mut alone = helped(left_config(), right);
    alone.cut = true;
    alone.pass(Duration::from_secs(9));
    assert_eq!(alone.right.lost(), [V4, V6]);
}

#[test]
fn a_hard_reset_drops_routes_whatever_was_agreed() {
    let n = HelperConfig { notification: true, ..HelperConfig::default() };
    let left = SessionConfig { helper: Some(n), ..left_config() };
    let right = SessionConfig { helper: Some(n), ..right_config() };
    let mut pair = helped(left, right);

    pair.input_left(Input::Stop(Stop::Drain { text: "moving".to_owned() }));

    let hard = Notification::cease(cease::SHUTDOWN, "moving").into_hard_reset();
    assert_eq!(pair.right.ends, [EndReason::PeerNotification(hard)]);
    assert_eq!(pair.right.lost(), [V4, V6]);
}

#[test]
fn a_hard_reset_of_the_next_attempt_drops_routes_too() {
    let mut pair = helped(left_config(), helping());
    crash(&mut pair);
    let mut hard = Vec::new();
    Notification::new(code::CEASE, cease::HARD_RESET).encode(&mut hard);

    let id = pair.right_accepts();
    pair.input_right(Input::Received { id, bytes: &hard });

    assert_eq!(pair.right.lost(), [V4, V6]);
}

#[test]
fn bfd_that_outlives_the_peers_speaker_leaves_nothing_to_wait_for() {
    for (control_plane_independent, lost) in [(true, vec![V4, V6]), (false, vec![])] {
        let down = || Input::BfdDown { control_plane_independent };
        let mut pair = helped(left_config(), helping());
        pair.cut = true;
        pair.input_right(down());
        assert_eq!(pair.right.lost(), lost);
        assert_eq!(pair.right.ends[0].code(), "BfdDown");

        let mut restarting = helped(left_config(), helping());
        crash(&mut restarting);
        restarting.input_right(down());
        assert_eq!(restarting.right.lost(), lost);
    }
}

#[test]
fn removing_the_helper_or_the_session_drops_what_is_stale() {
    let mut pair = helped(left_config(), helping());
    crash(&mut pair);
    let mut actions = Vec::new();
    let end = &mut pair.right;
    end.lone.reconfigure(pair.now, right_config(), &mut actions);
    pair.carry_out(false, actions);
    assert_eq!(pair.right.lost(), [V4, V6]);

    let mut stopped = helped(left_config(), helping());
    crash(&mut stopped);
    stopped.input_right(Input::Stop(Stop::Deconfigure));
    assert_eq!(stopped.right.lost(), [V4, V6]);
    assert!(stopped.right.lone.session().stale().is_empty());
}

/// The right end up with a peer that says it is long-lived, and two routes of it held: one as it
/// is, the other with NO_LLGR.
fn long_lived(restart_time: Duration, stale_time: Duration) -> Pair {
    let helper =
        HelperConfig { long_lived_max: Duration::from_secs(3600), ..HelperConfig::default() };
    let right = SessionConfig { helper: Some(helper), ..right_config() };
    let mut pair = Pair::new(left_config(), right);
    pair.input_right(Input::Start);
    let id = pair.right_greeted(&long_lived_capabilities(restart_time, stale_time));
    pair.announce_by_hand(id, &announcements(&[V4], &[]));
    pair.announce_by_hand(id, &announcements(&[V6], &["no-llgr"]));
    assert_eq!(pair.right.announced(), [V4, V6]);
    pair.input_right(Input::Closed { id });
    pair
}

fn long_lived_capabilities(restart_time: Duration, stale_time: Duration) -> [Capability; 2] {
    let forwarding = Forwarding::Preserved;
    let family = Some(LongLivedFamily { forwarding, stale_time });
    let restart = GracefulRestart {
        restart_time,
        families: PerFamily { ipv4: Some(forwarding), ipv6: Some(forwarding) },
        ..GracefulRestart::default()
    };
    [
        Capability::GracefulRestart(restart),
        Capability::LongLived(LongLived { families: PerFamily { ipv4: family, ipv6: family } }),
    ]
}

#[test]
fn long_lived_routes_outlive_the_restart_time_but_for_those_that_refuse() {
    let (restart, stale) = (Duration::from_secs(20), Duration::from_secs(600));
    let mut pair = long_lived(restart, stale);
    pair.cut = true;

    pair.pass(restart - Duration::from_millis(1));
    assert!(pair.right.lost().is_empty());
    pair.pass(Duration::from_millis(1));
    assert_eq!(pair.right.lost(), [V6]);
    pair.pass(stale);
    assert_eq!(pair.right.lost(), [V6, V4]);
}

#[test]
fn without_a_restart_time_routes_are_long_lived_at_once_and_no_longer_than_we_allow() {
    let mut pair = long_lived(Duration::ZERO, Duration::from_secs(100_000));
    pair.cut = true;
    assert_eq!(pair.right.lost(), [V6]);

    pair.pass(Duration::from_secs(3600));

    assert_eq!(pair.right.lost(), [V6, V4]);
}

#[test]
fn a_long_lived_peer_that_returns_keeps_what_it_sends_again() {
    let (restart, stale) = (Duration::from_secs(20), Duration::from_secs(600));
    let mut pair = long_lived(restart, stale);
    pair.cut = true;
    pair.pass(Duration::from_secs(60));
    pair.cut = false;

    let id = pair.right_greeted(&long_lived_capabilities(restart, stale));
    assert_eq!(pair.right.lost(), [V6], "F is set: what is left stays");
    let mut end_of_ribs = Vec::new();
    Family::ALL.iter().for_each(|family| encode::end_of_rib(*family, &mut end_of_ribs));
    pair.input_right(Input::Received { id, bytes: &end_of_ribs });

    assert_eq!(pair.right.lost(), [V6, V4]);
}

#[test]
fn an_old_speaker_and_a_malformed_capability_are_taken_as_no_offer() {
    let mut open = Vec::new();
    // Capability 71 of one octet, and a role of two.
    for (value, accepted) in [(vec![71, 1, 9], true), (vec![9, 2, 0, 0], false)] {
        let mut body = vec![4, 0xfd, 0xf2, 0, 9, 10, 0, 0, 1];
        let length = u8::try_from(value.len()).unwrap();
        body.extend([length + 2, 2, length]);
        body.extend(value);
        open.clear();
        header::encode(MessageType::Open, &mut open, |out| out.extend_from_slice(&body));
        assert_eq!(Open::decode(&body).is_ok(), accepted, "{body:?}");
    }
}

#[test]
fn a_returned_peer_is_waited_for_no_longer_than_back_off() {
    // A peer that dies and comes back is reached again well within its restart time.
    let mut pair = helped(left_config(), helping());
    crash(&mut pair);
    pair.replace_left(PRESERVED);
    pair.pass(CONNECT_RETRY_MAX);

    assert_eq!(pair.states(), (State::Established, State::Established));
}
