//! NOTIFICATION (RFC 4271 §4.5, subcodes of RFC 4486) and its shutdown communication (RFC 9003).

use std::fmt;

use super::header::{self as framing, MessageType};
use super::reader::{Reader, Short};
use crate::limits::{HEADER_BYTES, MESSAGE_BYTES_MAX, SHUTDOWN_TEXT_BYTES_MAX};

/// Error codes (IANA, BGP error codes).
pub mod code {
    /// Message header error.
    pub const HEADER: u8 = 1;
    /// OPEN message error.
    pub const OPEN: u8 = 2;
    /// UPDATE message error.
    pub const UPDATE: u8 = 3;
    /// Hold timer expired.
    pub const HOLD_TIMER: u8 = 4;
    /// Finite state machine error.
    pub const FSM: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH message error (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send hold timer expired (RFC 9687).
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of [`code::HEADER`].
pub mod header {
    /// Connection not synchronized.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// Bad message length.
    pub const BAD_LENGTH: u8 = 2;
    /// Bad message type.
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of [`code::OPEN`].
pub mod open {
    /// Unsupported version number.
    pub const VERSION: u8 = 1;
    /// Bad peer AS.
    pub const PEER_AS: u8 = 2;
    /// Bad BGP identifier.
    pub const IDENTIFIER: u8 = 3;
    /// Unsupported optional parameter.
    pub const PARAMETER: u8 = 4;
    /// Unacceptable hold time.
    pub const HOLD_TIME: u8 = 6;
    /// Unsupported capability (RFC 5492).
    pub const CAPABILITY: u8 = 7;
    /// Role mismatch (RFC 9234).
    pub const ROLE: u8 = 11;
}

/// Subcodes of [`code::ROUTE_REFRESH`] (RFC 7313 §5).
pub mod refresh {
    /// Invalid message length.
    pub const BAD_LENGTH: u8 = 1;
}

/// Subcodes of [`code::CEASE`] (RFC 4486, RFC 8538).
pub mod cease {
    /// Maximum number of prefixes reached.
    pub const PREFIX_LIMIT: u8 = 1;
    /// Administrative shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// Peer de-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative reset.
    pub const RESET: u8 = 4;
    /// Connection rejected.
    pub const REJECTED: u8 = 5;
    /// Other configuration change.
    pub const CONFIGURATION: u8 = 6;
    /// Connection collision resolution.
    pub const COLLISION: u8 = 7;
    /// Out of resources.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// Hard reset: graceful restart does not apply.
    pub const HARD_RESET: u8 = 9;
    /// BFD lost the peer (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// Why a peer ends a session, in its own words.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Subcode; its meaning depends on the code.
    pub subcode: u8,
    /// Data; its meaning depends on both.
    pub data: Vec<u8>,
}

impl Notification {
    /// A notification without data.
    #[must_use]
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// A notification with data, cut to what one message holds.
    #[must_use]
    pub fn with_data(code: u8, subcode: u8, data: &[u8]) -> Self {
        const ROOM: usize = MESSAGE_BYTES_MAX - HEADER_BYTES - 2;
        Self { code, subcode, data: data.iter().copied().take(ROOM).collect() }
    }

    /// Cease with a shutdown communication, cut at a character boundary to what the field holds.
    #[must_use]
    pub fn cease(subcode: u8, text: &str) -> Self {
        let text =
            text.get(..text.floor_char_boundary(SHUTDOWN_TEXT_BYTES_MAX)).unwrap_or_default();
        let Ok(length) = u8::try_from(text.len()) else { return Self::new(code::CEASE, subcode) };
        if text.is_empty() {
            return Self::new(code::CEASE, subcode);
        }
        let mut data = vec![length];
        data.extend_from_slice(text.as_bytes());
        Self { code: code::CEASE, subcode, data }
    }

    /// The hard reset that wraps this one (RFC 8538 §3.1).
    #[must_use]
    pub fn into_hard_reset(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::with_data(code::CEASE, cease::HARD_RESET, &data)
    }

    /// Whether graceful restart does not apply, whatever was agreed.
    #[must_use]
    pub const fn is_hard_reset(&self) -> bool {
        self.code == code::CEASE && self.subcode == cease::HARD_RESET
    }

    /// The reason that a hard reset gives.
    #[must_use]
    pub fn hard_reset_reason(&self) -> Option<Self> {
        if !self.is_hard_reset() {
            return None;
        }
        Self::decode(&self.data).ok().filter(|reason| !reason.is_hard_reset())
    }

    /// Reads the body of a NOTIFICATION.
    ///
    /// # Errors
    /// The body is shorter than code and subcode.
    pub fn decode(body: &[u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(body);
        let (code, subcode) = (reader.u8()?, reader.u8()?);
        Ok(Self { code, subcode, data: reader.rest().to_vec() })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framing::encode(MessageType::Notification, out, |out| {
            out.extend([self.code, self.subcode]);
            out.extend_from_slice(&self.data);
        });
    }

    /// The peer's shutdown communication, fit for a log line: one line, no control characters.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<String> {
        if self.code != code::CEASE || !matches!(self.subcode, cease::SHUTDOWN | cease::RESET) {
            return None;
        }
        let mut reader = Reader::new(&self.data);
        let length = reader.u8().ok()?;
        // RFC 9003 §4: invalid UTF-8 is logged, not an error.
        let text = String::from_utf8_lossy(reader.take(usize::from(length)).ok()?);
        Some(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
    }

    fn meaning(&self) -> &'static str {
        match (self.code, self.subcode) {
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (1, _) => "message header error",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, 11) => "role mismatch",
            (2, _) => "OPEN message error",
            (3, 1) => "malformed attribute list",
            (3, 2) => "unrecognized well-known attribute",
            (3, 3) => "missing well-known attribute",
            (3, 4) => "attribute flags error",
            (3, 5) => "attribute length error",
            (3, 6) => "invalid ORIGIN attribute",
            (3, 8) => "invalid NEXT_HOP attribute",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (3, _) => "UPDATE message error",
            (4, _) => "hold timer expired",
            (5, 1) => "unexpected message in OpenSent",
            (5, 2) => "unexpected message in OpenConfirm",
            (5, 3) => "unexpected message in Established",
            (5, _) => "finite state machine error",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            (6, _) => "cease",
            (7, 1) => "invalid ROUTE-REFRESH length",
            (7, _) => "ROUTE-REFRESH message error",
            (8, _) => "send hold timer expired",
            _ => "unknown error",
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.meaning(), self.code, self.subcode)?;
        if let Some(reason) = self.hard_reset_reason() {
            write!(f, ": {reason}")?;
        }
        match self.shutdown_text() {
            Some(text) if !text.is_empty() => write!(f, ": {text}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notification({self}, {} bytes)", self.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_shutdown_text_is_cut_at_a_character() {
        let notification = Notification::cease(cease::SHUTDOWN, &"é".repeat(200));

        assert_eq!(notification.data.len(), 255);
        assert_eq!(notification.shutdown_text().unwrap(), "é".repeat(127));
    }

    #[test]
    fn a_hostile_shutdown_text_cannot_break_a_log_line() {
        let mut data = vec![8];
        data.extend(b"a\nb\x1b[0m\xff");
        let notification = Notification::with_data(code::CEASE, cease::SHUTDOWN, &data);

        let text = notification.shutdown_text().unwrap();

        assert!(!text.contains(['\n', '\x1b']), "{text:?}");
    }

    #[test]
    fn a_shutdown_text_longer_than_its_data_is_ignored() {
        let notification = Notification::with_data(code::CEASE, cease::SHUTDOWN, &[255, b'x']);

        assert_eq!(notification.shutdown_text(), None);
        assert_eq!(notification.to_string(), "administrative shutdown (6/2)");
    }

    #[test]
    fn a_hard_reset_carries_its_reason_and_only_one() {
        let shutdown = Notification::cease(cease::SHUTDOWN, "moving out");
        let hard = shutdown.clone().into_hard_reset();

        assert!(hard.is_hard_reset() && !shutdown.is_hard_reset());
        assert_eq!(hard.hard_reset_reason(), Some(shutdown));
        let text = "hard reset (6/9): administrative shutdown (6/2): moving out";
        assert_eq!(hard.to_string(), text);
        // Reasons within reasons would be a way to exhaust the stack.
        assert_eq!(hard.into_hard_reset().hard_reset_reason(), None);
        let bare = Notification::new(code::CEASE, cease::HARD_RESET);
        assert!(bare.is_hard_reset());
        assert_eq!(bare.hard_reset_reason(), None);
    }

    #[test]
    fn one_octet_is_no_notification() {
        assert!(Notification::decode(&[6]).is_err());
    }
}
