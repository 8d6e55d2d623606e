//! A topology on this machine: made, changed by faults, and removed again.
//!
//! Everything is recorded before it is made, so nothing is left behind, whatever happens in
//! between. Processes are found by the namespace they are in, never by name alone.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use isocast_dataplane::pass;
use serde::Deserialize;
use thiserror::Error;

use crate::{
    command::{self, CommandError},
    netns::{EnterError, Namespace},
    plan::{MANAGEMENT_BRIDGE, WIRE_BRIDGE, WireEnd},
    process::{Process, ProcessError},
    programs::{self, Program, Source},
    state::{State, StateError},
    tools::{NeedError, Tools},
    topology::{MANAGEMENT_INTERFACE, Node, Role, Topology, TopologyError},
};

/// A lab that exists.
#[derive(Debug)]
pub struct Lab {
    /// What it was made from.
    pub topology: Topology,
    /// Where its programs come from.
    pub tools: Tools,
    state: State,
}

/// A route, as `ip -j route get` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Route {
    /// The next router; absent for a neighbour.
    pub gateway: Option<IpAddr>,
    /// The interface.
    #[serde(rename = "dev")]
    pub interface: String,
    /// The node's own address.
    #[serde(rename = "prefsrc")]
    pub source: IpAddr,
}

/// What keeps a lab from being made, changed or removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A namespace cannot be entered.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// A file cannot be read or written.
    #[error("{what}")]
    File {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine lacks something.
    #[error(transparent)]
    Need(#[from] NeedError),
    /// A node cannot reach an address.
    #[error("{node} has no route to {destination}")]
    NoRoute {
        /// The node.
        node: String,
        /// What was to be reached.
        destination: IpAddr,
    },
    /// There is no such lab.
    #[error("there is no lab {name:?}; `isocast-lab inspect` lists those there are")]
    NoLab {
        /// The name asked for.
        name: String,
    },
    /// There is no such node.
    #[error("lab {lab} has no node {node:?}")]
    NoNode {
        /// The lab.
        lab: String,
        /// The name asked for.
        node: String,
    },
    /// A program does not come up.
    #[error("{program} on {node} is not ready after {timeout:?}, see {log}")]
    NotReady {
        /// Its name.
        program: String,
        /// Its node.
        node: String,
        /// How long it was waited for.
        timeout: Duration,
        /// Where it wrote why.
        log: String,
    },
    /// A process cannot be started or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The lab's record.
    #[error(transparent)]
    State(#[from] StateError),
    /// The topology file.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

impl Lab {
    /// Makes the lab of a topology file, without any program; an earlier one of the same name is
    /// removed first.
    ///
    /// # Errors
    /// See [`LabError`]. What was made before the error stays until [`Lab::down`].
    pub fn create(path: &Path, tools: Tools, is_static: bool) -> Result<Self, LabError> {
        let topology = Topology::read(path)?;
        tools.check(&topology)?;
        Self::down(&topology.name)?;

        let frr = topology.with_role(Role::Frr).map(|node| topology.frr_folder(&node.name));
        let state = State {
            name: topology.name.clone(),
            topology: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            is_static,
            namespaces: topology.namespaces().iter().map(|ns| ns.name().to_owned()).collect(),
            folders: frr.chain([topology.pin_folder()]).collect(),
        };
        state.save()?;

        let lab = Self { topology, tools, state };
        lab.make_management()?;
        for index in 0..lab.topology.links.len() {
            lab.make_wire(index)?;
        }
        for node in lab.topology.nodes.values() {
            lab.make_node(node)?;
        }
        Ok(lab)
    }

    /// The lab of that name.
    ///
    /// # Errors
    /// There is none, or its record or topology cannot be read.
    pub fn open(name: &str, tools: Tools) -> Result<Self, LabError> {
        let state = State::load(name)?.ok_or_else(|| LabError::NoLab { name: name.to_owned() })?;
        Ok(Self { topology: Topology::read(&state.topology)?, tools, state })
    }

    /// Removes the lab of that name, also what is left of one that crashed; nothing happens if
    /// there is none.
    ///
    /// # Errors
    /// Something cannot be removed; the record stays, so it can be tried again.
    pub fn down(name: &str) -> Result<(), LabError> {
        let Some(state) = State::load(name)? else { return Ok(()) };
        let namespaces: Vec<_> = state.namespaces.iter().map(Namespace::named).collect();
        let mut processes = Vec::new();
        for namespace in &namespaces {
            processes.extend(namespace.processes()?);
        }
        Process::kill_all(&processes)?;
        for namespace in &namespaces {
            namespace.delete()?;
        }
        for folder in state.folders.iter().filter(|folder| folder.exists()) {
            remove_folder(folder)?;
        }
        Ok(state.remove()?)
    }

    /// Where this lab's agents have their configuration from.
    #[must_use]
    pub fn source(&self) -> Source {
        match self.topology.with_role(Role::Controller).next() {
            Some(node) if !self.state.is_static => Source::Controller(node.management_address),
            _ => Source::File,
        }
    }

    /// A node by name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<&Node, LabError> {
        self.topology.nodes.get(name).ok_or_else(|| LabError::NoNode {
            lab: self.topology.name.clone(),
            node: name.to_owned(),
        })
    }

    /// Starts all programs of a node and waits until they can be used.
    ///
    /// # Errors
    /// One cannot be started or does not come up.
    pub fn start(&self, node: &str) -> Result<(), LabError> {
        let node = self.node(node)?;
        for program in programs::of_node(&self.topology, node, &self.tools, self.source()) {
            self.start_program(node, &program)?;
        }
        Ok(())
    }

    /// Starts the program of that name on a node.
    ///
    /// # Errors
    /// The node has no such program, or it does not come up.
    pub fn start_named(&self, node: &str, name: &str) -> Result<(), LabError> {
        let node = self.node(node)?;
        let all = programs::of_node(&self.topology, node, &self.tools, self.source());
        for program in all.iter().filter(|program| program.name == name) {
            self.start_program(node, program)?;
        }
        Ok(())
    }

    /// Kills (SIGKILL) every process of the program of that name on a node.
    ///
    /// # Errors
    /// One does not go away.
    pub fn kill(&self, node: &str, program: &str) -> Result<(), LabError> {
        let mut processes = self.topology.node_namespace(node).processes()?;
        processes.retain(|process| process.runs(program));
        Ok(Process::kill_all(&processes)?)
    }

    /// Whether a program of that name runs on a node.
    ///
    /// # Errors
    /// Processes cannot be listed.
    pub fn is_running(&self, node: &str, program: &str) -> Result<bool, LabError> {
        let processes = self.topology.node_namespace(node).processes()?;
        Ok(processes.iter().any(|process| process.runs(program)))
    }

    /// Cuts all cables of a node but the one to the management network. Its interfaces do not
    /// notice.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(&self, node: &str) -> Result<(), LabError> {
        for end in self.topology.wire_ends(node) {
            end.wire.ip(&format!("link set dev {} nomaster\n", end.interface))?;
        }
        Ok(())
    }

    /// Joins a node's cables again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn restore(&self, node: &str) -> Result<(), LabError> {
        for end in self.topology.wire_ends(node) {
            end.wire.ip(&format!("link set dev {} master {WIRE_BRIDGE}\n", end.interface))?;
        }
        Ok(())
    }

    /// Takes the power from nodes: first all their wires, then all that ran and all the kernel
    /// held. What is on their disks stays.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn power_off(&self, nodes: &[&str]) -> Result<(), LabError> {
        for node in nodes {
            self.cut(node)?;
            let port = self.topology.management_port(node);
            let batch = format!("link set dev {port} nomaster\n");
            self.topology.management_namespace().ip(&batch)?;
        }
        let mut processes = Vec::new();
        for node in nodes {
            processes.extend(self.topology.node_namespace(node).processes()?);
        }
        Process::kill_all(&processes)?;
        for node in nodes {
            for end in self.topology.wire_ends(node) {
                end.wire.ip(&format!("link delete dev {}\n", end.interface))?;
            }
            let port = self.topology.management_port(node);
            self.topology.management_namespace().ip(&format!("link delete dev {port}\n"))?;
            self.topology.node_namespace(node).delete()?;
            let pins = self.topology.pin_folder().join(node);
            if pins.exists() {
                remove_folder(&pins)?;
            }
        }
        Ok(())
    }

    /// Gives nodes their power back and starts their programs.
    ///
    /// # Errors
    /// Something cannot be made or started.
    pub fn power_on(&self, nodes: &[&str]) -> Result<(), LabError> {
        for name in nodes {
            self.make_node(self.node(name)?)?;
        }
        for name in nodes {
            self.start(name)?;
        }
        Ok(())
    }

    /// How a node reaches `destination`.
    ///
    /// # Errors
    /// It does not.
    pub fn route(&self, node: &str, destination: IpAddr) -> Result<Route, LabError> {
        let namespace = self.topology.node_namespace(node);
        let target = destination.to_string();
        let text = command::run("ip", ["-n", namespace.name(), "-j", "route", "get", &target])?;
        let routes: Vec<Route> = serde_json::from_str(&text).unwrap_or_default();
        let no_route = || LabError::NoRoute { node: node.to_owned(), destination };
        routes.into_iter().next().ok_or_else(no_route)
    }

    fn start_program(&self, node: &Node, program: &Program) -> Result<(), LabError> {
        if let Some(ready) = program.ready.as_deref().filter(|path| path.exists())
            && program.name == "bird"
        {
            std::fs::remove_file(ready).map_err(file_error(ready))?;
        }
        let mut command = self.topology.node_namespace(&node.name).command(&program.executable);
        command.args(&program.arguments).envs(&node.env);
        let log = self.topology.node_folder(&node.name).join(format!("{}.out", program.name));
        let process = Process::start(&program.name, command, &log)?;

        let deadline = Instant::now() + READY_TIMEOUT;
        while program.ready.as_deref().is_some_and(|path| !path.exists()) {
            if Instant::now() > deadline || !process.is_alive() {
                return Err(LabError::NotReady {
                    program: program.name.clone(),
                    node: node.name.clone(),
                    timeout: READY_TIMEOUT,
                    log: log.display().to_string(),
                });
            }
            std::thread::park_timeout(READY_POLL);
        }
        Ok(())
    }

    fn make_management(&self) -> Result<(), LabError> {
        let namespace = self.topology.management_namespace();
        namespace.create()?;
        let subnet = self.topology.management.subnet;
        let Some(address) = subnet.hosts().next() else { return Ok(()) };
        let length = subnet.prefix_len();
        namespace.ip(&format!(
            "link add name {MANAGEMENT_BRIDGE} type bridge mcast_snooping 0\n\
             address add {address}/{length} dev {MANAGEMENT_BRIDGE}\n\
             link set dev {MANAGEMENT_BRIDGE} up\n"
        ))?;
        Ok(())
    }

    fn make_wire(&self, index: usize) -> Result<(), LabError> {
        let namespace = self.topology.wire_namespace(index);
        namespace.create()?;
        // A wire speaks for nobody: no addresses, no neighbour discovery of its own.
        write_sysctls(&namespace, [("net.ipv6.conf.default.disable_ipv6", "1")])?;
        namespace.ip(&format!(
            "link add name {WIRE_BRIDGE} type bridge mcast_snooping 0\n\
             link set dev {WIRE_BRIDGE} up\n"
        ))?;
        Ok(())
    }

    fn make_node(&self, node: &Node) -> Result<(), LabError> {
        let files = topology_files_error(&node.name);
        programs::prepare_files(&self.topology, node).map_err(files)?;
        let namespace = self.topology.node_namespace(&node.name);
        namespace.create()?;
        // Before there are interfaces, which take their defaults from here.
        let sysctls = node.sysctls.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        write_sysctls(&namespace, sysctls)?;
        self.connect_management(node, &namespace)?;
        for end in self.topology.wire_ends(&node.name) {
            connect_wire(&end, node, &namespace)?;
        }
        for line in &node.exec {
            let mut words = line.split_ascii_whitespace();
            let mut command = namespace.command(words.next().unwrap_or("true"));
            command.args(words);
            command::output_of(command)?;
        }
        Ok(())
    }

    fn connect_management(&self, node: &Node, namespace: &Namespace) -> Result<(), LabError> {
        let port = self.topology.management_port(&node.name);
        let (name, length) = (namespace.name(), self.topology.management.subnet.prefix_len());
        self.topology.management_namespace().ip(&format!(
            "link add name {port} type veth peer name {MANAGEMENT_INTERFACE} netns {name}\n\
             link set dev {port} master {MANAGEMENT_BRIDGE} up\n"
        ))?;
        namespace.ip(&format!(
            "address add {}/{length} dev {MANAGEMENT_INTERFACE}\n\
             link set dev {MANAGEMENT_INTERFACE} up\n",
            node.management_address
        ))?;
        Ok(())
    }
}

fn connect_wire(end: &WireEnd, node: &Node, namespace: &Namespace) -> Result<(), LabError> {
    let WireEnd { wire, interface, endpoint, mtu, mac } = end;
    let (inner, name) = (&endpoint.interface, namespace.name());
    wire.ip(&format!(
        "link add name {interface} mtu {mtu} type veth \
         peer name {inner} mtu {mtu} address {mac} netns {name}\n\
         link set dev {interface} master {WIRE_BRIDGE} up\n"
    ))?;
    namespace.ip(&format!("link set dev {inner} up\n"))?;
    // veth leaves checksums to a NIC that is not there, and XDP on the far side would see them
    // unfinished.
    let mut command = namespace.command("ethtool");
    command.args(["-K", inner, "tx", "off"]);
    command::output_of(command)?;
    if node.role.has_agent() {
        attach_pass(wire, interface)?;
    }
    Ok(())
}

/// A frame that XDP sends out of a veth arrives only if its peer runs an XDP program too.
fn attach_pass(wire: &Namespace, interface: &str) -> Result<(), LabError> {
    wire.within(|| pass::attach(interface))?.map_err(|source| LabError::File {
        what: format!("XDP on {interface} in {}", wire.name()),
        source,
    })
}

/// Writes kernel settings of a namespace, in order.
fn write_sysctls<'a>(
    namespace: &Namespace,
    settings: impl IntoIterator<Item = (&'a str, &'a str)> + Send,
) -> Result<(), LabError> {
    namespace.within(|| {
        for (key, value) in settings {
            let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
            std::fs::write(&path, value).map_err(file_error(&path))?;
        }
        Ok(())
    })?
}

/// Removes a folder; what is in bpffs is unlinked, which detaches it.
fn remove_folder(folder: &Path) -> Result<(), LabError> {
    std::fs::remove_dir_all(folder).map_err(file_error(folder))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::File { what: path.display().to_string(), source }
}

fn topology_files_error(node: &str) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::File { what: format!("files of {node}"), source }
}

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(5);
