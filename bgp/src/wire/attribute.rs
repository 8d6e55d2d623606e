//! Path attributes: the table of what each must look like, and their values.
//!
//! `RULES` is the one place that says which attribute has which flags and length, and what a
//! breach costs. An attribute without a row stays opaque, as RFC 4271 §9 wants it passed on.

use std::net::Ipv4Addr;

use super::as_path::{AsPath, AsnWidth};
use super::community::{Communities, Community, ExtendedCommunity, LargeCommunity};
use super::fault::Disposition;
use super::header::put_u16_at;
use crate::types::Asn;

/// Attribute type codes (IANA, BGP path attributes).
pub(crate) mod type_code {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH: u8 = 14;
    pub(crate) const MP_UNREACH: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
    pub(crate) const ONLY_TO_CUSTOMER: u8 = 35;
}

/// Flag bits (RFC 4271 §4.3).
pub(super) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const PARTIAL: u8 = 0x20;
    pub(crate) const EXTENDED_LENGTH: u8 = 0x10;
}

/// Lengths an attribute may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Decided while the value is read.
    Any,
    /// Exactly this many octets.
    Exactly(usize),
    /// A multiple of this, and not zero.
    MultipleOf(usize),
    /// An AS number and an address: 6 or 8 octets.
    Aggregator,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) code: u8,
    /// The optional and transitive bits it must have.
    pub(super) flags: u8,
    pub(super) length: Length,
    /// What a value of the wrong length or content costs.
    pub(super) malformed: Disposition,
    /// Whether a peer in another AS has no business sending it: it is discarded, well-formed or not.
    pub(super) internal_only: bool,
}

const fn rule(code: u8, flags: u8, length: Length, malformed: Disposition) -> Rule {
    Rule { code, flags, length, malformed, internal_only: false }
}

const fn internal(rule: Rule) -> Rule {
    Rule { internal_only: true, ..rule }
}

const WELL_KNOWN: u8 = flag::TRANSITIVE;
const OPTIONAL: u8 = flag::OPTIONAL;
const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;

use Disposition::{Discard, Reset, TreatAsWithdraw};
use Length::{Aggregator as AggregatorLength, Any, Exactly, MultipleOf};

/// What RFC 7606 §7 and the RFCs after it say of each attribute known here.
pub(super) const RULES: [Rule; 17] = [
    rule(type_code::ORIGIN, WELL_KNOWN, Exactly(1), TreatAsWithdraw), // §7.1
    rule(type_code::AS_PATH, WELL_KNOWN, Any, TreatAsWithdraw),       // §7.2
    rule(type_code::NEXT_HOP, WELL_KNOWN, Exactly(4), TreatAsWithdraw), // §7.3
    rule(type_code::MED, OPTIONAL, Exactly(4), TreatAsWithdraw),      // §7.4
    internal(rule(type_code::LOCAL_PREF, WELL_KNOWN, Exactly(4), TreatAsWithdraw)), // §7.5
    rule(type_code::ATOMIC_AGGREGATE, WELL_KNOWN, Exactly(0), Discard), // §7.6
    rule(type_code::AGGREGATOR, OPTIONAL_TRANSITIVE, AggregatorLength, Discard), // §7.7
    rule(type_code::COMMUNITIES, OPTIONAL_TRANSITIVE, MultipleOf(4), TreatAsWithdraw), // §7.8
    internal(rule(type_code::ORIGINATOR_ID, OPTIONAL, Exactly(4), TreatAsWithdraw)), // §7.9
    internal(rule(type_code::CLUSTER_LIST, OPTIONAL, MultipleOf(4), TreatAsWithdraw)), // §7.10
    rule(type_code::MP_REACH, OPTIONAL, Any, Reset),                  // §7.11
    rule(type_code::MP_UNREACH, OPTIONAL, Any, Reset),                // §7.12
    rule(type_code::EXTENDED_COMMUNITIES, OPTIONAL_TRANSITIVE, MultipleOf(8), TreatAsWithdraw), // §7.14
    rule(type_code::AS4_PATH, OPTIONAL_TRANSITIVE, Any, Discard), // RFC 6793 §6
    rule(type_code::AS4_AGGREGATOR, OPTIONAL_TRANSITIVE, Exactly(8), Discard), // RFC 6793 §6
    rule(type_code::LARGE_COMMUNITIES, OPTIONAL_TRANSITIVE, MultipleOf(12), TreatAsWithdraw), // RFC 8092 §6
    rule(type_code::ONLY_TO_CUSTOMER, OPTIONAL_TRANSITIVE, Exactly(4), TreatAsWithdraw), // RFC 9234 §5
];

/// ORIGIN (RFC 4271 §5.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned by EGP.
    Egp,
    /// Learned some other way.
    Incomplete,
}

/// AGGREGATOR (RFC 4271 §5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    /// The AS that formed the aggregate.
    pub asn: Asn,
    /// Its speaker.
    pub address: Ipv4Addr,
}

/// An attribute that this speaker does not know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpaqueAttribute {
    /// Flags as they came, without the length bit.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: Vec<u8>,
}

/// The attributes of a route, without its next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, with four-octet numbers.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; only on sessions inside an AS.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES, EXTENDED COMMUNITIES and LARGE_COMMUNITY.
    pub communities: Communities,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub only_to_customer: Option<Asn>,
    /// Everything else, in the order received.
    pub opaque: Vec<OpaqueAttribute>,
}

impl Rule {
    /// The row of an attribute, if it has one.
    pub(super) fn find(code: u8) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.code == code)
    }
}

impl Length {
    pub(super) const fn allows(self, length: usize) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(exact) => length == exact,
            Self::MultipleOf(unit) => length != 0 && length.is_multiple_of(unit),
            Self::Aggregator => length == 6 || length == 8,
        }
    }
}

impl PathAttributes {
    /// Appends all attributes, in the order of their codes (RFC 4271 §5).
    pub(super) fn encode(&self, width: AsnWidth, next_hop: Option<Ipv4Addr>, out: &mut Vec<u8>) {
        use type_code as code;

        put(out, WELL_KNOWN, code::ORIGIN, &[self.origin as u8]);
        put(out, WELL_KNOWN, code::AS_PATH, &self.as_path.encode(width));
        if let Some(address) = next_hop {
            put(out, WELL_KNOWN, code::NEXT_HOP, &address.octets());
        }
        if let Some(med) = self.med {
            put(out, OPTIONAL, code::MED, &med.to_be_bytes());
        }
        if let Some(preference) = self.local_pref {
            put(out, WELL_KNOWN, code::LOCAL_PREF, &preference.to_be_bytes());
        }
        if self.atomic_aggregate {
            put(out, WELL_KNOWN, code::ATOMIC_AGGREGATE, &[]);
        }
        if let Some(aggregator) = self.aggregator {
            put(out, OPTIONAL_TRANSITIVE, code::AGGREGATOR, &aggregator.encode(width));
        }
        self.encode_communities(out);
        if width == AsnWidth::Two {
            self.encode_four_octet_shadows(out);
        }
        if let Some(Asn(asn)) = self.only_to_customer {
            put(out, OPTIONAL_TRANSITIVE, code::ONLY_TO_CUSTOMER, &asn.to_be_bytes());
        }
        for attribute in &self.opaque {
            put(out, attribute.flags, attribute.code, &attribute.value);
        }
    }

    fn encode_communities(&self, out: &mut Vec<u8>) {
        let Communities { standard, extended, large } = &self.communities;
        if !standard.is_empty() {
            let value: Vec<u8> =
                standard.iter().flat_map(|Community(value)| value.to_be_bytes()).collect();
            put(out, OPTIONAL_TRANSITIVE, type_code::COMMUNITIES, &value);
        }
        if !extended.is_empty() {
            let value: Vec<u8> =
                extended.iter().flat_map(|ExtendedCommunity(octets)| *octets).collect();
            put(out, OPTIONAL_TRANSITIVE, type_code::EXTENDED_COMMUNITIES, &value);
        }
        if !large.is_empty() {
            let value: Vec<u8> = large
                .iter()
                .flat_map(|LargeCommunity { global, local_1, local_2 }| [global, local_1, local_2])
                .flat_map(|word| word.to_be_bytes())
                .collect();
            put(out, OPTIONAL_TRANSITIVE, type_code::LARGE_COMMUNITIES, &value);
        }
    }

    /// RFC 6793 §4.2.2: what an old speaker cannot hold travels beside.
    fn encode_four_octet_shadows(&self, out: &mut Vec<u8>) {
        if self.as_path.needs_four_octets() {
            let value = self.as_path.encode(AsnWidth::Four);
            put(out, OPTIONAL_TRANSITIVE, type_code::AS4_PATH, &value);
        }
        if let Some(aggregator) = self.aggregator.filter(|a| a.asn.0 > u32::from(u16::MAX)) {
            let value = aggregator.encode(AsnWidth::Four);
            put(out, OPTIONAL_TRANSITIVE, type_code::AS4_AGGREGATOR, &value);
        }
    }
}

impl Aggregator {
    fn encode(self, width: AsnWidth) -> Vec<u8> {
        let mut value = match width {
            AsnWidth::Two => self.asn.two_octets().to_be_bytes().to_vec(),
            AsnWidth::Four => self.asn.0.to_be_bytes().to_vec(),
        };
        value.extend(self.address.octets());
        value
    }
}

/// Appends one attribute. RFC 4271 §4.3: the long form only where it is needed.
pub(super) fn put(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    let flags = flags & !flag::EXTENDED_LENGTH;
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags, code, length]),
        Err(_) => {
            out.extend([flags | flag::EXTENDED_LENGTH, code, 0, 0]);
            let at = out.len().saturating_sub(2);
            put_u16_at(out, at, value.len());
        }
    }
    out.extend_from_slice(value);
}
