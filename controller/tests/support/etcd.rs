//! [`Etcd`]: a real etcd of the test's own, on loopback; alone, or one of several members.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;

/// A server that lives as long as this.
pub struct Etcd {
    child: Option<Child>,
    folder: tempfile::TempDir,
    address: Ipv4Addr,
    /// Of all members, in their order.
    cluster: Vec<Ipv4Addr>,
    arguments: Vec<String>,
    scheme: &'static str,
}

impl Etcd {
    /// One with defaults.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One with arguments of its own.
    pub fn with(arguments: &[&str]) -> Self {
        Self::at(address(), arguments)
    }

    /// The same, at an address of [`address`].
    pub fn at(address: Ipv4Addr, arguments: &[&str]) -> Self {
        let mut etcd = Self::of(address, &[address], arguments);
        etcd.revive();
        etcd
    }

    /// The members of a cluster.
    pub fn several<const MEMBERS: usize>() -> [Self; MEMBERS] {
        let addresses = [(); MEMBERS].map(|()| address());
        let mut members = addresses.map(|address| Self::of(address, &addresses, &[]));
        // Each waits for others before it listens.
        members.iter_mut().for_each(Self::spawn);
        members.iter().for_each(Self::listens);
        members
    }

    fn of(address: Ipv4Addr, cluster: &[Ipv4Addr], arguments: &[&str]) -> Self {
        let scheme = if arguments.contains(&"--client-cert-auth") { "https" } else { "http" };
        let folder = tempfile::tempdir().expect("temporary folder");
        let arguments = arguments.iter().map(|it| (*it).to_owned()).collect();
        Self { child: None, folder, address, cluster: cluster.to_vec(), arguments, scheme }
    }

    /// Adds arguments, for when it is started again; of two of one name, the later one counts.
    pub fn allow(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|it| (*it).to_owned()));
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.socket())
    }

    /// The same, for who speaks to it otherwise.
    pub fn socket(&self) -> SocketAddr {
        (self.address, CLIENTS).into()
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// Starts it again, with what it had; returns once it can be connected to.
    pub fn revive(&mut self) {
        self.spawn();
        self.listens();
    }

    #[expect(clippy::disallowed_methods, reason = "nothing else says that a process listens")]
    fn listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "etcd listens");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn spawn(&mut self) {
        let folder = self.folder.path();
        let (client, mine) = (self.url(), peer(self.address));
        let names = self.cluster.iter().map(|at| format!("{at}={}", peer(*at)));
        let said = File::create(folder.join("log")).expect("writable");
        let child = Command::new("etcd")
            .args(["--name", &self.address.to_string()])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &mine, "--initial-advertise-peer-urls", &mine])
            .args(["--initial-cluster", &names.collect::<Vec<_>>().join(",")])
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("etcd is installed (./dev setup)");
        self.child = Some(child);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One of the loopback's that nobody uses. While etcd is down, nobody else gets its ports: what is
/// connected there comes from another address.
pub fn address() -> Ipv4Addr {
    loop {
        let [a, b, c] = rand::random::<[u8; 3]>();
        let address = Ipv4Addr::new(127, a | 0x80, b, c.clamp(1, 254));
        let is_free = |port| TcpListener::bind((address, port)).is_ok();
        if is_free(CLIENTS) && is_free(PEERS) {
            return address;
        }
    }
}

fn peer(address: Ipv4Addr) -> String {
    format!("http://{address}:{PEERS}")
}

/// Gives a controller what it needs to be one of the platform of the one whose data folder is `of`.
pub fn share(of: &Path, with: &Path) {
    std::fs::create_dir_all(with.join("pki")).expect("writable");
    for name in ["pki/ca.crt", "pki/ca.key", "secrets.keys"] {
        std::fs::copy(of.join(name), with.join(name)).expect("there");
    }
}
