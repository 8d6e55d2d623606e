//! Codecs of others, as oracles: each reads a message and writes what it understood in its own words.
//!
//! Well-formed messages only: none of them is made to face a hostile peer. Not among them is zettabgp
//! 0.6, which writes an AS_SEQUENCE with the type of an AS_SET.

use bgpkit_parser::models::{AsnLength, BgpMessage as BgpkitMessage};
use bgpkit_parser::parser::bgp::parse_bgp_message;
use bytes::Bytes;
use netgauze_bgp_pkt::BgpMessage as NetgauzeMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu as _;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput as _;

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
