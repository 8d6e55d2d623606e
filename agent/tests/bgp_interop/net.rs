//! Three network namespaces and two links, gone when the test is.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const EDGE_TO_BIRD_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 2, 1);
pub(crate) const EDGE_TO_FRR_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
pub(crate) const EDGE_TO_FRR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x91, 0, 0, 0, 0, 1);
pub(crate) const FRR_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 2);
pub(crate) const FRR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x91, 0, 0, 0, 0, 2);
/// A second address in FRR's namespace, for a peer written in the test.
pub(crate) const RAW_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 3);
pub(crate) const BIRD_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 2, 2);
pub(crate) const BIRD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x92, 0, 0, 0, 0, 2);

/// How long anything may take here: several times what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a whole test may take.
const TEST_MAX: Duration = Duration::from_secs(90);

static LABS: AtomicU32 = AtomicU32::new(0);

/// See the module.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) edge: String,
    pub(crate) frr: String,
    pub(crate) bird: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Lab {
    /// Runs a test on a thread of its own inside the edge's namespace: everything it opens, the
    /// driver's sockets too, is there.
    pub(crate) fn run(test: impl AsyncFnOnce(Self) + Send + 'static) {
        let test = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let lab = runtime.block_on(Self::new());
            let namespace = File::open(format!("/run/netns/{}", lab.edge)).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let ended = runtime.block_on(async { timeout(TEST_MAX, test(lab)).await });
            ended.expect("the test does not come to an end");
        });
        if let Err(panic) = test.join() {
            std::panic::resume_unwind(panic);
        }
    }

    async fn new() -> Self {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = |role| format!("isot-bgp-{}-{number}-{role}", std::process::id());
        let lab = Self {
            edge: name("edge"),
            frr: name("frr"),
            bird: name("bird"),
            dir: tempfile::Builder::new().prefix("isot-bgp-").tempdir().unwrap(),
        };
        let Self { edge, frr, bird, .. } = &lab;
        let mut batch = String::new();
        for namespace in [edge, frr, bird] {
            writeln!(batch, "netns add {namespace}").unwrap();
        }
        run("ip", &["-batch", "-"], &batch).await;
        for namespace in [edge, frr, bird] {
            let settings = "net.ipv6.conf.all.accept_dad=0\nnet.ipv6.conf.default.accept_dad=0\n\
                            net.ipv6.conf.all.accept_ra=0\nnet.ipv6.conf.default.accept_ra=0\n\
                            net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\n";
            run("ip", &["netns", "exec", namespace, "sysctl", "-q", "-p", "-"], settings).await;
        }
        run(
            "ip",
            &["-batch", "-"],
            &format!(
                "link add name tofrr netns {edge} type veth peer name toedge netns {frr}\n\
                 link add name tobird netns {edge} type veth peer name toedge netns {bird}\n"
            ),
        )
        .await;
        lab.address(edge, "tofrr", &["10.99.1.1/24", "2001:db8:91::1/64"]).await;
        lab.address(edge, "tobird", &["10.99.2.1/24", "2001:db8:92::1/64"]).await;
        let frr_own = ["10.99.1.2/24", "10.99.1.3/24", "2001:db8:91::2/64"];
        lab.address(frr, "toedge", &frr_own).await;
        lab.address(bird, "toedge", &["10.99.2.2/24", "2001:db8:92::2/64"]).await;
        lab
    }

    async fn address(&self, namespace: &str, link: &str, addresses: &[&str]) {
        let mut batch = String::from("link set lo up\n");
        for address in addresses {
            writeln!(batch, "address add {address} dev {link}").unwrap();
        }
        writeln!(batch, "link set {link} up").unwrap();
        run("ip", &["-n", namespace, "-batch", "-"], &batch).await;
    }

    /// The link to FRR keeps its IPv4 address alone.
    pub(crate) async fn edge_loses_ipv6(&self) {
        run("ip", &["-n", &self.edge, "-6", "address", "flush", "dev", "tofrr"], "").await;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.edge, &self.frr, &self.bird] {
            let deleted =
                std::process::Command::new("ip").args(["netns", "del", namespace]).output();
            drop(deleted);
        }
    }
}

/// Runs a program with some input; its output. Fails the test if it fails.
pub(crate) async fn run(program: &str, arguments: &[&str], input: &str) -> String {
    use tokio::io::AsyncWriteExt as _;

    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {shown}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    within(PATIENCE, what, holds).await;
}

/// The same, for what may take longer than anything else.
pub(crate) async fn within(patience: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        // Between looks, not instead of them: routers cannot be waited for otherwise.
        sleep(Duration::from_millis(20)).await;
    }
}
