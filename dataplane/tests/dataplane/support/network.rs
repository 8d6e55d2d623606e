//! A client, an edge and backends around one router, with real sockets.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process, thread,
    time::Duration,
};

use isocast_dataplane::{
    Config, DecapTables, Mode, PASS_ON_PER_SECOND, Protocol, Roles, Tables, Uplink, detach, pass,
};

use socket2::{Domain, Socket, Type};

use super::{
    Namespace,
    node::{accept, address, backend, bare, ring, vip},
};

pub(crate) const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8:f::10"];
pub(crate) const PORT: u16 = 80;

/// Hosts by number: 1 is the client, 2 the edge, 3 and up are backends.
pub(crate) struct Network {
    pub(crate) router: Namespace,
    pub(crate) hosts: Vec<Namespace>,
    pin_dir: PathBuf,
}

pub(crate) const CLIENT: usize = 0;
pub(crate) const EDGE: usize = 1;
pub(crate) const BACKEND: usize = 2;

impl Network {
    /// `hosts` includes the client and the edge.
    pub(crate) fn new(part: &str, hosts: usize) -> Self {
        let router = Namespace::new(&format!("{part}-r"));
        router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        let hosts: Vec<_> = (0..hosts)
            .map(|n| {
                let host = Namespace::new(&format!("{part}-{n}"));
                join(&router, &host, n);
                host
            })
            .collect();
        let edge = host_addresses(EDGE);
        router.run(&format!("ip route add 192.0.2.0/24 via {}", edge[0]));
        router.run(&format!("ip -6 route add 2001:db8:f::/64 via {}", edge[1]));
        let pin_dir =
            PathBuf::from(format!("/sys/fs/bpf/isocast-test/dp-{}/{part}", process::id()));
        Self { router, hosts, pin_dir }
    }

    pub(crate) fn config(&self, host: usize) -> Config {
        config(host, self.pin_dir.join(host.to_string()))
    }
}

/// How a host's data plane is opened.
pub(crate) fn config(host: usize, pin_dir: PathBuf) -> Config {
    Config {
        pin_dir,
        uplinks: vec![Uplink { interface: "up0".to_owned(), mode: Mode::Native, mtu: None }],
        tunnel_addresses: host_addresses(host).map(|text| address(&text)).to_vec(),
        roles: Roles { edge: host == EDGE, backend: host != EDGE },
        pass_on_per_second: PASS_ON_PER_SECOND,
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..self.hosts.len() {
            let _removed = detach(&self.pin_dir.join(host.to_string()));
        }
        let _removed = detach(&self.pin_dir);
        let _removed = self.pin_dir.parent().map(std::fs::remove_dir);
    }
}

/// A host's addresses, IPv4 and IPv6.
pub(crate) fn host_addresses(host: usize) -> [String; 2] {
    [format!("10.0.{host}.2"), format!("2001:db8:{host}::2")]
}

/// Connects a host with the router: both directions work with XDP on the host's end.
fn join(router: &Namespace, host: &Namespace, n: usize) {
    let near = format!("r{n}");
    router.run(&format!(
        "ip link add {near} mtu 1600 type veth peer name up0 mtu 1600 netns {}",
        host.name
    ));
    for (namespace, interface, last) in [(router, near.as_str(), 1), (host, "up0", 2)] {
        namespace.run(&format!("ip addr add 10.0.{n}.{last}/24 dev {interface}"));
        namespace.run(&format!("ip addr add 2001:db8:{n}::{last}/64 dev {interface} nodad"));
        namespace.run(&format!("ip link set {interface} up"));
        namespace.run(&format!("ethtool -K {interface} tx off"));
    }
    host.run(&format!("ip route add default via 10.0.{n}.1"));
    host.run(&format!("ip -6 route add default via 2001:db8:{n}::1"));
    router.enter(|| pass::attach(&near).expect("pass"));
}

/// One service on both families at the given backends, with slots as in [`ring`].
pub(crate) fn edge_tables(backends: &[String], current: u16, chain: &[u16]) -> Tables {
    let mut tables = bare();
    for text in VIPS {
        tables.edge.vips.push(vip(text, Protocol::Tcp, PORT));
    }
    for (n, tunnel_address) in backends.iter().enumerate() {
        tables.edge.backends.push(backend(&format!("b{n}"), tunnel_address));
    }
    tables.edge.rings.push(ring(current, chain));
    tables
}

/// What a backend accepts: the service, from the given nodes.
pub(crate) fn backend_tables(sources: &[String]) -> Tables {
    let accepts = VIPS.map(|text| accept(text, Protocol::Tcp, PORT)).to_vec();
    let sources = sources.iter().map(|text| address(text)).collect();
    Tables { decap: DecapTables { sources, accepts }, ..bare() }
}

/// Nobody else may have a slot's flows.
pub(crate) const NOBODY: &[u16] = &[];

/// Listens on the service's addresses inside `host`; every connection gets lines of `name` for
/// lines of anything, until it says [`BYE`].
pub(crate) fn serve(host: &Namespace, name: &'static str) {
    for vip in VIPS {
        let address = SocketAddr::new(vip.parse().expect("address"), PORT);
        let listener = host.enter(|| TcpListener::bind(address).expect("the VIP is on loopback"));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                thread::spawn(move || answer(stream, name));
            }
        });
    }
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut byte = [0; 1];
    while matches!(stream.read(&mut byte), Ok(1)) && byte != BYE {
        if byte == *b"\n" && stream.write_all(format!("{name}\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// What makes a server close a connection.
const BYE: [u8; 1] = *b".";

/// A client's connection.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn open(client: &Namespace, vip: &str) -> io::Result<Self> {
        Self::open_from(client, 0, vip)
    }

    /// From that port of the client's; 0 lets the kernel choose.
    pub(crate) fn open_from(client: &Namespace, port: u16, vip: &str) -> io::Result<Self> {
        let address = SocketAddr::new(vip.parse::<IpAddr>().expect("address"), PORT);
        let socket =
            client.enter(|| Socket::new(Domain::for_address(address), Type::STREAM, None))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        } else {
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        }
        socket.connect_timeout(&address.into(), Duration::from_secs(5))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self(stream))
    }

    /// The server closes first, and the client then; whether all went as it should.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.0.write_all(&BYE)?;
        match self.0.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err(io::Error::other("an answer to a farewell")),
        }
    }

    /// Says something, and learns who answers.
    pub(crate) fn ask(&mut self) -> io::Result<String> {
        self.0.write_all(b"who\n")?;
        let mut answer = String::new();
        let mut byte = [0; 1];
        while byte != *b"\n" {
            self.0.read_exact(&mut byte)?;
            answer.push(char::from(byte[0]));
        }
        Ok(answer.trim_end().to_owned())
    }
}
