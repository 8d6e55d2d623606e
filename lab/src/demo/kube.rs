//! The controller as an operator uses it: with kubectl, and `isocast` for what kubectl cannot do.
//!
//! Both run on the controller's node, with the administrator's kubeconfig.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{DemoError, file_error, scene};
use crate::{
    command,
    lab::{Lab, LabError},
    load,
    programs::{CONTROLLER_DATA, JOIN_TOKEN_FILE},
    tools::{CLI, CONTROLLER},
    topology::Role,
};

/// Access to the controller.
#[derive(Debug)]
pub(super) struct Kube {
    node: String,
    kubeconfig: PathBuf,
    manifests: PathBuf,
    /// Names of the objects whose creation was acknowledged in the burst.
    acknowledged: Vec<String>,
}

/// What became of the writes of the burst.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) problems: Vec<String>,
    pub(super) programmed_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Kube {
    /// Starts the controller and waits until it answers.
    pub(super) fn start(lab: &Lab, manifests: &Path) -> Result<Self, DemoError> {
        let no_controller = || LabError::NoNode {
            lab: lab.topology.name.clone(),
            node: Role::Controller.name().to_owned(),
        };
        let node = lab.topology.with_role(Role::Controller).next().ok_or_else(no_controller)?;
        lab.start(&node.name)?;
        let data = lab.topology.node_folder(&node.name).join(CONTROLLER_DATA);
        let kube = Self {
            node: node.name.clone(),
            kubeconfig: data.join("admin.kubeconfig"),
            manifests: manifests.to_owned(),
            acknowledged: Vec::new(),
        };
        kube.wait_until_it_answers(lab)?;
        Ok(kube)
    }

    /// Applies a manifest of the demo's folder.
    pub(super) fn apply(&self, lab: &Lab, manifest: &str) -> Result<(), DemoError> {
        let path = self.manifests.join(manifest).display().to_string();
        self.kubectl(lab, &["apply", "-f", &path])?;
        Ok(())
    }

    /// Gives a node's agent the token with which it joins.
    pub(super) fn write_join_token(&self, lab: &Lab, node: &str) -> Result<(), DemoError> {
        let mut command = lab.topology.node_namespace(&self.node).command(lab.tools.program(CLI));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.args(["node", "token", node, "-o", "json"]);
        let text = command::output_of(command)?;
        let answer: Token = serde_json::from_str(&text).map_err(|_error| DemoError::Answer {
            program: CLI.to_owned(),
            answer: text.lines().next().unwrap_or_default().to_owned(),
        })?;
        let path = lab.topology.node_folder(node).join(JOIN_TOKEN_FILE);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(answer.token.as_bytes())).map_err(file_error(&path))
    }

    /// Applies one more service, and returns how long it took until a user had its first answer;
    /// `None` if there was none in time.
    pub(super) fn apply_second_service(&self, lab: &Lab) -> Result<Option<Duration>, DemoError> {
        self.apply_and_ask(lab, "second.yml", SECOND_ADDRESS)
    }

    /// Creates many objects with one kubectl, and kills the controller once some are acknowledged.
    pub(super) fn kill_in_burst(&mut self, lab: &Lab) -> Result<(), DemoError> {
        let start = |source| {
            let command = "kubectl create".to_owned();
            DemoError::Command(command::CommandError::Start { command, source })
        };
        let mut child = self
            .command(lab, &["create", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(start)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(burst().as_bytes()).map_err(start)?;
        }
        self.acknowledged.clear();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                self.acknowledged.extend(created(&line.map_err(start)?).map(str::to_owned));
                if self.acknowledged.len() == BURST_KILL_AFTER {
                    lab.kill(&self.node, CONTROLLER)?;
                }
            }
        }
        // It fails, of course: its controller was killed.
        let _status = child.wait().map_err(start)?;
        Ok(())
    }

    /// Checks that every acknowledged object of the burst is there, and applies one more service.
    pub(super) fn verify_writes(&self, lab: &Lab) -> Result<Verified, DemoError> {
        self.wait_until_it_answers(lab)?;
        let listed = self.kubectl(lab, &["get", "backendpools", "-n", PROJECT, "-o", "name"])?;
        let is_listed =
            |name: &str| listed.lines().any(|line| line.rsplit('/').next() == Some(name));
        let missing = self.acknowledged.iter().filter(|name| !is_listed(name));
        let mut problems: Vec<_> =
            missing.map(|name| format!("{name} was acknowledged, and is gone")).collect();
        if self.acknowledged.len() < BURST_KILL_AFTER {
            let count = self.acknowledged.len();
            problems.push(format!("only {count} writes were acknowledged before the kill"));
        }
        let programmed_after = self.apply_and_ask(lab, "third.yml", THIRD_ADDRESS)?;
        Ok(Verified { problems, programmed_after })
    }

    /// From the start of `kubectl apply` to the first answer at a user.
    fn apply_and_ask(
        &self,
        lab: &Lab,
        manifest: &str,
        address: IpAddr,
    ) -> Result<Option<Duration>, DemoError> {
        let Some(client) = lab.topology.with_role(Role::Client).next() else { return Ok(None) };
        let source = lab.route(&client.name, address)?.source;
        let namespace = lab.topology.node_namespace(&client.name);
        let started = Instant::now();
        self.apply(lab, manifest)?;
        let destination = SocketAddr::new(address, scene::PORT);
        let answered = load::first_answer(&namespace, source, destination, ANSWER_TIMEOUT)
            .map_err(file_error(&namespace.path()))?;
        Ok(answered.map(|()| started.elapsed()))
    }

    fn wait_until_it_answers(&self, lab: &Lab) -> Result<(), DemoError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.kubectl(lab, &["get", "--raw", "/version", "--request-timeout=2s"]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(error) => tracing::debug!(%error, "the controller does not answer yet"),
            }
        }
    }

    /// The administrator's kubeconfig.
    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Folder of the scenario's manifests.
    pub(super) fn manifests(&self) -> &Path {
        &self.manifests
    }

    fn kubectl(&self, lab: &Lab, arguments: &[&str]) -> Result<String, command::CommandError> {
        command::output_of(self.command(lab, arguments))
    }

    fn command(&self, lab: &Lab, arguments: &[&str]) -> std::process::Command {
        let namespace = lab.topology.node_namespace(&self.node);
        let mut command = namespace.command(&lab.tools.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }
}

/// The object that a line of `kubectl create` says was created.
fn created(line: &str) -> Option<&str> {
    line.strip_suffix(" created")?.rsplit('/').next()
}

/// Backend pools without backends: objects that change nothing for users.
fn burst() -> String {
    let pool = |number: usize| {
        format!(
            "---\napiVersion: network.isocast.dev/v1alpha1\nkind: BackendPool\n\
             metadata: {{ name: burst-{number}, namespace: {PROJECT} }}\nspec: {{ backends: [] }}\n"
        )
    };
    (0..BURST_OBJECTS).map(pool).collect()
}

/// The tenant's project in the manifests.
const PROJECT: &str = "web-prod";
/// Addresses of the services in `second.yml` and `third.yml`.
const SECOND_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 20));
const THIRD_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 30));
const BURST_OBJECTS: usize = 400;
const BURST_KILL_AFTER: usize = 50;
const START_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_object_is_read_from_kubectls_line() {
        assert_eq!(created("backendpool.network.isocast.dev/burst-7 created"), Some("burst-7"));
        assert_eq!(created("Error from server: no"), None);
    }
}
