//! The fleet against a real store: what changes there reaches nodes, what nodes say reaches it.

use std::{path::Path, sync::Arc, time::Duration};

use isocast_api::{
    agent::{
        Entry, EntryError, Keyring, Nack, NodeStatus, ServiceStatus, Verdict,
        entry::Value as EntryValue,
    },
    registry,
};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    limits::STATUS_LIFE,
    nodes::{Nodes, Progress},
    reporter::Reporter,
    source::Source,
    store_source::{IDENTITY, StoreSource, right},
    testing::{objects, uid},
};
use crate::{
    authz::{Authorizer, verb},
    cabinet::{Cabinet, Folder},
    error::ApiError,
    store::{Expect, Key, Persistence, RedbBackend, Resource, Store, Write},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// The small platform in a store, followed and reported on.
struct Platform {
    store: Arc<Store>,
    source: Arc<StoreSource>,
    nodes: Arc<Nodes>,
    _tasks: JoinSet<()>,
    folder: tempfile::TempDir,
}

fn cabinet(folder: &tempfile::TempDir) -> Arc<dyn Cabinet> {
    Arc::new(Folder::new(folder.path()))
}

impl Platform {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(open(folder.path()));
        for mut object in objects() {
            let kind = registry::kinds().iter().find(|kind| object["kind"] == kind.kind).unwrap();
            (kind.default)(&mut object);
            write(&store, Expect::Absent, object).await.unwrap();
        }
        Self::of(store, folder)
    }

    /// A controller over what is there.
    fn of(store: Arc<Store>, folder: tempfile::TempDir) -> Self {
        let source = StoreSource::open(Arc::clone(&store), &cabinet(&folder)).unwrap();
        let nodes = Arc::new(Nodes::default());
        source.listen_to(Arc::clone(&nodes));
        let metrics = Arc::default();
        let reporter = Reporter::new(Arc::clone(&store), &source, Arc::clone(&nodes), metrics);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&source).run());
        tasks.spawn(reporter.run());
        Self { store, source, nodes, _tasks: tasks, folder }
    }

    /// The controller is killed, and another one takes its place. It has heard nobody yet.
    fn restart(self) -> Self {
        let Self { store, folder, _tasks: tasks, .. } = self;
        drop(tasks);
        Self::of(store, folder)
    }

    /// Every node that joined has the newest configuration, and its keyring in force.
    fn take_keys(&self, nodes: &[&str]) -> Keyring {
        let keyring = self.source.keys().lock().keyring();
        for node in nodes {
            let said = NodeStatus { keyring: keyring.id.clone(), ..NodeStatus::default() };
            self.say(node, Progress::Applied { revision: 1 }, said);
        }
        keyring
    }

    fn get(&self, kind: &str, name: &str) -> crate::store::Object {
        let view = self.store.view(&right::<verb::List>().unwrap());
        let is_it =
            |it: &&crate::store::Object| it.key.name() == name && it.value()["kind"] == kind;
        view.iter().find(is_it).unwrap().clone()
    }

    /// Changes an object; anew if the reporter was faster.
    async fn change(&self, kind: &str, name: &str, change: impl Fn(&mut Value)) {
        loop {
            let object = self.get(kind, name);
            let mut value = Value::clone(&object.value());
            change(&mut value);
            match write(&self.store, Expect::At(object.revision), value).await {
                Err(error) if error.is_stale() => {}
                outcome => return outcome.unwrap(),
            }
        }
    }

    /// The node's agent connects and says this.
    fn say(&self, node: &str, progress: Progress, status: NodeStatus) {
        let now = Instant::now();
        let (tenure, ..) = self.nodes.open(node, &uid(node), now);
        self.nodes.update(node, tenure, |report| {
            report.progress = progress;
            report.statement = Some((Arc::new(status), now));
        });
    }

    /// Waits until a condition of an object has this status and this reason.
    async fn condition(
        &self,
        (kind, name): (&str, &str),
        condition: &str,
        wanted: (&str, &str),
    ) -> String {
        let mut revisions = self.store.revisions();
        let waiting = async {
            loop {
                let object = self.get(kind, name);
                if let Some(found) = find(&object.value(), condition)
                    && (found["status"].as_str(), found["reason"].as_str())
                        == (Some(wanted.0), Some(wanted.1))
                {
                    return found["message"].as_str().unwrap().to_owned();
                }
                revisions.changed().await.unwrap();
            }
        };
        match timeout(DEADLINE, waiting).await {
            Ok(message) => message,
            Err(_) => {
                panic!("{condition} stays {:?}", find(&self.get(kind, name).value(), condition))
            }
        }
    }
}

fn open(folder: &Path) -> Store {
    let backend = RedbBackend::open(&folder.join("db")).unwrap();
    Store::open(backend, Vec::new(), Arc::default()).unwrap()
}

async fn write(store: &Store, expect: Expect, value: Value) -> Result<(), ApiError> {
    let kind = registry::kinds().iter().find(|kind| value["kind"] == kind.kind).unwrap();
    let metadata = &value["metadata"];
    let resource = Resource::new(kind.plural, kind.group);
    let key =
        Key::new(resource, metadata["namespace"].as_str(), metadata["name"].as_str().unwrap());
    let proof = Authorizer.authorize::<verb::Update, _>(&IDENTITY, key).unwrap();
    let write = Write {
        expect,
        value: Some(value),
        subresource: None,
        agent: "test".into(),
        persistence: Persistence::Durable,
    };
    store.write(&proof, write).await.map(drop)
}

fn find<'a>(object: &'a Value, condition: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|it| it["type"] == condition)
}

/// A node that runs the service and announces it.
fn serving() -> NodeStatus {
    let yes = || Some(Verdict { status: true, reason: "Yes".into(), message: String::new() });
    let service = ServiceStatus {
        uid: uid("www"),
        generation: 4,
        programmed: yes(),
        announced: yes(),
        healthy: yes(),
        announced_prefixes: vec!["203.0.113.10/32".into()],
        ..ServiceStatus::default()
    };
    NodeStatus {
        agent_version: "1".into(),
        revision: 1,
        services: vec![service],
        ..NodeStatus::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_what_is_wanted_is_compiled_and_a_report_is_not() {
    let platform = Platform::start().await;
    let mut desired = platform.source.desired();
    let before = desired.borrow_and_update().compile("edge-ams");

    platform.change("Node", "edge-ams", |node| node["status"] = json!({"revision": 7})).await;
    let mut revisions = platform.store.revisions();
    let reported = *revisions.borrow_and_update();
    platform
        .change("AnycastService", "www", |it| it["spec"]["ports"][0]["port"] = json!(8443))
        .await;

    timeout(DEADLINE, desired.changed()).await.unwrap().unwrap();
    let after = desired.borrow_and_update().clone();
    assert!(after.revision() > reported.0, "the report was compiled on its own");
    assert_ne!(after.compile("edge-ams"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_does_not_decode_holds_up_nobody() {
    let platform = Platform::start().await;
    let mut desired = platform.source.desired();

    platform.change("BackendPool", "backends", |it| it["spec"] = json!("nonsense")).await;

    timeout(DEADLINE, desired.changed()).await.unwrap().unwrap();
    let configuration = desired.borrow_and_update().compile("edge-ams");
    assert!(configuration.entries().any(|entry| entry.key == format!("service/{}", uid("www"))));
    assert!(!configuration.entries().any(|entry| entry.key.starts_with("pool/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_say_becomes_status() {
    let platform = Platform::start().await;

    for node in ["edge-ams", "edge-fra", "be-ams-1", "be-ams-2"] {
        platform.say(node, Progress::Applied { revision: 1 }, serving());
    }

    platform.condition(("Node", "edge-ams"), "Connected", ("True", "Connected")).await;
    platform.condition(("Node", "edge-ams"), "Applied", ("True", "Applied")).await;
    platform.condition(("AnycastService", "www"), "Programmed", ("True", "Programmed")).await;
    platform.condition(("AnycastService", "www"), "Ready", ("True", "Ready")).await;
    platform.condition(("Node", "be-idle"), "Connected", ("False", "Disconnected")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_to_the_owner_of_the_entry_with_the_name_of_the_node() {
    let platform = Platform::start().await;
    let error = EntryError {
        key: format!("service/{}", uid("www")),
        reason: "TooManyServices".into(),
        message: "1 service is all this node takes".into(),
        name: "web/www".into(),
    };
    let nack = Arc::new(Nack { revision: 9, reason: "over the limit".into(), errors: vec![error] });

    platform.say("edge-ams", Progress::Refused { held: None, nack }, NodeStatus::default());

    let service = ("AnycastService", "www");
    let message = platform.condition(service, "Programmed", ("False", "TooManyServices")).await;
    assert!(message.contains("edge-ams"), "{message}");
    assert!(message.contains("1 service is all"), "{message}");
    platform.condition(("Node", "edge-ams"), "Applied", ("False", "Refused")).await;
}

/// Nothing is compiled because of a status, and what was compiled is of no help in judging one.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_returns_to_what_it_was_when_configurations_were_compiled() {
    let platform = Platform::start().await;
    let nodes = ["edge-ams", "edge-fra", "be-ams-1", "be-ams-2"];
    let serve = |revision| {
        for node in nodes {
            platform.say(node, Progress::Applied { revision }, serving());
        }
    };
    let service = ("AnycastService", "www");
    serve(1);
    platform.condition(service, "Programmed", ("True", "Programmed")).await;
    platform.condition(service, "Ready", ("True", "Ready")).await;
    let node = platform.get("Node", "be-idle");
    let mut value = Value::clone(&node.value());
    value["spec"]["tunnelAddresses"] = json!(["198.51.100.250"]);
    write(&platform.store, Expect::At(node.revision), value).await.unwrap();
    let changed = platform.get("Node", "be-idle");
    let mut editions = platform.source.editions();
    let compiled = editions.wait_for(|edition| edition.revision >= changed.revision);
    drop(timeout(DEADLINE, compiled).await.unwrap().unwrap());

    let error = EntryError {
        key: format!("service/{}", uid("www")),
        reason: "TooManyServices".into(),
        message: "too many".into(),
        name: "web/www".into(),
    };
    let nack = Arc::new(Nack { revision: 9, reason: "no".into(), errors: vec![error] });
    platform.say("edge-ams", Progress::Refused { held: None, nack }, NodeStatus::default());
    platform.condition(service, "Programmed", ("False", "TooManyServices")).await;
    serve(changed.revision.0);

    platform.condition(service, "Programmed", ("True", "Programmed")).await;
    platform.condition(("Node", "edge-ams"), "Applied", ("True", "Applied")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_silent_is_spoken_for_no_longer() {
    let platform = Platform::start().await;
    for node in ["edge-ams", "edge-fra", "be-ams-1", "be-ams-2"] {
        platform.say(node, Progress::Applied { revision: 1 }, serving());
    }
    platform.condition(("AnycastService", "www"), "Programmed", ("True", "Programmed")).await;

    let view = platform.store.view(&right::<verb::List>().unwrap());
    let edition = platform.source.editions().borrow().clone();
    let later = Instant::now() + STATUS_LIFE;
    let reports = platform.nodes.reports();
    let now = jiff::Timestamp::now();
    let keys = platform.source.keys().lock().clone();
    let compilation = &edition.compilation;
    let updates = super::reporter::updates(
        compilation,
        compilation.world(),
        &keys,
        &view,
        &reports,
        later,
        now,
    );

    let service = updates.iter().find(|update| update.object.key.name() == "www").unwrap();
    let programmed = find_status(&service.status, "Programmed");
    assert_eq!(programmed["status"], "Unknown", "{programmed}");
}

fn find_status<'a>(status: &'a Value, condition: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|it| it["type"] == condition).unwrap()
}

#[tokio::test]
async fn a_deleted_service_leaves_a_tombstone_also_over_a_restart() {
    let platform = Platform::start().await;
    let configuration = || platform.source.desired().borrow().compile("edge-ams");
    let service = format!("service/{}", uid("www"));
    let tombstone = format!("tombstone/{}", uid("www"));
    assert!(configuration().get(&service).is_some());
    let object = platform.get("AnycastService", "www");

    let proof = Authorizer.authorize::<verb::Delete, Key>(&IDENTITY, object.key.clone()).unwrap();
    let write = Write {
        expect: Expect::At(object.revision),
        value: None,
        subresource: None,
        agent: "test".into(),
        persistence: Persistence::Durable,
    };
    platform.store.write(&proof, write).await.unwrap();
    let mut desired = platform.source.desired();
    let gone = desired.wait_for(|desired| desired.compile("edge-ams").get(&tombstone).is_some());
    timeout(DEADLINE, gone).await.unwrap().unwrap();
    assert!(configuration().get(&service).is_none());

    let again = StoreSource::open(Arc::clone(&platform.store), &cabinet(&platform.folder)).unwrap();

    let configuration = again.desired().borrow().compile("edge-ams");
    assert!(configuration.get(&tombstone).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_replaced_as_nodes_take_them_and_a_killed_controller_goes_on_where_it_was() {
    const JOINED: [&str; 2] = ["edge-ams", "be-ams-1"];
    let mut platform = Platform::start().await;
    let old = platform.take_keys(&JOINED);
    let mut order =
        super::testing::object("network", "KeyRotation", "now", json!({"what": "ClusterSecret"}));
    order["metadata"]["namespace"] = json!("isocast-system");
    write(&platform.store, Expect::Absent, order).await.unwrap();
    let rotation = ("KeyRotation", "now");

    let mut keyrings = vec![old];
    for phase in ["Distributing", "Switching", "Retiring"] {
        let said = platform.condition(rotation, "Complete", ("False", phase)).await;
        assert!(said.contains("have yet to"), "{said}");
        platform = platform.restart();
        // One of them is not enough.
        platform.take_keys(&JOINED[..1]);
        let waits = || {
            platform.get("KeyRotation", "now").value()["status"]["waitingFor"]
                == json!(["be-ams-1"])
        };
        let mut revisions = platform.store.revisions();
        timeout(DEADLINE, async {
            while !waits() {
                revisions.changed().await.unwrap();
            }
        })
        .await
        .unwrap();
        keyrings.push(platform.take_keys(&JOINED));
    }
    platform.condition(rotation, "Complete", ("True", "Complete")).await;

    let [old, distributed, switched, last] = keyrings.as_slice() else { unreachable!() };
    assert_eq!(distributed.sent_tag, old.sent_tag);
    assert_eq!(switched.believed_tags, [switched.sent_tag.clone(), old.sent_tag.clone()]);
    assert_eq!(&last.believed_tags, std::slice::from_ref(&switched.sent_tag));
    assert_eq!(&last.other_flow_keys, std::slice::from_ref(&old.flow_key));
    let desired = platform.source.desired().borrow().compile("edge-ams");
    let Some(Entry { value: Some(EntryValue::Node(own)), .. }) = desired.get("node") else {
        panic!("{desired:?}");
    };
    assert_eq!(own.keyring.as_ref(), Some(last));
    let mode = std::os::unix::fs::MetadataExt::mode(
        &std::fs::metadata(platform.folder.path().join("keyring.json")).unwrap(),
    );
    assert_eq!(mode & 0o777, 0o600);
}
