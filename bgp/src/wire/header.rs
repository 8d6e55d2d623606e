//! Message header and framing (RFC 4271 §4.1).
//!
//! [`Deframer`] turns a byte stream into whole messages. It holds at most one message: the header
//! is judged as soon as it is there, before a byte of the body is waited for.

use super::notification::{Notification, code, header};
use super::reader::Reader;
use crate::limits::{HEADER_BYTES, MESSAGE_BYTES_MAX};

/// The type octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// 1, RFC 4271 §4.2.
    Open,
    /// 2, RFC 4271 §4.3.
    Update,
    /// 3, RFC 4271 §4.5.
    Notification,
    /// 4, RFC 4271 §4.4.
    Keepalive,
    /// 5, RFC 2918 §3.
    RouteRefresh,
}

/// A header that ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The marker is not all ones: the stream is out of step.
    #[error("marker is not all ones")]
    Marker,
    /// Too short or too long, for any message or for this type.
    #[error("message length {length}")]
    Length {
        /// The length received.
        length: u16,
    },
    /// No such type, or one that was not negotiated.
    #[error("message type {code}")]
    Type {
        /// The type received.
        code: u8,
    },
    /// A ROUTE-REFRESH that is not four octets (RFC 7313 §5).
    #[error("route refresh of length {length}")]
    RefreshLength {
        /// The length received.
        length: u16,
    },
}

/// Reassembles messages from a byte stream.
#[derive(Debug, Default)]
pub struct Deframer {
    held: Vec<u8>,
}

impl MessageType {
    /// The octet on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }
}

impl HeaderFault {
    /// What the peer is told (RFC 4271 §6.1).
    #[must_use]
    pub fn notification(self) -> Notification {
        match self {
            Self::Marker => Notification::new(code::HEADER, header::NOT_SYNCHRONIZED),
            Self::Length { length } => {
                Notification::with_data(code::HEADER, header::BAD_LENGTH, &length.to_be_bytes())
            }
            Self::Type { code: octet } => {
                Notification::with_data(code::HEADER, header::BAD_TYPE, &[octet])
            }
            // RFC 7313 §5: subcode 1, invalid message length.
            Self::RefreshLength { .. } => Notification::new(code::ROUTE_REFRESH, 1),
        }
    }
}

impl Deframer {
    /// Takes bytes from the front of `input` until one message is whole; returns its type and body,
    /// or nothing when `input` is used up.
    ///
    /// # Errors
    /// A header that ends the session; the stream is of no use afterwards.
    pub fn next(&mut self, input: &mut Reader<'_>) -> Result<Option<Message>, HeaderFault> {
        self.fill(input, HEADER_BYTES);
        if self.held.len() < HEADER_BYTES {
            return Ok(None);
        }
        let (kind, length) = inspect(&self.held)?;
        self.fill(input, length);
        if self.held.len() < length {
            return Ok(None);
        }
        let body = self.held.split_off(HEADER_BYTES);
        self.held.clear();
        Ok(Some(Message { kind, body }))
    }

    fn fill(&mut self, input: &mut Reader<'_>, until: usize) {
        let missing = until.saturating_sub(self.held.len()).min(input.remaining());
        self.held.extend(input.take(missing).unwrap_or_default());
    }
}

/// One whole message, not parsed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: MessageType,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// Appends a message: header, then what `body` writes.
pub fn encode(kind: MessageType, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0xff; 16]);
    out.extend([0, 0, kind.code()]);
    body(out);
    let length = out.len().saturating_sub(start);
    debug_assert!(length <= MESSAGE_BYTES_MAX, "{kind:?} of {length} bytes");
    put_u16_at(out, start.saturating_add(16), length);
}

/// Overwrites two octets at `at` with `value`. Lengths here never exceed a message, so they fit.
pub(super) fn put_u16_at(out: &mut [u8], at: usize, value: usize) {
    let field = out.get_mut(at..).and_then(|tail| tail.first_chunk_mut::<2>());
    if let (Some(field), Ok(value)) = (field, u16::try_from(value)) {
        *field = value.to_be_bytes();
    }
}

fn inspect(held: &[u8]) -> Result<(MessageType, usize), HeaderFault> {
    let mut reader = Reader::new(held);
    let (Ok(marker), Ok(length), Ok(octet)) = (reader.array::<16>(), reader.u16(), reader.u8())
    else {
        return Err(HeaderFault::Length { length: 0 });
    };
    if marker != [0xff; 16] {
        return Err(HeaderFault::Marker);
    }
    let size = usize::from(length);
    if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&size) {
        return Err(HeaderFault::Length { length });
    }
    let kind = MessageType::from_code(octet).ok_or(HeaderFault::Type { code: octet })?;
    let fits = match kind {
        MessageType::Open => size >= 29,
        MessageType::Update => size >= 23,
        MessageType::Notification => size >= 21,
        MessageType::Keepalive => size == HEADER_BYTES,
        MessageType::RouteRefresh if size != 23 => {
            return Err(HeaderFault::RefreshLength { length });
        }
        MessageType::RouteRefresh => true,
    };
    if fits { Ok((kind, size)) } else { Err(HeaderFault::Length { length }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(length: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(length.to_be_bytes());
        bytes.push(kind);
        bytes
    }

    fn first(bytes: &[u8]) -> Result<Option<Message>, HeaderFault> {
        Deframer::default().next(&mut Reader::new(bytes))
    }

    #[test]
    fn a_message_may_arrive_octet_by_octet() {
        let mut bytes = Vec::new();
        encode(MessageType::Notification, &mut bytes, |out| out.extend([6, 2]));
        let mut deframer = Deframer::default();
        let (last, head) = bytes.split_last().unwrap();

        for octet in head {
            assert_eq!(deframer.next(&mut Reader::new(&[*octet])), Ok(None));
        }

        let message = deframer.next(&mut Reader::new(&[*last])).unwrap().unwrap();
        assert_eq!(message, Message { kind: MessageType::Notification, body: vec![6, 2] });
    }

    #[test]
    fn two_messages_in_one_read_come_out_one_by_one() {
        let mut bytes = Vec::new();
        encode(MessageType::Keepalive, &mut bytes, |_| ());
        encode(MessageType::RouteRefresh, &mut bytes, |out| out.extend([0, 1, 0, 1]));
        let mut deframer = Deframer::default();
        let mut reader = Reader::new(&bytes);

        assert_eq!(deframer.next(&mut reader).unwrap().unwrap().kind, MessageType::Keepalive);
        assert_eq!(deframer.next(&mut reader).unwrap().unwrap().kind, MessageType::RouteRefresh);
        assert_eq!(deframer.next(&mut reader), Ok(None));
    }

    #[test]
    fn bad_headers_get_the_code_of_their_fault() {
        let cases: [(Vec<u8>, (u8, u8)); 9] = [
            (vec![0; 19], (1, 1)),
            (framed(18, 4), (1, 2)),
            (framed(4097, 2), (1, 2)),
            (framed(20, 4), (1, 2)),
            (framed(28, 1), (1, 2)),
            (framed(20, 3), (1, 2)),
            (framed(19, 0), (1, 3)),
            (framed(19, 6), (1, 3)),
            (framed(30, 5), (7, 1)),
        ];
        for (bytes, expected) in cases {
            let notification = first(&bytes).unwrap_err().notification();
            assert_eq!((notification.code, notification.subcode), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_largest_message_is_accepted() {
        let mut bytes = framed(4096, 2);
        bytes.resize(4096, 0);

        assert_eq!(first(&bytes).unwrap().unwrap().body.len(), 4096 - HEADER_BYTES);
    }
}
