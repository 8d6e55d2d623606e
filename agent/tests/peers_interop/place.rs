//! Where a neighbour lives: its namespace, its addresses and ours on their link.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::net::{self, Lab, run};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) own_v4: Ipv4Addr,
    pub(crate) own_v6: Ipv6Addr,
    pub(crate) edge_v4: Ipv4Addr,
    pub(crate) edge_v6: Ipv6Addr,
    /// For what the neighbour reads and writes.
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn left(lab: &Lab) -> Self {
        Self {
            namespace: lab.frr.clone(),
            own_v4: net::FRR_V4,
            own_v6: net::FRR_V6,
            edge_v4: net::EDGE_TO_FRR_V4,
            edge_v6: net::EDGE_TO_FRR_V6,
            dir: lab.dir.path().join("left"),
        }
    }

    pub(crate) fn right(lab: &Lab) -> Self {
        Self {
            namespace: lab.bird.clone(),
            own_v4: net::BIRD_V4,
            own_v6: net::BIRD_V6,
            edge_v4: net::EDGE_TO_BIRD_V4,
            edge_v6: Ipv6Addr::new(0x2001, 0xdb8, 0x92, 0, 0, 0, 0, 1),
            dir: lab.dir.path().join("right"),
        }
    }

    /// An empty folder, whoever was here before.
    pub(crate) fn clean(&self) {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir).unwrap();
        }
        std::fs::create_dir(&self.dir).unwrap();
    }

    /// Starts a program here; what it prints goes into `FILE.log` of the folder.
    pub(crate) fn spawn(&self, file: &str, program: &[&str]) -> Child {
        let log = std::fs::File::create(self.dir.join(format!("{file}.log"))).unwrap();
        Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(program)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs a program here to its end; what it printed.
    pub(crate) async fn run(&self, program: &[&str]) -> String {
        let arguments = [&["netns", "exec", &self.namespace], program].concat();
        run("ip", &arguments, "").await
    }

    /// Whether a program says yes.
    pub(crate) async fn succeeds(&self, program: &[&str]) -> bool {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).args(program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().await.unwrap().success()
    }
}
