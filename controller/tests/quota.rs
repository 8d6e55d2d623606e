//! Quota on the wire and by kubectl: what fits, what does not, who may grant, and what is seen of it.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};
use support::{
    Api,
    client::{Client, Credentials, Lines},
};
use tokio::time::timeout;

const NETWORK: &str = "/apis/network.isocast.dev/v1alpha1";
const QUOTA: &str = "/apis/quota.isocast.dev/v1alpha1";
const RESOURCES: &str = "/apis/resourcemanager.isocast.dev/v1alpha1";

fn container(kind: &str, name: &str, parent: Option<&str>) -> Value {
    let spec = match parent {
        None => json!({}),
        Some(parent) => json!({"parent": {"kind": "Organization", "name": parent}}),
    };
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": spec,
    })
}

fn pool(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
        "metadata": {"name": name, "namespace": namespace}, "spec": {},
    })
}

fn registration(kind: (&str, &str), name: &str, default: Option<u64>) -> Value {
    let (group, kind) = kind;
    let mut spec = json!({
        "consumerType": {"kind": "Organization"}, "type": "Entity",
        "resourceType": format!("{group}/{name}"), "baseUnit": "one", "displayUnit": "ones",
        "claimingResources": [{"apiGroup": group, "kind": kind}],
    });
    if let Some(limit) = default {
        spec["defaultLimit"] = json!(limit);
    }
    json!({
        "apiVersion": "quota.isocast.dev/v1alpha1", "kind": "ResourceRegistration",
        "metadata": {"name": name}, "spec": spec,
    })
}

fn grant(namespace: &str, amount: u64) -> Value {
    json!({
        "apiVersion": "quota.isocast.dev/v1alpha1", "kind": "ResourceGrant",
        "metadata": {"name": "plan", "namespace": namespace},
        "spec": {"allowances": [
            {"resourceType": "network.isocast.dev/pools", "buckets": [{"amount": amount}]},
        ]},
    })
}

fn pools_in(namespace: &str) -> String {
    format!("{NETWORK}/namespaces/{namespace}/backendpools")
}

fn grants_in(namespace: &str) -> String {
    format!("{QUOTA}/namespaces/{namespace}/resourcegrants")
}

fn bucket_of(namespace: &str) -> String {
    format!("{QUOTA}/namespaces/{namespace}/allowancebuckets/pools")
}

/// Two tenants, with 100 pools each by default.
async fn platform() -> (Api, Client) {
    let api = Api::start();
    let mut admin = api.admin().await;
    for (plural, value) in [
        ("organizations", container("Organization", "acme", None)),
        ("organizations", container("Organization", "globex", None)),
        ("projects", container("Project", "web", Some("acme"))),
        ("projects", container("Project", "shop", Some("globex"))),
    ] {
        admin.create(&format!("{RESOURCES}/{plural}"), &value).await;
    }
    let pools = registration(("network.isocast.dev", "BackendPool"), "pools", Some(100));
    admin.create(&format!("{QUOTA}/resourceregistrations"), &pools).await;
    (api, admin)
}

/// A user with a role somewhere.
async fn bound(admin: &mut Client, api: &Api, role: &str, place: &str) -> Client {
    api.user_with(admin, &format!("{role}-{place}"), role, place).await
}

#[tokio::test]
async fn fifty_at_once_with_room_for_ten_are_exactly_ten() {
    let (api, mut admin) = platform().await;
    admin.create(&grants_in("acme"), &grant("acme", 15)).await;
    for number in 0..5 {
        admin.create(&pools_in("web"), &pool("web", &format!("first-{number}"))).await;
    }
    let credentials = Credentials::load(api.kubeconfig());
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..50 {
        let mut client = credentials.connect().await.expect("gets in");
        writers.spawn(async move {
            client.post(&pools_in("web"), &pool("web", &format!("p-{number}"))).await.code
        });
    }

    let codes = writers.join_all().await;

    let made = codes.iter().filter(|code| **code == StatusCode::CREATED).count();
    let refused = codes.iter().filter(|code| **code == StatusCode::FORBIDDEN).count();
    assert_eq!((made, refused), (10, 40));
    let status = admin.get(&bucket_of("acme")).await.body["status"].clone();
    assert_eq!((&status["allocated"], &status["claimCount"]), (&json!(15), &json!(15)));

    admin.create(&pools_in("shop"), &pool("shop", "a")).await;
    admin.delete(&format!("{}/first-0", pools_in("web")), &json!({})).await;
    admin.create(&pools_in("web"), &pool("web", "again")).await;
}

#[tokio::test]
async fn a_refusal_tells_figures_to_whom_may_see_them() {
    let (api, mut admin) = platform().await;
    admin.create(&grants_in("acme"), &grant("acme", 0)).await;
    let mut editor = bound(&mut admin, &api, "editor", "web").await;

    let refusal = admin.post(&pools_in("web"), &pool("web", "a")).await;
    assert_eq!(
        (refusal.code, &refusal.body["reason"]),
        (StatusCode::FORBIDDEN, &json!("Forbidden"))
    );
    let cause = &refusal.body["details"]["causes"][0];
    assert_eq!(cause["reason"], "QuotaExceeded");
    let told = cause["message"].as_str().expect("a text");
    assert!(told.contains("limited: network.isocast.dev/pools=0: organization \"acme\""), "{told}");

    let refusal = editor.post(&pools_in("web"), &pool("web", "a")).await;
    let told = refusal.body["message"].as_str().expect("a text");
    assert_eq!(refusal.code, StatusCode::FORBIDDEN);
    assert!(told.contains("a container above has no room") && !told.contains("acme"), "{told}");
}

#[tokio::test]
async fn a_container_cannot_grant_itself_and_those_above_it_can() {
    let (api, mut admin) = platform().await;
    let mut of_acme = bound(&mut admin, &api, "admin", "acme").await;
    let mut of_web = bound(&mut admin, &api, "admin", "web").await;
    let mut of_all = bound(&mut admin, &api, "admin", "isocast-system").await;

    for (client, place) in [(&mut of_web, "web"), (&mut of_acme, "acme")] {
        let refusal = client.post(&grants_in(place), &grant(place, 1000)).await;
        assert_eq!(refusal.code, StatusCode::FORBIDDEN, "{refusal:?}");
        let told = refusal.body["message"].as_str().expect("a text");
        assert!(told.contains("in the container above it"), "{told}");
    }
    of_acme.create(&grants_in("web"), &grant("web", 1)).await;
    of_all.create(&grants_in("acme"), &grant("acme", 2)).await;

    let plan = format!("{}/plan", grants_in("web"));
    let more = json!({"spec": grant("web", 1000)["spec"]});
    assert_eq!(of_web.merge(&plan, &more).await.code, StatusCode::FORBIDDEN);
    assert_eq!(of_web.delete(&plan, &json!({})).await.code, StatusCode::FORBIDDEN);
    assert_eq!(of_web.get(&plan).await.code, StatusCode::OK, "it may be read");
    assert_eq!(of_acme.merge(&plan, &more).await.code, StatusCode::OK);
    let registration = registration(("network.isocast.dev", "BackendPool"), "x", None);
    let refusal = of_acme.post(&format!("{QUOTA}/resourceregistrations"), &registration).await;
    assert_eq!(refusal.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_rehearsal_says_what_it_would_use_and_uses_nothing() {
    let (_api, mut admin) = platform().await;

    let path = format!("{}?dryRun=All", pools_in("web"));
    let answer = admin.create(&path, &pool("web", "a")).await;

    let warnings: Vec<&str> =
        answer.headers.get_all("warning").iter().filter_map(|it| it.to_str().ok()).collect();
    let expected = r#"299 - "would use network.isocast.dev/pools: 1 of 100 in \"acme\"""#;
    assert_eq!(warnings, [expected]);
    assert_eq!(admin.get(&bucket_of("acme")).await.body["status"]["allocated"], 0);
}

#[tokio::test]
async fn buckets_are_watched_and_cannot_be_written() {
    let (api, mut admin) = platform().await;
    let connect =
        || async { Credentials::load(api.kubeconfig()).connect().await.expect("gets in") };
    let buckets = format!("{QUOTA}/namespaces/acme/allowancebuckets");
    let mut watch = connect().await.watch(&format!("{buckets}?watch=1")).await;
    let first = watch.next().await.expect("what exists");
    assert_eq!(
        (&first["type"], &first["object"]["status"]["limit"]),
        (&json!("ADDED"), &json!(100))
    );

    let made = admin.create(&pools_in("web"), &pool("web", "a")).await;

    let change = timeout(Duration::from_secs(10), watch.next()).await.expect("soon");
    let change = change.expect("an event");
    assert_eq!(change["type"], "MODIFIED");
    assert_eq!(change["object"]["status"]["allocated"], 1);
    let revision = |object: &Value| {
        let version = object["metadata"]["resourceVersion"].as_str().expect("text");
        version.parse::<u64>().expect("a number") / 1000
    };
    assert_eq!(revision(&change["object"]), revision(&made.body), "with the object, not after it");

    let refusal = admin.merge(&bucket_of("acme"), &json!({"status": {"allocated": 0}})).await;
    assert_eq!(refusal.code, StatusCode::METHOD_NOT_ALLOWED);
    let told = refusal.body["message"].as_str().expect("a text");
    assert!(told.contains("derived by the platform"), "{told}");
    // A container that only has buckets is empty.
    let gone = admin.delete(&format!("{RESOURCES}/projects/shop"), &json!({})).await;
    assert_eq!(gone.code, StatusCode::OK);
    let gone = admin.delete(&format!("{RESOURCES}/organizations/globex"), &json!({})).await;
    assert_eq!(gone.code, StatusCode::OK, "{gone:?}");
    assert_eq!(admin.get(&bucket_of("globex")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_grant_that_ends_lowers_the_bucket_by_itself() {
    let (api, mut admin) = platform().await;
    let mut promotion = grant("acme", 2);
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    promotion["spec"]["expiresAt"] = json!(end.to_string());
    admin.create(&grants_in("acme"), &promotion).await;
    for name in ["a", "b"] {
        admin.create(&pools_in("web"), &pool("web", name)).await;
    }
    let connect = Credentials::load(api.kubeconfig()).connect().await.expect("gets in");
    let buckets = format!("{QUOTA}/namespaces/acme/allowancebuckets");
    let mut watch = connect.watch(&format!("{buckets}?watch=1")).await;

    let lowered = async {
        loop {
            let event = watch.next().await.expect("an event");
            let status = event["object"]["status"].clone();
            // The default, which the grant was instead of.
            if status["limit"] == 100 {
                return status;
            }
        }
    };
    let status = timeout(Duration::from_secs(20), lowered).await.expect("it ends");

    assert_eq!((&status["allocated"], &status["grantCount"]), (&json!(2), &json!(0)));
    let said = admin.get(&format!("{}/plan", grants_in("acme"))).await.body;
    assert_eq!(said["status"]["conditions"][0]["reason"], "Ended", "{said}");
}

/// The next event but for those of what the fleet says of the object itself.
async fn next_but_modified(watch: &mut Lines) -> Value {
    loop {
        let event = timeout(Duration::from_secs(10), watch.next()).await.expect("soon");
        let event = event.expect("an event");
        if event["type"] != "MODIFIED" {
            return event;
        }
    }
}

#[tokio::test]
async fn claims_come_and_go_with_their_objects() {
    let (api, mut admin) = platform().await;
    let projects = registration(("resourcemanager.isocast.dev", "Project"), "projects", None);
    admin.create(&format!("{QUOTA}/resourceregistrations"), &projects).await;
    let claims = format!("{QUOTA}/namespaces/web/resourceclaims");
    let watcher = Credentials::load(api.kubeconfig()).connect().await.expect("gets in");
    let mut watch = watcher.watch(&format!("{claims}?watch=1")).await;
    let made = admin.create(&pools_in("web"), &pool("web", "a")).await;
    admin.create(&pools_in("shop"), &pool("shop", "b")).await;

    let name = "backendpools.network.isocast.dev.a";
    let claim = admin.get(&format!("{claims}/{name}")).await;
    assert_eq!(claim.code, StatusCode::OK, "{claim:?}");
    assert_eq!(claim.body["spec"]["resourceRef"]["uid"], made.body["metadata"]["uid"]);
    assert_eq!(claim.body["spec"]["consumerRef"]["kind"], "Project");
    let request = json!([{"resourceType": "network.isocast.dev/pools", "amount": 1}]);
    assert_eq!(claim.body["spec"]["requests"], request);
    let event = next_but_modified(&mut watch).await;
    assert_eq!(event["type"], "ADDED");
    for part in ["spec", "status"] {
        assert_eq!(event["object"][part], claim.body[part]);
    }

    admin.delete(&format!("{}/a", pools_in("web")), &json!({})).await;
    assert_eq!(next_but_modified(&mut watch).await["type"], "DELETED");
    assert_eq!(admin.get(&format!("{claims}/{name}")).await.code, StatusCode::NOT_FOUND);

    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("a list").iter();
        let text = |it: &Value, field: &str| it["metadata"][field].as_str().map(str::to_owned);
        let named = items.filter_map(|it| Some((text(it, "namespace")?, text(it, "name")?)));
        named.map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    };
    let all = admin.get(&format!("{QUOTA}/resourceclaims")).await;
    let expected = [
        "shop/backendpools.network.isocast.dev.b",
        "globex/projects.resourcemanager.isocast.dev.shop",
        "acme/projects.resourcemanager.isocast.dev.web",
    ];
    assert_eq!(names(&all.body), expected);
    let mut viewer = bound(&mut admin, &api, "viewer", "acme").await;
    let seen = viewer.get(&format!("{QUOTA}/resourceclaims")).await;
    assert_eq!(names(&seen.body), expected[2..], "of the own tenant alone");

    // With another registration they are other claims.
    let anew = registration(("network.isocast.dev", "AnycastService"), "services", None);
    admin.create(&format!("{QUOTA}/resourceregistrations"), &anew).await;
    assert_eq!(next_but_modified(&mut watch).await["object"]["code"], 410);
}

#[tokio::test]
async fn claims_are_listed_page_by_page_as_they_were_at_the_first_and_as_far_as_they_are_seen() {
    let (api, mut admin) = platform().await;
    let projects = registration(("resourcemanager.isocast.dev", "Project"), "projects", None);
    admin.create(&format!("{QUOTA}/resourceregistrations"), &projects).await;
    for number in 0..5 {
        for project in ["shop", "web"] {
            let name = format!("p{number}");
            admin.create(&pools_in(project), &pool(project, &name)).await;
        }
    }
    let mut viewer = bound(&mut admin, &api, "viewer", "acme").await;
    let claims = format!("{QUOTA}/resourceclaims");
    for (client, count) in [(&mut viewer, 6), (&mut admin, 12)] {
        let whole = client.get(&claims).await.body;
        let items = whole["items"].as_array().expect("a list").clone();
        assert_eq!(items.len(), count);

        let (mut paged, mut next, mut revision) = (Vec::new(), String::new(), None);
        for page in 0.. {
            let answer = client.get(&format!("{claims}?limit=4&continue={next}")).await;
            assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
            let its = answer.body["metadata"]["resourceVersion"].clone();
            assert_eq!(*revision.get_or_insert_with(|| its.clone()), its, "one state");
            paged.extend(answer.body["items"].as_array().expect("a list").clone());
            let made = pool("web", &format!("later-{count}-{page}"));
            client.post(&pools_in("web"), &made).await;
            next = answer.body["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if next.is_empty() {
                break;
            }
        }
        // But for what the fleet has said of them meanwhile.
        let about = |all: &[Value]| all.iter().map(|it| it["spec"].clone()).collect::<Vec<_>>();
        assert_eq!(about(&paged), about(&items));
    }
    let of_web = format!("{QUOTA}/namespaces/web/resourceclaims?limit=2");
    let page = viewer.get(&of_web).await.body;
    assert_eq!(page["items"].as_array().expect("a list").len(), 2);
    let next = page["metadata"]["continue"].as_str().expect("there is more").to_owned();
    let rest = viewer.get(&format!("{of_web}&continue={next}")).await.body;
    assert_eq!(rest["items"][0]["metadata"]["name"], "backendpools.network.isocast.dev.later-12-2");
}

#[tokio::test]
async fn what_is_counted_is_proved_and_said() {
    let (api, mut admin) = platform().await;
    admin.create(&pools_in("web"), &pool("web", "a")).await;
    let path = format!("{QUOTA}/resourceregistrations/pools");
    let active = admin.get(&path).await.body["status"]["conditions"][0].clone();
    assert_eq!((&active["type"], &active["status"]), (&json!("Active"), &json!("True")));

    let table = api.kubectl(&["get", "allowancebuckets", "-A"]).expect_ok().out;
    let row = table.lines().find(|line| line.starts_with("acme")).expect("acme has one");
    let cells: Vec<&str> = row.split_whitespace().take(6).collect();
    assert_eq!(cells, ["acme", "pools", "network.isocast.dev/pools", "100", "1", "99"]);
    let described = api.kubectl(&["describe", "rclaim", "-n", "web"]).expect_ok().out;
    assert!(described.contains("Allocated Amount:"), "{described}");
    assert!(described.contains("network.isocast.dev/pools"), "{described}");
}

/// A platform that counts the writes of pools, and how many `tenants` may do a second.
async fn paced(tenants: u64) -> (Api, Client) {
    let (api, mut admin) = platform().await;
    let mut writes = registration(("network.isocast.dev", "BackendPool"), "writes", Some(tenants));
    writes["spec"]["type"] = json!("Rate");
    admin.create(&format!("{QUOTA}/resourceregistrations"), &writes).await;
    (api, admin)
}

#[tokio::test]
async fn writes_come_as_fast_as_was_granted_and_no_faster() {
    let (api, mut admin) = paced(5).await;
    let mut of_web = bound(&mut admin, &api, "editor", "web").await;
    let mut of_shop = bound(&mut admin, &api, "editor", "shop").await;

    let started = Instant::now();
    let mut made = 0;
    let refusal = loop {
        let answer = of_web.post(&pools_in("web"), &pool("web", &format!("p-{made}"))).await;
        if answer.code != StatusCode::CREATED {
            break answer;
        }
        made += 1;
    };
    let most = started.elapsed().as_secs_f64().mul_add(5.0, 5.0);
    assert!((5.0..=most).contains(&f64::from(made)), "{made} of {most}");
    assert_eq!(refusal.code, StatusCode::TOO_MANY_REQUESTS, "{refusal:?}");
    assert_eq!(refusal.headers["retry-after"], "1");
    assert_eq!(refusal.body["details"]["retryAfterSeconds"], 1);
    assert_eq!(refusal.body["details"]["causes"][0]["reason"], "QuotaExceeded");
    let told = refusal.body["message"].as_str().expect("a text");
    assert!(told.contains("not yours to see") && !told.contains("acme"), "{told}");

    assert_eq!(of_web.get(&pools_in("web")).await.code, StatusCode::OK, "reads do not count");
    of_shop.create(&pools_in("shop"), &pool("shop", "p")).await;
    admin.create(&pools_in("web"), &pool("web", "by-who-runs-the-platform")).await;
}

#[tokio::test]
async fn only_who_may_do_it_uses_up_what_a_tenant_may_do() {
    let (api, mut admin) = paced(0).await;
    let mut of_web = bound(&mut admin, &api, "editor", "web").await;
    let mut viewer = bound(&mut admin, &api, "viewer", "web").await;
    let mut stranger = api.user(&mut admin, "stranger").await;

    let mut codes = Vec::new();
    for client in [&mut of_web, &mut viewer, &mut stranger] {
        codes.push(client.post(&pools_in("web"), &pool("web", "a")).await.code.as_u16());
    }
    assert_eq!(codes, [429, 403, 404], "who may not is told that, and counts for nothing");

    let plan = json!({
        "apiVersion": "quota.isocast.dev/v1alpha1", "kind": "ResourceGrant",
        "metadata": {"name": "faster", "namespace": "acme"},
        "spec": {"allowances": [
            {"resourceType": "network.isocast.dev/writes", "buckets": [{"amount": 100}]},
        ]},
    });
    admin.create(&grants_in("acme"), &plan).await;
    of_web.create(&pools_in("web"), &pool("web", "a")).await;
    let bucket = admin.get(&format!("{QUOTA}/namespaces/acme/allowancebuckets/writes")).await.body;
    assert_eq!(bucket["status"]["limit"], 100);
    assert_eq!(bucket["status"]["allocated"], 0, "what passes is not held");
}

#[tokio::test]
async fn containers_are_made_as_fast_as_the_one_above_may() {
    let (api, mut admin) = platform().await;
    let group = "resourcemanager.isocast.dev";
    let mut made = registration((group, "Project"), "projects", Some(0));
    made["spec"]["type"] = json!("Rate");
    made["spec"]["claimingResources"][0]["verbs"] = json!(["create", "list"]);
    admin.create(&format!("{QUOTA}/resourceregistrations"), &made).await;
    let mut of_acme = bound(&mut admin, &api, "admin", "acme").await;

    let projects = format!("{RESOURCES}/projects");
    let refusal = of_acme.post(&projects, &container("Project", "more", Some("acme"))).await;
    assert_eq!(refusal.code, StatusCode::TOO_MANY_REQUESTS, "{refusal:?}");
    let told = refusal.body["message"].as_str().expect("a text");
    assert!(told.contains("organization \"acme\" may have 0 a second"), "{told}");
    let malformed = of_acme.post(&projects, &json!([])).await;
    assert_eq!(malformed.code, StatusCode::BAD_REQUEST, "{malformed:?}");

    assert_eq!(of_acme.get(&projects).await.code, StatusCode::OK, "it counts for the platform");
    let in_view = format!("/organizations/acme{projects}");
    assert_eq!(of_acme.get(&in_view).await.code, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(of_acme.get(&format!("{projects}/web")).await.code, StatusCode::OK);
    assert_eq!(of_acme.delete(&format!("{projects}/web"), &json!({})).await.code, StatusCode::OK);
}
