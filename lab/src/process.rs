//! Long-lived programs in namespaces.
//!
//! A process is known by its id and its start time together, so an id that the kernel gave to
//! another process since is never signalled.

use std::{
    fs::OpenOptions,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use thiserror::Error;

use crate::command;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, in the kernel's clock ticks since boot.
    pub started_ticks: u64,
}

/// A program that could not be started or ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended at once.
    #[error("{program} ended as soon as it was started, see {log}")]
    Ended {
        /// Its name.
        program: String,
        /// Where it wrote why.
        log: String,
    },
    /// It is still there after a signal to end.
    #[error("process {pid} does not go away")]
    Undead {
        /// Its id.
        pid: i32,
    },
}

impl Process {
    /// Starts `command` in a process group of its own, writing to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &str, mut command: Command, log: &Path) -> Result<Self, ProcessError> {
        let refuse = |source| ProcessError::Start { program: program.to_owned(), source };
        let log_file = OpenOptions::new().create(true).append(true).open(log).map_err(refuse)?;
        let errors = log_file.try_clone().map_err(refuse)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log_file)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(refuse)?;
        let ended =
            || ProcessError::Ended { program: program.to_owned(), log: log.display().to_string() };
        let pid = i32::try_from(child.id()).ok().ok_or_else(ended)?;
        let process = Self::with_pid(pid).ok_or_else(ended)?;
        Ok(process)
    }

    /// The process that has this id now.
    #[must_use]
    pub fn with_pid(pid: i32) -> Option<Self> {
        Some(Self { pid, started_ticks: Stat::read(pid)?.started_ticks })
    }

    /// Has all its threads run before all that are not real-time, if the kernel permits it.
    pub fn favour(&self) {
        let arguments = ["--all-tasks", "--fifo", "--pid", "1", &self.pid.to_string()];
        if let Err(error) = command::run("chrt", arguments) {
            tracing::warn!(pid = self.pid, %error, "a program stays at ordinary priority");
        }
    }

    /// Whether it runs the program of that file name.
    #[must_use]
    pub fn runs(&self, program: &str) -> bool {
        let name: String = program.chars().take(NAME_CHARS_MAX).collect();
        Stat::read(self.pid).is_some_and(|stat| stat.name == name)
    }

    /// Whether it runs; a zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid)
            .is_some_and(|stat| stat.started_ticks == self.started_ticks && !stat.is_zombie)
    }

    /// Sends `signal`, if it is still the same process.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // The only way to fail is that it went away in between, which is what was wanted.
            let _gone = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Kills all of `processes` (SIGKILL, one after the other without waiting) and waits until
    /// the last is gone.
    ///
    /// # Errors
    /// One of them does not go away.
    pub fn kill_all(processes: &[Self]) -> Result<(), ProcessError> {
        Self::end_all(processes, Signal::SIGKILL)
    }

    /// The same, but asks them to end (SIGTERM).
    ///
    /// # Errors
    /// One of them does not.
    pub fn stop_all(processes: &[Self]) -> Result<(), ProcessError> {
        Self::end_all(processes, Signal::SIGTERM)
    }

    fn end_all(processes: &[Self], signal: Signal) -> Result<(), ProcessError> {
        for process in processes {
            process.signal(signal);
        }
        let deadline = Instant::now() + KILL_TIMEOUT;
        for process in processes {
            while process.is_alive() {
                if Instant::now() > deadline {
                    return Err(ProcessError::Undead { pid: process.pid });
                }
                std::thread::park_timeout(KILL_POLL);
            }
            process.reap();
        }
        Ok(())
    }

    /// Collects the exit status if it was a child of ours.
    fn reap(&self) {
        match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(_) | Err(Errno::ECHILD) => {}
            Err(error) => tracing::debug!(pid = self.pid, %error, "waitpid"),
        }
    }
}

/// What /proc/PID/stat says.
struct Stat {
    name: String,
    is_zombie: bool,
    started_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name is in parentheses and may hold any character, so fields count from the last one.
    fn parse(text: &str) -> Option<Self> {
        let (before, fields) = text.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let mut fields = fields.split_ascii_whitespace();
        let is_zombie = matches!(fields.next()?, "Z" | "X");
        // proc(5): state is field 3, starttime is field 22.
        let started_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { name, is_zombie, started_ticks })
    }
}

/// What the kernel keeps of a program's name (TASK_COMM_LEN without the final zero).
const NAME_CHARS_MAX: usize = 15;
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
const KILL_POLL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Process {
        let mut command = Command::new("sleep");
        command.arg("60");
        Process::start("sleep", command, Path::new("/dev/null")).unwrap()
    }

    #[test]
    fn a_killed_process_is_gone() {
        let process = sleeper();
        assert!(process.is_alive());

        Process::kill_all(&[process]).unwrap();

        assert!(!process.is_alive());
    }

    #[test]
    fn a_reused_id_is_not_signalled() {
        let process = sleeper();
        let predecessor = Process { started_ticks: process.started_ticks - 1, ..process };

        Process::kill_all(&[predecessor]).unwrap();

        assert!(process.is_alive());
        Process::kill_all(&[process]).unwrap();
    }

    #[test]
    fn a_name_with_parentheses_is_read_right() {
        let mut fields = vec!["0"; 40];
        fields[0] = "S";
        fields[19] = "777";
        let stat = Stat::parse(&format!("12 (a) b) {}", fields.join(" "))).unwrap();

        assert_eq!((stat.name.as_str(), stat.started_ticks, stat.is_zombie), ("a) b", 777, false));
    }
}
