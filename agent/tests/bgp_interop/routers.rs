//! FRR and BIRD as an operator would run them at a border.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Stdio;

use nix::unistd::User;
use tokio::process::{Child, Command};

use crate::net::{BIRD_V6, EDGE_TO_FRR_V4, Lab, eventually, run};

pub(crate) const FRR_ASN: u32 = 64_601;
pub(crate) const BIRD_ASN: u32 = 64_602;

/// A running router; killed with its namespace's test.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) name: &'static str,
    pub(crate) namespace: String,
    control: PathBuf,
    daemons: Vec<Child>,
}

impl Router {
    /// FRR with one IPv4 session for both families.
    pub(crate) async fn frr(lab: &Lab) -> Self {
        let edge = EDGE_TO_FRR_V4;
        let bgp = format!(
            "router bgp {FRR_ASN}\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n \
             no bgp default ipv4-unicast\n bgp graceful-restart\n neighbor {edge} remote-as 65010\n \
             neighbor {edge} timers 1 3\n neighbor {edge} timers connect 1\n \
             address-family ipv4 unicast\n  neighbor {edge} activate\n exit-address-family\n \
             address-family ipv6 unicast\n  neighbor {edge} activate\n exit-address-family\n"
        );
        Self::frr_with(lab, &bgp).await
    }

    /// FRR with this configuration of bgpd.
    pub(crate) async fn frr_with(lab: &Lab, bgp: &str) -> Self {
        Self::frr_in(lab, &lab.frr, bgp).await
    }

    /// FRR in a namespace of choice, in place of one that may have been there.
    pub(crate) async fn frr_in(lab: &Lab, namespace: &str, bgp: &str) -> Self {
        Self::frr_of(lab, namespace, &[("bgpd", bgp)]).await
    }

    /// FRR with these daemons besides zebra, each with its configuration.
    pub(crate) async fn frr_of(lab: &Lab, namespace: &str, daemons: &[(&str, &str)]) -> Self {
        let dir = lab.dir.path().join(namespace);
        let user = User::from_name("frr").unwrap().expect("FRR is needed: no user frr");
        let own = |path: &std::path::Path| {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        };
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir(&dir).unwrap();
        own(lab.dir.path());
        own(&dir);
        let control = dir.clone();
        let mut router =
            Self { name: "FRR", namespace: namespace.into(), control, daemons: vec![] };
        for (daemon, text) in [("zebra", "hostname frr\n")].iter().chain(daemons) {
            let path = dir.join(format!("{daemon}.conf"));
            fs::write(&path, text).unwrap();
            own(&path);
            router.start_frr_daemon(daemon).await;
        }
        router
    }

    /// BIRD with one IPv6 session for both families.
    pub(crate) async fn bird(lab: &Lab) -> Self {
        let session = format!(
            "protocol bgp edge {{ local {BIRD_V6} as {BIRD_ASN}; neighbor 2001:db8:92::1 as 65010;\n\
             passive on; hold time 3; keepalive time 1; connect delay time 1; connect retry time 1;\n\
             error wait time 1,2; graceful restart aware;\n\
             ipv4 {{ import all; export none; }}; ipv6 {{ import all; export none; }}; }}\n"
        );
        Self::bird_with(lab, &session).await
    }

    /// BIRD with these protocols besides those that speak with the kernel.
    pub(crate) async fn bird_with(lab: &Lab, protocols: &str) -> Self {
        Self::bird_run(lab, protocols, &[]).await
    }

    /// The same, back from a death: its neighbours may still have its routes.
    pub(crate) async fn bird_recovering(lab: &Lab, protocols: &str) -> Self {
        Self::bird_run(lab, protocols, &["-R"]).await
    }

    async fn bird_run(lab: &Lab, protocols: &str, options: &[&str]) -> Self {
        let dir = lab.dir.path();
        let (conf, control) = (dir.join("bird.conf"), dir.join("bird.ctl"));
        let text = format!(
            "router id 10.99.2.2;\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n\
             protocol kernel k4 {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol kernel k6 {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n\
             {protocols}"
        );
        fs::write(&conf, text).unwrap();
        if control.exists() {
            fs::remove_file(&control).unwrap();
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.bird, "bird", "-f", "-c"]).arg(&conf);
        command.arg("-s").arg(&control).arg("-P").arg(dir.join("bird.pid")).args(options);
        let daemons = vec![spawn(command)];
        let router = Self { name: "BIRD", namespace: lab.bird.clone(), control, daemons };
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
    pub(crate) async fn has_route(&self, prefix: &str) -> bool {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let shown = run("ip", &["-n", &self.namespace, family, "route", "show", prefix], "").await;
        shown.contains("proto bgp") || shown.contains("proto bird")
    }

    /// What the router knows of a prefix.
    pub(crate) async fn show(&self, prefix: &str) -> String {
        if self.name == "BIRD" {
            return self.birdc(&format!("show route {prefix} all")).await;
        }
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        self.vtysh(&format!("show bgp {family} unicast {prefix}")).await
    }

    pub(crate) async fn show_neighbor(&self) -> String {
        self.vtysh(&format!("show bgp neighbors {EDGE_TO_FRR_V4}")).await
    }

    pub(crate) async fn is_established(&self) -> bool {
        if self.name == "BIRD" {
            return self.birdc("show protocols edge").await.contains("Established");
        }
        self.show_neighbor().await.contains("BGP state = Established")
    }

    /// UPDATEs that FRR counted on its session with us.
    pub(crate) async fn updates_received(&self) -> u64 {
        let shown = self.vtysh(&format!("show bgp neighbors {EDGE_TO_FRR_V4} json")).await;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown[EDGE_TO_FRR_V4.to_string()]["messageStats"]["updatesRecv"].as_u64().unwrap()
    }

    /// Nothing passes between the router and the edge any more; the carrier stays.
    pub(crate) async fn cut(&self) {
        self.nft(
            "table netdev cut {\n\
             chain in { type filter hook ingress device toedge priority 0; policy drop; }\n\
             chain out { type filter hook egress device toedge priority 0; policy drop; }\n}\n",
        )
        .await;
    }

    pub(crate) async fn restore(&self) {
        self.nft("delete table netdev cut\n").await;
    }

    async fn nft(&self, rules: &str) {
        run("ip", &["netns", "exec", &self.namespace, "nft", "-f", "-"], rules).await;
    }

    pub(crate) async fn vtysh(&self, command: &str) -> String {
        let socket = self.control.to_str().unwrap();
        run("vtysh", &["--vty_socket", socket, "-c", command], "").await
    }

    pub(crate) async fn birdc(&self, command: &str) -> String {
        let socket = self.control.to_str().unwrap();
        let arguments: Vec<_> = ["-s", socket].into_iter().chain(command.split(' ')).collect();
        run("birdc", &arguments, "").await
    }
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().unwrap()
}
