//! Watches over WebSockets, as clients in Java and browsers ask for them, and by the paths that Ruby's
//! ask for.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::StreamExt;
use hyper::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest, http::Response,
        protocol::frame::coding::CloseCode,
    },
};

use super::{connect, fairness::figure, next, with_project};
use crate::support::{Api, client::Credentials, process::free_port};

const CONFIG_MAPS: &str = "/api/v1/namespaces/web/configmaps";

type Socket = WebSocketStream<TlsStream<TcpStream>>;

fn config_map(name: &str, text: &str) -> Value {
    let metadata = json!({"name": name});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}})
}

async fn open(
    credentials: &Credentials,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, Response<Option<Vec<u8>>>), Error> {
    let address = format!("wss://{}{path}", credentials.address);
    let mut request = address.into_client_request().expect("an address");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    client_async(request, credentials.tls().await.expect("TLS lets it in")).await
}

/// The code of a refusal.
async fn refused(credentials: &Credentials, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    match open(credentials, path, headers).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{path}: {other:?}"),
    }
}

async fn event(socket: &mut Socket) -> (String, Value) {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => {
            let mut event: Value = serde_json::from_str(&text).expect("an event a message");
            (event["type"].as_str().expect("a type").to_owned(), event["object"].take())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_watch_over_a_websocket_has_an_event_a_message_and_an_end() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    // More than is handed out at a time.
    let long = "ä\n".repeat(100_000);
    client.create(CONFIG_MAPS, &config_map("a", &long)).await;
    let credentials = Credentials::load(api.kubeconfig());
    let origin = format!("https://{}", credentials.address);
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=3");

    let (mut socket, answer) =
        open(&credentials, &path, &[("origin", &origin)]).await.expect("a socket");
    let (first, a) = event(&mut socket).await;
    client.create(CONFIG_MAPS, &config_map("b", "")).await;
    let (second, b) = event(&mut socket).await;

    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!((&*first, a["data"]["text"].as_str()), ("ADDED", Some(&*long)));
    assert_eq!((&*second, &b["metadata"]["name"]), ("ADDED", &json!("b")));
    let Some(Ok(Message::Close(Some(goodbye)))) = socket.next().await else { panic!("no goodbye") };
    assert_eq!(goodbye.code, CloseCode::Normal);
    assert!(socket.next().await.is_none(), "nothing after it");
}

#[tokio::test]
async fn a_client_that_says_goodbye_or_vanishes_ends_its_watch() {
    let port = free_port();
    let api = Api::start_with(|options| {
        options.metrics = Some(([127, 0, 0, 1], port).into());
    });
    let _connected = with_project(&api).await;
    let credentials = Credentials::load(api.kubeconfig());
    let path = format!("{CONFIG_MAPS}?watch=true");
    let (mut polite, _) = open(&credentials, &path, &[]).await.expect("a socket");
    let (rude, _) = open(&credentials, &path, &[]).await.expect("a socket");
    // Counted as what they are: connections, with a watch each. One more put the project there.
    let under_way = async || {
        let watches = figure(port, "isocast_controller_watches").await;
        (watches, figure(port, "isocast_controller_connections").await)
    };
    assert_eq!(under_way().await, (2.0, 3.0));

    polite.close(None).await.expect("a goodbye");
    while let Some(Ok(_)) = polite.next().await {}
    drop(rude);

    while under_way().await != (0.0, 1.0) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_page_in_a_browser_names_its_token_among_the_protocols() {
    let api = Api::start();
    let mut admin = with_project(&api).await;
    let viewer = api.user_with(&mut admin, "vera", "viewer", "web").await;
    let token = viewer.bearer.expect("a token");
    let certified = Credentials::load(api.kubeconfig());
    let browser = certified.clone().anonymous();
    let path = format!("{CONFIG_MAPS}?watch=true");
    let bearer = |token: &str| {
        format!("base64url.bearer.authorization.k8s.io.{}", URL_SAFE_NO_PAD.encode(token))
    };
    let foreign = ("origin", "https://dashboard.example");

    let offered = format!("{}, v1.isocast.dev", bearer(&token));
    let protocol = ("sec-websocket-protocol", &*offered);
    let (mut socket, answer) = open(&browser, &path, &[protocol, foreign]).await.expect("a socket");
    let accepted = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    assert_eq!(accepted.and_then(|it| it.to_str().ok()), Some("v1.isocast.dev"), "never the token");
    admin.create(CONFIG_MAPS, &config_map("a", "")).await;
    assert_eq!(event(&mut socket).await.0, "ADDED");

    let wrong = format!("{}, v1.isocast.dev", bearer("isocast.nobody"));
    assert_eq!(refused(&browser, &path, &[("sec-websocket-protocol", &wrong)]).await, 401);
    let elsewhere = "/api/v1/namespaces/acme/configmaps?watch=true";
    assert_eq!(refused(&browser, elsewhere, &[protocol]).await, 404);
    // A page of anybody's, in the browser of somebody who has a certificate.
    assert_eq!(refused(&certified, &path, &[foreign]).await, 403);
    assert_eq!(refused(&certified, &path, &[("origin", "null")]).await, 403);
}

#[tokio::test]
async fn what_is_no_watch_or_no_websocket_of_today_is_answered_without_one() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let credentials = Credentials::load(api.kubeconfig());
    let upgrade = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];

    let list = client.get_with(CONFIG_MAPS, &upgrade).await;
    let watch = client.get_with(&format!("{CONFIG_MAPS}?watch=true"), &upgrade).await;

    assert_eq!((list.code, &list.body["kind"]), (StatusCode::OK, &json!("ConfigMapList")));
    assert_eq!(watch.code, StatusCode::BAD_REQUEST, "{watch:?}");
    let path = format!("{CONFIG_MAPS}?watch=true");
    assert_eq!(refused(&credentials, &path, &[("sec-websocket-version", "8")]).await, 400);
    assert_eq!(refused(&credentials, "/api/v1/pods?watch=true", &[]).await, 404);
}

#[tokio::test]
async fn former_paths_of_watches_are_served() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    for name in ["a", "b"] {
        client.create(CONFIG_MAPS, &config_map(name, "")).await;
    }
    let former = |rest: &str| format!("/api/v1/watch/namespaces/web/configmaps{rest}");

    let mut all = connect(&api).await.watch(&former("?resourceVersion=0")).await;
    let mut one = connect(&api).await.watch(&former("/b")).await;

    let mut names = Vec::new();
    for _ in 0..2 {
        names.push(next(&mut all).await.1["metadata"]["name"].clone());
    }
    assert_eq!(names, ["a", "b"]);
    assert_eq!(next(&mut one).await.1["metadata"]["name"], "b");
    let refusal = client.send(Method::POST, &former(""), "application/json", "{}").await;
    assert_eq!(refusal.code, StatusCode::NOT_FOUND);
}
