//! A configured program without uplinks, routes or neighbours: to be measured by test runs.
//!
//! It is loaded, pinned and put in force by the code that an agent uses; only the next hop is given
//! instead of looked up. Everything happens in a network namespace of its own, so that an agent on
//! the same host is not touched.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use isocast_dataplane_common::{
    NO_BACKEND, Slot, encap::OUTER_V4_LEN, limits::PASS_ON_PER_SECOND, maglev, slot::ring_slots,
};
use nix::sched::{CloneFlags, unshare};

use crate::{
    bpf,
    dataplane::{Config, Dataplane, Roles},
    errors::{ApplyError, OpenError},
    header::NextHop,
    keys::{FlowKey, KeyTag, Keyring, ring_key},
    tables::{Backend, BackendKey, Encap, PacketRules, Protocol, Ring, ServiceKey, Tables, Vip},
};

/// Address of the service that packets are sent to.
pub const VIP_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The same over IPv6.
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10);
/// Port for TCP.
pub const HTTP: u16 = 80;
/// Port for UDP, over IPv4 alone.
pub const DNS: u16 = 53;
/// Tunnel address of the balancing node.
pub const EDGE: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
/// Tenant of all services.
pub const TENANT: u32 = 1;

/// Most backends: as many addresses as there are.
pub const BACKENDS_MAX: usize = 655;

/// A data plane in force, with a pinned program.
#[derive(Debug)]
pub struct Fixture {
    /// Takes further tables.
    pub dataplane: Dataplane,
    /// Where the program is pinned.
    pub program: PathBuf,
    /// Bytes that encapsulation adds.
    pub outer_header_len: usize,
}

/// Why there is no fixture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FixtureError {
    /// No network namespace can be made.
    #[error("cannot make a network namespace")]
    Namespace(#[source] io::Error),
    /// The kernel refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The tables are refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The program cannot be pinned.
    #[error("cannot pin {path}")]
    Pin {
        /// Where.
        path: PathBuf,
        #[source]
        #[expect(missing_docs, reason = "the cause")]
        source: io::Error,
    },
}

/// A balancing node with [`services`], pinned below `dir`.
///
/// # Errors
/// When the kernel refuses, or the services are too many.
pub fn edge(dir: &Path, services: usize, backends: usize) -> Result<Fixture, FixtureError> {
    load(dir, EDGE, Roles { edge: true, backend: false }, &self::services(services, backends))
}

/// A node with any tables.
///
/// # Errors
/// As [`edge`].
pub fn load(
    dir: &Path,
    tunnel_address: Ipv4Addr,
    roles: Roles,
    tables: &Tables,
) -> Result<Fixture, FixtureError> {
    let config = Config {
        pin_dir: dir.to_owned(),
        uplinks: Vec::new(),
        tunnel_addresses: vec![tunnel_address.into()],
        roles,
        pass_on_per_second: PASS_ON_PER_SECOND,
    };
    let mut dataplane = in_scratch_namespace(|| Dataplane::open_towards(config, Some(HERE)))
        .map_err(FixtureError::Namespace)??
        .0;
    dataplane.apply(tables)?;
    let program = dir.join("program");
    pin(&dataplane, &program)
        .map_err(|source| FixtureError::Pin { path: program.clone(), source })?;
    Ok(Fixture { dataplane, program, outer_header_len: OUTER_V4_LEN })
}

/// The service that packets are sent to, and others beside it up to that number; each with a ring
/// of its own over all backends.
#[must_use]
pub fn services(services: usize, backends: usize) -> Tables {
    let mut tables = Tables { keys: keys(), ..Tables::default() };
    let hosts: Vec<_> = (0..backends.min(BACKENDS_MAX)).map(backend_address).collect();
    for (n, host) in hosts.iter().enumerate() {
        let key = BackendKey(format!("backend-{n}").into());
        tables.edge.backends.push(Backend {
            key,
            tunnel_address: (*host).into(),
            encap: Encap::Gue,
        });
    }
    for n in 0..services {
        let name = format!("service-{n}");
        let addresses: &[(IpAddr, Protocol, u16)] = if n == 0 {
            &[
                (IpAddr::V4(VIP_V4), Protocol::Tcp, HTTP),
                (IpAddr::V4(VIP_V4), Protocol::Udp, DNS),
                (IpAddr::V6(VIP_V6), Protocol::Tcp, HTTP),
            ]
        } else {
            &[(IpAddr::V4(other_service(n)), Protocol::Tcp, HTTP)]
        };
        tables.edge.vips.extend(addresses.iter().map(|&(address, protocol, port)| Vip {
            address,
            protocol,
            port,
            tenant: TENANT,
            ring: n,
            service: ServiceKey(name.as_str().into()),
            rules: PacketRules::default(),
        }));
        tables.edge.rings.push(ring(&name, hosts.len(), |_| true));
    }
    tables
}

/// The ring of a service over those of the backends that are `up`.
#[must_use]
pub fn ring(service: &str, backends: usize, up: impl Fn(usize) -> bool) -> Ring {
    let member = |n| {
        let id = u128::from(u32::from(backend_address(n)));
        maglev::Member { id: id.to_be_bytes(), weight: u32::from(up(n)) }
    };
    let members: Vec<_> = (0..backends).map(member).collect();
    let mut positions = vec![NO_BACKEND; ring_slots(backends)];
    maglev::fill(&ring_key(service), &members, &mut positions);
    Ring {
        backends: (0..backends).collect(),
        chains: Arc::new([]),
        tracks: Arc::new([]),
        slots: positions.into_iter().map(Slot::settled).collect(),
    }
}

/// The tunnel address of a backend.
#[must_use]
pub const fn backend_address(n: usize) -> Ipv4Addr {
    let [.., high, low] = (n + 1).to_be_bytes();
    Ipv4Addr::new(10, 0, high, low)
}

/// In the space that is set apart for benchmarks (RFC 2544).
const fn other_service(n: usize) -> Ipv4Addr {
    let [.., high, low] = n.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

/// Nobody's keys: a fixture's.
#[must_use]
pub fn keys() -> Keyring {
    let tag = KeyTag([7; 4]);
    Keyring { sent: tag, believed: [tag; 2], flow: FlowKey([7; 16]), other_flows: Vec::new() }
}

/// Test runs arrive by the loopback interface, which is the first of every namespace.
const HERE: NextHop = NextHop {
    vlan: None,
    interface: 1,
    source_mac: [2, 0, 0, 0, 0, 1],
    destination_mac: [2, 0, 0, 0, 0, 2],
    mtu: u32::MAX,
};

fn pin(dataplane: &Dataplane, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let program = dataplane.program().map_err(io::Error::other)?;
    bpf::pin(program.fd().map_err(io::Error::other)?.as_fd(), path)
}

/// Sockets that `body` opens stay in a namespace of their own.
fn in_scratch_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(body())
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside panicked")))
    })
}
