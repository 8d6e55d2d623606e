//! OPEN (RFC 4271 §4.2), its capabilities (RFC 5492) and its long form (RFC 9072).
//!
//! Decoding answers "is this an OPEN, and what does it say"; whether we accept what it says is
//! the session's business.

use std::net::Ipv4Addr;

use super::capability::Capability;
use super::header::{self, MessageType};
use super::notification::{Notification, code, open};
use super::reader::{Reader, Short};
use crate::types::{Asn, Family, FamilySet};

const VERSION: u8 = 4;
const PARAMETER_CAPABILITIES: u8 = 2;
const EXTENDED_LENGTH: u8 = 255;

/// What a speaker says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Autonomous system: four octets if the capability says so.
    pub asn: Asn,
    /// Proposed hold time in seconds; 0 is "no keepalives".
    pub hold_time_s: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities in the order received.
    pub capabilities: Vec<Capability>,
}

/// An OPEN that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFault {
    /// Cut short, or a length that does not add up.
    #[error("malformed OPEN: {0}")]
    Malformed(#[from] Short),
    /// Bytes after the optional parameters.
    #[error("malformed OPEN: {0} bytes after the parameters")]
    Trailing(usize),
    /// Not BGP-4.
    #[error("version {0}")]
    Version(u8),
    /// An optional parameter other than capabilities.
    #[error("optional parameter {0}")]
    Parameter(u8),
}

impl OpenFault {
    /// What the peer is told (RFC 4271 §6.2).
    #[must_use]
    pub fn notification(self) -> Notification {
        match self {
            Self::Malformed(_) | Self::Trailing(_) => Notification::new(code::OPEN, 0),
            Self::Version(_) => Notification::with_data(code::OPEN, open::VERSION, &[0, VERSION]),
            Self::Parameter(_) => Notification::new(code::OPEN, open::PARAMETER),
        }
    }
}

impl Open {
    /// Reads the body of an OPEN.
    ///
    /// # Errors
    /// See [`OpenFault`].
    pub fn decode(body: &[u8]) -> Result<Self, OpenFault> {
        let mut reader = Reader::new(body);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(OpenFault::Version(version));
        }
        let two_octet_asn = reader.u16()?;
        let hold_time_s = reader.u16()?;
        let router_id = Ipv4Addr::from(reader.array::<4>()?);
        let capabilities = decode_parameters(&mut reader)?;
        if !reader.is_empty() {
            return Err(OpenFault::Trailing(reader.remaining()));
        }
        let four_octet_asn = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAsn(asn) => Some(*asn),
            _ => None,
        });
        let asn = four_octet_asn.unwrap_or_else(|| Asn(u32::from(two_octet_asn)));
        Ok(Self { asn, hold_time_s, router_id, capabilities })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut capabilities = Vec::new();
        for capability in &self.capabilities {
            capability.encode(&mut capabilities);
        }
        header::encode(MessageType::Open, out, |out| {
            out.push(VERSION);
            out.extend(self.asn.two_octets().to_be_bytes());
            out.extend(self.hold_time_s.to_be_bytes());
            out.extend(self.router_id.octets());
            // Two octets of parameter header must fit beside the capabilities.
            match (u8::try_from(capabilities.len()), u16::try_from(capabilities.len())) {
                (Ok(0), _) => out.push(0),
                (Ok(length), _) if length <= u8::MAX - 2 => {
                    out.extend([length.saturating_add(2), PARAMETER_CAPABILITIES, length]);
                }
                (_, Ok(length)) => {
                    out.extend([EXTENDED_LENGTH, EXTENDED_LENGTH]);
                    out.extend(length.saturating_add(3).to_be_bytes());
                    out.push(PARAMETER_CAPABILITIES);
                    out.extend(length.to_be_bytes());
                }
                (_, Err(_)) => capabilities.clear(),
            }
            out.extend_from_slice(&capabilities);
        });
    }

    /// Families offered. RFC 4760 §8: without any such capability, IPv4 unicast is meant.
    #[must_use]
    pub fn families(&self) -> FamilySet {
        let mut offered = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::Multiprotocol { afi, safi } => Some((*afi, *safi)),
            _ => None,
        });
        let mut families = FamilySet::default();
        let Some(first) = offered.next() else {
            return FamilySet { ipv4: true, ipv6: false };
        };
        for (afi, safi) in std::iter::once(first).chain(offered) {
            if let Some(family) = Family::from_codes(afi, safi) {
                *families.get_mut(family) = true;
            }
        }
        families
    }
}

fn decode_parameters(reader: &mut Reader<'_>) -> Result<Vec<Capability>, OpenFault> {
    let length = reader.u8()?;
    let mut peek = *reader;
    // RFC 9072 §2: a first parameter of type 255 announces two-octet lengths, whatever is before it.
    let extended = length != 0 && peek.u8() == Ok(EXTENDED_LENGTH);
    let mut parameters = if extended {
        *reader = peek;
        let length = reader.u16()?;
        reader.sub(usize::from(length))?
    } else {
        reader.sub(usize::from(length))?
    };
    let mut capabilities = Vec::new();
    while !parameters.is_empty() {
        let kind = parameters.u8()?;
        let length = if extended { parameters.u16()? } else { u16::from(parameters.u8()?) };
        let mut value = parameters.sub(usize::from(length))?;
        if kind != PARAMETER_CAPABILITIES {
            return Err(OpenFault::Parameter(kind));
        }
        while !value.is_empty() {
            capabilities.push(Capability::decode(&mut value)?);
        }
    }
    Ok(capabilities)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::capability::{Forwarding, GracefulRestart};
    use super::*;
    use crate::limits::HEADER_BYTES;
    use crate::types::PerFamily;

    fn open(capabilities: Vec<Capability>) -> Open {
        Open {
            asn: Asn(4_200_000_001),
            hold_time_s: 9,
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            capabilities,
        }
    }

    fn body(parameters: &[u8]) -> Vec<u8> {
        let mut body = vec![4, 0xfd, 0xe8, 0, 9, 192, 0, 2, 1];
        body.extend_from_slice(parameters);
        body
    }

    fn code_of(parameters: &[u8]) -> (u8, u8) {
        let notification = Open::decode(&body(parameters)).unwrap_err().notification();
        (notification.code, notification.subcode)
    }

    #[test]
    fn every_capability_survives_the_wire() {
        let sent = open(vec![
            Capability::Multiprotocol { afi: 1, safi: 1 },
            Capability::Multiprotocol { afi: 2, safi: 1 },
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::FourOctetAsn(Asn(4_200_000_001)),
            Capability::ExtendedMessage,
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
            Capability::GracefulRestart(GracefulRestart {
                restarted: true,
                notification: false,
                restart_time: Duration::from_secs(30),
                families: PerFamily {
                    ipv4: Some(Forwarding::Preserved),
                    ipv6: Some(Forwarding::Lost),
                },
            }),
            Capability::Unknown { code: 73, value: b"edge".to_vec() },
        ]);
        let mut bytes = Vec::new();

        sent.encode(&mut bytes);

        assert_eq!(Open::decode(&bytes[HEADER_BYTES..]), Ok(sent));
    }

    #[test]
    fn more_capabilities_than_one_octet_counts_use_the_long_form() {
        let sent = open(vec![
            Capability::Unknown { code: 73, value: vec![7; 200] },
            Capability::Unknown { code: 74, value: vec![7; 200] },
            Capability::FourOctetAsn(Asn(4_200_000_001)),
        ]);
        let mut bytes = Vec::new();

        sent.encode(&mut bytes);

        assert_eq!(Open::decode(&bytes[HEADER_BYTES..]), Ok(sent));
    }

    #[test]
    fn no_capability_means_ipv4_and_two_octets() {
        let open = Open::decode(&body(&[0])).unwrap();

        assert_eq!(open.asn, Asn(65_000));
        assert_eq!(open.families(), FamilySet { ipv4: true, ipv6: false });
    }

    #[test]
    fn malformed_opens_are_refused_with_the_right_code() {
        let cases: [(&str, &[u8], (u8, u8)); 9] = [
            ("ends at the option length", &[2], (2, 0)),
            ("no option length", &[], (2, 0)),
            ("capability cut in the middle", &[4, 2, 2, 65, 4], (2, 0)),
            ("capability longer than its parameter", &[5, 2, 3, 1, 4, 0], (2, 0)),
            ("long form without its length", &[255, 255, 0], (2, 0)),
            ("long form, parameter cut", &[255, 255, 0, 3, 2, 0, 9], (2, 0)),
            ("short four octet AS", &[5, 2, 3, 65, 1, 0], (2, 0)),
            ("authentication parameter", &[3, 1, 1, 0], (2, 4)),
            ("trailing octets", &[0, 1], (2, 0)),
        ];
        for (name, parameters, expected) in cases {
            assert_eq!(code_of(parameters), expected, "{name}");
        }
    }

    #[test]
    fn unknown_capabilities_of_any_shape_are_no_error() {
        for parameters in
            [&[4, 2, 2, 75, 0][..], &[5, 2, 3, 71, 1, 9][..], &[6, 2, 4, 73, 2, 200, 1][..]]
        {
            assert!(Open::decode(&body(parameters)).is_ok(), "{parameters:?}");
        }
    }

    #[test]
    fn another_version_is_told_ours() {
        let mut old = body(&[0]);
        old[0] = 3;

        let notification = Open::decode(&old).unwrap_err().notification();

        assert_eq!((notification.code, notification.subcode), (2, 1));
        assert_eq!(notification.data, [0, 4]);
    }
}
