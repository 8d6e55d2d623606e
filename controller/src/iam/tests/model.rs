//! The index against a model that walks every binding.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{managers::testing::key_of, store::Key};

/// Every object, and answers by looking at all of them.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<Key, Value>);

impl Model {
    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.values().filter(move |value| value["kind"] == kind)
    }

    fn chain(&self, container: &str) -> Option<Vec<String>> {
        let mut chain = vec![container.to_owned()];
        while chain.last().unwrap() != SYSTEM_NAMESPACE {
            let name = chain.last().unwrap();
            let found = self.0.values().find(|value| {
                ["Organization", "Folder", "Project"].iter().any(|kind| value["kind"] == *kind)
                    && value["metadata"]["name"] == **name
            })?;
            let parent = &found["spec"]["parent"];
            let above = parent["name"].as_str().or(parent.as_str()).unwrap_or(SYSTEM_NAMESPACE);
            chain.push(above.to_owned());
            if chain.len() > 12 {
                return None;
            }
        }
        Some(chain)
    }

    fn permissions(&self, namespace: &str, name: &str) -> BTreeSet<String> {
        let mut names = vec![(namespace.to_owned(), name.to_owned())];
        let mut permissions = BTreeSet::new();
        let mut at = 0;
        while let Some((namespace, name)) = names.get(at).cloned() {
            at += 1;
            let Some(role) = self.of_kind("Role").find(|role| {
                role["metadata"]["namespace"] == *namespace && role["metadata"]["name"] == *name
            }) else {
                continue;
            };
            for permission in role["spec"]["includedPermissions"].as_array().unwrap() {
                permissions.insert(permission.as_str().unwrap().to_owned());
            }
            let Some(chain) = self.chain(&namespace) else { continue };
            for inherited in role["spec"]["inheritedRoles"].as_array().unwrap() {
                let place = inherited["namespace"].as_str().unwrap_or(&namespace).to_owned();
                let other = (place, inherited["name"].as_str().unwrap().to_owned());
                if chain.contains(&other.0) && !names.contains(&other) {
                    names.push(other);
                }
            }
        }
        permissions
    }

    fn subjects(&self, user_name: &str) -> Vec<Value> {
        let authenticated = json!({"kind": "Group", "name": "system:authenticated"});
        let mut subjects = vec![user(user_name), authenticated];
        let mut at = 0;
        while let Some(subject) = subjects.get(at).cloned() {
            at += 1;
            for membership in self.of_kind("GroupMembership") {
                let namespace = membership["metadata"]["namespace"].as_str().unwrap();
                let name = membership["spec"]["group"].as_str().unwrap();
                let exists = self.of_kind("Group").any(|it| {
                    it["metadata"]["name"] == name && it["metadata"]["namespace"] == namespace
                });
                let group = group(namespace, name);
                if membership["spec"]["member"] == subject && exists && !subjects.contains(&group) {
                    subjects.push(group);
                }
            }
        }
        subjects
    }

    fn allows(&self, user_name: &str, verb: &str, container: &str) -> bool {
        let account = self.of_kind("User").find(|it| it["metadata"]["name"] == user_name);
        if account.is_none_or(|it| it["spec"]["state"] == "Suspended") {
            return false;
        }
        let Some(chain) = self.chain(container) else { return false };
        let subjects = self.subjects(user_name);
        let permission = format!("network.isocast.dev/anycastservices.{verb}");
        let mut allowed = false;
        for binding in self.of_kind("PolicyBinding") {
            let namespace = binding["metadata"]["namespace"].as_str().unwrap();
            let spec = &binding["spec"];
            let is_denial = spec["effect"] == "Deny";
            let role = spec["role"]["namespace"].as_str().unwrap_or(namespace);
            let counts = chain.iter().any(|it| it == namespace)
                && (is_denial || chain.iter().any(|it| it == role))
                && spec["expiresAt"]
                    .as_str()
                    .is_none_or(|at| at.parse::<Timestamp>().unwrap().as_second() > NOW)
                && spec["subjects"].as_array().unwrap().iter().any(|it| subjects.contains(it))
                && self
                    .permissions(role, spec["role"]["name"].as_str().unwrap())
                    .contains(&permission);
            if !counts {
                continue;
            }
            let holds = match spec["condition"]["expression"].as_str() {
                None | Some("request.name == 'www'") => Some(true),
                Some("request.verb == 'none'") => Some(false),
                // Overflows.
                Some(_) => None,
            };
            match (is_denial, holds) {
                (true, Some(false)) => {}
                (true, _) => return false,
                (false, holds) => allowed |= holds == Some(true),
            }
        }
        allowed
    }
}

const CONTAINERS: &[&str] = &["acme", "globex", "eng", "ops", "shop", "web", SYSTEM_NAMESPACE];
const NAMES: &[&str] = &["a", "b", "c"];
const CHECKED: &[&str] = &["get", "list", "create"];

fn any_container() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(&["acme", "globex"][..]);
    let inner = prop::sample::select(&["eng", "ops", "shop", "web"][..]);
    let parent = prop::sample::select(&["acme", "globex", "eng", "ops"][..]);
    prop_oneof![
        name.prop_map(|name| object("Organization", None, name, json!({}))),
        (inner, parent).prop_map(|(name, parent)| {
            let kind = if ["acme", "globex"].contains(&parent) { "Organization" } else { "Folder" };
            let mut made = project(name, kind, parent);
            if ["eng", "ops"].contains(&name) {
                made["kind"] = json!("Folder");
            }
            made
        }),
    ]
}

fn any_subject() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => prop::sample::select(USERS).prop_map(user),
        4 => (prop::sample::select(CONTAINERS), prop::sample::select(NAMES))
            .prop_map(|(namespace, name)| group(namespace, name)),
        1 => Just(json!({"kind": "Group", "name": "system:authenticated"})),
    ]
}

fn any_object() -> impl Strategy<Value = Value> {
    let place = prop::sample::select(CONTAINERS);
    let name = prop::sample::select(NAMES);
    let reference = (place.clone(), name.clone())
        .prop_map(|(namespace, name)| json!({"name": name, "namespace": namespace}));
    let verbs = prop::sample::subsequence(CHECKED, 0..=3);
    let condition = prop_oneof![
        4 => Just(None),
        1 => Just(Some("request.name == 'www'")),
        1 => Just(Some("request.verb == 'none'")),
        1 => Just(Some("request.time - duration('9000000h') < request.time - duration('9000000h') - duration('2562047h') - duration('2562047h')")),
    ];
    let expires = prop_oneof![
        4 => Just(None),
        1 => Just(Some("1970-01-01T00:16:40Z")),
        1 => Just(Some("1970-01-01T00:16:41Z")),
    ];
    prop_oneof![
        3 => any_container(),
        2 => (prop::sample::select(USERS), prop::bool::weighted(0.2)).prop_map(|(name, suspended)| {
            let state = if suspended { "Suspended" } else { "Active" };
            object("User", None, name, json!({"state": state}))
        }),
        2 => (place.clone(), name.clone())
            .prop_map(|(place, name)| object("Group", Some(place), name, json!({}))),
        3 => (place.clone(), name.clone(), name.clone(), any_subject()).prop_map(
            |(place, name, group, member)| {
                let mut spec = json!({"group": group, "member": member});
                if spec["member"]["name"] == "system:authenticated" {
                    spec["member"] = user("alice");
                }
                // The name says it all, for neither end can change.
                let name = format!("{name}-{group}-{}", spec["member"].to_string().len());
                object("GroupMembership", Some(place), &name, spec)
            }
        ),
        3 => (place.clone(), name.clone(), verbs, prop::collection::vec(reference.clone(), 0..3))
            .prop_map(|(place, name, verbs, inherits)| {
                let all: Vec<String> = verbs
                    .iter()
                    .map(|verb| format!("network.isocast.dev/anycastservices.{verb}"))
                    .collect();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                role(place, name, &all, json!(inherits))
            }),
        8 => (
            place,
            name,
            reference,
            prop::collection::vec(any_subject(), 1..3),
            prop::bool::weighted(0.2),
            condition,
            expires
        )
            .prop_map(|(place, name, role, subjects, deny, condition, expires)| {
                let effect = if deny { "Deny" } else { "Allow" };
                let mut spec = json!({"effect": effect, "role": role, "subjects": subjects});
                if let Some(expression) = condition {
                    spec["condition"] = json!({"expression": expression});
                }
                if let Some(expires) = expires {
                    spec["expiresAt"] = json!(expires);
                }
                object("PolicyBinding", Some(place), name, spec)
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever comes, changes and goes, in whatever order: the same answers as from walking it all.
    #[test]
    fn the_index_answers_as_if_it_walked_every_binding(
        steps in prop::collection::vec((any_object(), prop::bool::weighted(0.15)), 1..80),
    ) {
        let (mut index, mut model) = (Index::default(), Model::default());
        for (value, removes) in steps {
            let key = key_of(&value);
            let old = model.0.get(&key).cloned();
            let new = (!removes).then_some(value);
            index.apply(&key, old.as_ref(), new.as_ref());
            match new {
                Some(new) => model.0.insert(key, new),
                None => model.0.remove(&key),
            };
        }
        for name in USERS {
            for container in CONTAINERS {
                for verb in CHECKED {
                    let expected = model.allows(name, verb, container);
                    let answer = allows(&index, &bearer(name), verb, container);
                    prop_assert_eq!(answer, expected, "{} {} {}", name, verb, container);
                }
            }
        }
        // What is taken away leaves nothing behind.
        for (key, value) in &model.0 {
            index.apply(key, Some(value), None);
        }
        prop_assert_eq!(index.bindings.numbers().count(), 0);
        prop_assert!(index.tree.find("acme").is_none_or(|acme| !index.tree.exists(acme)));
        let alice = SubjectName::User("alice".into());
        prop_assert_eq!(index.principals.find(alice.borrowed()), None);
    }
}
