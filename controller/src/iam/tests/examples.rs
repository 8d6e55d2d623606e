//! Rights, the guard and tokens by example.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        access::{Access, Asked},
        decision::Reach,
    },
    *,
};
use crate::{
    admission::{Admission, ProposedChange},
    authz::Identity,
    error::ApiError,
    managers::testing::key_of,
    store::{Key, Object, Resource, Revision, View},
};

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
            document: Arc::new(value.clone().into()),
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
