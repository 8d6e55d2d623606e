//! Whom a driver is told to serve, and when to come back, against what every single peer says.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use isocast_bgp::fsm::{HelperConfig, Stop};
use isocast_bgp::guard::ExportGuard;
use isocast_bgp::policy::Policy;
use isocast_bgp::speaker::{PeerId, Speaker};
use isocast_bgp::types::Asn;
use isocast_bgp::wire::as_path::AsPath;
use isocast_bgp::wire::attribute::PathAttributes;
use isocast_bgp::wire::next_hop::NextHop;
use proptest::prelude::*;

use crate::net::{announcements, net};
use crate::script::{Persona, Script, address, config, id};

const PEERS: usize = 4;
const PREFIXES: [&str; 4] =
    ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.1/32", "2001:db8:1::/48"];

#[derive(Clone, Debug)]
enum Step {
    Announce { peer: usize, prefix: usize },
    Withdraw { peer: usize, prefix: usize },
    Own(usize),
    Guard(bool),
    Lose(usize),
    Connect(usize),
    Import { peer: usize, open: bool },
    Export { peer: usize, open: bool },
    Limit { peer: usize, max: Option<u32> },
    Garbage(usize),
    Hear(usize),
    Remove(usize),
    Pass(u16),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS;
    let route = (0..PEERS, 0..PREFIXES.len());
    prop_oneof![
        6 => route.clone().prop_map(|(peer, prefix)| Step::Announce { peer, prefix }),
        3 => route.prop_map(|(peer, prefix)| Step::Withdraw { peer, prefix }),
        2 => (0..=PREFIXES.len()).prop_map(Step::Own),
        1 => any::<bool>().prop_map(Step::Guard),
        2 => peer.clone().prop_map(Step::Lose),
        3 => peer.clone().prop_map(Step::Connect),
        1 => (0..PEERS, any::<bool>()).prop_map(|(peer, open)| Step::Import { peer, open }),
        1 => (0..PEERS, any::<bool>()).prop_map(|(peer, open)| Step::Export { peer, open }),
        1 => (0..PEERS, proptest::option::of(0..3_u32))
            .prop_map(|(peer, max)| Step::Limit { peer, max }),
        1 => peer.clone().prop_map(Step::Garbage),
        4 => peer.clone().prop_map(Step::Hear),
        1 => peer.prop_map(Step::Remove),
        2 => any::<u16>().prop_map(Step::Pass),
        2 => Just(Step::Settle),
    ]
}

fn take(script: &mut Script, step: Step) {
    let speaker_knows = |script: &Script, peer| script.speaker.peer(id(peer)).is_some();
    match step {
        Step::Announce { peer, prefix } => {
            let prefix = net(PREFIXES[prefix]);
            let hop = match prefix.addr() {
                std::net::IpAddr::V4(_) => address(peer).into(),
                std::net::IpAddr::V6(_) => "2001:db8::7".parse().unwrap(),
            };
            let path = AsPath(vec![script.peers[peer].persona.asn]);
            let attributes = PathAttributes { as_path: path, ..PathAttributes::default() };
            script.announce(peer, &[prefix], NextHop::new(hop).unwrap(), &attributes);
        }
        Step::Withdraw { peer, prefix } => script.withdraw(peer, &[net(PREFIXES[prefix])]),
        Step::Own(count) => {
            script.speaker.set_local(announcements(PREFIXES[..count].iter().copied()));
        }
        Step::Guard(everything) => {
            let prefixes = if everything { vec![net("0.0.0.0/0"), net("::/0")] } else { vec![] };
            script.speaker.set_guard(ExportGuard::new(prefixes).into());
        }
        Step::Lose(peer) => script.lose(peer),
        Step::Connect(peer) => {
            if !script.is_up(peer) {
                if !speaker_knows(script, peer) {
                    script.configure(peer, settings(peer));
                }
                script.start(peer);
                script.connect(peer);
            }
        }
        Step::Import { peer, open } if speaker_knows(script, peer) => {
            let mut config = settings(peer);
            config.import.policy = if open { Policy::accept_all() } else { Policy::reject_all() };
            script.configure(peer, config);
        }
        Step::Export { peer, open } if speaker_knows(script, peer) => {
            let mut config = settings(peer);
            config.export.policy = if open { Policy::accept_all() } else { Policy::reject_all() };
            script.configure(peer, config);
        }
        Step::Limit { peer, max } if speaker_knows(script, peer) => {
            let mut config = settings(peer);
            config.export.prefixes_max = max;
            script.configure(peer, config);
        }
        Step::Import { .. } | Step::Export { .. } | Step::Limit { .. } => {}
        Step::Garbage(peer) => script.say(peer, &[0; 19]),
        Step::Hear(peer) => {
            script.hear(peer);
        }
        Step::Remove(peer) => {
            let mut actions = Vec::new();
            script.speaker.remove_peer(script.now, id(peer), Stop::Deconfigure, &mut actions);
            script.lose(peer);
        }
        Step::Pass(milliseconds) => {
            script.now += Duration::from_millis(milliseconds.into());
            script.work();
        }
        Step::Settle => script.settle(),
    }
}

fn settings(peer: usize) -> isocast_bgp::speaker::PeerConfig {
    let mut config = config(peer, Asn(65_001 + u32::try_from(peer).unwrap()));
    config.session.helper = Some(HelperConfig::default());
    config
}

/// What the speaker says, and what its peers say one by one.
fn answers(speaker: &Speaker) -> [(BTreeSet<PeerId>, Option<Instant>); 2] {
    let waiting = speaker.peers().filter(|peer| {
        let counts = &peer.counts;
        counts.ipv4.waiting + counts.ipv6.waiting > 0
    });
    let waiting = waiting.map(|peer| peer.id).collect();
    let deadline = speaker.peers().filter_map(|peer| peer.session.next_deadline()).min();
    [(speaker.has_output().collect(), speaker.next_deadline()), (waiting, deadline)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_speakers_answers_are_those_of_its_peers(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let personas: Vec<_> =
            (0..PEERS).map(|peer| Persona::new(65_001 + u32::try_from(peer).unwrap())).collect();
        let mut script = Script::with(&personas, (0..PEERS).map(settings).collect());
        for step in steps {
            take(&mut script, step);

            let [(told, deadline), (waiting, slow)] = answers(&script.speaker);
            prop_assert_eq!(told, waiting);
            // Work of the table goes before every session.
            prop_assert!(deadline == slow || deadline.is_some_and(|at| at <= script.now));
            let mut slices = 0;
            while script.work() {
                slices += 1;
                prop_assert!(slices < 100, "a deadline that has passed is asked for again");
            }
            let [fast, slow] = answers(&script.speaker);
            prop_assert_eq!(fast, slow);
        }
    }
}
