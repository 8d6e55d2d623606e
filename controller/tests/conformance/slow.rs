//! Clients that take their time: to ask, to send what they promised, to take what they asked for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{interval, timeout},
};
use tokio_rustls::client::TlsStream;

use super::{DATACENTERS, connect, datacenter, fairness::figure, next, with_project};
use crate::support::{Api, client::Credentials, process::free_port};

const MAPS: &str = "/api/v1/namespaces/web/configmaps";
const PATIENCE: Duration = Duration::from_secs(1);
/// More than the buffers of a connection hold.
const OBJECTS: usize = 150;
const OBJECT_BYTES: usize = 200 << 10;

fn impatient(metrics: Option<u16>) -> Api {
    Api::start_with(|options| {
        options.client_patience = PATIENCE.into();
        options.metrics = metrics.map(|port| ([127, 0, 0, 1], port).into());
    })
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("it happens soon")
}

async fn tls(api: &Api) -> TlsStream<TcpStream> {
    Credentials::load(api.kubeconfig()).tls().await.expect("TLS")
}

/// What the server says until it hangs up.
async fn rest(mut stream: TlsStream<TcpStream>) -> String {
    let mut said = Vec::new();
    // It need not say goodbye.
    drop(soon(stream.read_to_end(&mut said)).await);
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn who_says_nothing_or_half_a_head_is_disconnected() {
    let api = impatient(None);
    let credentials = Credentials::load(api.kubeconfig());
    let heads =
        ["", "G", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "].map(|head| (head, "http/1.1"));
    for (head, protocol) in heads.into_iter().chain([("", "h2"), ("PRI * HTTP/2.0\r\n", "h2")]) {
        let mut stream = credentials.tls_of(&[protocol.as_bytes()]).await.expect("TLS");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let began = Instant::now();
        assert!(!rest(stream).await.contains("200 OK"), "{head:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "{head:?} {protocol}");
    }
}

#[tokio::test]
async fn who_sends_a_head_byte_by_byte_is_disconnected() {
    let api = impatient(None);
    let (read, mut write) = tokio::io::split(tls(&api).await);
    let trickle = tokio::spawn(async move {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(1000));
        let mut ticks = interval(PATIENCE / 10);
        for byte in head.as_bytes() {
            ticks.tick().await;
            if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
        panic!("it took all of the head");
    });
    let mut read = read;
    let mut said = Vec::new();
    drop(soon(read.read_to_end(&mut said)).await);
    assert!(!String::from_utf8_lossy(&said).contains("200 OK"));
    soon(trickle).await.expect("it hung up");
}

#[tokio::test]
async fn who_promises_a_body_and_sends_half_of_it_is_refused() {
    let api = impatient(None);
    let mut stream = tls(&api).await;
    let head = format!(
        "POST {DATACENTERS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{\"kind\":"
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");

    let said = rest(stream).await;

    assert!(said.starts_with("HTTP/1.1 504"), "{said}");
    assert!(said.contains("the body took too long"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_what_it_asked_for_is_disconnected() {
    let port = free_port();
    let api = impatient(Some(port));
    let mut client = with_project(&api).await;
    for count in 0..OBJECTS {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{count}")},
            "data": {"filling": "x".repeat(OBJECT_BYTES)},
        });
        client.create(MAPS, &map).await;
    }
    let disconnected = async |count: f64| {
        let name = "isocast_controller_disconnected_total{reason=\"untaken\"";
        while figure(port, name).await < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };

    for (path, count) in [(MAPS.to_owned(), 1.0), (format!("{MAPS}?watch=1"), 2.0)] {
        let mut lazy = tls(&api).await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        lazy.write_all(head.as_bytes()).await.expect("it reads");
        soon(disconnected(count)).await;
    }

    // Over HTTP/2 it is a window that stays shut, while the connection lives.
    let multiplexed = Credentials::load(api.kubeconfig()).tls_of(&[b"h2"]).await.expect("TLS");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(multiplexed)).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("https://localhost{MAPS}")).body(Empty::<Bytes>::new());
    let answer = soon(sender.send_request(request.expect("a request"))).await.expect("a head");
    soon(disconnected(3.0)).await;
    drop(soon(connection).await.expect("no panic"));
    drop(answer);

    let all = connect(&api).await.get(MAPS).await;
    assert_eq!(all.body["items"].as_array().map(Vec::len), Some(OBJECTS), "who takes it has it");
}

#[tokio::test]
async fn a_watch_may_be_quiet_for_longer_than_a_client_may() {
    let api = impatient(None);
    let client = connect(&api).await;
    let mut watch = client.watch(&format!("{DATACENTERS}?watch=1")).await;
    tokio::time::sleep(PATIENCE * 3).await;

    connect(&api).await.create(DATACENTERS, &datacenter("ams", "eu")).await;

    assert_eq!(next(&mut watch).await.0, "ADDED");
}
