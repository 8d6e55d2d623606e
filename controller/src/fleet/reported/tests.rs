use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isocast_api::{
    agent::{NodeStatus, PeerStatus, PrefixPeer, PrefixStatus},
    registry,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Change, writer::Memory};
use crate::{
    authz::{Authorizer, verb},
    fleet::{
        compile::Compilation,
        limits::{COUNTS_INTERVAL, STATUS_LIFE},
        nodes::{Link, Progress, Report},
        store_source::{Edition, IDENTITY, right},
        testing::{objects, uid, world},
    },
    store::{Expect, Key, Persistence, RedbBackend, Resource, Revision, Store, Write},
};

/// A store, the memory of the reporter, and what one node says.
struct Bench {
    store: Store,
    memory: Memory,
    edition: Arc<Edition>,
    start: Instant,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = RedbBackend::open(&folder.path().join("db")).unwrap();
        let store = Store::open(backend, Vec::new(), Arc::default()).unwrap();
        let (memory, edition) = (Memory::default(), edition(&objects()));
        Self { store, memory, edition, start: Instant::now(), _folder: folder }
    }

    /// One round after so much time; the writes that it made.
    async fn round(&mut self, after: Duration, statement: Option<&NodeStatus>) -> Vec<String> {
        let now = self.start + after;
        let report = Report {
            uid: uid("edge-ams"),
            link: Link::Connected(self.start),
            progress: Progress::Applied { revision: 1 },
            statement: statement.map(|said| (Arc::new(said.clone()), now)),
        };
        let reports = BTreeMap::from([("edge-ams".to_owned(), report)]);
        let view = self.store.view(&right::<verb::List>().unwrap());
        let second = i64::try_from(after.as_secs()).unwrap();
        let time = Timestamp::from_second(1000 + second).unwrap();
        let changes = self.memory.changes(&self.edition, &view, &reports, now, time);
        let mut written = Vec::new();
        for change in changes {
            written.push(self.apply(change).await);
        }
        written
    }

    async fn apply(&self, change: Change) -> String {
        let key = change.key().clone();
        let (word, expect, value) = match change {
            Change::Create { value, .. } => {
                let kind = registry::kinds().iter().find(|it| it.kind == value["kind"]).unwrap();
                assert_eq!((kind.validate)(&value, None), [], "{value}");
                ("create", Expect::Absent, Some(value))
            }
            Change::Remove { object } => ("remove", Expect::At(object.revision), None),
            Change::Update { object, status, .. } => {
                let mut value = Value::clone(&object.value());
                value["status"] = status;
                ("update", Expect::At(object.revision), Some(value))
            }
        };
        let write = Write {
            expect,
            value,
            subresource: None,
            agent: "test".into(),
            persistence: Persistence::Durable,
        };
        let proof = Authorizer.authorize::<verb::Update, Key>(&IDENTITY, key.clone()).unwrap();
        self.store.write(&proof, write).await.unwrap();
        format!("{word} {}", key.name())
    }

    fn get(&self, plural: &str, name: &str) -> Value {
        let key = Key::new(Resource::new(plural, "network.isocast.dev"), None, name);
        let proof = Authorizer.authorize::<verb::Get, Key>(&IDENTITY, key).unwrap();
        Value::clone(&self.store.get(&proof).unwrap().value())
    }
}

fn edition(objects: &[Value]) -> Arc<Edition> {
    let compilation = Compilation::new(Arc::new(world(objects)));
    Arc::new(Edition { revision: Revision(1), compilation })
}

fn status() -> NodeStatus {
    let peer = PeerStatus {
        uid: uid("bor-ams"),
        name: "bor-ams".into(),
        state: "Established".into(),
        since_ms: 5000,
        address: "10.1.0.254".into(),
        asn: 65001,
        families: vec!["ipv4-unicast".into()],
        prefixes_sent: 1,
        ..PeerStatus::default()
    };
    let prefix = PrefixStatus {
        prefix: "203.0.113.10/32".into(),
        announced: true,
        reason: "Announced".into(),
        message: "announced".into(),
        services: vec!["web/www".into()],
        peers: vec![PrefixPeer { peer: "bor-ams".into(), since_ms: 6000, ..<_>::default() }],
        ..PrefixStatus::default()
    };
    NodeStatus { peers: vec![peer], prefixes: vec![prefix], ..NodeStatus::default() }
}

const SESSION: &str = "edge-ams.bor-ams";
const PREFIX: &str = "edge-ams.203.0.113.10-32";

const fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn condition(object: &Value) -> String {
    let it = &object["status"]["conditions"][0];
    let text = |field: &str| it[field].as_str().unwrap().to_owned();
    format!("{} {} {}", text("type"), text("status"), text("reason"))
}

#[tokio::test]
async fn what_a_node_says_becomes_objects_and_is_written_once() {
    let mut bench = Bench::new();

    let first = bench.round(at(0), Some(&status())).await;
    let second = bench.round(at(1), Some(&status())).await;

    assert_eq!(first, [format!("create {SESSION}"), format!("create {PREFIX}")]);
    assert_eq!(second, [""; 0]);
    let session = bench.get("bgpsessions", SESSION);
    assert_eq!(condition(&session), "Established True Established");
    assert_eq!(session["status"]["since"], "1970-01-01T00:00:05Z");
    assert_eq!(session["metadata"]["ownerReferences"][0]["uid"], uid("edge-ams"));
    let advertisement = bench.get("bgpadvertisements", PREFIX);
    assert_eq!(condition(&advertisement), "Announced True Announced");
    let expected = json!([{"name": "bor-ams", "since": "1970-01-01T00:00:06Z"}]);
    assert_eq!(advertisement["status"]["peers"], expected);
}

#[tokio::test]
async fn counts_wait_and_everything_else_does_not() {
    let mut bench = Bench::new();
    bench.round(at(0), Some(&status())).await;
    let mut counted = status();
    counted.peers[0].prefixes_received = 9;
    let mut down = counted.clone();
    down.peers[0].state = "Idle".into();
    down.peers[0].last_error = "hold timer expired".into();
    down.peers[0].last_error_code = "HoldTimerExpired".into();

    assert_eq!(bench.round(at(1), Some(&counted)).await, [""; 0]);
    let later = COUNTS_INTERVAL + at(1);
    assert_eq!(bench.round(later, Some(&counted)).await, [format!("update {SESSION}")]);
    let lost = bench.round(later + at(1), Some(&down)).await;

    assert_eq!(lost, [format!("update {SESSION}")]);
    let session = bench.get("bgpsessions", SESSION);
    assert_eq!(condition(&session), "Established False HoldTimerExpired");
    assert_eq!(session["status"]["prefixesReceived"], 9);
}

#[tokio::test]
async fn a_silent_node_is_not_spoken_for_and_keeps_its_objects() {
    let mut bench = Bench::new();
    bench.round(at(0), Some(&status())).await;

    let silent = bench.round(STATUS_LIFE + at(1), None).await;
    let still = bench.round(STATUS_LIFE + at(2), None).await;

    assert_eq!(silent, [format!("update {SESSION}"), format!("update {PREFIX}")]);
    assert_eq!(still, [""; 0]);
    let session = bench.get("bgpsessions", SESSION);
    assert_eq!(condition(&session), "Established Unknown NodeSilent");
    assert_eq!(session["status"]["state"], "Unknown");
    let advertisement = bench.get("bgpadvertisements", PREFIX);
    assert_eq!(condition(&advertisement), "Announced Unknown NodeSilent");
}

#[tokio::test]
async fn objects_go_with_what_they_are_about() {
    let mut bench = Bench::new();
    bench.round(at(0), Some(&status())).await;

    let without_prefix = NodeStatus { prefixes: vec![], ..status() };
    let gone = bench.round(at(1), Some(&without_prefix)).await;
    let without_node: Vec<_> =
        objects().into_iter().filter(|it| it["metadata"]["name"] != "edge-ams").collect();
    bench.edition = edition(&without_node);
    let all_gone = bench.round(at(2), Some(&without_prefix)).await;

    assert_eq!(gone, [format!("remove {PREFIX}")]);
    assert_eq!(all_gone, [format!("remove {SESSION}")]);
}

#[tokio::test]
async fn a_node_made_anew_under_an_old_name_does_not_inherit() {
    let mut bench = Bench::new();
    bench.round(at(0), Some(&status())).await;
    let mut anew = objects();
    for object in &mut anew {
        if object["metadata"]["name"] == "edge-ams" {
            object["metadata"]["uid"] = json!("another");
        }
    }
    bench.edition = edition(&anew);

    let written = bench.round(at(1), Some(&status())).await;

    assert_eq!(written, [format!("remove {SESSION}"), format!("remove {PREFIX}")]);
}

#[tokio::test]
async fn a_session_that_should_be_and_is_not_spoken_of_is_idle() {
    let mut bench = Bench::new();

    bench.round(at(0), Some(&NodeStatus::default())).await;

    let session = bench.get("bgpsessions", SESSION);
    assert_eq!(condition(&session), "Established False Idle");
    assert_eq!(session["status"]["address"], "10.1.0.254");
}
