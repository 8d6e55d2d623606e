//! Whatever happens in whatever order: every peer holds what a model with maps and no cleverness says
//! it must.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use isocast_bgp::guard::ExportGuard;
use isocast_bgp::policy::{Match, Policy, PrefixRange, Set, Term, Then};
use isocast_bgp::speaker::{
    Announcement, Announcements, Cursor, ImportChange, LearntRoutes, PathView, PeerConfig, PeerId,
    Verdict, Withheld,
};
use isocast_bgp::types::{Asn, Family, PeerKind};
use isocast_bgp::wire::as_path::{AsPath, AsnWidth};
use isocast_bgp::wire::attribute::{Origin, PathAttributes};
use isocast_bgp::wire::community::{Communities, Community};
use isocast_bgp::wire::next_hop::NextHop;
use proptest::prelude::*;

use crate::net::net;
use crate::script::{Held, LOCAL_ASN, Persona, Script, address, config};

const PEERS: usize = 5;

/// Two of one AS (so that their MEDs compare), one old speaker, one of another AS, one of ours.
fn personas() -> [Persona; PEERS] {
    [
        Persona::new(65_001),
        Persona::new(65_001),
        Persona { asn: Asn(65_002), width: AsnWidth::Two },
        Persona::new(4_200_000_001),
        Persona::new(LOCAL_ASN.0),
    ]
}

/// Few enough that peers meet, host routes and both families among them.
const PREFIXES: [&str; 8] = [
    "10.0.0.0/8",
    "10.128.0.0/9",
    "192.0.2.0/24",
    "192.0.2.1/32",
    "203.0.113.9/32",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8::1/128",
];

#[derive(Clone, Debug)]
enum Step {
    Announce {
        peer: usize,
        prefixes: Vec<usize>,
        attributes: Box<PathAttributes>,
    },
    Withdraw {
        peer: usize,
        prefixes: Vec<usize>,
    },
    /// The session breaks.
    Lose {
        peer: usize,
    },
    /// And is there again.
    Connect {
        peer: usize,
    },
    Import {
        peer: usize,
        rule: Rule,
    },
    Export {
        peer: usize,
        rule: Rule,
        learnt: bool,
    },
    /// Our own announcements, with communities or without.
    Own {
        prefixes: Vec<(usize, bool)>,
    },
    /// What the guard lets pass.
    Guard {
        everything: bool,
    },
    /// One turn of one peer's output, in the middle of it all.
    Hear {
        peer: usize,
    },
    /// One slice of work.
    Work,
}

/// A policy, in the words of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    All,
    Nothing,
    /// Not what lies in 10/8.
    NotTen,
    /// What carries 65000:1 is preferred, and loses it.
    PreferMarked,
}

#[derive(Clone, Debug)]
struct Model {
    guard_everything: bool,
    own: BTreeMap<IpNet, bool>,
    /// What peers said, kept while their session lasts and something may pass.
    said: BTreeMap<(usize, IpNet), PathAttributes>,
    import: [Rule; PEERS],
    export: [(Rule, bool); PEERS],
    up: [bool; PEERS],
}

/// A candidate: who, and the attributes as used.
type Candidate = (Option<usize>, PathAttributes);

fn marked() -> Community {
    Community(65_000 << 16 | 1)
}

impl Rule {
    fn policy(self) -> Policy {
        let accept = Term { name: "rest".into(), then: Then::Accept, ..Term::default() };
        match self {
            Self::All => Policy::accept_all(),
            Self::Nothing => Policy::reject_all(),
            Self::NotTen => {
                let prefixes = vec![PrefixRange::or_longer(net("10.0.0.0/8"))];
                let when = Match { prefixes, ..Match::default() };
                let ten = Term { name: "ten".into(), when, then: Then::Reject, ..Term::default() };
                Policy::compile("not-ten", &[ten, accept]).unwrap()
            }
            Self::PreferMarked => {
                let pattern = "65000:1".parse().unwrap();
                let when = Match { communities: vec![pattern], ..Match::default() };
                let mut set = Set { local_pref: Some(200), ..Set::default() };
                set.communities.remove = vec![pattern];
                let name = "marked".into();
                let marked = Term { name, when, set, then: Then::Next };
                Policy::compile("prefer-marked", &[marked, accept]).unwrap()
            }
        }
    }

    /// The attributes as they pass, if they do.
    fn apply(self, prefix: &IpNet, mut attributes: PathAttributes) -> Option<PathAttributes> {
        match self {
            Self::All => {}
            Self::Nothing => return None,
            Self::NotTen if net("10.0.0.0/8").contains(prefix) => return None,
            Self::NotTen => {}
            Self::PreferMarked => {
                if attributes.communities.standard.remove(&marked()) {
                    attributes.local_pref = Some(200);
                }
            }
        }
        Some(attributes)
    }
}

fn kind(peer: usize) -> PeerKind {
    personas()[peer].kind()
}

fn hop(peer: usize, prefix: &IpNet) -> NextHop {
    match Family::of(prefix) {
        Family::Ipv4Unicast => NextHop::new(address(peer).into()).unwrap(),
        Family::Ipv6Unicast => {
            NextHop::new(format!("2001:db8::{}", peer + 1).parse().unwrap()).unwrap()
        }
    }
}

impl Model {
    fn new() -> Self {
        Self {
            guard_everything: true,
            own: BTreeMap::new(),
            said: BTreeMap::new(),
            import: [Rule::All; PEERS],
            export: [(Rule::All, true); PEERS],
            up: [true; PEERS],
        }
    }

    fn config(&self, peer: usize) -> PeerConfig {
        let mut config = config(peer, personas()[peer].asn);
        config.import.policy = self.import[peer].policy();
        config.export.policy = self.export[peer].0.policy();
        config.export.learnt =
            if self.export[peer].1 { LearntRoutes::Pass } else { LearntRoutes::Withhold };
        config
    }

    /// What import makes of a route.
    fn used(&self, peer: usize, prefix: &IpNet) -> Option<PathAttributes> {
        let mut attributes = self.said.get(&(peer, *prefix))?.clone();
        if attributes.as_path.0.contains(&LOCAL_ASN) {
            return None;
        }
        let shuts_down = attributes.communities.standard.contains(&Community(0xffff_0000));
        attributes = self.import[peer].apply(prefix, attributes)?;
        if shuts_down && kind(peer) == PeerKind::External {
            attributes.local_pref = Some(0);
        }
        Some(attributes)
    }

    /// RFC 4271 §9.1.2.2, step by step.
    fn best(&self, prefix: &IpNet) -> Option<Candidate> {
        if let Some(with_communities) = self.own.get(prefix) {
            let mut attributes = PathAttributes::default();
            if *with_communities {
                attributes.communities.standard.insert(marked());
            }
            return Some((None, attributes));
        }
        let heard = (0..PEERS).filter_map(|peer| Some((peer, self.used(peer, prefix)?)));
        let mut left: Vec<_> = heard.collect();
        let preference = |(_, a): &(usize, PathAttributes)| a.local_pref.unwrap_or(100);
        keep_least(&mut left, |route| u32::MAX - preference(route));
        keep_least(&mut left, |(_, a)| a.as_path.0.len());
        keep_least(&mut left, |(_, a)| a.origin);
        let all = left.clone();
        let med = |a: &PathAttributes| a.med.unwrap_or(0);
        left.retain(|(_, a)| {
            let neighbour = a.as_path.0.first();
            let same = all.iter().filter(|(_, b)| b.as_path.0.first() == neighbour);
            same.map(|(_, b)| med(b)).min() == Some(med(a))
        });
        keep_least(&mut left, |(peer, _)| kind(*peer) == PeerKind::Internal);
        keep_least(&mut left, |(peer, _)| address(*peer));
        left.into_iter().next().map(|(peer, attributes)| (Some(peer), attributes))
    }

    /// What a peer must hold of a prefix.
    fn expected(&self, to: usize, prefix: &IpNet) -> Option<(NextHop, PathAttributes)> {
        let (from, mut attributes) = self.best(prefix)?;
        let (rule, learnt) = self.export[to];
        let us = match Family::of(prefix) {
            Family::Ipv4Unicast => "10.0.0.254",
            Family::Ipv6Unicast => "2001:db8::fe",
        };
        let us = NextHop::new(us.parse().unwrap()).unwrap();
        let mut next_hop = us;
        match from {
            None if !self.guard_everything => return None,
            None => {}
            Some(from) => {
                let inside = kind(from) == PeerKind::Internal && kind(to) == PeerKind::Internal;
                let has = |c| attributes.communities.standard.contains(&Community(c));
                if from == to
                    || !learnt
                    || inside
                    || has(0xffff_ff02)
                    || (has(0xffff_ff01) && kind(to) == PeerKind::External)
                {
                    return None;
                }
                if kind(to) == PeerKind::External {
                    attributes.med = None;
                } else {
                    next_hop = hop(from, prefix);
                }
            }
        }
        let mut attributes = rule.apply(prefix, attributes)?;
        match kind(to) {
            PeerKind::External => {
                attributes.local_pref = None;
                attributes.as_path.0.insert(0, LOCAL_ASN);
            }
            PeerKind::Internal => attributes.local_pref = attributes.local_pref.or(Some(100)),
        }
        Some((next_hop, attributes))
    }

    fn all_expected(&self, to: usize) -> Held {
        let prefixes = PREFIXES.iter().map(|text| net(text));
        prefixes.filter_map(|prefix| Some((prefix, self.expected(to, &prefix)?))).collect()
    }
}

fn keep_least<T, K: Ord>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    if let Some(least) = list.iter().map(&key).min() {
        list.retain(|entry| key(entry) == least);
    }
}

fn attributes(peer: usize) -> impl Strategy<Value = PathAttributes> {
    let first = personas()[peer].asn;
    let hops = prop::collection::vec(
        prop_oneof![8 => 64_600_u32..64_603, 3 => Just(4_200_000_002), 1 => Just(LOCAL_ASN.0)],
        0..3,
    );
    let communities = prop::collection::btree_set(
        prop_oneof![
            4 => Just(marked()),
            3 => (1_u32..4).prop_map(|low| Community(64_600 << 16 | low)),
            1 => Just(Community(0xffff_0000)),
            1 => Just(Community(0xffff_ff01)),
            1 => Just(Community(0xffff_ff02)),
        ],
        0..3,
    );
    let origin = prop_oneof![3 => Just(Origin::Igp), 1 => Just(Origin::Incomplete)];
    let med = prop::option::of(0_u32..3);
    let internal = kind(peer) == PeerKind::Internal;
    let local_pref = if internal { Just(Some(100)).boxed() } else { Just(None).boxed() };
    (hops, communities, origin, med, local_pref).prop_map(
        move |(hops, standard, origin, med, local_pref)| {
            let own = (!internal).then_some(first);
            PathAttributes {
                origin,
                as_path: AsPath(own.into_iter().chain(hops.into_iter().map(Asn)).collect()),
                med,
                local_pref,
                communities: Communities { standard, ..Communities::default() },
                ..PathAttributes::default()
            }
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![Just(Rule::All), Just(Rule::Nothing), Just(Rule::NotTen), Just(Rule::PreferMarked)]
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 0..PEERS;
    let prefixes = || prop::collection::vec(0..PREFIXES.len(), 1..4);
    let announce = (peer(), prefixes()).prop_flat_map(|(peer, prefixes)| {
        attributes(peer).prop_map(move |attributes| Step::Announce {
            peer,
            prefixes: prefixes.clone(),
            attributes: Box::new(attributes),
        })
    });
    let own = prop::collection::vec((0..PREFIXES.len(), any::<bool>()), 0..3);
    prop_oneof![
        12 => announce,
        5 => (peer(), prefixes()).prop_map(|(peer, prefixes)| Step::Withdraw { peer, prefixes }),
        2 => peer().prop_map(|peer| Step::Lose { peer }),
        3 => peer().prop_map(|peer| Step::Connect { peer }),
        2 => (peer(), rule()).prop_map(|(peer, rule)| Step::Import { peer, rule }),
        2 => (peer(), rule(), any::<bool>())
            .prop_map(|(peer, rule, learnt)| Step::Export { peer, rule, learnt }),
        2 => own.prop_map(|prefixes| Step::Own { prefixes }),
        1 => any::<bool>().prop_map(|everything| Step::Guard { everything }),
        6 => peer().prop_map(|peer| Step::Hear { peer }),
        3 => Just(Step::Work),
    ]
}

fn guard(everything: bool) -> Arc<ExportGuard> {
    let all = ["0.0.0.0/0", "::/0"].map(net);
    Arc::new(if everything { ExportGuard::new(all) } else { ExportGuard::default() })
}

/// Policy asked again says of every route what became of it.
fn expect_reasons(script: &Script, peer: usize) {
    let id = crate::script::id(peer);
    for prefix in PREFIXES.iter().map(|text| net(text)) {
        let paths = script.speaker.route(&prefix).map(|view| view.paths).unwrap_or_default();
        let judgement = script.speaker.judge_import(id, prefix);
        let said = judgement.as_ref().map(|it| it.accepted);
        match paths.iter().find(|path| path.peer == Some(id)) {
            Some(path) if path.verdict == Verdict::Accepted => {
                let communities = judgement.map(|it| it.communities);
                assert_eq!(
                    (said, communities),
                    (Some(true), Some(path.attributes.communities.clone()))
                );
            }
            Some(path) if path.verdict == Verdict::Policy => assert_eq!(said, Some(false)),
            Some(_) | None => assert_eq!(said, None),
        }

        let judgement = script.speaker.judge_export(id, prefix);
        let said = judgement.as_ref().map(|it| it.accepted);
        match script.speaker.sent_prefix(id, &prefix).map(|sent| sent.outcome) {
            Some(Ok(_)) => {
                let held = &script.peers[peer].held[&prefix].1.communities;
                assert_eq!(
                    (said, judgement.map(|it| it.communities).as_ref()),
                    (Some(true), Some(held))
                );
            }
            Some(Err(Withheld::Policy)) => assert_eq!(said, Some(false)),
            Some(Err(Withheld::NotAnnounceable)) => assert_eq!(said, Some(true)),
            Some(Err(_)) | None => assert_eq!(said, None),
        }
    }
}

/// The routes of a peer that are taken, with their attributes.
fn taken(script: &Script, peer: usize) -> BTreeMap<IpNet, PathAttributes> {
    let id = crate::script::id(peer);
    let prefixes = PREFIXES.iter().map(|text| net(text));
    let taken = prefixes.filter_map(|prefix| {
        let paths = script.speaker.route(&prefix)?.paths;
        let is_it =
            |path: &PathView<PeerId>| path.peer == Some(id) && path.verdict == Verdict::Accepted;
        Some((prefix, paths.into_iter().find(is_it)?.attributes))
    });
    taken.collect()
}

/// What is said about a change of import policy before it is made, and what it then does.
fn expect_preview(script: &mut Script, model: &mut Model, peer: usize, rule: Rule) {
    let (id, policy) = (crate::script::id(peer), rule.policy());
    let pages = Family::ALL
        .map(|family| script.speaker.preview_import(id, &policy, family, Cursor::default()));
    if model.import[peer] == Rule::Nothing {
        assert!(pages.iter().all(Option::is_none));
        return;
    }
    let mut said: Vec<_> = pages.into_iter().flat_map(|page| page.unwrap().entries).collect();
    said.sort();
    let before = taken(script, peer);
    model.import[peer] = rule;
    let config = model.config(peer);
    script.configure(peer, config);
    script.settle();
    let after = taken(script, peer);
    let mut expected: Vec<_> = PREFIXES
        .iter()
        .filter_map(|text| match (before.get(&net(text)), after.get(&net(text))) {
            (None, Some(_)) => Some((net(text), ImportChange::Gained)),
            (Some(_), None) => Some((net(text), ImportChange::Lost)),
            (Some(old), Some(new)) if old != new => Some((net(text), ImportChange::Changed)),
            _ => None,
        })
        .collect();
    expected.sort();
    assert_eq!(said, expected);
}

fn take(script: &mut Script, model: &mut Model, step: Step) {
    let named = |list: &[usize]| list.iter().map(|at| net(PREFIXES[*at])).collect::<Vec<_>>();
    match step {
        Step::Announce { peer, prefixes, attributes } => {
            for prefix in named(&prefixes) {
                script.announce(peer, &[prefix], hop(peer, &prefix), &attributes);
                if model.up[peer] && model.import[peer] != Rule::Nothing {
                    model.said.insert((peer, prefix), (*attributes).clone());
                }
            }
        }
        Step::Withdraw { peer, prefixes } => {
            script.withdraw(peer, &named(&prefixes));
            for prefix in named(&prefixes) {
                model.said.remove(&(peer, prefix));
            }
        }
        Step::Lose { peer } => {
            script.lose(peer);
            model.up[peer] = false;
            model.said.retain(|(from, _), _| *from != peer);
        }
        Step::Connect { peer } => {
            if !model.up[peer] {
                script.connect(peer);
                model.up[peer] = true;
            }
        }
        Step::Import { peer, rule } => {
            model.import[peer] = rule;
            if rule == Rule::Nothing {
                model.said.retain(|(from, _), _| *from != peer);
            }
            let config = model.config(peer);
            script.configure(peer, config);
        }
        Step::Export { peer, rule, learnt } => {
            model.export[peer] = (rule, learnt);
            let config = model.config(peer);
            script.configure(peer, config);
        }
        Step::Own { prefixes } => {
            model.own = prefixes.iter().map(|(at, with)| (net(PREFIXES[*at]), *with)).collect();
            let communities = Communities { standard: [marked()].into(), ..Communities::default() };
            let announcements = model.own.iter().map(|(prefix, with)| {
                let communities = if *with { communities.clone() } else { Communities::default() };
                (*prefix, Announcement { communities: Arc::new(communities), next_hop: None })
            });
            script.speaker.set_local(Arc::new(announcements.collect::<Announcements>()));
        }
        Step::Guard { everything } => {
            model.guard_everything = everything;
            script.speaker.set_guard(guard(everything));
        }
        Step::Hear { peer } => {
            script.hear(peer);
        }
        Step::Work => {
            script.work();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_peer_holds_what_the_model_says(
        steps in prop::collection::vec(step(), 1..60),
        rules in prop::array::uniform5(rule()),
    ) {
        let mut script = Script::new(&personas());
        let mut model = Model::new();
        script.speaker.set_guard(guard(true));
        for step in steps {
            take(&mut script, &mut model, step);
        }

        script.settle();

        for peer in (0..PEERS).filter(|peer| model.up[*peer]) {
            prop_assert!(script.is_up(peer));
            let expected = model.all_expected(peer);
            prop_assert_eq!(&script.peers[peer].held, &expected, "peer {}", peer);
            let told = script.speaker.peer(crate::script::id(peer)).unwrap().counts;
            prop_assert_eq!((told.ipv4.told + told.ipv6.told) as usize, expected.len());
            expect_reasons(&script, peer);
        }

        for (peer, rule) in (0..PEERS).zip(rules) {
            if model.up[peer] {
                expect_preview(&mut script, &mut model, peer, rule);
            }
        }

        // And nothing is left behind when everybody is gone.
        for peer in 0..PEERS {
            script.lose(peer);
        }
        script.speaker.set_local(Arc::default());
        script.settle();
        for family in Family::ALL {
            prop_assert_eq!(script.speaker.prefixes(family), 0);
        }
        prop_assert_eq!(script.speaker.attribute_sets(), 0);
    }
}
