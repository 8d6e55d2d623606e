//! Writing pcapng (draft-ietf-opsawg-pcapng): as much of it as captures need.
//!
//! One section, Ethernet interfaces, enhanced packet blocks with a comment. Nothing is kept: each
//! block is whole when it is written, so a file that breaks off ends with a block.

use std::io::{self, Write};

/// Writes blocks.
pub(super) struct Writer<W> {
    out: W,
    interfaces: u32,
}

/// An interface of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface(u32);

/// One frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) interface: Interface,
    /// Nanoseconds since 1970.
    pub(super) at_ns: u64,
    /// Bytes of the frame when it was captured.
    pub(super) len: u32,
    /// The first bytes of it.
    pub(super) data: &'a [u8],
    pub(super) comment: &'a str,
}

/// Longest comment; a longer one is cut.
const COMMENT_BYTES_MAX: usize = 1024;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const END_OF_OPTIONS: u16 = 0;

impl<W: Write> Writer<W> {
    /// Begins the section.
    pub(super) fn begin(out: W, application: &str) -> io::Result<Self> {
        const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
        const VERSION: [u16; 2] = [1, 0];
        const LENGTH_UNKNOWN: u64 = u64::MAX;
        const USER_APPLICATION: u16 = 4;
        let mut writer = Self { out, interfaces: 0 };
        let mut body = BYTE_ORDER_MAGIC.to_le_bytes().to_vec();
        body.extend(VERSION.map(u16::to_le_bytes).concat());
        body.extend(LENGTH_UNKNOWN.to_le_bytes());
        option(&mut body, USER_APPLICATION, application.as_bytes());
        option(&mut body, END_OF_OPTIONS, &[]);
        writer.block(SECTION_HEADER, &body)?;
        Ok(writer)
    }

    /// Adds an Ethernet interface.
    pub(super) fn interface(&mut self, name: &str, snap_len: u32) -> io::Result<Interface> {
        const ETHERNET: u16 = 1;
        const NAME: u16 = 2;
        const TIME_RESOLUTION: u16 = 9;
        const NANOSECONDS: u8 = 9;
        let mut body = ETHERNET.to_le_bytes().to_vec();
        body.extend([0; 2]);
        body.extend(snap_len.to_le_bytes());
        option(&mut body, NAME, cut(name).as_bytes());
        option(&mut body, TIME_RESOLUTION, &[NANOSECONDS]);
        option(&mut body, END_OF_OPTIONS, &[]);
        self.block(INTERFACE_DESCRIPTION, &body)?;
        let interface = Interface(self.interfaces);
        self.interfaces += 1;
        Ok(interface)
    }

    /// Adds a frame.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        const COMMENT: u16 = 1;
        let Packet { interface, at_ns, len, data, comment } = *packet;
        let captured = u32::try_from(data.len()).map_err(io::Error::other)?;
        let [high, low] = [at_ns >> 32, at_ns & 0xffff_ffff];
        let mut body = Vec::with_capacity(data.len() + comment.len() + 48);
        for word in [u64::from(interface.0), high, low, captured.into(), len.max(captured).into()] {
            body.extend(u32::try_from(word).map_err(io::Error::other)?.to_le_bytes());
        }
        body.extend(data);
        pad(&mut body);
        option(&mut body, COMMENT, cut(comment).as_bytes());
        option(&mut body, END_OF_OPTIONS, &[]);
        self.block(ENHANCED_PACKET, &body)
    }

    /// What was written is where it should be.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        const FRAME: usize = 12;
        let len = u32::try_from(body.len() + FRAME).map_err(io::Error::other)?;
        let (kind, len) = (kind.to_le_bytes(), len.to_le_bytes());
        self.out.write_all(&[&kind, &len, body, &len].concat())
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_le_bytes());
    body.extend(len.to_le_bytes());
    body.extend(value.iter().take(len.into()));
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(COMMENT_BYTES_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type and length of each block; both lengths are compared.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, usize)> {
        let word =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let len = word(bytes, 4) as usize;
            assert_eq!(word(bytes, len - 4) as usize, len);
            blocks.push((word(bytes, 0), len));
            bytes = &bytes[len..];
        }
        blocks
    }

    #[test]
    fn blocks_are_whole_and_their_lengths_are_multiples_of_four() {
        let mut writer = Writer::begin(Vec::new(), "isocast").unwrap();
        let interface = writer.interface("edge in", 192).unwrap();
        for len in 0..5 {
            let (data, comment) = (&[7; 5][..len], &"ä".repeat(COMMENT_BYTES_MAX)[..len * 2]);
            let packet = Packet { interface, at_ns: u64::MAX, len: 9, data, comment };
            writer.packet(&packet).unwrap();
        }
        let long = "x".repeat(COMMENT_BYTES_MAX + 1);
        let packet = Packet { interface, at_ns: 0, len: 0, data: &[], comment: &long };
        writer.packet(&packet).unwrap();

        let blocks = blocks(&writer.out);

        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION_HEADER, INTERFACE_DESCRIPTION, 6, 6, 6, 6, 6, 6]);
        assert!(blocks.iter().all(|(_, len)| len % 4 == 0), "{blocks:?}");
        assert_eq!(blocks.last().unwrap().1, 12 + 20 + 4 + COMMENT_BYTES_MAX + 4);
    }
}
