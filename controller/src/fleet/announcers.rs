//! [`Announcers`]: who announces each service, and which node must not stop.
//!
//! An agent may withdraw what others announce too. But agents that fail at the same moment, because
//! their checker went mad at every site, would each count on the others; so one node per service is
//! its *keeper*, which never stops by itself. The role moves to a healthy announcer when the keeper
//! is none any more, and the old one is released only once the new one has said that it knows; until
//! the first one knows, every announcer keeps. At no time is there nobody.
//!
//! Pure: from what nodes say and what was decided before. A node that is not heard is not counted,
//! for nobody may count on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use isocast_api::agent::{FleetView, NodeStatus, ServiceStatus, ServiceView, Verdict};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    limits::{STATUS_INTERVAL_MAX, STATUS_LIFE, VIEW_INTERVAL},
    nodes::{Link, Nodes},
};

/// By the service's uid.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Announcers {
    services: BTreeMap<String, Announced>,
    /// Nodes that have spoken.
    heard: BTreeSet<String>,
}

/// Who announces one service.
#[derive(Clone, Debug, Default, PartialEq)]
struct Announced {
    nodes: BTreeSet<String>,
    /// The keeper, and former ones that are not released yet.
    keepers: BTreeSet<String>,
    keeper: Option<String>,
}

/// What one node says of one service.
#[derive(Clone, Copy, Debug)]
struct Said<'a> {
    node: &'a str,
    is_announcing: bool,
    /// Announced for good reasons, neither held nor going.
    is_well: bool,
    knows_it_keeps: bool,
}

/// Nobody needs to know of more than so many others.
const OTHERS_MAX: usize = 2;

impl Announcers {
    /// Who announces what, given what nodes say now and what was decided `before`.
    pub(super) fn new<'a>(
        before: &Self,
        statements: impl Iterator<Item = (&'a str, &'a NodeStatus)>,
    ) -> Self {
        let mut said: BTreeMap<&str, Vec<Said<'_>>> = BTreeMap::new();
        let mut heard = BTreeSet::new();
        for (node, statement) in statements {
            heard.insert(node.to_owned());
            for service in &statement.services {
                said.entry(&service.uid).or_default().push(Said::new(node, service));
            }
        }
        let services = said.into_iter().map(|(uid, said)| {
            let before = before.services.get(uid);
            (uid.to_owned(), Announced::new(uid, before, &said))
        });
        Self { services: services.collect(), heard }
    }

    /// What `node` has to know, beyond what it was `told`; and remembers that it was. Nothing before
    /// it has spoken itself: a controller that has just started knows less than the node does.
    pub(super) fn news(
        &self,
        node: &str,
        told: &mut Option<BTreeMap<String, ServiceView>>,
    ) -> Option<FleetView> {
        if !self.heard.contains(node) {
            return None;
        }
        let now: BTreeMap<String, ServiceView> = self
            .services
            .iter()
            .map(|(uid, announced)| (uid.clone(), announced.view(uid, node)))
            .collect();
        let is_gone = |before: &BTreeMap<String, ServiceView>| {
            before.keys().any(|uid| !now.contains_key(uid))
        };
        let before = told.replace(now.clone()).filter(|before| !is_gone(before));
        let complete = before.is_none();
        let before = before.unwrap_or_default();
        let changed = now.into_iter().filter(|(uid, view)| before.get(uid) != Some(view));
        let services: Vec<_> = changed.map(|(_, view)| view).collect();
        (complete || !services.is_empty()).then_some(FleetView { complete, services })
    }
}

impl Announced {
    fn new(uid: &str, before: Option<&Self>, said: &[Said<'_>]) -> Self {
        let nodes = said.iter().filter(|it| it.is_announcing).map(|it| it.node.to_owned());
        let keeper = choose(uid, before.and_then(|before| before.keeper.as_deref()), said);
        let is_told = keeper
            .is_some_and(|keeper| said.iter().any(|it| it.node == keeper && it.knows_it_keeps));
        // Until the keeper knows, those that were it go on; at the very beginning, everybody.
        let is_known = said.iter().any(|it| it.knows_it_keeps);
        let former = said
            .iter()
            .filter(|it| !is_told && if is_known { it.knows_it_keeps } else { it.is_announcing })
            .map(|it| it.node);
        Self {
            nodes: nodes.collect(),
            keepers: former.chain(keeper).map(str::to_owned).collect(),
            keeper: keeper.map(str::to_owned),
        }
    }

    fn view(&self, uid: &str, node: &str) -> ServiceView {
        let others = self.nodes.iter().filter(|other| *other != node).take(OTHERS_MAX).count();
        ServiceView {
            service: uid.to_owned(),
            others: u32::try_from(others).unwrap_or_default(),
            keeper: self.keepers.contains(node),
        }
    }
}

/// The keeper: the one before as long as it is well, else one that is, else whoever announces.
fn choose<'a>(uid: &str, before: Option<&str>, said: &[Said<'a>]) -> Option<&'a str> {
    let preference = |it: &&Said<'a>| {
        let rank = match (it.is_well, it.is_announcing) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        let is_other = before != Some(it.node);
        // Spreads the role over nodes, the same way after a restart of the controller.
        let order = *blake3::hash(format!("{uid}/{}", it.node).as_bytes()).as_bytes();
        (rank, is_other, !it.knows_it_keeps, order)
    };
    said.iter().filter(|it| it.is_announcing).min_by_key(preference).map(|it| it.node)
}

impl<'a> Said<'a> {
    fn new(node: &'a str, service: &ServiceStatus) -> Self {
        let holds = |verdict: Option<&Verdict>| verdict.is_some_and(|verdict| verdict.status);
        let announced = service.announced.as_ref();
        Self {
            node,
            is_announcing: !service.announced_prefixes.is_empty(),
            is_well: holds(announced)
                && announced.is_some_and(|verdict| verdict.reason == "Announced")
                && holds(service.healthy.as_ref()),
            knows_it_keeps: service.keeper,
        }
    }
}

/// Keeps `announcers` up to date with what nodes say.
pub(super) async fn follow(nodes: Arc<Nodes>, announcers: watch::Sender<Arc<Announcers>>) {
    let mut changes = nodes.changes();
    loop {
        changes.mark_unchanged();
        let reports = nodes.reports();
        let now = Instant::now();
        let heard = reports.iter().filter_map(|(node, report)| {
            let (statement, said) = report.statement.as_ref()?;
            let is_heard = matches!(report.link, Link::Connected(_)) && now - *said < STATUS_LIFE;
            is_heard.then_some((node.as_str(), &**statement))
        });
        let next = Announcers::new(&announcers.borrow(), heard);
        announcers.send_if_modified(|held| {
            let is_news = **held != next;
            if is_news {
                *held = Arc::new(next);
            }
            is_news
        });
        sleep(VIEW_INTERVAL).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(STATUS_INTERVAL_MAX) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVICE: &str = "service";

    fn says(is_announcing: bool, is_well: bool, keeper: bool) -> NodeStatus {
        let verdict = |status, reason: &str| {
            Some(Verdict { status, reason: reason.into(), message: String::new() })
        };
        let reason = if is_well { "Announced" } else { "LastAnnouncer" };
        let service = ServiceStatus {
            uid: SERVICE.into(),
            announced: verdict(is_announcing, reason),
            healthy: verdict(is_well, ""),
            announced_prefixes: is_announcing
                .then(|| "203.0.113.1/32".into())
                .into_iter()
                .collect(),
            keeper,
            ..ServiceStatus::default()
        };
        NodeStatus { services: vec![service], ..NodeStatus::default() }
    }

    fn after(before: &Announcers, statements: &BTreeMap<&str, NodeStatus>) -> Announcers {
        Announcers::new(before, statements.iter().map(|(node, status)| (*node, status)))
    }

    fn view(announcers: &Announcers, node: &str) -> (u32, bool) {
        let view = announcers.services[SERVICE].view(SERVICE, node);
        (view.others, view.keeper)
    }

    fn keepers(announcers: &Announcers) -> Vec<&str> {
        announcers.services[SERVICE].keepers.iter().map(String::as_str).collect()
    }

    /// Three announcers, of which one knows that it keeps the service.
    fn settled() -> (Announcers, BTreeMap<&'static str, NodeStatus>, &'static str) {
        let mut all = BTreeMap::from(["a", "b", "c"].map(|node| (node, says(true, true, false))));
        let first = after(&Announcers::default(), &all);
        assert_eq!(keepers(&first), ["a", "b", "c"], "until one of them knows");
        let keeper = first.services[SERVICE].keeper.clone().unwrap();
        let keeper = ["a", "b", "c"].into_iter().find(|node| *node == keeper).unwrap();
        all.insert(keeper, says(true, true, true));
        (after(&first, &all), all, keeper)
    }

    #[test]
    fn one_of_several_announcers_keeps_the_service_and_goes_on_keeping_it() {
        let (announcers, all, keeper) = settled();
        assert_eq!(keepers(&announcers), [keeper]);

        let again = after(&announcers, &all);
        let restarted = after(&Announcers::default(), &all);

        assert_eq!(keepers(&again), [keeper]);
        assert_eq!(view(&again, keeper), (2, true));
        assert_eq!(keepers(&restarted), [keeper], "also after a restart of the controller");
    }

    #[test]
    fn a_keeper_that_fails_is_released_once_another_knows() {
        let (first, mut all, keeper) = settled();
        all.insert(keeper, says(true, false, true));

        let both = after(&first, &all);
        let other = both.services[SERVICE].keeper.clone().unwrap();
        assert_ne!(other, keeper);
        assert_eq!(keepers(&both).len(), 2);
        *all.get_mut(other.as_str()).unwrap() = says(true, true, true);
        let moved = after(&both, &all);

        assert_eq!(keepers(&moved), [other.as_str()]);
        assert_eq!(view(&moved, keeper), (2, false));
    }

    #[test]
    fn when_everybody_fails_at_once_the_keeper_stays() {
        let (first, mut all, keeper) = settled();
        for (node, status) in &mut all {
            *status = says(*node == keeper, false, *node == keeper);
        }

        let mad = after(&first, &all);

        assert_eq!(keepers(&mad), [keeper]);
        assert_eq!(view(&mad, keeper), (0, true));
    }

    #[test]
    fn a_node_is_told_what_changed_and_everything_when_something_is_gone() {
        let one = BTreeMap::from([("a", says(true, true, false))]);
        let two = BTreeMap::from(["a", "b"].map(|node| (node, says(true, true, false))));
        let (one, two) = (after(&Announcers::default(), &one), after(&Announcers::default(), &two));
        let mut told = None;

        let first = one.news("a", &mut told).unwrap();
        assert!(first.complete);
        assert_eq!(first.services.len(), 1);
        assert_eq!(one.news("a", &mut told), None);
        let second = two.news("a", &mut told).unwrap();
        assert_eq!((second.complete, second.services[0].others), (false, 1));
        assert_eq!(Announcers::default().news("a", &mut told), None, "it has not been heard");
        let none = Announcers { heard: BTreeSet::from(["a".into()]), ..Announcers::default() };
        let third = none.news("a", &mut told).unwrap();
        assert_eq!((third.complete, third.services.len()), (true, 0));
    }

    proptest! {
        /// Agents obey what they were told, in any order and at any time later: while anybody
        /// announced, somebody does, whatever their health checks say.
        #[test]
        fn somebody_always_announces(
            steps in prop::collection::vec((0_usize..3, any::<bool>(), 0..3_u8), 1..80),
        ) {
            let names = ["a", "b", "c"];
            let mut nodes = [0; 3].map(|_| (true, true, None::<ServiceView>));
            let mut announcers = Announcers::default();
            for (index, healthy, act) in steps {
                match act {
                    0 => {
                        let said: BTreeMap<_, _> = names.iter().zip(&nodes).map(|(name, it)| {
                            let keeper = it.2.as_ref().is_some_and(|view| view.keeper);
                            (*name, says(it.0, it.0 && it.1, keeper))
                        }).collect();
                        announcers = after(&announcers, &said);
                    }
                    1 => {
                        let view = announcers.services.get(SERVICE).map(|it| it.view(SERVICE, names[index]));
                        nodes[index].2 = view.or_else(|| nodes[index].2.take());
                    }
                    _ => nodes[index].1 = healthy,
                }
                for node in &mut nodes {
                    // An agent that was told nothing yet is not locked; the property starts after.
                    let is_locked = node.2.as_ref().is_none_or(|it| it.keeper || it.others == 0);
                    node.0 = node.1 || (node.0 && is_locked);
                }
                prop_assert!(nodes.iter().any(|node| node.0), "nobody is left");
            }
        }
    }
}
