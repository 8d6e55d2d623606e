//! Network namespaces: names, entering them, and what runs inside.
//!
//! The mount namespace stays the machine's own, so bpffs is visible to programs in a node (unlike
//! with `ip netns exec`, which mounts another /sys).

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sched::{CloneFlags, setns};
use thiserror::Error;

use crate::{
    command::{self, CommandError},
    process::Process,
};

/// A named network namespace; it need not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    name: String,
}

/// A namespace that cannot be entered.
#[derive(Debug, Error)]
#[error("cannot enter network namespace {name}")]
pub struct EnterError {
    name: String,
    #[source]
    source: std::io::Error,
}

impl Namespace {
    /// The namespace of that name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where iproute2 keeps it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// Whether it exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Makes it, with `lo` up.
    ///
    /// # Errors
    /// The kernel or iproute2 refuse.
    pub fn create(&self) -> Result<(), CommandError> {
        command::run("ip", ["netns", "add", &self.name])?;
        self.ip("link set dev lo up\n")
    }

    /// Removes it with every interface in it; nothing happens if there is none.
    ///
    /// # Errors
    /// The kernel or iproute2 refuse.
    pub fn delete(&self) -> Result<(), CommandError> {
        if self.exists() {
            command::run("ip", ["netns", "delete", &self.name])?;
        }
        Ok(())
    }

    /// Runs a batch of `ip` commands in it, one a line.
    ///
    /// # Errors
    /// The first command that fails.
    pub fn ip(&self, batch: &str) -> Result<(), CommandError> {
        command::run_with_input("ip", ["-n", &self.name, "-batch", "-"], batch).map(|_| ())
    }

    /// A command that will run in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs `work` on a thread inside the namespace and waits for it.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, EnterError> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().map(|()| work()));
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// # Errors
    /// There is no such namespace, or the process may not enter it.
    pub fn enter(&self) -> Result<(), EnterError> {
        let entered = File::open(self.path())
            .and_then(|file| setns(file, CloneFlags::CLONE_NEWNET).map_err(Into::into));
        entered.map_err(|source| EnterError { name: self.name.clone(), source })
    }

    /// Processes in it.
    ///
    /// # Errors
    /// iproute2 cannot be run.
    pub fn processes(&self) -> Result<Vec<Process>, CommandError> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        let text = command::run("ip", ["netns", "pids", &self.name])?;
        let pids = text.lines().filter_map(|line| line.trim().parse().ok());
        Ok(pids.filter_map(Process::with_pid).collect())
    }
}

const NAMESPACES: &str = "/run/netns";
