//! [`Term`]: one sentence of a policy as people write it, before it is compiled.
//!
//! The serde form is that of the API (camelCase, unknown fields refused), so that there is one
//! grammar from the operator's file to the agent. Nothing here is trusted:
//! [`Policy::compile`](super::Policy::compile) checks every bound.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::community::CommunityPattern;
use super::path_pattern::AsPathPattern;

/// One sentence: to routes that match, something is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Term {
    /// What a verdict calls it by. Unique in its policy.
    pub name: String,
    /// Which routes.
    #[serde(rename = "match")]
    pub when: Match,
    /// What becomes of their attributes.
    pub set: Set,
    /// What becomes of them.
    pub then: Then,
}

/// What becomes of a route that matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Then {
    /// It passes; later terms are not asked.
    Accept,
    /// It does not pass.
    Reject,
    /// The next term decides.
    #[default]
    Next,
}

/// Conditions; those that are given must all hold. Of a list, one entry must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    /// The prefix is one of these.
    pub prefixes: Vec<PrefixRange>,
    /// The route carries a community like one of these.
    pub communities: Vec<CommunityPattern>,
    /// What the AS path is like.
    pub as_path: AsPathMatch,
    /// What kind of neighbour it comes from or goes to.
    pub connections: Vec<Connection>,
    /// Whether that neighbour is in our AS.
    pub sessions: Vec<SessionKind>,
    /// Its IP version.
    pub families: Vec<IpVersion>,
    /// Its ORIGIN.
    pub origins: Vec<OriginCode>,
    /// Its next hop lies in one of these. One of our own has none yet and never matches.
    pub next_hops: Vec<IpNet>,
    /// Who brought it in.
    pub source: Option<Source>,
    /// Whether the prefix lies in the space that this speaker may announce.
    pub own_space: Option<bool>,
}

/// Conditions on an AS path; those that are given must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AsPathMatch {
    /// One of these is in it.
    pub contains: Vec<u32>,
    /// Its last AS, where the route began, is one of these.
    pub origin: Vec<u32>,
    /// Its first AS, next to us, is one of these.
    pub neighbour: Vec<u32>,
    /// It is like one of these.
    pub patterns: Vec<AsPathPattern>,
    /// It has at least this many hops.
    pub length_min: Option<u16>,
    /// It has at most this many hops.
    pub length_max: Option<u16>,
    /// Whether a number is in it that no network on the Internet has: private (RFC 6996),
    /// documentation (RFC 5398), AS_TRANS (RFC 6793), reserved (RFC 7300, RFC 7607).
    pub reserved: Option<bool>,
}

/// Prefixes inside of one, by their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrefixRange {
    /// The covering prefix.
    pub prefix: IpNet,
    /// The shortest length that matches. Default: the prefix's own.
    #[serde(default)]
    pub ge: Option<u8>,
    /// The longest length that matches. Default: with `ge` that of a host, else the prefix's own.
    #[serde(default)]
    pub le: Option<u8>,
}

/// What becomes of a route's attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Set {
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities.
    pub communities: CommunityEdit,
    /// How often our AS is put before the path, beyond the one time it always is.
    pub prepend: u8,
    /// Next hop.
    pub next_hop: Option<NextHopEdit>,
}

/// What becomes of communities, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CommunityEdit {
    /// All there are make way for these. May hold no `*`.
    pub set: Option<Vec<CommunityPattern>>,
    /// Those like these go.
    pub remove: Vec<CommunityPattern>,
    /// These come. May hold no `*`.
    pub add: Vec<CommunityPattern>,
}

/// What the next hop becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopEdit {
    /// This address, for routes of its family; others are left alone.
    Address(IpAddr),
    /// Our end of the session.
    Itself,
    /// What it was.
    Unchanged,
}

/// What kind of neighbour a session is with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Connection {
    /// A router of the same site.
    #[default]
    Fabric,
    /// A network at the same Internet exchange.
    #[serde(rename = "IXP")]
    Ixp,
    /// A network at the other end of a private interconnect.
    #[serde(rename = "PNI")]
    Pni,
    /// The route server of an Internet exchange.
    RouteServer,
    /// A network that carries traffic to all others.
    Transit,
}

/// Whether the neighbour is in our AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SessionKind {
    /// It is not.
    External,
    /// It is.
    Internal,
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum IpVersion {
    /// 32-bit addresses.
    IPv4,
    /// 128-bit addresses.
    IPv6,
}

/// ORIGIN (RFC 4271 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum OriginCode {
    /// Interior to the originating AS.
    #[serde(rename = "IGP")]
    Igp,
    /// Learned by EGP.
    #[serde(rename = "EGP")]
    Egp,
    /// Learned some other way.
    Incomplete,
}

/// Who brought a route in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Source {
    /// Some peer.
    Learned,
    /// This speaker itself.
    Own,
}

impl<'de> Deserialize<'de> for NextHopEdit {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match std::borrow::Cow::<'de, str>::deserialize(from)?.as_ref() {
            "Self" => Ok(Self::Itself),
            "Unchanged" => Ok(Self::Unchanged),
            text => text.parse().map(Self::Address).map_err(|_invalid| {
                serde::de::Error::custom(format!(
                    "{text:?} is neither Self, Unchanged nor an address"
                ))
            }),
        }
    }
}
