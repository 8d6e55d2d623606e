//! Sessions against each other.

use std::time::Duration;

use isocast_bgp::fsm::{
    Action, ConfigError, ConnectMode, ConnectionId, EndReason, Input, LocalEndpoint, OpenRefusal,
    RestartState, SessionConfig, State, Stop,
};
use isocast_bgp::limits::{
    CONNECT_RETRY_MAX, CONNECT_RETRY_MIN, INITIAL_SET_WAIT, PREFIX_LIMIT_WAIT, STABLE_AFTER,
};
use isocast_bgp::speaker::{ImportConfig, Withheld};
use isocast_bgp::types::{Asn, Family, FamilySet};
use isocast_bgp::wire::encode;
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::notification::{Notification, cease, code};
use isocast_bgp::wire::open::Open;
use isocast_bgp::wire::refresh::{Refresh, RouteRefresh};

use crate::lone::guard;
use crate::pair::{End, Pair, config, left_config, right_config};

const V4: &str = "203.0.113.10/32";
const V6: &str = "2001:db8:f::10/128";

#[test]
fn announcements_arrive_and_withdrawals_follow() {
    let mut pair = Pair::established();

    pair.left.want(&[V4, V6]);
    pair.settle();
    assert_eq!(pair.right.announced(), [V4, V6]);

    pair.left.want(&[V6]);
    pair.settle();
    assert_eq!(pair.right.withdrawn(), [V4]);
}

#[test]
fn an_unchanged_set_sends_nothing() {
    let mut pair = Pair::established();
    pair.left.want(&[V4, V6]);
    pair.settle();
    let sent = pair.left.bytes_sent;

    pair.left.want(&[V6, V4]);
    pair.settle();

    assert_eq!(pair.left.bytes_sent, sent);
}

#[test]
fn what_the_guard_refuses_is_never_announced_and_is_withdrawn_when_the_guard_narrows() {
    let mut pair = Pair::established();
    pair.left.want(&[V4, V6]);
    pair.settle();

    pair.left.lone.speaker.set_guard(guard(&["2001:db8:f::/48"]));
    pair.settle();

    assert_eq!(pair.right.withdrawn(), [V4]);
    assert_eq!(pair.left.lone.withheld(V4), Some(Withheld::NotAnnounceable));
}

#[test]
fn import_is_denied_unless_allowed() {
    let mut pair = Pair::established();

    pair.right.want(&[V4]);
    pair.settle();

    assert!(pair.left.lone.changes.is_empty());
}

#[test]
fn a_family_the_peer_lacks_is_withheld() {
    let right = SessionConfig { families: FamilySet { ipv4: true, ipv6: false }, ..right_config() };
    let mut pair = Pair::started(left_config(), right);

    pair.left.want(&[V4, V6]);
    pair.settle();

    assert_eq!(pair.right.announced(), [V4]);
    assert_eq!(pair.left.lone.withheld(V6), Some(Withheld::FamilyNotNegotiated));
}

#[test]
fn silence_ends_both_sides_at_the_hold_time_and_they_come_back() {
    let mut pair = Pair::established();
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.states(), (State::Established, State::Established));

    pair.cut = true;
    pair.pass(Duration::from_secs(9));
    assert_eq!(pair.left.ends, [EndReason::HoldTimerExpired]);
    assert_eq!(pair.right.ends, [EndReason::HoldTimerExpired]);

    pair.cut = false;
    pair.pass(CONNECT_RETRY_MAX * 2);
    assert_eq!(pair.states(), (State::Established, State::Established));
}

#[test]
fn the_smaller_hold_time_counts_and_three_seconds_is_the_least() {
    let left = SessionConfig { hold_time: Duration::from_secs(3), ..left_config() };
    let pair = Pair::started(left.clone(), right_config());
    let agreed = pair.right.lone.session().negotiated().unwrap().hold_time;
    assert_eq!(agreed, Duration::from_secs(3));

    let too_short = SessionConfig { hold_time: Duration::from_secs(2), ..left };
    assert_eq!(too_short.validate(), Err(ConfigError::HoldTime(Duration::from_secs(2))));
}

#[test]
fn a_hold_time_of_zero_turns_timers_off() {
    let left = SessionConfig { hold_time: Duration::ZERO, ..left_config() };
    let mut pair = Pair::started(left, right_config());
    let sent = pair.left.bytes_sent;

    pair.pass(Duration::from_secs(3600));

    assert_eq!(pair.states(), (State::Established, State::Established));
    // Two End-of-RIB markers and nothing else.
    assert_eq!(pair.left.bytes_sent - sent, 23 + 29);
}

#[test]
fn a_peer_that_reads_nothing_is_given_up_though_it_speaks() {
    // The left end hears keepalives but is never asked to transmit.
    let (mut pair, id) = driven_by_hand();
    let mut actions = Vec::new();
    let mut keepalive = Vec::new();
    encode::keepalive(&mut keepalive);
    for _ in 0..600 {
        pair.now += Duration::from_secs(1);
        let received = Input::Received { id, bytes: &keepalive };
        pair.left.handle(pair.now, received, &mut actions);
        pair.left.handle(pair.now, Input::Tick, &mut actions);
        if actions.iter().any(|action| matches!(action, Action::Ended { .. })) {
            break;
        }
    }

    let ended = actions.iter().find_map(|action| match action {
        Action::Ended { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(ended, Some(&EndReason::SendHoldTimerExpired));
}

/// A left end that is established with nobody: the test says what it hears.
fn driven_by_hand() -> (Pair, ConnectionId) {
    let mut pair = Pair::new(left_config(), right_config());
    let mut actions = Vec::new();
    pair.left.handle(pair.now, Input::Start, &mut actions);
    let Some(Action::Connect(id)) = actions.pop() else { panic!("no connect") };
    let local = LocalEndpoint { address: "10.0.0.1".parse().unwrap(), interface_ipv6: None };
    pair.left.handle(pair.now, Input::Connected { id, local }, &mut actions);
    let mut hello = Vec::new();
    right_open().encode(&mut hello);
    encode::keepalive(&mut hello);
    pair.left.handle(pair.now, Input::Received { id, bytes: &hello }, &mut actions);
    assert_eq!(pair.left.lone.session().state(), State::Established);
    (pair, id)
}

/// The right end's OPEN, without capabilities.
fn right_open() -> Open {
    Open {
        asn: Asn(65_020),
        hold_time_s: 9,
        router_id: "10.0.0.2".parse().unwrap(),
        capabilities: Vec::new(),
    }
}

#[test]
fn the_wrong_as_and_families_in_common_with_nobody_are_refused() {
    let stranger = config(65_099, 65_010, 2);
    let stranger = SessionConfig { connect: ConnectMode::Passive, ..stranger };
    let pair = Pair::started(left_config(), stranger);
    assert_eq!(pair.left.ends, [EndReason::OpenRefused(OpenRefusal::PeerAs(65_099))]);
    let told = EndReason::PeerNotification(Notification::new(2, 2));
    assert!(pair.right.ends.contains(&told), "{:?}", pair.right.ends);

    let v4 = SessionConfig { families: FamilySet { ipv4: true, ipv6: false }, ..left_config() };
    let v6 = SessionConfig { families: FamilySet { ipv4: false, ipv6: true }, ..right_config() };
    let pair = Pair::started(v4, v6);
    assert!(pair.left.ends.contains(&EndReason::OpenRefused(OpenRefusal::Families {
        wanted: FamilySet { ipv4: true, ipv6: false }
    })));
}

#[test]
fn two_that_connect_at_once_end_up_with_one_session() {
    for (left_id, right_id) in [(1, 2), (2, 1)] {
        let both = |mut config: SessionConfig| {
            config.connect = ConnectMode::Both;
            config
        };
        let left = both(config(65_010, 65_020, left_id));
        let right = both(config(65_020, 65_010, right_id));
        let mut pair = Pair::new(left, right);
        // Both attempts are under way before either end hears of the other's.
        let (mut from_left, mut from_right) = (Vec::new(), Vec::new());
        pair.left.handle(pair.now, Input::Start, &mut from_left);
        pair.right.handle(pair.now, Input::Start, &mut from_right);
        pair.carry_out(true, from_left);
        pair.carry_out(false, from_right);
        pair.settle();

        assert_eq!(pair.states(), (State::Established, State::Established), "{left_id}");
        pair.pass(Duration::from_secs(60));
        assert_eq!(pair.states(), (State::Established, State::Established), "{left_id}");
        let ends = pair.left.ends.len() + pair.right.ends.len();
        assert_eq!(ends, 2, "{:?} {:?}", pair.left.ends, pair.right.ends);
    }
}

#[test]
fn end_of_rib_waits_for_the_first_complete_set_but_not_for_ever() {
    let mut pair = Pair::established();
    pair.left.want(&[V4]);
    pair.settle();
    assert_eq!(pair.right.announced(), [V4]);
    assert!(pair.right.end_of_ribs.is_empty());

    pair.left.lone.speaker.initial_set_complete();
    pair.settle();
    assert_eq!(pair.right.end_of_ribs, [Family::Ipv4Unicast, Family::Ipv6Unicast]);

    let mut forgotten = Pair::established();
    forgotten.pass(INITIAL_SET_WAIT);
    assert_eq!(forgotten.right.end_of_ribs.len(), 2);
}

#[test]
fn restart_bits_tell_the_truth_until_end_of_rib() {
    let mut pair = Pair::new(left_config(), right_config());
    let restart = RestartState { restarting: true, forwarding_preserved: true };
    pair.left = End::new(pair.now, left_config(), restart, ImportConfig::default());
    pair.input_right(Input::Start);
    pair.input_left(Input::Start);
    let said = |pair: &Pair| pair.right.lone.session().negotiated().unwrap().peer_restart.unwrap();
    assert!(said(&pair).restarted && !said(&pair).notification);
    assert_eq!(said(&pair).restart_time, Duration::from_secs(30));
    let forwarding = said(&pair).families;
    assert!(forwarding.ipv4.is_some() && forwarding.ipv4 == forwarding.ipv6);

    pair.left.lone.speaker.initial_set_complete();
    pair.settle();
    let mut actions = Vec::new();
    pair.left.lone.reset(pair.now, &mut actions);
    pair.carry_out(true, actions);
    pair.pass(CONNECT_RETRY_MAX * 2);

    assert!(!said(&pair).restarted);
}

#[test]
fn how_a_session_stops_decides_what_the_peer_is_told() {
    let text = "maintenance".to_owned();
    let cease =
        |subcode, text: &str| EndReason::PeerNotification(Notification::cease(subcode, text));
    let cases = [
        (Stop::Drain { text }, cease(cease::SHUTDOWN, "maintenance")),
        (Stop::Deconfigure, cease(cease::DECONFIGURED, "")),
        (Stop::Preserve, EndReason::ConnectionLost),
    ];
    for (stop, expected) in cases {
        let mut pair = Pair::established();

        pair.input_left(Input::Stop(stop));

        assert_eq!(pair.right.ends, [expected]);
        assert_eq!(pair.states(), (State::Idle, State::Active));
        pair.pass(Duration::from_secs(60));
        assert_eq!(pair.left.lone.session().state(), State::Idle);
    }
}

#[test]
fn a_lost_session_takes_its_routes_along_which_is_no_withdrawal() {
    let mut pair = Pair::established();
    pair.left.want(&[V4]);
    pair.settle();

    pair.input_left(Input::Stop(Stop::Preserve));

    assert_eq!(pair.right.lost(), [V4]);
    assert!(pair.right.withdrawn().is_empty());
}

#[test]
fn the_prefix_limit_is_allowed_and_one_more_ends_the_session() {
    let mut pair = Pair::established();
    pair.right.lone.set_prefixes_max(pair.now, 1);
    pair.left.want(&[V4, V6]);
    pair.settle();
    assert_eq!(pair.states(), (State::Established, State::Established));

    pair.left.want(&[V4, V6, "203.0.113.11/32"]);
    pair.settle();

    // RFC 4486 §4: IPv4 unicast, one prefix.
    let data = vec![0, 1, 1, 0, 0, 0, 1];
    let limit = Notification { data, ..Notification::new(code::CEASE, cease::PREFIX_LIMIT) };
    let told = EndReason::PeerNotification(limit);
    assert_eq!(pair.left.ends, [told]);
}

#[test]
fn a_route_refresh_gets_its_family_again_and_no_other() {
    let mut pair = Pair::established();
    pair.left.lone.speaker.initial_set_complete();
    pair.left.want(&[V4, V6]);
    pair.settle();
    let sent = pair.left.bytes_sent;
    let mut request = Vec::new();
    RouteRefresh::new(Refresh::Request, Family::Ipv4Unicast).encode(&mut request);

    let (id, _) = pair.left_connection();
    pair.input_left(Input::Received { id, bytes: &request });

    let again = pair.left.bytes_sent - sent;
    // BoRR, the route, EoRR.
    assert!((23 * 3..23 * 2 + 80).contains(&again), "{again} bytes");
    assert_eq!(pair.right.announced(), [V4, V6], "the same route again is no change");
}

#[test]
fn messages_out_of_place_are_finite_state_machine_errors() {
    let mut open = Vec::new();
    right_open().encode(&mut open);
    let mut pair = Pair::established();
    let (id, _) = pair.left_connection();

    pair.input_left(Input::Received { id, bytes: &open });

    let told = EndReason::PeerNotification(Notification::with_data(code::FSM, 3, &[1]));
    assert_eq!(pair.right.ends, [told]);
}

#[test]
fn a_restarted_peer_replaces_its_old_session_and_a_late_duplicate_does_not() {
    for (restarting, survivor_ends) in [(true, 1), (false, 0)] {
        let mut pair = Pair::established();
        let restart = RestartState { restarting, forwarding_preserved: true };
        pair.replace_left(restart);

        let restarted =
            pair.right.ends.iter().filter(|end| **end == EndReason::PeerRestarted).count();
        assert_eq!(restarted, survivor_ends);
        let expected = if restarting { State::Established } else { State::Active };
        assert_eq!(pair.left.lone.session().state(), expected);
    }
}

#[test]
fn a_live_change_keeps_the_session_and_another_as_does_not() {
    let mut pair = Pair::established();
    let mut actions = Vec::new();
    let live = SessionConfig {
        hold_time: Duration::from_secs(30),
        restart_time: None,
        connect: ConnectMode::Both,
        ..left_config()
    };
    pair.left.lone.reconfigure(pair.now, live, &mut actions);
    assert!(actions.is_empty(), "{actions:?}");

    let other = SessionConfig { local_asn: Asn(65_011), ..left_config() };
    pair.left.lone.reconfigure(pair.now, other, &mut actions);
    pair.carry_out(true, actions);
    let told = EndReason::PeerNotification(Notification::new(code::CEASE, cease::CONFIGURATION));
    assert_eq!(pair.right.ends, [told]);
}

#[test]
fn a_changed_next_hop_is_announced_without_a_new_session() {
    let mut pair = Pair::established();
    pair.left.want(&[V4]);
    pair.settle();
    let mut actions = Vec::new();
    let mut moved = left_config();
    moved.next_hops.ipv4 = NextHop::new("192.0.2.7".parse().unwrap());

    pair.left.lone.reconfigure(pair.now, moved, &mut actions);
    pair.settle();

    assert_eq!(pair.right.announced(), [V4, V4]);
    assert!(pair.right.ends.is_empty());
}

/// Moments at which the left end tried to connect within `time`, every attempt ending as `outcome`
/// says.
fn attempts(mut outcome: impl FnMut(&mut Pair, ConnectionId), time: Duration) -> Vec<Duration> {
    let mut pair = Pair::new(left_config(), right_config());
    let (started, mut tried) = (pair.now, Vec::new());
    let mut actions = Vec::new();
    pair.left.handle(pair.now, Input::Start, &mut actions);
    while pair.now < started + time {
        for action in std::mem::take(&mut actions) {
            if let Action::Connect(id) = action {
                tried.push(pair.now - started);
                outcome(&mut pair, id);
            }
        }
        pair.now = pair.left.lone.session().next_deadline().unwrap().max(pair.now);
        pair.left.handle(pair.now, Input::Tick, &mut actions);
    }
    tried
}

fn gaps(moments: &[Duration]) -> Vec<Duration> {
    moments.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn attempts_that_fail_are_repeated_ever_later_up_to_the_longest_wait() {
    let refused = |pair: &mut Pair, id| {
        let error = "refused".to_owned();
        pair.left.handle(pair.now, Input::ConnectFailed { id, error }, &mut Vec::new());
    };

    let gaps = gaps(&attempts(refused, Duration::from_secs(120)));

    assert!(gaps[0] <= CONNECT_RETRY_MIN, "{gaps:?}");
    assert!(gaps.iter().take(4).is_sorted(), "{gaps:?}");
    let last = *gaps.last().unwrap();
    assert!(last <= CONNECT_RETRY_MAX && last >= CONNECT_RETRY_MAX.mul_f32(0.74), "{gaps:?}");
}

#[test]
fn sessions_that_flap_back_off_and_a_stable_one_starts_over() {
    for (lasting, expected) in [
        (STABLE_AFTER - Duration::from_secs(1), CONNECT_RETRY_MAX),
        (STABLE_AFTER, CONNECT_RETRY_MIN),
    ] {
        let mut waits = Vec::new();
        let flap = |pair: &mut Pair, id| {
            let local = LocalEndpoint { address: [10, 0, 0, 1].into(), interface_ipv6: None };
            pair.left.handle(pair.now, Input::Connected { id, local }, &mut Vec::new());
            let mut hello = Vec::new();
            Open { hold_time_s: 0, ..right_open() }.encode(&mut hello);
            encode::keepalive(&mut hello);
            let hello = Input::Received { id, bytes: &hello };
            pair.left.handle(pair.now, hello, &mut Vec::new());
            assert_eq!(pair.left.lone.session().state(), State::Established);
            pair.now += lasting;
            pair.left.handle(pair.now, Input::Closed { id }, &mut Vec::new());
            waits.push(pair.left.lone.session().next_deadline().unwrap() - pair.now);
        };

        attempts(flap, Duration::from_secs(300));

        let last = *waits.last().unwrap();
        assert!(last <= expected && last >= expected.mul_f32(0.74), "{waits:?}");
    }
}

#[test]
fn a_peer_that_sent_too_much_waits_whoever_connects() {
    let mut pair = Pair::established();
    pair.right.lone.set_prefixes_max(pair.now, 1);
    pair.left.want(&[V4, "203.0.113.11/32"]);
    pair.settle();
    assert_eq!(pair.right.ends[0].code(), "PrefixLimitReached");

    pair.pass(PREFIX_LIMIT_WAIT - Duration::from_secs(1));
    assert_eq!(pair.states(), (State::Active, State::Active));
    pair.left.want(&[V4]);
    pair.pass(CONNECT_RETRY_MAX * 2);

    assert_eq!(pair.states(), (State::Established, State::Established));
}

#[test]
fn bfd_that_comes_back_ends_the_wait() {
    let mut pair = Pair::established();
    pair.cut = true;
    pair.input_left(Input::BfdDown { control_plane_independent: true });
    pair.input_right(Input::BfdDown { control_plane_independent: true });
    assert_eq!(pair.left.ends[0].code(), "BfdDown");
    pair.cut = false;

    pair.input_left(Input::BfdUp);

    assert_eq!(pair.states(), (State::Established, State::Established));
}
