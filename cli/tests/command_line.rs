//! The program as users run it, against a server that demands a client certificate.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;

/// A server that gives one answer, and what it was asked.
struct Server {
    folder: TempDir,
    requests: mpsc::Receiver<String>,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// PEM of a certificate for `name`, and its key.
fn certificate(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

/// Whom the kubeconfig believes to be the controller.
#[derive(PartialEq)]
enum Trust {
    TheServer,
    Somebody,
}

impl Server {
    fn start(status: &str, body: &str, trust: Trust) -> Self {
        let (servers, clients) = (authority(), authority());
        let (certificate_of_server, key) = certificate(&servers, "127.0.0.1");
        let trusted = if trust == Trust::TheServer { servers } else { authority() };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(clients.der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate_of_server.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        );
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that does not trust us ends its connection: the next may.
                let served = serve(stream.unwrap(), Arc::new(config.clone()), &answer);
                if let Ok(request) = served {
                    let _test_is_over = sender.send(request);
                }
            }
        });
        let (client, client_key) = certificate(&clients, "admin");
        let encode = |text: String| STANDARD.encode(text);
        let kubeconfig = format!(
            "current-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://{address}', certificate-authority-data: {}}}}}]\n\
             users: [{{name: u, user: {{client-certificate-data: {}, client-key-data: {}}}}}]\n",
            encode(trusted.pem()),
            encode(client.pem()),
            encode(client_key.serialize_pem()),
        );
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("config"), kubeconfig).unwrap();
        Self { folder, requests }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    fn request(&self) -> String {
        self.requests.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    fn isocast(&self, arguments: &[&str]) -> Output {
        isocast(arguments).env("KUBECONFIG", self.kubeconfig()).output().unwrap()
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, answer: &str) -> std::io::Result<String> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if stream.read_line(&mut request)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    request.push_str(&String::from_utf8_lossy(&body));
    stream.get_mut().write_all(answer.as_bytes())?;
    stream.get_mut().flush()?;
    Ok(request)
}

fn isocast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isocast"));
    command.args(arguments).env_remove("KUBECONFIG").env_remove("HOME");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_token_goes_to_standard_output_and_nothing_else_does() {
    let server = Server::start(
        "201 Created",
        r#"{"token": "isocast1.a.b.c", "expiresAt": "2026-11-22T03:00:00Z"}"#,
        Trust::TheServer,
    );

    let output = server.isocast(&["node", "token", "edge-1", "--ttl", "90m"]);

    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "isocast1.a.b.c\n");
    assert!(text(&output.stderr).contains("until 2026-11-22T03:00:00Z"));
    let request = server.request();
    assert!(
        request.starts_with("POST /apis/network.isocast.dev/v1alpha1/nodes/edge-1/token HTTP/1.1"),
        "{request}"
    );
    assert!(request.ends_with(r#"{"ttl":"1h30m"}"#), "{request}");
}

#[test]
fn get_prints_the_servers_table() {
    let server = Server::start(
        "200 OK",
        r#"{"kind": "Table", "columnDefinitions": [{"name": "Name"}, {"name": "Age"}],
            "rows": [{"cells": ["edge-1", "5m"]}]}"#,
        Trust::TheServer,
    );

    let output = server.isocast(&["get", "nodes"]);

    assert_eq!(text(&output.stdout), "NAME     AGE\nedge-1   5m\n");
    assert!(server.request().to_lowercase().contains("as=table"));
}

#[test]
fn a_rotation_of_keys_is_ordered_once_and_goes_on_by_itself() {
    let server = Server::start(
        "201 Created",
        r#"{"apiVersion": "network.isocast.dev/v1alpha1", "kind": "KeyRotation",
            "metadata": {"name": "secret-x7", "namespace": "isocast-system"},
            "spec": {"what": "ClusterSecret", "formerFor": "1h"}}"#,
        Trust::TheServer,
    );

    let output = server.isocast(&["keys", "rotate", "--secret", "--former-for", "1h"]);

    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.starts_with("rotation \"secret-x7\" of the ClusterSecret has begun"), "{said}");
    let request = server.request();
    let path = "/apis/network.isocast.dev/v1alpha1/namespaces/isocast-system/keyrotations";
    assert!(request.starts_with(&format!("POST {path} HTTP/1.1")), "{request}");
    assert!(request.contains(r#""spec":{"what":"ClusterSecret","formerFor":"1h"}"#), "{request}");
}

#[test]
fn rotations_of_keys_are_shown_with_what_they_wait_for() {
    let server = Server::start(
        "200 OK",
        r#"{"kind": "KeyRotationList", "items": [
            {"apiVersion": "network.isocast.dev/v1alpha1", "kind": "KeyRotation",
             "metadata": {"name": "b", "namespace": "isocast-system",
                          "creationTimestamp": "2026-11-22T10:00:01Z"},
             "spec": {"what": "EncapsulationKey"},
             "status": {"phase": "Distributing", "waitingFor": ["be-1"], "conditions": [
               {"type": "Complete", "status": "False", "reason": "Distributing",
                "message": "nodes learn", "lastTransitionTime": "2026-11-22T10:00:02Z"}]}},
            {"apiVersion": "network.isocast.dev/v1alpha1", "kind": "KeyRotation",
             "metadata": {"name": "a", "namespace": "isocast-system",
                          "creationTimestamp": "2026-11-22T10:00:00Z"},
             "spec": {"what": "ClusterSecret"}, "status": {"phase": "Complete"}}]}"#,
        Trust::TheServer,
    );

    let output = server.isocast(&["keys", "status"]);

    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "a (ClusterSecret): Complete\n\
         b (EncapsulationKey): Distributing: nodes learn\n  waits for be-1\n"
    );
}

#[test]
fn a_refusal_is_the_servers_words_and_where_they_came_from() {
    let server = Server::start(
        "404 Not Found",
        r#"{"kind": "Status", "reason": "NotFound", "message": "nodes \"x\" not found"}"#,
        Trust::TheServer,
    );

    let output = server.isocast(&["get", "node", "x"]);

    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(
        error.starts_with("Error: nodes \"x\" not found (404 NotFound, GET https://"),
        "{error}"
    );
}

#[test]
fn a_server_of_another_authority_is_not_trusted() {
    let server = Server::start("200 OK", "{}", Trust::Somebody);

    let output = server.isocast(&["get", "nodes"]);

    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("do not trust each other"), "{error}");
}

#[test]
fn a_controller_that_is_not_there_is_named_with_its_source() {
    let server = Server::start("200 OK", "{}", Trust::TheServer);
    let vacant = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let start = config.find("https://").unwrap();
    let end = start + config[start..].find('\'').unwrap();
    let config = format!("{}https://{vacant}{}", &config[..start], &config[end..]);
    std::fs::write(server.kubeconfig(), config).unwrap();

    let output = server.isocast(&["status"]);

    let error = text(&output.stderr);
    assert!(error.contains("is the controller running"), "{error}");
    assert!(error.contains(&vacant.to_string()) && error.contains("/config"), "{error}");
}

#[test]
fn a_missing_kubeconfig_says_where_to_get_one() {
    let output = isocast(&["get", "nodes"]).env("HOME", "/nonexistent").output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("admin.kubeconfig"));
}

#[test]
fn misuse_is_exit_code_2_and_help_is_0() {
    assert_eq!(isocast(&["no-such-command"]).output().unwrap().status.code(), Some(2));
    assert_eq!(isocast(&["--help"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn completion_scripts_name_the_commands() {
    let output = isocast(&["completion", "bash"]).output().unwrap();

    assert!(text(&output.stdout).contains("isocast__subcmd__node"));
}

#[test]
fn a_check_of_the_records_prints_an_anchor_and_holds_them_to_it() {
    let server = Server::start(
        "200 OK",
        r#"{"first": "1", "head": "7", "checked": "7", "link": "ab12", "intact": true,
            "metadata": {}}"#,
        Trust::TheServer,
    );

    let output = server.isocast(&["audit", "verify"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "intact from revision 1 to 7\nanchor 7:ab12\n");
    assert!(server.isocast(&["audit", "verify", "--anchor", "7:ab12"]).status.success());
    let other = server.isocast(&["audit", "verify", "--anchor", "7:cd34"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("not those of the anchor"), "{}", text(&other.stderr));
}

#[test]
fn records_that_are_not_what_was_written_are_a_failure() {
    let server = Server::start(
        "200 OK",
        r#"{"first": "1", "head": "7", "checked": "3", "link": "", "intact": false,
            "fault": "the record of revision 4 is missing", "metadata": {}}"#,
        Trust::TheServer,
    );

    let output = server.isocast(&["audit", "verify"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("revision 4 is missing"), "{}", text(&output.stderr));
}

#[test]
fn records_are_searched_by_who_and_printed_as_a_table() {
    let server = Server::start(
        "200 OK",
        r#"{"metadata": {}, "items": [{"time": "2026-11-22T18:20:11.402Z",
            "actor": "user \"alice\"", "verb": "delete", "outcome": "Changed",
            "resource": "anycastservices.network.isocast.dev", "namespace": "web", "name": "www",
            "source": "192.0.2.44"}]}"#,
        Trust::TheServer,
    );

    let output = server.isocast(&["audit", "search", "--actor", "alice", "--verb", "delete"]);

    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("anycastservices web/www"), "{}", text(&output.stdout));
    let request = server.request();
    assert!(
        request.starts_with(
            "GET /apis/audit.isocast.dev/v1alpha1/auditrecords?actor=alice&verb=delete&limit=500"
        ),
        "{request}"
    );
}
