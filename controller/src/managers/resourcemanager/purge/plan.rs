//! [`Plan`]: what is left of a container that goes, and what of it can go next.
//!
//! Pure: one state in, the next batch out. The deepest containers go first, and of a container's
//! objects those that others are not made of: services before what they use, rights last.

use std::collections::{BTreeMap, BTreeSet};

use isocast_api::{
    iam,
    meta::{ConditionStatus, Finding},
    network::{AnycastServiceSpec, BackendPoolSpec, DrainSpec},
};

use super::super::{
    super::lookup,
    container::{is_container, is_leaving, parent_of},
    deletion::{FINALIZER, finalizers, namespaced},
};
use crate::store::{Key, Object, Range, Resource, View};

/// Finalizers' owners are asked for, and what refuses to go is named, up to so many.
const NAMED: usize = 5;

/// One step of a purge.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What can be deleted, in stages: one after the other, each at once.
    pub(super) stages: Vec<Vec<Key>>,
    /// What is left, by resource.
    pub(super) remaining: BTreeMap<Resource, usize>,
    /// What waits for its finalizers.
    pub(super) waiting: Vec<(Key, Vec<String>)>,
}

/// Which container is above which, at one moment.
#[derive(Debug, Default)]
pub(super) struct Family<'a>(BTreeMap<String, Vec<&'a Object>>);

impl<'a> Family<'a> {
    pub(super) fn of(view: &'a View) -> Self {
        let mut family: BTreeMap<String, Vec<&Object>> = BTreeMap::new();
        let containers = view.iter().filter(|object| is_container(object.key.resource()));
        for object in containers {
            if let Some(parent) = parent_of(&object.glance()) {
                family.entry(parent.to_owned()).or_default().push(object);
            }
        }
        Self(family)
    }

    /// Everything below a container, deepest first.
    fn below(&self, name: &'a str) -> Vec<&'a Object> {
        let mut found: Vec<&Object> = Vec::new();
        let mut seen = BTreeSet::from([name]);
        let mut level = vec![name];
        while !level.is_empty() {
            let children = level.iter().filter_map(|name| self.0.get(*name)).flatten();
            let next: Vec<&Object> =
                children.filter(|child| seen.insert(child.key.name())).copied().collect();
            level = next.iter().map(|child| child.key.name()).collect();
            found.extend(next);
        }
        found.reverse();
        found
    }
}

impl Plan {
    /// The next step for the container called `name`, of at most `limit` deletions.
    pub(super) fn of<'a>(view: &'a View, family: &Family<'a>, name: &'a str, limit: usize) -> Self {
        let mut plan = Self::default();
        let mut staged: BTreeMap<u8, Vec<Key>> = BTreeMap::new();
        let mut room = limit;
        let mut take = |stage: u8, object: &Object, plan: &mut Self| {
            let value = object.glance();
            let mut waits = finalizers(&value).filter(|it| *it != FINALIZER).peekable();
            if is_leaving(object) && waits.peek().is_some() {
                plan.waiting.push((object.key.clone(), waits.map(str::to_owned).collect()));
            } else if room > 0 {
                room -= 1;
                staged.entry(stage).or_default().push(object.key.clone());
            }
        };
        let below = family.below(name);
        let resources: Vec<Resource> = namespaced().collect();
        let places = below.iter().map(|child| (child.key.name(), Some(*child)));
        for (container, itself) in places.chain([(name, None)]) {
            let mut is_empty = !family.0.contains_key(container);
            for resource in &resources {
                let range = Range::Container(resource.clone(), container.into());
                for object in view.range(&range) {
                    is_empty = false;
                    *plan.remaining.entry(resource.clone()).or_default() += 1;
                    take(stage(resource), object, &mut plan);
                }
            }
            let Some(itself) = itself else { continue };
            *plan.remaining.entry(itself.key.resource().clone()).or_default() += 1;
            // One that somebody marked is on a way of its own.
            if is_empty {
                take(STAGE_LAST, itself, &mut plan);
            }
        }
        plan.stages = staged.into_values().collect();
        plan
    }

    pub(super) fn is_done(&self) -> bool {
        self.remaining.is_empty()
    }

    /// What the container's conditions say. `refused` did not go, and why.
    pub(super) fn findings(&self, refused: &[(Key, String)]) -> [Finding; 2] {
        let total: usize = self.remaining.values().sum();
        let counted: Vec<String> = self
            .remaining
            .iter()
            .map(|(resource, count)| format!("{count} {}", resource.plural()))
            .collect();
        let objects = if total == 1 { "object remains" } else { "objects remain" };
        let remaining = Finding::new(
            "ContentRemaining",
            ConditionStatus::True,
            "SomeResourcesRemain",
            format!("{total} {objects}: {}", counted.join(", ")),
        );
        let name = |key: &Key| match key.container() {
            Some(namespace) => format!("{} {namespace}/{}", key.resource().plural(), key.name()),
            None => format!("{} {}", key.resource().plural(), key.name()),
        };
        let waiting = self
            .waiting
            .iter()
            .map(|(key, finalizers)| format!("{} waits for {}", name(key), finalizers.join(", ")));
        let refused_named = refused.iter().map(|(key, why)| format!("{}: {why}", name(key)));
        let blockers: Vec<String> = waiting.chain(refused_named).collect();
        let mut named: Vec<String> = blockers.iter().take(NAMED).cloned().collect();
        if blockers.len() > NAMED {
            named.push(format!("{} more", blockers.len() - NAMED));
        }
        let blocked = match (self.waiting.is_empty(), refused.is_empty()) {
            (true, true) => Finding::new("DeletionBlocked", ConditionStatus::False, "Going", ""),
            (false, true) => Finding::new(
                "DeletionBlocked",
                ConditionStatus::True,
                "FinalizersRemain",
                named.join("; "),
            ),
            (_, false) => Finding::new(
                "DeletionBlocked",
                ConditionStatus::True,
                "Protected",
                named.join("; "),
            ),
        };
        [remaining, blocked]
    }
}

/// What is said of a container that is empty and waits for others.
pub(super) fn waits_itself(finalizers: &[&str]) -> [Finding; 2] {
    let waits = format!("it waits for {}", finalizers.join(", "));
    [
        Finding::new("ContentRemaining", ConditionStatus::False, "Empty", ""),
        Finding::new("DeletionBlocked", ConditionStatus::True, "FinalizersRemain", waits),
    ]
}

const STAGE_LAST: u8 = 4;

/// When objects of a resource go.
fn stage(resource: &Resource) -> u8 {
    if [lookup::resource::<AnycastServiceSpec>(), lookup::resource::<DrainSpec>()]
        .contains(resource)
    {
        0
    } else if *resource == lookup::resource::<BackendPoolSpec>() {
        1
    } else if resource.group() == iam::GROUP {
        3
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::managers::testing::{State, organization, project};

    fn pool(namespace: &str, name: &str, metadata: Value) -> Value {
        let mut pool = json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
            "metadata": {"name": name, "namespace": namespace}, "spec": {},
        });
        for (field, value) in metadata.as_object().into_iter().flatten() {
            pool["metadata"][field] = value.clone();
        }
        pool
    }

    fn plan(state: &State, limit: usize) -> (Vec<Vec<String>>, Plan) {
        let view = state.view();
        let plan = Plan::of(&view, &Family::of(&view), "acme", limit);
        let name = |key: &Key| format!("{}/{}", key.container().unwrap_or("-"), key.name());
        let stages = plan.stages.iter().map(|stage| stage.iter().map(name).collect()).collect();
        (stages, plan)
    }

    #[test]
    fn what_is_deepest_goes_first_and_containers_when_they_are_empty() {
        let state = State::default()
            .with(organization("acme"))
            .with(project("empty", "acme"))
            .with(project("web", "acme"))
            .with(pool("web", "www", json!({})))
            .with(pool("acme", "own", json!({})))
            .with(organization("globex"))
            .with(project("other", "globex"))
            .with(pool("other", "theirs", json!({})));

        let (stages, plan) = plan(&state, 100);

        assert_eq!(stages, [vec!["web/www", "acme/own"], vec!["-/empty"]]);
        let [remaining, blocked] = plan.findings(&[]);
        assert_eq!(remaining.message, "4 objects remain: 2 backendpools, 2 projects");
        assert_eq!((blocked.status, &*blocked.reason), (ConditionStatus::False, "Going"));
    }

    #[test]
    fn a_step_is_bounded_and_counts_all_that_is_left() {
        let mut state = State::default().with(organization("acme")).with(project("web", "acme"));
        for number in 0..10 {
            state = state.with(pool("web", &format!("pool-{number}"), json!({})));
        }

        let (stages, plan) = plan(&state, 4);

        assert_eq!(stages.iter().map(Vec::len).sum::<usize>(), 4);
        assert_eq!(plan.remaining.values().sum::<usize>(), 11);
    }

    #[test]
    fn what_waits_or_refuses_is_named() {
        let waiting = json!({
            "deletionTimestamp": "2026-11-22T02:00:00Z", "finalizers": ["example.com/backup"],
        });
        let mut state = State::default().with(organization("acme")).with(project("web", "acme"));
        for number in 0..7 {
            state = state.with(pool("web", &format!("pool-{number}"), waiting.clone()));
        }

        let (stages, plan) = plan(&state, 100);

        assert!(stages.is_empty());
        let [_, blocked] = plan.findings(&[]);
        assert_eq!((blocked.status, &*blocked.reason), (ConditionStatus::True, "FinalizersRemain"));
        assert!(
            blocked.message.starts_with("backendpools web/pool-0 waits for example.com/backup; "),
            "{}",
            blocked.message
        );
        assert!(blocked.message.ends_with("; 2 more"), "{}", blocked.message);
        let key = pool("web", "held", json!({}));
        let key = crate::managers::testing::key_of(&key);
        let [_, blocked] = plan.findings(&[(key, "somebody protects it".to_owned())]);
        assert_eq!(&*blocked.reason, "Protected");
    }
}
