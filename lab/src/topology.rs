//! A lab's topology, as valid types.
//!
//! Read from a containerlab topology file (`raw`), of which the lab supports the part that every
//! node of `kind: linux` needs. What it does not support is refused by name, never ignored: the
//! same file must mean the same thing here and under containerlab.

use std::{
    collections::BTreeMap,
    fmt,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

use ipnet::Ipv4Net;
use thiserror::Error;

mod raw;

pub(crate) use self::raw::MANAGEMENT_INTERFACE;

/// A whole topology.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Name of the lab; part of every namespace's name.
    pub name: String,
    /// The network that every node's `eth0` is on.
    pub management: Management,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Links, in the order of the file.
    pub links: Vec<Link>,
}

/// The management network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    /// Name of the network.
    pub network: String,
    /// Its subnet; the first host address is the bridge's own.
    pub subnet: Ipv4Net,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name, unique in the topology.
    pub name: String,
    /// What runs on it.
    pub role: Role,
    /// Label `isocast.lab/datacenter`; absent for what lies between datacenters.
    pub datacenter: Option<String>,
    /// Label `isocast.lab/asn`: its autonomous system, for routers and edges.
    pub asn: Option<u32>,
    /// Address of `eth0`.
    pub management_address: Ipv4Addr,
    /// Commands run in the node once its links exist.
    pub exec: Vec<String>,
    /// Files given to the node.
    pub binds: Vec<Bind>,
    /// Environment of its programs.
    pub env: BTreeMap<String, String>,
    /// Kernel settings of its network namespace.
    pub sysctls: BTreeMap<String, String>,
}

/// What a node is: label `isocast.lab/role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A host with an Isocast agent in role backend, and nginx.
    Backend,
    /// A router running BIRD.
    Bird,
    /// A host of users: load comes from here.
    Client,
    /// The Isocast controller.
    Controller,
    /// A host with an Isocast agent in role edge.
    Edge,
    /// A router running FRR.
    Frr,
}

/// A file of the host that a node sees under a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the node.
    pub target: PathBuf,
}

/// A wire between two interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Both ends.
    pub endpoints: [Endpoint; 2],
    /// Of both interfaces.
    pub mtu: u32,
}

/// One end of a [`Link`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name of the node.
    pub node: String,
    /// Name of the interface in that node.
    pub interface: String,
}

/// Why a topology file is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a topology file, or uses what the lab does not support.
    #[error("{path}: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// A value is not valid.
    #[error("{field}: {message}")]
    Invalid {
        /// Path of the field, such as `topology.nodes.bor-ams.labels`.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Topology {
    /// Reads a topology file; `binds` are relative to its folder.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        let read = |source| TopologyError::Read { path: path.to_owned(), source };
        let absolute = path.canonicalize().map_err(read)?;
        let text = std::fs::read_to_string(&absolute).map_err(read)?;
        let folder = absolute.parent().unwrap_or_else(|| Path::new("/"));
        raw::parse(&text, path)?.validate(folder)
    }

    /// Nodes of a role, by name.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |node| node.role == role)
    }

    /// Nodes of a datacenter, by name.
    pub fn in_datacenter<'a>(&'a self, datacenter: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.values().filter(move |node| node.datacenter.as_deref() == Some(datacenter))
    }

    /// Routers of a datacenter.
    pub fn borders(&self) -> impl Iterator<Item = &Node> {
        let routers = self.with_role(Role::Frr).chain(self.with_role(Role::Bird));
        routers.filter(|node| node.datacenter.is_some())
    }

    /// A node's links, with their positions in [`Topology::links`].
    pub fn links_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (usize, &'a Link)> {
        let touches = move |link: &Link| link.endpoints.iter().any(|end| end.node == node);
        self.links.iter().enumerate().filter(move |(_, link)| touches(link))
    }
}

impl Node {
    /// Files bound below `folder`, by file name.
    pub fn bound_below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a Bind> {
        self.binds.iter().filter(move |bind| bind.target.parent() == Some(Path::new(folder)))
    }
}

impl Role {
    /// All roles, by name.
    pub const ALL: [Self; 6] =
        [Self::Backend, Self::Bird, Self::Client, Self::Controller, Self::Edge, Self::Frr];

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Bird => "bird",
            Self::Client => "client",
            Self::Controller => "controller",
            Self::Edge => "edge",
            Self::Frr => "frr",
        }
    }

    /// Whether an Isocast agent runs there.
    #[must_use]
    pub const fn has_agent(self) -> bool {
        matches!(self, Self::Backend | Self::Edge)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is not a role, expected one of {names}")
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.interface)
    }
}

/// Longest interface name Linux takes (IFNAMSIZ without the final zero).
pub const INTERFACE_NAME_CHARS_MAX: usize = 15;
/// Longest lab name: leaves room for it in paths of Unix sockets.
pub const LAB_NAME_CHARS_MAX: usize = 20;
/// Longest node name.
pub const NODE_NAME_CHARS_MAX: usize = 24;
/// Most nodes in a topology.
pub const NODES_MAX: usize = 200;
/// Most links in a topology.
pub const LINKS_MAX: usize = 1000;
