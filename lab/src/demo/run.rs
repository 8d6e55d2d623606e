//! Runs a scenario's own commands on a node, and compares what they print.
//!
//! Commands are lines for `sh`. They find the product's programs, kubectl and the controller
//! (`KUBECONFIG`) as an operator's shell would, the scenario's manifests by `$MANIFESTS`, the node's
//! folder by `$FOLDER`, and by `$VTYSH`, `$BIRDC`, `$AGENT_SOCKET` the node's own daemons.

use std::{
    env,
    process::{Output, Stdio},
    time::Instant,
};

use super::{DemoError, scene::Scene};
use crate::{
    command::CommandError, lab::LabError, programs, routers::POLL_INTERVAL, scenario::Run,
    topology::Role,
};

/// Runs a command until it does what is expected of it, or its time is over; then says what is
/// wrong.
pub(super) async fn run(scene: &Scene, run: &Run) -> Result<Option<String>, DemoError> {
    let deadline = Instant::now() + run.within.unwrap_or_default();
    loop {
        let Some(problem) = judge(run, &output(scene, run)?) else { return Ok(None) };
        if Instant::now() >= deadline {
            return Ok(Some(format!("`{}` {problem}", run.command)));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn output(scene: &Scene, run: &Run) -> Result<Output, DemoError> {
    let lab = &scene.lab;
    let controller = lab.topology.with_role(Role::Controller).next().map(|node| &node.name);
    let no_node = || LabError::NoNode {
        lab: lab.topology.name.clone(),
        node: Role::Controller.name().to_owned(),
    };
    let node = run.node.as_ref().or(controller).ok_or_else(no_node)?;
    lab.node(node)?;
    let mut command = lab.topology.node_namespace(node).command("sh");
    command.args(["-c", &run.command]).stdin(Stdio::null());
    let own = [Some(lab.tools.programs.as_path()), lab.tools.kubectl.parent()];
    let own = own.into_iter().flatten().filter(|folder| !folder.as_os_str().is_empty());
    let inherited = env::var_os("PATH").unwrap_or_default();
    let folders = own.map(|folder| folder.to_owned()).chain(env::split_paths(&inherited));
    if let Ok(path) = env::join_paths(folders) {
        command.env("PATH", path);
    }
    let folder = lab.topology.node_folder(node);
    if let Some(kube) = &scene.kube {
        let own = run.account.as_ref().map(|name| folder.join(format!("{name}.kubeconfig")));
        command.env("KUBECONFIG", own.as_deref().unwrap_or_else(|| kube.kubeconfig()));
        command.env("MANIFESTS", kube.manifests());
    }
    let socket = lab.topology.frr_folder(node);
    command.env("VTYSH", format!("vtysh --vty_socket {}", socket.display()));
    let control = programs::bird_control(&lab.topology, node);
    command.env("BIRDC", format!("birdc -s {}", control.display()));
    command.env("AGENT_SOCKET", folder.join(programs::ADMIN_SOCKET));
    command.env("FOLDER", folder);
    let start = |source| CommandError::Start { command: run.command.clone(), source };
    Ok(command.output().map_err(start)?)
}

/// What is wrong with a command's end.
fn judge(run: &Run, output: &Output) -> Option<String> {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let said = said.concat();
    let excerpt = || said.trim().chars().take(EXCERPT_CHARS_MAX).collect::<String>();
    if output.status.success() == run.fails {
        let how = if run.fails { "did not fail" } else { "failed" };
        return Some(format!("{how}: {}", excerpt()));
    }
    if let Some(text) = run.prints.iter().find(|text| !said.contains(*text)) {
        return Some(format!("does not print {text:?}: {}", excerpt()));
    }
    let text = run.prints_not.iter().find(|text| said.contains(*text))?;
    Some(format!("prints {text:?}: {}", excerpt()))
}

/// How much of a command's output is shown.
const EXCERPT_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn ended(status: i32, stdout: &str) -> Output {
        let status = std::process::ExitStatus::from_raw(status << 8);
        Output { status, stdout: stdout.into(), stderr: b"and this".to_vec() }
    }

    fn expecting(text: &str) -> Run {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn output_of_either_kind_is_searched() {
        let run = expecting("{command: x, prints: [one, this], printsNot: [two]}");

        assert_eq!(judge(&run, &ended(0, "one")), None);
        assert!(judge(&run, &ended(0, "one two")).unwrap().starts_with("prints \"two\""));
        assert!(judge(&run, &ended(0, "")).unwrap().starts_with("does not print \"one\""));
        assert!(judge(&run, &ended(1, "one")).unwrap().starts_with("failed"));
    }

    #[test]
    fn a_command_that_must_fail_is_held_to_it() {
        let run = expecting("{command: x, fails: true}");

        assert_eq!(judge(&run, &ended(1, "")), None);
        assert!(judge(&run, &ended(0, "")).unwrap().starts_with("did not fail"));
    }
}
