//! A router with nothing but BFD, and a link to it.

use std::{
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::chown,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use isocast_dataplane::pass;
use nix::{
    sched::{CloneFlags, setns},
    unistd::User,
};

pub(crate) const EDGE: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 2);
/// The link's name, on both ends.
pub(crate) const LINK: &str = "link0";

/// Which router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bird,
    Frr,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
        }
    }
}

/// Gone when it is dropped.
pub(crate) struct Lab {
    pub(crate) edge: String,
    pub(crate) router: String,
    daemons: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new(kind: Kind, interval_ms: u32) -> Self {
        let name = |role| format!("isot-bfdbench-{}-{role}", std::process::id());
        let folder = tempfile::Builder::new().prefix("isot-bfdbench-").tempdir().unwrap();
        let mut lab = Self {
            edge: name("edge"),
            router: name("router"),
            daemons: Vec::new(),
            _folder: folder,
        };
        let Self { edge, router, .. } = &lab;
        ip(&format!(
            "netns add {edge}\nnetns add {router}\n\
             link add name {LINK} netns {edge} type veth peer name {LINK} netns {router}\n"
        ));
        for (namespace, address) in [(edge, EDGE), (router, ROUTER)] {
            let batch = format!(
                "link set lo up\naddress add {address}/24 dev {LINK}\nlink set {LINK} up\n"
            );
            run(Command::new("ip").args(["-n", namespace, "-batch", "-"]), &batch);
        }
        enter(router, || pass::attach(LINK).unwrap());
        lab.nft(
            "table inet cut { chain out { type filter hook output priority 0; policy accept; }; }",
        );
        let folder = lab._folder.path().to_owned();
        lab.daemons = match kind {
            Kind::Bird => vec![lab.bird(&folder, interval_ms)],
            Kind::Frr => lab.frr(&folder, interval_ms),
        };
        lab
    }

    /// Runs something on a thread in the edge's namespace.
    pub(crate) fn enter_edge<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        enter(&self.edge, body)
    }

    /// The router's packets do not get out any more.
    pub(crate) fn silence_router(&self) {
        self.nft("add rule inet cut out udp dport 3784 drop");
    }

    pub(crate) fn unsilence_router(&self) {
        self.nft("flush chain inet cut out");
    }

    fn nft(&self, rule: &str) {
        run(Command::new("ip").args(["netns", "exec", &self.router, "nft", "-f", "-"]), rule);
    }

    /// A router is a machine of its own: what is under stress here is not it.
    fn on_router(&self, program: &str) -> Command {
        let mut command = Command::new("chrt");
        command.args(["--fifo", "1", "ip", "netns", "exec", &self.router, program]);
        command
    }

    fn bird(&self, folder: &Path, interval_ms: u32) -> Child {
        let text = format!(
            "router id {ROUTER};\nprotocol device {{}}\nprotocol bfd {{\n\
             interface \"{LINK}\" {{ interval {interval_ms} ms; multiplier 3; }};\n\
             neighbor {EDGE} dev \"{LINK}\"; }}\n"
        );
        fs::write(folder.join("bird.conf"), text).unwrap();
        let mut command = self.on_router("bird");
        command.args(["-f", "-c"]);
        command.arg(folder.join("bird.conf")).arg("-s").arg(folder.join("bird.ctl"));
        command.arg("-P").arg(folder.join("bird.pid"));
        spawn(&mut command)
    }

    fn frr(&self, folder: &Path, interval_ms: u32) -> Vec<Child> {
        let user = User::from_name("frr").unwrap().expect("FRR is needed: no user frr");
        let own = |path: &Path| {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        };
        own(folder);
        let bfd = format!(
            "bfd\n peer {EDGE} interface {LINK}\n  detect-multiplier 3\n  \
             receive-interval {interval_ms}\n  transmit-interval {interval_ms}\n  no shutdown\n"
        );
        let daemons = [("zebra", "hostname router\n".to_owned()), ("bfdd", bfd)];
        let start = |(daemon, text): (&str, String)| {
            let path = |suffix: &str| folder.join(format!("{daemon}.{suffix}"));
            fs::write(path("conf"), text).unwrap();
            own(&path("conf"));
            let mut command = self.on_router(&format!("/usr/lib/frr/{daemon}"));
            command.arg("-f").arg(path("conf")).arg("-i").arg(path("pid"));
            command.arg("-z").arg(folder.join("zserv")).arg("--vty_socket").arg(folder);
            command.args(["-P", "0"]);
            if daemon == "bfdd" {
                command.arg("--bfdctl").arg(folder.join("bfdd.sock"));
            }
            let child = spawn(&mut command);
            let deadline = Instant::now() + Duration::from_secs(20);
            while !path("vty").exists() {
                assert!(Instant::now() < deadline, "{daemon} does not answer");
                thread::park_timeout(Duration::from_millis(10));
            }
            child
        };
        daemons.into_iter().map(start).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            drop(daemon.kill());
            drop(daemon.wait());
        }
        for namespace in [&self.edge, &self.router] {
            drop(Command::new("ip").args(["netns", "del", namespace]).status());
        }
    }
}

pub(crate) fn enter<T: Send>(namespace: &str, body: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            body()
        });
        inside.join().unwrap()
    })
}

fn ip(batch: &str) {
    run(Command::new("ip").args(["-batch", "-"]), batch);
}

fn run(command: &mut Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
