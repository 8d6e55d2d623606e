//! A small topology with a real FRR and a real BIRD: made, used, cut, killed, removed.
//!
//! Needs root, veth, FRR and BIRD.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use isocast_lab::{
    collector::Collector, command, lab::Lab, netns::Namespace, routers, state::State, tools::Tools,
};

const TOPOLOGY: &str = r#"
name: NAME
mgmt: { network: NAME, ipv4-subnet: 172.20.40.0/24 }
topology:
  defaults:
    kind: linux
    image: none
    sysctls:
      net.ipv6.conf.all.accept_dad: "0"
      net.ipv6.conf.default.accept_dad: "0"
      net.ipv4.ip_forward: "1"
  nodes:
    left:
      labels: { isocast.lab/role: frr }
      mgmt-ipv4: 172.20.40.11
      exec: [ip address add 10.0.0.1/24 dev eth1, ip address add fd00::1/64 dev eth1]
      binds: ["zebra.conf:/etc/frr/zebra.conf", "bgpd.conf:/etc/frr/bgpd.conf"]
    right:
      labels: { isocast.lab/role: bird, isocast.lab/datacenter: ams, isocast.lab/asn: "64602" }
      mgmt-ipv4: 172.20.40.12
      exec: [ip address add 10.0.0.2/24 dev eth1, ip address add fd00::2/64 dev eth1]
      binds: ["bird.conf:/etc/bird/bird.conf"]
  links:
    - { endpoints: ["left:eth1", "right:eth1"], mtu: 1600 }
"#;

const BGPD: &str = "
router bgp 64601
 no bgp ebgp-requires-policy
 neighbor 10.0.0.2 remote-as 64602
 neighbor 10.0.0.2 timers 1 3
 neighbor 10.0.0.2 timers connect 1
";

const BIRD: &str = "
router id 10.0.0.2;
protocol device {}
protocol static service { ipv4; route 203.0.113.7/32 blackhole; }
protocol bgp collector { local as 64602; neighbor 172.20.40.1 as 65099; connect delay time 1;
  connect retry time 1; error wait time 1, 2; ipv4 { import none; export all; }; }
protocol bgp { local as 64602; neighbor 10.0.0.1 as 64601; hold time 3; connect delay time 1;
  connect retry time 1; error wait time 1, 2; ipv4 { import none; export all; }; }
";

/// A lab of its own name; it is removed when dropped, also after a panic.
struct Scratch {
    name: String,
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new(test: &str) -> Self {
        let scratch = Self {
            name: format!("t{}-{test}", std::process::id()),
            folder: tempfile::tempdir().unwrap(),
        };
        let write = |file: &str, text: &str| {
            std::fs::write(scratch.folder.path().join(file), text).unwrap();
        };
        write("lab.yml", &TOPOLOGY.replace("NAME", &scratch.name));
        write("zebra.conf", "");
        write("bgpd.conf", BGPD);
        write("bird.conf", BIRD);
        scratch
    }

    fn create(&self) -> Lab {
        let lab = Lab::create(&self.folder.path().join("lab.yml"), tools(), true).unwrap();
        lab.start("left").unwrap();
        lab.start("right").unwrap();
        lab
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        let names = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let all = ["/run/netns", "/run/isocast-lab", "/var/run/frr"].map(names);
        let of_lab = all.into_iter().flatten().map(|entry| entry.path());
        of_lab.filter(|path| path.to_string_lossy().contains(&self.name)).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = Lab::down(&self.name);
        // A second panic while one is under way would hide the first.
        assert!(std::thread::panicking() || removed.is_ok(), "{removed:?}");
    }
}

fn tools() -> Tools {
    Tools { programs: "/nonexistent".into(), kubectl: "kubectl".into() }
}

/// Waits until a router has so many next hops of the right one's prefix.
fn wait_for_next_hops(lab: &Lab, count: usize) {
    let prefix = "203.0.113.7/32".parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let hops = routers::kernel_next_hops(lab, "left", prefix).unwrap();
        if hops.len() == count {
            return;
        }
        assert!(Instant::now() < deadline, "{hops:?} after 20 s, expected {count}");
        std::thread::park_timeout(routers::POLL_INTERVAL);
    }
}

#[test]
fn routers_exchange_routes_and_nothing_is_left_behind() {
    let scratch = Scratch::new("routes");
    let lab = scratch.create();

    wait_for_next_hops(&lab, 1);
    let prefix = "203.0.113.7/32".parse().unwrap();
    assert_eq!(routers::daemon_next_hops(&lab, "left", prefix).unwrap(), 1);

    Lab::down(&scratch.name).unwrap();
    assert_eq!(scratch.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_cut_cable_is_silent_and_can_be_joined_again() {
    let scratch = Scratch::new("cut");
    let lab = scratch.create();
    wait_for_next_hops(&lab, 1);

    lab.cut("right").unwrap();

    let namespace = lab.topology.node_namespace("left");
    let link = command::run("ip", ["-n", namespace.name(), "link", "show", "eth1"]).unwrap();
    assert!(link.contains("LOWER_UP"), "{link}");
    wait_for_next_hops(&lab, 0);
    lab.restore("right").unwrap();
    wait_for_next_hops(&lab, 1);
}

#[test]
fn a_node_without_power_comes_back_with_its_address() {
    let scratch = Scratch::new("power");
    let lab = scratch.create();
    wait_for_next_hops(&lab, 1);

    lab.power_off(&["right"]).unwrap();

    assert!(!lab.topology.node_namespace("right").exists());
    wait_for_next_hops(&lab, 0);
    lab.power_on(&["right"]).unwrap();
    wait_for_next_hops(&lab, 1);
}

#[test]
fn what_a_crash_left_is_removed_by_the_next_lab_of_that_name() {
    let scratch = Scratch::new("crash");
    drop(scratch.create());
    let namespace = Namespace::named(format!("isol-{}-left", scratch.name));
    let before = namespace.processes().unwrap();
    assert!(!before.is_empty());

    let lab = scratch.create();

    assert!(before.iter().all(|process| !process.is_alive()));
    wait_for_next_hops(&lab, 1);
}

#[tokio::test]
async fn the_collector_tells_a_withdrawal_from_a_lost_session() {
    let scratch = Scratch::new("collect");
    let lab = scratch.create();
    let mut collector = Collector::start(&lab.topology, lab.topology.borders()).unwrap();
    let right = lab.node("right").unwrap();
    wait_until("the session is up", async || collector.is_up()).await;
    wait_for_next_hops(&lab, 1);

    routers::show(&lab, right, "disable service").unwrap();
    let withdrawals = async || collector.withdrawals().await.unwrap();
    wait_until("a withdrawal is counted", async || withdrawals().await == 1).await;

    routers::show(&lab, right, "enable service").unwrap();
    wait_for_next_hops(&lab, 1);
    collector.begin_window().await.unwrap();
    lab.kill("right", "bird").unwrap();
    wait_until("the session is down", async || !collector.is_up()).await;
    assert_eq!(collector.withdrawals().await.unwrap(), 0);
}

async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(routers::POLL_INTERVAL).await;
    }
}

/// Against the part of containerlab's format that the lab uses, and against containerlab's own
/// schema where a copy of its `schemas/clab.schema.json` is at hand.
#[test]
fn the_two_dc_topology_is_valid_for_containerlab() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let published = std::env::var_os("CONTAINERLAB_SCHEMA").map(PathBuf::from);
    let schemas = [Some(folder.join("tests/containerlab.schema.json")), published];
    let text = std::fs::read_to_string(folder.join("topologies/two-dc.clab.yml")).unwrap();
    let topology: serde_json::Value = serde_saphyr::from_str(&text).unwrap();

    for schema in schemas.into_iter().flatten() {
        let schema = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> =
            validator.iter_errors(&topology).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
    }
}

#[test]
fn programs_of_other_namespaces_are_not_killed() {
    let scratch = Scratch::new("others");
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let lab = scratch.create();

    lab.kill("left", "sleep").unwrap();

    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_lab_that_is_not_there_is_named() {
    let error = Lab::open("nowhere", tools()).unwrap_err().to_string();

    assert!(error.contains("nowhere"), "{error}");
    assert!(State::load("nowhere").unwrap().is_none());
    Lab::down("nowhere").unwrap();
}

#[test]
fn every_file_of_the_two_dc_topology_is_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/two-dc.clab.yml");
    let topology = isocast_lab::topology::Topology::read(&path).unwrap();

    for bind in topology.nodes.values().flat_map(|node| &node.binds) {
        assert!(bind.source.is_file(), "{}", bind.source.display());
    }
}
