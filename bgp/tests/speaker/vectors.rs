//! UPDATE bodies, well-formed and not, by hand.

use isocast_bgp::types::PeerKind;
use isocast_bgp::wire::update::Codec;

pub(crate) const WELL_KNOWN: u8 = 0x40;
pub(crate) const OPTIONAL: u8 = 0x80;
pub(crate) const TRANSITIVE: u8 = 0xc0;

/// 192.0.2.1/32.
pub(crate) const NLRI: [u8; 5] = [32, 192, 0, 2, 1];

pub(crate) const EXTERNAL: Codec = Codec::new(PeerKind::External);

/// One attribute with its length.
pub(crate) fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags, code];
    if flags & 0x10 == 0 {
        bytes.push(u8::try_from(value.len()).unwrap());
    } else {
        bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    }
    bytes.extend(value);
    bytes
}

pub(crate) fn origin() -> Vec<u8> {
    attribute(WELL_KNOWN, 1, &[0])
}

pub(crate) fn as_path() -> Vec<u8> {
    attribute(WELL_KNOWN, 2, &[2, 2, 0, 0, 0xfd, 0xe9, 0, 1, 0x11, 0x70])
}

pub(crate) fn next_hop() -> Vec<u8> {
    attribute(WELL_KNOWN, 3, &[10, 0, 0, 1])
}

/// The mandatory attributes, without the ones whose codes are listed, and others after them.
pub(crate) fn attributes(without: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mandatory = [origin(), as_path(), next_hop()];
    let kept = mandatory.iter().filter(|attribute| !without.contains(&attribute[1]));
    kept.chain(others).flatten().copied().collect()
}

/// MP_REACH_NLRI of IPv6 unicast.
pub(crate) fn mp_reach(next_hop: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut value = vec![0, 2, 1, u8::try_from(next_hop.len()).unwrap()];
    value.extend(next_hop);
    value.push(0);
    value.extend(nlri);
    attribute(OPTIONAL, 14, &value)
}

/// 2001:db8::1.
pub(crate) const NEXT_HOP_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// 2001:db8::/32.
pub(crate) const NLRI_V6: [u8; 5] = [32, 0x20, 1, 0xd, 0xb8];

/// A body with right section lengths.
pub(crate) fn body(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for section in [withdrawn, attributes] {
        body.extend(u16::try_from(section.len()).unwrap().to_be_bytes());
        body.extend(section);
    }
    body.extend(nlri);
    body
}
