//! `isocast-agent speaker` as a process, configured by a file and steered by its API.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::net::{Lab, eventually};

const API: &str = "127.0.0.1:9179";

/// A running speaker; killed with its test.
#[derive(Debug)]
pub(crate) struct Speaker {
    process: Child,
    config: PathBuf,
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Speaker {
    /// Starts with `[router]`, `[api]` and these sections, and waits for the API.
    pub(crate) async fn start(lab: &Lab, sections: &str) -> Self {
        let config = lab.dir.path().join("speaker.toml");
        write(&config, sections);
        let process = Command::new(env!("CARGO_BIN_EXE_isocast-agent"))
            .args(["speaker", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let speaker = Self { process, config };
        eventually("the API answers", async || TcpStream::connect(API).await.is_ok()).await;
        speaker
    }

    /// Has it read these sections instead.
    pub(crate) fn reload(&self, sections: &str) {
        write(&self.config, sections);
        self.signal(Signal::SIGHUP);
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id().unwrap()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended of itself.
    pub(crate) async fn end(mut self) -> bool {
        self.process.wait().await.unwrap().success()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path, "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    pub(crate) async fn announce(&self, body: Value) -> Answer {
        self.request("POST", "/v1/announcements", &body.to_string()).await
    }

    pub(crate) async fn withdraw(&self, prefix: &str) -> Answer {
        let body = json!({ "prefix": prefix }).to_string();
        self.request("DELETE", "/v1/announcements", &body).await
    }

    /// HTTP/1.0: the answer ends where the connection does.
    pub(crate) async fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(API).await.unwrap();
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, body: body.to_owned() }
    }

    /// The entry of a peer.
    pub(crate) async fn peer(&self, name: &str) -> Option<Value> {
        let peers = self.get("/v1/peers").await;
        peers.as_array().unwrap().iter().find(|peer| peer["name"] == name).cloned()
    }

    pub(crate) async fn is_established(&self, name: &str) -> bool {
        self.peer(name).await.is_some_and(|peer| peer["state"] == "Established")
    }

    pub(crate) async fn established(&self, names: &[&str]) {
        for name in names {
            eventually(&format!("{name} is established"), async || self.is_established(name).await)
                .await;
        }
    }

    /// The best route of a prefix.
    pub(crate) async fn best(&self, prefix: &str) -> Option<Value> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let routes = self.get(&format!("/v1/routes?family={family}-unicast&prefix={prefix}")).await;
        routes.as_array().unwrap().iter().find(|route| route["best"] == true).cloned()
    }
}

fn write(path: &std::path::Path, sections: &str) {
    let head = format!(
        "[router]\nasn = 65010\nrouter-id = '10.99.0.1'\nlisten = ['0.0.0.0:179', '[::]:179']\n\
         [api]\nlisten = '{API}'\n"
    );
    fs::write(path, head + sections).unwrap();
}
