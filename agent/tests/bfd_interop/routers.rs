//! FRR and BIRD with BFD, as the documentation asks operators to configure them.

use std::{fs, os::unix::fs::chown, path::PathBuf, process::Stdio};

use nix::unistd::User;
use tokio::process::{Child, Command};

use crate::net::{BIRD_V6, EDGE_TO_FRR_V4, Lab, eventually, run};

pub(crate) const FRR_ASN: u32 = 64_601;
pub(crate) const BIRD_ASN: u32 = 64_602;
pub(crate) const EDGE_TO_BIRD_V6: &str = "2001:db8:92::1";

/// What a router says of its BFD session with us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) is_up: bool,
    /// Changes when the session goes down and up again.
    pub(crate) history: String,
}

/// A running router; killed with its namespace's test.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) name: &'static str,
    pub(crate) namespace: String,
    /// The prefix that it learns over its session.
    pub(crate) prefix: &'static str,
    control: PathBuf,
    daemons: Vec<Child>,
}

impl Router {
    /// An IPv4 session; plain `bfd`.
    pub(crate) async fn frr(lab: &Lab, prefix: &'static str, interval_ms: u32) -> Self {
        let dir = lab.dir.path().join("frr");
        let user = User::from_name("frr").unwrap().expect("FRR is needed: no user frr");
        let own = |path: &std::path::Path| {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        };
        fs::create_dir(&dir).unwrap();
        own(lab.dir.path());
        own(&dir);
        let edge = EDGE_TO_FRR_V4;
        let bgp = format!(
            "router bgp {FRR_ASN}\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n \
             bgp graceful-restart\n neighbor {edge} remote-as 65010\n neighbor {edge} timers 1 3\n \
             neighbor {edge} timers connect 1\n neighbor {edge} bfd\n \
             neighbor {edge} bfd profile fast\n"
        );
        let bfd = format!(
            "bfd\n profile fast\n  receive-interval {interval_ms}\n  \
             transmit-interval {interval_ms}\n  detect-multiplier 3\n"
        );
        let files = [("zebra", "hostname frr\n".to_owned()), ("bgpd", bgp), ("bfdd", bfd)];
        for (daemon, text) in &files {
            let path = dir.join(format!("{daemon}.conf"));
            fs::write(&path, text).unwrap();
            own(&path);
        }
        let mut router = Self {
            name: "FRR",
            namespace: lab.frr.clone(),
            prefix,
            control: dir,
            daemons: Vec::new(),
        };
        for daemon in ["zebra", "bfdd", "bgpd"] {
            router.start_frr_daemon(daemon).await;
        }
        router
    }

    /// An IPv6 session; `bfd on`.
    pub(crate) async fn bird(lab: &Lab, prefix: &'static str, interval_ms: u32) -> Self {
        let dir = lab.dir.path();
        let (conf, control) = (dir.join("bird.conf"), dir.join("bird.ctl"));
        let text = format!(
            "router id 10.99.2.2;\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n\
             protocol kernel k6 {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol bfd {{ interface \"toedge\" {{ interval {interval_ms} ms; multiplier 3; }}; }}\n\
             protocol bgp edge {{ local {BIRD_V6} as {BIRD_ASN};\n\
             neighbor {EDGE_TO_BIRD_V6} as 65010;\n\
             hold time 3; keepalive time 1; connect delay time 1; connect retry time 1;\n\
             error wait time 1,2; graceful restart aware; bfd on;\n\
             ipv6 {{ import all; export none; }}; }}\n"
        );
        fs::write(&conf, text).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.bird, "bird", "-f", "-c"]).arg(&conf);
        command.arg("-s").arg(&control).arg("-P").arg(dir.join("bird.pid"));
        let daemons = vec![spawn(command)];
        let router = Self { name: "BIRD", namespace: lab.bird.clone(), prefix, control, daemons };
        let socket = router.control.clone();
        eventually("BIRD answers", async || socket.exists()).await;
        router
    }

    async fn start_frr_daemon(&mut self, daemon: &str) {
        let path = |file: String| self.control.join(file).into_os_string();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, &format!("/usr/lib/frr/{daemon}")]);
        command.arg("-f").arg(path(format!("{daemon}.conf")));
        command.arg("-i").arg(path(format!("{daemon}.pid")));
        command.arg("-z").arg(path("zserv".into()));
        command.arg("--vty_socket").arg(&self.control).args(["-P", "0"]);
        match daemon {
            // Otherwise each change of an IPv6 route is a removal and an addition.
            "zebra" => drop(command.arg("--v6-rr-semantics")),
            "bfdd" => drop(command.arg("--bfdctl").arg(path("bfdd.sock".into()))),
            _ => {}
        }
        self.daemons.push(spawn(command));
        let socket = self.control.join(format!("{daemon}.vty"));
        eventually("FRR answers", async || socket.exists()).await;
    }

    /// Whether the kernel of the router has the prefix, by BGP.
    pub(crate) async fn has_route(&self) -> bool {
        let family = if self.prefix.contains(':') { "-6" } else { "-4" };
        let arguments = ["-n", &self.namespace, family, "route", "show", self.prefix];
        let shown = run("ip", &arguments, "").await;
        shown.contains("proto bgp") || shown.contains("proto bird")
    }

    pub(crate) async fn is_established(&self) -> bool {
        if self.name == "BIRD" {
            return self.birdc("show protocols edge").await.contains("Established");
        }
        let shown = self.vtysh(&format!("show bgp neighbors {EDGE_TO_FRR_V4}")).await;
        shown.contains("BGP state = Established")
    }

    /// What the router says of its BFD session.
    pub(crate) async fn session(&self) -> Session {
        if self.name == "BIRD" {
            let shown = self.birdc("show bfd sessions").await;
            let line = shown.lines().find(|line| line.contains(EDGE_TO_BIRD_V6));
            let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
            let word = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
            return Session { is_up: word(2) == "Up", history: format!("since {}", word(3)) };
        }
        let shown = self.vtysh("show bfd peers json").await;
        let is_up = shown.contains("\"status\":\"up\"");
        let counters = self.vtysh("show bfd peers counters json").await;
        let counters: serde_json::Value = serde_json::from_str(&counters).unwrap();
        let history =
            format!("{} up, {} down", counters[0]["session-up"], counters[0]["session-down"]);
        Session { is_up, history }
    }

    /// Nothing passes between the router and the edge any more; the carrier stays.
    pub(crate) async fn cut(&self) {
        let rules = "table netdev cut {\n\
             chain in { type filter hook ingress device toedge priority 0; policy drop; }\n\
             chain out { type filter hook egress device toedge priority 0; policy drop; }\n}\n";
        run("ip", &["netns", "exec", &self.namespace, "nft", "-f", "-"], rules).await;
    }

    pub(crate) async fn restore(&self) {
        let rules = "delete table netdev cut\n";
        run("ip", &["netns", "exec", &self.namespace, "nft", "-f", "-"], rules).await;
    }

    pub(crate) async fn vtysh(&self, command: &str) -> String {
        let socket = self.control.to_str().unwrap();
        run("vtysh", &["--vty_socket", socket, "-c", command], "").await
    }

    async fn birdc(&self, command: &str) -> String {
        let socket = self.control.to_str().unwrap();
        let arguments: Vec<_> = ["-s", socket].into_iter().chain(command.split(' ')).collect();
        run("birdc", &arguments, "").await
    }
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().unwrap()
}
