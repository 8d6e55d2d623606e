//! Every bound of the fleet, by name.

use std::time::Duration;

/// Agents connected at once; also bounds handshakes under way.
pub(super) const CONNECTIONS_MAX: usize = 4096;
/// Connections admitted at once, and then per second.
pub(super) const ADMISSION_BURST: u32 = 1000;
pub(super) const ADMISSION_PER_SECOND: u32 = 500;
/// Join tokens kept, used and expired ones included.
pub(super) const TOKENS_MAX: usize = 4096;
/// How long a token that is of no more use is remembered, so that its refusal can say why.
pub(super) const TOKEN_MEMORY: Duration = Duration::from_secs(24 * 3600);
/// Longest and default life of a join token.
pub(super) const TOKEN_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
pub(super) const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// Requests for a snapshot that an agent may make without acknowledging one.
pub(super) const RESYNCS_MAX: u32 = 8;
/// Refused entries that are remembered of a node.
pub(super) const REFUSED_ENTRIES_MAX: usize = 256;
/// Time a peer has to finish its handshake and open its first stream.
pub(super) const OPENING_TIME: Duration = Duration::from_secs(10);
/// How long after its end a certificate may still be renewed.
pub(super) const RENEWAL_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Changes of the store this close to one another are compiled together.
pub(super) const COMPILE_DELAY: Duration = Duration::from_millis(5);
/// A silent node's statements count for this long.
pub(super) const STATUS_LIFE: Duration = Duration::from_secs(10);
/// Least time between two rounds of status writes; an object is written at most once a round.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// Time after which statements are looked at again, whether or not there are new ones.
pub(super) const STATUS_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// A connection that is back within this time, or an offer answered within it, was no event.
pub(super) const BLINK: Duration = Duration::from_secs(1);
/// Backend pools that are noted by name because something happened to them; more are all of them.
pub(super) const DUE_MAX: usize = 10_000;
/// Status writes under way at once; the store makes them durable together.
pub(super) const STATUS_WRITES: usize = 64;
/// Between two rounds of reported objects; each is written at most once a round.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How old a count may be in an object, if nothing else of it changes.
pub(super) const COUNTS_INTERVAL: Duration = Duration::from_secs(10);
/// Reported objects written in one round; the next one goes on.
pub(super) const REPORT_WRITES_MAX: usize = 2000;
/// Graves that are kept, and for how long: as long as an edge that was away may come back.
pub(super) const GRAVES_MAX: usize = 16_384;
pub(super) const GRAVE_LIFE: Duration = RENEWAL_GRACE;
/// Least time between two looks at who announces what.
pub(super) const VIEW_INTERVAL: Duration = Duration::from_millis(20);
/// Least time between two looks at which keys nodes hold, and before keys are written once more.
pub(super) const KEYS_INTERVAL: Duration = Duration::from_millis(100);
/// What is read from a stream at once.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
