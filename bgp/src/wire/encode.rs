//! UPDATE, sent: prefixes packed under one set of attributes into messages of at most
//! [`MESSAGE_BYTES_MAX`].

use std::iter::Peekable;
use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::as_path::AsnWidth;
use super::attribute::{PathAttributes, flag, put, type_code};
use super::block::Block;
use super::community::ExtendedCommunity;
use super::header::{self, MessageType, put_u16_at};
use super::next_hop::NextHop;
use super::nlri;
use super::reader::Reader;
use super::update::Codec;
use crate::limits::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use crate::types::{Asn, Family, PeerKind};

/// Attributes that leave no room for a single prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of attributes leave no room for a prefix")]
pub struct AttributesTooLarge {
    /// Bytes that the attributes need.
    pub bytes: usize,
}

/// Appends one UPDATE that announces as many of `prefixes` as fit; the rest stays in the iterator.
/// All prefixes are of the next hop's family.
///
/// # Errors
/// The attributes alone fill the message; nothing is appended or taken.
pub fn announce(
    attributes: &PathAttributes,
    next_hop: NextHop,
    prefixes: &mut Peekable<impl Iterator<Item = IpNet>>,
    codec: &Codec,
    out: &mut Vec<u8>,
) -> Result<(), AttributesTooLarge> {
    let mut block = Vec::new();
    match next_hop {
        NextHop::V4(address) => attributes.encode(codec.asn_width, Some(address), &mut block),
        NextHop::V6 { .. } => attributes.encode(codec.asn_width, None, &mut block),
    }
    // Flags, code and long length of MP_REACH; AFI, SAFI and next hop; the widest prefix.
    let overhead = if next_hop.family() == Family::Ipv4Unicast { 5 } else { 4 + 3 + 33 + 1 + 17 };
    let room = MESSAGE_BYTES_MAX - HEADER_BYTES - 4;
    let Some(room) = room.checked_sub(block.len()).filter(|room| *room >= overhead) else {
        return Err(AttributesTooLarge { bytes: block.len() });
    };
    match next_hop {
        NextHop::V4(_) => {
            let list = pack(prefixes, room);
            update(out, &[], &block, &list);
        }
        NextHop::V6 { .. } => {
            let mut value = family_head(Family::Ipv6Unicast);
            next_hop.encode(&mut value);
            value.push(0);
            let room = room.saturating_sub(value.len()).saturating_sub(4);
            value.extend(pack(prefixes, room));
            // RFC 7606 §5.1: MP_REACH first, so that a reader finds the prefixes.
            let mut all = Vec::new();
            put(&mut all, flag::OPTIONAL, type_code::MP_REACH, &value);
            all.append(&mut block);
            update(out, &[], &all, &[]);
        }
    }
    Ok(())
}

/// Appends one UPDATE that withdraws as many of `prefixes` as fit; the rest stays in the iterator.
/// All prefixes are of `family`.
pub fn withdraw(
    family: Family,
    prefixes: &mut Peekable<impl Iterator<Item = IpNet>>,
    out: &mut Vec<u8>,
) {
    let room = MESSAGE_BYTES_MAX - HEADER_BYTES - 4;
    match family {
        Family::Ipv4Unicast => update(out, &pack(prefixes, room), &[], &[]),
        Family::Ipv6Unicast => {
            let mut value = family_head(family);
            value.extend(pack(prefixes, room.saturating_sub(4 + 3)));
            let mut block = Vec::new();
            put(&mut block, flag::OPTIONAL, type_code::MP_UNREACH, &value);
            update(out, &[], &block, &[]);
        }
    }
}

/// What happens to attributes on their way to one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    pub(crate) peer_kind: PeerKind,
    pub(crate) width: AsnWidth,
    pub(crate) local_asn: Asn,
    /// NEXT_HOP, for IPv4 that is not carried by MP_REACH_NLRI.
    pub(crate) next_hop: Option<Ipv4Addr>,
    /// MED goes along: the route is ours, or policy said so.
    pub(crate) keeps_med: bool,
    /// ONLY_TO_CUSTOMER, as it is to leave (RFC 9234 §5).
    pub(crate) only_to_customer: Option<Asn>,
}

/// LOCAL_PREF of a route that has none, on a session inside an AS.
const LOCAL_PREF_DEFAULT: u32 = 100;

impl Passage {
    /// Appends the attributes of a block as the peer is to see them: RFC 4271 §5.1.2 to §5.1.5,
    /// RFC 4360 §6.
    pub(crate) fn write(&self, block: Block<'_>, out: &mut Vec<u8>) {
        if self.width == AsnWidth::Two {
            return self.write_values(block.decode(), out);
        }
        let mut inserts = Inserts::new(self, block);
        for attribute in block.attributes() {
            let (flags, value) = (attribute.flags, attribute.value);
            inserts.up_to(attribute.code, out);
            match (attribute.code, self.peer_kind) {
                (type_code::LOCAL_PREF | type_code::ONLY_TO_CUSTOMER, _) => {}
                (type_code::MED, PeerKind::External) if !self.keeps_med => {}
                (type_code::AS_PATH, PeerKind::External) => {
                    put_prepended(self.local_asn, flags, value, out);
                }
                (type_code::EXTENDED_COMMUNITIES, PeerKind::External) => {
                    put_transitive(flags, value, out);
                }
                (code, _) => put(out, flags, code, value),
            }
        }
        inserts.up_to(u8::MAX, out);
    }

    /// The same for attributes that policy has changed.
    pub(crate) fn write_values(&self, mut attributes: PathAttributes, out: &mut Vec<u8>) {
        match self.peer_kind {
            PeerKind::External => {
                attributes.as_path.0.insert(0, self.local_asn);
                attributes.local_pref = None;
                attributes.med = attributes.med.filter(|_| self.keeps_med);
                attributes.communities.extended.retain(|community| community.is_transitive());
            }
            PeerKind::Internal => {
                attributes.local_pref.get_or_insert(LOCAL_PREF_DEFAULT);
            }
        }
        attributes.only_to_customer = self.only_to_customer;
        attributes.encode(self.width, self.next_hop, out);
    }
}

/// Attributes that a passage adds, each before the first with a higher code.
struct Inserts {
    next_hop: Option<Ipv4Addr>,
    local_pref: Option<u32>,
    only_to_customer: Option<Asn>,
}

impl Inserts {
    fn new(passage: &Passage, block: Block<'_>) -> Self {
        let preference = || {
            let mut attributes = block.attributes();
            let found = attributes.find(|attribute| attribute.code == type_code::LOCAL_PREF);
            found.and_then(|attribute| Reader::new(attribute.value).u32().ok())
        };
        let internal = passage.peer_kind == PeerKind::Internal;
        Self {
            next_hop: passage.next_hop,
            local_pref: internal.then(|| preference().unwrap_or(LOCAL_PREF_DEFAULT)),
            only_to_customer: passage.only_to_customer,
        }
    }

    fn up_to(&mut self, code: u8, out: &mut Vec<u8>) {
        if code > type_code::NEXT_HOP
            && let Some(address) = self.next_hop.take()
        {
            put(out, flag::TRANSITIVE, type_code::NEXT_HOP, &address.octets());
        }
        if code > type_code::LOCAL_PREF
            && let Some(preference) = self.local_pref.take()
        {
            put(out, flag::TRANSITIVE, type_code::LOCAL_PREF, &preference.to_be_bytes());
        }
        if code > type_code::ONLY_TO_CUSTOMER
            && let Some(Asn(asn)) = self.only_to_customer.take()
        {
            let flags = flag::OPTIONAL | flag::TRANSITIVE;
            put(out, flags, type_code::ONLY_TO_CUSTOMER, &asn.to_be_bytes());
        }
    }
}

/// RFC 4360 §6: extended communities that are not transitive stay in their AS.
fn put_transitive(flags: u8, value: &[u8], out: &mut Vec<u8>) {
    let (communities, _none) = value.as_chunks();
    let is_transitive = |octets: &[u8; 8]| ExtendedCommunity(*octets).is_transitive();
    if communities.iter().all(is_transitive) {
        return put(out, flags, type_code::EXTENDED_COMMUNITIES, value);
    }
    let mut kept = Vec::with_capacity(value.len());
    kept.extend(communities.iter().filter(|octets| is_transitive(octets)).flatten());
    if !kept.is_empty() {
        put(out, flags, type_code::EXTENDED_COMMUNITIES, &kept);
    }
}

/// RFC 4271 §5.1.2 b: into the first segment, or one of its own if that is full.
fn put_prepended(Asn(asn): Asn, flags: u8, path: &[u8], out: &mut Vec<u8>) {
    const AS_SEQUENCE: u8 = 2;
    let (count, rest) = match path {
        [AS_SEQUENCE, count @ ..=254, rest @ ..] => (count.wrapping_add(1), rest),
        _ => (1, path),
    };
    let length = rest.len().saturating_add(6);
    match u8::try_from(length) {
        Ok(length) => out.extend([flags & !flag::EXTENDED_LENGTH, type_code::AS_PATH, length]),
        Err(_) => {
            out.extend([flags | flag::EXTENDED_LENGTH, type_code::AS_PATH, 0, 0]);
            let at = out.len().saturating_sub(2);
            put_u16_at(out, at, length);
        }
    }
    out.extend([AS_SEQUENCE, count]);
    out.extend(asn.to_be_bytes());
    out.extend_from_slice(rest);
}

/// Octets of an UPDATE besides its attributes and prefixes.
const FRAME_BYTES: usize = HEADER_BYTES + 4;

/// Appends UPDATEs that announce `list`, prefixes of `family` one after the other; how many.
///
/// # Errors
/// The attributes leave no room for a prefix; nothing is appended.
pub(crate) fn announce_list(
    family: Family,
    next_hop: NextHop,
    attributes: &[u8],
    mut list: &[u8],
    codec: &Codec,
    out: &mut Vec<u8>,
) -> Result<u64, AttributesTooLarge> {
    let legacy = matches!((family, next_hop), (Family::Ipv4Unicast, NextHop::V4(_)));
    let widest = usize::from(family.bits_max() / 8).saturating_add(1);
    // Flags, code and long length of MP_REACH; AFI, SAFI, next hop and the reserved octet.
    let reach_bytes = if legacy { 0 } else { 4 + 3 + 33 + 1 };
    let fixed = FRAME_BYTES.saturating_add(attributes.len()).saturating_add(reach_bytes);
    // RFC 8654 §4: only what does not fit a usual message needs a long one.
    let limits = [MESSAGE_BYTES_MAX, codec.message_bytes_max];
    let rooms = limits.into_iter().map(|limit| limit.saturating_sub(fixed));
    let Some(room) = rooms.into_iter().find(|room| *room >= widest) else {
        return Err(AttributesTooLarge { bytes: attributes.len() });
    };
    let mut messages = 0_u64;
    while !list.is_empty() {
        let (now, later) = split_list(list, room);
        list = later;
        messages = messages.saturating_add(1);
        header::encode(MessageType::Update, out, |out| {
            out.extend([0, 0]);
            let length_at = out.len();
            out.extend([0, 0]);
            if !legacy {
                // RFC 7606 §5.1: first, so that a reader finds the prefixes.
                put_reach(family, next_hop, now, out);
            }
            out.extend_from_slice(attributes);
            let length = out.len().saturating_sub(length_at).saturating_sub(2);
            put_u16_at(out, length_at, length);
            if legacy {
                out.extend_from_slice(now);
            }
        });
    }
    Ok(messages)
}

fn put_reach(family: Family, next_hop: NextHop, list: &[u8], out: &mut Vec<u8>) {
    out.extend([flag::OPTIONAL | flag::EXTENDED_LENGTH, type_code::MP_REACH, 0, 0]);
    let start = out.len();
    let (afi, safi) = family.codes();
    out.extend(afi.to_be_bytes());
    out.push(safi);
    next_hop.encode(out);
    out.push(0);
    out.extend_from_slice(list);
    let length = out.len().saturating_sub(start);
    put_u16_at(out, start.saturating_sub(2), length);
}

/// Appends UPDATEs that withdraw `list`, prefixes of `family` one after the other; how many.
pub(crate) fn withdraw_list(family: Family, mut list: &[u8], out: &mut Vec<u8>) -> u64 {
    let unreach_bytes = if family == Family::Ipv4Unicast { 0 } else { 4 + 3 };
    let room = MESSAGE_BYTES_MAX.saturating_sub(FRAME_BYTES).saturating_sub(unreach_bytes);
    let mut messages = 0_u64;
    while !list.is_empty() {
        let (now, later) = split_list(list, room);
        list = later;
        messages = messages.saturating_add(1);
        header::encode(MessageType::Update, out, |out| match family {
            Family::Ipv4Unicast => {
                let at = out.len();
                out.extend([0, 0]);
                put_u16_at(out, at, now.len());
                out.extend_from_slice(now);
                out.extend([0, 0]);
            }
            Family::Ipv6Unicast => {
                out.extend([0, 0]);
                let at = out.len();
                out.extend([0, 0]);
                let (afi, safi) = family.codes();
                out.extend([flag::OPTIONAL | flag::EXTENDED_LENGTH, type_code::MP_UNREACH, 0, 0]);
                put_u16_at(out, at.saturating_add(4), now.len().saturating_add(3));
                out.extend(afi.to_be_bytes());
                out.push(safi);
                out.extend_from_slice(now);
                let length = out.len().saturating_sub(at).saturating_sub(2);
                put_u16_at(out, at, length);
            }
        });
    }
    messages
}

/// Cuts a list of prefixes where `room` ends, never inside a prefix.
fn split_list(list: &[u8], room: usize) -> (&[u8], &[u8]) {
    if list.len() <= room {
        return (list, &[]);
    }
    let mut end = 0_usize;
    while let Some(bits) = list.get(end) {
        let next = end.saturating_add(1).saturating_add(usize::from(bits.div_ceil(8)));
        if next > room {
            break;
        }
        end = next;
    }
    list.split_at_checked(end).unwrap_or((list, &[]))
}

/// Appends End-of-RIB of a family (RFC 4724 §2).
pub fn end_of_rib(family: Family, out: &mut Vec<u8>) {
    withdraw(family, &mut std::iter::empty().peekable(), out);
}

/// Appends a KEEPALIVE.
pub fn keepalive(out: &mut Vec<u8>) {
    header::encode(MessageType::Keepalive, out, |_| ());
}

fn pack(prefixes: &mut Peekable<impl Iterator<Item = IpNet>>, room: usize) -> Vec<u8> {
    let mut list = Vec::new();
    while let Some(prefix) =
        prefixes.next_if(|prefix| list.len().saturating_add(nlri::encoded_bytes(prefix)) <= room)
    {
        nlri::encode(&prefix, &mut list);
    }
    list
}

fn family_head(family: Family) -> Vec<u8> {
    let (afi, safi) = family.codes();
    let mut head = afi.to_be_bytes().to_vec();
    head.push(safi);
    head
}

fn update(out: &mut Vec<u8>, withdrawn: &[u8], attributes: &[u8], announced: &[u8]) {
    header::encode(MessageType::Update, out, |out| {
        for section in [withdrawn, attributes] {
            let at = out.len();
            out.extend([0, 0]);
            put_u16_at(out, at, section.len());
            out.extend_from_slice(section);
        }
        out.extend_from_slice(announced);
    });
}

#[cfg(test)]
mod tests {
    use super::super::block;
    use super::*;

    #[test]
    fn only_communities_that_are_transitive_leave_their_as_by_either_way_of_writing() {
        let (stays, goes) = ([0x40, 2, 0, 0, 0, 0, 0, 1], [0, 2, 0, 0, 0, 0, 0, 1]);
        for (had, left) in [(vec![goes, stays], vec![goes]), (vec![stays], vec![])] {
            let mut attributes = PathAttributes::default();
            attributes.communities.extended = had.iter().copied().map(ExtendedCommunity).collect();
            let mut held = Vec::new();
            block::write(None, &attributes, &mut held);
            for (peer_kind, expected) in [(PeerKind::External, &left), (PeerKind::Internal, &had)] {
                let passage = Passage {
                    peer_kind,
                    width: AsnWidth::Four,
                    local_asn: Asn(65_010),
                    next_hop: None,
                    keeps_med: false,
                    only_to_customer: None,
                };
                let (mut bytes, mut values) = (Vec::new(), Vec::new());

                passage.write(Block::from_canonical(&held), &mut bytes);
                passage.write_values(attributes.clone(), &mut values);

                let value: Vec<u8> = expected.iter().flatten().copied().collect();
                let mut attribute = Vec::new();
                if !value.is_empty() {
                    put(&mut attribute, 0xc0, type_code::EXTENDED_COMMUNITIES, &value);
                }
                assert!(bytes.ends_with(&attribute), "{bytes:?}");
                assert_eq!(bytes, values);
            }
        }
    }
}
