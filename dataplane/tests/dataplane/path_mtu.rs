//! Ten megabytes through paths that are too narrow somewhere: clients and servers learn it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use isocast_dataplane::{Dataplane, Mode, Outcome};
use socket2::{Domain, Protocol, Socket, Type};

use crate::support::{
    Namespace,
    network::{
        BACKEND, CLIENT, EDGE, NOBODY, Network, PORT, VIPS, backend_tables, edge_tables,
        host_addresses,
    },
};

const TRANSFER: usize = 10 << 20;
/// Longer than any transfer takes on a busy machine, shorter than a test's patience.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which way the bytes go.
#[derive(Clone, Copy)]
enum Direction {
    FromClient = 1,
    FromServer = 2,
}

/// Serves transfers on the service's addresses, in either direction.
fn serve(host: &Namespace) {
    for vip in VIPS {
        let address = SocketAddr::new(vip.parse().expect("address"), PORT);
        let listener = host.enter(|| TcpListener::bind(address).expect("the VIP is on loopback"));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                thread::spawn(move || serve_one(stream));
            }
        });
    }
}

/// What a peer does who goes away is the other side's to judge.
fn serve_one(mut stream: TcpStream) -> Option<()> {
    let mut direction = [0];
    stream.read_exact(&mut direction).ok()?;
    if direction == [Direction::FromServer as u8] {
        return stream.write_all(&vec![7; TRANSFER]).ok();
    }
    stream.read_exact(&mut vec![0; TRANSFER]).ok()?;
    stream.write_all(b"!").ok()
}

/// Moves the bytes; all of them arrive, or it says why not.
fn transfer(client: &Namespace, vip: &str, direction: Direction) -> std::io::Result<()> {
    let address = SocketAddr::new(vip.parse::<IpAddr>().expect("address"), PORT);
    let mut stream = client.enter(|| TcpStream::connect_timeout(&address, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&[direction as u8])?;
    match direction {
        Direction::FromClient => {
            stream.write_all(&vec![7; TRANSFER])?;
            stream.read_exact(&mut [0])
        }
        Direction::FromServer => stream.read_exact(&mut vec![0; TRANSFER]),
    }
}

/// An edge and backends in force, in the driver.
fn open(network: &Network, outer: usize, current: u16, chain: &[u16]) -> Vec<Dataplane> {
    open_in(Mode::Native, network, outer, current, chain)
}

fn open_in(
    mode: Mode,
    network: &Network,
    outer: usize,
    current: u16,
    chain: &[u16],
) -> Vec<Dataplane> {
    let open = |host: usize| {
        let mut config = network.config(host);
        config.uplinks[0].mode = mode;
        network.hosts[host].enter(|| Dataplane::open(config).expect("open").0)
    };
    let hosts: Vec<_> = (EDGE..network.hosts.len()).collect();
    let nodes: Vec<_> = hosts.iter().flat_map(|&host| host_addresses(host)).collect();
    let backends: Vec<_> =
        hosts.iter().skip(1).map(|&host| host_addresses(host)[outer].clone()).collect();
    let mut opened: Vec<_> = hosts.iter().map(|&host| open(host)).collect();
    for backend in &mut opened[1..] {
        backend.apply(&backend_tables(&nodes)).expect("backend");
    }
    opened[0].apply(&edge_tables(&backends, current, chain)).expect("edge");
    opened
}

fn outcome(dataplane: &Dataplane, outcome: Outcome) -> u64 {
    dataplane.counters().expect("counters").outcomes[&outcome]
}

#[test]
fn transfer_completes_though_encapsulation_does_not_fit_the_backbone() {
    for (outer, part, mode) in [
        (0, "big4", Mode::Native),
        (1, "big6", Mode::Native),
        (0, "bigg4", Mode::Generic),
        (1, "bigg6", Mode::Generic),
    ] {
        let network = Network::new(part, 3);
        for (host, near) in [(EDGE, "r1"), (BACKEND, "r2")] {
            network.router.run(&format!("ip link set {near} mtu 1500"));
            network.hosts[host].run("ip link set up0 mtu 1500");
        }
        let dataplanes = open_in(mode, &network, outer, 0, NOBODY);
        serve(&network.hosts[BACKEND]);

        for vip in VIPS {
            transfer(&network.hosts[CLIENT], vip, Direction::FromClient).expect(vip);
        }

        assert!(outcome(&dataplanes[0], Outcome::TooBigAnswered) >= 2);
        assert_eq!(outcome(&dataplanes[0], Outcome::TooBig), 0);
    }
}

#[test]
fn clamped_handshakes_spare_both_sides_what_does_not_fit() {
    let network = Network::new("clamp", 3);
    for (host, near) in [(EDGE, "r1"), (BACKEND, "r2")] {
        network.router.run(&format!("ip link set {near} mtu 1500"));
        network.hosts[host].run("ip link set up0 mtu 1500");
    }
    let mut dataplanes = open(&network, 0, 0, NOBODY);
    serve(&network.hosts[BACKEND]);
    let nodes = [EDGE, BACKEND].map(host_addresses).concat();
    let mut put_in_force = |segment_size: Option<u16>| {
        let mut edge = edge_tables(&[host_addresses(BACKEND)[0].clone()], 0, NOBODY);
        edge.edge.vips.iter_mut().for_each(|vip| vip.rules.segment_size = segment_size);
        let mut backend = backend_tables(&nodes);
        let accepts = backend.decap.accepts.iter_mut();
        accepts.for_each(|accept| accept.rules.segment_size = segment_size);
        dataplanes[0].apply(&edge).expect("edge");
        dataplanes[1].apply(&backend).expect("backend");
        for vip in VIPS {
            transfer(&network.hosts[CLIENT], vip, Direction::FromClient).expect(vip);
            transfer(&network.hosts[CLIENT], vip, Direction::FromServer).expect(vip);
        }
        let clamped = [0, 1].map(|at: usize| outcome(&dataplanes[at], Outcome::SegmentSizeClamped));
        (clamped, outcome(&dataplanes[0], Outcome::TooBigAnswered))
    };

    // A handshake for each family and direction, at the edge and at the backend.
    assert_eq!(put_in_force(Some(u16::MAX)), ([4, 4], 0));

    let (clamped, told) = put_in_force(None);
    assert_eq!(clamped, [4, 4], "no longer asked for");
    assert!(told >= 2);
}

#[test]
fn transfer_completes_though_the_way_back_is_narrower_than_the_backend_knows() {
    let network = Network::new("narrow", 3);
    network.router.run("ip link set r0 mtu 1400");
    let dataplanes = open(&network, 0, 0, NOBODY);
    serve(&network.hosts[BACKEND]);

    for vip in VIPS {
        transfer(&network.hosts[CLIENT], vip, Direction::FromServer).expect(vip);
    }

    assert!(outcome(&dataplanes[0], Outcome::ErrorForwarded) >= 2);
}

#[test]
fn error_finds_the_backend_that_had_the_slot_before() {
    let network = Network::new("narrow2", 4);
    network.router.run("ip link set r0 mtu 1400");
    // The connections are made while the first backend has the slots.
    let mut dataplanes = open(&network, 0, 0, NOBODY);
    serve(&network.hosts[BACKEND]);
    let connect = |vip: &str| {
        let address = SocketAddr::new(vip.parse::<IpAddr>().expect("address"), PORT);
        network.hosts[CLIENT].enter(|| TcpStream::connect_timeout(&address, PATIENCE))
    };
    let streams: Vec<_> = VIPS.iter().map(|vip| connect(vip).expect("connect")).collect();

    let backends = [BACKEND, BACKEND + 1].map(|host| host_addresses(host)[0].clone());
    dataplanes[0].apply(&edge_tables(&backends, 1, &[0])).expect("edge");

    for mut stream in streams {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.write_all(&[Direction::FromServer as u8]).expect("ask");
        stream.read_exact(&mut vec![0; TRANSFER]).expect("all of it");
    }
    assert!(outcome(&dataplanes[0], Outcome::ErrorForwarded) >= 2);
    assert!(outcome(&dataplanes[2], Outcome::SecondChance) >= 2);
}

#[test]
fn quote_of_eight_bytes_is_enough_for_a_transfer_through_a_black_hole() {
    const NARROW: usize = 1300;
    let network = Network::new("hole", 3);
    network.router.run("ethtool -K r2 gro off");
    // Packets vanish before the router's own stack could say why.
    for command in [
        "nft add table inet hole".to_owned(),
        "nft add chain inet hole in { type filter hook prerouting priority -300 ; }".to_owned(),
        format!("nft add rule inet hole in iifname r2 meta length > {NARROW} drop"),
    ] {
        network.router.run(&command);
    }
    let dataplanes = open(&network, 0, 0, NOBODY);
    serve(&network.hosts[BACKEND]);

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| network.router.enter(|| tell_of_black_hole(NARROW, &stop)));
        for vip in VIPS {
            let moved = transfer(&network.hosts[CLIENT], vip, Direction::FromServer);
            if moved.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            moved.expect(vip);
        }
        stop.store(true, Ordering::Relaxed);
    });

    assert!(outcome(&dataplanes[0], Outcome::ErrorForwarded) >= 2);
}

/// Answers every packet of the service longer than `mtu` with an error that quotes eight bytes
/// behind its IP header, as RFC 792 asks for and not a byte more.
fn tell_of_black_hole(mtu: usize, stop: &AtomicBool) {
    const ALL_PROTOCOLS: u16 = 3;
    let all = i32::from(ALL_PROTOCOLS.to_be());
    let taps = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(all))).expect("tap");
    taps.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
    let senders = [(Domain::IPV4, Protocol::ICMPV4), (Domain::IPV6, Protocol::ICMPV6)]
        .map(|(domain, protocol)| Socket::new(domain, Type::RAW, Some(protocol)).expect("raw"));
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok(len) = (&taps).read(&mut buffer) else { continue };
        let packet = &buffer[..len];
        if packet.len() <= mtu {
            continue;
        }
        let (sender, vip, header, kind) = if packet[0] >> 4 == 4 {
            let source = <[u8; 4]>::try_from(&packet[12..16]).expect("four");
            (&senders[0], IpAddr::from(source), 20, [3, 4])
        } else {
            let source = <[u8; 16]>::try_from(&packet[8..24]).expect("sixteen");
            (&senders[1], IpAddr::from(source), 40, [2, 0])
        };
        if !VIPS.iter().any(|text| text.parse() == Ok(vip)) {
            continue;
        }
        let mut message = [&kind[..], &[0, 0]].concat();
        message.extend(u32::try_from(mtu).expect("small").to_be_bytes());
        message.extend(&packet[..header + 8]);
        if vip.is_ipv4() {
            // Over IPv6 the kernel does it.
            let sum = crate::support::packet::checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        sender.send_to(&message, &SocketAddr::new(vip, 0).into()).expect("send");
    }
}
