//! Message header and framing (RFC 4271 §4.1).
//!
//! [`Deframer`] turns a byte stream into whole messages. It holds at most one message: the header
//! is judged as soon as it is there, before a byte of the body is waited for.

use super::notification::{Notification, code, header};
use super::reader::Reader;
use crate::limits::{EXTENDED_MESSAGE_BYTES_MAX, HEADER_BYTES, MESSAGE_BYTES_MAX};

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
}

/// Reassembles messages from a byte stream.
#[derive(Debug)]
pub struct Deframer {
    held: Vec<u8>,
    /// The message in `held` was handed out.
    taken: bool,
    message_bytes_max: usize,
}

impl Default for Deframer {
    fn default() -> Self {
        Self { held: Vec::new(), taken: false, message_bytes_max: MESSAGE_BYTES_MAX }
    }
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
        }
    }
}

impl Deframer {
    /// Longer messages are accepted from here on (RFC 8654).
    pub const fn allow(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
    }

    /// Takes bytes from the front of `input` until one message is whole; returns its type and body,
    /// or nothing when `input` is used up. A message that is whole in `input` is not copied.
    ///
    /// # Errors
    /// A header that ends the session; the stream is of no use afterwards.
    pub fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut Reader<'input>,
    ) -> Result<Option<Message<'a>>, HeaderFault> {
        if std::mem::take(&mut self.taken) {
            self.held.clear();
        }
        if self.held.is_empty() {
            let mut ahead = *input;
            let Ok(head) = ahead.take(HEADER_BYTES) else {
                self.fill(input, HEADER_BYTES);
                return Ok(None);
            };
            let (kind, length) = inspect(head, self.message_bytes_max)?;
            if let Ok(body) = ahead.take(length.saturating_sub(HEADER_BYTES)) {
                *input = ahead;
                return Ok(Some(Message { kind, body }));
            }
        }
        self.fill(input, HEADER_BYTES);
        if self.held.len() < HEADER_BYTES {
            return Ok(None);
        }
        let (kind, length) = inspect(&self.held, self.message_bytes_max)?;
        self.fill(input, length);
        if self.held.len() < length {
            return Ok(None);
        }
        self.taken = true;
        Ok(self.held.get(HEADER_BYTES..).map(|body| Message { kind, body }))
    }

    fn fill(&mut self, input: &mut Reader<'_>, until: usize) {
        let missing = until.saturating_sub(self.held.len()).min(input.remaining());
        self.held.extend(input.take(missing).unwrap_or_default());
    }
}

/// One whole message, not parsed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: MessageType,
    /// What follows the header.
    pub body: &'a [u8],
}

/// Appends a message: header, then what `body` writes.
pub fn encode(kind: MessageType, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0xff; 16]);
    out.extend([0, 0, kind.code()]);
    body(out);
    let length = out.len().saturating_sub(start);
    debug_assert!(length <= EXTENDED_MESSAGE_BYTES_MAX, "{kind:?} of {length} bytes");
    put_u16_at(out, start.saturating_add(16), length);
}

/// Overwrites two octets at `at` with `value`. Lengths here never exceed a message, so they fit.
pub(super) fn put_u16_at(out: &mut [u8], at: usize, value: usize) {
    let field = out.get_mut(at..).and_then(|tail| tail.first_chunk_mut::<2>());
    if let (Some(field), Ok(value)) = (field, u16::try_from(value)) {
        *field = value.to_be_bytes();
    }
}

fn inspect(held: &[u8], message_bytes_max: usize) -> Result<(MessageType, usize), HeaderFault> {
    let mut reader = Reader::new(held);
    let (Ok(marker), Ok(length), Ok(octet)) = (reader.array::<16>(), reader.u16(), reader.u8())
    else {
        return Err(HeaderFault::Length { length: 0 });
    };
    if marker != [0xff; 16] {
        return Err(HeaderFault::Marker);
    }
    let size = usize::from(length);
    if !(HEADER_BYTES..=message_bytes_max).contains(&size) {
        return Err(HeaderFault::Length { length });
    }
    let kind = MessageType::from_code(octet).ok_or(HeaderFault::Type { code: octet })?;
    let fits = match kind {
        // RFC 8654 §4: OPEN and KEEPALIVE do not grow.
        MessageType::Open => (29..=MESSAGE_BYTES_MAX).contains(&size),
        MessageType::Update => size >= 23,
        MessageType::Notification => size >= 21,
        MessageType::Keepalive => size == HEADER_BYTES,
        // Its length has an error code of its own (RFC 7313 §5), which wants the whole message.
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

    fn first(bytes: &[u8]) -> Result<Option<(MessageType, usize)>, HeaderFault> {
        let mut deframer = Deframer::default();
        let message = deframer.next(&mut Reader::new(bytes))?;
        Ok(message.map(|message| (message.kind, message.body.len())))
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

        let last = [*last];
        let message = deframer.next(&mut Reader::new(&last)).unwrap().unwrap();
        assert_eq!(message, Message { kind: MessageType::Notification, body: &[6, 2] });
    }

    #[test]
    fn a_message_cut_anywhere_is_the_same_message() {
        let mut bytes = Vec::new();
        encode(MessageType::Notification, &mut bytes, |out| out.extend([6, 2]));
        encode(MessageType::RouteRefresh, &mut bytes, |out| out.extend([0, 1, 0, 1]));

        for at in 0..bytes.len() {
            let mut deframer = Deframer::default();
            let mut bodies = Vec::new();
            for mut part in [Reader::new(&bytes[..at]), Reader::new(&bytes[at..])] {
                while let Some(message) = deframer.next(&mut part).unwrap() {
                    bodies.push(message.body.to_vec());
                }
            }
            assert_eq!(bodies, [vec![6, 2], vec![0, 1, 0, 1]], "cut at {at}");
        }
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
        let cases: [(Vec<u8>, (u8, u8)); 8] = [
            (vec![0; 19], (1, 1)),
            (framed(18, 4), (1, 2)),
            (framed(4097, 2), (1, 2)),
            (framed(20, 4), (1, 2)),
            (framed(28, 1), (1, 2)),
            (framed(20, 3), (1, 2)),
            (framed(19, 0), (1, 3)),
            (framed(19, 6), (1, 3)),
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

        assert_eq!(first(&bytes), Ok(Some((MessageType::Update, 4096 - HEADER_BYTES))));
    }

    #[test]
    fn longer_messages_are_accepted_once_allowed_but_no_longer_open() {
        let mut deframer = Deframer::default();
        deframer.allow(EXTENDED_MESSAGE_BYTES_MAX);
        let mut longest = framed(u16::MAX, 2);
        longest.resize(usize::from(u16::MAX), 0);

        assert!(deframer.next(&mut Reader::new(&longest)).unwrap().is_some());
        assert!(deframer.next(&mut Reader::new(&framed(4097, 1))).is_err());
    }
}
