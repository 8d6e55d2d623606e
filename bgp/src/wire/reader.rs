//! A bounded view of received bytes.
//!
//! Every read checks what is left and either advances or fails; a section with its own length
//! becomes a reader of its own ([`Reader::sub`]), so nothing inside can reach past its end and no
//! length of a peer enters arithmetic of ours.

/// Fewer bytes than the format needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{needed} bytes needed, {left} left")]
pub struct Short {
    /// Bytes that the format needs here.
    pub needed: usize,
    /// Bytes that are left.
    pub left: usize,
}

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes all that is left.
    pub const fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// [`Short`], and nothing is taken.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let short = Short { needed: count, left: self.rest.len() };
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes `count` bytes as a reader of their own.
    ///
    /// # Errors
    /// [`Short`], and nothing is taken.
    pub fn sub(&mut self, count: usize) -> Result<Self, Short> {
        self.take(count).map(Self::new)
    }

    /// Takes `N` bytes by value.
    ///
    /// # Errors
    /// [`Short`], and nothing is taken.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let short = Short { needed: N, left: self.rest.len() };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one octet.
    ///
    /// # Errors
    /// [`Short`], and nothing is taken.
    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(|[octet]| octet)
    }

    /// Takes two octets, most significant first.
    ///
    /// # Errors
    /// [`Short`], and nothing is taken.
    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    /// Takes four octets, most significant first.
    ///
    /// # Errors
    /// [`Short`], and nothing is taken.
    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_read_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);

        assert_eq!(reader.u32(), Err(Short { needed: 4, left: 3 }));
        assert_eq!(reader.u16(), Ok(0x0102));
        assert!(reader.sub(2).is_err());
        assert_eq!(reader.rest(), &[3]);
        assert!(reader.is_empty());
    }

    #[test]
    fn a_section_ends_where_its_length_says() {
        let mut reader = Reader::new(&[1, 2, 3]);

        let mut section = reader.sub(2).unwrap();

        assert!(section.u32().is_err());
        assert_eq!(section.remaining(), 2);
        assert_eq!(reader.remaining(), 1);
    }
}
