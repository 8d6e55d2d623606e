//! Every route by every default role in every relation to what it is about, against a golden table.
//!
//! A kind or subresource that is added has rows that the table lacks, and fails until somebody looked
//! at them: `INSTA_UPDATE=always cargo test -p isocast-controller --test access_table`, then read the
//! difference.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, SystemTime},
};

use hyper::{Method, StatusCode};
use isocast_api::registry::{KindDescriptor, Scope, kinds};
use isocast_controller::pki::Pki;
use serde_json::{Value, json};
use support::{
    Api,
    client::{Answer, Client, Credentials},
};

const ROLES: &[&str] = &["viewer", "editor", "admin", "network-operator", "security-auditor"];

/// Where the role is bound, seen from the folder eng, which is in acme and has the project shop.
const RELATIONS: &[(&str, &str)] = &[
    ("own", "eng"),
    ("parent", "acme"),
    ("platform", "isocast-system"),
    ("child", "shop"),
    ("sibling", "ops"),
    ("stranger", "globex"),
];

/// Subresources besides status: (plural, name, whether it is posted to).
const EXTENSIONS: &[(&str, &str, bool)] = &[
    ("nodes", "token", true),
    ("nodes", "agent/v1/status", false),
    ("bgppolicies", "preview", true),
    ("serviceaccounts", "token", true),
    ("users", "token", true),
    ("users", "certificate", true),
];

/// What is neither a kind nor a review. Whoever shows nothing may ask the first four, and nothing else.
const SERVICES: &[&str] = &[
    "/",
    "/healthz",
    "/livez",
    "/readyz",
    "/version",
    "/api",
    "/api/v1",
    "/api/v1/namespaces",
    "/api/v1/namespaces/eng",
    "/apis",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/audit.isocast.dev/v1alpha1/auditchain",
    "/apis/audit.isocast.dev/v1alpha1/auditrecords",
    "/apis/iam.isocast.dev",
    "/apis/iam.isocast.dev/v1alpha1",
    "/backup",
    "/folders/eng/api",
    "/folders/eng/api/v1/configmaps",
    "/folders/eng/apis/audit.isocast.dev/v1alpha1/auditrecords",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/apis/iam.isocast.dev/v1alpha1",
    "/organizations/acme/api/v1/configmaps",
    "/projects/shop/api/v1/configmaps",
];
const OPEN: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

fn services() -> impl Iterator<Item = Route> {
    SERVICES.iter().map(|path| {
        // A view is hidden as the container that it is of.
        let plural = path.split('/').nth(1).unwrap_or_default().to_owned();
        Route {
            label: format!("GET {path}"),
            method: Method::GET,
            path: (*path).to_owned(),
            content_type: "",
            body: String::new(),
            plural,
        }
    })
}

/// Every subresource that discovery shows has its row.
async fn expect_subresources_listed(admin: &mut Client) {
    let mut versions = vec!["/api/v1".to_owned()];
    let groups = admin.get("/apis").await.body["groups"].clone();
    for group in groups.as_array().expect("groups") {
        let version = group["preferredVersion"]["groupVersion"].as_str().expect("a version");
        versions.push(format!("/apis/{version}"));
    }
    for version in versions {
        let resources = admin.get(&version).await.body["resources"].clone();
        for resource in resources.as_array().expect("resources") {
            let name = resource["name"].as_str().expect("a name");
            let Some((plural, subresource)) = name.split_once('/') else { continue };
            let is_listed = EXTENSIONS.iter().any(|(of, name, _)| {
                (*of, name.split('/').next()) == (plural, subresource.split('/').next())
            });
            assert!(subresource == "status" || is_listed, "{version}: {name} has no row");
        }
    }
}

/// A request to make.
struct Route {
    label: String,
    method: Method,
    path: String,
    content_type: &'static str,
    body: String,
    plural: String,
}

fn container(kind: &str, name: &str, parent: Option<(&str, &str)>) -> Value {
    let spec = match parent {
        None => json!({}),
        Some((kind, name)) => json!({"parent": {"kind": kind, "name": name}}),
    };
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": spec,
    })
}

/// The nodes whose agents ask, and where they are: what requests are about is the first one.
const NODES: &[(&str, &str)] = &[("probe", "ams"), ("elsewhere", "fra")];
/// What only whoever reads a node or a datacenter can know.
const ROUTER_ID: &str = "192.0.2.77";
const REGION: &str = "eu-hidden-1";

fn network(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": spec,
    })
}

/// The object of a kind that requests are about: containers, nodes and their datacenter exist, nothing
/// else does.
fn target(kind: &KindDescriptor) -> &'static str {
    match kind.kind {
        "Organization" => "acme",
        "Folder" => "eng",
        "Project" => "shop",
        "Datacenter" => "ams",
        _ => "probe",
    }
}

fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for kind in kinds() {
        let mut collection = kind.path();
        let everywhere = format!("{collection}/{}", kind.plural);
        if kind.scope == Scope::Namespaced {
            collection.push_str("/namespaces/eng");
        }
        let collection = format!("{collection}/{}", kind.plural);
        let object = format!("{collection}/{}", target(kind));
        let mut new = json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": "fresh"}, "spec": {},
        });
        if ["Folder", "Project"].contains(&kind.kind) {
            new = container(kind.kind, "fresh", Some(("Folder", "eng")));
        }
        if kind.kind == "Organization" {
            new["spec"]["parent"] = json!("acme");
        }
        if kind.kind == "ResourceGrant" {
            // Well-formed: what a container may have is decided above it, and that is asked last.
            let allowance = json!({"resourceType": "test/things", "buckets": [{"amount": 1}]});
            new["spec"]["allowances"] = json!([allowance]);
        }
        let mut add = |label: String, method: Method, path: String, content_type, body: String| {
            let plural = kind.plural.to_owned();
            routes.push(Route { label, method, path, content_type, body, plural });
        };
        let label = |verb: &str| format!("{verb} {}", kind.plural);
        let (none, merge) = (String::new(), "application/merge-patch+json");
        let dry = |path: &str| format!("{path}?dryRun=All");
        add(label("get"), Method::GET, object.clone(), "", none.clone());
        add(label("list"), Method::GET, collection.clone(), "", none.clone());
        // From a revision that is not there yet: an answer, and no stream.
        let watch = format!("{collection}?watch=1&resourceVersion=999999999999");
        add(label("watch"), Method::GET, watch, "", none.clone());
        if kind.scope == Scope::Namespaced {
            add(label("list all"), Method::GET, everywhere, "", none.clone());
        }
        add(label("create"), Method::POST, dry(&collection), "application/json", new.to_string());
        add(label("update"), Method::PUT, dry(&object), "application/json", new.to_string());
        add(label("patch"), Method::PATCH, dry(&object), merge, "{}".to_owned());
        let apply = format!("{object}?dryRun=All&fieldManager=x");
        let mut applied = new.clone();
        applied["metadata"]["name"] = json!(target(kind));
        let apply_type = "application/apply-patch+yaml";
        add(label("apply"), Method::PATCH, apply, apply_type, applied.to_string());
        add(label("delete"), Method::DELETE, dry(&object), "application/json", none.clone());
        add(
            label("delete all"),
            Method::DELETE,
            dry(&collection),
            "application/json",
            none.clone(),
        );
        if !kind.built_in {
            let status = format!("{object}/status");
            add(label("get status of"), Method::GET, status.clone(), "", none.clone());
            add(label("patch status of"), Method::PATCH, dry(&status), merge, "{}".to_owned());
        }
        for (_, name, posted) in EXTENSIONS.iter().filter(|(plural, ..)| *plural == kind.plural) {
            let method = if *posted { Method::POST } else { Method::GET };
            let verb = label(name.split('/').next().unwrap_or(name));
            add(verb, method, format!("{object}/{name}"), "application/json", none.clone());
        }
    }
    routes
}

/// What discovery shows that can only be created: reviews, which are no kinds.
async fn reviews(admin: &mut Client) -> Vec<Route> {
    let mut routes = Vec::new();
    let groups = admin.get("/apis").await.body["groups"].clone();
    for group in groups.as_array().expect("groups") {
        let version = group["preferredVersion"]["groupVersion"].as_str().expect("a version");
        let resources = admin.get(&format!("/apis/{version}")).await.body["resources"].clone();
        let resources = resources.as_array().expect("resources").iter();
        for resource in resources.filter(|resource| resource["verbs"] == json!(["create"])) {
            let plural = resource["name"].as_str().expect("a name").to_owned();
            if plural.contains('/') {
                // A subresource: it has its row with its kind.
                continue;
            }
            let mut path = format!("/apis/{version}");
            let mut asked = json!({"verb": "get", "resource": "nodes"});
            if resource["namespaced"] == true {
                path.push_str("/namespaces/eng");
                asked["namespace"] = json!("eng");
            }
            // About somebody else, where a review is about somebody.
            let spec = json!({"user": "viewer-eng", "resourceAttributes": asked});
            routes.push(Route {
                label: format!("create {plural}"),
                method: Method::POST,
                path: format!("{path}/{plural}"),
                content_type: "application/json",
                body: json!({"spec": spec}).to_string(),
                plural,
            });
        }
    }
    routes
}

/// `y`: it was let through (and perhaps failed then), `-`: refused by name, `.`: not there,
/// `x`: who are you?, `r`: nobody can.
fn verdict(route: &Route, answer: &Answer) -> char {
    let details = &answer.body["details"];
    match answer.code {
        StatusCode::UNAUTHORIZED => 'x',
        StatusCode::METHOD_NOT_ALLOWED => 'r',
        StatusCode::FORBIDDEN => '-',
        StatusCode::NOT_FOUND if details["kind"] == "namespaces" => '.',
        StatusCode::NOT_FOUND
            if ["organizations", "folders", "projects"].contains(&&*route.plural) =>
        {
            '.'
        }
        _ => 'y',
    }
}

async fn answer(client: &mut Client, route: &Route) -> Answer {
    let body = route.body.clone();
    client.send(route.method.clone(), &route.path, route.content_type, body).await
}

async fn ask(client: &mut Client, route: &Route) -> char {
    verdict(route, &answer(client, route).await)
}

/// What agents get: the same of one that it is about as of one of another datacenter, and not a word of
/// either. What is theirs comes over the channel.
async fn ask_as_agents(agents: &mut [Client; 2], route: &Route) -> [char; 2] {
    let [own, other] = agents;
    let answers = [answer(own, route).await, answer(other, route).await];
    for Answer { body, .. } in &answers {
        let said = body.to_string();
        assert!(!said.contains(ROUTER_ID) && !said.contains(REGION), "{}: {said}", route.label);
    }
    answers.map(|answer| verdict(route, &answer))
}

/// Who shows the certificate of this node.
async fn agent(api: &Api, name: &str) -> Client {
    let pki = Pki::open(&api.folder.path().join("data/pki"), SystemTime::now()).expect("made");
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    let chain = pki.issue_node(request.der(), name, "uid", hour, now).expect("issued");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let credentials = Credentials::load(api.kubeconfig()).with_identity(chain, key);
    credentials.connect().await.expect("TLS lets it in")
}

#[tokio::test]
async fn every_route_answers_every_role_in_every_relation_as_the_table_says() {
    // Each waits for its turn while the others ask, which is long on a slow machine.
    let patience = Duration::from_secs(3600);
    let api = Api::start_with(|options| options.client_patience = patience.into());
    let mut admin = api.admin().await;
    for (plural, value) in [
        ("organizations", container("Organization", "acme", None)),
        ("organizations", container("Organization", "globex", None)),
        ("folders", container("Folder", "eng", Some(("Organization", "acme")))),
        ("folders", container("Folder", "ops", Some(("Organization", "acme")))),
        ("projects", container("Project", "shop", Some(("Folder", "eng")))),
    ] {
        let path = format!("/apis/resourcemanager.isocast.dev/v1alpha1/{plural}");
        admin.create(&path, &value).await;
    }
    let version = "/apis/network.isocast.dev/v1alpha1";
    for (number, (name, datacenter)) in NODES.iter().enumerate() {
        let place = network("Datacenter", datacenter, &json!({"region": REGION}));
        admin.create(&format!("{version}/datacenters"), &place).await;
        let spec = json!({
            "datacenter": datacenter, "roles": ["Edge"], "asn": 65010, "routerID": ROUTER_ID,
            "tunnelAddresses": [format!("198.51.100.{}", number + 1)],
            "uplinks": [{"interface": "eth1"}],
        });
        admin.create(&format!("{version}/nodes"), &network("Node", name, &spec)).await;
    }
    let mut clients: BTreeMap<(usize, usize), Client> = BTreeMap::new();
    for (role, name) in ROLES.iter().enumerate() {
        for (relation, (_, place)) in RELATIONS.iter().enumerate() {
            let user = format!("{name}-{place}");
            let client = api.user_with(&mut admin, &user, name, place).await;
            clients.insert((role, relation), client);
        }
    }
    let anonymous = Credentials::load(api.kubeconfig()).anonymous();
    let mut anonymous = anonymous.connect().await.expect("TLS lets it in");
    let mut agents = [agent(&api, NODES[0].0).await, agent(&api, NODES[1].0).await];

    let relations: Vec<&str> = RELATIONS.iter().map(|(relation, _)| *relation).collect();
    let mut table = format!("bound in: {}\n", relations.join(", "));
    let _infallible = writeln!(table, "{:<32} {} anonymous agent elsewhere", "", ROLES.join(" "));
    expect_subresources_listed(&mut admin).await;
    for route in routes().into_iter().chain(reviews(&mut admin).await).chain(services()) {
        let mut row = format!("{:<32}", route.label);
        for (role, name) in ROLES.iter().enumerate() {
            let mut cell = String::new();
            for relation in 0..RELATIONS.len() {
                let client = clients.get_mut(&(role, relation)).expect("it is connected");
                cell.push(ask(client, &route).await);
            }
            let _infallible = write!(row, " {cell:<width$}", width = name.len());
        }
        let nobody = ask(&mut anonymous, &route).await;
        let [host, other] = ask_as_agents(&mut agents, &route).await;
        let _infallible = write!(row, " {nobody:<9} {host:<5} {other}");
        let is_open = OPEN.contains(&&*route.path);
        assert!(['x', 'r'].contains(&nobody) || is_open, "{row}");
        assert_eq!(host, other, "{row}");
        // Of itself a node may ask: the answer is no. What there can be is no secret to it.
        let is_own = route.plural.starts_with("self");
        let is_document = ["", "api", "apis", "openapi"].contains(&&*route.plural);
        assert!(['-', 'r', '.'].contains(&host) || is_own || is_open || is_document, "{row}");
        table.push_str(row.trim_end());
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}
