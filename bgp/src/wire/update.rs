//! UPDATE, received (RFC 4271 §4.3, RFC 4760, RFC 7606).
//!
//! Sections are framed first and parsed second: withdrawn routes, attributes and NLRI get readers
//! of their own before a byte of any of them is looked at. [`Update`] is what may be acted upon:
//! treat-as-withdraw has been applied already, so no caller can use a route of a broken message.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::as_path::AsnWidth;
use super::attribute::{PathAttributes, Rule, flag, type_code};
use super::attribute_set::AttributeSet;
use super::fault::{Disposition, Fault, UpdateError};
use super::next_hop::NextHop;
use super::nlri;
use super::reader::{Reader, Short};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::types::{Asn, Family, FamilySet, PeerKind};

/// What was agreed in the OPENs and changes how an UPDATE is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Width of AS numbers.
    pub asn_width: AsnWidth,
    /// Families of the session; others are ignored.
    pub families: FamilySet,
    /// Whether the peer is in our AS.
    pub peer_kind: PeerKind,
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Largest message (RFC 8654).
    pub message_bytes_max: usize,
    /// The AS that every path begins with, if that is to be checked (RFC 4271 §6.3).
    pub first_as: Option<Asn>,
    /// Our own address: nobody else's next hop (RFC 4271 §6.3).
    pub local_address: Option<IpAddr>,
}

impl Codec {
    /// Both families and four-octet numbers; nothing optional, nothing checked against our own.
    #[must_use]
    pub const fn new(peer_kind: PeerKind) -> Self {
        Self {
            asn_width: AsnWidth::Four,
            families: FamilySet::BOTH,
            peer_kind,
            extended_next_hop: false,
            message_bytes_max: MESSAGE_BYTES_MAX,
            first_as: None,
            local_address: None,
        }
    }

    /// Reads the next hop of an MP_REACH_NLRI; nothing if its length is not one that the family has
    /// on this session.
    #[must_use]
    pub fn next_hop(&self, value: &[u8], family: Family) -> Option<NextHop> {
        let own = NextHop::decode(value, family);
        if self.extended_next_hop && family == Family::Ipv4Unicast {
            return own.or_else(|| NextHop::decode(value, Family::Ipv6Unicast));
        }
        own
    }

    /// Whether a route may go by `next_hop`: a host could have it, and it is not us.
    #[must_use]
    pub fn admits_next_hop(&self, next_hop: NextHop) -> bool {
        next_hop.is_usable() && self.local_address != Some(next_hop.address())
    }

    /// Whether a path may begin with `first`.
    #[must_use]
    pub fn admits_first_as(&self, first: Option<Asn>) -> bool {
        self.first_as.is_none_or(|expected| first == Some(expected))
    }
}

/// Prefixes of one family that share a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Where packets go.
    pub next_hop: NextHop,
    /// Prefixes reached.
    pub prefixes: Vec<IpNet>,
}

/// What an UPDATE says, after its faults took effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Prefixes no longer reached, also those of a message that is treated as withdraw.
    pub withdrawn: Vec<IpNet>,
    /// Prefixes reached, at most one entry a family.
    pub reach: Vec<Reach>,
    /// Attributes of everything in `reach`.
    pub attributes: PathAttributes,
    /// Who brought these routes into our AS, if a route reflector says so (RFC 4456 §8).
    pub originator: Option<Ipv4Addr>,
    /// End-of-RIB of this family (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// Everything that was wrong, for the log and the counters.
    pub faults: Vec<Fault>,
}

/// Reads the body of an UPDATE.
///
/// # Errors
/// A fault that ends the session. Milder ones have taken effect in the result.
pub fn decode(body: &[u8], codec: &Codec) -> Result<Update, Fault> {
    let malformed = |_: Short| Fault::new(Disposition::Reset, UpdateError::AttributeList);
    let bad_network = |_| Fault::new(Disposition::Reset, UpdateError::Network);

    let mut reader = Reader::new(body);
    let withdrawn_bytes = reader.u16().map_err(malformed)?;
    let withdrawn = reader.sub(usize::from(withdrawn_bytes)).map_err(malformed)?;
    let attribute_bytes = reader.u16().map_err(malformed)?;
    let attributes = reader.sub(usize::from(attribute_bytes)).map_err(malformed)?;
    if body == [0; 4] {
        let end_of_rib = codec.families.ipv4.then_some(Family::Ipv4Unicast);
        return Ok(Update { end_of_rib, ..Update::default() });
    }

    // RFC 7606 §5.3: routes that cannot be read cannot be treated as withdrawn either.
    let withdrawn = nlri::decode(withdrawn, Family::Ipv4Unicast).map_err(bad_network)?;
    let announced = nlri::decode(reader, Family::Ipv4Unicast).map_err(bad_network)?;
    let mut set = AttributeSet::new(*codec);
    decode_attributes(attributes, &mut set)?;
    if withdrawn.is_empty() && announced.is_empty() && set.is_empty_unreach_alone() {
        return Ok(Update { end_of_rib: set.unreach_family(), ..Update::default() });
    }
    set.finish(withdrawn, announced)
}

/// The prefixes that an UPDATE speaks of, if they can be read, whatever becomes of them.
pub(crate) fn prefixes(body: &[u8], codec: &Codec) -> Vec<IpNet> {
    let Ok(update) = decode(body, codec) else { return Vec::new() };
    let reached = update.reach.into_iter().flat_map(|reach| reach.prefixes);
    update.withdrawn.into_iter().chain(reached).collect()
}

/// The first attribute with this code as received, header and all.
pub(crate) fn raw_attribute(body: &[u8], code: u8) -> Option<&[u8]> {
    let mut reader = Reader::new(body);
    let withdrawn_bytes = reader.u16().ok()?;
    reader.take(usize::from(withdrawn_bytes)).ok()?;
    let attribute_bytes = reader.u16().ok()?;
    let mut section = reader.sub(usize::from(attribute_bytes)).ok()?;
    loop {
        let mut before = section;
        let (_, found, _) = next_attribute(&mut section).ok()?;
        if found == code {
            let length = before.remaining().saturating_sub(section.remaining());
            return before.rest().get(..length);
        }
    }
}

fn decode_attributes(mut section: Reader<'_>, set: &mut AttributeSet) -> Result<(), Fault> {
    while !section.is_empty() {
        // RFC 7606 §4: an attribute that reaches past the list ends it; what came before counts.
        let Ok((flags, code, value)) = next_attribute(&mut section) else {
            set.fault(Fault::new(Disposition::TreatAsWithdraw, UpdateError::AttributeList));
            return Ok(());
        };
        if set.is_duplicate(code) {
            // RFC 7606 §3 (g).
            let multiprotocol = matches!(code, type_code::MP_REACH | type_code::MP_UNREACH);
            let cost = if multiprotocol { Disposition::Reset } else { Disposition::Discard };
            set.record(Fault::of(code, cost, UpdateError::AttributeList))?;
            continue;
        }
        decode_attribute(flags, code, value, set)?;
    }
    Ok(())
}

fn decode_attribute(
    flags: u8,
    code: u8,
    value: &[u8],
    set: &mut AttributeSet,
) -> Result<(), Fault> {
    let Some(rule) = Rule::find(code) else {
        if flags & flag::OPTIONAL == 0 {
            // RFC 4271 §6.3 resets; under RFC 7606 §3 the route goes and the session stays.
            let (cost, error) = (Disposition::TreatAsWithdraw, UpdateError::UnrecognizedWellKnown);
            return set.record(Fault::of(code, cost, error));
        }
        set.opaque(flags, code, value);
        return Ok(());
    };
    let shadow = matches!(code, type_code::AS4_PATH | type_code::AS4_AGGREGATOR);
    if shadow && set.codec().asn_width == AsnWidth::Four {
        // RFC 6793 §4.1: among new speakers they are discarded, whatever is in them.
        return set.record(Fault::of(code, Disposition::Discard, UpdateError::AttributeList));
    }
    if rule.internal_only && set.codec().peer_kind == PeerKind::External {
        return set.record(Fault::of(code, Disposition::Discard, UpdateError::AttributeList));
    }
    let kind = flags & (flag::OPTIONAL | flag::TRANSITIVE);
    let partial_allowed = rule.flags == flag::OPTIONAL | flag::TRANSITIVE;
    if kind != rule.flags || (flags & flag::PARTIAL != 0 && !partial_allowed) {
        // RFC 7606 §3 (c). The value is still read: it may hold the prefixes to withdraw.
        set.fault(Fault::of(code, Disposition::TreatAsWithdraw, UpdateError::Flags));
    }
    if !rule.length.allows(value.len()) {
        return set.record(Fault::of(code, rule.malformed, UpdateError::Length));
    }
    match set.take(code, value) {
        Ok(()) => Ok(()),
        Err(error) => set.record(Fault::of(code, rule.malformed, error)),
    }
}

fn next_attribute<'a>(section: &mut Reader<'a>) -> Result<(u8, u8, &'a [u8]), Short> {
    let (flags, code) = (section.u8()?, section.u8()?);
    let length = if flags & flag::EXTENDED_LENGTH != 0 {
        usize::from(section.u16()?)
    } else {
        usize::from(section.u8()?)
    };
    Ok((flags, code, section.take(length)?))
}
