//! The attributes of one UPDATE while it is read.
//!
//! Collects values and faults in any order, then decides once, in [`AttributeSet::finish`]: so the
//! order of attributes never matters, and a half-read message never becomes a route.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::as_path::{AsPath, AsPathError, AsnWidth};
use super::attribute::{Aggregator, OpaqueAttribute, Origin, PathAttributes, flag, type_code};
use super::community::{Community, ExtendedCommunity, LargeCommunity};
use super::fault::{Disposition, Fault, UpdateError};
use super::next_hop::NextHop;
use super::nlri::{self, NlriError};
use super::reader::{Reader, Short};
use super::update::{Codec, Reach, Update};
use crate::types::{Asn, Family, PeerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct AttributeSet {
    codec: Codec,
    seen: [bool; 256],
    attributes: PathAttributes,
    origin: Option<Origin>,
    as_path: Option<AsPath>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    originator: Option<Ipv4Addr>,
    next_hop: Option<Ipv4Addr>,
    /// MP_REACH of a family of the session.
    reach: Option<Reach>,
    /// MP_REACH of any family was there, so the message is about reachable routes.
    reach_seen: bool,
    unreach: Option<(Family, Vec<IpNet>)>,
    faults: Vec<Fault>,
}

impl AttributeSet {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            seen: [false; 256],
            attributes: PathAttributes::default(),
            origin: None,
            as_path: None,
            as4_path: None,
            as4_aggregator: None,
            originator: None,
            next_hop: None,
            reach: None,
            reach_seen: false,
            unreach: None,
            faults: Vec::new(),
        }
    }

    pub(super) const fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Marks an attribute as seen; whether it had been already.
    pub(super) fn is_duplicate(&mut self, code: u8) -> bool {
        self.seen.get_mut(usize::from(code)).is_some_and(|seen| std::mem::replace(seen, true))
    }

    /// Notes a fault that does not end the session.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Notes a fault; one that ends the session comes back as an error.
    pub(super) fn record(&mut self, fault: Fault) -> Result<(), Fault> {
        if fault.disposition == Disposition::Reset {
            return Err(fault);
        }
        self.faults.push(fault);
        Ok(())
    }

    /// Keeps an attribute that this speaker does not know. RFC 4271 §9: a transitive one is marked
    /// partial when passed on, any other one goes no further.
    pub(super) fn opaque(&mut self, flags: u8, code: u8, value: &[u8]) {
        if flags & flag::TRANSITIVE != 0 {
            let flags = (flags | flag::PARTIAL) & !flag::EXTENDED_LENGTH & 0xf0;
            self.attributes.opaque.push(OpaqueAttribute { flags, code, value: value.to_vec() });
        }
    }

    /// Takes the value of an attribute whose length is right.
    pub(super) fn take(&mut self, code: u8, value: &[u8]) -> Result<(), UpdateError> {
        let mut reader = Reader::new(value);
        let length = |_: Short| UpdateError::Length;
        match code {
            type_code::ORIGIN => self.origin = Some(origin(&mut reader)?),
            type_code::AS_PATH => {
                let path = AsPath::decode(value, self.codec.asn_width);
                self.as_path = Some(path.map_err(|_error| UpdateError::AsPath)?);
            }
            type_code::NEXT_HOP => {
                self.next_hop = Some(reader.array::<4>().map_err(length)?.into());
            }
            type_code::MED => self.attributes.med = Some(reader.u32().map_err(length)?),
            type_code::LOCAL_PREF => {
                self.attributes.local_pref = Some(reader.u32().map_err(length)?);
            }
            type_code::ATOMIC_AGGREGATE => self.attributes.atomic_aggregate = true,
            type_code::AGGREGATOR => {
                self.attributes.aggregator = Some(aggregator(value, self.codec.asn_width)?);
            }
            type_code::COMMUNITIES => {
                while let Ok(word) = reader.u32() {
                    self.attributes.communities.standard.insert(Community(word));
                }
            }
            type_code::MP_REACH => return self.take_reach(&mut reader),
            type_code::MP_UNREACH => return self.take_unreach(&mut reader),
            type_code::EXTENDED_COMMUNITIES => {
                while let Ok(octets) = reader.array::<8>() {
                    self.attributes.communities.extended.insert(ExtendedCommunity(octets));
                }
            }
            type_code::AS4_PATH => {
                // RFC 9774 §3: of all its faults, a set alone costs the route.
                match AsPath::decode(value, AsnWidth::Four) {
                    Ok(path) => self.as4_path = Some(path),
                    Err(AsPathError::Set) => self.fault(Fault::of(
                        code,
                        Disposition::TreatAsWithdraw,
                        UpdateError::AsPath,
                    )),
                    Err(_) => return Err(UpdateError::OptionalAttribute),
                }
            }
            type_code::AS4_AGGREGATOR => {
                self.as4_aggregator = Some(aggregator(value, AsnWidth::Four)?);
            }
            type_code::LARGE_COMMUNITIES => {
                while let (Ok(global), Ok(local_1), Ok(local_2)) =
                    (reader.u32(), reader.u32(), reader.u32())
                {
                    let large = LargeCommunity { global, local_1, local_2 };
                    self.attributes.communities.large.insert(large);
                }
            }
            type_code::ONLY_TO_CUSTOMER => {
                self.attributes.only_to_customer = Some(Asn(reader.u32().map_err(length)?));
            }
            type_code::ORIGINATOR_ID => {
                self.originator = Some(reader.array::<4>().map_err(length)?.into());
            }
            // CLUSTER_LIST matters to route reflectors alone.
            _ => {}
        }
        Ok(())
    }

    fn take_reach(&mut self, reader: &mut Reader<'_>) -> Result<(), UpdateError> {
        let optional = |_: Short| UpdateError::OptionalAttribute;
        self.reach_seen = true;
        let (afi, safi) = (reader.u16().map_err(optional)?, reader.u8().map_err(optional)?);
        let next_hop_bytes = reader.u8().map_err(optional)?;
        let next_hop = reader.take(usize::from(next_hop_bytes)).map_err(optional)?;
        let _reserved = reader.u8().map_err(optional)?;
        let Some(family) = self.negotiated(afi, safi) else { return Ok(()) };
        // RFC 7606 §7.11: a next hop of the wrong length puts all that follows it in doubt.
        let next_hop = self.codec.next_hop(next_hop, family);
        let next_hop = next_hop.ok_or(UpdateError::OptionalAttribute)?;
        let prefixes = nlri::decode(*reader, family).map_err(unreadable)?;
        self.reach = Some(Reach { next_hop, prefixes });
        Ok(())
    }

    fn take_unreach(&mut self, reader: &mut Reader<'_>) -> Result<(), UpdateError> {
        let optional = |_: Short| UpdateError::OptionalAttribute;
        let (afi, safi) = (reader.u16().map_err(optional)?, reader.u8().map_err(optional)?);
        let Some(family) = self.negotiated(afi, safi) else { return Ok(()) };
        let prefixes = nlri::decode(*reader, family).map_err(unreadable)?;
        self.unreach = Some((family, prefixes));
        Ok(())
    }

    fn negotiated(&self, afi: u16, safi: u8) -> Option<Family> {
        Family::from_codes(afi, safi).filter(|family| self.codec.families.contains(*family))
    }

    /// Whether an MP_UNREACH without prefixes is all there is: End-of-RIB (RFC 4724 §2).
    pub(super) fn is_empty_unreach_alone(&self) -> bool {
        self.faults.is_empty()
            && self.seen.iter().filter(|seen| **seen).count() == 1
            && self.unreach.as_ref().is_some_and(|(_, prefixes)| prefixes.is_empty())
    }

    pub(super) fn unreach_family(&self) -> Option<Family> {
        self.unreach.as_ref().map(|(family, _)| *family)
    }

    /// Decides what the message means.
    pub(super) fn finish(
        mut self,
        mut withdrawn: Vec<IpNet>,
        mut announced: Vec<IpNet>,
    ) -> Result<Update, Fault> {
        let families = self.codec.families;
        let reachable = self.reach_seen || !announced.is_empty();
        let mut reach = Vec::new();
        announced.retain(nlri::is_unicast);
        if let Some(reach) = &mut self.reach {
            reach.prefixes.retain(nlri::is_unicast);
        }
        reach.extend(self.reach.take().filter(|reach| !reach.prefixes.is_empty()));
        if reachable {
            self.check_mandatory(&announced, &reach);
        }
        if !families.ipv4 {
            withdrawn.clear();
        }
        withdrawn.extend(self.unreach.take().into_iter().flat_map(|(_, prefixes)| prefixes));

        let worst = self.faults.iter().find(|f| f.disposition == Disposition::TreatAsWithdraw);
        if let Some(fault) = worst {
            // RFC 7606 §5.2: without reachable prefixes nobody knows what the message was about.
            if !reachable {
                return Err(Fault { disposition: Disposition::Reset, ..*fault });
            }
            let lost = reach.drain(..).flat_map(|reach| reach.prefixes);
            withdrawn.extend(lost.chain(announced).filter(|p| families.contains(Family::of(p))));
        } else if let (true, Some(address), false) =
            (families.ipv4, self.next_hop, announced.is_empty())
        {
            reach.push(Reach { next_hop: NextHop::V4(address), prefixes: announced });
        }
        let faults = std::mem::take(&mut self.faults);
        let originator = self.originator;
        let attributes = self.into_attributes();
        Ok(Update { withdrawn, reach, attributes, originator, end_of_rib: None, faults })
    }

    /// RFC 7606 §3 (d): a missing well-known mandatory attribute is treat-as-withdraw.
    fn check_mandatory(&mut self, announced: &[IpNet], reach: &[Reach]) {
        let mut withdraw = |code, error| {
            self.faults.push(Fault::of(code, Disposition::TreatAsWithdraw, error));
        };
        if self.origin.is_none() {
            withdraw(type_code::ORIGIN, UpdateError::MissingWellKnown);
        }
        match &self.as_path {
            None => withdraw(type_code::AS_PATH, UpdateError::MissingWellKnown),
            // RFC 4271 §5.1.2: a peer in another AS prepends its own, so the path is never empty.
            Some(path) if path.0.is_empty() && self.codec.peer_kind == PeerKind::External => {
                withdraw(type_code::AS_PATH, UpdateError::AsPath);
            }
            Some(path) if !self.codec.admits_first_as(path.0.first().copied()) => {
                withdraw(type_code::AS_PATH, UpdateError::AsPath);
            }
            Some(_) => {}
        }
        // RFC 4271 §5.1.5: inside an AS it is part of every announcement.
        if self.attributes.local_pref.is_none() && self.codec.peer_kind == PeerKind::Internal {
            withdraw(type_code::LOCAL_PREF, UpdateError::MissingWellKnown);
        }
        match self.next_hop {
            _ if announced.is_empty() => {}
            None => withdraw(type_code::NEXT_HOP, UpdateError::MissingWellKnown),
            Some(address) if !self.codec.admits_next_hop(NextHop::V4(address)) => {
                withdraw(type_code::NEXT_HOP, UpdateError::NextHop);
            }
            Some(_) => {}
        }
        if reach.iter().any(|reach| !self.codec.admits_next_hop(reach.next_hop)) {
            withdraw(type_code::MP_REACH, UpdateError::NextHop);
        }
    }

    fn into_attributes(self) -> PathAttributes {
        let mut attributes = self.attributes;
        attributes.origin = self.origin.unwrap_or_default();
        attributes.as_path = self.as_path.unwrap_or_default();
        // RFC 6793 §4.2.3: an AGGREGATOR other than AS_TRANS says that an old speaker aggregated
        // after the shadows were cast.
        let outdated = match (attributes.aggregator, self.as4_aggregator) {
            (Some(old), Some(_)) => old.asn != Asn::TRANS,
            _ => false,
        };
        if !outdated {
            // Alone, AS4_AGGREGATOR is the aggregator of nothing.
            let shadow = attributes.aggregator.and(self.as4_aggregator);
            attributes.aggregator = shadow.or(attributes.aggregator);
            if let Some(tail) = &self.as4_path {
                attributes.as_path = attributes.as_path.merged(tail);
            }
        }
        attributes
    }
}

/// RFC 7606 §5.3: prefixes that cannot be read cannot be treated as withdrawn either.
const fn unreadable(_error: NlriError) -> UpdateError {
    UpdateError::OptionalAttribute
}

fn origin(reader: &mut Reader<'_>) -> Result<Origin, UpdateError> {
    match reader.u8() {
        Ok(0) => Ok(Origin::Igp),
        Ok(1) => Ok(Origin::Egp),
        Ok(2) => Ok(Origin::Incomplete),
        _ => Err(UpdateError::Origin),
    }
}

fn aggregator(value: &[u8], width: AsnWidth) -> Result<Aggregator, UpdateError> {
    let mut reader = Reader::new(value);
    let asn = match width {
        AsnWidth::Two => reader.u16().map(u32::from),
        AsnWidth::Four => reader.u32(),
    };
    let address = asn.and_then(|asn| Ok((Asn(asn), reader.array::<4>()?)));
    match address {
        // RFC 7607 §2: AS 0 makes the attribute malformed.
        Ok((asn, address)) if asn != Asn(0) && reader.is_empty() => {
            Ok(Aggregator { asn, address: address.into() })
        }
        _ => Err(UpdateError::Length),
    }
}
