//! What runs on a node of each role, and with which files.
//!
//! In containerlab a node's image brings its programs; here they are the machine's own, started
//! with the node's files. Both read the same configuration.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{
    tools::{AGENT, CONTROLLER, FRR_DAEMONS, Tools},
    topology::{Node, Role, Topology},
};

/// A program of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// File name of its executable.
    pub name: String,
    /// Its executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// A socket or file that is there once others can use the program.
    pub ready: Option<PathBuf>,
    /// What it stands for runs on hardware of its own: it gets its turn before all others.
    pub is_realtime: bool,
}

/// Where agents have their configuration from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A controller at this address, port 6444.
    Controller(Ipv4Addr),
    /// A file in the node's folder.
    File,
}

/// Programs of `node`, in starting order.
#[must_use]
pub fn of_node(topology: &Topology, node: &Node, tools: &Tools, source: Source) -> Vec<Program> {
    match node.role {
        Role::Backend => vec![nginx(topology, node), agent(topology, node, tools, source)],
        Role::Bird => vec![bird(topology, node)],
        Role::Client => Vec::new(),
        Role::Controller => match source {
            Source::Controller(_) => vec![controller(topology, node, tools)],
            Source::File => Vec::new(),
        },
        Role::Edge => vec![agent(topology, node, tools, source)],
        Role::Frr => frr(topology, node),
    }
}

/// Makes a node's folder and puts the files it binds there.
///
/// # Errors
/// A bound file cannot be read, or the folder not be written to.
pub fn prepare_files(topology: &Topology, node: &Node) -> io::Result<()> {
    let folder = topology.node_folder(&node.name);
    fs::create_dir_all(&folder)?;
    for bind in &node.binds {
        if let Some(name) = bind.target.file_name() {
            fs::copy(&bind.source, folder.join(name)).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", bind.source.display()))
            })?;
        }
    }
    if node.role == Role::Frr {
        prepare_frr_folder(&topology.frr_folder(&node.name))?;
    }
    if node.role.has_agent() {
        fs::create_dir_all(topology.pin_folder().join(&node.name))?;
    }
    Ok(())
}

/// Sockets of a daemon that was killed are removed: they would pass for those of its successor.
fn prepare_frr_folder(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let user = nix::unistd::User::from_name("frr")?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no user frr"))?;
    std::os::unix::fs::chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
}

fn frr(topology: &Topology, node: &Node) -> Vec<Program> {
    let folder = topology.node_folder(&node.name);
    let runtime = topology.frr_folder(&node.name);
    let namespace = topology.node_namespace(&node.name);
    let bound = |daemon: &&str| {
        let file = format!("{daemon}.conf");
        node.bound_below("/etc/frr").any(|bind| bind.target.ends_with(&file))
    };
    let program = |daemon: &str| {
        let path = |suffix: &str| runtime.join(format!("{daemon}.{suffix}"));
        let configuration = folder.join(format!("{daemon}.conf"));
        let mut arguments = vec!["-N".to_owned(), namespace.name().to_owned()];
        arguments.extend(["-f".to_owned(), configuration.display().to_string()]);
        arguments.extend(["-i".to_owned(), path("pid").display().to_string()]);
        arguments.extend(["-A".to_owned(), "127.0.0.1".to_owned()]);
        if daemon == "zebra" {
            // Replaces IPv6 routes in place, and takes over those of a predecessor.
            arguments.push("--v6-rr-semantics".to_owned());
        }
        Program {
            name: daemon.to_owned(),
            executable: Path::new(FRR_DAEMONS).join(daemon),
            arguments,
            ready: Some(path("vty")),
            // A router is a machine of its own, not one that the users' load generators run on.
            is_realtime: true,
        }
    };
    ["zebra", "bfdd", "bgpd", "staticd"].into_iter().filter(bound).map(program).collect()
}

fn bird(topology: &Topology, node: &Node) -> Program {
    let folder = topology.node_folder(&node.name);
    let control = bird_control(topology, &node.name);
    let path = |name: &str| folder.join(name).display().to_string();
    let arguments = ["-f", "-c", &path("bird.conf"), "-P", &path("bird.pid"), "-s"];
    let mut arguments = arguments.map(str::to_owned).to_vec();
    arguments.push(control.display().to_string());
    Program {
        name: "bird".into(),
        executable: "bird".into(),
        arguments,
        ready: Some(control),
        is_realtime: true,
    }
}

/// BIRD's control socket on a node.
#[must_use]
pub fn bird_control(topology: &Topology, node: &str) -> PathBuf {
    topology.node_folder(node).join("bird.ctl")
}

fn nginx(topology: &Topology, node: &Node) -> Program {
    let folder = topology.node_folder(&node.name);
    let path = |name: &str| folder.join(name).display().to_string();
    let arguments = ["-p", &path(""), "-e", &path("nginx.log"), "-c", &path("nginx.conf")];
    let mut arguments = arguments.map(str::to_owned).to_vec();
    arguments.extend(["-g".to_owned(), "daemon off;".to_owned()]);
    Program {
        name: "nginx".into(),
        executable: "nginx".into(),
        arguments,
        ready: None,
        is_realtime: false,
    }
}

fn agent(topology: &Topology, node: &Node, tools: &Tools, source: Source) -> Program {
    let folder = topology.node_folder(&node.name);
    let path = |name: &str| folder.join(name).display().to_string();
    let mut arguments = vec!["run".to_owned()];
    let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    match source {
        Source::File => option("config", path(AGENT_FILE)),
        Source::Controller(address) => {
            option("controller", format!("{address}:6444"));
            option("node", node.name.clone());
            option("join-token-file", path(JOIN_TOKEN_FILE));
        }
    }
    option("state", path("state"));
    option("bpffs", topology.pin_folder().join(&node.name).display().to_string());
    option("metrics", "0.0.0.0:9100".to_owned());
    option("admin-socket", path(ADMIN_SOCKET));
    Program {
        name: AGENT.into(),
        executable: tools.program(AGENT),
        arguments,
        ready: None,
        // It sees to that by itself.
        is_realtime: false,
    }
}

fn controller(topology: &Topology, node: &Node, tools: &Tools) -> Program {
    let data = topology.node_folder(&node.name).join(CONTROLLER_DATA);
    let arguments = [
        "--data".to_owned(),
        data.display().to_string(),
        "--listen".to_owned(),
        "0.0.0.0:6443".to_owned(),
        "--agent-listen".to_owned(),
        "0.0.0.0:6444".to_owned(),
    ];
    Program {
        name: CONTROLLER.into(),
        executable: tools.program(CONTROLLER),
        arguments: arguments.to_vec(),
        ready: Some(data.join("admin.kubeconfig")),
        is_realtime: false,
    }
}

/// Makes another build of the agent in `folder`: every version of it whose outcomes of packets have
/// other names lays out its maps anew, so one of them gets another name here.
///
/// # Errors
/// The program cannot be read, has no such name, or the build cannot be written.
pub fn other_build(agent: &Path, folder: &Path) -> io::Result<PathBuf> {
    let mut program = fs::read(agent)?;
    let places: Vec<_> = memchr::memmem::find_iter(&program, OUTCOME_NAME).collect();
    if places.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it knows no such outcome"));
    }
    for place in places {
        if let Some(name) = program.get_mut(place..place + OUTCOME_NAME.len()) {
            name.copy_from_slice(OTHER_OUTCOME_NAME);
        }
    }
    fs::create_dir_all(folder)?;
    let build = folder.join(AGENT);
    // A program that runs cannot be written to; a file beside it can take its name.
    let draft = build.with_extension("new");
    fs::write(&draft, program)?;
    fs::set_permissions(&draft, fs::metadata(agent)?.permissions())?;
    fs::rename(&draft, &build)?;
    Ok(build)
}

const OUTCOME_NAME: &[u8; 20] = b"segment_size_clamped";
const OTHER_OUTCOME_NAME: &[u8; 20] = b"segment_size_altered";

/// An agent's configuration, in its node's folder, when there is no controller.
pub const AGENT_FILE: &str = "node.json";
/// An agent's join token, in its node's folder.
pub const JOIN_TOKEN_FILE: &str = "join.token";
/// An agent's admin socket, in its node's folder.
pub const ADMIN_SOCKET: &str = "agent.sock";
/// The controller's data, in its node's folder.
pub const CONTROLLER_DATA: &str = "data";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_has_another_name_for_an_outcome_and_nothing_else_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        fs::write(&agent, b"a segment_size_clamped b segment_size_clamped").unwrap();

        let build = other_build(&agent, &folder.path().join("other")).unwrap();

        assert_eq!(fs::read(&build).unwrap(), b"a segment_size_altered b segment_size_altered");
        assert_eq!(build.file_name().unwrap(), AGENT);
        fs::write(&agent, b"no such name").unwrap();
        assert!(other_build(&agent, folder.path()).is_err());
    }
}
