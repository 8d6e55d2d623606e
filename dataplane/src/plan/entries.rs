//! The directory's entries: what each address, port and mark leads to.
//!
//! Every reference is by a number of the ledger. Two listeners of one key, or one mark for two
//! targets, contradict each other and are refused.

use std::collections::BTreeMap;

use isocast_dataplane_common::{
    NO_BACKEND,
    directory::{Key, Space, Value},
    encap,
};

use super::{Ledger, Node, RingContent, TablesError, TargetOwner, number_of};
use crate::{
    directory::Entries,
    guards::is_guarded,
    header::address_words,
    tables::{Fragments, Protocol, Tables, Vip},
};

/// The directory's entries.
pub(super) fn entries(
    tables: &Tables,
    ledger: &Ledger,
    contents: &[RingContent],
    node: Node<'_>,
) -> Result<Entries, TablesError> {
    let mut entries = Entries::new();
    let target_of = |owner| ledger.targets.get(&owner).copied().unwrap_or(NO_BACKEND);
    if node.decapsulates {
        let port = encap::PORT.to_be();
        for &address in node.tunnel_addresses {
            let key = Key::new(Space::Listener, &address_words(address), 0, UDP, port);
            entries.insert(key, Value { tenant: Value::TUNNEL, ..Value::default() });
        }
    }
    for vip in &tables.edge.vips {
        let ring = contents.get(vip.ring).and_then(|ring| ledger.rings.get(&ring.content));
        let ring = ring.ok_or(TablesError::Dangling { what: "ring", position: vip.ring })?;
        let service = ledger.services.get(&vip.service.0).copied().unwrap_or_default();
        let address = address_words(vip.address);
        let key = listener(vip);
        let guarded = is_guarded(&tables.edge, &vip.service, vip.tenant);
        let tenant = vip.tenant | flags(vip) | if guarded { Value::GUARDED } else { 0 };
        let value = Value { index: ring.code(), service, tenant };
        if entries.insert(key, value).is_some() {
            let what = format!("{:?} {} port {}", vip.protocol, vip.address, vip.port);
            return Err(TablesError::Duplicate { what });
        }
        entries.insert(Key::new(Space::Vip, &address, 0, 0, 0), Value::default());
    }
    entries.extend(segment_size_entries(tables));
    entries.extend(fragment_entries(&entries, &tables.edge.vips));
    for &source in &tables.decap.sources {
        let key = Key::new(Space::Source, &address_words(source), 0, 0, 0);
        entries
            .insert(key, Value { index: target_of(TargetOwner::node(source)), ..Value::default() });
    }
    for accept in &tables.decap.accepts {
        let address = address_words(accept.address);
        let protocol = number_of(accept.protocol);
        let port = accept.port.to_be();
        let key = Key::new(Space::Accept, &address, accept.tenant, protocol, port);
        entries.insert(key, Value::default());
        if accept.protocol == Protocol::Udp {
            entries.insert(Key::new(Space::Answers, &address, 0, protocol, port), Value::default());
        }
        if accept.rules.fragments == Fragments::Hash {
            let key = Key::new(Space::AcceptFragments, &address, accept.tenant, protocol, 0);
            entries.insert(key, Value::default());
        }
    }
    for probe in &tables.edge.probes {
        if probe.mark == 0 {
            return Err(TablesError::OutOfRange { what: "mark 0 of a probe".to_owned() });
        }
        let key = Key::new(Space::Probe, &[0; 4], probe.mark, 0, 0);
        let index = target_of(TargetOwner::probed(probe));
        let value = Value { index, service: 0, tenant: probe.tenant };
        if entries.insert(key, value).is_some_and(|other| other != value) {
            return Err(TablesError::Duplicate { what: format!("mark {} of a probe", probe.mark) });
        }
    }
    Ok(entries)
}

/// What the kernel must know of a listener's packets beside its ring.
const fn flags(vip: &Vip) -> u32 {
    let clamp = if vip.rules.segment_size.is_some() { Value::CLAMP } else { 0 };
    clamp | if is_by_address(vip) { Value::BY_ADDRESS } else { 0 }
}

/// Whether whole packets go where source, destination and protocol say, as their pieces do.
pub(crate) const fn is_by_address(vip: &Vip) -> bool {
    matches!((vip.protocol, vip.rules.fragments), (Protocol::Tcp, Fragments::Hash))
}

/// The largest segment that handshakes of clients (at edges) and of servers (at backends) offer.
fn segment_size_entries(tables: &Tables) -> Entries {
    let vips = tables.edge.vips.iter().map(|vip| (vip.address, vip.port, vip.rules));
    let accepts = tables.decap.accepts.iter();
    let accepts = accepts.map(|accept| (accept.address, accept.port, accept.rules));
    let mut entries = Entries::new();
    for (address, port, rules) in vips.chain(accepts) {
        let Some(largest) = rules.segment_size else { continue };
        let address = address_words(address);
        let tcp = number_of(Protocol::Tcp);
        let key = Key::new(Space::SegmentSize, &address, 0, tcp, port.to_be());
        let value = Value { index: largest, ..Value::default() };
        let entry = entries.entry(key).or_insert(value);
        entry.index = entry.index.min(largest);
    }
    entries
}

/// Who takes fragments at (address, protocol): the listeners' one service. Where two would, nobody
/// does, for a later fragment does not say which of them it is for. Who is let in is asked of
/// fragments as well.
fn fragment_entries(listeners: &Entries, vips: &[Vip]) -> Entries {
    let mut takers: BTreeMap<Key, Option<Value>> = BTreeMap::new();
    for vip in vips.iter().filter(|vip| vip.rules.fragments == Fragments::Hash) {
        let value = listeners.get(&listener(vip)).map(|value| Value {
            tenant: value.tenant & (Value::TENANT | Value::GUARDED),
            ..*value
        });
        let (address, protocol) = (address_words(vip.address), number_of(vip.protocol));
        let taker = takers.entry(Key::new(Space::Fragments, &address, 0, protocol, 0));
        let taker = taker.or_insert(value);
        if *taker != value {
            *taker = None;
        }
    }
    takers.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// The key under which a listener's packets find it.
pub(crate) fn listener(vip: &Vip) -> Key {
    let (address, protocol) = (address_words(vip.address), number_of(vip.protocol));
    Key::new(Space::Listener, &address, 0, protocol, vip.port.to_be())
}

const UDP: u8 = number_of(Protocol::Udp);
