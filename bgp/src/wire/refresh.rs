//! ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).
//!
//! The subtype is a field of its own: folding it into the family is how speakers came to answer
//! requests nobody made.

use super::header::{self, MessageType};
use super::reader::{Reader, Short};
use crate::types::Family;

/// A ROUTE-REFRESH message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family identifier.
    pub afi: u16,
    /// 0: a request; 1 and 2: begin and end of a refresh (RFC 7313); others are ignored.
    pub subtype: u8,
    /// Subsequent address family identifier.
    pub safi: u8,
}

impl RouteRefresh {
    /// A request for all routes of `family`.
    #[must_use]
    pub const fn request(family: Family) -> Self {
        let (afi, safi) = family.codes();
        Self { afi, subtype: 0, safi }
    }

    /// The family whose routes are requested, if this is a request for one that we carry.
    #[must_use]
    pub const fn requested(self) -> Option<Family> {
        match self.subtype {
            0 => Family::from_codes(self.afi, self.safi),
            _ => None,
        }
    }

    /// Reads the body of a ROUTE-REFRESH.
    ///
    /// # Errors
    /// The body is shorter than four octets.
    pub fn decode(body: &[u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(body);
        Ok(Self { afi: reader.u16()?, subtype: reader.u8()?, safi: reader.u8()? })
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

    #[test]
    fn only_subtype_zero_is_a_request() {
        assert_eq!(
            RouteRefresh::decode(&[0, 2, 0, 1]).unwrap().requested(),
            Some(Family::Ipv6Unicast)
        );
        assert_eq!(RouteRefresh::decode(&[0, 2, 1, 1]).unwrap().requested(), None);
        assert_eq!(RouteRefresh::decode(&[0, 25, 0, 70]).unwrap().requested(), None);
    }
}
