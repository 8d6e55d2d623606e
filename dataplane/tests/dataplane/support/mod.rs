//! Network namespaces for tests.

pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod packet;

use std::{
    fs::File,
    process::{self, Command},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// A network namespace of this test, removed when it goes out of scope.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new(part: &str) -> Self {
        let name = format!("isot-dp-{}-{part}", process::id());
        run(&format!("ip netns add {name}"));
        let namespace = Self { name };
        namespace.run("ip link set lo up");
        // Checksums are computed before XDP sees a frame, and addresses are usable at once.
        namespace
            .run("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
        namespace
    }

    /// Runs a shell command inside; its standard output.
    pub(crate) fn run(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.name))
    }

    /// Runs `body` on a thread inside. Sockets and interfaces it opens belong to the namespace.
    pub(crate) fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(&path).expect("namespace");
                setns(file, CloneFlags::CLONE_NEWNET).expect("enter namespace (needs root)");
                body()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _removed = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs a command; panics with its words when it fails.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).output().expect(program);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits, for at most ten seconds, until what is watched is as wanted.
pub(crate) fn wait_for<T>(
    watch: &mut tokio::sync::watch::Receiver<T>,
    wanted: impl FnMut(&T) -> bool,
) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("runtime");
    let waiting = async {
        let deadline = std::time::Duration::from_secs(10);
        tokio::time::timeout(deadline, watch.wait_for(wanted)).await.is_ok()
    };
    runtime.block_on(waiting)
}
