//! The index against a model that walks every binding, and the guard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use isocast_api::registry::{self, Scope};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    access::{Access, Asked},
    condition::Facts,
    decision::Reach,
    index::Index,
    permission::Catalog,
    principals::SubjectName,
    tokens::Bearer,
};
use crate::{
    admission::{Admission, ProposedChange},
    authz::Identity,
    error::ApiError,
    managers::SYSTEM_NAMESPACE,
    store::{Key, Object, Resource, Revision, View},
};

const NOW: i64 = 1000;

fn key_of(value: &Value) -> Key {
    let kind = registry::kinds().iter().find(|kind| value["kind"] == kind.kind).unwrap();
    let resource = Resource::new(kind.plural, kind.group);
    let namespace = match kind.scope {
        Scope::Cluster => None,
        Scope::Namespaced => value["metadata"]["namespace"].as_str(),
    };
    Key::new(resource, namespace, value["metadata"]["name"].as_str().unwrap())
}

fn object(kind: &str, namespace: Option<&str>, name: &str, spec: Value) -> Value {
    let group = if ["Organization", "Folder", "Project"].contains(&kind) {
        "resourcemanager"
    } else {
        "iam"
    };
    json!({
        "apiVersion": format!("{group}.isocast.dev/v1alpha1"), "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}")},
        "spec": spec,
    })
}

fn project(name: &str, parent_kind: &str, parent: &str) -> Value {
    object("Project", None, name, json!({"parent": {"kind": parent_kind, "name": parent}}))
}

fn role(namespace: &str, name: &str, permissions: &[&str], inherits: Value) -> Value {
    let spec = json!({"includedPermissions": permissions, "inheritedRoles": inherits});
    object("Role", Some(namespace), name, spec)
}

fn bind(namespace: &str, name: &str, role: &str, subject: Value) -> Value {
    let spec = json!({
        "role": {"name": role, "namespace": SYSTEM_NAMESPACE}, "subjects": [subject],
    });
    object("PolicyBinding", Some(namespace), name, spec)
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

fn group(namespace: &str, name: &str) -> Value {
    json!({"kind": "Group", "name": name, "namespace": namespace})
}

fn bearer(name: &str) -> Bearer {
    Bearer::of_account(SubjectName::User(name.into()), &format!("uid-{name}"))
}

fn facts<'a>(name: &'a str, namespace: &'a str, verb: &'a str) -> Facts<'a> {
    Facts {
        now: Timestamp::from_second(NOW).unwrap(),
        verb,
        group: "network.isocast.dev",
        resource: "anycastservices",
        subresource: "",
        namespace,
        name,
        user: "somebody",
    }
}

fn allows(index: &Index, who: &Bearer, verb: &str, container: &str) -> bool {
    let permission = Catalog::get().find("anycastservices.network.isocast.dev", "", verb).unwrap();
    index.decide(who, permission, container, &facts("www", container, verb)).is_allowed()
}

// === the model ===

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
const USERS: &[&str] = &["alice", "bob", "carol"];
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
        prop_assert_eq!(index.tree.find("acme"), None);
        let alice = SubjectName::User("alice".into());
        prop_assert_eq!(index.principals.find(alice.borrowed()), None);
    }
}

// === by example ===

/// A small world: acme with the folder eng and the projects shop (in eng) and web, and globex.
struct World {
    objects: BTreeMap<Key, Value>,
    access: Access,
}

impl World {
    fn new() -> Self {
        let mut world = Self { objects: BTreeMap::new(), access: Access::default() };
        let eng = json!({"parent": {"kind": "Organization", "name": "acme"}});
        for value in [
            object("Organization", None, "acme", json!({})),
            object("Organization", None, "globex", json!({})),
            object("Folder", None, "eng", eng),
            project("shop", "Folder", "eng"),
            project("web", "Organization", "acme"),
            role(SYSTEM_NAMESPACE, "viewer", &["network.isocast.dev/*.get"], json!([])),
            role(SYSTEM_NAMESPACE, "editor", &["network.isocast.dev/*.*"], json!([])),
            role(
                SYSTEM_NAMESPACE,
                "owner",
                &["*/*.*", "*/*/*.*"],
                json!([{"name": "editor", "namespace": SYSTEM_NAMESPACE}]),
            ),
        ]
        .into_iter()
        .chain(USERS.iter().map(|name| object("User", None, name, json!({}))))
        {
            world.put(value);
        }
        world
    }

    fn with(mut self, value: Value) -> Self {
        self.put(value);
        self
    }

    fn put(&mut self, value: Value) {
        let key = key_of(&value);
        self.objects.insert(key, value);
        self.access.open(&self.view());
    }

    fn view(&self) -> View {
        let objects = self.objects.iter().map(|(key, value)| Object {
            key: key.clone(),
            revision: Revision(1),
            value: Arc::new(value.clone()),
        });
        View::new(Revision(1), objects.collect())
    }

    fn writes(&self, who: &str, value: Option<Value>, key: &Key) -> Result<(), ApiError> {
        let actor = Identity::Subject(Arc::new(bearer(who)));
        let view = self.view();
        let old = view.get(key).cloned();
        let verb = match (&old, &value) {
            (None, _) => "create",
            (_, Some(_)) => "update",
            (_, None) => "delete",
        };
        let now = Timestamp::from_second(NOW).unwrap();
        let mut change = ProposedChange::new(actor, verb, None, now, key.clone(), (old, value));
        self.access.admit(&view, &mut change)
    }

    fn puts(&self, who: &str, value: Value) -> Result<(), ApiError> {
        let key = key_of(&value);
        self.writes(who, Some(value), &key)
    }

    fn may(&self, who: &str, verb: &str, namespace: &str) -> bool {
        let resource = Resource::new("anycastservices", "network.isocast.dev");
        let asked = Asked {
            verb,
            resource: &resource,
            subresource: "",
            namespace: Some(namespace),
            name: "www",
            parent: None,
        };
        let now = Timestamp::from_second(NOW).unwrap();
        self.access.check(&bearer(who), &asked, now).is_ok()
    }
}

#[test]
fn a_binding_holds_below_its_container_and_nowhere_else() {
    let world = World::new().with(bind("eng", "alice", "viewer", user("alice")));

    assert!(world.may("alice", "get", "eng"));
    assert!(world.may("alice", "get", "shop"));
    for elsewhere in ["web", "acme", "globex", SYSTEM_NAMESPACE, "nowhere"] {
        assert!(!world.may("alice", "get", elsewhere), "{elsewhere}");
    }
    assert!(!world.may("alice", "delete", "shop"));
    assert!(!world.may("bob", "get", "shop"));
}

#[test]
fn a_denial_above_beats_whatever_is_allowed_below() {
    let mut denial = bind("acme", "frozen", "editor", user("alice"));
    denial["spec"]["effect"] = json!("Deny");
    let world = World::new().with(bind("shop", "alice", "editor", user("alice"))).with(denial);

    assert!(!world.may("alice", "get", "shop"));
}

#[test]
fn another_account_of_the_same_name_has_none_of_the_former_ones_credentials() {
    let world = World::new().with(bind("web", "alice", "viewer", user("alice")));
    let now = Timestamp::from_second(NOW).unwrap();
    let former = Bearer::of_account(SubjectName::User("alice".into()), "uid-of-before");

    assert!(world.access.is_live(&bearer("alice")));
    assert!(!world.access.is_live(&former));
    let get = Catalog::get().find("nodes.network.isocast.dev", "", "get").unwrap();
    assert_eq!(world.access.reach(&former, get, None, now), Reach::Nowhere);
}

#[test]
fn nobody_gives_what_they_do_not_hold() {
    let world = World::new()
        .with(bind("web", "alice", "owner", user("alice")))
        .with(role(SYSTEM_NAMESPACE, "binder", &["iam.isocast.dev/policybindings.*"], json!([])))
        .with(bind("web", "bob", "binder", user("bob")));

    assert!(world.puts("alice", bind("web", "carol", "editor", user("carol"))).is_ok());
    let refusal = world.puts("bob", bind("web", "carol", "editor", user("carol"))).unwrap_err();
    assert_eq!(refusal.code(), 403);
    assert!(refusal.message().contains("do not hold themselves"), "{refusal}");
    assert!(world.puts("bob", bind("web", "carol", "binder", user("carol"))).is_ok());
    // Held here is not held elsewhere.
    assert_eq!(
        world.puts("alice", bind("acme", "carol", "viewer", user("carol"))).unwrap_err().code(),
        403
    );
}

#[test]
fn what_is_held_for_a_while_or_under_a_condition_is_not_given_for_good() {
    let mut soon_over = bind("web", "alice", "owner", user("alice"));
    soon_over["spec"]["expiresAt"] = json!("2030-01-01T00:00:00Z");
    let world = World::new().with(soon_over);
    let mut given = bind("web", "carol", "viewer", user("carol"));

    assert_eq!(world.puts("alice", given.clone()).unwrap_err().code(), 403);
    given["spec"]["expiresAt"] = json!("2029-12-31T00:00:00Z");
    assert!(world.puts("alice", given.clone()).is_ok());

    let mut at_night = bind("web", "alice", "owner", user("alice"));
    at_night["spec"]["condition"] = json!({"expression": "request.user == 'alice'"});
    let world = World::new().with(at_night);
    assert_eq!(world.puts("alice", given).unwrap_err().code(), 403);
}

#[test]
fn a_denial_is_lifted_only_by_who_holds_what_it_denies() {
    let mut denial = bind("web", "frozen", "editor", user("bob"));
    denial["spec"]["effect"] = json!("Deny");
    let world = World::new()
        .with(bind("web", "alice", "owner", user("alice")))
        .with(bind("web", "bob", "owner", user("bob")))
        .with(denial.clone());
    let key = key_of(&denial);

    assert_eq!(world.writes("bob", None, &key).unwrap_err().code(), 403);
    assert!(world.writes("alice", None, &key).is_ok());
}

#[test]
fn a_membership_gives_what_the_group_was_given() {
    let world = World::new()
        .with(object("Group", Some("web"), "ops", json!({})))
        .with(bind("acme", "ops", "editor", group("web", "ops")))
        .with(bind("web", "alice", "owner", user("alice")))
        .with(bind("acme", "bob", "owner", user("bob")));
    let spec = json!({"group": "ops", "member": user("carol")});
    let membership = object("GroupMembership", Some("web"), "ops-carol", spec);

    let refusal = world.puts("alice", membership.clone()).unwrap_err();
    assert_eq!(refusal.code(), 403, "alice holds it in web, the group in all of acme");
    assert!(world.puts("bob", membership.clone()).is_ok());

    let world = world.with(membership);
    assert!(world.may("carol", "delete", "shop"));
}

#[test]
fn groups_nest_five_deep_and_never_in_a_circle() {
    let member = |of: &str, is: &str| {
        let spec = json!({"group": of, "member": group("web", is)});
        object("GroupMembership", Some("web"), &format!("{is}-in-{of}"), spec)
    };
    let mut world = World::new().with(bind(SYSTEM_NAMESPACE, "alice", "owner", user("alice")));
    for level in 0..=6 {
        world = world.with(object("Group", Some("web"), &format!("g{level}"), json!({})));
    }
    for level in 0..5 {
        let nested = member(&format!("g{}", level + 1), &format!("g{level}"));
        assert!(world.puts("alice", nested.clone()).is_ok(), "{level}");
        world = world.with(nested);
    }

    let deeper = world.puts("alice", member("g6", "g5")).unwrap_err();
    assert_eq!((deeper.code(), deeper.causes()[0].field.as_str()), (422, "spec.member"));
    assert!(deeper.message().contains("at most 5 deep"), "{deeper}");
    let circle = world.puts("alice", member("g0", "g3")).unwrap_err();
    assert!(circle.message().contains("a member of itself"), "{circle}");
}

#[test]
fn roles_do_not_inherit_in_circles_or_from_places_that_are_not_above() {
    let of = |name: &str, namespace: &str| json!([{"name": name, "namespace": namespace}]);
    let world = World::new()
        .with(bind(SYSTEM_NAMESPACE, "alice", "owner", user("alice")))
        .with(role("eng", "a", &[], json!([])))
        .with(role("eng", "b", &[], of("a", "eng")))
        .with(role("globex", "theirs", &["network.isocast.dev/*.*"], json!([])));

    let circle = world.puts("alice", role("eng", "a", &[], of("b", "eng"))).unwrap_err();
    assert_eq!(circle.causes()[0].message, "a role cannot inherit from itself");
    let foreign = world.puts("alice", role("shop", "x", &[], of("theirs", "globex"))).unwrap_err();
    assert_eq!(foreign.code(), 422);
    assert!(world.puts("alice", role("shop", "x", &[], of("b", "eng"))).is_ok());
    let unknown = world.puts("alice", role("shop", "x", &["a.b/pods.get"], json!([]))).unwrap_err();
    assert_eq!(unknown.causes()[0].field, "spec.includedPermissions[0]");
}

#[test]
fn a_role_grows_only_by_what_its_author_holds() {
    let world = World::new()
        .with(role("web", "helper", &["network.isocast.dev/anycastservices.get"], json!([])))
        .with(role(
            SYSTEM_NAMESPACE,
            "clerk",
            &["iam.isocast.dev/roles.*", "network.isocast.dev/anycastservices.list"],
            json!([]),
        ))
        .with(bind("web", "alice", "clerk", user("alice")));
    let with = |verb: &str| {
        let more = format!("network.isocast.dev/anycastservices.{verb}");
        role("web", "helper", &["network.isocast.dev/anycastservices.get", &more], json!([]))
    };

    assert!(world.puts("alice", with("list")).is_ok());
    assert_eq!(world.puts("alice", with("delete")).unwrap_err().code(), 403);
}

#[test]
fn the_roles_of_the_platform_are_not_changed() {
    let world = World::new().with(bind(SYSTEM_NAMESPACE, "alice", "owner", user("alice")));

    let refusal =
        world.puts("alice", role(SYSTEM_NAMESPACE, "viewer", &[], json!([]))).unwrap_err();

    assert_eq!(refusal.code(), 403);
}

#[test]
fn a_right_that_was_withdrawn_in_between_is_withdrawn() {
    let world = World::new();
    let service =
        Key::new(Resource::new("anycastservices", "network.isocast.dev"), Some("web"), "www");

    let refusal = world.writes("alice", Some(json!({})), &service).unwrap_err();

    assert_eq!(refusal.code(), 403);
    assert!(refusal.message().contains("any more"), "{refusal}");
}

#[test]
fn who_moves_a_container_may_remove_it_there_and_make_it_here() {
    let world = World::new()
        .with(bind("shop", "alice", "owner", user("alice")))
        .with(bind("eng", "bob", "owner", user("bob")))
        .with(bind("acme", "carol", "owner", user("carol")));
    let moved = project("shop", "Organization", "acme");

    for who in ["alice", "bob"] {
        assert_eq!(world.puts(who, moved.clone()).unwrap_err().code(), 403, "{who}");
    }
    assert!(world.puts("carol", moved).is_ok());
}

#[test]
fn a_moved_container_has_the_rights_of_where_it_is() {
    let mut world = World::new().with(bind("eng", "alice", "viewer", user("alice")));
    assert!(world.may("alice", "get", "shop"));

    world.put(project("shop", "Organization", "acme"));

    assert!(!world.may("alice", "get", "shop"));
}

#[test]
fn tokens_are_only_taken_away_by_hand() {
    let world = World::new().with(bind(SYSTEM_NAMESPACE, "alice", "owner", user("alice")));
    let mut forged = object("User", None, "bob", json!({}));
    forged["status"] = json!({"tokens": [{
        "id": "x", "hash": "00", "issuedAt": "2026-01-01T00:00:00Z",
        "expiresAt": "2036-01-01T00:00:00Z", "audiences": ["isocast"],
    }]});

    assert_eq!(world.puts("alice", forged.clone()).unwrap_err().code(), 403);
    let world = world.with(forged);
    assert!(world.puts("alice", object("User", None, "bob", json!({}))).is_ok());
}

#[test]
fn nobody_becomes_an_account_that_holds_more() {
    let spec = json!({"kind": "ServiceAccount", "name": "ci", "namespace": "web"});
    let world = World::new()
        .with(object("ServiceAccount", Some("web"), "ci", json!({})))
        .with(bind("acme", "ci", "editor", spec))
        .with(bind("web", "alice", "owner", user("alice")))
        .with(bind("acme", "bob", "owner", user("bob")));
    let ci = SubjectName::ServiceAccount("web".into(), "ci".into());
    let now = Timestamp::from_second(NOW).unwrap();
    let becomes = |who: &str| {
        let actor = Identity::Subject(Arc::new(bearer(who)));
        world.access.guard_impersonation(&actor, &ci, now)
    };

    assert_eq!(becomes("alice").unwrap_err().code(), 403);
    assert!(becomes("bob").is_ok());
}
