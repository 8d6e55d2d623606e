//! A topology on this machine: made, changed by faults, and removed again.
//!
//! Everything is recorded before it is made, so nothing is left behind, whatever happens in
//! between. Processes are found by the namespace they are in, never by name alone.

use std::{
    io,
    net::IpAddr,
    os::unix::fs::FileTypeExt,
    path::Path,
    time::{Duration, Instant},
};

use serde::Deserialize;
use thiserror::Error;

use crate::{
    command::{self, CommandError},
    netns::{EnterError, Namespace},
    process::{Process, ProcessError},
    programs::{self, Program, Source},
    state::{State, StateError},
    tools::{NeedError, Tools},
    topology::{Node, Role, Topology, TopologyError},
};

mod faults;
mod realise;

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

    /// Starts another build of the program of that name on a node: one with another name for one of
    /// the outcomes of packets, and therefore with other maps.
    ///
    /// # Errors
    /// The node has no such program, or it cannot be built or does not come up.
    pub fn start_other_build(&self, node: &str, name: &str) -> Result<(), LabError> {
        let node = self.node(node)?;
        let all = programs::of_node(&self.topology, node, &self.tools, self.source());
        for program in all.into_iter().filter(|program| program.name == name) {
            let folder = self.topology.node_folder(&node.name).join("other-build");
            let executable =
                programs::other_build(&program.executable, &folder).map_err(|source| {
                    LabError::File { what: format!("another build of {name}"), source }
                })?;
            self.start_program(node, &Program { executable, ..program })?;
        }
        Ok(())
    }

    /// Whether a program of that name runs on a node.
    ///
    /// # Errors
    /// Processes cannot be listed.
    pub fn is_running(&self, node: &str, program: &str) -> Result<bool, LabError> {
        let processes = self.topology.node_namespace(node).processes()?;
        Ok(processes.iter().any(|process| process.runs(program)))
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
        if let Some(ready) = &program.ready {
            remove_socket(ready)?;
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
        if program.is_realtime {
            process.favour();
        }
        Ok(())
    }
}

/// Removes the socket of a killed program: it would pass for its successor's.
fn remove_socket(path: &Path) -> Result<(), LabError> {
    if path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket()) {
        std::fs::remove_file(path).map_err(file_error(path))?;
    }
    Ok(())
}

/// Removes a folder; what is in bpffs is unlinked, which detaches it.
fn remove_folder(folder: &Path) -> Result<(), LabError> {
    std::fs::remove_dir_all(folder).map_err(file_error(folder))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::File { what: path.display().to_string(), source }
}

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(5);
