//! Whose a TCP flow of a tracked slot is, written once more: independent of the program, and compared
//! with it.

use isocast_dataplane_common::{
    NO_CHAIN, Outcome, Slot,
    flow::Flow,
    tables::Chain,
    tracking::{self, FlowId},
};

use super::{Lookup, Member, Question};

/// What the flow table has to do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Who has the flows that are not noted.
    pub former: Member,
    /// What is done.
    pub note: Note,
}

/// What the flow table says of a packet's flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It opens, and is noted with the slot's own backend.
    Made,
    /// It opens, and the slot's own backend is the former one: it needs no note.
    NotNeeded,
    /// It opens, and there is no place for a note: it begins at the former backend.
    NoPlace,
    /// It is noted with this backend.
    Found(Member),
    /// It is not noted: it is older, and so the former backend's.
    Older,
}

impl Note {
    /// What is counted of it beside the packet itself.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Made => Some(Outcome::FlowNoted),
            Self::NotNeeded => None,
            Self::NoPlace => Some(Outcome::FlowNotNoted),
            Self::Found(_) => Some(Outcome::FlowFound),
            Self::Older => Some(Outcome::FlowOfFormer),
        }
    }
}

/// Who has the flow, as a slot at rest or with the chain of further hosts, and why. Nothing: the
/// tables contradict themselves.
pub(super) fn owner(
    tables: &impl Lookup,
    question: &Question,
    slot: Slot,
) -> Option<(Slot, Option<Tracking>)> {
    if !slot.is_tracked() {
        return Some((slot, None));
    }
    let own = slot.backend();
    if question.is_datagram() {
        return Some((Slot::settled(own), None));
    }
    let number = slot.chain;
    let chain = tables.chain(number)?;
    let (id, eras) = (flow_id(question, &tables.root().flow_key), tables.eras());
    let line = tables.flow_line(id)?;
    let read = |way: usize| line.get(way).copied().unwrap_or_default();
    let former = Slot { current: chain.former, chain: number };
    let former = if chain.len == 0 { Slot { chain: NO_CHAIN, ..former } } else { former };
    let (owner, note) = if question.begins_connection() {
        if own == chain.former {
            (Slot::settled(own), Note::NotNeeded)
        } else if tracking::place(id, eras, read).is_some() {
            (Slot::settled(own), Note::Made)
        } else {
            (Slot::settled(chain.former), Note::NoPlace)
        }
    } else {
        let noted = tracking::find(id, read).map(|(_, entry)| entry);
        let believed = noted.filter(|entry| entry.counts(chain.since, eras.now));
        let target = believed.map(tracking::Entry::target);
        match target.filter(|target| names(own, &chain).any(|it| it == *target)) {
            Some(target) => (Slot::settled(target), Note::Found(Member::of(tables, target))),
            None => (former, Note::Older),
        }
    };
    let former = Member::of(tables, chain.former);
    Some((owner, Some(Tracking { former, note })))
}

/// The backends that flows of a slot may be noted with.
fn names(own: u16, chain: &Chain) -> impl Iterator<Item = u16> {
    [own, chain.former].into_iter().chain(chain.between)
}

/// A question's flow in the table.
pub(crate) fn flow_id(question: &Question, key: &[u64; 2]) -> FlowId {
    let flow: Flow = question.flow();
    if question.source().is_ipv4() { FlowId::of_v4(&flow, key) } else { FlowId::of_v6(&flow, key) }
}
