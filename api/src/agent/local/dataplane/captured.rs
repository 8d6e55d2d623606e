//! [`CaptureView`]: what was captured.

use serde::{Deserialize, Serialize};

use super::TunnelView;

/// Which capture is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaptureQuery {
    /// Chosen by who captures, at random: the same in all its questions.
    pub id: String,
    /// The service: namespace/name, or a uid.
    pub service: String,
    /// Take one packet in so many.
    #[serde(default = "one")]
    pub one_in: u32,
    /// That was all: the capture ends.
    #[serde(default)]
    pub end: bool,
}

const fn one() -> u32 {
    1
}

/// The next records of a capture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptureView {
    /// The node that answers.
    pub node: String,
    /// In the order in which they were taken, on each CPU.
    pub records: Vec<RecordView>,
    /// Records that there was no room for, since the capture began.
    pub lost: u64,
    /// Packets beyond the rate, since the capture began.
    pub limited: u64,
    /// The capture is over: nothing will be added.
    pub ended: bool,
}

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordView {
    /// Nanoseconds since 1970, by the node's clock.
    pub at_ns: u64,
    /// It is the frame as the program left it; otherwise as it arrived.
    pub left: bool,
    /// The same for both frames of a packet.
    pub packet: u64,
    /// The interface that it arrived by.
    pub interface: u32,
    /// Generation of the tables.
    pub generation: u32,
    /// Slot of the flow; absent: there is no such ring.
    pub slot: Option<u32>,
    /// The slot is tracked: the flow table says who has the flow.
    #[serde(default)]
    pub tracked: bool,
    /// The slot's backend, by name, or else by uid or tunnel address.
    pub backend: Option<String>,
    /// What became of the packet; absent in a frame as it arrived.
    pub outcome: Option<String>,
    /// Its tunnel header, if it went out with one.
    #[serde(default)]
    pub tunnel: Option<TunnelView>,
    /// The frame went out; otherwise it was dropped, or is this host's.
    #[serde(default)]
    pub sent: bool,
    /// Bytes of the frame.
    pub len: u32,
    /// The first bytes of it, in hexadecimal.
    pub data: String,
}
