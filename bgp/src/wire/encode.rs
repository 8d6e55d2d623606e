//! UPDATE, sent: prefixes packed under one set of attributes into messages of at most
//! [`MESSAGE_BYTES_MAX`].

use std::iter::Peekable;

use ipnet::IpNet;

use super::attribute::{PathAttributes, flag, put, type_code};
use super::header::{self, MessageType, put_u16_at};
use super::next_hop::NextHop;
use super::nlri;
use super::update::Codec;
use crate::limits::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use crate::types::Family;

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
