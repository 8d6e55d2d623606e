//! Methods of HTTP that no client of Kubernetes needs, and others send.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use super::{DATACENTERS, connect, datacenter, with_project};
use crate::support::{Api, client::Credentials};

#[tokio::test]
async fn a_refused_method_comes_with_those_that_are_not() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let object = format!("{DATACENTERS}/ams");
    let claims = "/apis/network.isocast.dev/v1alpha1/addressclaims";
    for (method, path, allowed) in [
        (Method::PUT, DATACENTERS, "DELETE, GET, POST"),
        (Method::POST, &*object, "DELETE, GET, PATCH, PUT"),
        (Method::OPTIONS, &*object, "DELETE, GET, PATCH, PUT"),
        (Method::DELETE, &*format!("{object}/status"), "GET, PATCH, PUT"),
        (Method::PATCH, claims, "GET"),
        (Method::POST, claims, "GET"),
        (Method::DELETE, claims, "GET"),
        (Method::GET, "/apis/iam.isocast.dev/v1alpha1/users/a/token", "POST"),
        (Method::PUT, "/apis/network.isocast.dev/v1alpha1/nodes/a/agent/v1/status", "GET, POST"),
        (Method::DELETE, "/apis/network.isocast.dev/v1alpha1/bgpsessions/a", "GET"),
        (Method::GET, "/apis/authorization.k8s.io/v1/subjectaccessreviews", "POST"),
        (Method::POST, "/api/v1/namespaces", "GET"),
        (Method::POST, "/apis", "GET"),
        (Method::POST, "/backup", "GET"),
    ] {
        let answer = client.send(method.clone(), path, "application/json", "{}").await;
        assert_eq!(answer.code, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} {answer:?}");
        assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_question_to_a_node_that_is_posted_has_a_body() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let nodes = "/apis/network.isocast.dev/v1alpha1/nodes";
    let node = json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "Node",
        "metadata": {"name": "a"},
        "spec": {
            "datacenter": "ams", "roles": ["Backend"],
            "tunnelAddresses": ["10.1.21.2"], "uplinks": [{"interface": "eth1"}],
        },
    });
    let answer = client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
    let answer = client.post(nodes, &node).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");

    let path = format!("{nodes}/a/agent/v1/explain");
    let answer = client.send(Method::POST, &path, "application/json", "").await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.body["message"], "a question that is posted has a body");
}

#[tokio::test]
async fn head_has_no_content_in_http_2_either() {
    let api = Api::start();
    connect(&api).await;
    let tls = Credentials::load(api.kubeconfig()).tls_of(&[b"h2"]).await.expect("TLS");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.expect("HTTP/2");
    tokio::spawn(connection);
    for path in ["/version", DATACENTERS] {
        let request = Request::builder()
            .method(Method::HEAD)
            .uri(format!("https://localhost{path}"))
            .body(Full::<Bytes>::default())
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_ne!(answer.headers()["content-length"], "0");
        let body = answer.into_body().collect().await.expect("it is not broken off").to_bytes();
        assert!(body.is_empty(), "{body:?}");
    }
}
