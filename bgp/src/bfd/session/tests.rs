#![expect(clippy::arithmetic_side_effects, reason = "tests may overflow by panicking")]

use std::num::NonZeroU8;

use super::*;
use crate::bfd::{config::Interval, packet::tests::good};

const FAST: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

fn config() -> SessionConfig {
    SessionConfig::new(Interval::new(FAST).unwrap(), NonZeroU8::new(3).unwrap())
}

fn ours() -> Discriminator {
    Discriminator::new(7).unwrap()
}

/// One end, and a clock.
struct Bench {
    now: Instant,
    session: Session,
    actions: Vec<Action>,
}

impl Bench {
    fn new(config: SessionConfig) -> Self {
        let now = Instant::now();
        Self { now, session: Session::new(now, config, ours(), 1), actions: Vec::new() }
    }

    /// A session that is up, whose parameters the peer confirmed.
    fn up(config: SessionConfig) -> Self {
        let mut bench = Self::new(config);
        bench.receive(ControlPacket { state: State::Init, ..good() });
        bench.receive(ControlPacket { r#final: true, ..good() });
        assert_eq!(bench.session.state(), State::Up);
        assert_eq!(bench.session.poll, Poll::Idle);
        bench.actions.clear();
        bench
    }

    fn receive(&mut self, packet: ControlPacket) {
        self.session.receive(self.now, &packet, &mut self.actions).unwrap();
    }

    /// Lets time pass; what was sent meanwhile, and when.
    fn pass(&mut self, time: Duration) -> Vec<(Instant, ControlPacket)> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(deadline) = self.session.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.session.tick(self.now, &mut self.actions);
            sent.extend(self.sent().into_iter().map(|packet| (self.now, packet)));
        }
        self.now = end;
        sent
    }

    fn sent(&mut self) -> Vec<ControlPacket> {
        let transmit = |action| match action {
            Action::Transmit(packet) => Some(packet),
            Action::Changed(_) => None,
        };
        self.actions.drain(..).filter_map(transmit).collect()
    }

    fn configure(&mut self, config: SessionConfig) {
        self.session.configure(self.now, config, &mut self.actions);
    }
}

fn in_state(state: State) -> Session {
    let mut bench = Bench::new(config());
    let way: &[State] = match state {
        State::Init => &[State::Down],
        State::Up => &[State::Init],
        State::Down | State::AdminDown => &[],
    };
    for said in way {
        bench.receive(ControlPacket { state: *said, ..good() });
    }
    if state == State::AdminDown {
        bench.session.disable(bench.now, &mut Vec::new());
    }
    assert_eq!(bench.session.state(), state);
    bench.session
}

#[test]
fn states_follow_the_table_of_the_rfc() {
    use State::{AdminDown, Down, Init, Up};
    let table =
        [(Down, [Down, Init, Up, Down]), (Init, [Down, Init, Up, Up]), (Up, [Down, Down, Up, Up])];
    for (state, outcomes) in table {
        for (said, outcome) in [AdminDown, Down, Init, Up].into_iter().zip(outcomes) {
            let mut session = in_state(state);

            let packet = ControlPacket { state: said, ..good() };
            session.receive(Instant::now(), &packet, &mut Vec::new()).unwrap();

            assert_eq!(session.state(), outcome, "{state} hears {said}");
            if state == Up && outcome == Down {
                assert_eq!(session.diagnostic(), Diagnostic::NeighborSignaledDown);
            }
        }
    }
    for said in [AdminDown, Down, Init, Up] {
        let mut session = in_state(AdminDown);
        let packet = ControlPacket { state: said, ..good() };
        let result = session.receive(Instant::now(), &packet, &mut Vec::new());
        assert_eq!((result, session.state()), (Err(Discard::AdminDown), AdminDown));
    }
}

#[test]
fn silence_for_the_detection_time_takes_init_and_up_down_and_forgets_the_peer() {
    for state in [State::Init, State::Up] {
        let mut bench = Bench { session: in_state(state), ..Bench::new(config()) };
        bench.receive(ControlPacket { state, r#final: true, ..good() });
        let detection_time = 3 * FAST;

        bench.pass(detection_time - Duration::from_nanos(1));
        assert_ne!(bench.session.state(), State::Down, "from {state}");
        let last = bench.pass(Duration::from_nanos(1)).pop().unwrap();

        assert_eq!(bench.session.state(), State::Down, "from {state}");
        assert_eq!(last.1.diagnostic, Diagnostic::DetectionTimeExpired);
        assert_eq!(last.1.your_discriminator, None);
        assert_eq!(last.0, bench.now, "the peer is told at once");
    }
}

#[test]
fn before_it_is_up_a_session_sends_once_a_second_and_says_so() {
    let mut bench = Bench::new(config());

    let sent = bench.pass(100 * SECOND);

    for pair in sent.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(gap <= SECOND && gap >= SECOND.mul_f32(0.74), "{gap:?}");
    }
    assert!(sent.iter().all(|(_, packet)| packet.desired_min_tx == 1_000_000));
    assert!(sent.iter().all(|(_, packet)| packet.required_min_rx == 50_000));
}

#[test]
fn going_up_starts_a_poll_that_the_final_bit_ends() {
    let mut bench = Bench::new(config());
    bench.receive(ControlPacket { state: State::Init, ..good() });
    let first = bench.sent().pop().unwrap();
    assert!(first.poll && first.state == State::Up && first.desired_min_tx == 50_000);

    let polls = bench.pass(2 * FAST);
    assert!(polls.len() >= 2 && polls.iter().all(|(_, packet)| packet.poll));
    bench.receive(ControlPacket { r#final: true, ..good() });

    assert!(bench.pass(2 * FAST).iter().all(|(_, packet)| !packet.poll));
}

#[test]
fn a_slower_pace_waits_until_the_peer_confirmed_it() {
    let mut bench = Bench::up(config());
    let slow = Interval::new(4 * FAST).unwrap();

    bench.configure(SessionConfig { desired_min_tx: slow, ..config() });

    let first = bench.sent().pop().unwrap();
    assert!(first.poll && first.desired_min_tx == 200_000);
    assert_eq!(bench.session.transmit_interval(), FAST);
    bench.receive(ControlPacket { r#final: true, ..good() });
    assert_eq!(bench.session.transmit_interval(), 4 * FAST);
}

#[test]
fn a_shorter_detection_time_waits_until_the_peer_confirmed_it() {
    let mut bench = Bench::up(config());
    let fast = Interval::new(FAST / 5).unwrap();
    let eager = ControlPacket { desired_min_tx: 10_000, required_min_rx: 10_000, ..good() };
    bench.receive(eager);

    bench.configure(SessionConfig { required_min_rx: fast, ..config() });

    assert_eq!(bench.session.detection_time(), 3 * FAST);
    bench.receive(ControlPacket { r#final: true, ..eager });
    assert_eq!(bench.session.detection_time(), 3 * (FAST / 5));
}

#[test]
fn a_poll_is_answered_at_once_and_never_with_a_poll() {
    let mut bench = Bench::up(config());

    bench.receive(ControlPacket { poll: true, ..good() });

    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].r#final && !sent[0].poll);
}

#[test]
fn a_peer_that_wants_no_packets_gets_none_but_answers() {
    for deaf in
        [ControlPacket { required_min_rx: 0, ..good() }, ControlPacket { demand: true, ..good() }]
    {
        let mut bench = Bench::up(config());
        bench.receive(deaf);
        bench.sent();

        assert_eq!(bench.pass(2 * FAST), []);
        bench.receive(ControlPacket { poll: true, ..deaf });
        assert!(bench.sent()[0].r#final);
    }
}

#[test]
fn pace_is_the_slower_of_what_one_wants_and_the_other_allows() {
    let mut bench = Bench::up(config());
    bench.receive(ControlPacket { required_min_rx: 300_000, multiplier: NonZeroU8::MIN, ..good() });

    assert_eq!(bench.session.transmit_interval(), 6 * FAST);
    assert_eq!(bench.session.detection_time(), FAST);
}

#[test]
fn common_pace_follows_the_slower_end_both_ways() {
    let cases = [
        // The peer would send every 300 ms, and could take a packet every 50 ms.
        (300_000, 50_000, (300_000, 50_000)),
        (10_000, 300_000, (300_000, 300_000)),
        (10_000, 10_000, (50_000, 50_000)),
    ];
    for (desired_min_tx, required_min_rx, (tx, rx)) in cases {
        let mut bench = Bench::up(config().reflected());
        let peer = ControlPacket { desired_min_tx, required_min_rx, ..good() };
        bench.receive(peer);
        bench.pass(7 * FAST);
        let settled = ControlPacket { r#final: true, ..peer };
        bench.receive(ControlPacket { state: State::Init, ..settled });
        bench.receive(settled);

        let steady = bench.session.steady().unwrap();

        let answer = steady.answer;
        assert_eq!((answer.desired_min_tx, answer.required_min_rx), (tx, rx));
        // The peer is promised no more than it will get, and gets no more than it allowed.
        let sent_by_peer = u64::from(desired_min_tx.max(answer.required_min_rx));
        assert_eq!(steady.interval, Duration::from_micros(sent_by_peer));
        assert!(sent_by_peer <= u64::from(answer.desired_min_tx.max(required_min_rx)));
        assert!(sent_by_peer >= u64::from(required_min_rx));
    }
}

#[test]
fn only_a_session_at_peace_may_be_left_to_others() {
    let reflected = config().reflected();
    assert_eq!(Bench::new(reflected).session.steady(), None, "not up");
    assert_eq!(Bench::up(config()).session.steady(), None, "it has a pace of its own");
    for unfit in [
        ControlPacket { demand: true, ..good() },
        ControlPacket { required_min_rx: 0, ..good() },
        ControlPacket { state: State::Init, ..good() },
        ControlPacket { your_discriminator: None, state: State::Down, ..good() },
    ] {
        let mut bench = Bench::up(reflected);
        assert_eq!(bench.session.steady().unwrap().expected, good());
        bench.receive(unfit);
        assert_eq!(bench.session.steady(), None, "{unfit:?}");
    }
    let mut bench = Bench::up(reflected);
    bench
        .configure(SessionConfig { desired_min_tx: Interval::new(2 * FAST).unwrap(), ..reflected });
    assert_eq!(bench.session.steady(), None, "polling");
}

#[test]
fn a_poll_of_the_peer_does_not_end_what_is_left_to_others() {
    let mut bench = Bench::up(config().reflected());
    let before = bench.session.steady();

    bench.receive(ControlPacket { poll: true, ..good() });

    assert!(before.is_some());
    assert_eq!(bench.session.steady(), before);
}

#[test]
fn a_reflected_session_is_silent_and_lives_by_what_the_forwarding_plane_hears() {
    let mut bench = Bench::up(config().reflected());
    bench.session.set_reflected(true);

    for _ in 0..10 {
        assert_eq!(bench.pass(2 * FAST), []);
        bench.session.heard(bench.now);
    }
    assert_eq!(bench.session.state(), State::Up);
    let sent = bench.pass(3 * FAST);

    assert_eq!(bench.session.state(), State::Down);
    assert_eq!(sent.first().unwrap().1.state, State::Down);
}

#[test]
fn a_session_that_is_not_up_goes_on_sending_whoever_offers_to_answer() {
    let mut bench = Bench::new(config().reflected());

    bench.session.set_reflected(true);

    assert!(!bench.pass(2 * SECOND).is_empty());
}

#[test]
fn what_a_predecessor_left_goes_on_without_a_change_of_state() {
    let before = Bench::up(config().reflected());
    let Steady { expected, answer, .. } = before.session.steady().unwrap();
    let adopted = Adopted { expected, answer, heard: before.now };

    let now = before.now + 2 * FAST;
    let session = Session::adopt(now, config().reflected(), &adopted, 2).unwrap();

    assert_eq!(session.state(), State::Up);
    assert_eq!(session.steady(), before.session.steady());
    assert_eq!(session.discriminator(), ours());
}

#[test]
fn a_change_of_configuration_while_nobody_lived_is_polled_for() {
    let before = Bench::up(config().reflected());
    let Steady { expected, answer, .. } = before.session.steady().unwrap();
    let adopted = Adopted { expected, answer, heard: before.now };
    let slower =
        SessionConfig { desired_min_tx: Interval::new(2 * FAST).unwrap(), ..config().reflected() };

    let session = Session::adopt(before.now, slower, &adopted, 2).unwrap();
    let mut bench = Bench { now: before.now, session, actions: Vec::new() };

    assert_eq!(bench.session.state(), State::Up);
    assert!(bench.pass(Duration::ZERO)[0].1.poll);
}

#[test]
fn a_silent_or_contradictory_inheritance_is_refused() {
    let before = Bench::up(config().reflected());
    let Steady { expected, answer, .. } = before.session.steady().unwrap();
    let adopted = Adopted { expected, answer, heard: before.now };
    let adopt = |now, adopted| Session::adopt(now, config(), &adopted, 2).is_some();

    assert!(adopt(before.now, adopted));
    assert!(!adopt(before.now + 3 * FAST, adopted), "the peer is gone");
    let down = ControlPacket { state: State::Down, ..answer };
    assert!(!adopt(before.now, Adopted { answer: down, ..adopted }));
    let stranger = ControlPacket { your_discriminator: Discriminator::new(8), ..expected };
    assert!(!adopt(before.now, Adopted { expected: stranger, ..adopted }));
    let stranger = ControlPacket { your_discriminator: Discriminator::new(8), ..answer };
    assert!(!adopt(before.now, Adopted { answer: stranger, ..adopted }));
}

#[test]
fn a_peer_that_goes_on_purpose_is_told_from_one_that_is_lost() {
    let mut bench = Bench::up(config());

    bench.receive(ControlPacket { state: State::AdminDown, ..good() });

    let changed = bench.actions.iter().find_map(|action| match action {
        Action::Changed(change) => Some(*change),
        Action::Transmit(_) => None,
    });
    let change = changed.unwrap();
    assert_eq!((change.from, change.to), (State::Up, State::Down));
    assert!(!change.is_loss());
}
