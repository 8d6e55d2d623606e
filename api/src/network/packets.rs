//! What edges do with packets out of the ordinary: fragments, and handshakes that promise segments
//! too large for the path.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{Errors, FieldPath};

/// What becomes of fragments. Only the first piece of a packet has ports, so pieces go where
/// source, destination and protocol say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fragments {
    /// Fragments of TCP segments. `Hash` makes whole segments follow addresses as well, for a
    /// connection has one backend: all connections of a client then go to the same one.
    pub tcp: FragmentPolicy,
    /// Fragments of datagrams. With `Hash`, whole datagrams still spread by their ports: a
    /// datagram in pieces may reach another backend than a whole one of the same client.
    pub udp: FragmentPolicy,
}

/// What becomes of fragments.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum FragmentPolicy {
    /// They are dropped and counted.
    Drop,
    /// They go to the backend that source, destination and protocol choose, if no other service
    /// at the address takes fragments of the same protocol.
    Hash,
}

impl Default for Fragments {
    fn default() -> Self {
        Self { tcp: FragmentPolicy::Drop, udp: FragmentPolicy::Hash }
    }
}

/// Lowers the segment size that TCP handshakes offer, for clients that packet-too-big messages do
/// not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MssClamp {
    /// Whether it is done.
    pub mode: MssClampMode,
    /// Segment size that is never exceeded, even where a larger one fits the path. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 536, max = 65495))]
    pub largest: Option<u16>,
}

/// Whether segment sizes are lowered.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    Default,
)]
pub enum MssClampMode {
    /// To what fits the path together with the outer headers.
    Auto,
    /// Handshakes are left alone.
    #[default]
    Off,
}

impl MssClamp {
    pub(super) fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        if self.mode == MssClampMode::Off && self.largest.is_some() {
            errors.forbidden(&path.field("largest"), "may not be given with mode Off");
        }
    }
}
