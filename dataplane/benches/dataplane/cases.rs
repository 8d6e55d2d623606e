//! The cases: what is fed to which program, what must come out, and what it may cost.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use isocast_dataplane::{
    Accept, FlowKey, PacketRules, Protocol, Ring, Roles, Tables, Track,
    fixture::{self, DNS, EDGE, Fixture, HTTP, TENANT, VIP_V4, VIP_V6, backend_address},
};
use isocast_dataplane_common::{
    RING_SLOTS_MIN, Slot,
    encap::{HOP_V4_LEN, OUTER_V4_LEN, PORT},
};

use crate::{
    Failure, Pins,
    driver::{Bare, Driver, Feed, Run, UnderTest},
    packet::{ACK, ETHERNET, Packet, SYN, TCP, UDP, checksum, client},
    report::{Case, median},
};

const ROUNDS: usize = 15;
const REPEAT: u32 = 200_000;
/// Packets of each case that are looked at.
const CHECKED: usize = 64;
const BACKENDS: usize = 16;
const MANY_SERVICES: usize = 10_000;
/// What a bare `XDP_TX` takes on the machine that the gates are for.
const REFERENCE_FLOOR_NS: f64 = 7.2;
/// How much slower [`MANY_SERVICES`] may be than 200.
const MANY_SERVICES_FACTOR: f64 = 1.3;

const PASS: u32 = 2;
const TX: u32 = 3;

const ONE_FLOW: u32 = 0;
const MANY_FLOWS: u32 = 65_535;
const NEW_FLOWS: u32 = u32::MAX;

/// What the program makes of a packet.
#[derive(Clone, Debug)]
enum Made {
    /// An outer header of these bytes in front.
    Encapsulated {
        outer: usize,
    },
    /// What was in the tunnel, handed to the host.
    TakenOut {
        inner: Vec<u8>,
    },
    /// The tunnel packet, to another node and without the word that named it.
    PassedOn {
        to: Ipv4Addr,
    },
    Untouched,
}

struct Planned {
    name: String,
    gate_ns: f64,
    program: PathBuf,
    feed: Feed,
    made: Made,
}

/// Costs of one driver alone: with a program that does nothing, and with one that makes room.
type Harness = (u32, u32, i32);

/// The floor, and every case beside it.
pub(crate) fn measure(pins: &Pins) -> Result<(f64, Vec<Case>), Failure> {
    let few = fixture::edge(&pins.dir("few"), 200, BACKENDS)?;
    let many = fixture::edge(&pins.dir("many"), MANY_SERVICES, BACKENDS)?;
    let transition = transition(pins)?;
    let backend = backend(pins)?;
    let rekeyed = rekeyed(pins)?;
    let handed_over = handed_over(pins)?;

    let mut planned = to_edge(&few, "");
    planned.push(looked_for(&rekeyed));
    planned.extend(tracked(&handed_over)?);
    planned.extend(to_backend(&transition, &backend)?);
    planned.extend(to_edge(&many, "_10k_services"));
    run(&planned)
}

/// The seven cases of a balancing node.
fn to_edge(edge: &Fixture, suffix: &str) -> Vec<Planned> {
    let (v4, v6) = (IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6));
    let elsewhere = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 99));
    let outer = edge.outer_header_len;
    let encapsulated = || Made::Encapsulated { outer };
    let cases = [
        ("tcp4_1", 30.0, client(v4, TCP, HTTP, ACK), ONE_FLOW, encapsulated()),
        ("tcp4_64k", 50.0, client(v4, TCP, HTTP, ACK), MANY_FLOWS, encapsulated()),
        ("tcp6_1", 35.0, client(v6, TCP, HTTP, ACK), ONE_FLOW, encapsulated()),
        ("tcp6_64k", 55.0, client(v6, TCP, HTTP, ACK), MANY_FLOWS, encapsulated()),
        ("udp4_1", 30.0, client(v4, UDP, DNS, 0), ONE_FLOW, encapsulated()),
        ("new_flow", 45.0, client(v4, TCP, HTTP, SYN), NEW_FLOWS, encapsulated()),
        ("not_ours", 8.0, client(elsewhere, TCP, HTTP, ACK), ONE_FLOW, Made::Untouched),
    ];
    let planned = |(name, gate_ns, packet, flow_mask, made)| Planned {
        name: format!("{name}{suffix}"),
        gate_ns,
        program: edge.program.clone(),
        // What lay where the end of the outer header is now.
        feed: Feed { packet, words: 2, flow_mask },
        made,
    };
    cases.into_iter().map(planned).collect()
}

/// An edge all of whose slots are in transition from the second backend to the first.
fn transition(pins: &Pins) -> Result<Fixture, Failure> {
    let mut tables = fixture::services(1, 2);
    let slot = Slot { current: 0, chain: 0 };
    tables.edge.rings = vec![Ring::chained([slot; RING_SLOTS_MIN], &[vec![1]])];
    Ok(fixture::load(&pins.dir("transition"), EDGE, Roles { edge: true, backend: false }, &tables)?)
}

/// An edge that placed flows by another key before.
fn rekeyed(pins: &Pins) -> Result<Fixture, Failure> {
    let mut tables = fixture::services(1, BACKENDS);
    tables.keys.other_flows = vec![FlowKey([9; 16])];
    Ok(fixture::load(&pins.dir("rekeyed"), EDGE, Roles { edge: true, backend: false }, &tables)?)
}

/// A flow that the other key gives to another backend, which is the one further hop.
fn looked_for(edge: &Fixture) -> Planned {
    Planned {
        name: "tcp4_1_other_flow_key".to_owned(),
        gate_ns: 75.0,
        program: edge.program.clone(),
        feed: Feed { packet: client(VIP_V4.into(), TCP, HTTP, ACK), words: 2, flow_mask: ONE_FLOW },
        made: Made::Encapsulated { outer: edge.outer_header_len + HOP_V4_LEN },
    }
}

/// An edge all of whose slots are tracked, from the second backend to the first. The header of hosts with
/// an agent, so that nothing but the flow table differs.
fn handed_over(pins: &Pins) -> Result<Fixture, Failure> {
    let mut tables = fixture::services(1, 2);
    let slot = Slot::tracked(0, 0);
    let track = Track { former: 1, further: Vec::new(), between: Vec::new(), since: 1 };
    tables.edge.rings = vec![Ring::tracked([slot; RING_SLOTS_MIN], &[], &[track])];
    tables.edge.era = 1;
    let roles = Roles { edge: true, backend: false };
    Ok(fixture::load(&pins.dir("handed_over"), EDGE, roles, &tables)?)
}

/// Flows that are noted, one that is not, and new ones.
fn tracked(edge: &Fixture) -> Result<[Planned; 4], Failure> {
    let feed = |flags, flow_mask| {
        let packet = client(VIP_V4.into(), TCP, HTTP, flags);
        Feed { packet, words: 2, flow_mask }
    };
    // One packet each, and more: all flows that the third case is about, and that of the first.
    Driver::new(feed(SYN, MANY_FLOWS), UnderTest::Pinned(&edge.program))?.time(REPEAT)?;
    let planned = |name: &str, gate_ns, feed| Planned {
        name: name.to_owned(),
        gate_ns,
        program: edge.program.clone(),
        feed,
        made: Made::Encapsulated { outer: edge.outer_header_len },
    };
    Ok([
        planned("tcp4_1_noted", 60.0, feed(ACK, ONE_FLOW)),
        planned("tcp4_64k_noted", 90.0, feed(ACK, MANY_FLOWS)),
        planned("tcp4_not_noted", 90.0, feed(ACK, NEW_FLOWS)),
        planned("new_flow_noted", 110.0, feed(SYN, NEW_FLOWS)),
    ])
}

/// The first backend of that edge.
fn backend(pins: &Pins) -> Result<Fixture, Failure> {
    let mut tables = Tables { keys: fixture::keys(), ..Tables::default() };
    tables.decap.sources = vec![EDGE.into(), backend_address(1).into()];
    tables.decap.accepts = vec![Accept {
        tenant: TENANT,
        address: VIP_V4.into(),
        protocol: Protocol::Tcp,
        port: HTTP,
        rules: PacketRules::default(),
    }];
    let roles = Roles { edge: false, backend: true };
    Ok(fixture::load(&pins.dir("backend"), backend_address(0), roles, &tables)?)
}

/// Tunnel packets as the edge makes them.
fn to_backend(edge: &Fixture, backend: &Fixture) -> Result<[Planned; 2], Failure> {
    let tunnelled = |flags| -> Result<(Packet, Packet), Failure> {
        let inner = client(VIP_V4.into(), TCP, HTTP, flags);
        let feed = Feed { packet: inner.clone(), words: 2, flow_mask: ONE_FLOW };
        let bytes = Driver::new(feed, UnderTest::Pinned(&edge.program))?.run()?.bytes;
        Ok((inner, Packet { bytes, source_at: 26, port_at: 34 }))
    };
    let planned = |name: &str, gate_ns, packet, words, made| Planned {
        name: name.to_owned(),
        gate_ns,
        program: backend.program.clone(),
        feed: Feed { packet, words, flow_mask: ONE_FLOW },
        made,
    };
    // A packet that opens a connection names no further hop.
    let (inner, opening) = tunnelled(SYN)?;
    let (_, within) = tunnelled(ACK)?;
    let taken_out = Made::TakenOut { inner: inner.bytes };
    let passed_on = Made::PassedOn { to: backend_address(1) };
    Ok([
        planned("decap", 25.0, opening, 7, taken_out),
        planned("decap_second_chance", 50.0, within, 8, passed_on),
    ])
}

fn run(planned: &[Planned]) -> Result<(f64, Vec<Case>), Failure> {
    let bare = Bare::new("transmit")?;
    let dropped = Bare::new("discard")?;
    let mut cases = Vec::new();
    let mut harnesses: BTreeMap<Harness, (Driver, Vec<f64>)> = BTreeMap::new();
    for case in planned {
        let mut driver = Driver::new(case.feed.clone(), UnderTest::Pinned(&case.program))?;
        for _ in 0..CHECKED {
            let run = driver.run()?;
            check(&case.made, &run).map_err(|what| format!("{}: {what}", case.name))?;
        }
        driver.time(REPEAT)?;
        for adjust in [0, case.made.adjusts()] {
            let under_test =
                if adjust == 0 { UnderTest::Transmit } else { UnderTest::Adjust(adjust) };
            if let Entry::Vacant(vacant) = harnesses.entry(case.harness(adjust)) {
                vacant.insert((Driver::new(case.feed.clone(), under_test)?, Vec::new()));
            }
        }
        cases.push((driver, Vec::new()));
    }
    let (mut floor, mut drop_floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(bare.time(REPEAT)?);
        drop_floor.push(dropped.time(REPEAT)?);
        for (driver, times) in cases.iter_mut().chain(harnesses.values_mut()) {
            times.push(driver.time(REPEAT)?);
        }
    }
    let floor = median(&floor).min(median(&drop_floor));
    let harness = |key: &Harness| harnesses.get(key).map_or(0.0, |(_, times)| median(times));
    let mut measured: Vec<Case> = Vec::new();
    for (case, (_, times)) in planned.iter().zip(&cases) {
        let still = harness(&case.harness(0));
        let moved = harness(&case.harness(case.made.adjusts()));
        let gross = median(times);
        let few = case.name.strip_suffix("_10k_services");
        let few = few.and_then(|few| measured.iter().find(|measured| measured.name == few));
        measured.push(Case {
            name: case.name.clone(),
            net_ns: gross - still - (moved - still) / 2.0,
            x_floor: gross / still,
            gate_ns: match few {
                Some(few) => few.net_ns * MANY_SERVICES_FACTOR,
                None => case.gate_ns * floor / REFERENCE_FLOOR_NS,
            },
        });
    }
    Ok((floor, measured))
}

impl Planned {
    fn harness(&self, adjust: i32) -> Harness {
        let len = u32::try_from(self.feed.packet.bytes.len()).unwrap_or(u32::MAX);
        (len << 8 | self.feed.words, self.feed.flow_mask, adjust)
    }
}

impl Made {
    /// By how much the start of the packet is moved.
    fn adjusts(&self) -> i32 {
        match self {
            Self::Encapsulated { outer } => -i32::try_from(*outer).unwrap_or(0),
            Self::TakenOut { .. } => i32::try_from(OUTER_V4_LEN).unwrap_or(0),
            Self::PassedOn { .. } => 4,
            Self::Untouched => 0,
        }
    }
}

/// Whether a run came out as it must.
fn check(made: &Made, run: &Run) -> Result<(), String> {
    let verdict = if matches!(made, Made::TakenOut { .. } | Made::Untouched) { PASS } else { TX };
    if run.verdict != verdict {
        return Err(format!("verdict {} instead of {verdict}", run.verdict));
    }
    let same = |what: &str, found: &[u8], wanted: &[u8]| {
        if found == wanted { Ok(()) } else { Err(format!("{what}: {found:x?} not {wanted:x?}")) }
    };
    match made {
        Made::Encapsulated { outer } => {
            let to: Vec<_> = (0..BACKENDS).map(backend_address).collect();
            let inner = check_tunnel(&run.bytes, *outer, &to)?;
            same("inner packet", inner, run.fed.get(ETHERNET..).unwrap_or_default())
        }
        Made::PassedOn { to } => {
            let inner = check_tunnel(&run.bytes, OUTER_V4_LEN, &[*to])?;
            let fed = run.fed.get(ETHERNET + OUTER_V4_LEN + 4..).unwrap_or_default();
            same("inner packet", inner, fed)
        }
        Made::TakenOut { inner } => same(
            "packet",
            run.bytes.get(ETHERNET..).unwrap_or_default(),
            inner.get(ETHERNET..).unwrap_or_default(),
        ),
        Made::Untouched => same("packet", &run.bytes, &run.fed),
    }
}

/// Looks at the outer header; what is behind it.
fn check_tunnel<'a>(bytes: &'a [u8], outer: usize, to: &[Ipv4Addr]) -> Result<&'a [u8], String> {
    let header = bytes.get(ETHERNET..ETHERNET + outer).ok_or("no room for an outer header")?;
    let ip = header.get(..20).unwrap_or_default();
    let word = |at: usize| match header.get(at..at + 2) {
        Some([high, low]) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    let destination = header.get(16..20).unwrap_or_default();
    let len = bytes.len() - ETHERNET;
    for (what, right) in [
        ("not IPv4 without options", header.first() == Some(&0x45)),
        ("total length", usize::from(word(2)) == len),
        ("protocol", header.get(9) == Some(&UDP)),
        ("IPv4 checksum", checksum(ip) == 0),
        ("destination", to.iter().any(|to| to.octets() == destination)),
        ("UDP port", word(22) == PORT),
        ("UDP length", usize::from(word(24)) == len - 20),
    ] {
        if !right {
            return Err(format!("outer header: {what} ({header:x?})"));
        }
    }
    Ok(bytes.get(ETHERNET + outer..).unwrap_or_default())
}
