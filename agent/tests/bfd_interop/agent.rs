//! The agent as a process of its own, which can be killed, with a configuration file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use isocast_api::agent::{self as wire, AddressFamily, Entry, OnNoLocalBackend, entry::Value};
use isocast_dataplane::{detach, pass};
use nix::sched::{CloneFlags, setns};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    PREFIX_V4, PREFIX_V6,
    net::{BIRD_V6, EDGE_TO_FRR_V4, FRR_V4, Lab, eventually, run},
    routers::{BIRD_ASN, FRR_ASN},
    watched::EDGE_TO_BIRD_V6,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Agent {
    folder: PathBuf,
    pins: PathBuf,
    process: Option<Child>,
}

#[derive(Serialize)]
struct File {
    entries: Vec<Entry>,
}

impl Agent {
    /// An agent with BFD towards both routers, and its interfaces; it does not run yet.
    pub(crate) async fn new(lab: &Lab, interval_ms: u32) -> Self {
        for (namespace, link) in [(&lab.frr, "toedge"), (&lab.bird, "toedge")] {
            in_namespace(namespace, move || pass::attach(link).unwrap());
            let arguments = ["netns", "exec", namespace, "ethtool", "-K", link, "tx", "off"];
            run("ip", &arguments, "").await;
        }
        let folder = lab.dir.path().to_owned();
        let file = serde_json::to_vec_pretty(&File { entries: entries(interval_ms) }).unwrap();
        fs::write(folder.join("node.json"), file).unwrap();
        fs::create_dir(folder.join("state")).unwrap();
        let pins = Path::new("/sys/fs/bpf/isocast-test").join(&lab.edge);
        Self { folder, pins, process: None }
    }

    /// Starts it, in the test's own namespace.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_isocast-agent"));
        command.arg("run").arg("--config").arg(self.folder.join("node.json"));
        command.arg("--state").arg(self.folder.join("state"));
        command.arg("--bpffs").arg(&self.pins).args(["--metrics", METRICS]);
        command.arg("--admin-socket").arg(self.folder.join("agent.sock"));
        command.args(["--log-format", "json"]);
        let log = self.folder.join("agent.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        self.process = Some(command.spawn().unwrap());
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    /// Waits until the XDP program answers both peers.
    pub(crate) async fn is_reflected(&self) {
        eventually("the program answers both peers", async || {
            self.values("isocast_agent_bfd_session_reflected").await == [1, 1]
        })
        .await;
    }

    /// Values of a metric, in the order of its labels.
    pub(crate) async fn values(&self, metric: &str) -> Vec<u64> {
        let Ok(text) = self.metrics().await else { return Vec::new() };
        let of_metric = text.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
        of_metric.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
    }

    /// What the agent logged.
    pub(crate) fn log_lines(&self) -> Vec<serde_json::Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
    }

    async fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(METRICS).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.process.take());
        drop(detach(&self.pins));
        if std::thread::panicking() {
            eprintln!("the agent said:\n{}", self.log());
        }
    }
}

const METRICS: &str = "127.0.0.1:9100";

fn in_namespace(namespace: &str, body: impl FnOnce() + Send + 'static) {
    let path = format!("/run/netns/{namespace}");
    let inside = std::thread::spawn(move || {
        setns(fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        body();
    });
    inside.join().unwrap();
}

/// A service that is announced whatever its backends do: what is looked at here are routers.
fn entries(interval_ms: u32) -> Vec<Entry> {
    let entry = |key: &str, value| Entry { key: key.to_owned(), value: Some(value) };
    let uplink = |interface: &str| wire::Uplink {
        interface: interface.to_owned(),
        ..wire::Uplink::default()
    };
    let node = wire::Node {
        name: "edge".into(),
        datacenter: "ams".into(),
        roles: vec![wire::Role::Edge.into()],
        tunnel_addresses: vec![EDGE_TO_FRR_V4.to_string(), "2001:db8:91::1".into()],
        uplinks: vec![uplink("tofrr"), uplink("tobird")],
        asn: 65_010,
        router_id: EDGE_TO_FRR_V4.to_string(),
        keyring: Some(wire::Keyring {
            sent_tag: vec![7; 4],
            believed_tags: vec![vec![7; 4]],
            flow_key: vec![7; 16],
            ..Default::default()
        }),
        announceable_prefixes: vec![PREFIX_V4.into(), PREFIX_V6.into()],
        idle: false,
    };
    let backend = wire::Backend {
        uid: "b1".into(),
        name: "b1".into(),
        datacenter: "ams".into(),
        tunnel_address: FRR_V4.to_string(),
        weight: 1,
        drained: false,
        ..wire::Backend::default()
    };
    let pool = wire::BackendPool {
        uid: "pool".into(),
        namespace: "web".into(),
        name: "www".into(),
        backends: vec![backend],
        slow_start_ms: 0,
    };
    let http = wire::HttpCheck { path: "/".into(), host: String::new() };
    let service = wire::Service {
        uid: "service".into(),
        namespace: "web".into(),
        name: "www".into(),
        generation: 1,
        tenant_id: 1,
        addresses: [PREFIX_V4, PREFIX_V6].map(address_of).to_vec(),
        ports: vec![wire::Port {
            name: "http".into(),
            protocol: wire::Protocol::Tcp.into(),
            port: 80,
        }],
        pool_uid: "pool".into(),
        health_check: Some(wire::HealthCheck {
            http: Some(http),
            port: 80,
            interval_ms: 500,
            fast_interval_ms: 100,
            timeout_ms: 100,
            rise: 1,
            fall: 1,
        }),
        failover: Some(wire::Failover {
            on_no_local_backend: OnNoLocalBackend::ServeAnyway.into(),
            min_healthy_backends: 1,
            datacenter_preference: vec!["ams".into()],
        }),
        mid_flow_move: wire::MidFlowMove::Reset.into(),
        ..wire::Service::default()
    };
    let bfd = wire::Bfd { interval_ms, multiplier: 3, multihop: false };
    let peer = |uid: &str, address: String, asn, local: String, family: AddressFamily| {
        let peer = wire::BgpPeer {
            uid: uid.into(),
            name: uid.into(),
            generation: 1,
            address,
            peer_asn: asn,
            local_address: local,
            families: vec![family.into()],
            hold_time_s: 3,
            graceful_restart_s: 30,
            bfd: Some(bfd),
            ..wire::BgpPeer::default()
        };
        entry(&format!("bgppeer/{uid}"), Value::BgpPeer(peer))
    };
    let (frr, local) = (FRR_V4.to_string(), EDGE_TO_FRR_V4.to_string());
    vec![
        entry("node", Value::Node(node)),
        entry("pool/pool", Value::Pool(pool)),
        entry("service/service", Value::Service(service)),
        peer("frr", frr, FRR_ASN, local, AddressFamily::Ipv4Unicast),
        peer(
            "bird",
            BIRD_V6.to_string(),
            BIRD_ASN,
            EDGE_TO_BIRD_V6.to_owned(),
            AddressFamily::Ipv6Unicast,
        ),
    ]
}

fn address_of(prefix: &str) -> String {
    prefix.split('/').next().unwrap_or_default().to_owned()
}
