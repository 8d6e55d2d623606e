//! Large answers come compressed to those who take them so, and watches never do.

use std::io::Read;

use flate2::read::GzDecoder;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Method};
use serde_json::{Value, json};

use super::{DATACENTERS, connect, datacenter};
use crate::support::{Api, client::Client};

/// A listing well above the limit of 128 KiB.
async fn filled(client: &mut Client) {
    for number in 0..40 {
        let mut object = datacenter(&format!("dc-{number}"), "eu");
        object["metadata"]["annotations"] = json!({"note": "isocast ".repeat(500)});
        assert_eq!(client.post(DATACENTERS, &object).await.code, 201);
    }
}

async fn read(client: &mut Client, path: &str, encoding: &str) -> (HeaderMap, Vec<u8>) {
    client.extra = vec![("accept-encoding", encoding.to_owned())];
    let answer = client.try_send(Method::GET, path, "", "").await.expect("an answer");
    let (head, body) = answer.into_parts();
    assert_eq!(head.status, 200);
    (head.headers, body.collect().await.expect("a body").to_bytes().to_vec())
}

#[tokio::test]
async fn a_large_listing_is_compressed_for_who_takes_it_and_says_the_same() {
    let api = Api::start();
    let mut client = connect(&api).await;
    filled(&mut client).await;

    let (head, plain) = read(&mut client, DATACENTERS, "identity").await;
    assert!(!head.contains_key("content-encoding"));
    assert_eq!(head["vary"], "Accept-Encoding");
    let (head, compressed) = read(&mut client, DATACENTERS, "gzip").await;
    assert_eq!(head["content-encoding"], "gzip");
    assert!(compressed.len() * 10 < plain.len(), "{} of {}", compressed.len(), plain.len());
    let mut text = Vec::new();
    GzDecoder::new(&*compressed).read_to_end(&mut text).expect("gzip");
    assert_eq!(text, plain);

    let one = format!("{DATACENTERS}/dc-1");
    let (head, small) = read(&mut client, &one, "gzip").await;
    assert!(!head.contains_key("content-encoding"));
    assert!(serde_json::from_slice::<Value>(&small).is_ok());
    // kubectl takes it so.
    let said = api.kubectl(&["get", "datacenters", "-o", "name"]).expect_ok();
    assert_eq!(said.out.lines().count(), 40);
}

#[tokio::test]
async fn a_watch_is_never_compressed_however_much_exists() {
    let api = Api::start();
    let mut client = connect(&api).await;
    filled(&mut client).await;

    let path = format!("{DATACENTERS}?watch=1&timeoutSeconds=1");
    let (head, lines) = read(&mut client, &path, "gzip").await;

    assert!(!head.contains_key("content-encoding"));
    let lines = String::from_utf8(lines).expect("text");
    let added = lines.lines().filter(|line| line.starts_with("{\"type\":\"ADDED\""));
    assert_eq!(added.count(), 40);
}
