//! Watches: many, slow ones, ones that come back, and those of browsers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use super::{DATACENTERS, connect, datacenter, next, with_project};
use crate::support::{
    Api,
    client::{Client, Credentials, Lines},
};

const CONFIG_MAPS: &str = "/api/v1/namespaces/web/configmaps";

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("it happens soon")
}

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().expect("a revision");
    text.parse().expect("a number")
}

async fn write(client: &mut Client, round: usize, filling: &str) {
    let patch = json!({"data": {"round": round.to_string(), "filling": filling}});
    let answer = client.merge(&format!("{CONFIG_MAPS}/a"), &patch).await;
    assert_eq!(answer.code, StatusCode::OK, "{:?}", answer.body["message"]);
}

fn round(event: &Value) -> usize {
    let text = event["object"]["data"]["round"].as_str().expect("a round");
    text.parse().expect("a number")
}

async fn multiplexed(api: &Api) -> SendRequest<Empty<Bytes>> {
    let stream = Credentials::load(api.kubeconfig()).tls_of(&[b"h2"]).await.expect("TLS");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_watchers_see_every_change_once_and_in_order() {
    const CONNECTIONS: usize = 25;
    const STREAMS: usize = 200;
    const CHANGES: usize = 5;
    let api = Api::start();
    let mut client = with_project(&api).await;
    client.post(CONFIG_MAPS, &config_map("a", &json!({"round": "0"}))).await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut sender = multiplexed(&api).await;
        for _ in 0..STREAMS {
            let request = Request::get(format!("https://localhost{CONFIG_MAPS}?watch=1"));
            let request = request.body(Empty::new()).expect("a request");
            soon(sender.ready()).await.expect("it is ready");
            let answer = soon(sender.send_request(request)).await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK);
            open.push((sender.clone(), Lines::of(answer)));
        }
    }

    for change in 1..=CHANGES {
        write(&mut client, change, "").await;
    }

    let mut watching = JoinSet::new();
    for (connection, mut lines) in open {
        watching.spawn(async move {
            let mut seen = Vec::new();
            while seen.last() != Some(&CHANGES) {
                seen.push(round(&soon(lines.next()).await.expect("it goes on")));
            }
            drop(connection);
            seen
        });
    }
    let all: Vec<Vec<usize>> = watching.join_all().await;
    assert_eq!(all.len(), CONNECTIONS * STREAMS);
    let whole: Vec<usize> = (0..=CHANGES).collect();
    assert!(all.iter().all(|seen| *seen == whole), "somebody missed something");
}

/// Resident memory of this process, which is the server's as well.
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_watchers_miss_nothing_until_they_are_told_to_list_again_and_hold_nobody_up() {
    // More than the 64 MiB of recent changes that are kept.
    const CHANGES: usize = 400;
    const SLOW: usize = 16;
    let filling = "x".repeat(200 << 10);
    let api = Api::start();
    let mut client = with_project(&api).await;
    client.post(CONFIG_MAPS, &config_map("a", &json!({"round": "0"}))).await;
    let path = format!("{CONFIG_MAPS}?watch=1");
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push((connect(&api).await.watch(&path).await, None));
    }
    let mut quick = connect(&api).await.watch(&path).await;
    let follows = tokio::spawn(async move {
        for expected in 0..=CHANGES {
            assert_eq!(round(&soon(quick.next()).await.expect("it goes on")), expected);
        }
    });
    let before = resident_mib();

    for change in 1..=CHANGES {
        write(&mut client, change, &filling).await;
        // One event of each for every twenty that happen.
        if change % 20 == 0 {
            for (lines, last) in &mut slow {
                let read = round(&soon(lines.next()).await.expect("it goes on"));
                assert_eq!(read, last.map_or(0, |last: usize| last + 1));
                *last = Some(read);
            }
        }
    }
    soon(follows).await.expect("who keeps up is not held up");
    let grown = resident_mib().saturating_sub(before);

    // A buffer of its own for each would be 1.2 GiB.
    assert!(grown < 600, "{grown} MiB for {SLOW} slow watchers");
    for (mut lines, mut last) in slow {
        loop {
            let event = soon(lines.next()).await.expect("an end with a reason");
            if event["type"] == "ERROR" {
                let told = (&event["object"]["code"], &event["object"]["reason"]);
                assert_eq!(told, (&json!(410), &json!("Expired")));
                break;
            }
            assert_eq!(Some(round(&event)), last.map(|last| last + 1), "nothing is left out");
            last = Some(round(&event));
        }
        assert!(last < Some(CHANGES), "it was too slow");
        assert!(soon(lines.next()).await.is_none());
    }
}

#[tokio::test]
async fn who_comes_back_after_a_restart_misses_nothing_and_sees_nothing_from_the_past() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    client.post(CONFIG_MAPS, &config_map("a", &json!({"round": "0"}))).await;
    write(&mut client, 1, "").await;
    let path = format!("{CONFIG_MAPS}?watch=1");
    let mut watch = connect(&api).await.watch(&path).await;
    let (_, object) = next(&mut watch).await;
    let seen = revision(&object);
    // Nobody watches when these happen.
    drop(watch);
    write(&mut client, 2, "").await;
    client.delete(&format!("{CONFIG_MAPS}/a"), &json!({})).await;

    let api = api.restart();
    let mut client = connect(&api).await;
    let path = format!("{path}&resourceVersion={seen}");
    let mut watch = connect(&api).await.watch(&path).await;
    client.post(CONFIG_MAPS, &config_map("a", &json!({"round": "3"}))).await;

    let mut last = seen;
    let mut events = Vec::new();
    for _ in 0..3 {
        let (kind, object) = next(&mut watch).await;
        assert!(revision(&object) > last, "{object} after {last}");
        last = revision(&object);
        events.push((kind, object["data"]["round"].clone()));
    }
    let expected = [("MODIFIED", "2"), ("DELETED", "2"), ("ADDED", "3")];
    assert_eq!(events, expected.map(|(kind, round)| (kind.to_owned(), json!(round))));
}

/// Server-sent events: the id of the last one, if it was set, and what it says.
struct Events {
    body: Incoming,
    buffer: String,
    last_id: Option<String>,
}

impl Events {
    async fn open(api: &Api, path: &str, last_id: Option<&str>) -> Self {
        let mut client = connect(api).await;
        client.extra.push(("accept", "text/event-stream".to_owned()));
        if let Some(id) = last_id {
            client.extra.push(("last-event-id", id.to_owned()));
        }
        let answer = client.try_send(Method::GET, path, "", "").await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body(), buffer: String::new(), last_id: None }
    }

    /// As browsers read it (WHATWG HTML §9.2.6).
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let mut data = None;
                for line in event.lines() {
                    match line.split_once(':').expect("a field") {
                        ("id", id) => self.last_id = Some(id.trim_start().to_owned()),
                        ("data", said) => data = Some(said.trim_start().to_owned()),
                        other => panic!("{other:?}"),
                    }
                }
                self.buffer = rest.to_owned();
                return Some(serde_json::from_str(&data.expect("data")).expect("JSON"));
            }
            let frame = soon(self.body.frame()).await?.expect("a frame");
            let data = frame.into_data().expect("data");
            self.buffer.push_str(std::str::from_utf8(&data).expect("text"));
        }
    }
}

#[tokio::test]
async fn a_browser_follows_and_comes_back_to_where_it_was() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    for name in ["a", "b"] {
        client.post(CONFIG_MAPS, &config_map(name, &json!({"round": "0"}))).await;
    }
    let path = format!("{CONFIG_MAPS}?watch=1");

    let mut events = Events::open(&api, &path, None).await;
    for name in ["a", "b"] {
        let event = events.next().await.expect("what exists");
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!("ADDED"), &json!(name))
        );
        assert_eq!(events.last_id, None, "half of what exists is no place to come back to");
    }
    let mark = events.next().await.expect("the end of what exists");
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(events.last_id.as_deref(), mark["object"]["metadata"]["resourceVersion"].as_str());
    write(&mut client, 1, "").await;
    let event = events.next().await.expect("it changes");
    assert_eq!((&event["type"], round(&event)), (&json!("MODIFIED"), 1));
    let id = events.last_id.clone().expect("an id");
    assert_eq!(id, revision(&event["object"]).to_string());

    drop(events);
    write(&mut client, 2, "").await;
    let mut events = Events::open(&api, &path, Some(&id)).await;
    assert_eq!(round(&events.next().await.expect("what was missed")), 2);
}

/// What an event says: what happened to which object, and its version.
fn said(event: &Value) -> (String, String, u64) {
    let object = &event["object"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&event["type"]), text(&object["metadata"]["name"]), revision(object))
}

#[tokio::test]
async fn who_breaks_off_within_a_change_of_several_objects_goes_on_after_what_they_saw() {
    const POOLS: &str = "/apis/network.isocast.dev/v1alpha1/addresspools";
    const ORGANIZATIONS: &str = "/apis/resourcemanager.isocast.dev/v1alpha1/organizations";
    // An organization that comes or goes changes each pool that is granted to it, in its own commit.
    const GRANTED: usize = 4;
    const CHANGES: usize = 2 * GRANTED;
    let api = Api::start();
    let mut client = connect(&api).await;
    for pool in 0..GRANTED {
        let pool = json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AddressPool",
            "metadata": {"name": format!("vips-{pool}")},
            "spec": {
                "prefixes": [format!("192.0.2.{}/28", pool * 16)],
                "grants": [{"organization": "acme"}],
            },
        });
        assert_eq!(client.post(POOLS, &pool).await.code, StatusCode::CREATED);
    }
    let start = revision(&client.get(POOLS).await.body);
    let acme = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Organization",
        "metadata": {"name": "acme"}, "spec": {},
    });
    assert_eq!(client.post(ORGANIZATIONS, &acme).await.code, StatusCode::CREATED);
    let path = format!("{POOLS}?watch=1&resourceVersion={start}");
    let mut whole = connect(&api).await.watch(&path).await;
    let mut seen = Vec::new();
    for _ in 0..GRANTED {
        seen.push(said(&soon(whole.next()).await.expect("a pool")));
    }
    let gone = client.delete(&format!("{ORGANIZATIONS}/acme"), &json!({})).await;
    assert_eq!(gone.code, StatusCode::OK, "{:?}", gone.body);
    for _ in 0..GRANTED {
        seen.push(said(&soon(whole.next()).await.expect("a pool")));
    }
    assert!(seen.windows(2).all(|pair| pair[0].2 < pair[1].2), "in order, each its own: {seen:?}");

    let (mut lines, mut last) = (Vec::new(), start);
    for _ in 0..CHANGES {
        let path = format!("{POOLS}?watch=1&resourceVersion={last}");
        let mut watch = connect(&api).await.watch(&path).await;
        lines.push(said(&soon(watch.next()).await.expect("a pool")));
        last = lines.last().expect("one").2;
    }
    assert_eq!(lines, seen);

    let (mut events, mut id) = (Vec::new(), start.to_string());
    for _ in 0..CHANGES {
        let mut watch = Events::open(&api, &format!("{POOLS}?watch=1"), Some(&id)).await;
        events.push(said(&watch.next().await.expect("a pool")));
        id = watch.last_id.clone().expect("each has one");
    }
    assert_eq!(events, seen);
}

#[tokio::test]
async fn a_browser_that_was_away_too_long_is_told_and_begins_anew() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let path = format!("{DATACENTERS}?watch=1");

    // What is kept begins after what nothing ever followed.
    let mut events = Events::open(&api, &format!("{path}&resourceVersion=1"), Some("")).await;
    assert!(events.next().await.is_some());
    let filling = "x".repeat(250 << 10);
    let mut client = with_project(&api).await;
    client.post(CONFIG_MAPS, &config_map("a", &json!({}))).await;
    for change in 0..300 {
        write(&mut client, change, &filling).await;
    }
    let mut events = Events::open(&api, &path, Some("2")).await;
    let event = events.next().await.expect("a reason");
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(events.last_id.as_deref(), Some(""), "the next time, it begins anew");
    assert!(events.next().await.is_none());

    client.extra.push(("accept", "text/event-stream".to_owned()));
    client.extra.push(("last-event-id", "yesterday".to_owned()));
    assert_eq!(client.get(&path).await.code, StatusCode::BAD_REQUEST);
    client.extra.pop();
    let listing = client.get(DATACENTERS).await;
    assert_eq!(listing.code, StatusCode::NOT_ACCEPTABLE, "only watches are streams");
}
