//! Every bound of BFD, by name.

use std::time::Duration;

/// Sessions of one endpoint.
pub const SESSIONS_MAX: usize = 1024;

/// A control packet without authentication (RFC 5880 §4.1).
pub const PACKET_BYTES: usize = 24;

/// The shortest packet that has an authentication section (RFC 5880 §6.8.6).
pub const AUTHENTICATED_BYTES_MIN: usize = 26;

/// Longest datagram that is looked at: the largest authenticated packet is shorter.
pub const DATAGRAM_BYTES_MAX: usize = 128;

/// Hop limit of single-hop packets: one that came from further away has a smaller one (RFC 5881 §5).
pub const HOP_LIMIT: u8 = 255;

/// While a session is not up, nobody is sent more than one packet in this time (RFC 5880 §6.8.3).
pub const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest interval that a session may be configured with: below it a busy host misses its
/// own deadlines.
pub const INTERVAL_MIN: Duration = Duration::from_millis(5);

/// The longest.
pub const INTERVAL_MAX: Duration = Duration::from_secs(60);
