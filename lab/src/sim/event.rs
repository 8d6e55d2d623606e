//! [`Event`]: what is going to happen, in the order in which it will.

use std::{cmp::Ordering, time::Instant};

use isocast_bgp::{fsm::ConnectionId, speaker::PeerId};

use super::NodeId;

/// One end of a connection, as a speaker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) node: NodeId,
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
}

/// What a wire carries to one of its ends.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    /// Somebody at the other end, who is named, wants a connection.
    Call { from: End },
    /// The connection is there; the other end is named.
    Answer { from: End },
    /// It is refused.
    Refusal,
    /// The next bytes.
    Bytes(Vec<u8>),
    /// The last chunk has arrived.
    Receipt,
    /// Nothing will follow.
    Hangup,
}

/// An arrival.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) at: Instant,
    /// Orders what happens at the same time.
    pub(super) sequence: u64,
    /// Who sent it.
    pub(super) from: NodeId,
    /// Where it goes; of a call, only the node and the peer are meant.
    pub(super) to: End,
    pub(super) payload: Payload,
}

impl Ord for Event {
    /// The earliest is the greatest, as heaps have it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}
