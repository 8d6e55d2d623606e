//! Values that travel as text: each is one type, valid once it exists, with one OpenAPI `format`.
//!
//! A schema names the format, so the walk over a schema ([`crate::schema`]) finds every malformed
//! value of an object with its path, before the object is decoded into types that cannot hold one.

use std::{fmt::Display, net, str::FromStr};

mod address;
mod community;
mod duration;
mod name;
mod route;
mod time;

pub use self::{
    address::{HostAddress, InvalidAddress, InvalidPrefix, Prefix},
    community::{Community, InvalidCommunity},
    duration::{Duration, InvalidDuration},
    name::{InvalidName, Label, Name, is_label},
    route::{
        AsPathPattern, CommunityPattern, InvalidAsPathPattern, InvalidCommunityPattern,
        InvalidIpPrefix, InvalidNextHopRule, IpPrefix, NextHopRule,
    },
    time::{InvalidTime, Time},
};

/// Checks `text` against an OpenAPI `format`; formats that are not ours are accepted.
///
/// # Errors
/// What a well-formed value looks like.
pub fn check_format(format: &str, text: &str) -> Result<(), String> {
    match format {
        "amount-field" => check::<crate::quota::AmountField>(text),
        "as-path-pattern" => check::<AsPathPattern>(text),
        "cidr" => check::<Prefix>(text),
        "community" => check::<Community>(text),
        "community-pattern" => check::<CommunityPattern>(text),
        "date-time" => check::<Time>(text),
        "dns-label" => check::<Label>(text),
        "dns-subdomain" => check::<Name>(text),
        "duration" => check::<Duration>(text),
        "host-address" => check::<HostAddress>(text),
        "ip" => text
            .parse::<net::IpAddr>()
            .map(drop)
            .map_err(|_invalid| "must be an IPv4 or IPv6 address".to_owned()),
        "ip-prefix" => check::<IpPrefix>(text),
        "ipv4" => text
            .parse::<net::Ipv4Addr>()
            .map(drop)
            .map_err(|_invalid| "must be an IPv4 address".to_owned()),
        "ipv6" => text
            .parse::<net::Ipv6Addr>()
            .map(drop)
            .map_err(|_invalid| "must be an IPv6 address".to_owned()),
        "next-hop" => check::<NextHopRule>(text),
        "permission" => check::<crate::iam::PermissionPattern>(text),
        "resource-type" => check::<crate::quota::ResourceType>(text),
        _ => Ok(()),
    }
}

fn check<T: FromStr<Err: Display>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(drop).map_err(|invalid| invalid.to_string())
}

/// Serde and schema of a type that is text with `FromStr` and `Display`.
macro_rules! text_type {
    ($type:ident, $format:literal, $max_length:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "format": $format, "maxLength": $max_length,
                })
            }
        }
    };
}
pub(crate) use text_type;
