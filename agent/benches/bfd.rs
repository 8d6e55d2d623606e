//! BFD under stress: how often a session with a real router goes down while four busy loops run,
//! and how soon a peer that falls silent is noticed.
//!
//! Everything is read off the wire, on the router's side, with the kernel's timestamps: detection
//! is the time from the router's last packet to our first that says Down. Each line is one case:
//! the router, its interval (three may be missed), and who answers: the agent's thread or the XDP
//! program.
//!
//! `cargo bench -p isocast-agent --bench bfd -- [SECONDS OF STRESS [TRIES]] [frr | bird]`; needs root, FRR,
//! BIRD.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking, and prints"
)]

#[path = "bfd/lab.rs"]
mod lab;
#[path = "bfd/wire.rs"]
mod wire;

use std::{
    collections::BTreeSet,
    num::NonZeroU8,
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use isocast_agent::bfd::{Bfd, ForwardingPlane, Hops, SessionSpec, State};
use isocast_dataplane::{
    ClusterSecret, Config, Dataplane, Mode, Roles, Uplink, bfd::Reflector, detach,
};

use crate::{
    lab::{EDGE, Kind, LINK, Lab, ROUTER},
    wire::Wire,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    Agent,
    Program,
}

const KINDS: [Kind; 2] = [Kind::Bird, Kind::Frr];
const MULTIPLIER: u32 = 3;
const BUSY_LOOPS: usize = 4;

fn main() {
    let words = || std::env::args().skip(1);
    let mut numbers = words().filter_map(|word| word.parse::<u64>().ok());
    let stress = Duration::from_secs(numbers.next().unwrap_or(60));
    let tries = numbers.next().unwrap_or(20);
    println!(
        "router  interval  answers  stress  false downs  longest gap ms (router, ours)  \
         detection ms p50, max (allowed)"
    );
    let name = |kind: Kind| kind.name().to_lowercase();
    let asked: Vec<_> =
        KINDS.into_iter().filter(|kind| words().any(|word| word == name(*kind))).collect();
    for kind in if asked.is_empty() { KINDS.to_vec() } else { asked } {
        for interval_ms in [50, 10] {
            for answers in [Answers::Agent, Answers::Program] {
                case(kind, interval_ms, answers, stress, tries);
            }
        }
    }
}

fn case(kind: Kind, interval_ms: u32, answers: Answers, stress: Duration, tries: u64) {
    let lab = Lab::new(kind, interval_ms);
    let wire = Wire::open(&lab);
    let pins = Path::new("/sys/fs/bpf/isocast-test").join(&lab.edge);
    let (bfd, _dataplane) = lab.enter_edge(|| start(interval_ms, answers, &pins));
    wait_until("the session is settled", || is_settled(&bfd, answers));
    // The first seconds are negotiation.
    wire.clear();

    let mut loops: Vec<Child> = (0..BUSY_LOOPS)
        .map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
        .collect();
    wire.listen_for(stress);
    for busy in &mut loops {
        busy.kill().unwrap();
        busy.wait().unwrap();
    }
    let (downs, gaps) = (wire.downs(), wire.longest_gaps_ms());

    let mut detections = Vec::new();
    for _ in 0..tries {
        wait_until("the session is settled", || is_settled(&bfd, answers));
        wire.clear();
        // Not always at the same point of the interval.
        wire.listen_for(Duration::from_millis(u64::from(interval_ms) * 5));
        lab.silence_router();
        wait_until("we say Down", || {
            wire.listen_for(Duration::from_millis(1));
            wire.detection_ms().is_some()
        });
        detections.extend(wire.detection_ms());
        lab.unsilence_router();
    }
    detections.sort_by(f64::total_cmp);
    println!(
        "{:<7} {:>2} × {:>3} ms {:<8} {:>3} s {:>8} {:>18.1}, {:>5.1} {:>20.1}, {:>5.1} (≤ {})",
        kind.name(),
        MULTIPLIER,
        interval_ms,
        format!("{answers:?}").to_lowercase(),
        stress.as_secs(),
        downs,
        gaps.0,
        gaps.1,
        detections[detections.len() / 2],
        detections.last().unwrap(),
        if interval_ms == 50 { 155 } else { 33 },
    );
    drop(bfd);
    detach(&pins).unwrap();
}

fn start(interval_ms: u32, answers: Answers, pins: &Path) -> (Bfd, Option<Dataplane>) {
    let bfd = Bfd::start(1).unwrap();
    let mut dataplane = None;
    if answers == Answers::Program {
        let config = Config {
            pin_dir: pins.to_owned(),
            uplinks: vec![Uplink { interface: LINK.to_owned(), mode: Mode::Native, mtu: None }],
            tunnel_addresses: vec![EDGE.into()],
            cluster_secret: ClusterSecret::new([7; 32]),
            roles: Roles { edge: true, backend: false },
            pass_on_per_second: isocast_dataplane::PASS_ON_PER_SECOND,
        };
        dataplane = Some(Dataplane::open(config).expect("data plane (needs root, bpffs)").0);
        let interfaces = BTreeSet::from([nix::net::if_::if_nametoindex(LINK).unwrap()]);
        let reflector = Reflector::open(pins).unwrap();
        bfd.set_forwarding_plane(Some(ForwardingPlane { reflector, interfaces }));
    }
    bfd.set_sessions(vec![SessionSpec {
        uid: "router".into(),
        name: "router".into(),
        peer: ROUTER.into(),
        local: Some(EDGE.into()),
        hops: Hops::One,
        interval: Duration::from_millis(interval_ms.into()),
        multiplier: NonZeroU8::new(3).unwrap(),
    }]);
    (bfd, dataplane)
}

fn is_settled(bfd: &Bfd, answers: Answers) -> bool {
    bfd.statuses().borrow().values().all(|session| {
        session.state == State::Up && session.is_reflected == (answers == Answers::Program)
    }) && !bfd.statuses().borrow().is_empty()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
