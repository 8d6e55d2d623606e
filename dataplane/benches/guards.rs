//! What source lists and ceilings add to a packet: nanoseconds, by `BPF_PROG_TEST_RUN`.
//!
//! As in the bench of packets, only packets that the program leaves as they are can be repeated: the
//! service's backend is this node. The first row has neither list nor ceiling; compare with it,
//! within one run. Needs root, and makes a network namespace of its own.

use std::{error::Error, net::IpAddr, path::PathBuf, process::ExitCode, thread};

use ipnet::IpNet;
use isocast_dataplane::{
    Backend, BackendKey, Ceilings, ClusterSecret, Config, Dataplane, Encap, PacketRules, Protocol,
    Ring, Roles, ServiceKey, ServicePolicy, SourceList, SourceRule, Tables, Vip, detach,
};
use isocast_dataplane_common::{RING_SLOTS_MIN, Slot};
use nix::sched::{CloneFlags, unshare};

const ROUNDS: usize = 21;
const REPEAT: u32 = 200_000;
const HERE: &str = "10.0.0.1";
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const ADDRESS: [u8; 4] = [192, 0, 2, 10];

type Failure = Box<dyn Error + Send + Sync>;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are the result")]
fn main() -> ExitCode {
    // A thread of its own takes the namespace with it when it ends.
    match thread::spawn(measure).join() {
        Ok(Ok(figures)) => {
            for (name, nanoseconds) in figures {
                println!("{name:<44} {nanoseconds:>4} ns/packet");
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

fn measure() -> Result<Vec<(&'static str, u128)>, Failure> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let pin_dir = PathBuf::from(format!("/sys/fs/bpf/isocast-test/guards-{}", std::process::id()));
    let config = Config {
        pin_dir: pin_dir.clone(),
        uplinks: Vec::new(),
        tunnel_addresses: vec![HERE.parse()?],
        cluster_secret: ClusterSecret::new([7; 32]),
        roles: Roles { edge: false, backend: true },
        pass_on_per_second: isocast_dataplane::PASS_ON_PER_SECOND,
    };
    let (mut dataplane, _) = Dataplane::open(config)?;
    let ceilings =
        Ceilings { packets_per_second: Some(u32::MAX), new_flows_per_second: Some(u32::MAX) };
    let limited = ServicePolicy { ceilings, ..ServicePolicy::default() };
    let cases: [(&str, usize, usize, ServicePolicy, bool); 8] = [
        ("neither", 0, 0, ServicePolicy::default(), false),
        ("a ceiling", 0, 0, limited.clone(), false),
        ("a ceiling, and one of the tenant", 0, 0, limited.clone(), true),
        ("a list of 1 prefix", 1, 1, ServicePolicy::default(), false),
        ("a list of 16 prefixes", 1, 16, ServicePolicy::default(), false),
        ("a list of 16 prefixes among 1,000 lists", 1000, 16, ServicePolicy::default(), false),
        ("a list of 2,048 prefixes among 32 lists", 32, 2048, ServicePolicy::default(), false),
        ("all of it, 16 prefixes among 1,000 lists", 1000, 16, limited, true),
    ];
    let mut figures = Vec::new();
    for (name, lists, prefixes, policy, tenant) in cases {
        let mut tables = tables(lists, prefixes, &policy)?;
        if tenant {
            tables.edge.tenants.insert(1, ceilings);
        }
        dataplane.apply(&tables)?;
        let rounds = (0..ROUNDS).map(|_| dataplane.trace(&frame(), "lo", REPEAT));
        let rounds: Vec<_> = rounds.collect::<Result<_, _>>()?;
        let best = rounds.iter().map(|traced| traced.nanoseconds).min().unwrap_or_default();
        figures.push((name, best));
    }
    detach(&pin_dir)?;
    Ok(figures)
}

/// The service, with the last of so many lists of so many prefixes.
fn tables(lists: usize, prefixes: usize, policy: &ServicePolicy) -> Result<Tables, Failure> {
    let mut tables = Tables::default();
    tables.edge.vips.push(Vip {
        address: ADDRESS.into(),
        protocol: Protocol::Tcp,
        port: 443,
        tenant: 1,
        ring: 0,
        service: ServiceKey("www".into()),
        rules: PacketRules::default(),
    });
    tables.edge.backends.push(Backend {
        key: BackendKey("here".into()),
        tunnel_address: HERE.parse()?,
        encap: Encap::Gue,
    });
    tables.edge.rings.push(Ring::from_positions([Slot::settled(0); RING_SLOTS_MIN]));
    tables.edge.policies.insert(ServiceKey("www".into()), policy.clone());
    for list in 0..lists {
        let mut rules = Vec::new();
        for prefix in 0..prefixes {
            let others = u32::try_from(list * prefixes + prefix)?.wrapping_mul(0x9e37_79b9);
            // Every list has the client's prefix and, spread over the space, others.
            let (address, len) = if prefix == 0 {
                (u32::from_be_bytes([198, 51, 100, u8::try_from(list % 256)?]), 24)
            } else {
                (others, 28)
            };
            let prefix = IpNet::new(IpAddr::V4(address.into()), len)?.trunc();
            rules.push(SourceRule { prefix, allowed: true });
        }
        rules.sort_unstable();
        rules.dedup();
        let sources = SourceList { rules: rules.into(), others_allowed: false };
        let key = if list + 1 == lists { "www".to_owned() } else { format!("other-{list}") };
        let policy = ServicePolicy { sources: Some(sources), ..policy.clone() };
        tables.edge.policies.insert(ServiceKey(key.into()), policy);
    }
    Ok(tables)
}

/// An Ethernet frame with an acknowledgement; the program reads no checksum.
fn frame() -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(CLIENT);
    frame.extend(ADDRESS);
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(443_u16.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
    frame.extend([0; 6]);
    frame
}
