//! An UPDATE that has nothing wrong with it, read without copying or allocating.
//!
//! [`UpdateView::read`] takes well-formed messages of four-octet sessions, which are all but all of
//! them; of anything else it says nothing, and [`update::decode`](super::update::decode) decides, as
//! it alone knows what a fault costs. So the two can never disagree on a route: whatever is unusual
//! has one judge. (`tests/rib/view.rs` holds them against each other.)

use std::net::Ipv4Addr;

use super::as_path::AsnWidth;
use super::attribute::{RULES, Rule, flag, put, type_code as code};
use super::block;
use super::next_hop::NextHop;
use super::reader::Reader;
use super::update::Codec;
use crate::limits::AS_PATH_HOPS_MAX;
use crate::types::{Asn, Family, PeerKind};

/// Attributes that a message read here has at most; one with more is not usual.
const ATTRIBUTES_MAX: usize = 16;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct UpdateView<'a> {
    /// IPv4 prefixes no longer reached.
    pub withdrawn: &'a [u8],
    /// IPv4 prefixes reached by [`Self::next_hop`].
    pub announced: &'a [u8],
    /// NEXT_HOP.
    pub next_hop: Option<Ipv4Addr>,
    /// MP_REACH_NLRI.
    pub reach: Option<ReachView<'a>>,
    /// MP_UNREACH_NLRI: prefixes of a family no longer reached.
    pub unreach: Option<(Family, &'a [u8])>,
    /// End-of-RIB of this family, and nothing else.
    pub end_of_rib: Option<Family>,
    /// AS_PATH, as one value.
    as_path: &'a [u8],
    /// The section of attributes, which spans are parts of.
    section: &'a [u8],
    kept: [Span; ATTRIBUTES_MAX],
    count: usize,
}

/// Prefixes reached by a next hop of MP_REACH_NLRI.
#[derive(Clone, Copy, Debug)]
pub struct ReachView<'a> {
    /// Family of the prefixes.
    pub family: Family,
    /// Where packets go.
    pub next_hop: NextHop,
    /// The prefixes.
    pub announced: &'a [u8],
}

/// One attribute: small, as a view is built for every message.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    flags: u8,
    code: u8,
    start: u16,
    bytes: u16,
}

impl<'a> UpdateView<'a> {
    /// Reads the body of an UPDATE; nothing if it is not as usual.
    #[must_use]
    pub fn read(body: &'a [u8], codec: &Codec) -> Option<Self> {
        if codec.asn_width != AsnWidth::Four {
            return None;
        }
        let mut reader = Reader::new(body);
        let withdrawn_bytes = reader.u16().ok()?;
        let withdrawn = reader.take(usize::from(withdrawn_bytes)).ok()?;
        let attribute_bytes = reader.u16().ok()?;
        let section = reader.take(usize::from(attribute_bytes)).ok()?;
        let announced = reader.rest();
        let mut view = Self {
            withdrawn,
            announced,
            next_hop: None,
            reach: None,
            unreach: None,
            end_of_rib: None,
            as_path: &[],
            section,
            kept: [Span::default(); ATTRIBUTES_MAX],
            count: 0,
        };
        let legacy = !withdrawn.is_empty() || !announced.is_empty();
        if legacy && !codec.families.ipv4
            || !is_list_of(withdrawn, Family::Ipv4Unicast)
            || !is_list_of(announced, Family::Ipv4Unicast)
        {
            return None;
        }
        let seen = view.read_attributes(codec)?;
        view.judge(seen, codec).then_some(view)
    }

    /// Appends the block of everything that is reached by `next_hop`.
    pub fn write_block(&self, next_hop: NextHop, out: &mut Vec<u8>) {
        block::write_next_hop(Some(next_hop), out);
        for span in self.kept.iter().take(self.count) {
            let value = self.section.get(usize::from(span.start)..).unwrap_or_default();
            let value = value.get(..usize::from(span.bytes)).unwrap_or_default();
            put(out, span.flags, span.code, value);
        }
    }

    /// Whether the path goes through `asn`.
    #[must_use]
    pub fn path_contains(&self, asn: Asn) -> bool {
        path_contains(self.as_path, asn)
    }

    /// Reads all attributes; which there were, or nothing.
    fn read_attributes(&mut self, codec: &Codec) -> Option<Seen> {
        let mut section = Reader::new(self.section);
        let mut seen = Seen::default();
        while !section.is_empty() {
            let [flags, code] = section.array().ok()?;
            let length = if flags & flag::EXTENDED_LENGTH == 0 {
                usize::from(section.u8().ok()?)
            } else {
                usize::from(section.u16().ok()?)
            };
            let value = section.take(length).ok()?;
            if seen.contains(code) {
                return None;
            }
            seen.insert(code);
            let end = self.section.len().checked_sub(section.remaining())?;
            self.read_attribute(flags, code, value, end, codec)?;
        }
        Some(seen)
    }

    fn read_attribute(
        &mut self,
        flags: u8,
        code: u8,
        value: &'a [u8],
        end: usize,
        codec: &Codec,
    ) -> Option<()> {
        let span = |flags: u8| {
            let start = u16::try_from(end.checked_sub(value.len())?).ok()?;
            let flags = flags & (flag::OPTIONAL | flag::TRANSITIVE | flag::PARTIAL);
            Some(Span { flags, code, start, bytes: u16::try_from(value.len()).ok()? })
        };
        let kind = flags & (flag::OPTIONAL | flag::TRANSITIVE);
        let Some(Some(rule)) = ROWS.get(usize::from(code)) else {
            // RFC 4271 §9: passed on as partial, or not at all.
            return match kind {
                flag::OPTIONAL => Some(()),
                _ if kind & flag::OPTIONAL == 0 => None,
                _ => self.keep(span(flags | flag::PARTIAL)?),
            };
        };
        let partial_allowed = rule.flags == flag::OPTIONAL | flag::TRANSITIVE;
        if kind != rule.flags
            || (flags & flag::PARTIAL != 0 && !partial_allowed)
            || (rule.internal_only && codec.peer_kind == PeerKind::External)
            || !rule.length.allows(value.len())
        {
            return None;
        }
        let mut reader = Reader::new(value);
        match code {
            code::ORIGIN if reader.u8().ok()? > 2 => return None,
            code::AS_PATH => {
                if !is_plain_path(value, codec.peer_kind) {
                    return None;
                }
                self.as_path = value;
            }
            code::NEXT_HOP => {
                self.next_hop = Some(reader.array::<4>().ok()?.into());
                return Some(());
            }
            code::MP_REACH => return self.read_reach(reader, codec),
            code::MP_UNREACH => return self.read_unreach(reader, codec),
            code::AGGREGATOR if value.len() != 8 || reader.u32().ok()? == 0 => return None,
            code::ONLY_TO_CUSTOMER if reader.u32().ok()? == 0 => return None,
            // What only route reflectors and old speakers send is left to the other decoder.
            code::ORIGINATOR_ID | code::CLUSTER_LIST | code::AS4_PATH | code::AS4_AGGREGATOR => {
                return None;
            }
            _ => {}
        }
        self.keep(span(flags & flag::PARTIAL | rule.flags)?)
    }

    /// Keeps an attribute at its place in the order of codes.
    fn keep(&mut self, span: Span) -> Option<()> {
        let used = self.kept.get(..self.count)?;
        let at =
            used.iter().rposition(|kept| kept.code < span.code).map_or(0, |at| at.wrapping_add(1));
        let tail = self.kept.get_mut(at..=self.count)?;
        tail.rotate_right(1);
        *tail.first_mut()? = span;
        self.count = self.count.wrapping_add(1);
        Some(())
    }

    fn read_reach(&mut self, mut reader: Reader<'a>, codec: &Codec) -> Option<()> {
        let family = Family::from_codes(reader.u16().ok()?, reader.u8().ok()?)?;
        let bytes = reader.u8().ok()?;
        let next_hop = codec.next_hop(reader.take(usize::from(bytes)).ok()?, family)?;
        let _reserved = reader.u8().ok()?;
        let announced = reader.rest();
        let usable = codec.families.contains(family) && codec.admits_next_hop(next_hop);
        if !usable || !is_list_of(announced, family) {
            return None;
        }
        self.reach = Some(ReachView { family, next_hop, announced });
        Some(())
    }

    fn read_unreach(&mut self, mut reader: Reader<'a>, codec: &Codec) -> Option<()> {
        let family = Family::from_codes(reader.u16().ok()?, reader.u8().ok()?)?;
        let withdrawn = reader.rest();
        if !codec.families.contains(family) || !is_list_of(withdrawn, family) {
            return None;
        }
        self.unreach = Some((family, withdrawn));
        Some(())
    }

    /// Whether nothing is missing, once everything has been read.
    fn judge(&mut self, seen: Seen, codec: &Codec) -> bool {
        if self.reach.is_some() || !self.announced.is_empty() {
            let first = self.as_path.get(2..).and_then(|hops| Reader::new(hops).u32().ok());
            let admitted = |address| codec.admits_next_hop(NextHop::V4(address));
            let external = codec.peer_kind == PeerKind::External;
            return seen.contains(code::ORIGIN)
                && seen.contains(code::AS_PATH)
                && (external || seen.contains(code::LOCAL_PREF))
                && codec.admits_first_as(first.map(Asn))
                && (self.announced.is_empty() || self.next_hop.is_some_and(admitted));
        }
        if self.withdrawn.is_empty() {
            // RFC 4724 §2: End-of-RIB is an UPDATE that says nothing else.
            self.end_of_rib = match self.unreach {
                None if seen.is_empty() => codec.families.ipv4.then_some(Family::Ipv4Unicast),
                Some((family, [])) if seen.count() == 1 => Some(family),
                _ => None,
            };
        }
        true
    }
}

/// The rows of [`RULES`] by their codes; a code beyond has none.
#[expect(clippy::indexing_slicing, reason = "beyond either end it would not compile")]
static ROWS: [Option<Rule>; 64] = {
    let mut rows = [None; 64];
    let mut at = 0;
    while at < RULES.len() {
        rows[RULES[at].code as usize] = Some(RULES[at]);
        at += 1;
    }
    rows
};

/// Attributes met so far.
#[derive(Clone, Copy, Debug, Default)]
struct Seen([u64; 4]);

impl Seen {
    fn contains(&self, code: u8) -> bool {
        self.0.get(usize::from(code >> 6)).is_some_and(|word| word >> (code & 63) & 1 != 0)
    }

    fn insert(&mut self, code: u8) {
        if let Some(word) = self.0.get_mut(usize::from(code >> 6)) {
            *word |= 1 << (code & 63);
        }
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// Whether a path is AS_SEQUENCEs of a bearable length, without AS 0, and fits the peer's kind.
fn is_plain_path(value: &[u8], peer_kind: PeerKind) -> bool {
    const AS_SEQUENCE: u8 = 2;
    let mut reader = Reader::new(value);
    let mut hops = 0_usize;
    while !reader.is_empty() {
        let Ok([AS_SEQUENCE, count @ 1..=u8::MAX]) = reader.array() else { return false };
        let Ok(segment) = reader.take(usize::from(count).wrapping_mul(4)) else { return false };
        if segment.chunks_exact(4).any(|asn| asn == [0; 4]) {
            return false;
        }
        hops = hops.wrapping_add(usize::from(count));
    }
    hops <= AS_PATH_HOPS_MAX && (hops > 0 || peer_kind == PeerKind::Internal)
}

/// Whether a plain path of four-octet numbers goes through `asn`.
pub(crate) fn path_contains(path: &[u8], Asn(asn): Asn) -> bool {
    let mut reader = Reader::new(path);
    let asn = asn.to_be_bytes();
    while let Ok([_, count]) = reader.array() {
        let Ok(segment) = reader.take(usize::from(count).wrapping_mul(4)) else { return false };
        if segment.chunks_exact(4).any(|hop| hop == asn) {
            return true;
        }
    }
    false
}

/// Whether a section is unicast prefixes of `family` from end to end.
fn is_list_of(mut list: &[u8], family: Family) -> bool {
    let bits_max = family.bits_max();
    let (multicast_bits, multicast) = match family {
        Family::Ipv4Unicast => (4, 0xe0..=0xef),
        Family::Ipv6Unicast => (8, 0xff..=0xff),
    };
    while let [bits, rest @ ..] = list {
        let first = rest.first().is_some_and(|octet| multicast.contains(octet));
        let Some(rest) = rest.get(usize::from(bits.div_ceil(8))..) else { return false };
        if *bits > bits_max || (first && *bits >= multicast_bits) {
            return false;
        }
        list = rest;
    }
    true
}
