//! Capabilities of an OPEN (RFC 5492): each a code, a length and a value.
//!
//! What this speaker does not know stays opaque; a known capability of the wrong shape makes the
//! OPEN unusable, because guessing what was negotiated is worse than no session.

use std::time::Duration;

use super::reader::{Reader, Short};
use crate::limits::{LONG_LIVED_TIME_MAX, RESTART_TIME_MAX};
use crate::types::{Asn, Family, FamilySet, PerFamily};

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_ASN: u8 = 65;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const LONG_LIVED: u8 = 71;

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// RFC 4760 §8.
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// RFC 2918.
    RouteRefresh,
    /// RFC 8950 §4: (AFI, SAFI, AFI of the next hop).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// RFC 8654.
    ExtendedMessage,
    /// RFC 4724 §3, RFC 8538 §2.
    GracefulRestart(GracefulRestart),
    /// RFC 6793.
    FourOctetAsn(Asn),
    /// RFC 7313.
    EnhancedRouteRefresh,
    /// RFC 9494 §3.1.
    LongLived(LongLived),
    /// RFC 9234 §4.1: what the speaker is to its peer, as a number that may be none we know.
    Role(u8),
    /// Anything else, as it came.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

/// What a speaker says about its restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R: the speaker has restarted, and waits for nobody's End-of-RIB but sends its own.
    pub restarted: bool,
    /// N: a NOTIFICATION, too, leaves routes in place (RFC 8538). Never sent by this speaker: an
    /// expired hold timer must remove its routes.
    pub notification: bool,
    /// How long the peer keeps routes while the session is down.
    pub restart_time: Duration,
    /// Families with graceful restart, and F: whether forwarding outlived the restart.
    pub families: PerFamily<Option<Forwarding>>,
}

/// What a speaker says about restarts that take longer than graceful restart allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongLived {
    /// Families with long-lived graceful restart, and for how long.
    pub families: PerFamily<Option<LongLivedFamily>>,
}

/// Long-lived graceful restart of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongLivedFamily {
    /// F: whether forwarding outlived the restart.
    pub forwarding: Forwarding,
    /// How long the peer keeps routes after graceful restart has given up.
    pub stale_time: Duration,
}

/// The F bit of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Packets kept flowing.
    Preserved,
    /// State was lost: stale routes must go at once.
    Lost,
}

impl Capability {
    /// Reads one capability from the front of `section`.
    ///
    /// # Errors
    /// It is cut short, or a known one has the wrong shape.
    pub fn decode(section: &mut Reader<'_>) -> Result<Self, Short> {
        let (code, length) = (section.u8()?, section.u8()?);
        let mut value = section.sub(usize::from(length))?;
        let capability = match code {
            MULTIPROTOCOL => {
                let (afi, _reserved, safi) = (value.u16()?, value.u8()?, value.u8()?);
                Self::Multiprotocol { afi, safi }
            }
            ROUTE_REFRESH => Self::RouteRefresh,
            EXTENDED_NEXT_HOP => {
                let mut triples = Vec::new();
                while !value.is_empty() {
                    triples.push((value.u16()?, value.u16()?, value.u16()?));
                }
                Self::ExtendedNextHop(triples)
            }
            EXTENDED_MESSAGE => Self::ExtendedMessage,
            GRACEFUL_RESTART => Self::GracefulRestart(GracefulRestart::decode(&mut value)?),
            FOUR_OCTET_ASN => Self::FourOctetAsn(Asn(value.u32()?)),
            ENHANCED_ROUTE_REFRESH => Self::EnhancedRouteRefresh,
            ROLE if length == 1 => Self::Role(value.u8()?),
            // RFC 9494 §4.1: whoever sends it in another shape does without.
            LONG_LIVED if length % LongLived::FAMILY_BYTES == 0 => {
                Self::LongLived(LongLived::decode(&mut value)?)
            }
            ROLE => return Err(Short { needed: 1, left: usize::from(length) }),
            _ => Self::Unknown { code, value: value.rest().to_vec() },
        };
        Ok(capability)
    }

    /// Appends code, length and value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        let code = match self {
            Self::Multiprotocol { afi, safi } => {
                value.extend(afi.to_be_bytes());
                value.extend([0, *safi]);
                MULTIPROTOCOL
            }
            Self::RouteRefresh => ROUTE_REFRESH,
            Self::ExtendedNextHop(triples) => {
                for (afi, safi, next_hop) in triples {
                    value.extend([afi, safi, next_hop].into_iter().flat_map(|v| v.to_be_bytes()));
                }
                EXTENDED_NEXT_HOP
            }
            Self::ExtendedMessage => EXTENDED_MESSAGE,
            Self::GracefulRestart(restart) => {
                restart.encode(&mut value);
                GRACEFUL_RESTART
            }
            Self::FourOctetAsn(asn) => {
                value.extend(asn.0.to_be_bytes());
                FOUR_OCTET_ASN
            }
            Self::EnhancedRouteRefresh => ENHANCED_ROUTE_REFRESH,
            Self::LongLived(long_lived) => {
                long_lived.encode(&mut value);
                LONG_LIVED
            }
            Self::Role(role) => {
                value.push(*role);
                ROLE
            }
            Self::Unknown { code, value: opaque } => {
                value.extend_from_slice(opaque);
                *code
            }
        };
        value.truncate(usize::from(u8::MAX));
        out.extend([code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(&value);
    }

    /// Both capabilities of a set of families, in order.
    pub fn multiprotocol(families: FamilySet) -> impl Iterator<Item = Self> {
        families.iter().map(|family| {
            let (afi, safi) = family.codes();
            Self::Multiprotocol { afi, safi }
        })
    }
}

impl GracefulRestart {
    const RESTARTED: u16 = 0x8000;
    const NOTIFICATION: u16 = 0x4000;
    const TIME: u16 = 0x0fff;

    fn decode(value: &mut Reader<'_>) -> Result<Self, Short> {
        let head = value.u16()?;
        let mut families = PerFamily::default();
        while !value.is_empty() {
            let (afi, safi, flags) = (value.u16()?, value.u8()?, value.u8()?);
            if let Some(family) = Family::from_codes(afi, safi) {
                *families.get_mut(family) = Some(Forwarding::from_flags(flags));
            }
        }
        Ok(Self {
            restarted: head & Self::RESTARTED != 0,
            notification: head & Self::NOTIFICATION != 0,
            restart_time: Duration::from_secs(u64::from(head & Self::TIME)),
            families,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let seconds = self.restart_time.min(RESTART_TIME_MAX).as_secs();
        let mut head = u16::try_from(seconds).unwrap_or(Self::TIME) & Self::TIME;
        if self.restarted {
            head |= Self::RESTARTED;
        }
        if self.notification {
            head |= Self::NOTIFICATION;
        }
        out.extend(head.to_be_bytes());
        for family in Family::ALL {
            let Some(forwarding) = self.families.get(family) else { continue };
            let (afi, safi) = family.codes();
            out.extend(afi.to_be_bytes());
            out.extend([safi, forwarding.flags()]);
        }
    }
}

impl LongLived {
    const FAMILY_BYTES: u8 = 7;

    fn decode(value: &mut Reader<'_>) -> Result<Self, Short> {
        let mut families = PerFamily::default();
        while !value.is_empty() {
            let (afi, safi, flags) = (value.u16()?, value.u8()?, value.u8()?);
            let [high, middle, low] = value.array()?;
            let stale_time =
                Duration::from_secs(u64::from(u32::from_be_bytes([0, high, middle, low])));
            if let Some(family) = Family::from_codes(afi, safi) {
                let forwarding = Forwarding::from_flags(flags);
                *families.get_mut(family) = Some(LongLivedFamily { forwarding, stale_time });
            }
        }
        Ok(Self { families })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for family in Family::ALL {
            let Some(of_family) = self.families.get(family) else { continue };
            let (afi, safi) = family.codes();
            let seconds = of_family.stale_time.min(LONG_LIVED_TIME_MAX).as_secs();
            let [.., high, middle, low] = seconds.to_be_bytes();
            out.extend(afi.to_be_bytes());
            out.extend([safi, of_family.forwarding.flags(), high, middle, low]);
        }
    }
}

impl Forwarding {
    const PRESERVED: u8 = 0x80;

    const fn from_flags(flags: u8) -> Self {
        if flags & Self::PRESERVED == 0 { Self::Lost } else { Self::Preserved }
    }

    const fn flags(self) -> u8 {
        match self {
            Self::Preserved => Self::PRESERVED,
            Self::Lost => 0,
        }
    }
}
