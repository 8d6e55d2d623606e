//! [`Process`]: one of several controllers, as a process that can be killed.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::etcd::{Etcd, share};

/// How long one may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Process {
    data: PathBuf,
    address: String,
    command: Command,
    child: Option<Child>,
}

impl Process {
    /// As many as asked for, each with an address of the loopback and what the first one made; the
    /// first one serves agents.
    pub(crate) fn several<const COUNT: usize>(folder: &Path, etcd: &Etcd) -> [Self; COUNT] {
        let first = folder.join("controller-0");
        std::array::from_fn(|number| {
            let data = folder.join(format!("controller-{number}"));
            if number > 0 {
                share(&first, &data);
            }
            let mut this = Self::new(data, format!("127.0.0.{}", number + 2), etcd);
            this.revive();
            this
        })
    }

    fn new(data: PathBuf, address: String, etcd: &Etcd) -> Self {
        let mut command = Command::new(binary());
        command
            .args(["--listen", &format!("{address}:6443")])
            .args(["--agent-listen", &format!("{address}:6444")])
            .args(["--store", "etcd", "--etcd-endpoints", &etcd.url()])
            .arg("--data")
            .arg(&data)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null());
        Self { data, address, command, child: None }
    }

    /// Where agents find it.
    pub(crate) fn agents_at(&self) -> String {
        format!("{}:6444", self.address)
    }

    /// What kubectl asks it with.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    /// By SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it, with what it had; returns once it answers.
    #[expect(clippy::disallowed_methods, reason = "nothing else says that a process is ready")]
    pub(crate) fn revive(&mut self) {
        fs::create_dir_all(&self.data).unwrap();
        fs::remove_file(self.kubeconfig()).ok();
        self.command.stderr(File::create(self.data.join("log")).unwrap());
        self.child = Some(self.command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        let answers = || TcpStream::connect(format!("{}:6443", self.address)).is_ok();
        while !(fs::exists(self.kubeconfig()).unwrap() && answers()) {
            let log = fs::read_to_string(self.data.join("log")).unwrap();
            assert!(Instant::now() < deadline, "the controller gets ready: {log}");
            // A process of its own says in no other way that it is ready.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The controller beside the agent: Cargo builds both for the tests of the workspace.
fn binary() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_isocast-agent")).with_file_name("isocast-controller");
    let is_there = fs::exists(&path).unwrap();
    assert!(is_there, "no {}: cargo build -p isocast-controller", path.display());
    path
}
