//! The canonical form of a route's attributes: what the table stores, compares and hashes.
//!
//! ```text
//!  0        1              n            n+1    n+2    n+3
//! +--------+--------------+------------+------+------+--------+-------
//! | n      | next hop     | flags      | code | len  | value  | ...
//! +--------+--------------+------------+------+------+--------+-------
//! ```
//! `n` is 0 for "ourselves", 4, 16, or 32 with a link-local address beside the global one. Attributes
//! are in the order of their codes, their numbers have four octets, and the long form of the length
//! is used only where it is needed. NEXT_HOP, MP_REACH_NLRI and the AS4 shadows are not among them.
//!
//! Invariant: every byte in here has passed [`view`](super::view) or was written by this speaker, so
//! readers need no faults; bytes that cannot be read are simply not there.

use super::as_path::{AsPath, AsnWidth};
use super::attribute::{
    Aggregator, OpaqueAttribute, Origin, PathAttributes, flag, put, type_code as code,
};
use super::community::{Community, ExtendedCommunity, LargeCommunity};
use super::next_hop::NextHop;
use super::reader::Reader;
use crate::types::Asn;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a>(&'a [u8]);

/// One attribute of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) flags: u8,
    pub(crate) code: u8,
    pub(crate) value: &'a [u8],
}

/// The attributes of a block, in the order of their codes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(Reader<'a>);

impl<'a> Block<'a> {
    /// A block that [`UpdateView`](super::view::UpdateView) or this speaker wrote. Of anything else
    /// it shows what can be read.
    #[must_use]
    pub const fn from_canonical(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Where packets go; nothing: to ourselves.
    #[must_use]
    pub fn next_hop(self) -> Option<NextHop> {
        let (octets, _) = self.split();
        let mut reader = Reader::new(octets);
        match octets.len() {
            4 => Some(NextHop::V4(reader.array::<4>().ok()?.into())),
            16 | 32 => Some(NextHop::V6 {
                global: reader.array::<16>().ok()?.into(),
                link_local: reader.array::<16>().ok().map(Into::into),
            }),
            _ => None,
        }
    }

    pub(crate) fn attributes(self) -> Attributes<'a> {
        Attributes(Reader::new(self.split().1))
    }

    fn split(self) -> (&'a [u8], &'a [u8]) {
        let Some((length, rest)) = self.0.split_first() else { return (&[], &[]) };
        rest.split_at_checked(usize::from(*length)).unwrap_or((&[], &[]))
    }

    /// The attributes as values.
    #[must_use]
    pub fn decode(self) -> PathAttributes {
        let mut attributes = PathAttributes::default();
        for attribute in self.attributes() {
            attribute.read_into(&mut attributes);
        }
        attributes
    }
}

/// Appends the block of `attributes`.
pub(crate) fn write(next_hop: Option<NextHop>, attributes: &PathAttributes, out: &mut Vec<u8>) {
    write_next_hop(next_hop, out);
    let start = out.len();
    attributes.encode(AsnWidth::Four, None, out);
    let unsorted = out.split_off(start);
    let mut all: Vec<_> = Attributes(Reader::new(&unsorted)).collect();
    all.sort_by_key(|attribute| attribute.code);
    for attribute in all {
        put(out, attribute.flags, attribute.code, attribute.value);
    }
}

/// Appends the head of a block.
pub(crate) fn write_next_hop(next_hop: Option<NextHop>, out: &mut Vec<u8>) {
    match next_hop {
        None => out.push(0),
        Some(next_hop) => next_hop.encode(out),
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let [flags, code] = self.0.array().ok()?;
        let length = if flags & flag::EXTENDED_LENGTH == 0 {
            usize::from(self.0.u8().ok()?)
        } else {
            usize::from(self.0.u16().ok()?)
        };
        Some(Attribute { flags, code, value: self.0.take(length).ok()? })
    }
}

impl Attribute<'_> {
    fn read_into(self, attributes: &mut PathAttributes) {
        let mut reader = Reader::new(self.value);
        let communities = &mut attributes.communities;
        match self.code {
            code::ORIGIN => attributes.origin = origin(self.value),
            code::AS_PATH => {
                attributes.as_path = AsPath::decode(self.value, AsnWidth::Four).unwrap_or_default();
            }
            code::MED => attributes.med = reader.u32().ok(),
            code::LOCAL_PREF => attributes.local_pref = reader.u32().ok(),
            code::ATOMIC_AGGREGATE => attributes.atomic_aggregate = true,
            code::AGGREGATOR => {
                if let (Ok(asn), Ok(address)) = (reader.u32(), reader.array::<4>()) {
                    attributes.aggregator =
                        Some(Aggregator { asn: Asn(asn), address: address.into() });
                }
            }
            code::COMMUNITIES => {
                while let Ok(word) = reader.u32() {
                    communities.standard.insert(Community(word));
                }
            }
            code::EXTENDED_COMMUNITIES => {
                while let Ok(octets) = reader.array::<8>() {
                    communities.extended.insert(ExtendedCommunity(octets));
                }
            }
            code::LARGE_COMMUNITIES => {
                while let (Ok(global), Ok(local_1), Ok(local_2)) =
                    (reader.u32(), reader.u32(), reader.u32())
                {
                    communities.large.insert(LargeCommunity { global, local_1, local_2 });
                }
            }
            code::ONLY_TO_CUSTOMER => {
                attributes.only_to_customer = reader.u32().ok().map(Asn);
            }
            _ => attributes.opaque.push(OpaqueAttribute {
                flags: self.flags & !flag::EXTENDED_LENGTH,
                code: self.code,
                value: self.value.to_vec(),
            }),
        }
    }
}

pub(crate) fn origin(value: &[u8]) -> Origin {
    match value {
        [1] => Origin::Egp,
        [2] => Origin::Incomplete,
        _ => Origin::Igp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::community::Communities;

    #[test]
    fn what_is_written_is_read_back() {
        let attributes = PathAttributes {
            origin: Origin::Incomplete,
            as_path: AsPath(vec![Asn(65_001), Asn(4_200_000_001)]),
            med: Some(7),
            local_pref: Some(200),
            atomic_aggregate: true,
            aggregator: Some(Aggregator { asn: Asn(65_001), address: [192, 0, 2, 1].into() }),
            communities: Communities::parse(["65001:1", "no-export", "65001:1:2"]).unwrap(),
            only_to_customer: Some(Asn(65_001)),
            opaque: vec![OpaqueAttribute { flags: 0xe0, code: 20, value: vec![9; 300] }],
        };
        for next_hop in [
            None,
            NextHop::new([192, 0, 2, 1].into()),
            Some(NextHop::V6 {
                global: "2001:db8::1".parse().unwrap(),
                link_local: Some("fe80::1".parse().unwrap()),
            }),
        ] {
            let mut bytes = Vec::new();
            write(next_hop, &attributes, &mut bytes);
            let block = Block::from_canonical(&bytes);

            assert_eq!(block.next_hop(), next_hop);
            assert_eq!(block.decode(), attributes);
            let codes: Vec<_> = block.attributes().map(|attribute| attribute.code).collect();
            assert!(codes.is_sorted(), "{codes:?}");
        }
    }
}
