//! Every bound of the speaker, by name.
//!
//! A peer is never trusted with our memory: what it can make us hold is bounded here, and each
//! bound has a test at the limit and one past it.

use std::time::Duration;

/// Header of every message: marker, length, type (RFC 4271 §4.1).
pub const HEADER_BYTES: usize = 19;

/// Largest message sent or accepted (RFC 4271 §4), unless both sides want more.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// Largest message where both sides want more (RFC 8654 §2).
pub const EXTENDED_MESSAGE_BYTES_MAX: usize = 65_535;

/// Longest AS path accepted, in hops. Real paths stay below 40; beyond this a path only serves to
/// exhaust somebody's buffer.
pub const AS_PATH_HOPS_MAX: usize = 255;

/// Communities of each kind on one advertisement: keeps attributes far below one message.
pub const COMMUNITIES_MAX: usize = 64;

/// Prefixes in the desired set of a speaker.
pub const ADVERTISEMENTS_MAX: usize = 65_536;

/// Prefixes accepted from a peer unless its configuration says otherwise.
pub const IMPORT_PREFIXES_DEFAULT: usize = 10_000;

/// Longest shutdown communication, in bytes of UTF-8 (RFC 9003 §2).
pub const SHUTDOWN_TEXT_BYTES_MAX: usize = 255;

/// Connections of one session: ours, the peer's, and one more of a peer that restarted unseen.
pub const CONNECTIONS_MAX: usize = 3;

/// What one call of `Session::transmit` produces at most, give or take one message: enough to fill
/// a socket buffer, little enough that a change of mind is sent after it, not behind a backlog.
pub const TRANSMIT_BYTES: usize = 16 * 1024;

/// Shortest hold time that is not "off" (RFC 4271 §4.2).
pub const HOLD_TIME_MIN: Duration = Duration::from_secs(3);

/// Largest restart time that the 12 bits of its field hold (RFC 4724 §3).
pub const RESTART_TIME_MAX: Duration = Duration::from_secs(4095);

/// Largest long-lived stale time that the 24 bits of its field hold (RFC 9494 §3.1).
pub const LONG_LIVED_TIME_MAX: Duration = Duration::from_secs(0x00ff_ffff);

/// Wait for End-of-RIB of a peer that has come back, unless configured otherwise.
pub const STALE_TIME: Duration = Duration::from_secs(180);

/// Wait for the end of a refresh that a peer has begun (RFC 7313 §4.2 leaves it to us).
pub const REFRESH_TIME: Duration = Duration::from_secs(180);

/// Wait for the peer's OPEN. RFC 4271 §8.2.2 suggests four minutes; an edge that hangs on a
/// half-dead router for that long is an outage.
pub const OPEN_WAIT: Duration = Duration::from_secs(15);

/// Wait for a TCP connection before the next attempt.
pub const CONNECT_WAIT: Duration = Duration::from_secs(4);

/// First wait between attempts; doubles up to [`CONNECT_RETRY_MAX`].
pub const CONNECT_RETRY_MIN: Duration = Duration::from_millis(500);

/// Longest wait between attempts, unless a session is configured otherwise.
pub const CONNECT_RETRY_MAX: Duration = Duration::from_secs(8);

/// Least that the longest wait between attempts may be.
pub const CONNECT_RETRY_LEAST: Duration = Duration::from_secs(1);

/// Most that the longest wait between attempts may be.
pub const CONNECT_RETRY_MOST: Duration = Duration::from_secs(3600);

/// Wait after a peer sent more prefixes than it may: trying sooner would only repeat the flood.
pub const PREFIX_LIMIT_WAIT: Duration = Duration::from_secs(60);

/// A session that lasted this long starts again with the shortest wait.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);

/// A peer that reads nothing for this long is lost, though it still speaks (RFC 9687 §3.1).
pub const SEND_HOLD_MIN: Duration = Duration::from_secs(480);

/// End-of-RIB waits no longer than this after start for the agent's first complete set.
pub const INITIAL_SET_WAIT: Duration = Duration::from_secs(5);

/// Peers of one speaker.
pub const PEERS_MAX: usize = 4096;
