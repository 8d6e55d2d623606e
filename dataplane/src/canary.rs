//! Canary packets: a generation is asked for its answers before it is put in force.
//!
//! A second instance of the program reads the same tables, but has a generation word of its own, and
//! counters and a flow table of its own: what it is asked is neither counted nor noted as traffic. Its answers are compared with
//! what this process would decide from the tables that it was told. A generation that answers wrongly is
//! not flipped in.

use std::{net::IpAddr, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray},
    programs::{ProgramError, TestRun as _, TestRunOptions, Xdp},
};
use isocast_dataplane_common::{NO_BACKEND, Outcome, encap::ETHERNET_LEN, flow::Flow};

use crate::{
    btf::TIME_WAIT_EXPECTS_AT,
    directory::Entries,
    errors::OpenError,
    header::address_words,
    maps::{ANSWERED, MapFailure, failed, take},
    plan::{Plan, is_by_address, listener, number_of},
    tables::{Protocol, Tables, Vip},
    verified::load_verified,
};

/// Canary packets for one generation.
pub(crate) const CANARIES_MAX: usize = 32;

/// Maps that the two instances share: what a generation is, and what no program looks at.
const SHARED: [&str; 9] = [
    "ROOTS",
    "ERAS",
    "DISPLACEMENTS",
    "ENTRIES",
    "RINGS",
    "CHAINS",
    "TARGETS",
    "SERVICE_NAMES",
    "TARGET_NAMES",
];

/// Drops that only tables can be the reason of.
const WRONG_DROPS: [Outcome; 4] =
    [Outcome::UnlistedPort, Outcome::NoBackend, Outcome::Malformed, Outcome::TablesInconsistent];

/// A generation answers otherwise than the tables say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet to {address} port {port} {found} instead of {expected}")]
pub struct WrongAnswer {
    address: IpAddr,
    port: u16,
    expected: String,
    found: String,
}

/// Canary packets could not be asked, or were answered wrongly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CanaryError {
    /// A generation answers otherwise than the tables say.
    #[error(transparent)]
    Wrong(#[from] WrongAnswer),
    /// A map cannot be used.
    #[error(transparent)]
    Map(#[from] MapFailure),
    /// A test run failed.
    #[error("a test run failed")]
    Run(#[from] ProgramError),
}

/// The second instance.
pub(crate) struct Canary {
    ebpf: Ebpf,
    generation: Array<MapData, u32>,
    outcomes: PerCpuArray<MapData, u64>,
}

/// What the program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Sent, with this outer destination.
    Sent(Option<IpAddr>),
    Passed,
    /// Dropped for this reason, if it is one that tables can give.
    Dropped(Option<Outcome>),
}

/// What it should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// To the backend with this tunnel address, or to the host if it is this node.
    Backend {
        address: IpAddr,
        here: bool,
    },
    /// To any backend, or to the host.
    Anybody,
    NoBackend,
}

// === impl Canary ===

impl Canary {
    /// Loads the second instance over the maps that are pinned in `dir`.
    pub(crate) fn open(
        object: &[u8],
        program: &str,
        dir: &Path,
        time_wait_expects_at: u32,
    ) -> Result<Self, OpenError> {
        let mut loader = EbpfLoader::new();
        loader.override_global(TIME_WAIT_EXPECTS_AT, &time_wait_expects_at, true);
        // Nobody answers to a canary.
        loader.map_max_entries(ANSWERED, 1);
        for name in SHARED {
            loader.map_pin_path(name, dir.join(name));
        }
        let mut ebpf = loader.load(object).map_err(OpenError::Load)?;
        let xdp = ebpf.program_mut(program).ok_or(ProgramError::NotLoaded);
        let xdp: &mut Xdp = xdp.and_then(TryInto::try_into).map_err(OpenError::Program)?;
        load_verified(program, || xdp.load()).map_err(OpenError::Program)?;
        let generation = take(&mut ebpf, "GENERATION")?;
        let outcomes = take(&mut ebpf, "OUTCOME_COUNTERS")?;
        Ok(Self { ebpf, generation, outcomes })
    }

    /// Asks the generation that `plan` describes, which is written and not yet in force, about
    /// listeners that it changes.
    pub(crate) fn ask(
        &mut self,
        generation: u32,
        questions: &Questions<'_>,
        program: &str,
    ) -> Result<(), CanaryError> {
        self.generation.set(0, generation, 0).map_err(failed("GENERATION"))?;
        for (vip, part) in questions.packets() {
            let frame = frame(vip, part);
            let before = self.wrong_drops()?;
            let xdp = self.ebpf.program(program).ok_or(ProgramError::NotLoaded)?;
            let xdp: &Xdp = xdp.try_into()?;
            let mut bytes = vec![0; frame.len() + 256];
            let mut options = TestRunOptions::new();
            options.data_in = Some(&frame);
            options.data_out = Some(&mut bytes);
            options.repeat = 1;
            let result = xdp.test_run(options)?;
            bytes.truncate(usize::try_from(result.data_size_out).unwrap_or(0));
            let answer = match result.return_value {
                3 | 4 => Answer::Sent(outer_destination(&bytes)),
                2 => Answer::Passed,
                _ => {
                    let after = self.wrong_drops()?;
                    let counted = WRONG_DROPS.into_iter().zip(before.iter().zip(&after));
                    let mut counted = counted.filter(|(_, (before, after))| before != after);
                    Answer::Dropped(counted.next().map(|(outcome, _)| outcome))
                }
            };
            judge(vip, questions.expected(vip, part), &answer)?;
        }
        Ok(())
    }

    fn wrong_drops(&self) -> Result<Vec<u64>, MapFailure> {
        let count = |outcome: &Outcome| {
            let values = self.outcomes.get(&(*outcome as u32), 0);
            let values = values.map_err(failed("OUTCOME_COUNTERS"))?;
            Ok(values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value)))
        };
        WRONG_DROPS.iter().map(count).collect()
    }
}

/// What is asked, and what must be answered.
pub(crate) struct Questions<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) plan: &'a Plan,
    /// What is in force now.
    pub(crate) listed: &'a Entries,
    pub(crate) flow_key: [u64; 2],
    pub(crate) own_addresses: &'a [IpAddr],
}

impl<'a> Questions<'a> {
    /// Listeners that change, or the first one if none does.
    fn listeners(&self) -> impl Iterator<Item = &'a Vip> {
        let (listed, entries) = (self.listed, &self.plan.entries);
        let vips = &self.tables.edge.vips;
        let changes = move |vip: &&Vip| {
            let key = listener(vip);
            listed.get(&key) != entries.get(&key)
        };
        let none = !vips.iter().any(|vip| changes(&vip));
        let first = vips.iter().take(usize::from(none));
        vips.iter().filter(changes).chain(first).take(CANARIES_MAX)
    }

    /// A packet that opens a flow of each listener that is asked about. While there are other flow
    /// keys, one within a connection too: others may have it.
    fn packets(&self) -> impl Iterator<Item = (&'a Vip, Part)> {
        let asks_others = !self.tables.keys.other_flows.is_empty();
        self.listeners().flat_map(move |vip| {
            let within = asks_others && vip.protocol == Protocol::Tcp;
            [(vip, Part::Opening)].into_iter().chain(within.then_some((vip, Part::Within)))
        })
    }

    fn expected(&self, vip: &Vip, part: Part) -> Expected {
        let mut flow = flow(vip);
        if is_by_address(vip) {
            flow.ports = 0;
        }
        let hash = match vip.address {
            IpAddr::V4(_) => flow.hash_v4(&self.flow_key),
            IpAddr::V6(_) => flow.hash_v6(&self.flow_key),
        };
        let current = self.plan.rings.get(vip.ring).map_or(NO_BACKEND, |ring| ring.current(hash));
        let owners = &self.plan.ledger.targets;
        match owners.iter().find(|(_, number)| **number == current) {
            Some((owner, _)) => match (self.own_addresses.contains(&owner.address), part) {
                // Nobody has the canary's flow, so others are asked if there are any. What opens a
                // connection is nobody else's.
                (true, part) if part == Part::Within || vip.protocol == Protocol::Udp => {
                    Expected::Anybody
                }
                (here, _) => Expected::Backend { address: owner.address, here },
            },
            None => Expected::NoBackend,
        }
    }
}

/// Which packet of a flow it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Opening,
    Within,
}

/// Fails if the answer is one that these tables cannot give. Drops for reasons of the moment, such as a
/// next hop that is not resolved, say nothing.
fn judge(vip: &Vip, expected: Expected, answer: &Answer) -> Result<(), WrongAnswer> {
    let right = match (expected, answer) {
        (Expected::Backend { address, here: false }, Answer::Sent(to)) => *to == Some(address),
        (Expected::Backend { here, .. }, Answer::Passed) => here,
        (Expected::Anybody, Answer::Sent(_) | Answer::Passed) => true,
        (Expected::Backend { .. } | Expected::Anybody, Answer::Dropped(reason)) => reason.is_none(),
        (Expected::NoBackend, Answer::Dropped(reason)) => {
            reason.is_none_or(|reason| reason == Outcome::NoBackend)
        }
        (Expected::Backend { here: true, .. } | Expected::NoBackend, Answer::Sent(_))
        | (Expected::NoBackend, Answer::Passed) => false,
    };
    if right {
        return Ok(());
    }
    Err(WrongAnswer {
        address: vip.address,
        port: vip.port,
        expected: match expected {
            Expected::Backend { here: true, .. } => "delivery here".to_owned(),
            Expected::Backend { address, .. } => format!("to {address}"),
            Expected::Anybody => "to whoever has it".to_owned(),
            Expected::NoBackend => "a drop".to_owned(),
        },
        found: match answer {
            Answer::Sent(Some(to)) => format!("went to {to}"),
            Answer::Sent(None) => "went without an outer header".to_owned(),
            Answer::Passed => "was passed to the host".to_owned(),
            Answer::Dropped(reason) => {
                format!("was dropped ({})", reason.map_or("unknown", Outcome::as_str))
            }
        },
    })
}

const SOURCE_PORT: u16 = 40_000;
/// For documentation (RFC 5737), and so nobody's.
const SOURCE_V4: [u8; 4] = [192, 0, 2, 1];
/// The same (RFC 3849).
const SOURCE_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn flow(vip: &Vip) -> Flow {
    let source = match vip.address {
        IpAddr::V4(_) => IpAddr::from(SOURCE_V4),
        IpAddr::V6(_) => IpAddr::from(SOURCE_V6),
    };
    let [a, b] = SOURCE_PORT.to_be_bytes();
    let [c, d] = vip.port.to_be_bytes();
    Flow {
        source: address_words(source),
        destination: address_words(vip.address),
        ports: u32::from_ne_bytes([a, b, c, d]),
        protocol: number_of(vip.protocol),
    }
}

/// A packet of a connection, or a datagram. No checksum is looked at.
fn frame(vip: &Vip, part: Part) -> Vec<u8> {
    let protocol = number_of(vip.protocol);
    let mut frame = vec![2; ETHERNET_LEN - 2];
    match vip.address {
        IpAddr::V4(address) => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(SOURCE_V4);
            frame.extend(address.octets());
        }
        IpAddr::V6(address) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, protocol, 64]);
            frame.extend(SOURCE_V6);
            frame.extend(address.octets());
        }
    }
    frame.extend(SOURCE_PORT.to_be_bytes());
    frame.extend(vip.port.to_be_bytes());
    match vip.protocol {
        Protocol::Tcp => {
            const SYN: u8 = 2;
            const ACK: u8 = 16;
            let flags = if part == Part::Opening { SYN } else { ACK };
            frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        }
        Protocol::Udp => frame.extend([0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    }
    frame
}

fn outer_destination(frame: &[u8]) -> Option<IpAddr> {
    let at = |from: usize| frame.get(from..);
    match frame.get(ETHERNET_LEN - 2..ETHERNET_LEN)? {
        [0x08, 0x00] => Some(IpAddr::from(*at(30)?.first_chunk::<4>()?)),
        [0x86, 0xdd] => Some(IpAddr::from(*at(38)?.first_chunk::<16>()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{PacketRules, ServiceKey};

    #[test]
    fn only_answers_that_the_tables_can_give_are_right() {
        let vip = Vip {
            address: IpAddr::from([203, 0, 113, 10]),
            protocol: Protocol::Tcp,
            port: 80,
            tenant: 1,
            ring: 0,
            service: ServiceKey("www".into()),
            rules: PacketRules::default(),
        };
        let (address, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let (there, here) =
            (Expected::Backend { address, here: false }, Expected::Backend { address, here: true });
        let unlisted = Answer::Dropped(Some(Outcome::UnlistedPort));
        for (expected, answer, right) in [
            (there, Answer::Sent(Some(address)), true),
            (there, Answer::Sent(Some(other)), false),
            (there, Answer::Sent(None), false),
            (there, Answer::Passed, false),
            (there, Answer::Dropped(None), true),
            (there, unlisted.clone(), false),
            (there, Answer::Dropped(Some(Outcome::NoBackend)), false),
            (Expected::Anybody, Answer::Sent(Some(other)), true),
            (Expected::Anybody, Answer::Passed, true),
            (Expected::Anybody, Answer::Dropped(Some(Outcome::TablesInconsistent)), false),
            (here, Answer::Passed, true),
            (here, Answer::Sent(Some(address)), false),
            (Expected::NoBackend, Answer::Dropped(Some(Outcome::NoBackend)), true),
            (Expected::NoBackend, unlisted, false),
            (Expected::NoBackend, Answer::Passed, false),
        ] {
            assert_eq!(judge(&vip, expected, &answer).is_ok(), right, "{expected:?} {answer:?}");
        }
    }
}
