//! Codecs of others, as oracles: each reads a message and writes what it understood in its own words.
//!
//! Well-formed messages only: none of them is made to face a hostile peer. Where one of them is wrong,
//! what it writes is put right here, or left out by the test, and said so at its function.

use bgpkit_parser::models::{AsnLength, BgpMessage as BgpkitMessage};
use bgpkit_parser::parser::bgp::parse_bgp_message;
use bytes::Bytes;
use netgauze_bgp_pkt::BgpMessage as NetgauzeMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu as _;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput as _;
use zettabgp::message::attributes::BgpAttrItem;
use zettabgp::message::attributes::aspath::BgpASitem;
use zettabgp::message::{BgpMessageType, BgpUpdateMessage};
use zettabgp::{BgpMessage as _, BgpSessionParams, BgpTransportMode};

/// Reads an UPDATE and writes its body again.
pub type Oracle = fn(&[u8]) -> Option<Vec<u8>>;

const HEADER_BYTES: usize = 19;

/// bgpkit-parser. It takes a list of prefixes that begins with a default route for one with path
/// identifiers.
pub fn bgpkit(message: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Bytes::copy_from_slice(message);
    match parse_bgp_message(&mut bytes, false, &AsnLength::Bits32).ok()? {
        BgpkitMessage::Update(update) => Some(update.encode(AsnLength::Bits32).ok()?.to_vec()),
        _ => None,
    }
}

/// netgauze-bgp-pkt.
pub fn netgauze(message: &[u8]) -> Option<Vec<u8>> {
    let mut context = BgpParsingContext::default();
    let read = NetgauzeMessage::parse(&mut SliceReader::new(message), &mut context).ok()?;
    let mut written = Vec::new();
    read.write(&mut written).ok()?;
    written.get(HEADER_BYTES..).map(<[u8]>::to_vec)
}

/// zettabgp 0.6. It reads an AS_SEQUENCE as what it is, but writes it with the type of an AS_SET: the
/// type is put right. It writes ATOMIC_AGGREGATE and AGGREGATOR in lengths they do not have, and of an
/// IPv6 next hop with a link-local address keeps the global one alone: tests leave these out.
pub fn zettabgp(message: &[u8]) -> Option<Vec<u8>> {
    let mut session =
        BgpSessionParams::new(65_010, 90, BgpTransportMode::IPv4, [10, 0, 0, 1].into(), Vec::new());
    // Otherwise it takes some lists of prefixes for such with path identifiers.
    session.fuzzy_pathid = false;
    let (BgpMessageType::Update, bytes) = session.decode_message_head(message).ok()? else {
        return None;
    };
    let body = message.get(HEADER_BYTES..)?;
    if bytes != body.len() {
        return None;
    }
    let mut update = BgpUpdateMessage::new();
    update.decode_from(&session, body).ok()?;
    let is_sequence = |item: &BgpASitem| matches!(item, BgpASitem::Seq(_));
    let path = update.attrs.iter().find_map(|attribute| match attribute {
        BgpAttrItem::ASPath(path) => Some(path),
        _ => None,
    });
    if !path.is_some_and(|path| path.value.iter().all(is_sequence)) {
        return None;
    }
    let mut written = vec![0; usize::from(u16::MAX)];
    let bytes = update.encode_to(&session, &mut written).ok()?;
    written.truncate(bytes);
    make_sequences(&mut written);
    Some(written)
}

/// Gives every segment of the AS_PATH in the body of an UPDATE the type of an AS_SEQUENCE.
fn make_sequences(body: &mut [u8]) {
    const AS_PATH: u8 = 2;
    const AS_SEQUENCE: u8 = 2;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let mut at = 2 + number(&body[..2]);
    let end = at + 2 + number(&body[at..at + 2]);
    at += 2;
    while at < end {
        let (flags, code) = (body[at], body[at + 1]);
        let width = if flags & 0x10 == 0 { 1 } else { 2 };
        let value = at + 2 + width;
        let next = value + number(&body[at + 2..value]);
        let mut segment = value;
        while code == AS_PATH && segment < next {
            body[segment] = AS_SEQUENCE;
            segment += 2 + 4 * usize::from(body[segment + 1]);
        }
        at = next;
    }
}
