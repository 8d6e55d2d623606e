//! Runs the machine's own tools (`ip`, `vtysh`, `kubectl`, …) to their end.
//!
//! A failure is one line that names the command and what it said. Programs that stay
//! ([`crate::process`]) are not started here.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Output, Stdio},
};

use thiserror::Error;

/// A tool that could not be started, or said no.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It ended with another status than 0.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// The command line.
        command: String,
        /// Last line of what it wrote to standard error, else to standard output.
        said: String,
    },
    /// It could not be started or spoken to.
    #[error("`{command}` could not be run")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs `program` and returns what it printed.
///
/// # Errors
/// It cannot be started, or it fails.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, CommandError> {
    let mut command = Command::new(program);
    command.args(arguments);
    output_of(command)
}

/// Runs a prepared command and returns what it printed.
///
/// # Errors
/// It cannot be started, or it fails.
pub fn output_of(mut command: Command) -> Result<String, CommandError> {
    let output = command.stdin(Stdio::null()).output();
    finish(&command, output)
}

/// Runs `program` with `input` on its standard input and returns what it printed.
///
/// # Errors
/// It cannot be started, or it fails.
pub fn run_with_input<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
    input: &str,
) -> Result<String, CommandError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.spawn().and_then(|mut child| {
        let stdin = child.stdin.take();
        // At the same time as its output is read: it may answer before it has read everything.
        std::thread::scope(|scope| {
            scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            child.wait_with_output()
        })
    });
    finish(&command, output)
}

fn finish(command: &Command, output: std::io::Result<Output>) -> Result<String, CommandError> {
    let output = output.map_err(|source| CommandError::Start { command: line(command), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [&output.stderr, &output.stdout]
        .into_iter()
        .find_map(|bytes| last_line(bytes))
        .unwrap_or_else(|| output.status.to_string());
    Err(CommandError::Failed { command: line(command), said })
}

fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_the_command_and_its_last_line() {
        let error = run("sh", ["-c", "echo first >&2; echo last >&2; exit 3"]).unwrap_err();

        assert!(error.to_string().ends_with("failed: last"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        let more_than_pipes_hold = "hello\n".repeat(100_000);

        let echoed = run_with_input("cat", ["-"], &more_than_pipes_hold).unwrap();

        assert_eq!(echoed, more_than_pipes_hold);
    }
}
