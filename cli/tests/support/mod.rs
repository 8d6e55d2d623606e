//! An agent that is asked by its socket, and the program that asks.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Command, Output},
    sync::mpsc,
    thread,
};

use tempfile::TempDir;

/// An agent that gives these answers, one after the other, and what it was asked.
pub(crate) struct Agent {
    folder: TempDir,
    pub(crate) requests: mpsc::Receiver<String>,
}

impl Agent {
    pub(crate) fn answering(answers: &'static [(&'static str, &'static str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
                write!(stream, "HTTP/1.0 {status}\r\n\r\n{body}").unwrap();
                sender.send(line.trim_end().to_owned()).unwrap();
            }
        });
        Self { folder, requests }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    pub(crate) fn isocast(&self, arguments: &[&str]) -> Output {
        isocast(arguments).arg("--socket").arg(self.socket()).output().unwrap()
    }
}

pub(crate) fn isocast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isocast"));
    command.args(arguments).env_remove("KUBECONFIG").env_remove("HOME");
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
