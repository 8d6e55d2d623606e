//! [`Community`]: a BGP community in its usual text form.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::text_type;

/// A standard (RFC 1997), large (RFC 8092) or well-known community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// `graceful-shutdown` (RFC 8326).
    GracefulShutdown,
    /// `65010:1:2`
    Large(u32, u32, u32),
    /// `no-advertise` (RFC 1997).
    NoAdvertise,
    /// `no-export` (RFC 1997).
    NoExport,
    /// `65010:100`
    Standard(u16, u16),
}

/// Why a text is not a [`Community`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "must be a community such as 65010:100, a large community such as 65010:1:2, or one of \
     graceful-shutdown, no-advertise, no-export"
)]
pub struct InvalidCommunity;

fn number<T: FromStr>(text: &str) -> Result<T, InvalidCommunity> {
    // `parse` would take a leading plus.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidCommunity);
    }
    text.parse().map_err(|_invalid| InvalidCommunity)
}

impl FromStr for Community {
    type Err = InvalidCommunity;

    fn from_str(text: &str) -> Result<Self, InvalidCommunity> {
        match text {
            "graceful-shutdown" => return Ok(Self::GracefulShutdown),
            "no-advertise" => return Ok(Self::NoAdvertise),
            "no-export" => return Ok(Self::NoExport),
            _ => {}
        }
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(asn), Some(value), None, _) => Ok(Self::Standard(number(asn)?, number(value)?)),
            (Some(global), Some(first), Some(second), None) => {
                Ok(Self::Large(number(global)?, number(first)?, number(second)?))
            }
            _ => Err(InvalidCommunity),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GracefulShutdown => f.write_str("graceful-shutdown"),
            Self::Large(global, first, second) => write!(f, "{global}:{first}:{second}"),
            Self::NoAdvertise => f.write_str("no-advertise"),
            Self::NoExport => f.write_str("no-export"),
            Self::Standard(asn, value) => write!(f, "{asn}:{value}"),
        }
    }
}

text_type!(Community, "community", 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_read_as_routers_print_them() {
        for good in ["65010:100", "0:0", "4200000000:1:2", "no-export", "graceful-shutdown"] {
            assert_eq!(good.parse::<Community>().unwrap().to_string(), good);
        }
        for bad in ["", "1", "65536:1", "1:2:3:4", "+1:2", "a:b", "internet", "1:", "NO-EXPORT"] {
            assert_eq!(bad.parse::<Community>(), Err(InvalidCommunity), "{bad}");
        }
    }
}
