//! What the program's decisions cost: nanoseconds a packet, by `BPF_PROG_TEST_RUN`.
//!
//! A test run does not restore the packet between repeats, so only packets that the program leaves
//! as they are can be repeated: one for a service whose backend is this node takes every step but
//! the writing of the outer header. Each figure is the best of several rounds, the loop's own cost
//! included; compare within one run. Needs root, and makes a network namespace of its own.

use std::{io, net::IpAddr, path::PathBuf, process::ExitCode, sync::Arc, thread};

use isocast_dataplane::{
    Backend, BackendKey, ClusterSecret, Config, Dataplane, Protocol, Ring, Roles, ServiceKey,
    Tables, Vip, detach,
};
use isocast_dataplane_common::{RING_SLOTS, Slot};
use nix::sched::{CloneFlags, unshare};

const ROUNDS: usize = 11;
const REPEAT: u32 = 200_000;
const HERE: &str = "10.0.0.1";
const VIP_V4: &str = "192.0.2.10";
const VIP_V6: &str = "2001:db8:f::10";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are the result")]
fn main() -> ExitCode {
    // A thread of its own takes the namespace with it when it ends.
    let figures = thread::spawn(measure).join();
    match figures {
        Ok(Ok(figures)) => {
            for (name, nanoseconds) in figures {
                println!("{name:<32} {nanoseconds:>4} ns/packet");
            }
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn measure() -> Result<Vec<(&'static str, u128)>, Failure> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let pin_dir = PathBuf::from(format!("/sys/fs/bpf/isocast-test/bench-{}", std::process::id()));
    let config = Config {
        pin_dir: pin_dir.clone(),
        uplinks: Vec::new(),
        tunnel_addresses: vec![HERE.parse()?],
        cluster_secret: ClusterSecret::new([7; 32]),
        roles: Roles { edge: false, backend: true },
        pass_on_max: isocast_dataplane::PASS_ON_MAX,
    };
    let (mut dataplane, _) = Dataplane::open(config)?;
    dataplane.apply(&tables()?)?;
    let figures = cases()?
        .into_iter()
        .map(|(name, frame)| Ok((name, best(&dataplane, &frame)?)))
        .collect::<Result<_, Failure>>();
    detach(&pin_dir)?;
    figures
}

fn best(dataplane: &Dataplane, frame: &[u8]) -> Result<u128, Failure> {
    let rounds = (0..ROUNDS).map(|_| dataplane.trace(frame, "lo", REPEAT));
    let rounds: Vec<_> = rounds.collect::<Result<_, _>>()?;
    let best = rounds.iter().map(|traced| traced.nanoseconds).min();
    best.ok_or_else(|| io::Error::other("no rounds").into())
}

fn tables() -> Result<Tables, Failure> {
    let mut tables = Tables::default();
    for address in [VIP_V4, VIP_V6] {
        tables.edge.vips.push(Vip {
            address: address.parse()?,
            protocol: Protocol::Tcp,
            port: 443,
            tenant: 1,
            ring: 0,
            service: ServiceKey("www".into()),
        });
    }
    let backend = Backend { key: BackendKey("here".into()), tunnel_address: HERE.parse()? };
    tables.edge.backends.push(backend);
    tables
        .edge
        .rings
        .push(Ring { slots: Arc::new([Slot::settled(0); RING_SLOTS]), chains: Arc::new([]) });
    Ok(tables)
}

fn cases() -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    let client_v4: IpAddr = "198.51.100.7".parse()?;
    let client_v6: IpAddr = "2001:db8:c::7".parse()?;
    let (vip_v4, vip_v6): (IpAddr, IpAddr) = (VIP_V4.parse()?, VIP_V6.parse()?);
    let elsewhere: IpAddr = "203.0.113.1".parse()?;
    Ok(vec![
        ("not IP: passes", [&[2; 12][..], &[0x08, 0x06], &[0; 46]].concat()),
        ("IPv4 TCP, not a VIP: passes", frame(client_v4, elsewhere, 443)),
        ("IPv4 TCP, other port: dropped", frame(client_v4, vip_v4, 444)),
        ("IPv4 TCP, balanced", frame(client_v4, vip_v4, 443)),
        ("IPv6 TCP, balanced", frame(client_v6, vip_v6, 443)),
    ])
}

/// An Ethernet frame with a TCP segment; the program reads no checksum.
fn frame(source: IpAddr, destination: IpAddr, port: u16) -> Vec<u8> {
    let mut frame = vec![2; 12];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            frame.extend(octets(source));
            frame.extend(octets(destination));
        }
    }
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
    frame.extend([0; 6]);
    frame
}
