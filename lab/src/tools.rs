//! Where the lab's programs are, and what the machine must have.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use thiserror::Error;

use crate::{
    netns::Namespace,
    topology::{Role, Topology},
};

/// Where to find the product's own programs and kubectl.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Folder of `isocast`, `isocast-agent` and `isocast-controller`.
    pub programs: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
}

/// Something the lab needs and the machine lacks.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NeedError {
    /// Namespaces, interfaces and BPF are root's.
    #[error("the lab makes network namespaces and loads BPF programs: run it as root")]
    NotRoot,
    /// A program is not installed.
    #[error("{program} is missing: {remedy}")]
    Program {
        /// Its name or path.
        program: String,
        /// What to do.
        remedy: String,
    },
    /// The kernel has no virtual Ethernet pairs.
    #[error("the kernel cannot make a veth pair: {said}")]
    NoVeth {
        /// What it said.
        said: String,
    },
    /// There is no BPF file system.
    #[error("no BPF file system at {BPFFS}: mount -t bpf bpf {BPFFS} failed: {said}")]
    NoBpf {
        /// What it said.
        said: String,
    },
}

impl Tools {
    /// A program of the product.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Checks that everything a topology needs is there; mounts bpffs if it is not mounted.
    ///
    /// # Errors
    /// The first need that is not met.
    pub fn check(&self, topology: &Topology) -> Result<(), NeedError> {
        check_root()?;
        for tool in ["ip", "nsenter", "ethtool"] {
            check_program(Path::new(tool), "apt-get install iproute2 util-linux ethtool")?;
        }
        let has = |role| topology.with_role(role).next().is_some();
        if has(Role::Frr) {
            check_program(Path::new(FRR_DAEMONS).join("bgpd").as_path(), "apt-get install frr")?;
        }
        if has(Role::Bird) {
            check_program(Path::new("bird"), "apt-get install bird2")?;
        }
        if has(Role::Backend) {
            check_program(Path::new("nginx"), "apt-get install nginx")?;
        }
        if topology.nodes.values().any(|node| node.role.has_agent()) {
            check_program(&self.program(AGENT), "build it, or say where it is with --bin-dir")?;
            check_bpffs()?;
        }
        check_veth()
    }

    /// Checks what only a lab with a controller needs.
    ///
    /// # Errors
    /// The first need that is not met.
    pub fn check_controller(&self) -> Result<(), NeedError> {
        let built = "build it, or say where it is with --bin-dir";
        check_program(&self.program(CONTROLLER), built)?;
        check_program(&self.program(CLI), built)?;
        check_program(&self.kubectl, "./dev setup, or say where it is with --kubectl")
    }
}

/// Checks that this process is root's.
///
/// # Errors
/// It is not.
pub fn check_root() -> Result<(), NeedError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(NeedError::NotRoot) }
}

fn check_program(program: &Path, remedy: &str) -> Result<(), NeedError> {
    let found = if program.components().count() > 1 {
        program.exists()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    };
    if found {
        return Ok(());
    }
    let program = program.display().to_string();
    Err(NeedError::Program { program, remedy: remedy.to_owned() })
}

fn check_bpffs() -> Result<(), NeedError> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let is_mounted = mounts.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next(), fields.next()) == (Some(BPFFS), Some("bpf"))
    });
    if is_mounted {
        return Ok(());
    }
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("bpf"), BPFFS, Some("bpf"), none, None::<&str>)
        .map_err(|error| NeedError::NoBpf { said: error.to_string() })
}

fn check_veth() -> Result<(), NeedError> {
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    let probe = Namespace::named(format!("isolp-{}-{number}", std::process::id()));
    let made = probe
        .create()
        .and_then(|()| probe.ip("link add name end0 type veth peer name end1\n"))
        .map_err(|error| NeedError::NoVeth { said: error.to_string() });
    let removed = probe.delete().map_err(|error| NeedError::NoVeth { said: error.to_string() });
    made.and(removed)
}

/// Threads that look at the same time make namespaces of their own.
static PROBES: AtomicU32 = AtomicU32::new(0);

/// The product's programs.
pub const AGENT: &str = "isocast-agent";
/// The product's programs.
pub const CLI: &str = "isocast";
/// The product's programs.
pub const CONTROLLER: &str = "isocast-controller";
/// Where distributions put FRR's daemons.
pub const FRR_DAEMONS: &str = "/usr/lib/frr";
const BPFFS: &str = "/sys/fs/bpf";
