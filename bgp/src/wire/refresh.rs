//! ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).
//!
//! The subtype is a field of its own: folding it into the family is how speakers came to answer
//! requests nobody made.

use super::header::{self, MessageType};
use crate::types::Family;

/// A ROUTE-REFRESH message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family identifier.
    pub afi: u16,
    /// What it says; see [`Refresh`].
    pub subtype: u8,
    /// Subsequent address family identifier.
    pub safi: u8,
}

/// What a ROUTE-REFRESH says about a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Send all its routes again.
    Request,
    /// BoRR: all its routes follow (RFC 7313).
    Begin,
    /// EoRR: that was all (RFC 7313).
    End,
}

impl RouteRefresh {
    /// What we say about `family`.
    #[must_use]
    pub const fn new(refresh: Refresh, family: Family) -> Self {
        let (afi, safi) = family.codes();
        let subtype = match refresh {
            Refresh::Request => 0,
            Refresh::Begin => 1,
            Refresh::End => 2,
        };
        Self { afi, subtype, safi }
    }

    /// What is said about which family; nothing if we know one of them not (RFC 7313 §5: ignored).
    #[must_use]
    pub const fn meaning(self) -> Option<(Refresh, Family)> {
        let refresh = match self.subtype {
            0 => Refresh::Request,
            1 => Refresh::Begin,
            2 => Refresh::End,
            _ => return None,
        };
        match Family::from_codes(self.afi, self.safi) {
            Some(family) => Some((refresh, family)),
            None => None,
        }
    }

    /// Reads the body of a ROUTE-REFRESH; nothing if it is not four octets.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Self> {
        let [afi_high, afi_low, subtype, safi] = *body else { return None };
        Some(Self { afi: u16::from_be_bytes([afi_high, afi_low]), subtype, safi })
    }

    /// Appends the whole message.
    pub fn encode(self, out: &mut Vec<u8>) {
        header::encode(MessageType::RouteRefresh, out, |out| {
            out.extend(self.afi.to_be_bytes());
            out.extend([self.subtype, self.safi]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HEADER_BYTES;

    #[test]
    fn every_meaning_survives_the_wire_and_anything_else_has_none() {
        for refresh in [Refresh::Request, Refresh::Begin, Refresh::End] {
            for family in Family::ALL {
                let mut bytes = Vec::new();
                RouteRefresh::new(refresh, family).encode(&mut bytes);

                let read = RouteRefresh::decode(&bytes[HEADER_BYTES..]).unwrap();

                assert_eq!(read.meaning(), Some((refresh, family)));
            }
        }
        assert_eq!(RouteRefresh::decode(&[0, 2, 3, 1]).unwrap().meaning(), None);
        assert_eq!(RouteRefresh::decode(&[0, 25, 0, 70]).unwrap().meaning(), None);
        assert_eq!(RouteRefresh::decode(&[0, 1, 0]), None);
        assert_eq!(RouteRefresh::decode(&[0, 1, 0, 1, 0]), None);
    }
}
