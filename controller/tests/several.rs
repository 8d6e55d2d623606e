//! Several controllers of one platform, on one etcd: real processes, killed as processes are.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod support;

use std::{
    fs,
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use support::{
    client::{Client, Credentials},
    etcd::{self, Etcd, share},
};
use tokio::time::{sleep, timeout};

const PROJECTS: &str = "/apis/resourcemanager.isocast.dev/v1alpha1/projects";
const ORGANIZATIONS: &str = "/apis/resourcemanager.isocast.dev/v1alpha1/organizations";
const DATACENTERS: &str = "/apis/network.isocast.dev/v1alpha1/datacenters";
const NODES: &str = "/apis/network.isocast.dev/v1alpha1/nodes";
const DEADLINE: Duration = Duration::from_secs(60);
/// Between attempts: a process says by nothing else how far it is.
const PAUSE: Duration = Duration::from_millis(10);
/// From the death of who manages until another one does.
const FAIL_OVER: Duration = Duration::from_secs(3);
const DEATHS: usize = 3;
/// How long etcd is gone, and how often a controller tries to connect to it meanwhile.
const ABSENCE: Duration = Duration::from_secs(3);
const ATTEMPTS_MAX: usize = 150;

struct Controller {
    data: PathBuf,
    child: Child,
}

fn command(data: &Path, etcd: &Etcd) -> Command {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_isocast-controller"));
    command
        .args(["--listen", &format!("127.0.0.1:{port}"), "--agent-listen", "127.0.0.1:0"])
        .args(["--store", "etcd", "--etcd-endpoints", &etcd.url()])
        .arg("--data")
        .arg(data)
        .env("RUST_LOG", "warn,isocast_controller::store::lease=info")
        .stdout(Stdio::null());
    command
}

impl Controller {
    /// One, once it answers.
    async fn start(data: &Path, etcd: &Etcd) -> Self {
        Self::of(data, command(data, etcd)).await
    }

    async fn of(data: &Path, mut command: Command) -> Self {
        drop(fs::remove_file(data.join("admin.kubeconfig")));
        let child = command.spawn().expect("the controller starts");
        let this = Self { data: data.to_owned(), child };
        this.connect().await;
        this
    }

    async fn connect(&self) -> Client {
        let kubeconfig = self.data.join("admin.kubeconfig");
        soon(async {
            loop {
                if fs::exists(&kubeconfig).unwrap_or(false)
                    && let Ok(client) = Credentials::load(&kubeconfig).connect().await
                {
                    return client;
                }
                sleep(PAUSE).await;
            }
        })
        .await
    }

    /// By SIGKILL.
    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens soon")
}

fn object(group: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{group}.isocast.dev/v1alpha1"),
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}

fn project(name: &str) -> Value {
    let parent = json!({"parent": {"kind": "Organization", "name": "acme"}});
    object("resourcemanager", "Project", name, &parent)
}

fn datacenter(name: &str) -> Value {
    object("network", "Datacenter", name, &json!({"region": "eu"}))
}

/// Makes it, however often that takes; that it is there already is what was wanted.
async fn made(client: &mut Client, path: &str, body: &Value) {
    soon(async {
        loop {
            let answer = client.post(path, body).await;
            match answer.code {
                StatusCode::CREATED | StatusCode::CONFLICT => return,
                StatusCode::SERVICE_UNAVAILABLE => sleep(PAUSE).await,
                _ => panic!("{answer:?}"),
            }
        }
    })
    .await;
}

/// Makes a project with something in it and has it deleted, which takes somebody who manages; gives when it is gone.
async fn purged(client: &mut Client, name: &str) -> Instant {
    let organization = object("resourcemanager", "Organization", "acme", &json!({}));
    made(client, ORGANIZATIONS, &organization).await;
    made(client, PROJECTS, &project(name)).await;
    // A project that has nothing goes at once, whoever manages.
    let content = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {},
    });
    made(client, &format!("/api/v1/namespaces/{name}/configmaps"), &content).await;
    let path = format!("{PROJECTS}/{name}");
    client.delete(&path, &json!({})).await;
    soon(async {
        while client.get(&path).await.code != StatusCode::NOT_FOUND {
            sleep(PAUSE).await;
        }
    })
    .await;
    Instant::now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_who_manages_is_killed_another_one_does_within_three_seconds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let etcd = Etcd::start();
    let data = ["a", "b"].map(|name| folder.path().join(name));
    let mut manages = Controller::start(&data[0], &etcd).await;
    purged(&mut manages.connect().await, "first").await;
    share(&data[0], &data[1]);
    let mut waits = Controller::start(&data[1], &etcd).await;
    for death in 0..DEATHS {
        let mut client = waits.connect().await;
        // It manages: the other one could not have taken the lease meanwhile.
        purged(&mut client, &format!("before-{death}")).await;

        let died = Instant::now();
        manages.kill();
        let gone = purged(&mut client, &format!("after-{death}")).await;

        let took = gone.duration_since(died);
        println!("managed again after {took:?}");
        assert!(took <= FAIL_OVER, "{took:?}");
        let again = Controller::start(&manages.data.clone(), &etcd).await;
        manages = std::mem::replace(&mut waits, again);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_through_one_is_watched_and_judged_through_the_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let etcd = Etcd::start();
    let data = ["a", "b"].map(|name| folder.path().join(name));
    let one = Controller::start(&data[0], &etcd).await;
    share(&data[0], &data[1]);
    let other = Controller::start(&data[1], &etcd).await;
    let mut writes = one.connect().await;
    let mut lines = other.connect().await.watch(&format!("{DATACENTERS}?watch=1")).await;
    let mut reads = other.connect().await;
    for number in 0..20 {
        let name = format!("dc-{number}");
        let made = writes.post(DATACENTERS, &datacenter(&name)).await;
        assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
        let again = reads.post(DATACENTERS, &datacenter(&name)).await;
        assert_eq!(again.code, StatusCode::CONFLICT, "{again:?}");
        // Not older than what its writer has seen.
        let revision = made.body["metadata"]["resourceVersion"].as_str().expect("a revision");
        let list = reads.get(&format!("{DATACENTERS}?resourceVersion={revision}")).await;
        assert_eq!(list.code, StatusCode::OK, "{list:?}");
        let items = list.body["items"].as_array().expect("a list");
        assert!(items.iter().any(|item| item["metadata"]["name"] == name.as_str()));
    }
    let seen = async {
        let mut added = 0;
        while added < 20 {
            let event = lines.next().await.expect("an event");
            added += usize::from(event["type"] == "ADDED");
        }
    };
    soon(seen).await;

    // Tokens to join are the platform's, whoever is asked for them; nodes are asked by who manages.
    let spec = json!({
        "datacenter": "dc-0", "roles": ["Edge"], "asn": 65010,
        "tunnelAddresses": ["10.1.11.2"], "uplinks": [{"interface": "eth1", "mtu": 1600}],
    });
    let node = object("network", "Node", "n", &spec);
    made(&mut writes, NODES, &node).await;
    for client in [&mut writes, &mut reads] {
        let token = soon(async {
            loop {
                let token = client.post(&format!("{NODES}/n/token"), &json!({})).await;
                if token.code != StatusCode::NOT_FOUND {
                    return token;
                }
                sleep(PAUSE).await;
            }
        });
        let token = token.await;
        assert!(token.code.is_success(), "{token:?}");
    }
    let asked = reads.get(&format!("{NODES}/n/agent/v1/status")).await;
    assert_eq!(asked.code, StatusCode::SERVICE_UNAVAILABLE, "{asked:?}");
}

/// How many connections are tried where etcd was. Each is closed at once.
async fn attempts(etcd: &Etcd, lasts: Duration) -> usize {
    let listener = tokio::net::TcpListener::bind(etcd.socket()).await.expect("nobody has it");
    let mut count = 0;
    let accepts = async {
        loop {
            drop(listener.accept().await.expect("it listens"));
            count += 1;
        }
    };
    timeout(lasts, accepts).await.expect_err("it accepts for ever");
    count
}

/// What a controller has used of a processor, by `/proc`.
fn processor_time(controller: &Controller) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", controller.child.id()));
    let stat = stat.expect("it runs");
    // After its name: fields 14 and 15 of all are its time and the kernel's for it, in hundredths.
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a rest").split_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|it| it.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_outlive_etcd_and_manage_again_when_it_is_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut etcd = Etcd::start();
    let data = folder.path().join("a");
    let mut controller = Controller::start(&data, &etcd).await;
    let mut client = controller.connect().await;
    purged(&mut client, "before").await;
    made(&mut client, DATACENTERS, &datacenter("ams")).await;

    etcd.kill();
    let refused = client
        .try_send(Method::POST, DATACENTERS, "application/json", datacenter("b").to_string())
        .await
        .expect("an answer");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers().get("retry-after").map(|it| it.as_bytes()), Some(&b"1"[..]));
    drop(refused.into_body().collect().await.expect("whole"));
    let there = client.get(&format!("{DATACENTERS}/ams")).await;
    assert_eq!(there.code, StatusCode::OK, "reads go on");
    // For longer than the lease lasts: it does not manage any more. It asks again and again, with pauses.
    let before = processor_time(&controller);
    let attempts = attempts(&etcd, ABSENCE).await;
    let busy = processor_time(&controller) - before;
    println!("{attempts} connections, and {busy:?} of a processor, in {ABSENCE:?}");
    assert!((1..=ATTEMPTS_MAX).contains(&attempts), "{attempts}");
    assert!(busy < ABSENCE / 2, "{busy:?}");
    etcd.revive();

    made(&mut client, DATACENTERS, &datacenter("c")).await;
    purged(&mut client, "after").await;
    assert!(controller.child.try_wait().expect("a child").is_none(), "it is the same process");
}

/// Which objects they are; what is observed of them changes by itself.
fn identities(list: &Value) -> Vec<Value> {
    let items = list["items"].as_array().expect("a list").iter();
    items.map(|item| json!([item["metadata"]["name"], item["metadata"]["uid"]])).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_of_another_platform_is_told_what_it_lacks() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let etcd = Etcd::start();
    let data = ["a", "b"].map(|name| folder.path().join(name));
    let _one = Controller::start(&data[0], &etcd).await;

    let refused = command(&data[1], &etcd).output().expect("runs");
    assert!(!refused.status.success());
    let text = said(&refused);
    assert!(
        text.contains("not of the platform in etcd") && text.contains("secrets.keys"),
        "{text}"
    );

    fs::copy(data[0].join("secrets.keys"), data[1].join("secrets.keys")).expect("copied");
    let refused = command(&data[1], &etcd).output().expect("runs");
    assert!(said(&refused).contains("pki/ca.crt"), "{}", said(&refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_moves_from_a_file_to_etcd_by_a_backup() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let etcd = Etcd::start();
    let alone = folder.path().join("alone");
    let mut lone = Command::new(env!("CARGO_BIN_EXE_isocast-controller"));
    lone.args(["--listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0", "--data"]);
    lone.arg(&alone).stdout(Stdio::null());
    let lone = Controller::of(&alone, lone).await;
    let mut client = lone.connect().await;
    for number in 0..200 {
        made(&mut client, DATACENTERS, &datacenter(&format!("dc-{number}"))).await;
    }
    let before = identities(&client.get(DATACENTERS).await.body);
    assert_eq!(before.len(), 200);
    let answer = client.try_send(Method::GET, "/backup", "", "").await.expect("an answer");
    let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
    let backup = folder.path().join("backup");
    fs::write(&backup, &bytes).expect("writable");
    let keyring = fs::read(alone.join("keyring.json")).expect("keys");
    drop(lone);

    let data = folder.path().join("a");
    let restore = |data: &Path| {
        Command::new(env!("CARGO_BIN_EXE_isocast-controller"))
            .arg("restore")
            .arg(&backup)
            .arg("--data")
            .arg(data)
            .args(["--store", "etcd", "--etcd-endpoints", &etcd.url()])
            .output()
            .expect("runs")
    };
    let restored = restore(&data);
    assert!(restored.status.success(), "{}", said(&restored));
    assert!(!restore(&folder.path().join("b")).status.success(), "there is one already");

    let one = Controller::start(&data, &etcd).await;
    let mut client = one.connect().await;
    assert_eq!(identities(&client.get(DATACENTERS).await.body), before);
    purged(&mut client, "managed").await;
    // The keys of the data plane came along, and are the platform's now.
    let answer = client.try_send(Method::GET, "/backup", "", "").await.expect("an answer");
    let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
    let holds = bytes.windows(keyring.len()).any(|part| part == keyring);
    assert!(holds, "a backup of it has the same keys");
}

/// A certificate and its key in PEM, by the authority.
fn issue(authority: &Issuer<'_, KeyPair>, of: IpAddr, folder: &Path, name: &str) -> [PathBuf; 2] {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![of.to_string()]).expect("a name");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, authority).expect("signed");
    let paths = ["crt", "key"].map(|kind| folder.join(format!("{name}.{kind}")));
    fs::write(&paths[0], certificate.pem()).expect("writable");
    fs::write(&paths[1], key.serialize_pem()).expect("writable");
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_asks_for_a_certificate_is_shown_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = folder.path().join("ca.crt");
    fs::write(&ca, params.self_signed(&key).expect("signed").pem()).expect("writable");
    let authority = Issuer::new(params, key);
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let address = etcd::address();
    let [server, server_key] = issue(&authority, address.into(), folder.path(), "server");
    let [client, client_key] = issue(&authority, address.into(), folder.path(), "client");
    let arguments = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &text(&ca),
        "--cert-file",
        &text(&server),
        "--key-file",
        &text(&server_key),
    ];
    let etcd = Etcd::at(address, &arguments);
    let data = folder.path().join("data");

    let refused = command(&data, &etcd).args(["--etcd-ca", &text(&ca)]).output().expect("runs");
    assert!(said(&refused).contains("cannot use etcd"), "{}", said(&refused));

    let mut known = command(&data, &etcd);
    known.args(["--etcd-ca", &text(&ca), "--etcd-cert", &text(&client)]);
    known.args(["--etcd-key", &text(&client_key)]);
    let one = Controller::of(&data, known).await;
    made(&mut one.connect().await, DATACENTERS, &datacenter("ams")).await;
}
