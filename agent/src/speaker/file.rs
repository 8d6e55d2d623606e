//! The speaker's configuration file as it is written: TOML, kebab-case keys, no unknown ones.
//!
//! A value that has a form of its own is read into it here, so that the parser can name its line.
//! What several values must agree on is checked in [`super::config`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::path::PathBuf;

use ipnet::IpNet;
use isocast_bgp::policy::Term;
use isocast_bgp::types::{Family, FamilySet};
use isocast_bgp::wire::community::Communities;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use crate::bgp;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) router: Router,
    pub(super) api: Option<Api>,
    pub(super) kernel: Option<Spanned<Kernel>>,
    #[serde(default)]
    pub(super) peer: Vec<Spanned<Peer>>,
    #[serde(default)]
    pub(super) announce: Vec<Spanned<Announce>>,
}

/// `[router]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Router {
    pub(super) asn: NonZeroU32,
    #[serde(deserialize_with = "router_id")]
    pub(super) router_id: Ipv4Addr,
    #[serde(default = "everywhere")]
    pub(super) listen: Vec<SocketAddr>,
}

/// `[api]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Api {
    pub(super) listen: SocketAddr,
}

/// `[kernel]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Kernel {
    #[serde(default)]
    pub(super) install: bool,
    #[serde(default = "main_table")]
    pub(super) table: NonZeroU32,
    #[serde(default = "metric")]
    pub(super) metric: NonZeroU32,
    #[serde(default = "protocol")]
    pub(super) protocol: NonZeroU8,
    #[serde(default = "multipath_max")]
    pub(super) multipath_max: NonZeroU8,
    #[serde(default = "routes_max")]
    pub(super) routes_max: NonZeroU32,
}

/// `[[peer]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) address: Option<IpAddr>,
    pub(super) prefix: Option<IpNet>,
    pub(super) max_peers: Option<NonZeroU32>,
    pub(super) asn: PeerAsn,
    #[serde(default = "bgp_port")]
    pub(super) port: u16,
    pub(super) local_address: Option<IpAddr>,
    pub(super) next_hop_ipv4: Option<Ipv4Addr>,
    pub(super) next_hop_ipv6: Option<Ipv6Addr>,
    #[serde(default = "both_families", deserialize_with = "families")]
    pub(super) families: FamilySet,
    #[serde(default)]
    pub(super) passive: bool,
    #[serde(default = "hold_time_s")]
    pub(super) hold_time_s: u16,
    #[serde(default = "connect_retry_s")]
    pub(super) connect_retry_s: u16,
    pub(super) import: Option<RoutePolicy>,
    pub(super) export: Option<RoutePolicy>,
    pub(super) bfd: Option<Bfd>,
    pub(super) graceful_restart: Option<GracefulRestart>,
    pub(super) md5_password_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) ttl_security: bool,
    pub(super) multihop: Option<NonZeroU8>,
    pub(super) role: Option<Role>,
    #[serde(default = "yes")]
    pub(super) extended_next_hop: bool,
    #[serde(default = "yes")]
    pub(super) enforce_first_as: bool,
}

/// A number, or `"external"`: any but ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerAsn {
    External,
    Number(NonZeroU32),
}

/// `import = { … }`, `export = { … }`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RoutePolicy {
    pub(super) default: DefaultAction,
    pub(super) max_prefixes: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "terms")]
    pub(super) policy: Vec<Term>,
}

/// What becomes of a route that no term speaks of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DefaultAction {
    Accept,
    Reject,
}

/// `bfd = { … }`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Bfd {
    pub(super) interval_ms: NonZeroU32,
    pub(super) multiplier: NonZeroU8,
}

/// `graceful-restart = { … }`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct GracefulRestart {
    pub(super) time_s: u16,
}

/// Roles by their names in RFC 9234.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    Customer,
    Peer,
    Provider,
    Rs,
    RsClient,
}

/// `[[announce]]`, and the body of a request to announce.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Announce {
    #[serde(deserialize_with = "canonical_prefix")]
    pub(super) prefix: IpNet,
    #[serde(default)]
    pub(super) next_hop: NextHop,
    #[serde(default, deserialize_with = "communities")]
    pub(super) communities: Communities,
}

/// `"self"`, or an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NextHop {
    #[default]
    Own,
    Address(IpAddr),
}

impl From<Role> for bgp::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Customer => Self::Customer,
            Role::Peer => Self::Peer,
            Role::Provider => Self::Provider,
            Role::Rs => Self::RouteServer,
            Role::RsClient => Self::RouteServerClient,
        }
    }
}

impl<'de> Deserialize<'de> for PeerAsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = PeerAsn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number or \"external\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PeerAsn, E> {
                let asn = u32::try_from(number).ok().and_then(NonZeroU32::new);
                asn.map(PeerAsn::Number)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PeerAsn, E> {
                match text {
                    "external" => Ok(PeerAsn::External),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for NextHop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "self" {
            return Ok(Self::Own);
        }
        let address: IpAddr = text.parse().map_err(|_unparsable| {
            de::Error::invalid_value(de::Unexpected::Str(&text), &"\"self\" or an address")
        })?;
        // Never one that routers accept and then cannot use.
        match isocast_bgp::wire::next_hop::NextHop::new(address) {
            Some(_) => Ok(Self::Address(address)),
            None => Err(de::Error::custom(format_args!("no host has the address {address}"))),
        }
    }
}

fn families<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FamilySet, D::Error> {
    #[derive(Clone, Copy, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Name {
        #[serde(rename = "ipv4-unicast")]
        Ipv4,
        #[serde(rename = "ipv6-unicast")]
        Ipv6,
    }
    let names = Vec::<Name>::deserialize(deserializer)?;
    let family = |name: &Name| match name {
        Name::Ipv4 => Family::Ipv4Unicast,
        Name::Ipv6 => Family::Ipv6Unicast,
    };
    if names.is_empty() {
        return Err(de::Error::custom("no address family: a session has at least one"));
    }
    Ok(names.iter().map(family).collect())
}

fn canonical_prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    let prefix = IpNet::deserialize(deserializer)?;
    if prefix == prefix.trunc() {
        return Ok(prefix);
    }
    let meant = prefix.trunc();
    Err(de::Error::custom(format_args!("{prefix} has bits beyond its length; meant {meant}?")))
}

fn communities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Communities, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    Communities::parse(texts.iter().map(String::as_str)).map_err(de::Error::custom)
}

/// Terms of a BGPPolicy, with keys in the form of this file.
fn terms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Term>, D::Error> {
    let written = toml::Value::deserialize(deserializer)?;
    Vec::<Term>::deserialize(camel_case(written)).map_err(|error| {
        let error: toml::de::Error = error;
        de::Error::custom(error.message())
    })
}

fn camel_case(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Array(entries) => {
            toml::Value::Array(entries.into_iter().map(camel_case).collect())
        }
        toml::Value::Table(entries) => {
            let key = |key: &str| -> String {
                let mut words = key.split('-');
                let first = words.next().unwrap_or_default().to_owned();
                words.fold(first, |camel, word| {
                    let (initial, rest) = word.split_at_checked(1).unwrap_or((word, ""));
                    camel + &initial.to_uppercase() + rest
                })
            };
            let entries = entries.into_iter().map(|(name, value)| (key(&name), camel_case(value)));
            toml::Value::Table(entries.collect())
        }
        other => other,
    }
}

fn router_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ipv4Addr, D::Error> {
    let id = Ipv4Addr::deserialize(deserializer)?;
    // RFC 6286 §2.1.
    if id.is_unspecified() {
        return Err(de::Error::custom("the router id is 0.0.0.0"));
    }
    Ok(id)
}

fn everywhere() -> Vec<SocketAddr> {
    vec![
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, bgp_port())),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, bgp_port())),
    ]
}

const fn bgp_port() -> u16 {
    179
}

/// `RT_TABLE_MAIN`
const fn main_table() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(253)
}

const fn metric() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(19)
}

/// `RTPROT_BGP`
const fn protocol() -> NonZeroU8 {
    NonZeroU8::MIN.saturating_add(185)
}

const fn multipath_max() -> NonZeroU8 {
    NonZeroU8::MIN.saturating_add(7)
}

const fn routes_max() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(9_999)
}

const fn both_families() -> FamilySet {
    FamilySet::BOTH
}

const fn hold_time_s() -> u16 {
    9
}

const fn connect_retry_s() -> u16 {
    8
}

const fn yes() -> bool {
    true
}
