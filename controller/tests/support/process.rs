//! The real binary, to be killed.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use super::client::Credentials;

/// The running binary.
pub struct Process(pub Child);

impl Process {
    pub fn start(data: &Path, port: u16) -> Self {
        Self::start_with(data, port, &[])
    }

    /// With options of its own.
    pub fn start_with(data: &Path, port: u16, options: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_isocast-controller"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--agent-listen", "127.0.0.1:0"])
            .args(options)
            .arg("--data")
            .arg(data)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("the controller starts");
        Self(child)
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until the controller answers.
pub async fn ready(data: &Path) -> Credentials {
    let kubeconfig = data.join("admin.kubeconfig");
    let answered = async {
        loop {
            if fs::exists(&kubeconfig).unwrap_or(false) {
                let credentials = Credentials::load(&kubeconfig);
                if credentials.connect().await.is_ok() {
                    return credentials;
                }
            }
            // Between attempts, not instead of them: a process says by nothing else that it is ready.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), answered).await.expect("the controller gets ready")
}

/// A port that nobody listens at: a controller keeps it when it is started again.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
