//! What a change of a peer's configuration costs: the one list of fields and their price.
//!
//! Nothing flaps for a change that needs no new session. Every field is in this list: a test holds
//! it against the structure.

use std::fmt;

use super::config::PeerConfig;

/// What it takes for a changed field to have its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// Nothing: at once, or with the next OPEN.
    Live,
    /// Routes are judged or told anew; the session stays.
    SoftRefresh,
    /// The session ends (Cease, other configuration change) and a new one begins.
    Reset,
}

/// A field and its price.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    cost: Cost,
    differs: fn(&PeerConfig, &PeerConfig) -> bool,
}

macro_rules! field {
    ($name:literal, $cost:ident, $($path:ident).+) => {
        Field { name: $name, cost: Cost::$cost, differs: |a, b| a.$($path).+ != b.$($path).+ }
    };
}

/// By the names of the speaker's file.
const FIELDS: [Field; 23] = [
    field!("name", Live, name),
    field!("address", Reset, remote),
    field!("port", Reset, port),
    field!("max-peers", Live, peers_max),
    field!("asn", Reset, peer_as),
    field!("local-address", Reset, transport.local_address),
    field!("multihop", Reset, transport.multihop),
    field!("ttl-security", Reset, transport.ttl_security),
    field!("md5-password-file", Reset, transport.md5),
    field!("next-hop-ipv4", SoftRefresh, next_hop_ipv4),
    field!("next-hop-ipv6", SoftRefresh, next_hop_ipv6),
    field!("families", Reset, families),
    field!("extended-next-hop", Reset, extended_next_hop),
    field!("hold-time-s", Live, hold_time),
    field!("connect-retry-s", Live, connect_retry_max),
    field!("graceful-restart", Live, graceful_restart),
    field!("passive", Live, connect),
    field!("connection", SoftRefresh, connection),
    field!("role", Reset, role),
    field!("enforce-first-as", Reset, enforce_first_as),
    field!("import", SoftRefresh, import),
    field!("export", SoftRefresh, export),
    field!("bfd", Live, bfd),
];

/// Names of the fields that differ, with their price.
pub(super) fn between(
    old: &PeerConfig,
    new: &PeerConfig,
) -> impl Iterator<Item = (&'static str, Cost)> {
    let differing = FIELDS.iter().filter(move |field| (field.differs)(old, new));
    differing.map(|field| (field.name, field.cost))
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::SoftRefresh => "soft refresh",
            Self::Reset => "reset",
        })
    }
}
