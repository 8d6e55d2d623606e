//! Whatever the tree, the roles and the bindings: every answer is what a slow model says, and nobody is
//! told of what they may not see: not by bodies, headers, counts, continue tokens, events or refusals.
//!
//! Each name and each content is a text of its own, so whatever an answer has of them is found.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod support;
#[path = "strangers/world.rs"]
mod world;

use std::fmt::Debug;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::{Method, StatusCode};
use proptest::{prelude::*, test_runner::TestCaseError};
use serde_json::{Value, json};
use support::{
    Api,
    accounts::{IAM, iam, user},
    client::{Answer, Client},
};
use tokio::runtime::Runtime;
use world::{
    Binding, GROUPS, Kind, OWN_ROLES, ROLES, USERS, What, World, any_world, container_name,
    content, late_name, map_name,
};

const RESOURCES: &str = "/apis/resourcemanager.isocast.dev/v1alpha1";
const SYSTEM: &str = "isocast-system";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

const CASES: u32 = 12;
/// A world is a control plane of its own: few are tried for a smaller one.
const SHRINKS: u32 = 40;

fn subject(number: usize) -> Value {
    match number.checked_sub(USERS) {
        None => user(&format!("u{number}")),
        Some(group) => json!({"kind": "Group", "name": format!("g{group}"), "namespace": SYSTEM}),
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Organization => "organizations",
        Kind::Folder => "folders",
        Kind::Project => "projects",
    }
}

fn maps_in(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn map(name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"text": text},
    })
}

/// Where the binding of a number is.
fn binding_path(binding: &Binding, number: usize) -> String {
    let place = binding.place.map_or_else(|| SYSTEM.to_owned(), container_name);
    format!("{IAM}/namespaces/{place}/policybindings/b{number}")
}

/// Makes it all, and connects its users.
async fn build(world: &World, api: &Api, admin: &mut Client) -> Vec<Client> {
    for at in world.all() {
        let (kind, above) = world.containers[at];
        let mut spec = json!({});
        if let Some(above) = above {
            let name = container_name(above);
            spec["parent"] = match kind {
                Kind::Organization => json!(name),
                _ => json!({"kind": format!("{:?}", world.containers[above].0), "name": name}),
            };
        }
        let object = json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": format!("{kind:?}"),
            "metadata": {"name": container_name(at)}, "spec": spec,
        });
        admin.create(&format!("{RESOURCES}/{}", plural(kind)), &object).await;
        for it in 0..world.maps[at] {
            let made = map(&map_name(at, it), &content(at, it));
            admin.create(&maps_in(&container_name(at)), &made).await;
        }
    }
    let within = |plural: &str, namespace: &str| format!("{IAM}/namespaces/{namespace}/{plural}");
    for (name, verbs, _) in &ROLES[OWN_ROLES] {
        let permissions: Vec<_> =
            verbs.iter().map(|verb| format!("core/configmaps.{verb}")).collect();
        let role = iam("Role", Some(SYSTEM), name, &json!({"includedPermissions": permissions}));
        admin.create(&within("roles", SYSTEM), &role).await;
    }
    let mut users = Vec::new();
    for number in 0..USERS {
        users.push(api.user(admin, &format!("u{number}")).await);
    }
    for number in 0..GROUPS {
        let group = iam("Group", Some(SYSTEM), &format!("g{number}"), &json!({}));
        admin.create(&within("groups", SYSTEM), &group).await;
    }
    for (who, group) in &world.memberships {
        let spec = json!({"group": format!("g{group}"), "member": subject(*who)});
        let it = iam("GroupMembership", Some(SYSTEM), &format!("m{who}x{group}"), &spec);
        admin.create(&within("groupmemberships", SYSTEM), &it).await;
    }
    for (number, it) in world.bindings.iter().enumerate() {
        let spec = json!({
            "role": {"name": ROLES[it.role].0, "namespace": SYSTEM},
            "subjects": [subject(it.subject)],
            "effect": if it.denies { "Deny" } else { "Allow" },
        });
        let binding = iam("PolicyBinding", None, &format!("b{number}"), &spec);
        let path = binding_path(it, number);
        let (collection, _) = path.rsplit_once('/').expect("a name");
        admin.create(collection, &binding).await;
    }
    users
}

// === what somebody is told ===

/// Somebody who asks, and what nobody may tell them.
struct Asking<'a> {
    world: &'a World,
    who: usize,
    client: &'a mut Client,
    hidden: Vec<String>,
}

type Verdict = Result<(), TestCaseError>;

fn same<T: PartialEq + Debug>(seen: &T, expected: &T, about: &str) -> Verdict {
    prop_assert!(seen == expected, "{about}: {seen:?} instead of {expected:?}");
    Ok(())
}

fn names(answer: &Answer) -> Vec<String> {
    let items = answer.body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |item: &Value, field: &str| item["metadata"][field].as_str().map(str::to_owned);
    let name = |item| match (text(item, "namespace"), text(item, "name").unwrap_or_default()) {
        (Some(namespace), name) => format!("{namespace}/{name}"),
        (None, name) => name,
    };
    items.iter().map(name).collect()
}

impl Asking<'_> {
    /// What the answer to a request has of what is hidden, but for what the request itself says.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<Answer, TestCaseError> {
        let answer =
            self.client.send(method.clone(), path, "application/json", body.to_owned()).await;
        let token = answer.body["metadata"]["continue"].as_str().unwrap_or_default();
        let token = URL_SAFE_NO_PAD.decode(token).expect("base64");
        let told =
            format!("{} {:?} {}", answer.body, answer.headers, String::from_utf8_lossy(&token));
        let asked = format!("{path} {body}");
        let leak = self.hidden.iter().find(|it| told.contains(*it) && !asked.contains(*it));
        prop_assert!(leak.is_none(), "{method} {path} by u{} tells {leak:?}: {told}", self.who);
        Ok(answer)
    }

    async fn get(&mut self, path: &str) -> Result<Answer, TestCaseError> {
        self.ask(Method::GET, path, "").await
    }

    /// What a right, or its absence, is answered with; strangers as if nothing were there.
    fn expected(&self, at: usize, may: bool, success: StatusCode) -> StatusCode {
        match (may, self.world.knows(self.who, at)) {
            (true, _) => success,
            (false, true) => StatusCode::FORBIDDEN,
            (false, false) => StatusCode::NOT_FOUND,
        }
    }

    /// Each container, by each request about what is in it.
    async fn containers(&mut self) -> Verdict {
        let (world, who) = (self.world, self.who);
        for at in world.all() {
            let name = container_name(at);
            let maps = maps_in(&name);
            let new = map("new", "").to_string();
            let mut requests = vec![
                (Method::GET, maps.clone(), "list", String::new(), StatusCode::OK),
                (Method::POST, format!("{maps}?dryRun=All"), "create", new, StatusCode::CREATED),
            ];
            for it in 0..world.maps[at] {
                let one = format!("{maps}/{}", map_name(at, it));
                requests.push((Method::GET, one.clone(), "get", String::new(), StatusCode::OK));
                let dry = format!("{one}?dryRun=All");
                requests.push((Method::DELETE, dry, "delete", String::new(), StatusCode::OK));
            }
            for (method, path, verb, body, success) in requests {
                let answer = self.ask(method.clone(), &path, &body).await?;
                let about = format!("{method} {path} by u{who}");
                let may = world.may(who, What::Maps, verb, at);
                same(&answer.code, &self.expected(at, may, success), &about)?;
                if verb == "list" && may {
                    same(&names(&answer), &world.maps_where(who, verb, |it| it == at), &about)?;
                }
                if answer.code == StatusCode::NOT_FOUND {
                    // Word for word what is said of what is not there.
                    let nowhere = self.ask(method, &path.replace(&name, "nowhere"), &body).await?;
                    let said = answer.body.to_string().replace(&name, "nowhere");
                    same(&said, &nowhere.body.to_string(), &about)?;
                }
                let attributes = json!({"namespace": name, "verb": verb, "resource": "configmaps"});
                let review = json!({"spec": {"resourceAttributes": attributes}}).to_string();
                let answer = self.ask(Method::POST, REVIEWS, &review).await?;
                same(&answer.body["status"]["allowed"], &json!(may), &about)?;
            }
            let (kind, _) = world.containers[at];
            let object = format!("{RESOURCES}/{}/{name}", plural(kind));
            let may = world.may(who, What::Containers, "get", at);
            let code = self.get(&object).await?.code;
            same(&code, &self.expected(at, may, StatusCode::OK), &object)?;
            let view = format!("/{}/{name}/api/v1/configmaps", plural(kind));
            let answer = self.get(&view).await?;
            let is_known = world.knows(who, at);
            let is_within = |it| is_known && world.chain(it).contains(&Some(at));
            same(&names(&answer), &world.maps_where(who, "list", is_within), &view)?;
            same(&(answer.code == StatusCode::NOT_FOUND), &!is_known, &view)?;
        }
        Ok(())
    }

    /// Everything everywhere, whole and page by page.
    async fn platform(&mut self) -> Verdict {
        let (world, who) = (self.world, self.who);
        for kind in [Kind::Organization, Kind::Folder, Kind::Project] {
            let path = format!("{RESOURCES}/{}", plural(kind));
            let visible = world.all().filter(|at| {
                world.containers[*at].0 == kind && world.may(who, What::Containers, "list", *at)
            });
            let visible: Vec<String> = visible.map(container_name).collect();
            same(&names(&self.get(&path).await?), &visible, &path)?;
        }
        let known: Vec<String> =
            world.all().filter(|at| world.knows(who, *at)).map(container_name).collect();
        let namespaces = names(&self.get("/api/v1/namespaces").await?);
        let namespaces: Vec<String> = namespaces.into_iter().filter(|it| it != SYSTEM).collect();
        same(&namespaces, &known, "namespaces")?;

        let seen = world.maps_where(who, "list", |_| true);
        let whole = self.get("/api/v1/configmaps").await?;
        same(&names(&whole), &seen, "all")?;
        let (mut paged, mut next) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/configmaps?limit=2&continue={next}");
            let page = self.get(&path).await?;
            paged.extend(names(&page));
            let metadata = &page.body["metadata"];
            let left = seen.len() - paged.len();
            let told = metadata["remainingItemCount"].as_u64().unwrap_or_default();
            same(&told, &(left as u64), "what is left")?;
            next = metadata["continue"].as_str().unwrap_or_default().to_owned();
            if next.is_empty() {
                break;
            }
        }
        same(&paged, &seen, "pages")
    }

    /// What happened since a revision: something in each container.
    async fn events(&self, api: &Api, revision: &str) -> Verdict {
        let (world, who) = (self.world, self.who);
        let path =
            format!("/api/v1/configmaps?watch=1&resourceVersion={revision}&timeoutSeconds=1");
        let mut told = Vec::new();
        let mut client = api.bearer(self.client.bearer.as_deref().expect("a token")).await;
        let answer = client.try_send(Method::GET, &path, "", "").await.expect("an answer");
        let is_open = answer.status() == StatusCode::OK;
        let mut lines = support::client::Lines::of(answer);
        while let Some(event) = lines.try_next().await.filter(|_| is_open) {
            let text = event.to_string();
            let leak = self.hidden.iter().find(|it| text.contains(*it));
            prop_assert!(leak.is_none(), "a watch by u{who} tells {leak:?}: {text}");
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            told.push((event["type"].as_str().unwrap_or_default().to_owned(), name));
        }
        let visible = world.all().filter(|at| world.may(who, What::Maps, "watch", *at));
        let expected: Vec<_> = visible
            .flat_map(|at| ["ADDED", "DELETED"].map(|it| (it.to_owned(), late_name(at))))
            .collect();
        same(&told, &expected, "events")
    }
}

async fn judge(mut world: World) -> Verdict {
    let api = Api::start();
    let mut admin = api.admin().await;
    let mut users = build(&world, &api, &mut admin).await;
    let listed = admin.get("/api/v1/configmaps").await;
    let revision = listed.body["metadata"]["resourceVersion"].as_str().expect("a revision");
    for at in world.all() {
        let maps = maps_in(&container_name(at));
        admin.create(&maps, &map(&late_name(at), "")).await;
        admin.delete(&format!("{maps}/{}", late_name(at)), &json!({})).await;
    }
    let mut everybody = ask_all(&world, &mut users).await?;
    let events = everybody.iter_mut().map(|asking| asking.events(&api, revision));
    futures::future::try_join_all(events).await?;

    // And once somebody has one binding less.
    if let Some(binding) = world.bindings.pop() {
        let path = binding_path(&binding, world.bindings.len());
        assert_eq!(admin.delete(&path, &json!({})).await.code, StatusCode::OK);
        ask_all(&world, &mut users).await?;
    }
    Ok(())
}

async fn ask_all<'a>(
    world: &'a World,
    users: &'a mut [Client],
) -> Result<Vec<Asking<'a>>, TestCaseError> {
    let mut everybody = Vec::new();
    for (who, client) in users.iter_mut().enumerate() {
        let mut asking = Asking { world, who, client, hidden: world.hidden_from(who) };
        asking.containers().await?;
        asking.platform().await?;
        everybody.push(asking);
    }
    Ok(everybody)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        max_shrink_iters: SHRINKS,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn everybody_is_told_what_they_may_see_and_nothing_of_strangers(world in any_world()) {
        Runtime::new().expect("a runtime").block_on(judge(world))?;
    }
}
