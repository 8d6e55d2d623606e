//! Where the running kernel keeps a field, by its own description of its types (BTF,
//! Documentation/bpf/btf.rst).
//!
//! The programs are not relocated, so what they read of a kernel structure has its offset from here.
//! The description is the kernel's and is believed no further than its length: what is not as it
//! should be has no such field.

use std::{fs, path::Path};

/// Name of the programs' constant.
pub(crate) const TIME_WAIT_EXPECTS_AT: &str = "TIME_WAIT_EXPECTS_AT";

/// Offset of the sequence number that a socket in `TIME_WAIT` expects next; 0 if nobody knows.
pub(crate) fn time_wait_expects_at() -> u32 {
    let types = fs::read(Path::new("/sys/kernel/btf/vmlinux"));
    let offset =
        types.ok().and_then(|it| Types::read(&it)?.offset("sock_common", "skc_tw_rcv_nxt"));
    if offset.is_none() {
        tracing::warn!("the kernel does not say where TIME_WAIT is: its sockets are never sure");
    }
    offset.unwrap_or_default()
}

/// Types of a kernel, and the places where they begin; numbers of types begin at 1.
struct Types<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    begins: Vec<usize>,
}

/// `struct btf_type`
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// Of members, parameters or values.
    count: usize,
    /// Offsets of members have their bits beside them.
    has_bits: bool,
}

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPE_LEN: usize = 12;
const MEMBER_LEN: usize = 12;
/// Anonymous structures within each other.
const DEPTH_MAX: u32 = 8;

impl<'a> Types<'a> {
    fn read(btf: &'a [u8]) -> Option<Self> {
        const MAGIC: u32 = 0xeb9f;
        let header = |at| word(btf, at).and_then(|word| usize::try_from(word).ok());
        if word(btf, 0)? & 0xffff != MAGIC {
            return None;
        }
        let body = btf.get(header(4)?..)?;
        let part = |at, len| body.get(at..)?.get(..len);
        let bytes = part(header(8)?, header(12)?)?;
        let strings = part(header(16)?, header(20)?)?;
        let mut types = Self { bytes, strings, begins: Vec::new() };
        let mut at = 0;
        while at < bytes.len() {
            let len = TYPE_LEN + types.at(at)?.rest()?;
            types.begins.push(at);
            at += len;
        }
        Some(types)
    }

    fn at(&self, at: usize) -> Option<Type> {
        let info = word(self.bytes, at + 4)?;
        let count = usize::try_from(info & 0xffff).ok()?;
        let name = word(self.bytes, at)?;
        Some(Type { name, kind: info >> 24 & 0x1f, count, has_bits: info >> 31 != 0 })
    }

    /// Bytes before `field` in the structure of this name.
    fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        let is_it = |at: &&usize| {
            self.at(**at).is_some_and(|it| it.kind == STRUCT && self.is_named(it.name, structure))
        };
        let bits = self.bits(*self.begins.iter().find(is_it)?, field, DEPTH_MAX)?;
        (bits % 8 == 0).then_some(bits / 8)
    }

    fn bits(&self, structure: usize, field: &str, depth: u32) -> Option<u32> {
        let it = self.at(structure).filter(|it| matches!(it.kind, STRUCT | UNION))?;
        (0..it.count).find_map(|number| {
            let at = structure + TYPE_LEN + number * MEMBER_LEN;
            let (name, of) = (word(self.bytes, at)?, word(self.bytes, at + 4)?);
            let offset = word(self.bytes, at + 8)?;
            let offset = if it.has_bits { offset & 0xff_ffff } else { offset };
            if self.is_named(name, field) {
                return Some(offset);
            }
            let number = usize::try_from(of).ok()?.checked_sub(1)?;
            let within = self.begins.get(number).filter(|_| self.is_named(name, ""))?;
            let deeper = self.bits(*within, field, depth.checked_sub(1)?)?;
            offset.checked_add(deeper)
        })
    }

    fn is_named(&self, at: u32, name: &str) -> bool {
        let rest = usize::try_from(at).ok().and_then(|at| self.strings.get(at..));
        rest.and_then(|it| it.strip_prefix(name.as_bytes()))
            .is_some_and(|it| it.first() == Some(&0))
    }
}

impl Type {
    /// Bytes that follow it.
    fn rest(self) -> Option<usize> {
        Some(match self.kind {
            // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
            2 | 7..=12 | 16 | 18 => 0,
            // Integer, variable, declaration tag.
            1 | 14 | 17 => 4,
            // Array.
            3 => 12,
            // Structure, union, section, 64-bit enumeration.
            STRUCT | UNION | 15 | 19 => 12 * self.count,
            // Enumeration, prototype.
            6 | 13 => 8 * self.count,
            _ => return None,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// `struct s { int a; union { int b; struct { int x; int c; }; }; }`
    fn described() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0c\0x\0int\0";
        let structure = |name, count| [name, STRUCT << 24 | count, 0];
        let types = [
            // 1: int
            &[11, 1 << 24, 4, 32][..],
            // 2: the innermost
            &structure(0, 2),
            &[9, 1, 0],
            &[7, 1, 32],
            // 3: the union
            &[0, UNION << 24 | 2, 8],
            &[5, 1, 0],
            &[0, 2, 0],
            // 4: s
            &structure(1, 2),
            &[3, 1, 0],
            &[0, 3, 64],
        ];
        let types = words(&types.concat());
        let [len, strings_len] = [types.len(), strings.len()].map(|it| u32::try_from(it).unwrap());
        let mut btf = words(&[0x1_eb9f, 24, 0, len, len, strings_len]);
        btf.extend(types);
        btf.extend(strings);
        btf
    }

    #[test]
    fn a_field_is_found_within_what_has_no_name() {
        let btf = described();
        let types = Types::read(&btf).unwrap();

        assert_eq!(types.offset("s", "a"), Some(0));
        assert_eq!(types.offset("s", "b"), Some(8));
        assert_eq!(types.offset("s", "c"), Some(12));
        assert_eq!(types.offset("s", "d"), None);
        assert_eq!(types.offset("t", "a"), None);
    }

    #[test]
    fn what_is_cut_short_or_changed_has_no_field_and_no_panic() {
        let btf = described();
        for len in 0..btf.len() {
            assert!(Types::read(&btf[..len]).is_none(), "{len} bytes");
        }
        for at in 0..btf.len() {
            for bit in 0..8 {
                let mut changed = btf.clone();
                changed[at] ^= 1 << bit;
                let _any = Types::read(&changed).and_then(|types| types.offset("s", "c"));
            }
        }
    }

    #[test]
    fn this_kernel_says_where_time_wait_is() {
        assert!((100..136).contains(&time_wait_expects_at()), "{}", time_wait_expects_at());
    }
}
