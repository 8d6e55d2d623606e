//! How a session with a router is watched, signed and limited.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    field::{Errors, FieldPath},
    text::Duration,
};

/// Bidirectional forwarding detection (RFC 5880): a session that is silent for `multiplier` times
/// `interval` is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[serde(default)]
pub struct Bfd {
    /// Wanted between two packets, both ways: 10ms to 10s, in whole milliseconds.
    pub interval: Duration,
    /// How many packets may be missed.
    #[schemars(range(min = 2, max = 50))]
    pub multiplier: u8,
    /// Whether the router is not on the same link (RFC 5883). Default: whether the peer has
    /// `multihop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multihop: Option<bool>,
}

/// What one end of a session is to the other (RFC 9234 §4.1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum PeerRole {
    /// Buys transit from the router.
    Customer,
    /// Exchanges own and customers' routes with the router.
    Peer,
    /// Sells transit to the router.
    Provider,
    /// Passes routes on among the members of an exchange.
    RouteServer,
    /// The router is such a server.
    RouteServerClient,
}

/// Where the password of a session is. It never travels through the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Password {
    /// Absolute path of a file on the node, readable by the agent. Its first line is the password:
    /// 1 to 80 bytes.
    #[schemars(length(min = 2, max = 4095))]
    pub file: String,
}

/// How many prefixes of a family may be exchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MaxPrefixes {
    /// A router that sends more has its session closed. Default: 100000 for IXP and PNI, 500000 for
    /// RouteServer, 2000000 for Transit. Of a Fabric router's, without a limit of its own, what is
    /// beyond 10000 is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub inbound: Option<u32>,
    /// What goes beyond is not announced. Default: none for Fabric, else 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub outbound: Option<u32>,
}

const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(10);

impl Default for Bfd {
    fn default() -> Self {
        Self { interval: Duration::from_millis(50), multiplier: 3, multihop: None }
    }
}

impl Bfd {
    pub(super) fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&self.interval) {
            let message = format!("must be between {INTERVAL_MIN} and {INTERVAL_MAX}");
            errors.invalid(&path.field("interval"), self.interval, message);
        }
    }
}

impl Password {
    pub(super) fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        let climbs = self.file.split('/').any(|part| part == "..");
        if !self.file.starts_with('/') || climbs || self.file.chars().any(char::is_control) {
            let message = "must be an absolute path without \"..\"";
            errors.invalid(&path.field("file"), &self.file, message);
        }
    }
}
