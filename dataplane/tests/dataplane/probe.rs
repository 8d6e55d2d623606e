//! Health checks: marked sockets reach the one backend that their mark stands for, through the
//! tunnel, whatever the ring says.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::fd::AsFd as _,
    time::Duration,
};

use crate::support::{
    Namespace,
    network::{
        BACKEND, EDGE, NOBODY, Network, PORT, VIPS, backend_tables, edge_tables, host_addresses,
        serve,
    },
    node::{TENANT, address},
};
use isocast_dataplane::{Dataplane, Encap, Outcome, Probe, Tables};
use nix::sys::socket::{setsockopt, sockopt::Mark};

/// Asks the service's address who answers, from a socket with a mark.
pub(crate) fn ask_with_mark(host: &Namespace, vip: &str, mark: u32) -> std::io::Result<String> {
    let target = SocketAddr::new(address(vip), PORT);
    host.enter(|| {
        let domain = socket2::Domain::for_address(target);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        setsockopt(&socket.as_fd(), Mark, &mark)?;
        socket.connect_timeout(&target.into(), Duration::from_secs(2))?;
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"\n")?;
        let mut answer = [0; 16];
        let len = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..len]).trim().to_owned())
    })
}

#[test]
fn marks_choose_the_backend_and_nobody_else_is_touched() {
    let network = Network::new("probe", 4);
    let open = |host: usize| {
        network.hosts[host].enter(|| Dataplane::open(network.config(host)).expect("open").0)
    };
    let mut planes: Vec<_> = [BACKEND, BACKEND + 1].map(open).into();
    for (plane, (host, name)) in planes.iter_mut().zip([(BACKEND, "one"), (BACKEND + 1, "two")]) {
        plane.apply(&backend_tables(&host_addresses(EDGE))).expect("backend");
        serve(&network.hosts[host], name);
    }
    let mut edge = open(EDGE);
    let mut tables: Tables = edge_tables(&[host_addresses(BACKEND)[0].clone()], 0, NOBODY);
    for (mark, host, family) in
        [(0x1001, BACKEND, 0), (0x1002, BACKEND + 1, 0), (0x1003, BACKEND + 1, 1)]
    {
        let tunnel_address = address(&host_addresses(host)[family]);
        tables.edge.probes.push(Probe { mark, tenant: TENANT, tunnel_address, encap: Encap::Gue });
    }
    let lost = Probe {
        mark: 0x1004,
        tenant: TENANT,
        tunnel_address: address("10.0.9.9"),
        encap: Encap::Gue,
    };
    tables.edge.probes.push(lost);
    network.hosts[EDGE].run("ip route add unreachable 10.0.9.0/24");
    edge.apply(&tables).expect("edge");

    let edge_host = &network.hosts[EDGE];
    for vip in VIPS {
        assert_eq!(ask_with_mark(edge_host, vip, 0x1001).expect("one"), "one");
        assert_eq!(ask_with_mark(edge_host, vip, 0x1002).expect("two"), "two");
        assert_eq!(ask_with_mark(edge_host, vip, 0x1003).expect("two over IPv6"), "two");
    }
    let counters = edge.counters().expect("counters");
    assert!(counters.outcomes[&Outcome::ProbeSent] >= 18);
    assert_eq!(counters.outcomes[&Outcome::Encapsulated], 0, "probes are not balanced");
    assert!(ask_with_mark(edge_host, VIPS[0], 0x1004).is_err());
    let counters = edge.counters().expect("counters");
    assert!(counters.outcomes[&Outcome::NextHopUnresolved] > 0, "the lost backend's probe");

    // A probe of a service that a backend does not serve gets no further than its tunnel's end.
    planes[0].apply(&Tables::default()).expect("nothing served");
    assert!(ask_with_mark(edge_host, VIPS[0], 0x1001).is_err());
}
