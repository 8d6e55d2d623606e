//! Length-delimited messages on a byte stream: a varint, then that many bytes of protobuf.
//!
//! Sans-IO: the drivers push what they read and take whole messages out. The length is checked
//! against the limit before anything is kept for it, so a peer cannot make us hold more than one
//! message of the agreed size and one chunk.

use prost::{
    Message,
    bytes::{Buf, Bytes, BytesMut},
};
use thiserror::Error;

/// Collects bytes of a stream into messages of at most `bytes_max` bytes.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    bytes_max: usize,
}

/// Why a stream cannot be read any further.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes of a message are not that message.
    #[error("malformed message")]
    Malformed(#[from] prost::DecodeError),
    /// A message announces more bytes than agreed.
    #[error("message of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The announced length.
        length: u64,
        /// The agreed limit.
        limit: usize,
    },
    /// The length is not a varint.
    #[error("the length of a message is malformed")]
    Length,
}

impl FrameDecoder {
    /// A decoder of messages of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), bytes_max }
    }

    /// Takes in what was read from the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole message, if one has arrived.
    ///
    /// # Errors
    /// A message that is too long or malformed; the stream cannot be read any further.
    pub fn take<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let Some((header, length)) = self.header()? else { return Ok(None) };
        if self.buffer.len() - header < length {
            return Ok(None);
        }
        self.buffer.advance(header);
        Ok(Some(M::decode(self.buffer.split_to(length))?))
    }

    /// Sizes of the next message's header and body, once the header is whole.
    fn header(&self) -> Result<Option<(usize, usize)>, FrameError> {
        let mut length = 0_u64;
        for (index, byte) in self.buffer.iter().take(LENGTH_BYTES_MAX).enumerate() {
            length |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return match usize::try_from(length) {
                    Ok(body) if body <= self.bytes_max => Ok(Some((index + 1, body))),
                    _ => Err(FrameError::TooLong { length, limit: self.bytes_max }),
                };
            }
        }
        if self.buffer.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(FrameError::Length) }
    }
}

/// A message as it goes on the stream.
#[must_use]
pub fn frame(message: &impl Message) -> Bytes {
    message.encode_length_delimited_to_vec().into()
}

/// 35 bits, far above every limit; also keeps the shift below in range.
const LENGTH_BYTES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::Ack;

    fn ack(bytes: usize) -> Ack {
        Ack { revision: 0, digest: vec![7; bytes], refused: Vec::new() }
    }

    proptest! {
        #[test]
        fn messages_survive_any_split_of_the_stream(
            sizes in prop::collection::vec(0_usize..400, 0..8),
            chunk in 1_usize..64,
        ) {
            let sent: Vec<Ack> = sizes.into_iter().map(ack).collect();
            let stream: Vec<u8> = sent.iter().flat_map(frame).collect();

            let mut decoder = FrameDecoder::new(1024);
            let mut received = Vec::new();
            for chunk in stream.chunks(chunk) {
                decoder.push(chunk);
                while let Some(message) = decoder.take::<Ack>().unwrap() {
                    received.push(message);
                }
            }

            prop_assert_eq!(received, sent);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let mut decoder = FrameDecoder::new(64);
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.take::<Ack>() {}
        }
    }

    #[test]
    fn a_message_at_the_limit_passes_and_one_above_is_refused_by_its_header_alone() {
        let at_limit = ack(100);
        let limit = at_limit.encoded_len();
        let mut decoder = FrameDecoder::new(limit);
        decoder.push(&frame(&at_limit));
        assert_eq!(decoder.take(), Ok(Some(at_limit)));

        decoder.push(&frame(&ack(101))[..1]);

        let length = limit as u64 + 1;
        assert_eq!(decoder.take::<Ack>(), Err(FrameError::TooLong { length, limit }));
    }

    #[test]
    fn a_length_that_never_ends_is_refused() {
        let mut decoder = FrameDecoder::new(64);
        decoder.push(&[0xff; 4]);
        assert_eq!(decoder.take::<Ack>(), Ok(None));

        decoder.push(&[0xff]);

        assert_eq!(decoder.take::<Ack>(), Err(FrameError::Length));
    }
}
