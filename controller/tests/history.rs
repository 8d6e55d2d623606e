//! What many clients at once see of a controller that is killed again and again is one history; or of two
//! that share an etcd, whichever they talk to, and whichever of the three is killed.
//!
//! Each client adds one to counters by compare-and-swap; watchers follow, and resume where they were.
//! In the end: every change once and in order for every watcher, each based on the one before it, every
//! acknowledged one among them, and none before what was acknowledged when it began.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use support::{
    client::{Client, Credentials},
    etcd::Etcd,
};
use tokio::time::{sleep, timeout};

const DATACENTERS: &str = "/apis/network.isocast.dev/v1alpha1/datacenters";
const COUNTERS: usize = 4;
const CLIENTS: usize = 8;
const WATCHERS: usize = 3;
const KILLS: usize = 5;
/// Enough that every kill falls into the middle of commits.
const ADDED_BEFORE_KILL: usize = 120;
const DEADLINE: Duration = Duration::from_secs(120);
/// Between attempts to reach who is dead; it says by nothing else that it is back.
const PAUSE: Duration = Duration::from_millis(10);

/// A controller that is started again after each death.
struct Controller {
    data: PathBuf,
    port: u16,
    arguments: Vec<String>,
    child: Child,
}

impl Controller {
    fn start(data: &Path, arguments: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        drop(listener);
        let child = Self::spawn(data, port, arguments);
        Self { data: data.to_owned(), port, arguments: arguments.to_vec(), child }
    }

    fn spawn(data: &Path, port: u16, arguments: &[String]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_isocast-controller"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--agent-listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("the controller starts")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    /// By SIGKILL.
    fn kill_and_restart(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        self.child = Self::spawn(&self.data, self.port, &self.arguments);
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A client of any of them, as soon as there is somebody to talk to.
async fn connect(kubeconfigs: &[PathBuf]) -> Client {
    let connected = async {
        loop {
            let kubeconfig = &kubeconfigs[rand::random_range(0..kubeconfigs.len())];
            if fs::exists(kubeconfig).unwrap_or(false)
                && let Ok(client) = Credentials::load(kubeconfig).connect().await
            {
                return client;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(DEADLINE, connected).await.expect("the controller comes back")
}

fn counter(name: usize) -> String {
    format!("counter-{name}")
}

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().expect("a revision");
    text.parse().expect("a number")
}

fn count(object: &Value) -> u64 {
    let text = object["metadata"]["labels"]["count"].as_str().expect("a label");
    text.parse().expect("a number")
}

/// One addition, as its client knows it.
struct Added {
    name: String,
    from: u64,
    to: u64,
    count: u64,
    began: Instant,
    ended: Instant,
}

#[derive(Default)]
struct Shared {
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
}

/// Sends a request; none when nobody answered, or not whole.
async fn ask(
    client: &mut Client,
    method: Method,
    path: &str,
    body: String,
) -> Option<(u16, Value)> {
    use http_body_util::BodyExt;

    let content_type = "application/merge-patch+json";
    let answered = async {
        let response = client.try_send(method, path, content_type, body).await.ok()?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((code, serde_json::from_slice(&body).ok()?))
    };
    timeout(Duration::from_secs(20), answered).await.ok().flatten()
}

/// The same, of anybody, until it is answered and done.
async fn insist(kubeconfigs: &[PathBuf], method: Method, path: &str, body: String) -> Value {
    let done = async {
        loop {
            let mut client = connect(kubeconfigs).await;
            if let Some((200, object)) = ask(&mut client, method.clone(), path, body.clone()).await
            {
                return object;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(DEADLINE, done).await.expect("it is done")
}

/// Adds until it is over; gives what was acknowledged, and how many additions nobody answered.
async fn add(
    kubeconfigs: Vec<PathBuf>,
    mut turn: usize,
    shared: Arc<Shared>,
) -> (Vec<Added>, usize) {
    let mut client = connect(&kubeconfigs).await;
    let (mut added, mut unknown) = (Vec::new(), 0);
    while !shared.is_over.load(Ordering::Relaxed) {
        turn += 1;
        let name = counter(turn % COUNTERS);
        let path = format!("{DATACENTERS}/{name}");
        let Some((200, object)) = ask(&mut client, Method::GET, &path, String::new()).await else {
            client = connect(&kubeconfigs).await;
            continue;
        };
        let (from, count) = (revision(&object), count(&object) + 1);
        let patch = json!({
            "metadata": {"resourceVersion": from.to_string(), "labels": {"count": count.to_string()}},
        });
        let began = Instant::now();
        match ask(&mut client, Method::PATCH, &path, patch.to_string()).await {
            Some((200, object)) => {
                let (to, ended) = (revision(&object), Instant::now());
                added.push(Added { name, from, to, count, began, ended });
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Some((409, _)) => {}
            // It may have been written, and the answer of what keeps it was lost.
            Some((503, _)) => unknown += 1,
            Some((code, body)) => panic!("{code}: {body}"),
            None => {
                unknown += 1;
                client = connect(&kubeconfigs).await;
            }
        }
    }
    (added, unknown)
}

/// Follows from `from` until it has seen `until`; gives every event, in the order it came.
async fn follow(
    kubeconfigs: Vec<PathBuf>,
    mut from: u64,
    until: Arc<AtomicUsize>,
) -> Vec<(u64, String, u64)> {
    let mut seen = Vec::new();
    let is_done = |from: u64| {
        let until = until.load(Ordering::Relaxed) as u64;
        until > 0 && from >= until
    };
    while !is_done(from) {
        let mut client = connect(&kubeconfigs).await;
        let path = format!("{DATACENTERS}?watch=1&resourceVersion={from}");
        let Ok(response) = client.try_send(Method::GET, &path, "", "").await else { continue };
        if response.status() == StatusCode::GATEWAY_TIMEOUT && kubeconfigs.len() > 1 {
            // This controller has not come so far yet.
            continue;
        }
        assert_eq!(response.status(), StatusCode::OK, "a position is never lost");
        let mut lines = support::client::Lines::of(response);
        while !is_done(from) {
            let Ok(event) = timeout(Duration::from_millis(500), lines.try_next()).await else {
                continue;
            };
            let Some(event) = event else { break };
            let object = &event["object"];
            assert_eq!(event["type"], "MODIFIED", "{event}");
            from = revision(object);
            let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
            seen.push((from, name, count(object)));
        }
    }
    seen
}

/// Judges what was seen.
fn judge(seen: &[Vec<(u64, String, u64)>], mut added: Vec<Added>, unknown: usize, total: u64) {
    let history = &seen[0];
    for other in seen {
        assert_eq!(other, history, "watchers see the same");
    }
    assert!(history.windows(2).all(|pair| pair[0].0 < pair[1].0), "once, and in order");
    let mut last: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut based: BTreeMap<u64, u64> = BTreeMap::new();
    let mut at: BTreeSet<(u64, &str, u64)> = BTreeSet::new();
    for (revision, name, count) in history {
        let before = last.insert(name, (*revision, *count));
        let (before, counted) = before.unwrap_or_default();
        // What the controller itself observes of a datacenter adds nothing.
        if *count == counted {
            continue;
        }
        assert_eq!(*count, counted + 1, "{name} at {revision}: an update was lost");
        at.insert((*revision, name, *count));
        if before > 0 {
            based.insert(*revision, before);
        }
    }
    assert_eq!(at.len() as u64, total, "what is there is what was seen to happen");
    for it in &added {
        assert!(at.contains(&(it.to, &*it.name, it.count)), "{} at {} is lost", it.name, it.to);
        assert!(based.get(&it.to).is_none_or(|before| *before == it.from), "not based on its read");
    }
    assert!(at.len() >= added.len() && at.len() <= added.len() + unknown);
    // In real time: what began after something was acknowledged comes after it.
    added.sort_by_key(|it| it.began);
    let mut ended: Vec<(Instant, u64)> = added.iter().map(|it| (it.ended, it.to)).collect();
    ended.sort_unstable();
    let (mut next, mut newest) = (0, 0);
    for it in &added {
        while next < ended.len() && ended[next].0 < it.began {
            newest = newest.max(ended[next].1);
            next += 1;
        }
        assert!(it.to > newest, "{} was acknowledged before {} began", newest, it.to);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_see_one_history_whenever_the_controller_is_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    one_history(vec![Controller::start(&folder.path().join("data"), &[])], None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_see_one_history_whenever_one_of_two_controllers_or_their_etcd_is_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let etcd = Etcd::start();
    let store = ["--store".to_owned(), "etcd".into(), "--etcd-endpoints".into(), etcd.url()];
    let one = Controller::start(&folder.path().join("one"), &store);
    connect(&[one.kubeconfig()]).await;
    let data = folder.path().join("other");
    support::etcd::share(&one.data, &data);
    let other = Controller::start(&data, &store);
    one_history(vec![one, other], Some(etcd)).await;
}

async fn one_history(mut controllers: Vec<Controller>, mut etcd: Option<Etcd>) {
    let kubeconfigs: Vec<PathBuf> = controllers.iter().map(Controller::kubeconfig).collect();
    for kubeconfig in &kubeconfigs {
        connect(std::slice::from_ref(kubeconfig)).await;
    }
    let mut client = connect(&kubeconfigs).await;
    let mut start = 0;
    for name in 0..COUNTERS {
        let body = json!({
            "apiVersion": "network.isocast.dev/v1alpha1",
            "kind": "Datacenter",
            "metadata": {"name": counter(name), "labels": {"count": "0"}},
            "spec": {"region": "eu"},
        });
        let made = client.post(DATACENTERS, &body).await;
        assert_eq!(made.code, StatusCode::CREATED);
        start = revision(&made.body);
    }
    let shared = Arc::<Shared>::default();
    let until = Arc::<AtomicUsize>::default();
    let adders: Vec<_> = (0..CLIENTS)
        .map(|turn| tokio::spawn(add(kubeconfigs.clone(), turn, Arc::clone(&shared))))
        .collect();
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| tokio::spawn(follow(kubeconfigs.clone(), start, Arc::clone(&until))))
        .collect();

    for kill in 1..=KILLS {
        let reached = async {
            while shared.acknowledged.load(Ordering::Relaxed) < kill * ADDED_BEFORE_KILL {
                sleep(PAUSE).await;
            }
        };
        timeout(DEADLINE, reached).await.expect("clients get on");
        let turn = kill % (controllers.len() + usize::from(etcd.is_some()));
        match (controllers.get_mut(turn), &mut etcd) {
            (Some(controller), _) => controller.kill_and_restart(),
            (None, Some(etcd)) => {
                etcd.kill();
                etcd.revive();
            }
            (None, None) => unreachable!("it is one of them"),
        }
    }
    let reached = async {
        while shared.acknowledged.load(Ordering::Relaxed) < (KILLS + 1) * ADDED_BEFORE_KILL {
            sleep(PAUSE).await;
        }
    };
    timeout(DEADLINE, reached).await.expect("clients get on");
    shared.is_over.store(true, Ordering::Relaxed);
    let (mut added, mut unknown) = (Vec::new(), 0);
    for adder in adders {
        let (mine, unanswered) = adder.await.expect("no panic");
        added.extend(mine);
        unknown += unanswered;
    }
    // A read may be a moment behind what was written elsewhere; a write is not, and a read that names
    // its version is no older.
    let mark = json!({"metadata": {"annotations": {"history": "ends"}}}).to_string();
    let path = format!("{DATACENTERS}/{}", counter(0));
    let end = revision(&insist(&kubeconfigs, Method::PATCH, &path, mark).await);
    let path = format!("{DATACENTERS}?resourceVersion={end}");
    let list = insist(&kubeconfigs, Method::GET, &path, String::new()).await;
    let items = list["items"].as_array().expect("a list");
    let newest = items.iter().map(revision).max().expect("counters");
    until.store(usize::try_from(newest).expect("small"), Ordering::Relaxed);
    let mut seen = Vec::new();
    for watcher in watchers {
        seen.push(timeout(DEADLINE, watcher).await.expect("watchers get there").expect("no panic"));
    }
    let total: u64 = items.iter().map(count).sum();
    println!("{total} additions; {unknown} were not answered; {KILLS} kills");
    judge(&seen, added, unknown, total);
}
