//! A full table as one peer would send it: UPDATEs with the usual mix of lengths and attributes.
//!
//! Three in five prefixes are /24; an UPDATE carries five prefixes on average, most carry one or two
//! and a few a hundred; a quarter of the UPDATEs repeat attributes of an earlier one. The same seed
//! gives the same stream.

/// SplitMix64: enough to look like a table, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u64::from((mixed >> 32) as u32) * u64::from(sides)) >> 32) as u32
    }

    fn percent(&mut self, chance: u32) -> bool {
        self.roll(100) < chance
    }
}

/// One peer's table.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) updates: usize,
    pub(crate) attribute_sets: usize,
}

/// Prefixes one after the other, none inside another; the same for every peer.
pub(crate) fn prefixes(count: usize) -> Vec<(u32, u8)> {
    let mut dice = Dice(7);
    let mut next = 1_u32 << 24;
    let mut prefixes = Vec::with_capacity(count);
    while prefixes.len() < count {
        let bits = match dice.roll(100) {
            0..60 => 24,
            60..70 => 23,
            70..81 => 22,
            81..86 => 21,
            86..91 => 20,
            91..94 => 19,
            94..96 => 18,
            96..97 => 17,
            97..98 => 16,
            _ => 24,
        };
        let size = 1_u32 << (32 - bits);
        next = next.next_multiple_of(size);
        if matches!(next >> 24, 10 | 127) {
            next = ((next >> 24) + 1) << 24;
        }
        prefixes.push((next, bits));
        next += size;
    }
    prefixes
}

/// The UPDATEs of a peer, which announces all `prefixes` in an order of its own.
pub(crate) fn stream(prefixes: &[(u32, u8)], asn: u32, next_hop: [u8; 4], seed: u64) -> Stream {
    let mut dice = Dice(seed);
    let mut runs = Vec::new();
    let mut rest = prefixes;
    while !rest.is_empty() {
        let size = match dice.roll(100) {
            0..48 => 1,
            48..64 => 2,
            64..78 => 3 + dice.roll(2),
            78..91 => 5 + dice.roll(6),
            91..98 => 11 + dice.roll(20),
            _ => 31 + dice.roll(90),
        };
        let (run, later) = rest.split_at(rest.len().min(size as usize));
        runs.push(run);
        rest = later;
    }
    for at in (1..runs.len()).rev() {
        runs.swap(at, dice.roll(at as u32 + 1) as usize);
    }
    let mut sets: Vec<Vec<u8>> = Vec::new();
    let mut bytes = Vec::with_capacity(prefixes.len() * 22);
    for run in &runs {
        let at = if !sets.is_empty() && dice.percent(25) {
            dice.roll(sets.len() as u32) as usize
        } else {
            sets.push(attributes(&mut dice, asn, next_hop));
            sets.len() - 1
        };
        update(&mut bytes, &sets[at], run);
    }
    Stream { bytes, updates: runs.len(), attribute_sets: sets.len() }
}

/// Appends one UPDATE.
pub(crate) fn update(out: &mut Vec<u8>, attributes: &[u8], prefixes: &[(u32, u8)]) {
    let mut body = vec![0, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend_from_slice(attributes);
    for (address, bits) in prefixes {
        body.push(*bits);
        body.extend(&address.to_be_bytes()[..usize::from(bits.div_ceil(8))]);
    }
    message(out, 2, &body);
}

/// Appends one message.
pub(crate) fn message(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.extend([0xff; 16]);
    out.extend((body.len() as u16 + 19).to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
}

/// Attributes as the Internet has them.
pub(crate) fn attributes(dice: &mut Dice, asn: u32, next_hop: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, 0x40, 1, &[if dice.percent(96) { 0 } else { 2 }]);
    let hops = [2_u8, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 6, 6, 7, 8, 9][dice.roll(16) as usize];
    let mut path = vec![2, hops];
    path.extend(asn.to_be_bytes());
    for hop in 1..hops {
        let transit = hop + 1 < hops;
        let asn = if transit { 1000 + dice.roll(3000) } else { 100_000 + dice.roll(75_000) };
        path.extend(asn.to_be_bytes());
    }
    attribute(&mut out, 0x40, 2, &path);
    attribute(&mut out, 0x40, 3, &next_hop);
    if dice.percent(35) {
        attribute(&mut out, 0x80, 4, &dice.roll(500).to_be_bytes());
    }
    if dice.percent(4) {
        attribute(&mut out, 0x40, 6, &[]);
        let mut value = (20_000 + dice.roll(30_000)).to_be_bytes().to_vec();
        value.extend([192, 0, 2, 1]);
        attribute(&mut out, 0xc0, 7, &value);
    }
    if dice.percent(62) {
        let most = if dice.percent(30) { 14 } else { 5 };
        let high = 1000 + dice.roll(300);
        let count = 1 + dice.roll(most);
        let value = (0..count).flat_map(|_| (high << 16 | dice.roll(4000)).to_be_bytes());
        let value: Vec<_> = value.collect();
        attribute(&mut out, 0xc0, 8, &value);
    }
    if dice.percent(12) {
        let count = 1 + dice.roll(5);
        let value = (0..count * 3).flat_map(|_| (20_000 + dice.roll(900)).to_be_bytes());
        let value: Vec<_> = value.collect();
        attribute(&mut out, 0xc0, 32, &value);
    }
    out
}

fn attribute(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    out.extend([flags, code, value.len() as u8]);
    out.extend_from_slice(value);
}
